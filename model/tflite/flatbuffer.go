package tflite

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
)

// A flatbuffer (https://flatbuffers.dev/internals) is little-endian. A table
// begins with the signed distance back to its vtable, which is a row of
// uint16: its own length in bytes, the table's, and for each field where in
// the table it stands, 0 for a field left out. Fields that are no numbers
// hold the unsigned distance forward to a table, or to a vector, which is a
// uint32 count and the elements.
//
// reader reads one. The first thing that does not fit is kept in err, and
// whatever is asked for after it is zero or empty, so that err need only be
// looked at where a value is used to go on. Nothing is trusted to be aligned.
type reader struct {
	b      []byte
	budget *budget
	err    error
}

// bad keeps the first error.
func (r *reader) bad(part, format string, a ...any) {
	if r.err == nil {
		r.err = fail(ErrMalformed, part, format, a...)
	}
}

// take charges n bytes to the budget and reports whether they are there.
func (r *reader) take(n int64) bool {
	if r.err == nil {
		r.err = r.budget.take(n)
	}
	return r.err == nil
}

// follow returns where the distance stored at at leads, and whether that, and
// the 4 bytes behind it, are in the file.
func (r *reader) follow(at int64) (int64, bool) {
	if at < 0 || at+4 > int64(len(r.b)) {
		return 0, false
	}
	to := at + int64(binary.LittleEndian.Uint32(r.b[at:]))
	return to, to > at && to+4 <= int64(len(r.b))
}

// table is one table, or none at all where r is nil: then each field is left
// out. kind and index name it in messages.
type table struct {
	r      *reader
	at     int64
	size   int64
	vtable []byte // the part that tells of fields
	kind   string
	index  int
}

// part names the table in a message.
func (t *table) part() string {
	if t.index < 0 {
		return t.kind
	}
	return fmt.Sprintf("%s %d", t.kind, t.index)
}

// table returns the table to which the distance at at leads.
func (r *reader) table(at int64, kind string, index int) table {
	t := table{kind: kind, index: index}
	pos, ok := r.follow(at)
	if r.err != nil {
		return t
	}
	if !ok {
		r.bad(t.part(), "it lies outside the file")
		return t
	}
	vt := pos - int64(int32(binary.LittleEndian.Uint32(r.b[pos:])))
	if vt < 0 || vt+4 > int64(len(r.b)) {
		r.bad(t.part(), "its vtable lies outside the file")
		return t
	}
	length := int64(binary.LittleEndian.Uint16(r.b[vt:]))
	t.size = int64(binary.LittleEndian.Uint16(r.b[vt+2:]))
	if length < 4 || vt+length > int64(len(r.b)) || t.size < 4 || pos+t.size > int64(len(r.b)) {
		r.bad(t.part(), "it, or its vtable, does not fit the file")
		return t
	}
	t.r, t.at, t.vtable = r, pos, r.b[vt+4:vt+length]
	return t
}

// field returns where field i stands, -1 where it is left out.
func (t *table) field(i int, size int64) int64 {
	if t.r == nil || t.r.err != nil || 2*i+2 > len(t.vtable) {
		return -1
	}
	off := int64(binary.LittleEndian.Uint16(t.vtable[2*i:]))
	if off == 0 {
		return -1
	}
	if off < 4 || off+size > t.size {
		t.r.bad(t.part(), "its field %d lies outside it", i)
		return -1
	}
	return t.at + off
}

func (t *table) int8(i int, or int8) int8 {
	if at := t.field(i, 1); at >= 0 {
		return int8(t.r.b[at])
	}
	return or
}

func (t *table) bool(i int) bool { return t.int8(i, 0) != 0 }

func (t *table) int32(i int, or int32) int32 {
	if at := t.field(i, 4); at >= 0 {
		return int32(binary.LittleEndian.Uint32(t.r.b[at:]))
	}
	return or
}

func (t *table) uint64(i int) uint64 {
	if at := t.field(i, 8); at >= 0 {
		return binary.LittleEndian.Uint64(t.r.b[at:])
	}
	return 0
}

func (t *table) float32(i int, or float32) float32 {
	return math.Float32frombits(uint32(t.int32(i, int32(math.Float32bits(or)))))
}

// vector returns the bytes of the elements of field i, nil where it is left
// out, and where in the file they begin.
func (t *table) vector(i int, size int64) ([]byte, int64) {
	at := t.field(i, 4)
	if at < 0 {
		return nil, 0
	}
	pos, ok := t.r.follow(at)
	if !ok {
		t.r.bad(t.part(), "its field %d leads outside the file", i)
		return nil, 0
	}
	n := int64(binary.LittleEndian.Uint32(t.r.b[pos:])) * size
	pos += 4
	if n > int64(len(t.r.b))-pos {
		t.r.bad(t.part(), "its field %d is longer than the file", i)
		return nil, 0
	}
	return t.r.b[pos : pos+n : pos+n], pos
}

// tables calls f for each table of the vector in field i.
func (t *table) tables(i int, kind string, f func(table)) {
	v, at := t.vector(i, 4)
	for k := range len(v) / 4 {
		sub := t.r.table(at+4*int64(k), kind, k)
		if t.r.err != nil {
			return
		}
		f(sub)
	}
}

// sub returns the table in field i, with r nil where it is left out.
func (t *table) sub(i int, kind string, index int) table {
	at := t.field(i, 4)
	if at < 0 {
		return table{kind: kind, index: index}
	}
	return t.r.table(at, kind, index)
}

// text returns a copy of the string in field i. Bytes that are no UTF-8 are
// replaced, since names are stored as JSON later.
func (t *table) text(i int) string {
	v, _ := t.vector(i, 1)
	if len(v) == 0 || !t.r.take(4*int64(len(v))+32) {
		return ""
	}
	return strings.ToValidUTF8(string(v), "\uFFFD")
}

// ints returns a copy of the vector of int in field i, nil where it is left
// out.
func (t *table) ints(i int) []int {
	v, _ := t.vector(i, 4)
	if v == nil || !t.r.take(2*int64(len(v))+32) {
		return nil
	}
	list := make([]int, len(v)/4)
	for k := range list {
		list[k] = int(int32(binary.LittleEndian.Uint32(v[4*k:])))
	}
	return list
}

// floats returns a copy of the vector of float in field i.
func (t *table) floats(i int) []float32 {
	v, _ := t.vector(i, 4)
	if len(v) == 0 || !t.r.take(int64(len(v))+32) {
		return nil
	}
	list := make([]float32, len(v)/4)
	for k := range list {
		list[k] = math.Float32frombits(binary.LittleEndian.Uint32(v[4*k:]))
	}
	return list
}

// longs returns a copy of the vector of long in field i.
func (t *table) longs(i int) []int64 {
	v, _ := t.vector(i, 8)
	if len(v) == 0 || !t.r.take(int64(len(v))+32) {
		return nil
	}
	list := make([]int64, len(v)/8)
	for k := range list {
		list[k] = int64(binary.LittleEndian.Uint64(v[8*k:]))
	}
	return list
}
