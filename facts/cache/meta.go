package cache

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// Version names a version of a graph. It is zero for a cache that holds
// nothing.
type Version struct {
	Graph   string
	Version int64
}

// String returns "garments@3", or "" for no version.
func (v Version) String() string {
	if v == (Version{}) {
		return ""
	}
	return v.Graph + "@" + strconv.FormatInt(v.Version, 10)
}

// check says whether v can name a version: a name of 1 to 128 printable
// characters without "@", and a number from 1.
func (v Version) check() error {
	if v.Version < 1 {
		return fmt.Errorf("graph %q: version %d, want 1 or more", v.Graph, v.Version)
	}
	return CheckName(v.Graph)
}

// CheckName says why name cannot be a graph's name: it is 1 to 128 bytes
// long, printable, and has no "@".
func CheckName(name string) error {
	if name == "" || len(name) > 128 || !utf8.ValidString(name) {
		return fmt.Errorf("graph name %.140q: want 1 to 128 bytes of UTF-8", name)
	}
	for _, r := range name {
		if r == '@' || !strconv.IsPrint(r) {
			return fmt.Errorf("graph name %q: character %q is not allowed", name, r)
		}
	}
	return nil
}

// baseMeta is what a base says of itself.
//
//	byte  0   format, 1
//	      1   version, 8 bytes BE
//	      9   nodes, predicates, facts: 4 bytes BE each
//	      21  graph name, to the end
type baseMeta struct {
	Version
	nodes, preds, facts uint32
}

func (m baseMeta) append(dst []byte) []byte {
	dst = append(dst, formatNow)
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Version.Version))
	dst = binary.BigEndian.AppendUint32(dst, m.nodes)
	dst = binary.BigEndian.AppendUint32(dst, m.preds)
	dst = binary.BigEndian.AppendUint32(dst, m.facts)
	return append(dst, m.Graph...)
}

func parseMeta(b []byte) (m baseMeta, err error) {
	if len(b) < 21 {
		return m, fmt.Errorf("%w: meta record of %d bytes, want 21 or more", ErrCorrupt, len(b))
	}
	if b[0] != formatNow {
		return m, fmt.Errorf("%w: facts base of format %d, this program knows %d", ErrCorrupt, b[0], formatNow)
	}
	v := binary.BigEndian.Uint64(b[1:])
	if v > math.MaxInt64 {
		return m, fmt.Errorf("%w: meta record: version out of range", ErrCorrupt)
	}
	m.Version = Version{string(b[21:]), int64(v)}
	m.nodes = binary.BigEndian.Uint32(b[9:])
	m.preds = binary.BigEndian.Uint32(b[13:])
	m.facts = binary.BigEndian.Uint32(b[17:])
	if m.Version != (Version{}) {
		if err := m.Version.check(); err != nil {
			return m, fmt.Errorf("%w: meta record: %w", ErrCorrupt, err)
		}
	}
	if max(m.nodes, m.preds, m.facts) > math.MaxInt32 {
		return m, fmt.Errorf("%w: meta record: counts out of range", ErrCorrupt)
	}
	return m, nil
}
