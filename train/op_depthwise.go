package train

import "dunlin/kernels"

// depthwise is a convolution in which each channel reads the input channel of
// its own number: sums of products of rows of channels.
type depthwise struct {
	x, w, bias *port
	y          *value
	geo        kernels.Geometry // of the whole batch
	toLast     *kernels.Transpose
	toFirst    *kernels.Transpose
	packed     []float32 // w in the order [KH, KW, C]
	dPacked    []float32
	sums       *columnSums
	loops      *loops
}

func newDepthwise(c *call, x, w, bias *port, y *value, g kernels.Geometry) (step, error) {
	g.N = x.shape[0]
	s := &depthwise{x: x, w: w, bias: bias, y: y, geo: g, packed: floats(len(w.data)), dPacked: floats(len(w.data)), loops: c.b.net.loops}
	var err error
	if s.toLast, err = kernels.NewTranspose(4, []int{g.C, g.KH * g.KW}, []int{1, 0}); err != nil {
		return nil, err
	}
	if s.toFirst, err = kernels.NewTranspose(4, []int{g.KH * g.KW, g.C}, []int{1, 0}); err != nil {
		return nil, err
	}
	s.sums, err = newColumnSums(c, g.N*g.OH*g.OW, g.C)
	return s, err
}

// visit calls f for each row of outputs and each tap of the kernel: where in x
// and in y the pixels begin that the tap joins, where its weights are, and how
// many pixels.
func (s *depthwise) visit(f func(in, out, tap, count int)) {
	g := &s.geo
	for n := range g.N {
		for oy := range g.OH {
			for ky := range g.KH {
				iy := oy*g.StrideH + ky*g.DilationH - g.PadTop
				if iy < 0 || iy >= g.H {
					continue
				}
				for kx := range g.KW {
					if first, count, ix := inside(g, kx); count > 0 {
						f(((n*g.H+iy)*g.W+ix)*g.C, ((n*g.OH+oy)*g.OW+first)*g.C, (ky*g.KW+kx)*g.C, count)
					}
				}
			}
		}
	}
}

func (s *depthwise) forward(bool) {
	s.toLast.Run(bytesOf(s.packed), bytesOf(s.w.data))
	clear(s.y.data)
	if s.bias != nil {
		s.loops.addRows(s.y.data, s.bias.data)
	}
	c, step := s.geo.C, s.geo.StrideW*s.geo.C
	s.visit(func(in, out, tap, count int) {
		s.loops.addProduct(s.y.data[out:], s.x.data[in:], s.packed[tap:], nil, kernels.Strided{Rows: count, N: c, Out: c, A: step})
	})
}

func (s *depthwise) backward() {
	c, step := s.geo.C, s.geo.StrideW*s.geo.C
	x, dy := s.x.data, s.y.grad
	if s.bias != nil && s.bias.dx != nil {
		s.sums.run(s.bias.dx, dy)
	}
	if s.w.dx != nil {
		clear(s.dPacked)
		s.visit(func(in, out, tap, count int) {
			s.loops.addProduct(s.dPacked[tap:], x[in:], dy[out:], nil, kernels.Strided{Rows: count, N: c, A: step, B: c})
		})
		s.toFirst.Run(bytesOf(s.w.dx), bytesOf(s.dPacked))
	}
	if dx := s.x.dx; dx != nil {
		clear(dx)
		s.visit(func(in, out, tap, count int) {
			s.loops.addProduct(dx[in:], dy[out:], s.packed[tap:], nil, kernels.Strided{Rows: count, N: c, Out: step, A: c})
		})
	}
}
