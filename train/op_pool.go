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
	left []float32 // gradients of a row of y that have no place yet
	give kernels.StridedFunc
	geo  kernels.Geometry
}

func makeMaxPool(c *call) (step, error) {
	x, g, _, _, err := readPool(c)
	if err != nil {
		return nil, err
	}
	s := &maxPool{x: x, geo: g, left: floats(g.OW * g.C), give: c.b.net.loops.give}
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
		for oy := range g.OH {
			s.row(n, oy)
		}
	}
}

// row gives the gradients of a row of pixels of y to the taps of their windows,
// a tap after the other.
func (s *maxPool) row(n, oy int) {
	g := &s.geo
	at := (n*g.OH + oy) * g.OW * g.C
	copy(s.left, s.y.grad[at:])
	for ky := range g.KH {
		iy := oy*g.StrideH + ky*g.DilationH - g.PadTop
		if iy < 0 || iy >= g.H {
			continue
		}
		for kx := range g.KW {
			first, count, ix := inside(g, kx)
			if count == 0 {
				continue
			}
			to, from := ((n*g.H+iy)*g.W+ix)*g.C, first*g.C
			s.give(s.x.dx[to:], s.x.data[to:], s.y.data[at+from:], s.left[from:], kernels.Strided{
				Rows: count, N: g.C, Out: g.StrideW * g.C, A: g.StrideW * g.C, B: g.C, C: g.C,
			})
		}
	}
}

// inside returns which pixels of a row of outputs have column kx of their
// window inside the picture, and where the first of them has it.
func inside(g *kernels.Geometry, kx int) (first, count, ix int) {
	at := kx*g.DilationW - g.PadLeft // of output 0
	if at < 0 {
		first = (-at + g.StrideW - 1) / g.StrideW
	}
	ix = at + first*g.StrideW
	if ix >= g.W {
		return first, 0, ix
	}
	return first, max(0, min(g.OW-first, (g.W-1-ix)/g.StrideW+1)), ix
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
