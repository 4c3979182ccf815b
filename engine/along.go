package engine

import (
	"slices"

	"dunlin/model"
)

// Many operators compute each element, or each row, from what is at the same
// place of their inputs. A part of the output along one axis is then the same
// operator over a part of the inputs, lowered once more for it. Operators that
// pack weights have cutters of their own, which share them.

// rule says how an operator is cut.
type rule struct {
	// axes returns, for an output that is cut along axis, the axis along
	// which each input is cut, -1 where a part needs all of it, and the
	// multiple at which parts begin. A step of 0: it cannot be cut there.
	axes func(c *call, axis int) (axes []int, step int)

	flat bool // the operator sees elements, whatever the shape
}

// rules are those of all operators that are cut so.
var rules = map[string]rule{
	"Softmax": {axes: beforeAxis}, "LogSoftmax": {axes: beforeAxis}, "Hardmax": {axes: beforeAxis}, "LpNormalization": {axes: beforeAxis},
	"LayerNormalization": {axes: beforeAxis},
	"Concat":             {axes: besideAxis},
	"QuantizeLinear":     {axes: scaled, flat: true},
	"DequantizeLinear":   {axes: scaled, flat: true},
	"MatMul":             {axes: matrixwise},
	"MatMulInteger":      {axes: matrixwise},
	"dunlin.QMatMul":     {axes: matrixwise},
	"dunlin.Table":       {axes: firstOnly},
}

func init() {
	for _, op := range []string{
		"Abs", "Add", "And", "Cast", "Celu", "Clip", "Div", "Elu", "Equal", "Erf", "Exp", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid",
		"HardSwish", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow",
		"Reciprocal", "Relu", "Selu", "Sigmoid", "Sign", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Tanh", "Where", "Xor",
		"dunlin.QAdd", "dunlin.QMul", "dunlin.Requant", "dunlin.FlipSign",
	} {
		rules[op] = rule{axes: broadcasting, flat: true}
	}
}

// byRule returns the cutter of an operator that has a rule, along the first axis
// of its output that is longer than 1: all parts are in one piece then.
func byRule(c *call) []cutter {
	r := rules[c.node.Op]
	if r.axes == nil || c.elements() == 0 {
		return nil
	}
	axis := slices.IndexFunc(c.out[0].Shape, func(d int) bool { return d > 1 })
	if axis < 0 {
		return nil
	}
	axes, step := r.axes(c, axis)
	if step == 0 {
		return nil
	}
	if r.flat && c.flatten() {
		axis, step = 0, model.Alignment // whole cache lines, and few tails
		for i := range axes {
			axes[i] = min(axes[i], 0)
		}
	}
	units := c.out[0].Shape[axis]
	for _, v := range c.out {
		if len(v.Shape) <= axis || v.Shape[axis] != units {
			return nil
		}
	}
	return []cutter{{units: units, step: step, part: func(from, to int) (part, error) { return c.along(axes, axis, from, to) }}}
}

// flatten gives all tensors of c one axis, and reports whether that was
// possible: each is as large as the output, or a single number.
func (c *call) flatten() bool {
	n := c.elements()
	list := slices.Concat(c.in, c.out)
	for i, v := range list {
		switch {
		case v == nil:
		case elements(v) == n:
			list[i] = withShape(v, model.Shape{n})
		case elements(v) == 1:
			list[i] = withShape(v, model.Shape{})
		default:
			return false
		}
	}
	c.in, c.out = list[:len(c.in):len(c.in)], list[len(c.in):]
	return true
}

func elements(v *model.Value) int { n, _ := v.Shape.Elements(); return n }

// withShape returns v with another shape of as many elements.
func withShape(v *model.Value, s model.Shape) *model.Value {
	w := &model.Value{Type: v.Type, Shape: s}
	if v.Const != nil {
		w.Const = &model.Tensor{Type: v.Type, Shape: s, Data: v.Const.Data}
	}
	return w
}

// along lowers c for from to to-1 of an axis of its output.
func (c *call) along(axes []int, axis, from, to int) (part, error) {
	p := part{in: make([]span, len(c.in)), out: make([]span, len(c.out))}
	a := &call{node: c.node, in: slices.Clone(c.in), target: c.target}
	for i, v := range c.in {
		if v == nil || axes[i] < 0 {
			continue
		}
		p.in[i] = spanAlong(v.Shape, axes[i], from, to)
		a.in[i] = &model.Value{Type: v.Type, Shape: p.in[i].shape}
		if v.Const != nil {
			a.in[i].Const = p.in[i].of(v.Const)
		}
	}
	for i, v := range c.out {
		a.out = append(a.out, &model.Value{})
		p.out[i] = spanAlong(v.Shape, axis, from, to)
	}
	err := a.infer(operators[c.node.Op])
	if err == nil {
		p.kernel, err = a.kernel()
	}
	return p, err
}

// spanAlong returns from to to-1 of an axis; those before it are 1 long.
func spanAlong(s model.Shape, axis, from, to int) span {
	each, _ := s[axis+1:].Elements()
	part := slices.Clone(s)
	part[axis] = to - from
	return span{from: from * each, shape: part}
}

// none is a rule's answer where each input is needed whole.
func (c *call) none() []int { return repeat(-1, len(c.in)) }

// broadcasting is for inputs that broadcast to the output.
func broadcasting(c *call, axis int) ([]int, int) {
	axes := c.none()
	for i, v := range c.in {
		if v != nil {
			if a := axis + len(v.Shape) - len(c.out[0].Shape); a >= 0 && v.Shape[a] > 1 {
				axes[i] = a
			}
		}
	}
	return axes, 1
}

// firstOnly is for an operator over its first input alone.
func firstOnly(c *call, axis int) ([]int, int) {
	axes := c.none()
	axes[0] = axis
	return axes, 1
}

// beforeAxis is for what is computed over the last axes of the first input,
// from the one that the node names on.
func beforeAxis(c *call, axis int) ([]int, int) {
	if a, err := c.axis("axis", -1, len(c.shape(0))); err != nil || a <= axis {
		return nil, 0
	}
	return firstOnly(c, axis)
}

// besideAxis is for inputs of one rank that meet along the axis which the node
// names.
func besideAxis(c *call, axis int) ([]int, int) {
	if a, err := c.axis("axis", 0, len(c.shape(0))); err != nil || a == axis {
		return nil, 0
	}
	return repeat(axis, len(c.in)), 1
}

// scaled is for QuantizeLinear and DequantizeLinear.
func scaled(c *call, axis int) ([]int, int) {
	axes, step := firstOnly(c, axis)
	if elements(c.in[1]) > 1 {
		if a, err := c.axis("axis", 1, len(c.shape(0))); err != nil || a == axis {
			for i := range axes {
				axes[i] = 0 // a scale, and a zero point, for each index
			}
			axes[0] = axis
		}
	}
	return axes, step
}

// matrixwise is for products of matrices, along the axes that count matrices.
func matrixwise(c *call, axis int) ([]int, int) {
	if axis >= len(c.out[0].Shape)-2 || len(c.shape(0)) < 2 || len(c.shape(1)) < 2 {
		return nil, 0
	}
	axes, step := broadcasting(c, axis)
	for i := 2; i < len(axes); i++ {
		axes[i] = -1 // zero points
	}
	return axes, step
}
