package tflite

import (
	"dunlin/model"
)

// window is what convolutions and pools have in common: {height, width} each.
type window struct {
	kernel, stride, dilation [2]int
	same                     bool   // padding SAME, else VALID
	pads                     [4]int // zeros around the input beside that: top, left, bottom, right
}

// fit works out the length of the output and the padding along height (0) or
// width (1): TFLite's SAME makes ceil(in/stride) positions, with the smaller
// half of the padding in front.
func (w *window) fit(o *op, in, axis int) (out int, err error) {
	k, s, d := int64(w.kernel[axis]), int64(w.stride[axis]), int64(w.dilation[axis])
	if k < 1 || s < 1 || d < 1 {
		return 0, o.bad("kernel %d, stride %d, dilation %d", k, s, d)
	}
	if in == model.Unknown {
		return 0, refuse("its input's height or width is not known before the run")
	}
	span := (k-1)*d + 1
	if w.same {
		out := (int64(in) + s - 1) / s
		total := max(0, (out-1)*s+span-int64(in))
		w.pads[axis], w.pads[axis+2] = int(total/2), int(total-total/2)
		return int(out), nil
	}
	room := int64(in) + int64(w.pads[axis]) + int64(w.pads[axis+2]) - span
	if room < 0 {
		return 0, o.bad("a kernel of %d, dilated to %d, on %d", k, span, in)
	}
	return int(room/s) + 1, nil
}

func (w *window) attrs() attrs {
	return attrs{"kernel_shape": int64s(w.kernel[:]...), "strides": int64s(w.stride[:]...), "pads": int64s(w.pads[:]...)}
}

// padding is what a PAD operator put around another tensor's height and
// width: a convolution behind it takes it over.
type padding struct {
	from int
	pads [4]int
}

// batching is what a SPACE_TO_BATCH_ND operator did to another tensor: where
// a convolution and the inverse follow, the three are one dilated
// convolution.
type batching struct {
	from  int
	block [2]int
	pads  [4]int
}

// convolution is a CONV_2D or DEPTHWISE_CONV_2D.
type convolution struct {
	window
	o         *op // whose weights and bias it has
	depthwise bool
	from      int // the input
	fused     int8
}

func convOf(o *op, depthwise bool) *convolution {
	c := &convolution{o: o, depthwise: depthwise, from: o.in[0]}
	t, at := &o.options, 3 // fused_activation_function
	if depthwise {
		at = 4 // behind depth_multiplier
	}
	c.same = t.int8(0, 0) == 0
	c.stride = [2]int{int(t.int32(2, 0)), int(t.int32(1, 0))}
	c.fused = t.int8(at, 0)
	c.dilation = [2]int{int(t.int32(at+2, 1)), int(t.int32(at+1, 1))}
	return c
}

func lowerConv(l *lowering, o *op) error          { return l.convolve(convOf(o, false), o.out[0]) }
func lowerDepthwiseConv(l *lowering, o *op) error { return l.convolve(convOf(o, true), o.out[0]) }

// convolve adds the Conv, whose result is tensor out. TFLite's weights are
// [OC, KH, KW, IC], or for depthwise ones [1, KH, KW, OC] with output channel
// c*multiplier + m reading input channel c; ONNX's are [OC, IC/group, KH, KW].
func (l *lowering) convolve(c *convolution, out int) error {
	for !c.same && l.value(c.from).padded != nil {
		p := l.value(c.from).padded
		for i, n := range p.pads {
			c.pads[i] += n
		}
		c.from = p.from
	}
	x, w := l.value(c.from), l.value(c.o.in[1])
	if l.err != nil {
		return l.err
	}
	if len(x.shape) != 4 || len(w.shape) != 4 {
		return c.o.bad("a convolution of %v with %v", x.shape, w.shape)
	}
	c.kernel = [2]int{w.shape[1], w.shape[2]}
	perm, channels, group := toNCHW, w.shape[0], 1
	switch depth := x.shape[3]; {
	case depth < 1:
		return refuse("its channels are not known before the run")
	case c.depthwise && w.shape[0] == 1 && w.shape[3]%depth == 0:
		perm, channels, group = []int64{3, 0, 1, 2}, w.shape[3], depth
	case !c.depthwise && w.shape[3] > 0 && depth%w.shape[3] == 0:
		group = depth / w.shape[3]
	default:
		return c.o.bad("weights %v for %d channels", w.shape, depth)
	}
	if channels%group != 0 {
		return c.o.bad("weights %v in %d groups", w.shape, group)
	}
	h, err := c.fit(c.o, x.shape[1], 0)
	if err != nil {
		return err
	}
	width, err := c.fit(c.o, x.shape[2], 1)
	if err != nil {
		return err
	}
	a := c.attrs()
	a["dilations"], a["group"] = int64s(c.dilation[:]...), int64(group)
	in := []string{l.plain(c.from, nchw), l.weights(c.o.in[1], perm)}
	if b := c.o.input(2); b >= 0 {
		in = append(in, l.bias(b, x, w))
	}
	y := l.activate(l.emit("Conv", a, in...), c.fused)
	l.define(out, y, nchw, model.Shape{x.shape[0], h, width, channels})
	return l.err
}

// weights returns the name of tensor i with its axes in the order perm.
func (l *lowering) weights(i int, perm []int64) string {
	v := l.value(i)
	if v.raw != nil {
		return l.constantForm(i, v, 0, perm)
	}
	return l.emit("Transpose", attrs{"perm": perm}, l.plain(i, asFile))
}

