package train

import (
	"dunlin/kernels"
	"dunlin/model"
)

// matrices is MatMul of many pairs of matrices: a [..., M, K], b [..., K, N],
// the axes before broadcast as numpy's.
type matrices struct {
	a, b                 *port
	y                    *value
	forwards             *kernels.ProductF32
	da, db               *kernels.ProductF32
	pairs                [][2]int // the matrix of a and of b for each of y
	m, k, n              int
	batch                []kernels.Offsets
	aBatch, bBatch       []kernels.Offsets
	aRepeated, bRepeated bool // a matrix stands in more than one pair: its gradients add up
	part                 []float32
	net                  *Net
}

func makeMatrices(c *call, a, b *port) (step, error) {
	ra, rb := len(a.shape), len(b.shape)
	front, err := kernels.NewBroadcast(a.shape[:ra-2], b.shape[:rb-2])
	if err != nil {
		return nil, err
	}
	s := &matrices{a: a, b: b, m: a.shape[ra-2], k: a.shape[ra-1], n: b.shape[rb-1], pairs: front.Pairs(), net: c.b.net}
	if s.y, err = c.write(0, append(append(model.Shape{}, front.Shape...), s.m, s.n), false); err != nil {
		return nil, err
	}
	m, k, n := s.m, s.k, s.n
	for _, p := range []struct {
		to **kernels.ProductF32
		of kernels.ProductF32
	}{
		{&s.forwards, kernels.ProductF32{M: m, K: k, N: n, A: rows(k), B: rows(n), OutRow: n}},
		{&s.da, kernels.ProductF32{M: m, K: n, N: k, A: rows(n), B: columns(n), OutRow: k}},
		{&s.db, kernels.ProductF32{M: k, K: m, N: n, A: columns(k), B: rows(n), OutRow: n}},
	} {
		if *p.to, err = kernels.PickProductF32(c.target(), p.of); err != nil {
			return nil, err
		}
		c.b.scratch = max(c.b.scratch, (*p.to).Scratch())
	}
	s.part = floats(max(m*k, k*n))
	s.layBatch()
	return s, nil
}

// layBatch lists where the matrices of each pair begin.
func (s *matrices) layBatch() {
	seenA, seenB := map[int]bool{}, map[int]bool{}
	for i, p := range s.pairs {
		a, b, y := p[0]*s.m*s.k, p[1]*s.k*s.n, i*s.m*s.n
		s.batch = append(s.batch, kernels.Offsets{A: a, B: b, Out: y})
		s.aBatch = append(s.aBatch, kernels.Offsets{A: y, B: b, Out: a})
		s.bBatch = append(s.bBatch, kernels.Offsets{A: a, B: y, Out: b})
		s.aRepeated, s.bRepeated = s.aRepeated || seenA[a], s.bRepeated || seenB[b]
		seenA[a], seenB[b] = true, true
	}
}

func (s *matrices) forward(bool) {
	s.forwards.Run(s.y.data, s.a.data, s.b.data, s.batch, s.net.scratch)
}

func (s *matrices) backward() {
	if s.a.dx != nil {
		s.gradient(s.da, s.a.dx, s.y.grad, s.b.data, s.aBatch, s.m*s.k, s.aRepeated)
	}
	if s.b.dx != nil {
		s.gradient(s.db, s.b.dx, s.a.data, s.y.grad, s.bBatch, s.k*s.n, s.bRepeated)
	}
}

// gradient writes the products of batch to dx, matrices of size values; those
// of one place are added up.
func (s *matrices) gradient(p *kernels.ProductF32, dx, a, b []float32, batch []kernels.Offsets, size int, repeated bool) {
	if !repeated {
		p.Run(dx, a, b, batch, s.net.scratch)
		return
	}
	clear(dx)
	for i := range batch {
		to := dx[batch[i].Out:][:size]
		at := batch[i]
		p.Run(s.part, a[at.A:], b[at.B:], zeroOffsets, s.net.scratch)
		s.net.loops.addTo(to, s.part)
	}
}

var zeroOffsets = make([]kernels.Offsets, 1)
