package engine

import (
	"fmt"
	"math"

	"dunlin/kernels"
	"dunlin/model"
)

// transposedVolume returns the shape of a ConvTranspose, whose weights are
// [C, OC/groups, kernel...]. The output's length along an axis is
//
//	stride*(in-1) + output_padding + dilated kernel - padding
//
// or output_shape, which then says what the padding is; so does auto_pad,
// which makes it in*stride. What is odd goes to the end, but for SAME_LOWER:
// https://onnx.ai/onnx/operators/onnx__ConvTranspose.html
func transposedVolume(c *call) (v kernels.Volume, err error) {
	x, w, n := c.shape(0), c.shape(1), c.node
	if len(x) < 3 || len(x) > 5 || len(w) != len(x) {
		return v, notYet(fmt.Sprintf("transposed convolution of %v with %v; 3 to 5 axes are supported", x, w))
	}
	var space []int
	v.N, v.C, space = planes(n, x)
	groups := n.Int("group", 1)
	if groups < 1 || groups > math.MaxInt32 || v.C%int(groups) != 0 || w[0] != v.C || w[1] > math.MaxInt32/int(groups) {
		return v, fmt.Errorf("weights %v do not fit %d channels in %d groups", w, v.C, groups)
	}
	v.Groups, v.OC = int(groups), w[1]*int(groups)
	axes := len(space)
	win := windows{in: space, kernel: w[2:]}
	if win.stride, err = positive(n, "strides", axes); err != nil {
		return v, err
	}
	if win.dilation, err = positive(n, "dilations", axes); err != nil {
		return v, err
	}
	pads, err := padsOf(n, axes)
	if err != nil {
		return v, err
	}
	extra, given := n.Ints("output_padding"), n.Ints("output_shape")
	if (extra != nil && len(extra) != axes) || (given != nil && len(given) != axes) {
		return v, fmt.Errorf("output_padding %v and output_shape %v for %d axes", extra, given, axes)
	}
	auto := n.Str("auto_pad", "NOTSET")
	same := auto == "SAME_UPPER" || auto == "SAME_LOWER"
	for i := range axes {
		before, after, more := pads[i], pads[axes+i], int64(0)
		if extra != nil {
			more = extra[i]
		}
		if more < 0 || more > math.MaxInt32 {
			return v, fmt.Errorf("output_padding %v", extra)
		}
		full := int64(win.stride[i])*(int64(space[i])-1) + more + (int64(w[2+i])-1)*int64(win.dilation[i]) + 1
		out := full - before - after
		if given != nil || same {
			out = int64(space[i]) * int64(win.stride[i])
			if given != nil {
				out = given[i]
			}
			total := max(0, full-out)
			before = total / 2
			if auto == "SAME_LOWER" {
				before = total - total/2
			}
		}
		if out < 1 || out > math.MaxInt32 {
			return v, fmt.Errorf("axis %d would have length %d", i, out)
		}
		win.out, win.before, win.end = append(win.out, int(out)), append(win.before, int(before)), append(win.end, 0)
	}
	v = win.volume(v)
	return v, v.Check()
}

func inferConvTranspose(c *call) error {
	for i := range 3 {
		if err := c.want(i, model.F32); err != nil {
			return err
		}
	}
	v, err := transposedVolume(c)
	if err != nil {
		return err
	}
	if c.has(2) && !c.shape(2).Equal(model.Shape{v.OC}) {
		return fmt.Errorf("bias %v for %d channels", c.shape(2), v.OC)
	}
	space := v.Out[3-(len(c.shape(0))-2):]
	return c.setPlanes(0, model.F32, v.N, v.OC, space)
}

func lowerConvTranspose(c *call) (*kernel, error) {
	v, err := transposedVolume(c)
	if err != nil {
		return nil, err
	}
	t, err := kernels.NewConvTranspose(v, float32s(c.constant(2)), clamp(c.node))
	if err != nil {
		return nil, err
	}
	if w := c.constant(1); w != nil {
		if err := t.Pack(c.target, w.F32()); err != nil {
			return nil, err
		}
	}
	k := &kernel{
		name: "convtranspose-f32", tier: t.Tier(), weights: t.Bytes(), scratch: t.Scratch(),
		macs: int64(v.N) * int64(v.InSize()) * int64(v.C) * int64(v.OC/v.Groups) * int64(v.Taps()),
	}
	k.bind = func(in, out []*model.Tensor, scratch []byte) func() error {
		x, w, y := in[0].F32(), in[1].F32(), out[0].F32()
		var bias []float32
		if len(in) > 2 {
			bias = float32s(in[2])
		}
		return func() error { t.Run(y, x, w, bias, scratch); return nil }
	}
	return k, nil
}
