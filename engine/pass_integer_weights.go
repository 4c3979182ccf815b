package engine

import (
	"fmt"
	"math"
	"slices"

	"dunlin/model"
)

// The rules of pass_integer.go for operators with weights.

// conv is the rule of Conv.
func (e *integers8) conv(n *model.Node) string {
	x, qx, why := e.input(n.In[0])
	if why != "" {
		return why
	}
	w, why := e.weights(n.In[1], 0)
	if why != "" {
		return why
	}
	if depth := w.data.Elements() / w.channels; depth > maxDepth {
		return fmt.Sprintf("a sum of %d products may not fit 32 bits", depth)
	}
	if len(w.data.Shape) > 4 {
		return "its kernel has three axes"
	}
	t, why := e.tail(n.Out[0], n.Input(2) == "")
	q := t.attrs(qx)
	if why != "" {
		if n.Int("group", 1) != 1 {
			return why
		}
		t = tail{out: n.Out[0]}
		q = quantAttrs{xScale: qx.scale, xZero: qx.zero, lo: -128, hi: 127}
	}
	bias, why := e.bias(n, t, qx, w)
	if why != "" {
		return why
	}
	e.replace(n, "dunlin.QConv", e.operands(n, x, w, bias), t, q,
		"kernel_shape", "strides", "pads", "dilations", "auto_pad", "group")
	return ""
}

// gemm is the rule of Gemm.
func (e *integers8) gemm(n *model.Node) string {
	if n.Int("transA", 0) != 0 || n.Float("alpha", 1) != 1 || n.Float("beta", 1) != 1 {
		return "it is transposed or scaled"
	}
	axis := 1
	if n.Int("transB", 0) != 0 {
		axis = 0
	}
	return e.product(n, axis)
}

// matMul is the rule of MatMul: with constant weights, or of two computed
// matrices, as in attention.
func (e *integers8) matMul(n *model.Node) string {
	if e.dequantizes(n.In[1]) == nil {
		return e.product(n, 1)
	}
	a, qa, why := e.input(n.In[0])
	if why != "" {
		return why
	}
	b, qb, why := e.input(n.In[1])
	if why != "" {
		return why
	}
	if s := e.Value(a).Shape; s[len(s)-1] > maxDepth {
		return fmt.Sprintf("a sum of %d products may not fit 32 bits", s[len(s)-1])
	}
	t, why := e.tail(n.Out[0], false)
	q := t.attrs(qa)
	if why != "" {
		t = tail{out: n.Out[0]}
		q = quantAttrs{xScale: qa.scale, xZero: qa.zero, lo: -128, hi: 127}
	}
	q.bScale, q.bZero = qb.scale, qb.zero
	e.replace(n, "dunlin.QMatMul", []string{a, b}, t, q)
	return ""
}

// product replaces a matrix product whose weights have output channels along
// axis. Without a QuantizeLinear behind it the sums become floats.
func (e *integers8) product(n *model.Node, axis int) string {
	x, qx, why := e.input(n.In[0])
	if why != "" {
		return why
	}
	w, why := e.weights(n.In[1], axis)
	if why != "" {
		return why
	}
	if len(w.data.Shape) != 2 {
		return fmt.Sprintf("its weights %v have not 2 axes", w.data.Shape)
	}
	if axis == 1 {
		t := *w.data
		t.Shape = model.Shape{w.data.Shape[1], w.data.Shape[0]}
		w.data = model.Of(model.I8, transposed(t.I8(), t.Shape[1], t.Shape[0]), t.Shape...)
	}
	if depth := w.data.Shape[1]; depth > maxDepth {
		return fmt.Sprintf("a sum of %d products may not fit 32 bits", depth)
	}
	t, why := e.tail(n.Out[0], n.Input(2) == "")
	if why == "" && e.Value(t.out).Type == model.I8 {
		bias, why := e.bias(n, t, qx, w)
		if why != "" {
			return why
		}
		e.replace(n, "dunlin.QGemm", e.operands(n, x, w, bias), t, t.attrs(qx))
		return ""
	}
	t = e.floatTail(n)
	bias, why := e.bias(n, t, qx, w)
	if why != "" {
		return why
	}
	e.replace(n, "dunlin.QGemm", e.operands(n, x, w, bias), t, quantAttrs{xScale: qx.scale, xZero: qx.zero, lo: -128, hi: 127})
	return ""
}

// floatTail is what an operator takes in whose sums become floats: the Add of
// a constant, where it has no bias yet and that is one a channel.
func (e *integers8) floatTail(n *model.Node) tail {
	t := tail{out: n.Out[0]}
	next := e.only(n.Out[0])
	if n.Input(2) != "" || next == nil || next.Op != "Add" {
		return t
	}
	other := next.In[0]
	if other == n.Out[0] {
		other = next.In[1]
	}
	shape := e.Value(other).Shape
	if !e.constantFloat(other) || len(shape) > len(e.Value(n.Out[0]).Shape) || !e.Value(next.Out[0]).Shape.Equal(e.Value(n.Out[0]).Shape) {
		return t
	}
	if count, err := shape.Elements(); err != nil || (len(shape) > 0 && shape[len(shape)-1] != count) {
		return t
	}
	return tail{bias: other, out: next.Out[0], nodes: []*model.Node{next}}
}

// weights8 are constant integer weights.
type weights8 struct {
	data     *model.Tensor // int8
	scale    []float32     // one, or one a channel
	zero     []int8        // likewise; nil where all are 0
	channels int
}

// at returns the scale of channel i.
func (w weights8) at(i int) float32 { return w.scale[i%len(w.scale)] }

