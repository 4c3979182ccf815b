package boards

import (
	"errors"
	"os"
	"syscall"
)

// maxRead bounds what is read of a file: an attribute of sysfs has at most a
// page.
const maxRead = 4 << 10

// read returns at most maxRead bytes by one raw read. os.File would park the
// goroutine for ever where a sensor answers EAGAIN, as three thermal zones of
// a Jetson Orin Nano do (prometheus/procfs#698).
func read(path string) (text []byte, err error) {
	err = withFile(path, func(fd int) error {
		buf := make([]byte, maxRead)
		n, err := syscall.Read(fd, buf)
		text = buf[:max(n, 0)]
		return err
	})
	return text, err
}

// readEnds returns what a file of /proc shows, without what is in the middle
// of a long one: cpuinfo of many CPUs is longer than a page, the first CPU
// stands at its beginning and the board at its end.
func readEnds(path string) (text []byte, err error) {
	const keep, most = 32 << 10, 4 << 20
	err = withFile(path, func(fd int) error {
		buf := make([]byte, maxRead)
		for total := 0; total < most; {
			n, err := syscall.Read(fd, buf)
			if n <= 0 || err != nil {
				return err
			}
			total += n
			text = append(text, buf[:n]...)
			if len(text) > 3*keep {
				text = append(text[:keep:keep], text[len(text)-keep:]...)
			}
		}
		return nil
	})
	return text, err
}

func withFile(path string, do func(fd int) error) error {
	var fd int
	var err error
	for {
		fd, err = syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	if err = errors.Join(do(fd), syscall.Close(fd)); err != nil {
		return &os.PathError{Op: "read", Path: path, Err: err}
	}
	return nil
}
