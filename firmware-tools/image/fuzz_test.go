package image

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// memory is a disk of bytes.
type memory []byte

func (m memory) ReadAt(p []byte, at int64) (int, error) {
	if at < 0 || at >= int64(len(m)) {
		return 0, io.EOF
	}
	n := copy(p, m[at:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m memory) WriteAt(p []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(p)) > int64(len(m)) {
		return 0, errors.New("beyond the end")
	}
	return copy(m[at:], p), nil
}

func FuzzFAT(f *testing.F) {
	// A FAT32 of 8 clusters, with its summary in sector 1.
	head := make([]byte, 6*512)
	for at, v := range map[int]uint32{11: 512 | 1<<16 | 4<<24, 16: 2, 32: 16, 36: 1, 48: 1, 508: 0xaa55 << 16, 512: 0x41615252, 512 + 484: 0x61417272, 4 * 512: 0x0ffffff8} {
		binary.LittleEndian.PutUint32(head[at:], v)
	}
	if fat, err := readFAT(memory(head), 0); err != nil || fat.count != 10 {
		f.Fatalf("%+v, %v", fat, err)
	}
	f.Add(head)
	f.Add(head[:1024])
	f.Add(head[:600])
	f.Fuzz(func(t *testing.T, data []byte) {
		disk := memory(data)
		fat, err := readFAT(disk, 0)
		if err != nil {
			return
		}
		free, err := fat.free(disk)
		if err != nil {
			return
		}
		if free < 0 || free > fat.count || fat.clusters(1) != 1 || fat.cluster < 512 {
			t.Fatalf("%+v: %d free", fat, free)
		}
		if err := fat.summarise(disk); err != nil {
			return
		}
		if again, err := fat.free(disk); err == nil && again > fat.count {
			t.Fatalf("%+v: %d free", fat, again)
		}
	})
}

// TestDamaged: an image with a wrong byte where it counts is refused, one that is
// wrong elsewhere may be taken; neither ends the program.
func TestDamaged(t *testing.T) {
	path := makeImage(t, bookwormBoot, bookwormRoot, false)
	whole, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	for at, refused := range map[int64]bool{
		446: true, 450: false, 454: true, 458: false, 510: true, bootStart + 11: true, bootStart + 13: true, bootStart + 14: true,
		bootStart + 16: true, bootStart + 32: true, bootStart + 36: true, bootStart + 44: false, bootStart + 48: false,
	} {
		broken := filepath.Join(t.TempDir(), "broken.img")
		if err := Copy(t.Context(), path, broken, func(int64, int64) {}); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(broken, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{0xff, 0x0b}, at); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Inspect(broken); refused && err == nil {
			t.Errorf("byte %d: taken", at)
		}
	}
}
