package train

import (
	"strings"

	"dunlin/kernels"
)

// maxPool takes the largest value under each window. The gradient goes to the
// first tap, rows before columns, that holds it.
type maxPool struct {
	x    *port
	y    *value
	pool *kernels.MaxPool
	left []bool // channels of a pixel whose gradient has no place yet
	geo  kernels.Geometry
}

func makeMaxPool(c *call) (step, error) {
	x, g, _, _, err := readPool(c)
	if err != nil {
		return nil, err
	}
	s := &maxPool{x: x, geo: g, left: make([]bool, g.C)}
	if s.pool, err = kernels.NewMaxPool(g); err != nil {
		return nil, err
	}
	s.pool.Use(c.target())
	s.y, err = c.write(0, spatial(g.N, g.C, &g, x.shape), true)
	return s, err
}

// readPool reads the input of a pool and the geometry of the whole batch, with
// the padding behind.
func readPool(c *call) (x *port, g kernels.Geometry, endH, endW int, err error) {
	if x, err = c.readIn(0, true); err != nil {
		return nil, g, 0, 0, err
	}
	node, kernel := c.node, []int(nil)
	if len(x.shape) > 2 {
		kernel = x.shape[2:]
	}
	if !strings.HasPrefix(node.Op, "Global") {
		kernel = nil
		for _, k := range node.Ints("kernel_shape") {
			kernel = append(kernel, int(k))
		}
	}
	g, endH, endW, err = geometry(node, x.shape, kernel)
	g.N = x.shape[0]
	return x, g, endH, endW, err
}

func (s *maxPool) forward(bool) { s.pool.F32(s.y.data, s.x.data) }

func (s *maxPool) backward() {
	g := &s.geo
	clear(s.x.dx)
	for n := range g.N {
		at := n * g.H * g.W * g.C
		for oy := range g.OH {
			for ox := range g.OW {
				s.pixel(at, oy, ox, ((n*g.OH+oy)*g.OW+ox)*g.C)
			}
		}
	}
}

// pixel gives the gradient of one output pixel, whose channels begin at out,
// to the taps of its window in the picture that begins at at.
func (s *maxPool) pixel(at, oy, ox, out int) {
	g := &s.geo
	y, dy := s.y.data[out:out+g.C], s.y.grad[out:out+g.C]
	for c := range s.left {
		s.left[c] = true
	}
	for ky := range g.KH {
		iy := oy*g.StrideH + ky*g.DilationH - g.PadTop
		if iy < 0 || iy >= g.H {
			continue
		}
		for kx := range g.KW {
			ix := ox*g.StrideW + kx*g.DilationW - g.PadLeft
			if ix < 0 || ix >= g.W {
				continue
			}
			from := at + (iy*g.W+ix)*g.C
			giveLargest(s.x.dx[from:from+g.C], dy, s.x.data[from:from+g.C], y, s.left)
		}
	}
}

// giveLargest adds dy to dx where x is y and the gradient has no place yet.
func giveLargest(dx, dy, x, y []float32, left []bool) {
	dy, x, y, left = dy[:len(dx)], x[:len(dx)], y[:len(dx)], left[:len(dx)]
	for c, v := range x {
		if v == y[c] && left[c] {
			left[c] = false
			dx[c] += dy[c]
		}
	}
}

// averagePool takes the mean of the values under each window. The gradient of
// one is the same share of all of them.
type averagePool struct {
	x      *port
	y      *value
	pool   *kernels.AveragePool
	geo    kernels.Geometry
	shares []float32 // of each output pixel: 1/count
}

func makeAveragePool(c *call) (step, error) {
	x, g, endH, endW, err := readPool(c)
	if err != nil {
		return nil, err
	}
	s := &averagePool{x: x, geo: g}
	withPads := c.node.Int("count_include_pad", 0) == 1
	if s.pool, err = kernels.NewAveragePool(g, withPads, endH, endW); err != nil {
		return nil, err
	}
	s.pool.Use(c.target())
	for oy := range g.OH {
		h := counted(oy*g.StrideH-g.PadTop, g.KH, g.DilationH, g.H, endH, withPads)
		for ox := range g.OW {
			w := counted(ox*g.StrideW-g.PadLeft, g.KW, g.DilationW, g.W, endW, withPads)
			s.shares = append(s.shares, 1/float32(max(1, h*w)))
		}
	}
	s.y, err = c.write(0, spatial(g.N, g.C, &g, x.shape), true)
	return s, err
}

// counted returns how many taps of a window that begins at first count: those
// in the picture, and with padding those up to its end.
func counted(first, kernel, dilation, length, end int, withPads bool) int {
	n := 0
	for k := range kernel {
		at := first + k*dilation
		if (at >= 0 && at < length) || (withPads && at < length+end) {
			n++
		}
	}
	return n
}

func (s *averagePool) forward(bool) { s.pool.F32(s.y.data, s.x.data) }

func (s *averagePool) backward() {
	g := &s.geo
	clear(s.x.dx)
	for n := range g.N {
		dx := s.x.dx[n*g.H*g.W*g.C:][:g.H*g.W*g.C]
		for oy := range g.OH {
			for ox := range g.OW {
				pixel := oy*g.OW + ox
				dy := s.y.grad[(n*g.OH*g.OW+pixel)*g.C:][:g.C]
				s.pixel(dx, dy, oy, ox, s.shares[pixel])
			}
		}
	}
}

// pixel adds the share of dy to all taps of one window.
func (s *averagePool) pixel(dx, dy []float32, oy, ox int, share float32) {
	g := &s.geo
	for ky := range g.KH {
		iy := oy*g.StrideH + ky*g.DilationH - g.PadTop
		if iy < 0 || iy >= g.H {
			continue
		}
		for kx := range g.KW {
			ix := ox*g.StrideW + kx*g.DilationW - g.PadLeft
			if ix >= 0 && ix < g.W {
				addScaled(dx[(iy*g.W+ix)*g.C:][:g.C], dy, share)
			}
		}
	}
}

// addScaled adds x*by to sum.
func addScaled(sum, x []float32, by float32) {
	x = x[:len(sum)]
	for i, v := range x {
		sum[i] += float32(v * by)
	}
}
