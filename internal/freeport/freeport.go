// Package freeport finds TCP ports for tests of what comes back at the same
// address: a hub or a broker that is killed and started again.
//
// Start with Addr. Its promise: the kernel gives the port to nobody who asks
// for any port, or connects without naming one, while the test has it free; as
// long as its range for those (net.ipv4.ip_local_port_range) is the usual one,
// from 32768 on. What listens once only needs none of this: it takes port 0.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
)

// The ports that are tried: above those of well-known programs.
const lowest, highest = 20000, 32767

// Addr returns an address of loopback on which nobody listens.
func Addr(t testing.TB) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lowest+rand.IntN(highest-lowest+1)))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}
	t.Fatalf("a hundred ports from %d to %d are taken", lowest, highest)
	return ""
}
