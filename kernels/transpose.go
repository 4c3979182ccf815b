package kernels

import "fmt"

// Transpose is a change of the order of axes, ready to run: axis i of out is
// axis perm[i] of in. Elements are size bytes: 1, 2, 4 or 8.
type Transpose struct {
	size  int
	outer []axis // all but the two innermost of out
	rows  axis
	cols  axis
	total int
}

// axis is one axis of a result and how far apart its neighbours lie in the
// input, in elements.
type axis struct{ length, stride int }

// NewTranspose fails where perm is no permutation of the axes of shape.
func NewTranspose(size int, shape, perm []int) (*Transpose, error) {
	if len(perm) != len(shape) {
		return nil, fmt.Errorf("transpose: order %v of %d axes", perm, len(shape))
	}
	strides := make([]int, len(shape))
	total := 1
	for i := len(shape) - 1; i >= 0; i-- {
		strides[i] = total
		total *= shape[i]
	}
	seen := make([]bool, len(shape))
	var axes []axis
	for _, p := range perm {
		if p < 0 || p >= len(shape) || seen[p] {
			return nil, fmt.Errorf("transpose: order %v is no permutation", perm)
		}
		seen[p] = true
		if shape[p] == 1 {
			continue
		}
		// An axis that follows its neighbour in memory joins it.
		if n := len(axes); n > 0 && axes[n-1].stride == strides[p]*shape[p] {
			axes[n-1] = axis{axes[n-1].length * shape[p], strides[p]}
			continue
		}
		axes = append(axes, axis{shape[p], strides[p]})
	}
	for len(axes) < 2 {
		axes = append([]axis{{1, total}}, axes...)
	}
	n := len(axes)
	switch size {
	case 1, 2, 4, 8:
	default:
		return nil, fmt.Errorf("transpose: elements of %d bytes", size)
	}
	return &Transpose{size: size, outer: axes[:n-2], rows: axes[n-2], cols: axes[n-1], total: total}, nil
}

// Moves reports whether any element changes its place.
func (t *Transpose) Moves() bool { return len(t.outer) > 0 || t.rows.length > 1 || t.cols.stride != 1 }

// Run writes the transpose of in to out. Both hold all elements and begin at
// a multiple of their size.
func (t *Transpose) Run(out, in []byte) {
	if t.total == 0 {
		return
	}
	switch t.size {
	case 1:
		transpose(t, out, in)
	case 2:
		transpose(t, view[uint16](out), view[uint16](in))
	case 4:
		transpose(t, view[uint32](out), view[uint32](in))
	case 8:
		transpose(t, view[uint64](out), view[uint64](in))
	}
}

func transpose[T any](t *Transpose, out, in []T) {
	block := t.rows.length * t.cols.length
	for at := 0; at < t.total; at += block {
		from, n := 0, at/block
		for i := len(t.outer) - 1; i >= 0; i-- {
			a := t.outer[i]
			from += n % a.length * a.stride
			n /= a.length
		}
		dst := out[at : at+block]
		for r := range t.rows.length {
			row, src := dst[r*t.cols.length:][:t.cols.length], from+r*t.rows.stride
			for c := range row {
				row[c] = in[src+c*t.cols.stride]
			}
		}
	}
}
