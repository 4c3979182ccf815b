//go:build linux

package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Of linux/rtnetlink.h and linux/pkt_sched.h.
const (
	attrKind    = 1 // TCA_KIND
	attrOptions = 2 // TCA_OPTIONS
	handleRoot  = 0xffffffff
	tickShift   = 6 // a tick of the packet scheduler has 64 ns
)

// Netem delays each packet that a network card sends, and loses a share of
// them. The kernel must have loaded sch_netem. What the card receives is as
// before: a round trip is late once.
func Netem(name string, delay time.Duration, loss float64) error {
	if loss < 0 || loss > 1 || delay < 0 || delay > time.Minute {
		return fmt.Errorf("delay %v, loss %v: want at most a minute, and a share of 0 to 1", delay, loss)
	}
	card, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	le := binary.NativeEndian
	// struct tcmsg
	msg := []byte{unix.AF_UNSPEC, 0, 0, 0}
	msg = le.AppendUint32(msg, uint32(card.Index))
	msg = le.AppendUint32(msg, 1<<16) // "1:"
	msg = le.AppendUint32(msg, handleRoot)
	msg = le.AppendUint32(msg, 0)
	// struct tc_netem_qopt: latency, limit of packets, loss, gap, duplicate, jitter
	var q []byte
	for _, v := range []uint32{uint32(delay.Nanoseconds() >> tickShift), 10_000, uint32(loss * math.MaxUint32), 0, 0, 0} {
		q = le.AppendUint32(q, v)
	}
	msg = attr(attr(msg, attrKind, []byte("netem\x00")), attrOptions, q)
	if err := netlink(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, msg); err != nil {
		return fmt.Errorf("netem on %s: %w", name, err)
	}
	return nil
}

// attr appends an attribute, padded to a multiple of four.
func attr(msg []byte, kind uint16, value []byte) []byte {
	msg = binary.NativeEndian.AppendUint16(msg, uint16(4+len(value)))
	msg = binary.NativeEndian.AppendUint16(msg, kind)
	msg = append(msg, value...)
	return append(msg, make([]byte, -len(value)&3)...)
}

// netlink sends the kernel a request and waits for its answer.
func netlink(kind, flags uint16, body []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	le := binary.NativeEndian
	msg := le.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
	msg = le.AppendUint16(msg, kind)
	msg = le.AppendUint16(msg, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	msg = append(msg, make([]byte, 8)...) // sequence and port, of one request
	if err := unix.Sendto(fd, append(msg, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if n < unix.NLMSG_HDRLEN+4 || le.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return errors.New("the kernel's answer is none")
	}
	if code := int32(le.Uint32(answer[unix.NLMSG_HDRLEN:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}
