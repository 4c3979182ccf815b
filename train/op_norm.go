package train

import (
	"fmt"
	"math"
)

// batchNorm normalises each channel over all other axes, seen as rows of
// channels:
//
//	y = scale*(x-mean)/√(var+ε) + bias
//
// In training mean and var are those of the batch, var biased, and the running
// ones follow with var unbiased, as torch's do (Ioffe and Szegedy 2015,
// arXiv:1502.03167, algorithm 1):
//
//	dx = scale/√(var+ε) * (dy - mean(dy) - x̂*mean(dy*x̂))
//
// Otherwise the running ones are constants. Those that Options.Freeze names
// are so in training as well.
type batchNorm struct {
	x, scale, bias    *port
	y                 *value
	mean, variance    *Parameter // running
	frozen            bool
	batch             bool // the last forward took the statistics of the batch
	epsilon, momentum float32
	channels, rows    int

	centre, inverse []float32 // mean and 1/√(var+ε) of the last forward
	mul, add        []float32 // x*mul + add of forward
	slope, shift    []float32 // x*slope + shift of backward
	sumD, sumDX     []float64 // of dy, and of dy*x̂
}

func makeBatchNorm(c *call) (step, error) {
	x, err := c.readIn(0, true)
	if err != nil {
		return nil, err
	}
	if len(x.shape) < 2 {
		return nil, fmt.Errorf("%v has no channels", x.shape)
	}
	n := x.shape[1]
	s := &batchNorm{x: x, epsilon: c.node.Float("epsilon", 1e-5), momentum: c.node.Float("momentum", 0.9), channels: n, rows: len(x.data) / n}
	if s.scale, err = c.readIn(1, false); err != nil {
		return nil, err
	}
	if s.bias, err = c.readIn(2, false); err != nil {
		return nil, err
	}
	if err := s.running(c); err != nil {
		return nil, err
	}
	for i, have := range []int{len(s.scale.data), len(s.bias.data), len(s.mean.Value), len(s.variance.Value)} {
		if have != n {
			return nil, fmt.Errorf("input %d has %d values for %d channels", i+1, have, n)
		}
	}
	for _, name := range c.node.Out[1:] {
		if name != "" {
			return nil, fmt.Errorf("its output %s is wanted; train writes the first alone", name)
		}
	}
	for _, list := range []*[]float32{&s.centre, &s.inverse, &s.mul, &s.add, &s.slope, &s.shift} {
		*list = floats(n)
	}
	s.sumD, s.sumDX = make([]float64, n), make([]float64, n)
	s.y, err = c.write(0, x.shape, true)
	return s, err
}

func (s *batchNorm) running(c *call) (err error) {
	freeze := c.b.net.options.Freeze
	if s.mean, err = c.b.statistic(c.node.Input(3)); err != nil {
		return err
	}
	if s.variance, err = c.b.statistic(c.node.Input(4)); err != nil {
		return err
	}
	s.frozen = freeze != nil && (freeze(s.mean.Name) || freeze(s.variance.Name))
	return nil
}

func (s *batchNorm) forward(training bool) {
	s.batch = training && !s.frozen
	if s.batch {
		s.measure()
	} else {
		copy(s.centre, s.mean.Value)
		for c, v := range s.variance.Value {
			s.inverse[c] = float32(1 / math.Sqrt(float64(v)+float64(s.epsilon)))
		}
	}
	for c, k := range s.inverse {
		s.mul[c] = s.scale.data[c] * k
		s.add[c] = s.bias.data[c] - float32(s.centre[c]*s.mul[c])
	}
	for at := 0; at < len(s.x.data); at += s.channels {
		scaleShift(s.y.data[at:at+s.channels], s.x.data[at:at+s.channels], s.mul, s.add)
	}
}

// measure finds the statistics of the batch, mean first, in float64.
func (s *batchNorm) measure() {
	x, n := s.x.data, s.channels
	mean, square := s.sumD, s.sumDX
	clear(mean)
	clear(square)
	for at := 0; at < len(x); at += n {
		for c, v := range x[at : at+n] {
			mean[c] += float64(v)
		}
	}
	for c, v := range mean {
		mean[c] = v / float64(s.rows)
	}
	for at := 0; at < len(x); at += n {
		for c, v := range x[at : at+n] {
			d := float64(v) - mean[c]
			square[c] += float64(d * d)
		}
	}
	keep := float64(s.momentum)
	for c := range mean {
		v := square[c] / float64(s.rows)
		s.centre[c] = float32(mean[c])
		s.inverse[c] = float32(1 / math.Sqrt(v+float64(s.epsilon)))
		unbiased := square[c] / float64(max(1, s.rows-1))
		s.mean.Value[c] = follow(s.mean.Value[c], mean[c], keep)
		s.variance.Value[c] = follow(s.variance.Value[c], unbiased, keep)
	}
}

// follow moves a running value towards that of the batch.
func follow(old float32, now, keep float64) float32 {
	return float32(float64(keep*float64(old)) + float64((1-keep)*now))
}

// scaleShift writes x*mul + add.
func scaleShift(y, x, mul, add []float32) {
	x, mul, add = x[:len(y)], mul[:len(y)], add[:len(y)]
	for i := range y {
		y[i] = float32(x[i]*mul[i]) + add[i]
	}
}

func (s *batchNorm) backward() {
	x, dy, n := s.x.data, s.y.grad, s.channels
	clear(s.sumD)
	clear(s.sumDX)
	for at := 0; at < len(x); at += n {
		s.sumRow(x[at:at+n], dy[at:at+n])
	}
	if s.scale.dx != nil {
		for c, v := range s.sumDX {
			s.scale.dx[c] = float32(v)
		}
	}
	if s.bias.dx != nil {
		for c, v := range s.sumD {
			s.bias.dx[c] = float32(v)
		}
	}
	if s.x.dx == nil {
		return
	}
	s.lines()
	for at := 0; at < len(x); at += n {
		blend(s.x.dx[at:at+n], dy[at:at+n], x[at:at+n], s.mul, s.slope, s.shift)
	}
}

// lines makes dx = dy*mul + x*slope + shift of the formula above.
func (s *batchNorm) lines() {
	if !s.batch {
		clear(s.slope)
		clear(s.shift)
		return
	}
	for c := range s.slope {
		share := float64(s.mul[c]) / float64(s.rows)
		slope := -share * float64(s.inverse[c]) * s.sumDX[c]
		s.slope[c] = float32(slope)
		s.shift[c] = float32(-share*s.sumD[c] - slope*float64(s.centre[c]))
	}
}

// sumRow adds dy and dy*x̂ of one row.
func (s *batchNorm) sumRow(x, dy []float32) {
	dy, d, dx := dy[:len(x)], s.sumD[:len(x)], s.sumDX[:len(x)]
	centre, inverse := s.centre[:len(x)], s.inverse[:len(x)]
	for c, v := range x {
		g := dy[c]
		d[c] += float64(g)
		dx[c] += float64(g) * float64((v-centre[c])*inverse[c])
	}
}

// blend writes dy*mul + x*a + b.
func blend(dx, dy, x, mul, a, b []float32) {
	dy, x, mul, a, b = dy[:len(dx)], x[:len(dx)], mul[:len(dx)], a[:len(dx)], b[:len(dx)]
	for i := range dx {
		dx[i] = float32(dy[i]*mul[i]) + (float32(x[i]*a[i]) + b[i])
	}
}
