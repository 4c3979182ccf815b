package engine

import (
	"fmt"
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

var reductions = map[string]kernels.ReduceOp{
	"ReduceSum": kernels.ReduceSum, "ReduceMean": kernels.ReduceMean, "ReduceMax": kernels.ReduceMax, "ReduceMin": kernels.ReduceMin,
	"ReduceProd": kernels.ReduceProd, "ReduceL1": kernels.ReduceL1, "ReduceL2": kernels.ReduceL2,
	"ReduceSumSquare": kernels.ReduceSumSquare, "ReduceLogSum": kernels.ReduceLogSum, "ReduceLogSumExp": kernels.ReduceLogSumExp,
}

// reducedAxes returns the axes that a Reduce operator takes away: those of
// input 1, or all of them.
func reducedAxes(c *call) ([]int, error) {
	rank := len(c.shape(0))
	if c.has(1) {
		axes, err := c.axes(1, rank)
		if err != nil || len(axes) > 0 {
			return axes, err
		}
	}
	if c.node.Int("noop_with_empty_axes", 0) != 0 {
		return nil, nil
	}
	all := make([]int, rank)
	for i := range all {
		all[i] = i
	}
	return all, nil
}

func inferReduce(c *call) error {
	if err := c.want(0, numbers...); err != nil {
		return err
	}
	axes, err := reducedAxes(c)
	if err != nil {
		return err
	}
	shape, keep := model.Shape{}, c.node.Int("keepdims", 1) != 0
	for i, d := range c.shape(0) {
		switch {
		case !slices.Contains(axes, i):
			shape = append(shape, d)
		case keep:
			shape = append(shape, 1)
		}
	}
	return c.set(c.in[0].Type, shape...)
}

// columns is a tensor seen as [outer, n, inner], where n are the elements
// along some axes. Where those axes do not stand side by side, move puts them
// last first.
type columns struct {
	outer, n, inner int
	move            *kernels.Transpose
}

func columnsOf(t model.DType, s model.Shape, axes []int) (columns, error) {
	x := columns{outer: 1, n: 1, inner: 1}
	var kept, gone []int
	for i, d := range s {
		if slices.Contains(axes, i) {
			gone = append(gone, i)
			x.n *= d
		} else {
			kept = append(kept, i)
		}
	}
	if k := len(gone); k == 0 || gone[k-1]-gone[0] == k-1 {
		for i, d := range s {
			switch {
			case k > 0 && i < gone[0]:
				x.outer *= d
			case k == 0 || i > gone[k-1]:
				x.inner *= d
			}
		}
		return x, nil
	}
	for _, i := range kept {
		x.outer *= s[i]
	}
	var err error
	x.move, err = kernels.NewTranspose(t.Size(), s, append(kept, gone...))
	return x, err
}

func lowerReduce(c *call) (*kernel, error) {
	axes, err := reducedAxes(c)
	if err != nil {
		return nil, err
	}
	t := c.in[0].Type
	x, err := columnsOf(t, c.shape(0), axes)
	if err != nil {
		return nil, err
	}
	if len(axes) == 0 && c.node.Int("noop_with_empty_axes", 0) != 0 {
		return lowerAlias(c)
	}
	k := named(c.node.Op + "-" + t.String())
	if x.move != nil {
		n, _ := c.shape(0).Elements()
		k.scratch = n * t.Size()
	}
	op := reductions[c.node.Op]
	extreme, ok := extremes[c.node.Op]
	if ok && t == model.F32 && x.n > 0 {
		return lowerExtremes(c, k, x, extreme), nil
	}
	switch t {
	case model.F32:
		k.bind = reduceFloat[float32](x, op)
	case model.F64:
		k.bind = reduceFloat[float64](x, op)
	default:
		if !kernels.ReduceInt[int64](op, nil, nil, 0, 0, 0) {
			return nil, notYet(fmt.Sprintf("%s of %v", c.node.Op, t))
		}
		k.bind = byWhole(t,
			reduceInt[int8](x, op), reduceInt[uint8](x, op), reduceInt[int16](x, op), reduceInt[uint16](x, op),
			reduceInt[int32](x, op), reduceInt[uint32](x, op), reduceInt[int64](x, op), reduceInt[uint64](x, op))
	}
	return k, nil
}

// extremes are the reductions whose order makes no difference.
var extremes = map[string]kernels.OpF32{"ReduceMax": kernels.OpMax, "ReduceMin": kernels.OpMin}

func lowerExtremes(c *call, k *kernel, x columns, op kernels.OpF32) *kernel {
	tier, f := kernels.ExtremesF32(c.target, op)
	moved := align(k.scratch)
	k.tier, k.scratch = tier, moved+4*kernels.ExtremesBlock
	k.bind = func(in, out []*model.Tensor, scratch []byte) func() error {
		from, move := source(x, in[0], scratch)
		a, y := from.F32(), out[0].F32()
		acc := (&model.Tensor{Type: model.F32, Shape: model.Shape{kernels.ExtremesBlock}, Data: scratch[moved:]}).F32()
		return func() error {
			move()
			f(y, a, acc, x.outer, x.n, x.inner)
			return nil
		}
	}
	return k
}

// source returns what a reduction reads: the tensor, or the scratch that move
// writes.
func source(x columns, t *model.Tensor, scratch []byte) (*model.Tensor, func()) {
	if x.move == nil {
		return t, func() {}
	}
	moved := &model.Tensor{Type: t.Type, Shape: t.Shape, Data: scratch[:len(t.Data)]}
	return moved, func() { x.move.Run(moved.Data, t.Data) }
}

func reduceFloat[T float32 | float64](x columns, op kernels.ReduceOp) binder {
	return func(in, out []*model.Tensor, scratch []byte) func() error {
		from, move := source(x, in[0], scratch)
		a, y := elementsOf[T](from), elementsOf[T](out[0])
		return func() error {
			move()
			kernels.ReduceFloat(op, y, a, x.outer, x.n, x.inner)
			return nil
		}
	}
}

func reduceInt[T whole](x columns, op kernels.ReduceOp) binder {
	return func(in, out []*model.Tensor, scratch []byte) func() error {
		from, move := source(x, in[0], scratch)
		a, y := elementsOf[T](from), elementsOf[T](out[0])
		return func() error {
			move()
			kernels.ReduceInt(op, y, a, x.outer, x.n, x.inner)
			return nil
		}
	}
}
