package kernels

import "slices"

// A part of a convolution or pool, for one of several threads, is a whole one
// of its own: pictures of a batch, or rows of the only picture, of which the
// input begins where the first window does and the padding above is what is
// left of it there. It shares the weights, and no loop knows of parts.
//
//	rows 4..6 of 3x3, padding 1:   in  rows 3..7      PadTop 0, OH 3
//	rows 0..3                      in  rows 0..4      PadTop 1, OH 4

// Strips returns how many rows of output there are to cut between: pictures,
// or rows of the only one. It is 1 where windows begin below the picture.
func (g *Geometry) Strips() int {
	switch {
	case g.N > 1:
		return g.N
	case (g.OH-1)*g.StrideH-g.PadTop >= g.H:
		return 1
	}
	return g.OH
}

// Strip returns the geometry of strips from to to-1 alone, and the elements of
// input and output before theirs.
func (g Geometry) Strip(from, to int) (part Geometry, in, out int) {
	part = g
	if g.N > 1 {
		part.N = to - from
		return part, from * g.H * g.W * g.C, from * g.OH * g.OW * g.OC
	}
	first := max(0, from*g.StrideH-g.PadTop)
	part.OH, part.H = to-from, g.H-first
	part.PadTop = max(0, g.PadTop-from*g.StrideH)
	return part, first * g.W * g.C, from * g.OW * g.OC
}

// Step returns the multiple at which strips must begin for a result to be the
// same bits as in one piece.
func (c *ConvF32) Step() int {
	if c.variant.exact || c.variant.run.rows == nil || c.N > 1 {
		return 1
	}
	return c.variant.run.rows(c)
}

// Step returns the multiple at which parts of m rows must begin for a result
// to be the same bits as in one piece, the last of them no shorter.
func (g *GEMMF32) Step(m int) int {
	if g.variant.run.rows == nil {
		return 1
	}
	return g.variant.run.rows(&g.weights, m)
}

// Step is the height of the tallest tile: results are the same wherever parts
// begin.
func (g *GEMMInt8) Step() int { return 6 }

// Strip returns the convolution that computes strips from to to-1, and where
// its input and output begin: see Geometry.Strip.
func (c *ConvInt8) Strip(from, to int) (part *ConvInt8, in, out int) {
	s := *c
	s.Geometry, in, out = c.Geometry.Strip(from, to)
	s.win = s.window()
	return &s, in, out
}

// Strip is ConvInt8.Strip for floats.
func (c *ConvF32) Strip(from, to int) (part *ConvF32, in, out int) {
	s := *c
	s.Geometry, in, out = c.Geometry.Strip(from, to)
	s.win = s.window()
	return &s, in, out
}

// Strip is ConvInt8.Strip for depthwise convolutions.
func (d *DepthwiseInt8) Strip(from, to int) (part *DepthwiseInt8, in, out int) {
	s := *d
	s.Geometry, in, out = d.Geometry.Strip(from, to)
	s.win = s.window()
	return &s, in, out
}

// Strip is ConvInt8.Strip for depthwise convolutions of floats.
func (d *DepthwiseF32) Strip(from, to int) (part *DepthwiseF32, in, out int) {
	s := *d
	s.Geometry, in, out = d.Geometry.Strip(from, to)
	s.win = s.window()
	return &s, in, out
}

// Strip is ConvInt8.Strip for pools.
func (p *MaxPool) Strip(from, to int) (part *MaxPool, in, out int) {
	s := *p
	s.Geometry, in, out = p.Geometry.Strip(from, to)
	s.win = s.window()
	if p.lists != nil {
		s.lists = newTapLists(&s.Geometry)
	}
	return &s, in, out
}

// Strip is ConvInt8.Strip for pools.
func (p *AveragePool) Strip(from, to int) (part *AveragePool, in, out int) {
	s := *p
	s.Geometry, in, out = p.Geometry.Strip(from, to)
	s.padH = s.H + p.padH - p.H
	s.win = s.window()
	if p.lists != nil {
		s.lists = newTapLists(&s.Geometry)
	}
	return &s, in, out
}

// Strips returns how long the outermost axis of the result is.
func (t *Transpose) Strips() int {
	return t.outermost().length
}

// outermost returns the outermost axis of the result.
func (t *Transpose) outermost() *axis {
	longest := &t.rows
	if t.cols.to > longest.to {
		longest = &t.cols
	}
	for i := range t.outer {
		if t.outer[i].to > longest.to {
			longest = &t.outer[i]
		}
	}
	return longest
}

// Strip returns the transpose that writes from to to-1 of the outermost axis
// of the result, and the elements of input and output before theirs.
func (t *Transpose) Strip(from, to int) (part *Transpose, in, out int) {
	s := *t
	s.outer = slices.Clone(t.outer)
	axis := s.outermost()
	each := t.total / axis.length
	axis.length, s.total = to-from, (to-from)*each
	return &s, from * axis.stride, from * each
}

// Panel returns how many columns a product computes side by side: Columns
// begins at a multiple of it.
func (g *GEMMInt8) Panel() int { return g.weights.width }

// Panel is GEMMInt8.Panel for floats.
func (g *GEMMF32) Panel() int { return g.weights.width }

// Panel is GEMMInt8.Panel for a convolution's channels, 0 where there are
// several groups: those have no Columns.
func (c *ConvInt8) Panel() int {
	if len(c.groups) > 1 {
		return 0
	}
	return c.groups[0].width
}

// Panel is ConvInt8.Panel for floats.
func (c *ConvF32) Panel() int {
	if len(c.groups) > 1 {
		return 0
	}
	return c.groups[0].width
}

// Columns returns the product that computes columns from to to-1 of each row
// of out, which begins at column from. Both bounds are multiples of Panel, or
// to is the last. It shares the weights.
func (g *GEMMInt8) Columns(from, to int) *GEMMInt8 {
	s := *g
	s.N, s.weights = to-from, g.weights.columns(from, to)
	return &s
}

// Columns is GEMMInt8.Columns for floats.
func (g *GEMMF32) Columns(from, to int) *GEMMF32 {
	s := *g
	s.N, s.weights = to-from, g.weights.columns(from, to)
	return &s
}

// Columns is GEMMInt8.Columns for the channels of a convolution.
func (c *ConvInt8) Columns(from, to int) *ConvInt8 {
	s := *c
	s.first += from
	s.groups = []panels{c.groups[0].columns(from, to)}
	return &s
}

// Columns is ConvInt8.Columns for floats.
func (c *ConvF32) Columns(from, to int) *ConvF32 {
	s := *c
	s.first += from
	s.groups = []panelsF32{c.groups[0].columns(from, to)}
	return &s
}

// columns returns the panels of channels from to to-1.
func (p *panels) columns(from, to int) panels {
	s := *p
	s.n = to - from
	s.w, s.bias = p.w[from*p.channelBytes():], p.bias[from:]
	if p.sums != nil {
		s.sums = p.sums[from:]
	}
	if p.wzero != nil {
		s.wzero = p.wzero[from:]
	}
	if p.out.Scale != nil {
		s.out.Scale = p.out.Scale[from:]
	}
	return s
}

// columns returns the panels of channels from to to-1.
func (p *panelsF32) columns(from, to int) panelsF32 {
	s := *p
	s.n, s.bias = to-from, p.bias[from:]
	if p.half != nil {
		s.half = p.half[from*p.steps():]
	} else {
		s.w = p.w[from*p.depth:]
	}
	return s
}
