//go:build linux

package guest

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// networkWait is how long the network card may take to appear: one at a USB
// is found seconds after the modules are loaded.
const networkWait = 15 * time.Second

// network brings the loopback and the first network card up.
func network() error {
	if err := setUp("lo", nil, nil); err != nil {
		return err
	}
	for end := time.Now().Add(networkWait); ; time.Sleep(20 * time.Millisecond) {
		all, err := net.Interfaces()
		if err != nil {
			return err
		}
		for _, i := range all {
			if strings.HasPrefix(i.Name, "e") || strings.HasPrefix(i.Name, "usb") {
				return setUp(i.Name, net.ParseIP(Address), net.CIDRMask(24, 32))
			}
		}
		if time.Now().After(end) {
			return errors.New("no network card")
		}
	}
}

// setUp turns an interface on, with an address of IPv4 where one is given.
func setUp(name string, ip net.IP, mask net.IPMask) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	set := func(call uint) error {
		if err := unix.IoctlIfreq(fd, call, r); err != nil {
			return fmt.Errorf("interface %s: %w", name, err)
		}
		return nil
	}
	if ip4 := ip.To4(); ip4 != nil {
		if err := r.SetInet4Addr(ip4); err != nil {
			return err
		}
		if err := set(unix.SIOCSIFADDR); err != nil {
			return err
		}
		if err := r.SetInet4Addr(mask); err != nil {
			return err
		}
		if err := set(unix.SIOCSIFNETMASK); err != nil {
			return err
		}
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return set(unix.SIOCSIFFLAGS)
}
