//go:build linux

package guest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// reach leads connections of the board's programs to where the host takes
// them. A name gets the loopback's address in /etc/hosts; an address is given
// to the loopback, so that whoever calls it stays on the board.
func reach(all []Reach) error {
	var errs []error
	hosts := "127.0.0.1 localhost\n"
	for i, r := range all {
		listen := "127.0.0.1"
		if ip := net.ParseIP(r.Host); ip == nil {
			hosts += listen + " " + r.Host + "\n"
		} else {
			listen = r.Host
			if !ip.IsLoopback() {
				errs = append(errs, setUp(fmt.Sprintf("lo:%d", i), ip, net.CIDRMask(32, 32)))
			}
		}
		l, err := net.Listen("tcp", net.JoinHostPort(listen, strconv.Itoa(r.Port)))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		go lead(l, net.JoinHostPort(HubHost, strconv.Itoa(r.Via)))
	}
	if len(all) > 0 {
		path := filepath.Join(Root, "etc/hosts")
		errs = append(errs, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(hosts), 0o644))
	}
	return errors.Join(errs...)
}

func lead(l net.Listener, to string) {
	for {
		in, err := l.Accept()
		if err != nil {
			say("trouble: %s: %v", l.Addr(), err)
			return
		}
		go func() {
			defer in.Close()
			out, err := net.Dial("tcp", to)
			if err != nil {
				return // the caller sees the end
			}
			defer out.Close()
			join(in.(*net.TCPConn), out.(*net.TCPConn))
		}()
	}
}

// join copies both ways until both have ended.
func join(a, b *net.TCPConn) {
	var wg sync.WaitGroup
	for _, c := range [][2]*net.TCPConn{{a, b}, {b, a}} {
		wg.Go(func() {
			_, _ = io.Copy(c[0], c[1])
			_ = c[0].CloseWrite()
		})
	}
	wg.Wait()
}