// weights returns the int8 constant behind the DequantizeLinear that makes
// value, with output channels along axis.
func (e *integers8) weights(value string, axis int) (w weights8, why string) {
	d := e.made[value]
	if d == nil || d.Op != "DequantizeLinear" {
		return w, "its weights are not integers"
	}
	data, scale, zero := e.Const(d.In[0]), e.Const(d.In[1]), e.Const(d.Input(2))
	if data == nil || data.Type != model.I8 || scale == nil || scale.Type != model.F32 || (d.Input(2) != "" && zero == nil) {
		return w, "its weights are not a constant of int8"
	}
	if axis >= len(data.Shape) {
		return w, fmt.Sprintf("its weights are %v", data.Shape)
	}
	w = weights8{data: data, scale: scale.F32(), channels: data.Shape[axis]}
	if w.channels == 0 || (len(w.scale) != 1 && len(w.scale) != w.channels) {
		return w, fmt.Sprintf("its weights have %d scales for %d channels", len(w.scale), w.channels)
	}
	if len(w.scale) > 1 {
		if a, err := axisOf(d.Int("axis", 1), len(data.Shape)); err != nil || a != axis {
			return w, fmt.Sprintf("its weights' scales run along axis %d, its outputs along %d", d.Int("axis", 1), axis)
		}
	}
	for _, s := range w.scale {
		if !(s > 0) || math.IsInf(float64(s), 0) {
			return w, fmt.Sprintf("a scale of its weights is %v", s)
		}
	}
	if zero != nil && slices.ContainsFunc(zero.I8(), func(z int8) bool { return z != 0 }) {
		w.zero = zero.I8()
		if len(w.zero) == 1 {
			w.zero = repeat(w.zero[0], w.channels)
		}
	}
	return w, ""
}

// bias returns the bias of n, or that of its tail, in units of the scales of
// x and w; nil where there is none.
func (e *integers8) bias(n *model.Node, t tail, x quantisation, w weights8) (bias []int32, why string) {
	value := n.Input(2)
	if value == "" {
		value = t.bias
	}
	if value == "" {
		return nil, ""
	}
	tensor, scale, zero := e.Const(value), []float32{1}, int32(0)
	if d := e.made[value]; d != nil && d.Op == "DequantizeLinear" {
		tensor = e.Const(d.In[0])
		s := e.Const(d.In[1])
		if tensor == nil || s == nil || (d.Input(2) != "" && e.Const(d.Input(2)) == nil) {
			return nil, "its bias is no constant"
		}
		scale = s.F32()
		if z := e.Const(d.Input(2)); z != nil {
			values, err := integers(z)
			if err != nil || slices.ContainsFunc(values, func(v int64) bool { return v != values[0] }) {
				return nil, "its bias has zero points"
			}
			zero = int32(values[0])
		}
	}
	if tensor == nil {
		return nil, "its bias is no constant"
	}
	if m := tensor.Elements(); (m != w.channels && m != 1) || (len(scale) != 1 && len(scale) != m) || !alongChannels(n, tensor.Shape, w.channels, len(w.data.Shape)-2) {
		return nil, fmt.Sprintf("its bias %v is not one a channel", tensor.Shape)
	}
	reals, whole, err := biases(tensor, zero)
	if err != nil {
		return nil, err.Error()
	}
	bias = make([]int32, w.channels)
	room := float64(math.MaxInt32 - 255*255*(w.data.Elements()/w.channels)) // for the products
	for i := range bias {
		real := reals[i%len(reals)]
		unit := float64(x.scale) * float64(w.at(i))
		ratio := float64(scale[i%len(scale)]) / unit
		v := math.RoundToEven(real * ratio)
		if whole && math.Abs(ratio-1) < 1e-6 {
			v = real // quantised in these very units, but for the rounding of the scale
		}
		if !(math.Abs(v) <= room) {
			return nil, fmt.Sprintf("its bias %v does not fit 32 bits in units of %g", real, unit)
		}
		bias[i] = int32(v)
	}
	return bias, ""
}

// biases returns the elements of a bias less its zero point, and whether they
// are integers.
func biases(t *model.Tensor, zero int32) (values []float64, whole bool, err error) {
	if t.Type == model.F32 {
		for _, v := range t.F32() {
			values = append(values, float64(v))
		}
		return values, false, nil
	}
	list, err := integers(t)
	for _, v := range list {
		values = append(values, float64(v)-float64(zero))
	}
	return values, true, err
}

// alongChannels reports whether a tensor of that shape, broadcast to n's
// output, is one value a channel. spatial is how many axes a Conv's kernel has.
func alongChannels(n *model.Node, s model.Shape, channels, spatial int) bool {
	count, err := s.Elements()
	if err != nil || count == 1 || len(s) == 1 && (n.Op != "Conv" || n.Input(2) != "") {
		return err == nil
	}
	axis := len(s) - 1
	if n.Op == "Conv" {
		axis = len(s) - 1 - spatial
	}
	return axis >= 0 && s[axis] == channels
}

// operands returns the inputs of dunlin.QConv and dunlin.QGemm.
func (e *integers8) operands(n *model.Node, x string, w weights8, bias []int32) []string {
	in := []string{x, e.constant(n.In[1], "w", w.data), "", e.constant(n.In[1], "scale", model.Of(model.F32, w.scale, len(w.scale)))}
	if bias != nil {
		in[2] = e.constant(n.Name, "bias", model.Of(model.I32, bias, len(bias)))
	}
	if w.zero != nil {
		in = append(in, e.constant(n.In[1], "zero", model.Of(model.I8, w.zero, len(w.zero))))
	}
	return in
}
