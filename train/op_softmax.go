package train

import (
	"fmt"
	"math/rand/v2"

	"dunlin/kernels"
	"dunlin/model"
)

// softmax is y = e^x / Σ e^x along an axis; dx = y*(dy - Σ dy*y). LogSoftmax
// is y = log of that; dx = dy - e^y*Σ dy.
type softmax struct {
	log             bool
	x               *port
	y               *value
	outer, n, inner int
	run             func(dst, src []float32, n int)
	exp             kernels.Unary
	row             []float32 // where inner is not 1
}

func makeSoftmax(c *call) (step, error) {
	x, err := c.readIn(0, false)
	if err != nil {
		return nil, err
	}
	axis, err := axisOf(c.node, "axis", -1, len(x.shape))
	if err != nil {
		return nil, err
	}
	s := &softmax{x: x, n: x.shape[axis], log: c.node.Op == "LogSoftmax"}
	s.outer, s.inner = around(x.shape, axis)
	_, s.run = kernels.Softmaxer(c.target())
	if s.log {
		s.run = logRows
		_, s.exp = kernels.SmoothExp.For(c.target())
	}
	s.row = floats(s.n)
	s.y, err = c.write(0, x.shape, false)
	return s, err
}

// logRows writes the logarithm of the softmax of each row of n. dst may be src.
func logRows(dst, src []float32, n int) {
	copy(dst, src)
	for at := 0; at < len(src); at += n {
		kernels.LogSoftmax(dst[at : at+n])
	}
}

// axisOf returns an attribute that names one of rank axes; below 0 it counts
// from the end.
func axisOf(n *model.Node, name string, or int64, rank int) (int, error) {
	a := n.Int(name, or)
	if a < 0 {
		a += int64(rank)
	}
	if a < 0 || a >= int64(rank) {
		return 0, fmt.Errorf("%s %d of %d axes", name, n.Int(name, or), rank)
	}
	return int(a), nil
}

// around returns the product of the lengths before an axis and behind it.
func around(s []int, axis int) (outer, inner int) {
	outer, inner = 1, 1
	for _, d := range s[:axis] {
		outer *= d
	}
	for _, d := range s[axis+1:] {
		inner *= d
	}
	return outer, inner
}

func (s *softmax) forward(bool) {
	if s.inner == 1 {
		s.run(s.y.data, s.x.data, s.n)
		return
	}
	s.each(func(at int) {
		for k := range s.row {
			s.row[k] = s.x.data[at+k*s.inner]
		}
		s.run(s.row, s.row, s.n)
		for k, v := range s.row {
			s.y.data[at+k*s.inner] = v
		}
	})
}

// each calls f with where each row along the axis begins.
func (s *softmax) each(f func(at int)) {
	for o := range s.outer {
		for i := range s.inner {
			f(o*s.n*s.inner + i)
		}
	}
}

func (s *softmax) backward() {
	y, dy, dx := s.y.data, s.y.grad, s.x.dx
	if s.log {
		s.backwardLog(y, dy, dx)
		return
	}
	s.each(func(at int) {
		sum := float32(0)
		for k := range s.n {
			i := at + k*s.inner
			sum += float32(dy[i] * y[i])
		}
		for k := range s.n {
			i := at + k*s.inner
			dx[i] = y[i] * (dy[i] - sum)
		}
	})
}

func (s *softmax) backwardLog(y, dy, dx []float32) {
	s.exp(dx, y)
	s.each(func(at int) {
		sum := float32(0)
		for k := range s.n {
			sum += dy[at+k*s.inner]
		}
		for k := range s.n {
			i := at + k*s.inner
			dx[i] = dy[i] - float32(dx[i]*sum)
		}
	})
}

// dropout sets a share of its values to 0 and makes the others larger by as
// much (Srivastava et al. 2014): in training alone. What it drops follows from
// the seed, how often the net ran in training, and its place in the graph.
type dropout struct {
	x     *port
	y     *value
	net   *Net
	ratio float32
	place uint64
	keep  []float32 // what each value is multiplied by
	pcg   *rand.PCG
	on    bool
}

func makeDropout(c *call) (step, error) {
	x, err := c.read(0)
	if err != nil {
		return nil, err
	}
	ratio, err := c.number(1, 0.5)
	if err != nil {
		return nil, err
	}
	if ratio < 0 || ratio >= 1 {
		return nil, fmt.Errorf("ratio %v is not from 0 to below 1", ratio)
	}
	s := &dropout{x: x, net: c.b.net, ratio: ratio, place: uint64(len(c.b.net.steps)), keep: floats(len(x.data)), pcg: rand.NewPCG(0, 0)}
	s.y, err = c.write(0, x.shape, x.last)
	return s, err
}

func (s *dropout) forward(training bool) {
	s.on = training && s.ratio > 0
	if !s.on {
		copy(s.y.data, s.x.data)
		return
	}
	s.pcg.Seed(s.net.options.Seed^s.place<<40, s.net.shared.forwards)
	limit := uint32(float64(s.ratio) * (1 << 32))
	scale := 1 / (1 - s.ratio)
	for i := range s.keep {
		s.keep[i] = scale
		if uint32(s.pcg.Uint64()>>32) < limit {
			s.keep[i] = 0
		}
		s.y.data[i] = s.x.data[i] * s.keep[i]
	}
}

func (s *dropout) backward() {
	if !s.on {
		copy(s.x.dx, s.y.grad)
		return
	}
	for i, k := range s.keep {
		s.x.dx[i] = s.y.grad[i] * k
	}
}
