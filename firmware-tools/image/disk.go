package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	storage "github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem"
	"github.com/diskfs/go-diskfs/filesystem/ext4"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"github.com/diskfs/go-diskfs/partition/mbr"
)

// opened is an image whose partitions were found.
type opened struct {
	path  string
	raw   *os.File
	boot  filesystem.FileSystem // FAT, partition 1
	root  filesystem.FileSystem // ext4, partition 2; nil where it cannot be read
	start int64                 // of the boot partition, in bytes
	fat   fat
	names []string // in the boot partition's root
	why   error    // that root is nil
}

// sector is what the numbers in a partition table count, in bytes.
const sector = 512

// maxRead bounds the small files that are read from an image.
const maxRead = 1 << 20

func openDisk(path string, write bool) (*opened, error) {
	if err := usable(path); err != nil {
		return nil, err
	}
	mode := os.O_RDONLY
	if write {
		mode = os.O_RDWR
	}
	raw, err := os.OpenFile(path, mode, 0)
	if err != nil {
		return nil, err
	}
	d := &opened{path: path, raw: raw}
	if err := d.find(write); err != nil {
		return nil, errors.Join(fmt.Errorf("image %s: %w", path, err), raw.Close())
	}
	return d, nil
}

// usable refuses what is compressed, or in use.
func usable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return refuse("", "image %s: it is a folder", path)
	}
	if info.Mode()&fs.ModeDevice != 0 {
		return unmounted(path)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 6)
	if _, err := io.ReadFull(f, head); err != nil {
		return refuse("", "image %s: %d bytes are no image", path, info.Size())
	}
	for magic, unpack := range map[string]string{
		"\xfd7zXZ\x00": "xz --decompress --keep", "\x1f\x8b": "gunzip --keep", "(\xb5/\xfd": "unzstd", "PK\x03\x04": "unzip",
	} {
		if strings.HasPrefix(string(head), magic) {
			return refuse(fmt.Sprintf("unpack it first: %s %s", unpack, path), "image %s is compressed", path)
		}
	}
	return nil
}

// unmounted refuses a card whose partitions the system has in use.
func unmounted(path string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	for _, table := range []string{"/proc/self/mounts", "/proc/swaps"} {
		text, err := os.ReadFile(table)
		if errors.Is(err, fs.ErrNotExist) {
			continue // not Linux, or no swap: the kernel itself refuses then
		}
		if err != nil {
			return err
		}
		if dev := inUse(string(text), real); dev != "" {
			return refuse("unmount it first: sudo umount "+dev, "card %s: %s is in use", path, dev)
		}
	}
	return nil
}

// inUse finds the device, or a partition of it (sda1, mmcblk0p1), in the first
// column of a table.
func inUse(table, device string) string {
	for line := range strings.Lines(table) {
		dev, _, _ := strings.Cut(line, " ")
		rest, is := strings.CutPrefix(dev, device)
		if is && strings.Trim(strings.TrimPrefix(rest, "p"), "0123456789") == "" {
			return dev
		}
	}
	return ""
}

// find opens the file systems.
func (d *opened) find(write bool) error {
	// The library's own door links every file system and archive that it knows,
	// 3 MB; these two are what a card has. It reads what somebody else wrote: what
	// it cannot take must not end this program.
	card := storage.New(d.raw, !write)
	var parts *mbr.Table
	err := guarded(func() (err error) {
		if parts, err = mbr.Read(card, sector, sector); err != nil {
			return err
		}
		if len(parts.Partitions) == 0 {
			return errors.New("the partition table is empty")
		}
		first := parts.Partitions[0]
		d.start = first.GetStart()
		d.boot, err = fat32.Read(card, first.GetSize(), d.start, sector)
		return err
	})
	if err != nil {
		return &Error{fmt.Errorf("no boot partition is found: %w", err), "give the image of a whole card, as Raspberry Pi OS comes: an MBR with a FAT and an ext4 partition"}
	}
	if d.fat, err = readFAT(d.raw, d.start); err != nil {
		return fmt.Errorf("boot partition: %w", err)
	}
	if err := guarded(d.list); err != nil {
		return fmt.Errorf("boot partition: %w", err)
	}
	d.why = guarded(func() (err error) {
		if len(parts.Partitions) < 2 {
			return errors.New("there is no partition 2")
		}
		second := parts.Partitions[1]
		root, err := ext4.Read(card, second.GetSize(), second.GetStart(), sector)
		if err == nil {
			d.root = root
		}
		return err
	})
	return nil
}

