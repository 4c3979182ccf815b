package train

import (
	"fmt"

	"dunlin/kernels"
	"dunlin/model"
)

// dense is Gemm, and a MatMul whose right side is one matrix:
//
//	y = alpha*a·b + beta*c    a [M, K], b [K, N], c broadcast to [M, N]
//
// Strides stand for transposes, in the gradients too:
//
//	da = alpha*dy·bᵀ
//	db = alpha*aᵀ·dy
type dense struct {
	a, b, c         *port
	y               *value
	forwards        *product
	da, db          *product
	aTurned         bool // a lies as [K, M]: its gradient is b·dyᵀ
	bTurned         bool // b lies as [N, K]: its gradient is dyᵀ·a
	alpha, beta     float32
	loops           *loops
	sums            *columnSums // c is a row
	spread          *spread     // c is anything else
	spreadGradients []float32
}

func makeGemm(c *call) (step, error) {
	a, err := c.readIn(0, false)
	if err != nil {
		return nil, err
	}
	b, err := c.readIn(1, false)
	if err != nil {
		return nil, err
	}
	bias, err := c.optional(2)
	if err != nil {
		return nil, err
	}
	if len(a.shape) != 2 || len(b.shape) != 2 {
		return nil, fmt.Errorf("product of %v and %v: both have 2 axes in a Gemm", a.shape, b.shape)
	}
	s := &dense{
		loops: c.b.net.loops, a: a, b: b, c: bias, alpha: c.node.Float("alpha", 1), beta: c.node.Float("beta", 1),
		aTurned: c.node.Int("transA", 0) != 0, bTurned: c.node.Int("transB", 0) != 0,
	}
	m, k, n, depth := a.shape[0], a.shape[1], b.shape[1], b.shape[0]
	if s.aTurned {
		m, k = k, m
	}
	if s.bTurned {
		n, depth = depth, n
	}
	if k != depth {
		return nil, fmt.Errorf("product of %v and %v: %d is not %d", a.shape, b.shape, k, depth)
	}
	if s.y, err = c.write(0, model.Shape{m, n}, false); err != nil {
		return nil, err
	}
	if err := s.lay(c, m, k, n); err != nil {
		return nil, err
	}
	return s, s.layBias(c, m, n)
}

// lay makes the three products.
func (s *dense) lay(c *call, m, k, n int) (err error) {
	a, b := rows(k), rows(n)
	if s.aTurned {
		a = columns(m)
	}
	if s.bTurned {
		b = columns(k)
	}
	if s.forwards, err = c.product(kernels.ProductF32{M: m, K: k, N: n, A: a, B: b, OutRow: n}); err != nil {
		return err
	}
	da := kernels.ProductF32{M: m, K: n, N: k, A: rows(n), B: turned(b), OutRow: k}
	if s.aTurned {
		da = kernels.ProductF32{M: k, K: n, N: m, A: b, B: columns(n), OutRow: m}
	}
	if s.da, err = c.product(da); err != nil {
		return err
	}
	db := kernels.ProductF32{M: k, K: m, N: n, A: turned(a), B: rows(n), OutRow: n}
	if s.bTurned {
		db = kernels.ProductF32{M: n, K: m, N: k, A: columns(n), B: a, OutRow: k}
	}
	s.db, err = c.product(db)
	return err
}

func turned(s kernels.Strides) kernels.Strides {
	return kernels.Strides{Row: s.Column, Column: s.Row}
}

func (s *dense) layBias(c *call, m, n int) (err error) {
	switch {
	case s.c == nil:
		return nil
	case len(s.c.data) == n && s.c.shape[len(s.c.shape)-1] == n && s.beta == 1:
		s.sums, err = newColumnSums(c, m, n)
		return err
	}
	s.spread, err = newSpread(s.c.shape, s.y.shape)
	s.spreadGradients = floats(m * n)
	return err
}

func (s *dense) forward(bool) {
	s.forwards.run(s.y.data, s.a.data, s.b.data)
	scale(s.y.data, s.alpha)
	switch {
	case s.sums != nil:
		s.loops.addRows(s.y.data, s.c.data)
	case s.spread != nil:
		s.spread.each(func(at, from int) { s.y.data[at] += float32(s.beta * s.c.data[from]) })
	}
}

func (s *dense) backward() {
	dy := s.y.grad
	if dx := s.a.dx; dx != nil {
		if s.aTurned {
			s.da.run(dx, s.b.data, dy)
		} else {
			s.da.run(dx, dy, s.b.data)
		}
		scale(dx, s.alpha)
	}
	if dx := s.b.dx; dx != nil {
		if s.bTurned {
			s.db.run(dx, dy, s.a.data)
		} else {
			s.db.run(dx, s.a.data, dy)
		}
		scale(dx, s.alpha)
	}
	if s.c == nil || s.c.dx == nil {
		return
	}
	if s.sums != nil {
		s.sums.run(s.c.dx, dy)
		return
	}
	s.spread.reduce(s.c.dx, dy)
	scale(s.c.dx, s.beta)
}

// scale multiplies x by a number.
func scale(x []float32, by float32) {
	if by == 1 {
		return
	}
	for i := range x {
		x[i] *= by
	}
}

func makeMatMul(c *call) (step, error) {
	a, err := c.readIn(0, false)
	if err != nil {
		return nil, err
	}
	b, err := c.readIn(1, false)
	if err != nil {
		return nil, err
	}
	if len(a.shape) < 2 || len(b.shape) < 2 {
		return nil, fmt.Errorf("product of %v and %v: each needs 2 axes or more", a.shape, b.shape)
	}
	front := a.shape[:len(a.shape)-1]
	k, n := a.shape[len(a.shape)-1], b.shape[len(b.shape)-1]
	if b.shape[len(b.shape)-2] != k {
		return nil, fmt.Errorf("product of %v and %v: %d is not %d", a.shape, b.shape, k, b.shape[len(b.shape)-2])
	}
	if len(b.shape) > 2 {
		return makeMatrices(c, a, b)
	}
	s := &dense{a: a, b: b, alpha: 1, beta: 1}
	if s.y, err = c.write(0, append(append(model.Shape{}, front...), n), false); err != nil {
		return nil, err
	}
	m, err := front.Elements()
	if err != nil {
		return nil, err
	}
	return s, s.lay(c, m, k, n)
}
