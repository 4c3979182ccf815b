package api

import (
	"fmt"
	"testing"
)

// TestClaimLimit: who has a network of his own, as everybody has with IPv6, is
// bounded as one address is.
func TestClaimLimit(t *testing.T) {
	for _, tc := range []struct {
		name string
		addr func(i int) string
		many bool // they are different networks
	}{
		{"one address", func(int) string { return "10.0.0.5" }, false},
		{"IPv4 addresses", func(i int) string { return fmt.Sprintf("10.0.%d.5", i) }, true},
		{"one IPv6 network", func(i int) string { return fmt.Sprintf("2001:db8:1:2:%x::9", i) }, false},
		{"IPv6 networks", func(i int) string { return fmt.Sprintf("2001:db8:1:%x::9", i) }, true},
		{"one link", func(i int) string { return fmt.Sprintf("fe80::%x%%eth0", i+1) }, false},
		{"IPv4 in IPv6", func(int) string { return "::ffff:10.0.0.5" }, false},
		{"no address", func(int) string { return "@" }, false},
	} {
		l, n := newClaimLimit(), 0
		for i := range 200 {
			if l.allow(tc.addr(i)) {
				n++
			}
		}
		// 30 at once, and 5 more with each second that this takes.
		if many := n > 100; many != tc.many {
			t.Errorf("%s: %d of 200 were answered", tc.name, n)
		}
	}
	for addr, want := range map[string]string{
		"10.0.0.5": "10.0.0.5", "::ffff:10.0.0.5": "10.0.0.5", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64", "pipe": "pipe",
	} {
		if got := network(addr); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}
