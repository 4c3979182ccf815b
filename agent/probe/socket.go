package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"time"
)

// maxSocketPath is what a sockaddr_un holds on Linux, without the final NUL.
const maxSocketPath = 107

// CheckAddress fails where addr is no loopback address with a port.
func CheckAddress(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("probe: address %q: want 127.0.0.1:PORT", addr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("probe: address %q: port %q", addr, port)
	}
	if !loopbackHost(host) {
		return fmt.Errorf("probe: address %q: it answers on loopback only; use 127.0.0.1", addr)
	}
	return nil
}

// CheckSocket fails where path is too long for a socket.
func CheckSocket(path string) error {
	if len(path) > maxSocketPath {
		return fmt.Errorf("probe: socket %s: the path has %d bytes, at most %d", path, len(path), maxSocketPath)
	}
	return nil
}

// ListenSocket listens on a unix socket that its owner and group may use. A
// socket that a process left behind is replaced; one on which a process still
// answers is an error, and so is any other file.
func ListenSocket(path string) (net.Listener, error) {
	if err := CheckSocket(path); err != nil {
		return nil, err
	}
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("probe: %s is there and no socket", path)
	default:
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			return nil, errors.Join(fmt.Errorf("probe: socket %s: another agent answers there", path), c.Close())
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}
