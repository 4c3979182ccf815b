package tflite

import (
	"slices"

	"dunlin/model"
)

// broadcast returns the shape of an operator that sees one element of each
// at a time, as numpy does.
func broadcast(o *op, a, b model.Shape) (model.Shape, error) {
	if len(a) < len(b) {
		a, b = b, a
	}
	s := slices.Clone(a)
	if s == nil {
		s = model.Shape{}
	}
	for i, d := range b {
		k := len(a) - len(b) + i
		switch {
		case s[k] == d || d == 1:
		case s[k] == 1:
			s[k] = d
		case s[k] == model.Unknown:
			s[k] = d
		case d == model.Unknown:
		default:
			return nil, o.bad("%v does not fit %v", a, b)
		}
	}
	return s, nil
}

// operand returns the name of tensor i as an operand beside others of that
// rank, in that order of axes.
func (l *lowering) operand(i, rank int, lay layout) string {
	v := l.value(i)
	lead := rank - len(v.shape)
	if lay == asFile || rank != 4 || lead <= 0 || lead == 4 {
		return l.plain(i, lay)
	}
	if n, err := v.shape.Elements(); err == nil && n == 1 {
		return l.plain(i, asFile)
	}
	if v.raw != nil {
		return l.constantForm(i, v, lead, toNCHW)
	}
	front := make([]int, lead)
	for k := range front {
		front[k] = k
	}
	return l.emit("Transpose", attrs{"perm": toNCHW}, l.emit("Unsqueeze", nil, l.plain(i, asFile), l.ints(front...)))
}

// operands returns the names of tensors that an operator sees one element at
// a time, the order in which it sees them, and the shape of its result.
func (l *lowering) operands(o *op, tensors ...int) (names []string, lay layout, shape model.Shape, err error) {
	shape = model.Shape{}
	for _, i := range tensors {
		if shape, err = broadcast(o, shape, l.shape(i)); err != nil {
			return nil, 0, nil, err
		}
	}
	if len(shape) == 4 {
		lay = l.follow(tensors...)
	}
	for _, i := range tensors {
		names = append(names, l.operand(i, len(shape), lay))
	}
	return names, lay, shape, l.err
}

// single returns the function for an operator of one input.
func single(f func(l *lowering, o *op, x string) string) lowerFunc {
	return func(l *lowering, o *op) error {
		lay := l.follow(o.in[0])
		l.define(o.out[0], f(l, o, l.plain(o.in[0], lay)), lay, l.shape(o.in[0]))
		return l.err
	}
}

// same is for operators that ONNX has under another name.
func same(name string) lowerFunc {
	return single(func(l *lowering, _ *op, x string) string { return l.emit(name, nil, x) })
}

// clipped is for activations that are bounds.
func clipped(lo, hi float32) lowerFunc {
	return single(func(l *lowering, _ *op, x string) string { return l.clip(x, lo, hi) })
}

// double returns the function for an operator of two inputs and an
// activation, which is field 0 of its options where fused is set.
func double(f func(l *lowering, o *op, a, b string) string, fused bool) lowerFunc {
	return func(l *lowering, o *op) error {
		in, lay, shape, err := l.operands(o, o.in[0], o.in[1])
		if err != nil {
			return err
		}
		y := f(l, o, in[0], in[1])
		if fused {
			y = l.activate(y, o.options.int8(0, 0))
		}
		l.define(o.out[0], y, lay, shape)
		return l.err
	}
}

func pair(name string, fused bool) lowerFunc {
	return double(func(l *lowering, _ *op, a, b string) string { return l.emit(name, nil, a, b) }, fused)
}

// flipped is pair followed by Not.
func flipped(name string) lowerFunc {
	return double(func(l *lowering, _ *op, a, b string) string { return l.emit("Not", nil, l.emit(name, nil, a, b)) }, false)
}

// squaredDifference is (a-b)^2.
func squaredDifference(l *lowering, _ *op, a, b string) string {
	d := l.emit("Sub", nil, a, b)
	return l.emit("Mul", nil, d, d)
}

// integral reports whether tensor i is of integers that stand for themselves.
func (l *lowering) integral(i int) bool {
	t := l.f.tensors[i].dtype()
	return l.activation(i) == nil && t != model.F32 && t != model.F64 && t != model.F16 && t != model.BF16
}

// floorDiv rounds towards minus infinity. ONNX's Div of integers rounds
// towards zero, which is the same where nothing is negative; else the
// remainder, which has the divisor's sign, goes off first.
func floorDiv(l *lowering, o *op, a, b string) string {
	switch {
	case !l.integral(o.in[0]):
		return l.emit("Floor", nil, l.emit("Div", nil, a, b))
	case l.positive(o.in[0]) && l.positive(o.in[1]):
		return l.emit("Div", nil, a, b)
	}
	return l.emit("Div", nil, l.emit("Sub", nil, a, l.emit("Mod", nil, a, b)), b)
}

