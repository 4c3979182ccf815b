package engine

import (
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// The attributes of dunlin.MatMul: the transposes of its operands, and of its
// result, as the perm of Transpose; and how often each index of an axis of an
// operand is repeated, an axis of those before its matrices, by axis before
// the transpose.
const (
	turnA   = "perm_a"
	turnB   = "perm_b"
	turnOut = "perm_out"
	timesA  = "repeats_a"
	timesB  = "repeats_b"
)

// repeated returns s with each axis as often as repeats says; where that is
// nil, s.
func repeated(s model.Shape, repeats []int64) model.Shape {
	if repeats == nil {
		return s
	}
	to := make(model.Shape, len(s))
	for i, n := range s {
		to[i] = n * int(repeats[i])
	}
	return to
}

// permuted returns s with axis perm[i] as axis i; where perm or s is nil, s.
func permuted[S ~[]T, T any](s S, perm []int64) S {
	if perm == nil || s == nil {
		return s
	}
	to := make(S, len(s))
	for i, p := range perm {
		to[i] = s[p]
	}
	return to
}

// stridesOf returns how far apart the elements along each axis of a tensor
// lie, in the order of perm.
func stridesOf(s model.Shape, perm []int64) model.Shape {
	strides, step := make(model.Shape, len(s)), 1
	for i := len(s) - 1; i >= 0; i-- {
		strides[i] = step
		step *= s[i]
	}
	return permuted(strides, perm)
}

// lowerProductF32 is for two computed float32 tensors that have elements. a
// and b are their shapes as matrices.
func lowerProductF32(c *call, a, b model.Shape) (*kernel, error) {
	p := kernels.ProductF32{M: a[len(a)-2], K: a[len(a)-1], N: b[len(b)-1]}
	sa, sb := stridesOf(c.shape(0), c.node.Ints(turnA)), stridesOf(c.shape(1), c.node.Ints(turnB))
	if len(sa) == 1 {
		sa = model.Shape{0, sa[0]}
	}
	if len(sb) == 1 {
		sb = model.Shape{sb[0], 1}
	}
	so, out := stridesOf(c.out[0].Shape, inverse(c.node.Ints(turnOut))), permuted(c.out[0].Shape, inverse(c.node.Ints(turnOut)))
	p.OutRow = p.N
	if len(c.shape(1)) == 1 { // the result lacks the columns
		so, out = append(so, 1), append(slices.Clone(out), 1)
	}
	if len(c.shape(0)) == 1 {
		so, out = slices.Insert(so, len(so)-1, p.N), slices.Insert(slices.Clone(out), len(out)-1, 1)
	}
	p.A = kernels.Strides{Row: sa[len(sa)-2], Column: sa[len(sa)-1]}
	p.B = kernels.Strides{Row: sb[len(sb)-2], Column: sb[len(sb)-1]}
	p.OutRow = so[len(so)-2]
	ready, err := kernels.PickProductF32(c.target, p)
	if err != nil {
		return nil, err
	}
	batch := batchOf(out[:len(out)-2], so, batchOperand{a, sa, permuted(c.node.Ints(timesA), c.node.Ints(turnA))},
		batchOperand{b, sb, permuted(c.node.Ints(timesB), c.node.Ints(turnB))})
	return productKernel(ready, batch), nil
}

// batchOperand is an operand with its matrices' axes last.
type batchOperand struct {
	shape, strides model.Shape
	repeats        []int64
}

// at returns where index i of an axis of a result of that rank lies.
func (o batchOperand) at(axis, rank, i int) int {
	axis -= rank + 2 - len(o.shape)
	if axis < 0 || o.shape[axis] == 1 {
		return 0
	}
	if o.repeats != nil {
		i /= int(o.repeats[axis])
	}
	return i * o.strides[axis]
}

// batchOf returns where each product of a batch begins. out are the axes
// before the matrices, so the strides of all of the result's.
func batchOf(out, so model.Shape, a, b batchOperand) []kernels.Offsets {
	list := []kernels.Offsets{{}}
	for axis, length := range out {
		var next []kernels.Offsets
		for _, from := range list {
			for i := range length {
				next = append(next, kernels.Offsets{
					A: from.A + a.at(axis, len(out), i), B: from.B + b.at(axis, len(out), i), Out: from.Out + i*so[axis],
				})
			}
		}
		list = next
	}
	return list
}

// inverse returns the permutation that undoes perm, nil for nil.
func inverse(perm []int64) []int64 {
	if perm == nil {
		return nil
	}
	to := make([]int64, len(perm))
	for i, p := range perm {
		to[p] = int64(i)
	}
	return to
}
