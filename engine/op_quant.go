package engine

import (
	"fmt"

	"dunlin/kernels"
	"dunlin/model"
)

// quantAttrs are the attributes that dunlin's integer operators carry: the
// scales and zero points of their first input x and their output y, and the
// bounds of y, which are an activation. dunlin.QAdd has a second input, b.
type quantAttrs struct {
	xScale, yScale, bScale float32
	xZero, yZero, bZero    int32
	lo, hi                 int8
}

func attrsOf(n *model.Node) quantAttrs {
	return quantAttrs{
		xScale: n.Float("x_scale", 0), yScale: n.Float("y_scale", 0), bScale: n.Float("b_scale", 0),
		xZero: int32(n.Int("x_zero", 0)), yZero: int32(n.Int("y_zero", 0)), bZero: int32(n.Int("b_zero", 0)),
		lo: int8(n.Int("lo", -128)), hi: int8(n.Int("hi", 127)),
	}
}

func (q quantAttrs) put(attrs map[string]model.Attr) {
	for name, v := range map[string]float32{"x_scale": q.xScale, "y_scale": q.yScale, "b_scale": q.bScale} {
		if v != 0 {
			attrs[name] = v
		}
	}
	attrs["x_zero"], attrs["y_zero"], attrs["b_zero"] = int64(q.xZero), int64(q.yZero), int64(q.bZero)
	attrs["lo"], attrs["hi"] = int64(q.lo), int64(q.hi)
}

// requant returns the zero point and bounds of the output; scales are added
// by the caller.
func (q quantAttrs) requant() kernels.Requant {
	return kernels.Requant{Zero: q.yZero, Min: q.lo, Max: q.hi}
}

// along is how a per-axis scale runs over a tensor: block elements share one.
func along(c *call, scales int) (axis, block int, err error) {
	if scales == 1 && len(c.shape(1)) == 0 {
		return 0, 0, nil
	}
	s := c.shape(0)
	if scales == 1 && len(c.shape(1)) == 1 && (len(s) < 2 || c.node.Attrs["axis"] == nil) {
		return 0, 0, nil
	}
	if len(c.shape(1)) > 1 {
		return 0, 0, notYet(fmt.Sprintf("scales %v, one a block; one a tensor or a channel is supported", c.shape(1)))
	}
	if axis, err = c.axis("axis", 1, len(s)); err != nil {
		return 0, 0, err
	}
	if s[axis] != scales {
		if scales == 1 {
			return 0, 0, nil
		}
		return 0, 0, fmt.Errorf("%d scales for axis %d of %v", scales, axis, s)
	}
	block, err = s[axis+1:].Elements()
	return axis, block, err
}

// scaleZero checks the scale and zero point of a quantising node.
func scaleZero(c *call) error {
	if err := c.want(1, model.F32); err != nil {
		return err
	}
	n, err := c.shape(1).Elements()
	if err != nil || n < 1 {
		return fmt.Errorf("scales %v", c.shape(1))
	}
	if _, _, err := along(c, n); err != nil {
		return err
	}
	if c.has(2) {
		if m, err := c.shape(2).Elements(); err != nil || m != n {
			return fmt.Errorf("zero points %v for scales %v", c.shape(2), c.shape(1))
		}
	}
	return nil
}

func inferQuantize(c *call) error {
	if err := c.want(0, model.F32); err != nil {
		return err
	}
	if err := c.want(2, model.I8, model.U8); err != nil {
		return notYet(err.Error())
	}
	if err := scaleZero(c); err != nil {
		return err
	}
	t := model.U8
	if c.has(2) {
		t = c.in[2].Type
	}
	return c.set(t, c.shape(0)...)
}

func inferDequantize(c *call) error {
	if err := c.want(0, model.I8, model.U8, model.I32); err != nil {
		return notYet(err.Error())
	}
	if err := c.want(2, c.in[0].Type); err != nil {
		return err
	}
	if err := scaleZero(c); err != nil {
		return err
	}
	return c.set(model.F32, c.shape(0)...)
}

// channels calls f for each run of elements that share a scale, with that
// scale's number.
func channels(total, scales, block int, f func(channel, from, to int)) {
	if block == 0 {
		f(0, 0, total)
		return
	}
	for at := 0; at < total; at += block {
		f(at/block%scales, at, at+block)
	}
}

func lowerQuantize(c *call) (*kernel, error) {
	n, _ := c.shape(1).Elements()
	_, block, err := along(c, n)
	if err != nil {
		return nil, err
	}
	k := named("quantize")
	if c.out[0].Type == model.I8 {
		k.tier, k.bind = quantizer(c.target, n, block, (*model.Tensor).I8)
	} else {
		k.tier, k.bind = quantizer(c.target, n, block, (*model.Tensor).U8)
	}
	return k, nil
}

func quantizer[T int8 | uint8](target kernels.Target, scales, block int, view func(*model.Tensor) []T) (kernels.Tier, binder) {
	tier, quantize := kernels.Quantizer[T](target)
	return tier, quantizing(quantize, scales, block, view)
}

