package cache

import (
	"encoding/binary"
	"fmt"
	"math"
)

func appendKey(dst []byte, t triple) []byte {
	for _, id := range t {
		dst = binary.BigEndian.AppendUint32(dst, id)
	}
	return dst
}

func parseKey(k []byte) (t triple, err error) {
	if len(k) != 12 {
		return t, fmt.Errorf("%w: index key of %d bytes, want 12", ErrCorrupt, len(k))
	}
	for i := range t {
		t[i] = binary.BigEndian.Uint32(k[4*i:])
	}
	return t, nil
}

// appendDelta appends t after prev; t must be greater.
func appendDelta(dst []byte, prev, t triple) []byte {
	switch {
	case t[0] != prev[0]:
		dst = binary.AppendUvarint(dst, uint64(t[0]-prev[0])<<2|2)
		dst = binary.AppendUvarint(dst, uint64(t[1]))
		return binary.AppendUvarint(dst, uint64(t[2]))
	case t[1] != prev[1]:
		dst = binary.AppendUvarint(dst, uint64(t[1]-prev[1])<<2|1)
		return binary.AppendUvarint(dst, uint64(t[2]))
	}
	return binary.AppendUvarint(dst, uint64(t[2]-prev[2])<<2)
}

// uvarint reads a varint below 1<<35; n is 0 where there is none.
func uvarint(b []byte) (x uint64, n int) {
	for i, c := range b {
		if i == 5 {
			return 0, 0
		}
		x |= uint64(c&0x7F) << (7 * i)
		if c < 0x80 {
			return x, i + 1
		}
	}
	return 0, 0
}

// readBlock calls fn for each fact of an index block, in order, until fn
// returns false. It trusts nothing: what is not a rising sequence of ids
// within 32 bits is ErrCorrupt, found at the latest where it stands.
func readBlock(key, val []byte, fn func(t triple) bool) error {
	t, err := parseKey(key)
	if err != nil || !fn(t) {
		return err
	}
	for len(val) > 0 {
		head, n := uvarint(val)
		if n == 0 {
			return fmt.Errorf("%w: index block: bad number", ErrCorrupt)
		}
		val = val[n:]
		from := 2 - int(head&3)
		if from < 0 || head>>2 == 0 {
			return fmt.Errorf("%w: index block: ids do not rise", ErrCorrupt)
		}
		next := uint64(t[from]) + head>>2
		if next > math.MaxUint32 {
			return fmt.Errorf("%w: index block: id beyond 32 bits", ErrCorrupt)
		}
		t[from] = uint32(next)
		for i := from + 1; i < 3; i++ {
			x, n := uvarint(val)
			if n == 0 || x > math.MaxUint32 {
				return fmt.Errorf("%w: index block: bad id", ErrCorrupt)
			}
			t[i] = uint32(x)
			val = val[n:]
		}
		if !fn(t) {
			return nil
		}
	}
	return nil
}
