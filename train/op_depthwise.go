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
}

func newDepthwise(c *call, x, w, bias *port, y *value, g kernels.Geometry) (step, error) {
	g.N = x.shape[0]
	s := &depthwise{x: x, w: w, bias: bias, y: y, geo: g, packed: floats(len(w.data)), dPacked: floats(len(w.data))}
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

// visit calls f for each tap of each output pixel that lies inside the
// picture: where its channels begin in x, in y and in the weights.
func (s *depthwise) visit(f func(in, out, tap int)) {
	g := &s.geo
	for n := range g.N {
		for oy := range g.OH {
			for ky := range g.KH {
				iy := oy*g.StrideH + ky*g.DilationH - g.PadTop
				if iy < 0 || iy >= g.H {
					continue
				}
				for ox := range g.OW {
					for kx := range g.KW {
						ix := ox*g.StrideW + kx*g.DilationW - g.PadLeft
						if ix < 0 || ix >= g.W {
							continue
						}
						f(((n*g.H+iy)*g.W+ix)*g.C, ((n*g.OH+oy)*g.OW+ox)*g.C, (ky*g.KW+kx)*g.C)
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
		addRows(s.y.data, s.bias.data)
	}
	c := s.geo.C
	x, y, w := s.x.data, s.y.data, s.packed
	s.visit(func(in, out, tap int) { addProducts(y[out:out+c], x[in:in+c], w[tap:tap+c]) })
}

func (s *depthwise) backward() {
	c := s.geo.C
	x, dy, w, dw := s.x.data, s.y.grad, s.packed, s.dPacked
	if s.bias != nil && s.bias.dx != nil {
		s.sums.run(s.bias.dx, dy)
	}
	if s.w.dx != nil {
		clear(dw)
		s.visit(func(in, out, tap int) { addProducts(dw[tap:tap+c], x[in:in+c], dy[out:out+c]) })
		s.toFirst.Run(bytesOf(s.w.dx), bytesOf(dw))
	}
	if dx := s.x.dx; dx != nil {
		clear(dx)
		s.visit(func(in, out, tap int) { addProducts(dx[in:in+c], dy[out:out+c], w[tap:tap+c]) })
	}
}

// addProducts adds a[i]*b[i] to sum[i].
func addProducts(sum, a, b []float32) {
	a, b = a[:len(sum)], b[:len(sum)]
	for i := range sum {
		sum[i] += float32(a[i] * b[i])
	}
}