// lowerTransposeConv is that of TRANSPOSE_CONV: the shape of the output, the
// weights [OC, KH, KW, IC], the input and a bias. ONNX's weights are
// [IC, OC, KH, KW].
func lowerTransposeConv(l *lowering, o *op) error {
	t := &o.options
	shape, w, x := l.constants(o.in[0], "shape"), l.value(o.in[1]), l.value(o.in[2])
	if l.err != nil {
		return l.err
	}
	if len(shape) != 4 || len(w.shape) != 4 || len(x.shape) != 4 {
		return o.bad("a convolution of %v with %v to %v", x.shape, w.shape, shape)
	}
	g := window{kernel: [2]int{w.shape[1], w.shape[2]}, stride: [2]int{int(t.int32(2, 0)), int(t.int32(1, 0))}}
	for axis := range 2 {
		in, out, k, s := x.shape[axis+1], shape[axis+1], g.kernel[axis], g.stride[axis]
		if in < 1 || out < 1 || k < 1 || s < 1 {
			return o.bad("%v with kernel %v, stride %v to %v", x.shape, g.kernel, g.stride, shape)
		}
		total := (in-1)*s + k - out // what of the full result is cut off
		if total < 0 {
			return refuse("its output %v is larger than all that it reaches", shape)
		}
		g.pads[axis], g.pads[axis+2] = total/2, total-total/2
	}
	in := []string{l.plain(o.in[2], nchw), l.weights(o.in[1], []int64{3, 0, 1, 2})}
	if b := o.input(3); b >= 0 {
		in = append(in, l.bias(b, x, w))
	}
	l.define(o.out[0], l.activate(l.emit("ConvTranspose", g.attrs(), in...), t.int8(3, 0)), nchw, shape)
	return l.err
}

// pool returns the function for a pool with that ONNX operator. Neither
// counts padding.
func pool(name string) lowerFunc {
	return func(l *lowering, o *op) error {
		t, x := &o.options, l.value(o.in[0])
		if len(x.shape) != 4 {
			return o.bad("a pool of %v", x.shape)
		}
		w := window{
			kernel: [2]int{int(t.int32(4, 0)), int(t.int32(3, 0))}, stride: [2]int{int(t.int32(2, 0)), int(t.int32(1, 0))},
			dilation: [2]int{1, 1}, same: t.int8(0, 0) == 0,
		}
		h, err := w.fit(o, x.shape[1], 0)
		if err != nil {
			return err
		}
		width, err := w.fit(o, x.shape[2], 1)
		if err != nil {
			return err
		}
		y := l.activate(l.emit(name, w.attrs(), l.plain(o.in[0], nchw)), t.int8(5, 0))
		l.define(o.out[0], y, nchw, model.Shape{x.shape[0], h, width, x.shape[3]})
		return l.err
	}
}

// lowerFullyConnected is that of FULLY_CONNECTED: whatever the shape of the
// input, rows of as many elements as the weights [OC, IC] have columns.
func lowerFullyConnected(l *lowering, o *op) error {
	t, x, w := &o.options, l.value(o.in[0]), l.value(o.in[1])
	if l.err != nil {
		return l.err
	}
	if t.int8(1, 0) != 0 {
		return refuse("weights shuffled for one CPU (weights_format %d)", t.int8(1, 0))
	}
	if len(w.shape) != 2 || w.shape[1] < 1 {
		return o.bad("weights %v", w.shape)
	}
	oc, ic := w.shape[0], w.shape[1]
	rows, lead := model.Unknown, model.Shape{model.Unknown}
	if n, err := x.shape.Elements(); err == nil {
		if n%ic != 0 {
			return o.bad("%v does not split into rows of %d", x.shape, ic)
		}
		rows, lead[0] = n/ic, n/ic
	}
	keep := t.bool(2) && len(x.shape) > 0
	if keep {
		lead = x.shape[:len(x.shape)-1]
	}
	row := l.plain(o.in[0], asFile)
	if len(x.shape) != 2 || x.shape[1] != ic {
		row = l.reshape(row, -1, ic)
	}
	in := []string{row, l.plain(o.in[1], asFile)}
	if b := o.input(2); b >= 0 {
		in = append(in, l.bias(b, x, w))
	}
	y := l.activate(l.emit("Gemm", attrs{"transB": int64(1)}, in...), t.int8(0, 0))
	shape := append(append(model.Shape{}, lead...), oc)
	if keep && len(shape) != 2 {
		if rows == model.Unknown {
			return refuse("its input %v is not known before the run", x.shape)
		}
		y = l.reshape(y, shape...)
	}
	l.define(o.out[0], y, asFile, shape)
	return l.err
}

// lowerBatchMatMul is that of BATCH_MATMUL; adj_x and adj_y swap the last two
// axes.
func lowerBatchMatMul(l *lowering, o *op) error {
	var in [2]string
	var s [2]model.Shape
	for i := range in {
		s[i] = append(model.Shape{}, l.shape(o.in[i])...)
		n := len(s[i])
		if n < 2 {
			return o.bad("a product of %v", s[i])
		}
		in[i] = l.plain(o.in[i], asFile)
		if o.options.bool(i) {
			perm := make([]int64, n)
			for k := range perm {
				perm[k] = int64(k)
			}
			perm[n-1], perm[n-2] = perm[n-2], perm[n-1]
			s[i][n-1], s[i][n-2] = s[i][n-2], s[i][n-1]
			in[i] = l.emit("Transpose", attrs{"perm": perm}, in[i])
		}
	}
	a, b := s[0], s[1]
	lead, err := broadcast(o, a[:len(a)-2], b[:len(b)-2])
	if err != nil {
		return err
	}
	l.define(o.out[0], l.emit("MatMul", nil, in[0], in[1]), asFile, append(lead, a[len(a)-2], b[len(b)-1]))
	return l.err
}
