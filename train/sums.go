package train

import "dunlin/kernels"

// columnSums adds up the rows of a matrix: what reaches a bias. It is a
// product with a row of ones.
type columnSums struct {
	p    *product
	ones []float32
}

func newColumnSums(c *call, count, n int) (*columnSums, error) {
	p, err := c.product(kernels.ProductF32{M: 1, K: count, N: n, A: rows(count), B: rows(n), OutRow: n})
	if err != nil {
		return nil, err
	}
	s := &columnSums{p, floats(count)}
	for i := range s.ones {
		s.ones[i] = 1
	}
	return s, nil
}

// run writes the sums of x [count, n] to to [n].
func (s *columnSums) run(to, x []float32) { s.p.run(to, s.ones, x) }