// floorMod is the remainder with the divisor's sign.
func floorMod(l *lowering, o *op, a, b string) string {
	if l.integral(o.in[0]) {
		return l.emit("Mod", nil, a, b)
	}
	return l.emit("Sub", nil, a, l.emit("Mul", nil, l.emit("Floor", nil, l.emit("Div", nil, a, b)), b))
}

// positive reports whether no element of tensor i is negative, as far as is
// known.
func (l *lowering) positive(i int) bool {
	if list, ok := l.known(i); ok {
		return !slices.ContainsFunc(list, func(v int) bool { return v < 0 })
	}
	return l.value(i).positive
}

// lowerFloorDiv keeps the knowledge that a result is not negative.
func lowerFloorDiv(l *lowering, o *op) error {
	err := double(floorDiv, false)(l, o)
	if err == nil && l.integral(o.in[0]) {
		l.values[o.out[0]].positive = l.positive(o.in[0]) && l.positive(o.in[1])
	}
	return err
}

// lowerSelect is that of SELECT_V2, and of SELECT where its condition has
// the rank of the others.
func lowerSelect(l *lowering, o *op) error {
	if c, x := l.shape(o.in[0]), l.shape(o.in[1]); o.name == "SELECT" && len(c) == 1 && len(x) > 1 {
		return refuse("a condition %v for each row of %v", c, x)
	}
	in, lay, shape, err := l.operands(o, o.in[:3]...)
	if err != nil {
		return err
	}
	l.define(o.out[0], l.emit("Where", nil, in...), lay, shape)
	return l.err
}

// lowerPRelu is that of PRELU, whose slopes are broadcast to the input.
func lowerPRelu(l *lowering, o *op) error {
	in, lay, shape, err := l.operands(o, o.in[0], o.in[1])
	if err != nil {
		return err
	}
	l.define(o.out[0], l.emit("PRelu", nil, in...), lay, shape)
	return l.err
}

// lowerCast is that of CAST, which turns the integers of a quantised tensor
// as they are.
func lowerCast(l *lowering, o *op) error {
	v, to := l.value(o.in[0]), l.f.tensors[o.out[0]].dtype()
	if list, ok := l.known(o.in[0]); ok && (to == model.I32 || to == model.I64) {
		l.fold(o.out[0], list, v.shape)
		return l.err
	}
	if l.activation(o.out[0]) != nil || (v.quant != nil && v.raw != nil) {
		return refuse("a quantised constant, or a quantised result")
	}
	lay := l.follow(o.in[0])
	x := ""
	if v.quant == nil {
		x = l.plain(o.in[0], lay)
	} else {
		if lay = asFile; v.whole[lay] == "" {
			lay = nchw
		}
		x = v.whole[lay]
	}
	y := l.cast(x, to)
	positive := v.positive
	l.define(o.out[0], y, lay, v.shape).positive = positive
	return l.err
}

// lowerQuantize is that of QUANTIZE: define does the rest.
func lowerQuantize(l *lowering, o *op) error {
	if l.activation(o.out[0]) == nil {
		return refuse("a result of type %v without one scale", l.f.tensors[o.out[0]].dtype())
	}
	lay := l.follow(o.in[0])
	l.define(o.out[0], l.plain(o.in[0], lay), lay, l.shape(o.in[0]))
	return l.err
}

// lowerDequantize is that of DEQUANTIZE. A quantised tensor has its floats
// already, and a float16 constant its Cast.
func lowerDequantize(l *lowering, o *op) error {
	v := l.value(o.in[0])
	if l.err != nil {
		return l.err
	}
	if v.raw == nil && l.f.tensors[o.in[0]].dtype() == model.F16 {
		lay := l.follow(o.in[0])
		l.define(o.out[0], l.cast(l.plain(o.in[0], lay), model.F32), lay, v.shape)
		return l.err
	}
	l.alias(o.out[0], o.in[0])
	return l.err
}

// lowerSoftmax is that of SOFTMAX, over the last axis.
func lowerSoftmax(l *lowering, o *op) error {
	x := l.plain(o.in[0], asFile)
	if beta := o.options.float32(0, 1); beta != 1 {
		x = l.emit("Mul", nil, x, l.number(beta))
	}
	l.define(o.out[0], l.emit("Softmax", attrs{"axis": int64(-1)}, x), asFile, l.shape(o.in[0]))
	return l.err
}

// lastAxis is for operators over the last axis that need no options.
func lastAxis(name string, a attrs) lowerFunc {
	return func(l *lowering, o *op) error {
		with := attrs{"axis": int64(-1)}
		for k, v := range a {
			with[k] = v
		}
		y := l.emit(name, with, l.plain(o.in[0], asFile))
		l.define(o.out[0], y, asFile, l.shape(o.in[0]))
		return l.err
	}
}
