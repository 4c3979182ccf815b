package engine

import (
	"dunlin/model"
)

// Half-precision floats (F16 and BF16) are a way to store numbers: operators
// that move data carry them as they are, all others see float32. The node
// stays one step, which widens its inputs, runs the float32 kernel, and
// rounds its outputs to the nearest, ties to even.

// isHalf reports whether values of type t are widened to be computed with.
func isHalf(t model.DType) bool { return t == model.F16 || t == model.BF16 }

// widenedConstant is the most elements of a constant that infer looks at in
// its wide form: bounds and exponents, never weights.
const widenedConstant = 4096

// widened returns the call that sees float32 where c has halves, and the type
// of the halves; nil where c has none. With all set, large constants are
// widened too.
func (c *call) widened(all bool) (*call, model.DType) {
	var half model.DType
	w := &call{node: c.node, in: make([]*model.Value, len(c.in)), target: c.target, halves: c.halves}
	for i, v := range c.in {
		if v == nil || !isHalf(v.Type) {
			w.in[i] = v
			continue
		}
		half = v.Type
		wide := &model.Value{Type: model.F32, Shape: v.Shape}
		if v.Const != nil && (all || v.Const.Elements() <= widenedConstant) {
			wide.Const = &model.Tensor{Type: model.F32, Shape: v.Shape, Data: model.Aligned(4 * v.Const.Elements())}
			castTensor(wide.Const, v.Const)
		}
		w.in[i] = wide
	}
	if half == 0 {
		return nil, 0
	}
	for range c.out {
		w.out = append(w.out, &model.Value{})
	}
	return w, half
}

// infer finds the outputs of c, in float32 where the operator does not take
// the halves as they are.
func (c *call) infer(op operator) error {
	err := op.infer(c)
	if err == nil {
		return nil
	}
	w, half := c.widened(false)
	if w == nil {
		return err
	}
	if err := op.infer(w); err != nil {
		return err
	}
	c.wide = true
	for i, v := range w.out {
		*c.out[i] = *v
		if v.Type == model.F32 {
			c.out[i].Type = half
		}
	}
	return nil
}

// kernel returns the kernel of a call that infer has seen.
func (c *call) kernel() (*kernel, error) {
	op := operators[c.node.Op]
	if !c.wide {
		return op.lower(c)
	}
	w, _ := c.widened(true)
	if err := op.infer(w); err != nil {
		return nil, err
	}
	k, err := op.lower(w)
	if err != nil || (k.alias && c.in[0].Type == c.out[0].Type) {
		return k, err
	}
	if k.alias {
		k = copyKernel(k)
	}
	outer := *k
	outer.cutters = nil
	outer.name += "-half"
	at := make([]int, len(c.in)+len(c.out)) // offsets of the wide copies in the scratch, behind k's
	need := align(k.scratch)
	for i, v := range append(append([]*model.Value{}, c.in...), c.out...) {
		if v == nil || !isHalf(v.Type) {
			continue
		}
		n, _ := v.Shape.Elements()
		if i < len(c.in) && v.Const != nil {
			outer.weights += 4 * n
			continue
		}
		at[i] = need
		need += align(4 * n)
	}
	outer.scratch = max(need, 1)
	outer.bind = func(in, out []*model.Tensor, scratch []byte) func() error {
		x, y := make([]*model.Tensor, len(in)), make([]*model.Tensor, len(out))
		wide := func(t *model.Tensor, i int) *model.Tensor {
			return &model.Tensor{Type: model.F32, Shape: t.Shape, Data: scratch[at[i]:][:4*t.Elements()]}
		}
		for i, t := range in {
			switch {
			case t == nil || !isHalf(t.Type):
				x[i] = t
			case w.in[i].Const != nil:
				x[i] = w.in[i].Const
			default:
				x[i] = wide(t, i)
			}
		}
		for i, t := range out {
			y[i] = t
			if t != nil && isHalf(t.Type) {
				y[i] = wide(t, len(in)+i)
			}
		}
		run := k.bind(x, y, scratch[:k.scratch])
		return func() error {
			for i, t := range in {
				if x[i] != t && w.in[i].Const == nil {
					castTensor(x[i], t)
				}
			}
			if err := run(); err != nil {
				return err
			}
			for i, t := range out {
				if y[i] != t {
					castTensor(t, y[i])
				}
			}
			return nil
		}
	}
	return &outer, nil
}
