package onnx

import (
	"encoding/binary"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Protobuf's wire format (https://protobuf.dev/programming-guides/encoding):
// a message is a row of fields, each a key, number<<3 | type, and a value.
const (
	wireVarint = 0
	wire64     = 1
	wireBytes  = 2
	wire32     = 5
)

// field is one field of a message.
type field struct {
	num  int
	wire int
	v    uint64 // the value of a varint, 64-bit or 32-bit field
	b    []byte // the value of a field of bytes, aliasing the message
}

// fields calls f for each field of message b, in file order. It fails with
// ErrMalformed where b is not a message; an error of f ends it.
func fields(part string, b []byte, f func(field) error) error {
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 || key>>3 == 0 || key>>3 > 1<<29-1 {
			return fail(ErrMalformed, part, "a field has no valid key")
		}
		b = b[n:]
		x := field{num: int(key >> 3), wire: int(key & 7)}
		size := 0
		switch x.wire {
		case wireVarint:
			x.v, size = binary.Uvarint(b)
			if size <= 0 {
				return fail(ErrMalformed, part, "field %d ends early", x.num)
			}
		case wire64:
			if size = 8; len(b) < size {
				return fail(ErrMalformed, part, "field %d ends early", x.num)
			}
			x.v = binary.LittleEndian.Uint64(b)
		case wire32:
			if size = 4; len(b) < size {
				return fail(ErrMalformed, part, "field %d ends early", x.num)
			}
			x.v = uint64(binary.LittleEndian.Uint32(b))
		case wireBytes:
			l, n := binary.Uvarint(b)
			if n <= 0 || l > uint64(len(b)-n) {
				return fail(ErrMalformed, part, "field %d is longer than what holds it", x.num)
			}
			size = n + int(l)
			x.b = b[n:size:size]
		default:
			return fail(ErrMalformed, part, "field %d has wire type %d", x.num, x.wire)
		}
		b = b[size:]
		if err := f(x); err != nil {
			return err
		}
	}
	return nil
}

// message fails unless x holds bytes.
func (x field) message(part string) ([]byte, error) {
	if x.wire != wireBytes {
		return nil, fail(ErrMalformed, part, "field %d has wire type %d, not bytes", x.num, x.wire)
	}
	return x.b, nil
}

// varint fails unless x holds an integer.
func (x field) varint(part string) (int64, error) {
	if x.wire != wireVarint {
		return 0, fail(ErrMalformed, part, "field %d has wire type %d, not varint", x.num, x.wire)
	}
	return int64(x.v), nil
}

// text returns a copy of a string field; names are stored as JSON later, so
// they must be valid UTF-8, as protobuf demands.
func (r *reader) text(part string, x field) (string, error) {
	b, err := x.message(part)
	if err != nil {
		return "", err
	}
	if !utf8.Valid(b) {
		return "", fail(ErrMalformed, part, "field %d is not valid UTF-8", x.num)
	}
	return string(b), r.budget.take(int64(len(b)) + 16)
}

// repeated calls f for each value of a repeated scalar field, packed or not.
// wire is the type of one value: wireVarint, wire32 or wire64.
func repeated(part string, x field, wire int, f func(v uint64) error) error {
	if x.wire == wire {
		return f(x.v)
	}
	b, err := x.message(part)
	if err != nil {
		return err
	}
	for len(b) > 0 {
		var v uint64
		n := 0
		switch wire {
		case wireVarint:
			v, n = binary.Uvarint(b)
		case wire32:
			if n = 4; len(b) >= n {
				v = uint64(binary.LittleEndian.Uint32(b))
			}
		case wire64:
			if n = 8; len(b) >= n {
				v = binary.LittleEndian.Uint64(b)
			}
		}
		if n <= 0 || n > len(b) {
			return fail(ErrMalformed, part, "packed field %d ends early", x.num)
		}
		b = b[n:]
		if err := f(v); err != nil {
			return err
		}
	}
	return nil
}

// grow appends v, of size bytes, to s and charges what that costs. It doubles,
// where append would go up by a quarter and throw away five times as much as
// it keeps.
func grow[T any](r *reader, s []T, v T, size int64) ([]T, error) {
	if err := r.budget.take(5 * size); err != nil {
		return nil, err
	}
	if len(s) == cap(s) {
		s = slices.Grow(s, max(len(s), 2))
	}
	return append(s, v), nil
}

// quote shortens a name from the file for a message.
func quote(s string) string {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return fmt.Sprintf("%q", s)
}