// guarded turns a panic of the library into an error.
func guarded(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("file system cannot be read: %v", p)
		}
	}()
	return do()
}

func (d *opened) list() error {
	entries, err := d.boot.ReadDir(".")
	for _, e := range entries {
		d.names = append(d.names, e.Name())
	}
	return err
}

// has reports whether the boot partition holds a file; FAT knows no case.
func (d *opened) has(name string) bool {
	for _, n := range d.names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// read returns a file of the boot partition, nil where there is none.
func (d *opened) read(name string) (data []byte, err error) {
	if !d.has(name) {
		return nil, nil
	}
	err = guarded(func() error {
		f, err := d.boot.OpenFile(name, os.O_RDONLY)
		if err != nil {
			return err
		}
		data, err = io.ReadAll(io.LimitReader(f, maxRead+1))
		return errors.Join(err, f.Close())
	})
	if err == nil && len(data) > maxRead {
		err = fmt.Errorf("more than %d bytes", maxRead)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// write makes data the content of a file of the boot partition. A file that is
// there is written over in place: removing one with this library loses a
// cluster.
func (d *opened) write(name string, data []byte, progress func(n int64)) error {
	err := guarded(func() error {
		f, err := d.boot.OpenFile(name, os.O_CREATE|os.O_RDWR|os.O_TRUNC)
		if err != nil {
			return err
		}
		for part := range slicesOf(data, 1<<20) {
			if _, err := f.Write(part); err != nil {
				return errors.Join(err, f.Close())
			}
			progress(int64(len(part)))
		}
		return f.Close()
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func slicesOf(data []byte, size int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(data) > 0 {
			n := min(size, len(data))
			if !yield(data[:n]) {
				return
			}
			data = data[n:]
		}
	}
}

// room fails where the boot partition cannot hold the files.
func (d *opened) room(files []file) error {
	var need int64
	for _, f := range files {
		need += d.fat.clusters(int64(len(f.data)))
	}
	free, err := d.fat.free(d.raw)
	if err != nil {
		return fmt.Errorf("boot partition: %w", err)
	}
	for _, name := range []string{nameAgent, nameDeb} { // of an earlier time: they are written over
		info, err := d.size(name)
		if err != nil {
			return err
		}
		free += d.fat.clusters(info)
	}
	const spare = 64 // clusters for the folder, and for what the system itself writes
	if need+spare > free {
		return refuse("remove what is not needed from the boot partition, or enlarge it",
			"boot partition of %s: %d KiB are free, %d KiB are needed", d.path, free*d.fat.cluster>>10, (need+spare)*d.fat.cluster>>10)
	}
	return nil
}

func (d *opened) size(name string) (n int64, err error) {
	if !d.has(name) {
		return 0, nil
	}
	err = guarded(func() error {
		info, err := d.boot.Stat(name)
		if err == nil {
			n = info.Size()
		}
		return err
	})
	return n, err
}

// writeAll writes the files in their order: what starts the first boot's work
// comes last, and is on the disk last. A file without content that is there
// from an earlier time is made to say nothing: with this library an empty one
// keeps a cluster, and a removed one loses it.
func (d *opened) writeAll(files []file, progress func(done, total int64)) error {
	var done, total int64
	for _, f := range files {
		total += int64(len(f.data))
	}
	step := func(n int64) {
		if done += n; progress != nil {
			progress(done, total)
		}
	}
	for i, f := range files {
		if len(f.data) == 0 {
			if !d.has(f.name) {
				continue
			}
			f.data = []byte(nothing)
		}
		if i == len(files)-1 {
			if err := d.raw.Sync(); err != nil {
				return err
			}
		}
		if old, err := d.read(f.name); err == nil && old != nil && bytes.Equal(old, f.data) {
			step(int64(len(f.data)))
			continue
		}
		if err := d.write(f.name, f.data, step); err != nil {
			return err
		}
	}
	if err := d.fat.summarise(d.raw); err != nil {
		return fmt.Errorf("boot partition: %w", err)
	}
	return d.raw.Sync()
}

func (d *opened) close() error {
	return d.raw.Close()
}
