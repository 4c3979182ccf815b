package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// fat is what the first sector of a FAT32 says (Microsoft, FAT32 File System
// Specification 1.03, pages 9 to 22). The library that writes files tells
// neither how much room there is, nor keeps the summary of it right, on which
// fsck insists.
type fat struct {
	start   int64 // of the file system, in bytes
	table   int64 // of the first table
	info    int64 // of the FSInfo sector, 0: there is none
	count   int64 // clusters
	cluster int64 // bytes of one
}

// maxClusters is what 28 bits can name.
const maxClusters = 1<<28 - 11

func readFAT(r io.ReaderAt, start int64) (f fat, err error) {
	var b [512]byte
	if _, err := r.ReadAt(b[:], start); err != nil {
		return f, err
	}
	u16, u32 := binary.LittleEndian.Uint16, binary.LittleEndian.Uint32
	if b[510] != 0x55 || b[511] != 0xaa {
		return f, errors.New("no FAT: its first sector does not end with 55 aa")
	}
	sector, perCluster := int64(u16(b[11:])), int64(b[13])
	reserved, tables, size := int64(u16(b[14:])), int64(b[16]), int64(u32(b[36:]))
	total := int64(u32(b[32:]))
	if sector < 512 || sector > 4096 || sector&(sector-1) != 0 || perCluster == 0 || perCluster&(perCluster-1) != 0 {
		return f, fmt.Errorf("no FAT: %d bytes a sector, %d sectors a cluster", sector, perCluster)
	}
	if u16(b[22:]) != 0 || size == 0 || reserved == 0 || tables == 0 {
		return f, errors.New("no FAT32: it has the tables of an older one")
	}
	data := total - reserved - tables*size
	f = fat{start: start, table: start + reserved*sector, count: data / perCluster, cluster: sector * perCluster}
	if f.count < 1 || f.count > maxClusters || (f.count+2)*4 > size*sector {
		return fat{}, fmt.Errorf("no FAT32: %d clusters in tables of %d sectors", f.count, size)
	}
	if n := int64(u16(b[48:])); n > 0 && n < reserved {
		f.info = start + n*sector
	}
	return f, nil
}

// clusters returns how many of them so many bytes take.
func (f fat) clusters(bytes int64) int64 { return (bytes + f.cluster - 1) / f.cluster }

// free counts the clusters that nobody has.
func (f fat) free(r io.ReaderAt) (free int64, err error) {
	table := io.NewSectionReader(r, f.table+8, f.count*4) // the first two entries stand for no cluster
	buf := make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(table, buf)
		for i := 0; i+4 <= n; i += 4 {
			if binary.LittleEndian.Uint32(buf[i:])&0x0fffffff == 0 {
				free++
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return free, nil
		case err != nil:
			return 0, err
		}
	}
}

// summarise writes the number of free clusters where the file system keeps it,
// and forgets the hint where to look for them.
func (f fat) summarise(rw interface {
	io.ReaderAt
	io.WriterAt
},
) error {
	if f.info == 0 {
		return nil
	}
	var b [512]byte
	if _, err := rw.ReadAt(b[:], f.info); err != nil {
		return err
	}
	u32 := binary.LittleEndian.Uint32
	if u32(b[:]) != 0x41615252 || u32(b[484:]) != 0x61417272 {
		return nil // no summary
	}
	free, err := f.free(rw)
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(b[488:], uint32(free))
	binary.LittleEndian.PutUint32(b[492:], 0xffffffff)
	_, err = rw.WriteAt(b[:], f.info)
	return err
}