func quantizing[T int8 | uint8](quantize func(out []T, in []float32, scale float32, zero T), scales, block int, view func(*model.Tensor) []T) binder {
	return func(in, out []*model.Tensor, _ []byte) func() error {
		x, scale, y := in[0].F32(), in[1].F32(), view(out[0])
		zero := make([]T, scales)
		if len(in) > 2 && in[2] != nil {
			zero = view(in[2])
		}
		part := func(ch, from, to int) { quantize(y[from:to], x[from:to], scale[ch], zero[ch]) }
		return func() error { channels(len(x), scales, block, part); return nil }
	}
}

// inferQuantizePlanes is that of dunlin.QuantizePlanes: [N, C, axes...] float32
// becomes [N, axes..., C] int8. Scale and zero point are one constant each.
func inferQuantizePlanes(c *call) error {
	if err := c.want(0, model.F32); err != nil {
		return err
	}
	s := c.shape(0)
	if !spatialRank(s) {
		return fmt.Errorf("planes of %v", s)
	}
	return c.set(model.I8, append(append(model.Shape{s[0]}, s[2:]...), s[1])...)
}

func lowerQuantizePlanes(c *call) (*kernel, error) {
	tier, quantize := kernels.QuantizePlanes(c.target)
	batch, planes := c.shape(0)[0], c.shape(0)[1]
	scale, zero := c.constant(1).F32()[0], int8(0)
	if z := c.constant(2); z != nil {
		zero = z.I8()[0]
	}
	return &kernel{name: "quantize-planes", tier: tier, bind: func(in, out []*model.Tensor, _ []byte) func() error {
		x, y := in[0].F32(), out[0].I8()
		n := len(x) / max(batch, 1)
		return func() error {
			for i := range batch {
				quantize(y[i*n:(i+1)*n], x[i*n:(i+1)*n], planes, scale, zero)
			}
			return nil
		}
	}}, nil
}

func lowerDequantize(c *call) (*kernel, error) {
	n, _ := c.shape(1).Elements()
	_, block, err := along(c, n)
	if err != nil {
		return nil, err
	}
	k := named("dequantize")
	switch c.in[0].Type {
	case model.I8:
		k.tier, k.bind = dequantizer(c.target, n, block, (*model.Tensor).I8)
	case model.U8:
		k.tier, k.bind = dequantizer(c.target, n, block, (*model.Tensor).U8)
	default:
		k.tier, k.bind = dequantizer(c.target, n, block, (*model.Tensor).I32)
	}
	return k, nil
}

func dequantizer[T int8 | uint8 | int32](target kernels.Target, scales, block int, view func(*model.Tensor) []T) (kernels.Tier, binder) {
	tier, dequantize := kernels.Dequantizer[T](target)
	return tier, dequantizing(dequantize, scales, block, view)
}

func dequantizing[T int8 | uint8 | int32](dequantize func(out []float32, in []T, scale float32, zero T), scales, block int, view func(*model.Tensor) []T) binder {
	return func(in, out []*model.Tensor, _ []byte) func() error {
		x, scale, y := view(in[0]), in[1].F32(), out[0].F32()
		zero := make([]T, scales)
		if len(in) > 2 && in[2] != nil {
			zero = view(in[2])
		}
		part := func(ch, from, to int) { dequantize(y[from:to], x[from:to], scale[ch], zero[ch]) }
		return func() error { channels(len(x), scales, block, part); return nil }
	}
}

func inferQAdd(c *call) error {
	for i := range 2 {
		if err := c.want(i, model.I8); err != nil {
			return err
		}
	}
	if !c.shape(0).Equal(c.shape(1)) {
		return fmt.Errorf("integer sum of %v and %v", c.shape(0), c.shape(1))
	}
	return inferSame(c)
}

func lowerQAdd(c *call) (*kernel, error) {
	q := attrsOf(c.node)
	s, err := kernels.PackAddInt8(c.target, kernels.Multiplier(q.xScale, 1, q.yScale), int8(q.xZero),
		kernels.Multiplier(q.bScale, 1, q.yScale), int8(q.bZero), q.requant())
	if err != nil {
		return nil, err
	}
	return &kernel{name: "add-int8", tier: s.Tier(), bind: func(in, out []*model.Tensor, _ []byte) func() error {
		a, b, y := in[0].I8(), in[1].I8(), out[0].I8()
		return func() error { s.Run(y, a, b); return nil }
	}}, nil
}

func lowerRequant(c *call) (*kernel, error) {
	q := attrsOf(c.node)
	out := q.requant()
	out.Scale = []float32{kernels.Multiplier(q.xScale, 1, q.yScale)}
	r, err := kernels.PackRequantInt8(int8(q.xZero), out)
	if err != nil {
		return nil, err
	}
	k := named("requantize")
	k.bind = int8s(func(out, in []int8, _ []byte) { r.Run(out, in) })
	return k, nil
}

func inferFlipSign(c *call) error {
	switch c.in[0].Type {
	case model.I8:
		return c.set(model.U8, c.shape(0)...)
	case model.U8:
		return c.set(model.I8, c.shape(0)...)
	}
	return c.want(0, model.I8, model.U8)
}

func lowerFlipSign(c *call) (*kernel, error) {
	k := named("flip-sign")
	k.bind = moves(kernels.FlipSign)
	return k, nil
}
