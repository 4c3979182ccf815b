package kernels

import (
	"slices"
	"unsafe"
)

// RowCopy copies rows of n bytes that lie outStep and inStep bytes apart.
type RowCopy func(out []byte, outStep int, in []byte, inStep, rows, n int)

// CopyRows returns the RowCopy of t, and its tier: short rows of whole 32-bit
// words are copied by loops of that tier.
func CopyRows(t Target) (Tier, RowCopy) {
	v := pick(t, rowsF32Variants)
	if v.tier == Generic {
		return Generic, copyRowsGeneric
	}
	return v.tier, func(out []byte, outStep int, in []byte, inStep, rows, n int) {
		if n > longRow || rows < 2 || (outStep|inStep|n)%4 != 0 || !aligned4(out) || !aligned4(in) {
			copyRowsGeneric(out, outStep, in, inStep, rows, n)
			return
		}
		out, in = out[:(rows-1)*outStep+n], in[:(rows-1)*inStep+n]
		v.run(OpCopy, rowsF32{out: view[float32](out), a: view[float32](in), rows: rows, n: n / 4, step: outStep / 4, aStep: inStep / 4, aEach: 1})
	}
}

// longRow is how many bytes are better copied by the copy of the language.
const longRow = 1024

func aligned4(s []byte) bool { return uintptr(unsafe.Pointer(unsafe.SliceData(s)))%4 == 0 }

// copyRowsGeneric is the definition of RowCopy.
func copyRowsGeneric(out []byte, outStep int, in []byte, inStep, rows, n int) {
	if n == outStep && n == inStep {
		copy(out[:rows*n], in)
		return
	}
	for r := range rows {
		copy(out[r*outStep:][:n], in[r*inStep:])
	}
}

// Concat copies parts side by side: out [outer, Σ widths], part i
// [outer, widths[i]], all in bytes.
func Concat(rows RowCopy, out []byte, parts [][]byte, widths []int, outer int) {
	step, at := 0, 0
	for _, w := range widths {
		step += w
	}
	for i, w := range widths {
		if outer > 0 && w > 0 {
			rows(out[at:], step, parts[i], w, outer, w)
		}
		at += w
	}
}

// Gather copies blocks: out [outer, len(index), block], in [outer, n, block],
// in bytes. An index below 0 counts from n. It reports the first index that
// is out of range, -1 where all are in it.
func Gather(out, in []byte, index []int64, outer, n, block int) int {
	at := 0
	for o := range outer {
		for i, k := range index {
			if k < 0 {
				k += int64(n)
			}
			if k < 0 || k >= int64(n) {
				return i
			}
			copy(out[at:at+block], in[(o*n+int(k))*block:])
			at += block
		}
	}
	return -1
}

// Choose is Gather of single 32-bit words, whose index is in range: out
// [outer, len(index)], in [outer, n].
func Choose(out, in []uint32, index []int32, outer, n int) {
	for o := range outer {
		to, from := out[o*len(index):][:len(index)], in[o*n:][:n]
		for i, k := range index {
			to[i] = from[k]
		}
	}
}

// Slice is a part of a tensor, ready to copy: for each axis length[i] elements
// from start[i], step[i] apart (which may be negative).
type Slice struct {
	from   int    // of the first element, in bytes
	outer  []axis // in bytes
	rows   axis
	run    int  // bytes that lie together
	copies int  // of rows
	words  bool // elements are 32-bit words
}

// NewSlice returns the slice of a tensor of that shape, whose elements are
// size bytes. The caller checked that all lie inside.
func NewSlice(shape, start, step, length []int, size int) *Slice {
	s := &Slice{run: size, copies: 1, words: size == 4}
	var axes []axis // innermost first
	stride, to := size, size
	for a := len(shape) - 1; a >= 0; a-- {
		s.from += start[a] * stride
		x := axis{length: length[a], stride: step[a] * stride, to: to}
		switch {
		case len(axes) == 0 && x.stride == s.run: // nothing lies between
			s.run *= x.length
		case x.length != 1:
			axes = append(axes, x)
		}
		stride *= shape[a]
		to *= length[a]
	}
	if len(axes) == 0 {
		axes = []axis{{length: 1}}
	}
	if to == 0 {
		s.copies = 0
		return s
	}
	s.rows = axes[0]
	for _, x := range slices.Backward(axes[1:]) {
		s.outer = append(s.outer, x)
		s.copies *= x.length
	}
	return s
}

// Run copies the slice of in to out.
func (s *Slice) Run(rows RowCopy, out, in []byte) {
	for i := range s.copies {
		from, to := places(s.outer, i)
		from += s.from
		switch {
		case s.rows.stride < 0: // backwards
			for r := range s.rows.length {
				copy(out[to+r*s.rows.to:][:s.run], in[from+r*s.rows.stride:])
			}
		case s.words && s.run == 4 && s.rows.to == 4:
			pickWords(view[uint32](out[to:]), view[uint32](in[from:]), s.rows.length, s.rows.stride/4)
		default:
			rows(out[to:], s.rows.to, in[from:], s.rows.stride, s.rows.length, s.run)
		}
	}
}

// pickWords copies words that lie step apart.
func pickWords(out, in []uint32, n, step int) {
	out = out[:n]
	for i := range out {
		out[i] = in[i*step]
	}
}

// LookUp writes the row of table [N+1, width] that each id names: row N for
// those that are not 0 to N-1.
func LookUp[T int32 | int64](out, table []float32, ids []T, width int) {
	if width == 0 {
		return
	}
	last := T(len(table)/width - 1)
	for i, id := range ids {
		if id < 0 || id > last {
			id = last
		}
		copy(out[i*width:][:width], table[int(id)*width:])
	}
}
