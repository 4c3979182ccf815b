package cli

import (
	"os"
	"syscall"
)

// mapPart maps n bytes of f, from at on, to be read.
func mapPart(f *os.File, at int64, n int) ([]byte, error) {
	return syscall.Mmap(int(f.Fd()), at, n, syscall.PROT_READ, syscall.MAP_SHARED)
}

func unmapPart(data []byte) error { return syscall.Munmap(data) }

// forgetPages drops pages of a read-only mapping. That it may fail changes
// nothing but memory.
func forgetPages(data []byte) { _ = syscall.Madvise(data, syscall.MADV_DONTNEED) }
