package train

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// geometry returns how a kernel of these lengths goes over x [N, C, H, W] or
// [N, C, W], and the padding behind each axis, from the attributes of n that
// convolutions and pools share. N is 1: the caller says how many pictures it
// takes at once. OC and Groups are the caller's as well.
func geometry(n *model.Node, x model.Shape, kernel []int) (g kernels.Geometry, endH, endW int, err error) {
	if len(x) != 3 && len(x) != 4 {
		return g, 0, 0, fmt.Errorf("%v has %d axes: %w", x, len(x), errRank)
	}
	axes := len(x) - 2
	if len(kernel) != axes {
		return g, 0, 0, fmt.Errorf("a kernel of %d axes over %d", len(kernel), axes)
	}
	var list [3][]int // strides, dilations, pads
	for i, a := range []struct {
		name   string
		length int
		or     int
	}{{"strides", axes, 1}, {"dilations", axes, 1}, {"pads", 2 * axes, 0}} {
		if list[i], err = attribute(n, a.name, a.length, a.or); err != nil {
			return g, 0, 0, err
		}
	}
	var at [2]extent // of H and W
	at[0] = extent{in: 1, out: 1, kernel: 1, stride: 1, dilation: 1}
	for i := range axes {
		e := extent{in: x[2+i], kernel: kernel[i], stride: list[0][i], dilation: list[1][i], before: list[2][i], end: list[2][axes+i]}
		if err := e.fit(n.Str("auto_pad", "NOTSET"), n.Int("ceil_mode", 0) == 1); err != nil {
			return g, 0, 0, err
		}
		at[2-axes+i] = e
	}
	h, w := at[0], at[1]
	g = kernels.Geometry{
		N: 1, H: h.in, W: w.in, C: x[1], OH: h.out, OW: w.out, OC: x[1], KH: h.kernel, KW: w.kernel,
		StrideH: h.stride, StrideW: w.stride, DilationH: h.dilation, DilationW: w.dilation,
		PadTop: h.before, PadLeft: w.before, Groups: 1,
	}
	return g, h.end, w.end, g.Check()
}

// attribute returns a list of that many integers, none below or, which is what
// an absent one holds.
func attribute(n *model.Node, name string, length, or int) ([]int, error) {
	v := n.Ints(name)
	if v == nil {
		return slices.Repeat([]int{or}, length), nil
	}
	if len(v) != length {
		return nil, fmt.Errorf("%s %v: %d numbers are needed", name, v, length)
	}
	list := make([]int, length)
	for i, k := range v {
		if k < int64(or) || k > math.MaxInt32 {
			return nil, fmt.Errorf("%s %v: %d", name, v, k)
		}
		list[i] = int(k)
	}
	return list, nil
}

// extent is a window along one axis.
type extent struct{ in, out, kernel, stride, dilation, before, end int }

// fit finds out, and with auto_pad the padding:
// https://onnx.ai/onnx/operators/onnx__Conv.html.
func (e *extent) fit(auto string, ceil bool) error {
	span := (e.kernel-1)*e.dilation + 1
	switch auto {
	case "NOTSET":
	case "VALID":
		e.before, e.end = 0, 0
	case "SAME_UPPER", "SAME_LOWER":
		n := (e.in + e.stride - 1) / e.stride
		pad := max(0, (n-1)*e.stride+span-e.in)
		e.before, e.end = pad/2, pad-pad/2
		if auto == "SAME_LOWER" {
			e.before, e.end = e.end, e.before
		}
	default:
		return fmt.Errorf("auto_pad %q is unknown", auto)
	}
	room := e.in + e.before + e.end - span
	if room < 0 {
		return fmt.Errorf("a kernel of %d, dilated to %d, does not fit %d padded by %d and %d", e.kernel, span, e.in, e.before, e.end)
	}
	e.out = room/e.stride + 1
	if ceil && room%e.stride != 0 && e.out*e.stride < e.in+e.before {
		e.out++ // the last window begins inside the picture or the padding before it
	}
	return nil
}

// spatial returns the lengths of the spatial axes of a result of n pictures in
// the graph's order.
func spatial(n, channels int, g *kernels.Geometry, like model.Shape) model.Shape {
	if len(like) == 3 {
		return model.Shape{n, channels, g.OW}
	}
	return model.Shape{n, channels, g.OH, g.OW}
}

var errRank = errors.New("train takes 1 or 2 spatial axes")
