package engine

import (
	"fmt"
	"math"

	"dunlin/kernels"
	"dunlin/model"
)

// channelsLastAttr is set to 1 on nodes whose activations are NHWC: the pass
// "channels-last" does so. Convolutions and pools run only then.
const channelsLastAttr = "channels_last"

func isChannelsLast(n *model.Node) bool { return n.Int(channelsLastAttr, 0) == 1 }

// planes returns N, C, H, W of a 4-axis activation in the node's layout.
func planes(n *model.Node, s model.Shape) (batch, channels, height, width int) {
	if isChannelsLast(n) {
		return s[0], s[3], s[1], s[2]
	}
	return s[0], s[1], s[2], s[3]
}

// setPlanes gives output 0 the shape of an activation in the node's layout.
func (c *call) setPlanes(t model.DType, batch, channels, height, width int) error {
	if isChannelsLast(c.node) {
		return c.set(t, batch, height, width, channels)
	}
	return c.set(t, batch, channels, height, width)
}

func checkConv(n *model.Node) string { return checkPads(n) }

// checkPads returns why the attributes that convolutions and pools share
// cannot be used.
func checkPads(n *model.Node) string {
	switch pad := n.Str("auto_pad", "NOTSET"); pad {
	case "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER":
	default:
		return fmt.Sprintf("auto_pad %q is unknown", pad)
	}
	if k := n.Ints("kernel_shape"); k != nil && len(k) != 2 {
		return fmt.Sprintf("kernel with %d axes; 2 are supported", len(k))
	}
	for _, p := range n.Ints("pads") {
		if p < 0 {
			return fmt.Sprintf("pads %v are negative", n.Ints("pads"))
		}
	}
	return ""
}

