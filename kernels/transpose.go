package kernels

import (
	"fmt"
	"slices"
)

// Transpose is a change of the order of axes, ready to run: axis i of out is
// axis perm[i] of in. Elements are size bytes: 1, 2, 4 or 8.
//
// Whatever the order, it is done in blocks of two axes: the innermost of out,
// and, where that is not the innermost of in as well, the innermost of in, so
// that a block is a matrix of which one side reads and the other writes
// neighbours:
//
//	out[r*rows.to + c] = in[r*rows.stride + c*cols.stride]
type Transpose struct {
	size  int
	outer []axis // all other axes
	rows  axis
	cols  axis // its neighbours are neighbours in out
	total int
	block variant[transposeFunc]
	copy  RowCopy // where the innermost axes are one
}

// axis is one axis of a result: how far apart its neighbours lie in the input
// and in the result, in elements.
type axis struct{ length, stride, to int }

// transposeFunc writes a block whose rows are neighbours in in, of 32-bit
// elements.
type transposeFunc func(out, in []uint32, rows, cols axis)

// transposeVariants is the table of blocks of 32-bit elements.
var transposeVariants = append(transposeNative, variant[transposeFunc]{Generic, true, transposeGeneric[uint32]})

// NewTranspose fails where perm is no permutation of the axes of shape.
func NewTranspose(size int, shape, perm []int) (*Transpose, error) {
	if len(perm) != len(shape) {
		return nil, fmt.Errorf("transpose: order %v of %d axes", perm, len(shape))
	}
	switch size {
	case 1, 2, 4, 8:
	default:
		return nil, fmt.Errorf("transpose: elements of %d bytes", size)
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
			axes[n-1] = axis{length: axes[n-1].length * shape[p], stride: strides[p]}
			continue
		}
		axes = append(axes, axis{length: shape[p], stride: strides[p]})
	}
	t := &Transpose{size: size, total: total}
	t.blocks(axes)
	t.Use(Target{})
	return t, nil
}

// blocks chooses the two axes of a block.
func (t *Transpose) blocks(axes []axis) {
	for len(axes) < 2 {
		axes = append([]axis{{length: 1, stride: t.total}}, axes...)
	}
	to := 1
	for i := len(axes) - 1; i >= 0; i-- {
		axes[i].to = to
		to *= axes[i].length
	}
	last := len(axes) - 1
	rows := last - 1
	if axes[last].stride != 1 {
		rows = slices.IndexFunc(axes, func(a axis) bool { return a.stride == 1 })
	}
	rows = max(rows, 0) // an empty tensor has no such axis
	t.rows, t.cols = axes[rows], axes[last]
	t.outer = slices.Delete(axes[:last:last], rows, rows+1)
}

// Use makes Run do what t can; a new Transpose is Generic.
func (t *Transpose) Use(target Target) {
	t.block = variant[transposeFunc]{Generic, true, transposeGeneric[uint32]}
	switch {
	case t.cols.stride == 1:
		t.block.tier, t.copy = CopyRows(target)
	case t.size == 4:
		t.block = pick(target, transposeVariants)
	}
}

// Tier returns the tier that was chosen.
func (t *Transpose) Tier() Tier { return t.block.tier }

// Moves reports whether any element changes its place.
func (t *Transpose) Moves() bool { return len(t.outer) > 0 || t.rows.length > 1 || t.cols.stride != 1 }

// Run writes the transpose of in to out. Both hold all elements and begin at
// a multiple of their size.
func (t *Transpose) Run(out, in []byte) {
	if t.total == 0 {
		return
	}
	if t.copy != nil {
		for i := range t.total / (t.rows.length * t.cols.length) {
			from, to := places(t.outer, i)
			t.copy(out[to*t.size:], t.rows.to*t.size, in[from*t.size:], t.rows.stride*t.size, t.rows.length, t.cols.length*t.size)
		}
		return
	}
	switch t.size {
	case 1:
		transpose(t, out, in, transposeGeneric)
	case 2:
		transpose(t, view[uint16](out), view[uint16](in), transposeGeneric)
	case 4:
		transpose(t, view[uint32](out), view[uint32](in), t.block.run)
	case 8:
		transpose(t, view[uint64](out), view[uint64](in), transposeGeneric)
	}
}

func transpose[T any](t *Transpose, out, in []T, block func(out, in []T, rows, cols axis)) {
	for i := range t.total / (t.rows.length * t.cols.length) {
		from, to := places(t.outer, i)
		block(out[to:], in[from:], t.rows, t.cols)
	}
}

// places returns where place n of the axes is in the input and in the result.
func places(axes []axis, n int) (from, to int) {
	for k := len(axes) - 1; k >= 0; k-- {
		a := axes[k]
		from += n % a.length * a.stride
		to += n % a.length * a.to
		n /= a.length
	}
	return from, to
}

// transposeGeneric is the definition of a block. It goes along the longer side
// inside, and through large matrices in squares that stay in the cache.
func transposeGeneric[T any](out, in []T, rows, cols axis) {
	const square = 32
	height, width := rows.length, cols.length
	if min(height, width) > square {
		height, width = square, square
	}
	for r := 0; r < rows.length; r += height {
		for c := 0; c < cols.length; c += width {
			dst, src := out[r*rows.to+c:], in[r+c*cols.stride:]
			h, w := min(height, rows.length-r), min(width, cols.length-c)
			if w > h {
				for j := range h {
					line := dst[j*rows.to:][:w]
					for i := range line {
						line[i] = src[j+i*cols.stride]
					}
				}
				continue
			}
			for i := range w {
				for j, v := range src[i*cols.stride:][:h] {
					dst[j*rows.to+i] = v
				}
			}
		}
	}
}
