package train

import (
	"fmt"
	"math"

	"dunlin/kernels"
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
	ones, part      []float32 // a row of ones, and sums of some rows
	loops           *loops
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
	s := &batchNorm{x: x, epsilon: c.node.Float("epsilon", 1e-5), momentum: c.node.Float("momentum", 0.9), channels: n, rows: len(x.data) / n, loops: c.b.net.loops}
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
	for _, list := range []*[]float32{&s.centre, &s.inverse, &s.mul, &s.add, &s.slope, &s.shift, &s.ones, &s.part} {
		*list = floats(n)
	}
	for i := range s.ones {
		s.ones[i] = 1
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
	s.loops.line(s.y.data, s.x.data, s.mul, s.add, s.all())
}

// all says that a loop takes all rows, and b and c the same for each.
func (s *batchNorm) all() kernels.Strided {
	return kernels.Strided{Rows: s.rows, N: s.channels, Out: s.channels, A: s.channels}
}

// sumRows is how many rows are summed in float32 before their sum is added to
// one in float64.
const sumRows = 256

// sum writes to to the sums over rows of what a loop makes of a and, where it
// is not nil, b, which have a row each for all rows, and of c, which has one.
func (s *batchNorm) sum(to []float64, loop kernels.StridedFunc, a, b, c []float32) {
	clear(to)
	n := s.channels
	for first := 0; first < s.rows; first += sumRows {
		clear(s.part)
		run := kernels.Strided{Rows: min(sumRows, s.rows-first), N: n, A: n}
		rowB := c
		if b != nil {
			rowB, run.B = b[first*n:], n
		}
		loop(s.part, a[first*n:], rowB, c, run)
		for i, v := range s.part {
			to[i] += float64(v)
		}
	}
}

// measure finds the statistics of the batch, mean first.
func (s *batchNorm) measure() {
	mean, square := s.sumD, s.sumDX
	s.sum(mean, s.loops.addProduct, s.x.data, nil, s.ones)
	for c, v := range mean {
		mean[c] = v / float64(s.rows)
		s.centre[c] = float32(mean[c])
	}
	s.sum(square, s.loops.addSquare, s.x.data, nil, s.centre)
	keep := float64(s.momentum)
	for c := range mean {
		s.inverse[c] = float32(1 / math.Sqrt(square[c]/float64(s.rows)+float64(s.epsilon)))
		unbiased := square[c] / float64(max(1, s.rows-1))
		s.mean.Value[c] = follow(s.mean.Value[c], mean[c], keep)
		s.variance.Value[c] = follow(s.variance.Value[c], unbiased, keep)
	}
}

// follow moves a running value towards that of the batch.
func follow(old float32, now, keep float64) float32 {
	return float32(float64(keep*float64(old)) + float64((1-keep)*now))
}

func (s *batchNorm) backward() {
	x, dy := s.x.data, s.y.grad
	s.sum(s.sumD, s.loops.addProduct, dy, nil, s.ones)
	s.sum(s.sumDX, s.loops.addCentred, x, dy, s.centre)
	for c, v := range s.inverse {
		s.sumDX[c] *= float64(v)
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
	s.loops.line(s.x.dx, x, s.slope, s.shift, s.all())
	s.loops.addProduct(s.x.dx, dy, s.mul, nil, s.all())
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
		s.shift[c] = float32(float64(-share*s.sumD[c]) - float64(slope*float64(s.centre[c])))
	}
}
