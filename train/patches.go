package train

import "dunlin/kernels"

// patches copies what the windows of pixels read side by side, and adds it
// back: im2col and col2im.
type patches struct {
	geo         kernels.Geometry
	depth       int             // values that one window reads in one group: [KH, KW, C/Groups]
	first, last int             // pixels of a row from first to before last have all of a row of their window in the picture
	copy        kernels.RowCopy // of rows of a window
	add         kernels.StridedFunc
}

func newPatches(n *Net, g kernels.Geometry) patches {
	p := patches{geo: g, depth: g.KH * g.KW * (g.C / g.Groups), add: n.loops.add}
	_, p.copy = kernels.CopyRows(n.target)
	if g.DilationW > 1 || g.Groups > 1 {
		return p // a row of the window is not one piece
	}
	p.first = min((g.PadLeft+g.StrideW-1)/g.StrideW, g.OW)
	if room := g.W + g.PadLeft - g.KW; room >= 0 {
		p.last = min(room/g.StrideW+1, g.OW)
	}
	p.last = max(p.last, p.first)
	return p
}

// unfold writes the patches of count pictures [H, W, C] to to
// [count*OH*OW, depth].
func (p *patches) unfold(to, in []float32, count, group int) {
	g := &p.geo
	for n := range count {
		picture := in[n*g.H*g.W*g.C:][:g.H*g.W*g.C]
		for oy := range g.OH {
			line := to[(n*g.OH+oy)*g.OW*p.depth:][:g.OW*p.depth]
			for ky := range g.KH {
				p.unfoldRow(line, picture, oy, ky, group)
			}
		}
	}
}

// unfoldRow writes row ky of the windows of a row of pixels.
func (p *patches) unfoldRow(line, picture []float32, oy, ky, group int) {
	g := &p.geo
	channels := g.C / g.Groups
	wide, at := g.KW*channels, ky*g.KW*channels
	iy := oy*g.StrideH + ky*g.DilationH - g.PadTop
	if iy < 0 || iy >= g.H {
		for ox := range g.OW {
			clear(line[ox*p.depth+at:][:wide])
		}
		return
	}
	row := picture[iy*g.W*g.C+group*channels:]
	if n := p.last - p.first; n > 0 {
		from := row[(p.first*g.StrideW-g.PadLeft)*g.C:]
		p.copy(bytesOf(line[p.first*p.depth+at:]), 4*p.depth, bytesOf(from), 4*g.StrideW*g.C, n, 4*wide)
	}
	for ox := 0; ox < g.OW; ox++ {
		if ox == p.first {
			ox = p.last
		}
		if ox == g.OW {
			return
		}
		p.unfoldEdge(line[ox*p.depth+at:][:wide], row, ox, channels)
	}
}

// unfoldEdge writes a row of a window tap by tap: some lie outside.
func (p *patches) unfoldEdge(to, row []float32, ox, channels int) {
	g := &p.geo
	for kx := range g.KW {
		segment := to[kx*channels:][:channels]
		ix := ox*g.StrideW - g.PadLeft + kx*g.DilationW
		if ix < 0 || ix >= g.W {
			clear(segment)
			continue
		}
		copy(segment, row[ix*g.C:])
	}
}

// fold adds patches [count*OH*OW, depth] to the pictures they are of.
func (p *patches) fold(pictures, from []float32, count, group int) {
	g := &p.geo
	channels := g.C / g.Groups
	at := group * channels
	for n := range count {
		picture := pictures[n*g.H*g.W*g.C:][:g.H*g.W*g.C]
		for oy := range g.OH {
			line := from[(n*g.OH+oy)*g.OW*p.depth:][:g.OW*p.depth]
			for ky := range g.KH {
				iy := oy*g.StrideH + ky*g.DilationH - g.PadTop
				if iy < 0 || iy >= g.H {
					continue
				}
				p.foldRow(picture[iy*g.W*g.C+at:], line[ky*g.KW*channels:], channels)
			}
		}
	}
}

// foldRow adds one row of the windows of a row of pixels, which begin at from.
func (p *patches) foldRow(row, from []float32, channels int) {
	g := &p.geo
	if n := p.last - p.first; n > 0 {
		p.add(row[(p.first*g.StrideW-g.PadLeft)*g.C:], from[p.first*p.depth:], nil, nil, kernels.Strided{
			Rows: n, N: g.KW * channels, Out: g.StrideW * g.C, A: p.depth,
		})
	}
	for ox := 0; ox < g.OW; ox++ {
		if ox == p.first {
			ox = p.last
		}
		if ox == g.OW {
			return
		}
		for kx := range g.KW {
			if ix := ox*g.StrideW - g.PadLeft + kx*g.DilationW; ix >= 0 && ix < g.W {
				addTo(row[ix*g.C:][:channels], from[ox*p.depth+kx*channels:])
			}
		}
	}
}
