//go:build linux

package guest

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// The packet scheduler delays and loses what a card sends, never what it gets.
// So what the card gets is led through another card, ifb0, which "sends" it to
// the board:
//
//	programs ──► eth0 ─ netem ──► the wire
//	programs ◄── ifb0 ─ netem ◄── eth0 ◄── the wire
//	                     (ingress: all packets, mirred)
//
// Both queues count what they let through and what they lost. So that a packet
// counted is one on the wire, neither way joins any (segmentation and receive
// offload).

// Of linux/rtnetlink.h, pkt_sched.h, pkt_cls.h, if_link.h and tc_act/tc_mirred.h.
const (
	attrKind       = 1 // TCA_KIND, TCA_ACT_KIND
	attrOptions    = 2 // TCA_OPTIONS, TCA_ACT_OPTIONS
	attrStats      = 3 // TCA_STATS
	attrFirst      = 1 // of a list of actions
	attrActions    = 2 // TCA_MATCHALL_ACT
	attrMirred     = 2 // TCA_MIRRED_PARMS
	attrGSOMaxSegs = 40
	attrGROMaxSize = 58

	handleRoot    = 0xffffffff
	handleIngress = 0xfffffff1
	ingressQueue  = 0xffff0000 // "ffff:"
	netemQueue    = 1 << 16    // "1:"
	actStolen     = 4
	redirect      = 1 // TCA_EGRESS_REDIR

	tickShift = 6 // a tick of the packet scheduler has 64 ns
	tcmsgLen  = 20

	inwards = "ifb0" // which the module ifb makes
)

// NetemModules are the kernel's, in the form of Plan.
var NetemModules = []string{"sch_netem", "ifb", "sch_ingress", "cls_matchall", "act_mirred"}

// Netem delays each packet that a network card sends or gets, and loses a share
// of them: a round trip is late twice. Called again it changes both, and keeps
// the counts. The kernel must have loaded NetemModules.
func Netem(name string, delay time.Duration, loss float64) error {
	if loss < 0 || loss > 1 || delay < 0 || delay > time.Minute {
		return fmt.Errorf("delay %v, loss %v: want at most a minute, and a share of 0 to 1", delay, loss)
	}
	card, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	in, err := net.InterfaceByName(inwards)
	if err != nil {
		return fmt.Errorf("%s: %w: want the module ifb", inwards, err)
	}
	if err := setUp(inwards, nil, nil); err != nil {
		return err
	}
	for _, c := range []*net.Interface{card, in} {
		if err := single(c.Index); err != nil {
			return fmt.Errorf("packets of %s: %w", c.Name, err)
		}
		if err := netem(c.Index, delay, loss); err != nil {
			return fmt.Errorf("netem on %s: %w", c.Name, err)
		}
	}
	if err := detour(card.Index, in.Index); err != nil {
		return fmt.Errorf("what %s gets through %s: %w", name, inwards, err)
	}
	return nil
}

// single has a card join no packets.
func single(card int) error {
	le := binary.NativeEndian
	msg := []byte{unix.AF_UNSPEC, 0, 0, 0} // struct ifinfomsg
	msg = le.AppendUint32(msg, uint32(card))
	msg = append(msg, make([]byte, 8)...)
	msg = attr(msg, attrGSOMaxSegs, le.AppendUint32(nil, 1))
	msg = attr(msg, attrGROMaxSize, le.AppendUint32(nil, 1))
	_, err := netlink(unix.RTM_NEWLINK, 0, msg)
	return err
}

func netem(card int, delay time.Duration, loss float64) error {
	var q []byte
	// struct tc_netem_qopt: latency, limit of packets, loss, gap, duplicate, jitter
	for _, v := range []uint32{uint32(delay.Nanoseconds() >> tickShift), 10_000, uint32(loss * math.MaxUint32), 0, 0, 0} {
		q = binary.NativeEndian.AppendUint32(q, v)
	}
	msg := attr(attr(tcmsg(card, netemQueue, handleRoot, 0), attrKind, []byte("netem\x00")), attrOptions, q)
	_, err := netlink(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, msg)
	return err
}