// spatial works out a Geometry's kernel, strides, dilations, padding and
// output size from a node's attributes; kernel is the shape of the window.
// endH and endW are the padding below and to the right.
func spatial(n *model.Node, g kernels.Geometry) (_ kernels.Geometry, endH, endW int, err error) {
	pair := func(name string, or int64) ([2]int, error) {
		v := n.Ints(name)
		if v == nil {
			return [2]int{int(or), int(or)}, nil
		}
		if len(v) != 2 || v[0] < 1 || v[1] < 1 || v[0] > math.MaxInt32 || v[1] > math.MaxInt32 {
			return [2]int{}, fmt.Errorf("%s %v", name, v)
		}
		return [2]int{int(v[0]), int(v[1])}, nil
	}
	strides, err := pair("strides", 1)
	if err != nil {
		return g, 0, 0, err
	}
	dilations, err := pair("dilations", 1)
	if err != nil {
		return g, 0, 0, err
	}
	g.StrideH, g.StrideW, g.DilationH, g.DilationW = strides[0], strides[1], dilations[0], dilations[1]
	pads := n.Ints("pads")
	if pads == nil {
		pads = make([]int64, 4)
	}
	if len(pads) != 4 {
		return g, 0, 0, fmt.Errorf("pads %v", pads)
	}
	for _, p := range pads {
		if p < 0 || p > math.MaxInt32 {
			return g, 0, 0, fmt.Errorf("pads %v", pads)
		}
	}
	auto, ceil := n.Str("auto_pad", "NOTSET"), n.Int("ceil_mode", 0) == 1
	if auto == "VALID" {
		pads = make([]int64, 4)
	}
	var top, left int64
	g.OH, top, endH, err = extent(g.H, g.KH, g.StrideH, g.DilationH, pads[0], pads[2], auto, ceil)
	if err == nil {
		g.OW, left, endW, err = extent(g.W, g.KW, g.StrideW, g.DilationW, pads[1], pads[3], auto, ceil)
	}
	g.PadTop, g.PadLeft = int(top), int(left)
	return g, endH, endW, err
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

// convGeometry returns the geometry of Conv, dunlin.Conv and dunlin.QConv.
// Weights are [OC, C/groups, KH, KW] in every one.
func convGeometry(c *call) (kernels.Geometry, error) {
	x, w := c.shape(0), c.shape(1)
	if len(x) != 4 || len(w) != 4 {
		return kernels.Geometry{}, notYet(fmt.Sprintf("convolution of %v with %v; 4 axes are supported", x, w))
	}
	var g kernels.Geometry
	g.N, g.C, g.H, g.W = planes(c.node, x)
	g.OC, g.KH, g.KW = w[0], w[2], w[3]
	groups := c.node.Int("group", 1)
	if groups < 1 || groups > math.MaxInt32 || g.C%int(groups) != 0 || w[1] != g.C/int(groups) {
		return g, fmt.Errorf("weights %v do not fit %d channels in %d groups", w, g.C, groups)
	}
	g.Groups = int(groups)
	if k := c.node.Ints("kernel_shape"); k != nil && (len(k) != 2 || k[0] != int64(g.KH) || k[1] != int64(g.KW)) {
		return g, fmt.Errorf("kernel_shape %v does not fit weights %v", k, w)
	}
	g, _, _, err := spatial(c.node, g)
	if err != nil {
		return g, err
	}
	return g, g.Check()
}

func inferConv(c *call) error {
	t := c.in[0].Type
	if c.node.Op != "dunlin.QConv" {
		for i := range 3 {
			if err := c.want(i, model.F32); err != nil {
				return err
			}
		}
	}
	g, err := convGeometry(c)
	if err != nil {
		return err
	}
	if c.has(2) && (len(c.shape(2)) != 1 || c.shape(2)[0] != g.OC) {
		return fmt.Errorf("bias %v for %d channels", c.shape(2), g.OC)
	}
	return c.setPlanes(t, g.N, g.OC, g.OH, g.OW)
}

// clamp returns the activation that the pass "fuse" found.
func clamp(n *model.Node) kernels.Clamp {
	return kernels.Clamp{Min: n.Float("min", kernels.NoClamp.Min), Max: n.Float("max", kernels.NoClamp.Max)}
}

func lowerConv(c *call) (*kernel, error) {
	g, err := convGeometry(c)
	if err != nil {
		return nil, err
	}
	w, bias := c.constant(1), c.constant(2)
	if w == nil || (c.has(2) && (bias == nil || bias.Type != model.F32)) {
		return nil, notYet("weights and bias must be constants")
	}
	weights := kernels.WeightsF32{W: w.F32(), Clamp: clamp(c.node)}
	if bias != nil {
		weights.Bias = bias.F32()
	}
	macs := convMACs(g)
	if g.Depthwise() {
		d, err := kernels.PackDepthwiseF32(c.target, g, weights)
		if err != nil {
			return nil, err
		}
		return &kernel{
			name: "depthwise-f32", tier: d.Tier(), macs: macs, weights: d.Bytes(), scratch: d.Scratch(),
			bind: floats(d.Run),
		}, nil
	}
	weights.W = tapsFirst(weights.W, w.Shape)
	if g.Pointwise() {
		m, err := kernels.PackGEMMF32(c.target, g.OC, g.C, weights)
		if err != nil {
			return nil, err
		}
		return gemmF32Kernel("pointwise-f32", m, g.N*g.H*g.W), nil
	}
	v, err := kernels.PackConvF32(c.target, g, weights)
	if err != nil {
		return nil, err
	}
	return &kernel{
		name: "conv-f32", tier: v.Tier(), macs: macs, weights: v.Bytes(), scratch: v.Scratch(), bind: floats(v.Run),
	}, nil
}

// floats binds a kernel of one float input and one float output.
func floats(run func(out, in []float32, scratch []byte)) func(in, out []*model.Tensor, scratch []byte) func() error {
	return func(in, out []*model.Tensor, scratch []byte) func() error {
		x, y := in[0].F32(), out[0].F32()
		return func() error { run(y, x, scratch); return nil }
	}
}

// int8s binds a kernel of one int8 input and one int8 output.
func int8s(run func(out, in []int8, scratch []byte)) func(in, out []*model.Tensor, scratch []byte) func() error {
	return func(in, out []*model.Tensor, scratch []byte) func() error {
		x, y := in[0].I8(), out[0].I8()
		return func() error { run(y, x, scratch); return nil }
	}
}

func convMACs(g kernels.Geometry) int64 {
	return int64(g.N) * int64(g.OH) * int64(g.OW) * int64(g.OC) * int64(g.KH) * int64(g.KW) * int64(g.C/g.Groups)
}

// tapsFirst turns weights [OC, C, KH, KW] into [OC, KH, KW, C].
func tapsFirst[T any](w []T, s model.Shape) []T {
	oc, ch, taps := s[0], s[1], s[2]*s[3]
	if taps == 1 || ch == 1 {
		return w
	}
	out := make([]T, len(w))
	for o := range oc {
		for i := range ch {
			for k := range taps {
				out[(o*taps+k)*ch+i] = w[(o*ch+i)*taps+k]
			}
		}
	}
	return out
}

// lowerQConv makes an integer convolution of dunlin.QConv. Inputs: x int8, w
// int8, bias int32 or "", the weights' scales float32 [OC] or one, their zero
// points int8 or "". Attributes: the scales and zero points of x and y, and
// the bounds of y.
func lowerQConv(c *call) (*kernel, error) {
	g, err := convGeometry(c)
	if err != nil {
		return nil, err
	}
	w, err := quantWeights(c, g.OC)
	if err != nil {
		return nil, err
	}
	if g.Depthwise() {
		d, err := kernels.PackDepthwiseInt8(c.target, g, w)
		if err != nil {
			return nil, err
		}
		return &kernel{
			name: "depthwise-int8", tier: d.Tier(), macs: convMACs(g), weights: d.Bytes(), scratch: d.Scratch(),
			bind: int8s(d.Run),
		}, nil
	}
	w.W = tapsFirst(w.W, c.shape(1))
	if g.Pointwise() {
		m, err := kernels.PackGEMMInt8(c.target, g.OC, g.C, w)
		if err != nil {
			return nil, err
		}
		return gemmInt8Kernel("pointwise-int8", m, g.N*g.H*g.W), nil
	}
	v, err := kernels.PackConvInt8(c.target, g, w)
	if err != nil {
		return nil, err
	}
	return &kernel{
		name: "conv-int8", tier: v.Tier(), macs: convMACs(g), weights: v.Bytes(), scratch: v.Scratch(),
		bind: int8s(v.Run),
	}, nil
}

// quantWeights reads the constants of dunlin.QConv and dunlin.QGemm for n
// output channels.
func quantWeights(c *call, n int) (kernels.WeightsInt8, error) {
	var w kernels.WeightsInt8
	data, bias, scale, zero := c.constant(1), c.constant(2), c.constant(3), c.constant(4)
	if data == nil || data.Type != model.I8 || scale == nil || scale.Type != model.F32 ||
		(c.has(2) && (bias == nil || bias.Type != model.I32)) || (c.has(4) && (zero == nil || zero.Type != model.I8)) {
		return w, fmt.Errorf("integer weights, bias and scales must be constants of types int8, int32 and float32")
	}
	scales := scale.F32()
	if len(scales) != 1 && len(scales) != n {
		return w, fmt.Errorf("%d scales of weights for %d channels", len(scales), n)
	}
	q := attrsOf(c.node)
	w.InZero, w.W = int8(q.xZero), data.I8()
	if bias != nil {
		w.Bias = bias.I32()
	}
	if zero != nil {
		w.WZero = zero.I8()
		if len(w.WZero) == 1 {
			w.WZero = repeat(w.WZero[0], n)
		}
	}
	if q.yScale != 0 {
		w.Out = q.requant()
		for _, s := range scales {
			w.Out.Scale = append(w.Out.Scale, kernels.Multiplier(q.xScale, s, q.yScale))
		}
	}
	return w, nil
}

func repeat[T any](v T, n int) []T {
	s := make([]T, n)
	for i := range s {
		s[i] = v
	}
	return s
}
