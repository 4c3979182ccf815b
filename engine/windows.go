package engine

import (
	"fmt"
	"math"

	"dunlin/kernels"
	"dunlin/model"
)

// checkPads returns why the attributes that convolutions and pools share
// cannot be used.
func checkPads(n *model.Node) string {
	switch pad := n.Str("auto_pad", "NOTSET"); pad {
	case "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER":
	default:
		return fmt.Sprintf("auto_pad %q is unknown", pad)
	}
	if k := n.Ints("kernel_shape"); k != nil && (len(k) < 1 || len(k) > 3) {
		return fmt.Sprintf("kernel with %d axes; 1 to 3 are supported", len(k))
	}
	for _, p := range n.Ints("pads") {
		if p < 0 {
			return fmt.Sprintf("pads %v are negative", n.Ints("pads"))
		}
	}
	return ""
}

// windows is how the kernel of a convolution or pool goes over each spatial
// axis: what Conv's attributes say.
type windows struct{ in, kernel, stride, dilation, before, end, out []int }

// windowsOf reads the attributes strides, dilations, pads, auto_pad and
// ceil_mode for a kernel of that size over axes of these lengths.
func windowsOf(n *model.Node, in, kernel []int) (w windows, err error) {
	w.in, w.kernel = in, kernel
	if len(in) != len(kernel) {
		return w, fmt.Errorf("a kernel of %d axes over %d", len(kernel), len(in))
	}
	if w.stride, err = positive(n, "strides", len(in)); err != nil {
		return w, err
	}
	if w.dilation, err = positive(n, "dilations", len(in)); err != nil {
		return w, err
	}
	pads, err := padsOf(n, len(in))
	if err != nil {
		return w, err
	}
	auto, ceil := n.Str("auto_pad", "NOTSET"), n.Int("ceil_mode", 0) == 1
	for i := range in {
		out, before, end, err := extent(in[i], kernel[i], w.stride[i], w.dilation[i], pads[i], pads[len(in)+i], auto, ceil)
		if err != nil {
			return w, err
		}
		w.out, w.before, w.end = append(w.out, out), append(w.before, int(before)), append(w.end, end)
	}
	return w, nil
}

// padsOf returns the padding before each axis, and that behind each.
func padsOf(n *model.Node, axes int) ([]int64, error) {
	pads := n.Ints("pads")
	if pads == nil || n.Str("auto_pad", "NOTSET") != "NOTSET" {
		return make([]int64, 2*axes), nil
	}
	if len(pads) != 2*axes {
		return nil, fmt.Errorf("pads %v for %d axes", pads, axes)
	}
	for _, p := range pads {
		if p < 0 || p > math.MaxInt32 {
			return nil, fmt.Errorf("pads %v", pads)
		}
	}
	return pads, nil
}

// positive returns an attribute of so many positive integers, 1 each where it
// is absent.
func positive(n *model.Node, name string, count int) ([]int, error) {
	v := n.Ints(name)
	if v == nil {
		return repeat(1, count), nil
	}
	list := make([]int, len(v))
	for i, x := range v {
		if x < 1 || x > math.MaxInt32 {
			return nil, fmt.Errorf("%s %v", name, v)
		}
		list[i] = int(x)
	}
	if len(v) != count {
		return nil, fmt.Errorf("%s %v for %d axes", name, v, count)
	}
	return list, nil
}

// geometry puts one or two axes into g.
func (w windows) geometry(g kernels.Geometry) kernels.Geometry {
	two := func(v []int, or int) (int, int) {
		if len(v) == 1 {
			return or, v[0]
		}
		return v[0], v[1]
	}
	g.H, g.W = two(w.in, 1)
	g.KH, g.KW = two(w.kernel, 1)
	g.StrideH, g.StrideW = two(w.stride, 1)
	g.DilationH, g.DilationW = two(w.dilation, 1)
	g.PadTop, g.PadLeft = two(w.before, 0)
	g.OH, g.OW = two(w.out, 1)
	return g
}

// volume puts up to three axes into v.
func (w windows) volume(v kernels.Volume) kernels.Volume {
	three := func(list []int, or int) (a [3]int) {
		a = [3]int{or, or, or}
		copy(a[3-len(list):], list)
		return a
	}
	v.In, v.Kernel, v.Stride, v.Dilation = three(w.in, 1), three(w.kernel, 1), three(w.stride, 1), three(w.dilation, 1)
	v.Before, v.End, v.Out = three(w.before, 0), three(w.end, 0), three(w.out, 1)
	return v
}

// extent returns the output's length along one axis, and the padding before
// and after: https://onnx.ai/onnx/operators/onnx__Conv.html, auto_pad.
func extent(in, kernel, stride, dilation int, before, after int64, auto string, ceil bool) (out int, start int64, end int, err error) {
	span := (int64(kernel)-1)*int64(dilation) + 1
	if auto == "SAME_UPPER" || auto == "SAME_LOWER" {
		n := (int64(in) + int64(stride) - 1) / int64(stride)
		pad := max(0, (n-1)*int64(stride)+span-int64(in))
		before, after = pad/2, pad-pad/2
		if auto == "SAME_LOWER" {
			before, after = after, before
		}
	}
	room := int64(in) + before + after - span
	if room < 0 {
		return 0, 0, 0, fmt.Errorf("kernel of %d, dilated to %d, does not fit %d padded by %d and %d", kernel, span, in, before, after)
	}
	n := room/int64(stride) + 1
	if ceil && room%int64(stride) != 0 && n*int64(stride) < int64(in)+before {
		n++ // the last window begins inside the picture or the padding before it
	}
	if n > math.MaxInt32 || before > math.MaxInt32 || after > math.MaxInt32 {
		return 0, 0, 0, fmt.Errorf("%d positions are too many", n)
	}
	return int(n), before, int(after), nil
}
