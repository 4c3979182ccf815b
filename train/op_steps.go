package train

import (
	"fmt"
	"math"
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// The operators of a network that computes as its int8 form does. Its values
// are steps: whole numbers in float32, the int8 value less its zero point.
// Sums of products of steps are exact up to 2^24, so that Conv and Gemm of
// steps are the engine's integer operators, and what rounds, rounds as there.
// The gradient of rounding is that of the identity between the bounds, and 0
// outside: the straight-through estimator (Bengio, Léonard & Courville 2013,
// arXiv:1308.3432; in this form Jacob et al. 2018, arXiv:1712.05877).
const (
	opQuantize        = "dunlin.train.Quantize"        // real to steps: scale, lo, hi
	opQuantizeWeights = "dunlin.train.QuantizeWeights" // weights to steps: one scale for each of axis, limit
	opQuantizeBias    = "dunlin.train.QuantizeBias"    // the same; it does not decay
	opRequantize      = "dunlin.train.Requantize"      // sums to steps: multipliers, lo, hi
	opDequantize      = "dunlin.train.Dequantize"      // steps or sums to real: scales
	opAddSteps        = "dunlin.train.AddSteps"        // sum of steps of two scales: a, b, lo, hi
	opAverageSteps    = "dunlin.train.AverageSteps"    // mean over the picture: scale, lo, hi
)

// rounder is 1.5*2^23: adding it to a float32 of magnitude below 2^22 rounds
// half to even, as kernels.Requant does.
const rounder float32 = 12582912

// bounds are the least and the greatest step of a value.
type bounds struct{ lo, hi float32 }

func boundsOf(n *model.Node) bounds { return bounds{n.Float("lo", -128), n.Float("hi", 127)} }

// round returns v as a step. NaN gives lo, which keeps a network that diverges
// from spreading it; its loss tells.
func (b bounds) round(v float32) float32 {
	if !(v >= b.lo) {
		return b.lo
	}
	if v > b.hi {
		return b.hi
	}
	return float32(v+rounder) - rounder
}

// holds reports whether the gradient passes at v.
func (b bounds) holds(v float32) bool { return v >= b.lo && v <= b.hi }

// quantize is opQuantize: y = round(x/scale).
type quantize struct {
	bounds
	x     *port
	y     *value
	scale float32
}

func makeQuantize(c *call) (step, error) {
	x, err := c.read(0)
	if err != nil {
		return nil, err
	}
	s := &quantize{bounds: boundsOf(c.node), x: x, scale: c.node.Float("scale", 1)}
	s.y, err = c.write(0, x.shape, x.last)
	return s, err
}

func (s *quantize) forward(bool) {
	y := s.y.data
	for i, v := range s.x.data[:len(y)] {
		y[i] = s.round(v / s.scale)
	}
}

func (s *quantize) backward() {
	dx, dy := s.x.dx, s.y.grad
	for i, v := range s.x.data[:len(dx)] {
		dx[i] = 0
		if s.holds(v / s.scale) {
			dx[i] = dy[i] / s.scale
		}
	}
}

// dequantize is opDequantize: y = x*scale, of the channel or one for all.
type dequantize struct {
	x      *port
	y      *value
	scales []float32
}

func makeDequantize(c *call) (step, error) {
	x, scales, err := c.channelwise()
	if err != nil {
		return nil, err
	}
	s := &dequantize{x: x, scales: scales}
	s.y, err = c.write(0, x.shape, x.last)
	return s, err
}

func (s *dequantize) forward(bool) { multiply(s.y.data, s.x.data, s.scales) }
func (s *dequantize) backward()    { multiply(s.x.dx, s.y.grad, s.scales) }

// multiply writes x times the factor of each channel.
func multiply(y, x, by []float32) {
	for at := 0; at < len(y); at += len(by) {
		row := y[at:][:len(by)]
		for c, v := range x[at:][:len(by)] {
			row[c] = float32(v * by[c])
		}
	}
}

// channelwise returns input 0, channels last in memory, and input 1, constant
// factors: one for each channel, or one for all.
func (c *call) channelwise() (*port, []float32, error) {
	factors, err := c.tensor(1)
	if err != nil {
		return nil, nil, err
	}
	v, err := c.look(0)
	if err != nil {
		return nil, nil, err
	}
	if factors == nil || factors.Type != model.F32 || len(v.shape) == 0 || (factors.Elements() != 1 && factors.Elements() != channelsOf(v)) {
		return nil, nil, fmt.Errorf("%v has no factor for each channel", v.shape)
	}
	x, err := c.readIn(0, v.last || factors.Elements() > 1)
	if err != nil || factors.Elements() > 1 {
		return x, factors.F32(), err
	}
	// One factor is repeated along a line, which is quicker to go through.
	line := len(x.data)
	for line > 1<<10 && line%2 == 0 {
		line /= 2
	}
	return x, slices.Repeat(factors.F32(), line), nil
}

// quantizeWeights is opQuantizeWeights and opQuantizeBias: y = round(w/s) of
// the channel, computed in float64 as quant does it, within ±limit.
type quantizeWeights struct {
	w      *port
	y      *value
	scales []float32
	inner  int // elements side by side that have one scale
	limit  float64
}

func makeQuantizeWeights(c *call) (step, error) {
	w, err := c.readIn(0, false)
	if err != nil {
		return nil, err
	}
	scales, err := c.tensor(1)
	if err != nil {
		return nil, err
	}
	axis := int(c.node.Int("axis", 0))
	if scales == nil || scales.Type != model.F32 || axis < 0 || axis >= len(w.shape) || scales.Elements() != w.shape[axis] {
		return nil, fmt.Errorf("weights %v have no scale for each of axis %d", w.shape, axis)
	}
	s := &quantizeWeights{w: w, scales: scales.F32(), limit: float64(c.node.Float("limit", 127))}
	if s.inner, err = w.shape[axis+1:].Elements(); err != nil {
		return nil, err
	}
	s.y, err = c.write(0, w.shape, false)
	return s, err
}

// each calls f with the scale of each element.
func (s *quantizeWeights) each(f func(i int, scale float32)) {
	for i := range s.y.data {
		f(i, s.scales[i/s.inner%len(s.scales)])
	}
}

func (s *quantizeWeights) forward(bool) {
	w, y := s.w.data, s.y.data
	s.each(func(i int, scale float32) {
		y[i] = float32(kernels.WeightStep(w[i], scale, s.limit))
	})
}

func (s *quantizeWeights) backward() {
	w, dx, dy := s.w.data, s.w.dx, s.y.grad
	s.each(func(i int, scale float32) {
		dx[i] = 0
		if math.Abs(float64(w[i])/float64(scale)) <= s.limit+0.5 {
			dx[i] = dy[i] / scale
		}
	})
}

// requantize is opRequantize: y = round(x*m), m of the channel or one for all.
type requantize struct {
	bounds
	x     *port
	y     *value
	times []float32
}

func makeRequantize(c *call) (step, error) {
	x, times, err := c.channelwise()
	if err != nil {
		return nil, err
	}
	s := &requantize{bounds: boundsOf(c.node), x: x, times: times}
	s.y, err = c.write(0, x.shape, x.last)
	return s, err
}

// channelsOf returns the length of the axis that lies last in memory: axis 1
// of a picture, and the last one of a matrix.
func channelsOf(v *value) int {
	if len(v.shape) > 2 {
		return v.shape[1]
	}
	return v.shape[len(v.shape)-1]
}

func (s *requantize) forward(bool) {
	x, y, n := s.x.data, s.y.data, len(s.times)
	for at := 0; at < len(y); at += n {
		row := y[at:][:n]
		for c, v := range x[at:][:n] {
			row[c] = s.round(float32(v * s.times[c]))
		}
	}
}

func (s *requantize) backward() {
	x, dx, dy, n := s.x.data, s.x.dx, s.y.grad, len(s.times)
	for at := 0; at < len(dx); at += n {
		for c, v := range x[at:][:n] {
			dx[at+c] = 0
			if s.holds(float32(v * s.times[c])) {
				dx[at+c] = dy[at+c] * s.times[c]
			}
		}
	}
}

// addSteps is opAddSteps: y = round(a*ma + b*mb), each product rounded first,
// as kernels.AddInt8 does.
type addSteps struct {
	bounds
	a, b   *port
	y      *value
	ma, mb float32
}

func makeAddSteps(c *call) (step, error) {
	a, err := c.readIn(0, true)
	if err != nil {
		return nil, err
	}
	b, err := c.readIn(1, true)
	if err != nil {
		return nil, err
	}
	if !a.shape.Equal(b.shape) {
		return nil, fmt.Errorf("sum of steps of %v and %v", a.shape, b.shape)
	}
	s := &addSteps{bounds: boundsOf(c.node), a: a, b: b, ma: c.node.Float("a", 1), mb: c.node.Float("b", 1)}
	s.y, err = c.write(0, a.shape, true)
	return s, err
}

func (s *addSteps) sum(i int) float32 {
	return float32(s.a.data[i]*s.ma) + float32(s.b.data[i]*s.mb)
}

func (s *addSteps) forward(bool) {
	for i := range s.y.data {
		s.y.data[i] = s.round(s.sum(i))
	}
}

func (s *addSteps) backward() {
	for i, d := range s.y.grad {
		if !s.holds(s.sum(i)) {
			d = 0
		}
		if s.a.dx != nil {
			s.a.dx[i] = d * s.ma
		}
		if s.b.dx != nil {
			s.b.dx[i] = d * s.mb
		}
	}
}

// averageSteps is opAverageSteps: y = round(Σx * m) over the spatial axes, as
// kernels.AveragePool does it for a window that is the whole picture.
type averageSteps struct {
	bounds
	x                *port
	y                *value
	times            float32
	pixels, channels int
	sums             []float32
}

func makeAverageSteps(c *call) (step, error) {
	x, err := c.readIn(0, true)
	if err != nil {
		return nil, err
	}
	if len(x.shape) < 3 {
		return nil, fmt.Errorf("a mean over the pixels of %v", x.shape)
	}
	s := &averageSteps{bounds: boundsOf(c.node), x: x, channels: x.shape[1]}
	if s.pixels, err = x.shape[2:].Elements(); err != nil {
		return nil, err
	}
	s.times = float32(float64(c.node.Float("x_scale", 1)) / (float64(c.node.Float("y_scale", 1)) * float64(s.pixels)))
	shape := append(model.Shape{}, x.shape[:2]...)
	for range x.shape[2:] {
		shape = append(shape, 1)
	}
	if s.y, err = c.write(0, shape, true); err != nil {
		return nil, err
	}
	s.sums = floats(len(s.y.data))
	return s, nil
}

func (s *averageSteps) forward(bool) {
	clear(s.sums)
	for p := 0; p*s.channels < len(s.x.data); p++ {
		sums := s.sums[p/s.pixels*s.channels:][:s.channels]
		for c, v := range s.x.data[p*s.channels:][:s.channels] {
			sums[c] += v
		}
	}
	for i, v := range s.sums {
		s.y.data[i] = s.round(float32(v * s.times))
	}
}

func (s *averageSteps) backward() {
	for p := 0; p*s.channels < len(s.x.dx); p++ {
		at := p / s.pixels * s.channels
		for c := range s.channels {
			d := float32(0)
			if s.holds(float32(s.sums[at+c] * s.times)) {
				d = s.y.grad[at+c] * s.times
			}
			s.x.dx[p*s.channels+c] = d
		}
	}
}
