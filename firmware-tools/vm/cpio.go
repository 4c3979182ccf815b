package vm

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
)

// File is a file on a board. Its mode is 0644 where none is given.
type File struct {
	Data []byte
	Mode uint32 // permissions
}

// Files is by path from the root, without a leading slash.
type Files map[string]File

// cpio packs files, and the folders they are in, as Linux wants an initramfs:
// "newc", Documentation/driver-api/early-userspace/buffer-format.rst. The same
// files give the same bytes.
func cpio(files Files) []byte {
	var b bytes.Buffer
	ino := 0
	entry := func(name string, mode uint32, data []byte) {
		ino++
		fmt.Fprintf(&b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
		b.WriteString(name + "\x00")
		pad(&b)
		b.Write(data)
		pad(&b)
	}
	const dir, regular = 0o040000, 0o100000
	seen := map[string]bool{".": true}
	var folder func(name string)
	folder = func(name string) {
		if !seen[name] {
			seen[name] = true
			folder(path.Dir(name))
			entry(name, dir|0o755, nil)
		}
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		f := files[name]
		folder(path.Dir(name))
		if strings.HasSuffix(name, "/") { // an empty folder
			folder(path.Clean(name))
			continue
		}
		entry(name, regular|f.mode(), f.Data)
	}
	entry("TRAILER!!!", 0, nil)
	return b.Bytes()
}

func (f File) mode() uint32 {
	if f.Mode == 0 {
		return 0o644
	}
	return f.Mode
}

// pad fills up to a multiple of four.
func pad(b *bytes.Buffer) { b.Write(make([]byte, -b.Len()&3)) }
