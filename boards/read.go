package boards

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// maxRead bounds what is read of a file: an attribute of sysfs has at most a
// page.
const maxRead = 4 << 10

// read returns at most maxRead bytes by one raw read. os.File would park the
// goroutine for ever where a sensor answers EAGAIN, as three thermal zones of
// a Jetson Orin Nano do (prometheus/procfs#698).
func read(path string) ([]byte, error) {
	var fd int
	var err error
	for {
		fd, err = syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	buf := make([]byte, maxRead)
	n, err := syscall.Read(fd, buf)
	err = errors.Join(err, syscall.Close(fd))
	if err != nil {
		return nil, &os.PathError{Op: "read", Path: path, Err: err}
	}
	return buf[:n], nil
}

// readEnd returns the last 64 KiB of what a plain file of /proc shows:
// cpuinfo of many CPUs is longer than a page, and what we want stands last.
func readEnd(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const keep, most = 64 << 10, 4 << 20
	text, err := io.ReadAll(io.LimitReader(f, most))
	return text[max(0, len(text)-keep):], err
}
