package engine

import (
	"fmt"
	"math"
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// channelsLastAttr is set to 1 on nodes whose activations are NHWC: the pass
// "channels-last" does so. Convolutions and pools run only then.
const channelsLastAttr = "channels_last"

func isChannelsLast(n *model.Node) bool { return n.Int(channelsLastAttr, 0) == 1 }

// planes returns N, C and the spatial axes of an activation in the node's
// layout.
func planes(n *model.Node, s model.Shape) (batch, channels int, space []int) {
	if isChannelsLast(n) {
		return s[0], s[len(s)-1], s[1 : len(s)-1]
	}
	return s[0], s[1], s[2:]
}

// setPlanes gives output i the shape of an activation in the node's layout.
func (c *call) setPlanes(i int, t model.DType, batch, channels int, space []int) error {
	shape := append(model.Shape{batch, channels}, space...)
	if isChannelsLast(c.node) {
		shape = append(append(model.Shape{batch}, space...), channels)
	}
	c.out[i].Type, c.out[i].Shape = t, shape
	_, err := shape.Elements()
	return err
}

func checkConv(n *model.Node) string { return checkPads(n) }

// convShape is what a convolution's shapes and attributes say.
type convShape struct {
	batch, channels, outputs, groups int
	windows
}

// convOf reads Conv, dunlin.Conv, dunlin.QConv and ConvInteger. Weights are
// [OC, C/groups, kernel...] in every one.
func convOf(c *call) (s convShape, err error) {
	x, w := c.shape(0), c.shape(1)
	if len(x) < 3 || len(x) > 5 || len(w) != len(x) {
		return s, notYet(fmt.Sprintf("convolution of %v with %v; 3 to 5 axes are supported", x, w))
	}
	var space []int
	s.batch, s.channels, space = planes(c.node, x)
	s.outputs = w[0]
	groups := c.node.Int("group", 1)
	if groups < 1 || groups > math.MaxInt32 || s.channels%int(groups) != 0 || w[1] != s.channels/int(groups) {
		return s, fmt.Errorf("weights %v do not fit %d channels in %d groups", w, s.channels, groups)
	}
	s.groups = int(groups)
	if k := c.node.Ints("kernel_shape"); k != nil && !slices.EqualFunc(k, w[2:], func(a int64, b int) bool { return a == int64(b) }) {
		return s, fmt.Errorf("kernel_shape %v does not fit weights %v", k, w)
	}
	s.windows, err = windowsOf(c.node, space, w[2:])
	return s, err
}

// convGeometry returns the geometry of a convolution of one or two axes.
func convGeometry(c *call) (kernels.Geometry, error) {
	s, err := convOf(c)
	if err != nil {
		return kernels.Geometry{}, err
	}
	if len(s.in) > 2 {
		return kernels.Geometry{}, notYet(fmt.Sprintf("convolution of %v", c.shape(0)))
	}
	g := s.geometry(kernels.Geometry{N: s.batch, C: s.channels, OC: s.outputs, Groups: s.groups})
	return g, g.Check()
}

// convVolume returns the same for the kernels that take any of up to three
// axes.
func convVolume(c *call) (kernels.Volume, error) {
	s, err := convOf(c)
	if err != nil {
		return kernels.Volume{}, err
	}
	v := s.volume(kernels.Volume{N: s.batch, C: s.channels, OC: s.outputs, Groups: s.groups})
	return v, v.Check()
}

func inferConv(c *call) error {
	t := c.in[0].Type
	if c.node.Op != "dunlin.QConv" {
		for i := range 3 {
			if err := c.want(i, model.F32); err != nil {
				return err
			}
		}
	} else if attrsOf(c.node).yScale == 0 {
		t = model.F32
	}
	s, err := convOf(c)
	if err != nil {
		return err
	}
	if c.has(2) && (len(c.shape(2)) != 1 || c.shape(2)[0] != s.outputs) {
		return fmt.Errorf("bias %v for %d channels", c.shape(2), s.outputs)
	}
	if err := c.setPlanes(0, t, s.batch, s.outputs, s.out); err != nil || c.node.Op != "dunlin.Conv" {
		return err
	}
	return c.wantResidual()
}

// wantResidual fails where input 3, which is added to the result, is there and
// not of the result's shape.
func (c *call) wantResidual() error {
	if c.has(3) && !c.shape(3).Equal(c.out[0].Shape) {
		return fmt.Errorf("%v is added to %v", c.shape(3), c.out[0].Shape)
	}
	return c.want(3, model.F32)
}

// clamp returns the activation that the pass "fuse" found.
func clamp(n *model.Node) kernels.Clamp {
	return kernels.Clamp{Min: n.Float("min", kernels.NoClamp.Min), Max: n.Float("max", kernels.NoClamp.Max)}
}

func lowerConv(c *call) (*kernel, error) {
	w, bias := c.constant(1), c.constant(2)
	if w == nil || (c.has(2) && bias == nil) || len(c.shape(0)) > 4 {
		return lowerConvVolume(c)
	}
	g, err := convGeometry(c)
	if err != nil {
		return nil, err
	}
	weights := kernels.WeightsF32{W: w.F32(), Clamp: clamp(c.node)}
	if bias != nil {
		weights.Bias = bias.F32()
	}
	if g.Depthwise() {
		d, err := kernels.PackDepthwiseF32(c.target, g, weights)
		if err != nil {
			return nil, err
		}
		return depthwiseF32Kernel(d), nil
	}
	weights.W = tapsFirst(weights.W, w.Shape)
	if g.Pointwise() {
		m, err := c.packGEMMF32(g.N*g.H*g.W, g.OC, g.C, weights)
		if err != nil {
			return nil, err
		}
		return gemmF32Kernel("pointwise", m, g.N*g.H*g.W, c.has(3)), nil
	}
	v, err := kernels.PackConvF32(c.target, g, weights)
	if err != nil {
		return nil, err
	}
	return convF32Kernel(v, c.has(3)), nil
}

// floats binds a kernel of one float input and one float output.
func floats(run func(out, in []float32, scratch []byte)) func(in, out []*model.Tensor, scratch []byte) func() error {
	return func(in, out []*model.Tensor, scratch []byte) func() error {
		x, y := in[0].F32(), out[0].F32()
		return func() error { run(y, x, scratch); return nil }
	}
}

// addingFloats is floats for a kernel that adds input 3 to its result.
func addingFloats(run func(out, in, more []float32, scratch []byte)) binder {
	return func(in, out []*model.Tensor, scratch []byte) func() error {
		x, more, y := in[0].F32(), in[3].F32(), out[0].F32()
		return func() error { run(y, x, more, scratch); return nil }
	}
}

// int8s binds a kernel of one int8 input and one int8 output.
func int8s(run func(out, in []int8, scratch []byte)) func(in, out []*model.Tensor, scratch []byte) func() error {
	return func(in, out []*model.Tensor, scratch []byte) func() error {
		x, y := in[0].I8(), out[0].I8()
		return func() error { run(y, x, scratch); return nil }
	}
}

// lowerConvVolume is for computed weights, and for three spatial axes.
func lowerConvVolume(c *call) (*kernel, error) {
	v, err := convVolume(c)
	if err != nil {
		return nil, err
	}
	act := clamp(c.node)
	k := named("conv-any-f32")
	k.macs = int64(v.N) * int64(v.OutSize()) * int64(v.OC) * int64(v.Taps()) * int64(v.C/v.Groups)
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		x, w, y := in[0].F32(), in[1].F32(), out[0].F32()
		var bias []float32
		if len(in) > 2 {
			bias = float32s(in[2])
		}
		return func() error { v.ConvF32(y, x, w, bias, act); return nil }
	}
	return k, nil
}

func convMACs(g kernels.Geometry) int64 {
	return int64(g.N) * int64(g.OH) * int64(g.OW) * int64(g.OC) * int64(g.KH) * int64(g.KW) * int64(g.C/g.Groups)
}

// tapsFirst turns weights [OC, C, kernel...] into [OC, kernel..., C].
func tapsFirst[T any](w []T, s model.Shape) []T {
	oc, ch, taps := s[0], s[1], 1
	for _, d := range s[2:] {
		taps *= d
	}
	if taps == 1 || ch == 1 {
		return w
	}
	out := make([]T, len(w))
	for o := range oc {
		for k := range taps {
			to, from := out[(o*taps+k)*ch:][:ch], w[o*ch*taps+k:]
			for i := range to {
				to[i] = from[i*taps]
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
	if attrsOf(c.node).yScale == 0 {
		return lowerQConvFloat(c, g)
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
		return depthwiseInt8Kernel(d), nil
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
	return convInt8Kernel(v), nil
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
