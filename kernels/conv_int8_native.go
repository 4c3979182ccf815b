//go:build !purego && (amd64 || arm64)

package kernels

import "runtime"

// convPixels is about how many output pixels a convolution computes at once:
// enough for the weights to be read from memory a few times only.
const convPixels = 96

func (v *tileInt8) conv() convInt8Tier {
	return convInt8Tier{layout: v.layout, scratch: v.convScratch, join: v.join, run: v.runConv}
}

func (v *tileInt8) convScratch(c *ConvInt8) int {
	r := ringOf(&c.Geometry, v.size, convPixels)
	return tileScratchInt8Bytes + 8*c.listLength(&r) + c.lessBytes(&r) + r.bytes()
}

// terms is the most that a group's weights have.
func (c *ConvInt8) terms() int {
	terms := 1
	for i := range c.groups {
		terms = max(terms, c.groups[i].terms)
	}
	return terms
}

// listLength is how many addresses the output pixels computed at once have.
func (c *ConvInt8) listLength(r *ring) int {
	return c.terms() * c.groups[0].segments * r.outRows * c.OW
}

// join looks for groups so narrow that some of them fill a register: a column
// then reads the 4 bytes of its own group.
func (v *tileInt8) join(c *ConvInt8) layoutInt8 {
	if v.grouped == nil || c.Groups == 1 {
		return v.layout
	}
	lanes, in, out := v.grouped.layout.lanes, c.C/c.Groups, c.OC/c.Groups
	n := lanes / out
	if n < 2 || lanes%out > 0 || in%v.layout.step > 0 || (n-1)*in/v.layout.step >= lanes {
		return v.layout
	}
	c.joined, c.order = n, make([]int32, lanes)
	for i := range c.order {
		c.order[i] = int32(i / out * in / v.layout.step)
	}
	return v.grouped.layout
}

func (c *ConvInt8) lessBytes(r *ring) int {
	most := 0
	for i := range c.groups {
		most = max(most, c.groups[i].lessBytes(r.outRows*c.OW))
	}
	return most
}

// runConv is convInt8Generic with tiles. There is no copy of the windows
// (im2col): tiles read the staged rows through addresses.
func (v *tileInt8) runConv(c *ConvInt8, out, in []int8, scratch []byte) {
	r := ringRun{ring: ringOf(&c.Geometry, v.size, convPixels), g: &c.Geometry, stage: v.stage, size: 1, slides: true}
	t := tileSpaceInt8(scratch)
	addresses, terms := c.listLength(&r.ring), c.terms()
	list := view[uintptr](scratch[tileScratchInt8Bytes:][:8*addresses])
	clear(t.none[:])
	less := view[int32](scratch[tileScratchInt8Bytes+8*addresses:][:c.lessBytes(&r.ring)])
	r.memory = scratch[tileScratchInt8Bytes+8*addresses+4*len(less):][:r.bytes()]
	padding := paddingInt8(c.groups[0].inZero, v.size)
	r.padding = padding[:]
	tiles := v
	if c.joined > 1 {
		tiles = v.grouped
	}
	t.args.order = addressOf(c.order)
	listed, most := false, r.outRows*c.OW
	t.args.rowStep = uintptr(8 * most)
	for n := range c.N {
		r.picture(addressOf(in[n*c.H*c.W*c.C:]))
		for oy := 0; oy < c.OH; oy += r.outRows {
			rows := min(r.outRows, c.OH-oy)
			r.advance(oy, rows)
			for g := range c.groups {
				p := &c.groups[g]
				first := g * c.joined // of the groups that p computes
				from := first * (c.C / c.Groups) * v.size
				if tilesAddFrom {
					t.args.from, from = uintptr(from), 0
				}
				if !listed || !tilesAddFrom && len(c.groups) > 1 {
					one := list[:p.segments*most]
					r.list(one, oy, r.outRows, from)
					for term := 1; term < terms; term++ {
						copy(list[term*len(one):], one)
					}
					listed = true
				}
				result := resultInt8{i8: out, ld: c.OC}
				tiles.panels(t, p, &result, (n*c.OH+oy)*c.OW*c.OC+first*(c.OC/c.Groups), addressOf(list), rows*c.OW, less)
			}
		}
	}
	runtime.KeepAlive(c)
	runtime.KeepAlive(scratch)
	runtime.KeepAlive(in)
	runtime.KeepAlive(out)
}
