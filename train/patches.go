package train

import "dunlin/kernels"

// patches copies what the windows of pixels read side by side, and adds it
// back: im2col and col2im.
type patches struct {
	geo   kernels.Geometry
	depth int // values that one window reads in one group: [KH, KW, C/Groups]
}

func newPatches(g kernels.Geometry) patches {
	return patches{g, g.KH * g.KW * (g.C / g.Groups)}
}

// unfold writes the patches of count pictures [H, W, C] to to
// [count*OH*OW, depth].
func (p *patches) unfold(to, in []float32, count, group int) {
	g := &p.geo
	channels := g.C / g.Groups
	at := group * channels
	for n := range count {
		picture := in[n*g.H*g.W*g.C:][:g.H*g.W*g.C]
		for oy := range g.OH {
			line := to[(n*g.OH+oy)*g.OW*p.depth:][:g.OW*p.depth]
			for ky := range g.KH {
				iy := oy*g.StrideH + ky*g.DilationH - g.PadTop
				for ox := range g.OW {
					segment := line[ox*p.depth+ky*g.KW*channels:][:g.KW*channels]
					if iy < 0 || iy >= g.H {
						clear(segment)
						continue
					}
					p.unfoldRow(segment, picture[iy*g.W*g.C+at:], ox, channels)
				}
			}
		}
	}
}

// unfoldRow writes the taps of one row of the kernel.
func (p *patches) unfoldRow(to, row []float32, ox, channels int) {
	g := &p.geo
	first := ox*g.StrideW - g.PadLeft
	if g.DilationW == 1 && g.Groups == 1 && first >= 0 && first+g.KW <= g.W {
		copyShort(to, row[first*g.C:])
		return
	}
	for kx := range g.KW {
		segment := to[kx*channels:][:channels]
		ix := first + kx*g.DilationW
		if ix < 0 || ix >= g.W {
			clear(segment)
			continue
		}
		copyShort(segment, row[ix*g.C:])
	}
}

// copyShort is copy without its call where there is little to copy.
func copyShort(to, from []float32) {
	if len(to) > 8 {
		copy(to, from)
		return
	}
	from = from[:len(to)]
	for i := range to {
		to[i] = from[i]
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
				row := picture[iy*g.W*g.C+at:]
				for ox := range g.OW {
					p.foldRow(row, line[ox*p.depth+ky*g.KW*channels:][:g.KW*channels], ox, channels)
				}
			}
		}
	}
}

func (p *patches) foldRow(row, from []float32, ox, channels int) {
	g := &p.geo
	first := ox*g.StrideW - g.PadLeft
	if g.DilationW == 1 && g.Groups == 1 && first >= 0 && first+g.KW <= g.W {
		addTo(row[first*g.C:][:len(from)], from)
		return
	}
	for kx := range g.KW {
		if ix := first + kx*g.DilationW; ix >= 0 && ix < g.W {
			addTo(row[ix*g.C:][:channels], from[kx*channels:])
		}
	}
}
