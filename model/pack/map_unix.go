//go:build linux || darwin || freebsd

package pack

import (
	"os"
	"syscall"
)

func mapFile(f *os.File, size int) (data []byte, unmap func([]byte) error, err error) {
	data, err = syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ, syscall.MAP_SHARED)
	return data, syscall.Munmap, err
}