// detour has all that one card gets sent by another.
func detour(from, to int) error {
	msg := attr(tcmsg(from, ingressQueue, handleIngress, 0), attrKind, []byte("ingress\x00"))
	if _, err := netlink(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, msg); err != nil {
		return err
	}
	var act []byte
	// struct tc_mirred: index, capab, action, refcnt, bindcnt, eaction, ifindex
	for _, v := range []uint32{0, 0, actStolen, 0, 0, redirect, uint32(to)} {
		act = binary.NativeEndian.AppendUint32(act, v)
	}
	act = attr(attr(nil, attrKind, []byte("mirred\x00")), attrOptions, attr(nil, attrMirred, act))
	act = attr(nil, attrActions, attr(nil, attrFirst, act))
	const first = 1 << 16 // of the filters
	all := uint32(unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8)
	msg = attr(attr(tcmsg(from, 0, ingressQueue, first|all), attrKind, []byte("matchall\x00")), attrOptions, act)
	_, err := netlink(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_EXCL, msg)
	if errors.Is(err, unix.EEXIST) { // of an earlier call
		return nil
	}
	return err
}

// NetemCount is what one way of a network card has seen.
type NetemCount struct{ Passed, Lost uint32 }

// NetemCounts writes how many packets Netem's queues let through and how many
// they lost, as JSON: a list of what the card sent and of what it got.
func NetemCounts(w io.Writer, name string) error {
	sent, err := netemCount(name)
	if err != nil {
		return err
	}
	got, err := netemCount(inwards)
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode([]NetemCount{sent, got})
}

func netemCount(name string) (c NetemCount, err error) {
	card, err := net.InterfaceByName(name)
	if err != nil {
		return c, err
	}
	// To who asks the answer goes only as the echo of what all are told.
	answer, err := netlink(unix.RTM_GETQDISC, unix.NLM_F_ECHO, tcmsg(card.Index, netemQueue, handleRoot, 0))
	if err != nil {
		return c, fmt.Errorf("queue of %s: %w", name, err)
	}
	le := binary.NativeEndian
	for rest := answer[min(tcmsgLen, len(answer)):]; len(rest) >= 4; {
		n := int(le.Uint16(rest))
		if n < 4 || n > len(rest) {
			break
		}
		// struct tc_stats: bytes (64 bits), packets, drops
		if v := rest[4:n]; le.Uint16(rest[2:]) == attrStats && len(v) >= 16 {
			return NetemCount{le.Uint32(v[8:]), le.Uint32(v[12:])}, nil
		}
		rest = rest[min(n+(-n&3), len(rest)):]
	}
	return c, fmt.Errorf("queue of %s: the kernel counts nothing", name)
}

// tcmsg makes a struct tcmsg.
func tcmsg(card int, handle, parent, info uint32) []byte {
	le := binary.NativeEndian
	msg := []byte{unix.AF_UNSPEC, 0, 0, 0}
	msg = le.AppendUint32(msg, uint32(card))
	msg = le.AppendUint32(msg, handle)
	msg = le.AppendUint32(msg, parent)
	return le.AppendUint32(msg, info)
}

// attr appends an attribute, padded to a multiple of four.
func attr(msg []byte, kind uint16, value []byte) []byte {
	msg = binary.NativeEndian.AppendUint16(msg, uint16(4+len(value)))
	msg = binary.NativeEndian.AppendUint16(msg, kind)
	msg = append(msg, value...)
	return append(msg, make([]byte, -len(value)&3)...)
}

// netlink sends the kernel a request, and returns the body of its answer, nil
// where that is no more than a yes: of two answers the yes comes last.
func netlink(kind, flags uint16, body []byte) ([]byte, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	le := binary.NativeEndian
	msg := le.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
	msg = le.AppendUint16(msg, kind)
	msg = le.AppendUint16(msg, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	msg = append(msg, make([]byte, 8)...) // sequence and port, of one request
	if err := unix.Sendto(fd, append(msg, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return nil, err
	}
	if n < unix.NLMSG_HDRLEN+4 {
		return nil, errors.New("the kernel's answer is none")
	}
	if le.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return answer[unix.NLMSG_HDRLEN:n], nil
	}
	if code := int32(le.Uint32(answer[unix.NLMSG_HDRLEN:])); code != 0 {
		return nil, unix.Errno(-code)
	}
	return nil, nil
}
