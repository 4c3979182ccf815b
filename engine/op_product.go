package engine

import (
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// The attributes of dunlin.MatMul: the transposes of its operands, and of its
// result, as the perm of Transpose.
const (
	turnA   = "perm_a"
	turnB   = "perm_b"
	turnOut = "perm_out"
)

// permuted returns s with axis perm[i] as axis i; where perm is nil, s.
func permuted(s model.Shape, perm []int64) model.Shape {
	if perm == nil {
		return s
	}
	to := make(model.Shape, len(s))
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
	return productKernel(ready, batchOf(out[:len(out)-2], a[:len(a)-2], b[:len(b)-2], so, sa, sb)), nil
}

// batchOf returns where each product of a batch begins. out, a and b are the
// axes before the matrices, so, sa and sb the strides of all axes.
func batchOf(out, a, b, so, sa, sb model.Shape) []kernels.Offsets {
	list := []kernels.Offsets{{}}
	along := func(axis int, s, strides model.Shape) int {
		if i := axis - (len(out) - len(s)); i >= 0 && s[i] > 1 {
			return strides[i]
		}
		return 0
	}
	for axis, length := range out {
		da, db := along(axis, a, sa), along(axis, b, sb)
		var next []kernels.Offsets
		for _, at := range list {
			for i := range length {
				next = append(next, kernels.Offsets{A: at.A + i*da, B: at.B + i*db, Out: at.Out + i*so[axis]})
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
