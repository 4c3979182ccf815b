//go:build !purego && (amd64 || arm64)

package kernels

import "runtime"

// convPixels is about how many output pixels a convolution computes at once:
// enough for the weights to be read from memory a few times only.
const convPixels = 96

func (v *tileInt8) conv() convInt8Tier {
	return convInt8Tier{layout: v.layout, scratch: v.convScratch, run: v.runConv}
}

func (v *tileInt8) convScratch(c *ConvInt8) int {
	r := ringOf(&c.Geometry, v.size, convPixels)
	return tileScratchBytes + 8*c.listLength(&r) + c.lessBytes(&r) + r.bytes()
}

// listLength is how many addresses the output pixels computed at once have.
func (c *ConvInt8) listLength(r *ring) int {
	terms := 1
	for i := range c.groups {
		terms = max(terms, c.groups[i].terms)
	}
	return terms * c.groups[0].segments * r.outRows * c.OW
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
	r := ringRun{ring: ringOf(&c.Geometry, v.size, convPixels), g: &c.Geometry, stage: v.stage, size: 1}
	t := tileSpace(scratch)
	addresses := c.listLength(&r.ring)
	list := view[uintptr](scratch[tileScratchBytes:][:8*addresses])
	clear(t.none[:])
	less := view[int32](scratch[tileScratchBytes+8*addresses:][:c.lessBytes(&r.ring)])
	r.memory = scratch[tileScratchBytes+8*addresses+4*len(less):][:r.bytes()]
	padding := stagedInt8(c.groups[0].inZero, v.size)
	r.padding = padding[:v.size]
	for n := range c.N {
		r.picture(addressOf(in[n*c.H*c.W*c.C:]))
		for oy := 0; oy < c.OH; oy += r.outRows {
			rows := min(r.outRows, c.OH-oy)
			r.advance(oy, rows)
			m := rows * c.OW
			for g := range c.groups {
				p := &c.groups[g]
				one := list[:p.segments*m]
				r.list(one, oy, rows, g*(c.C/c.Groups)*v.size)
				for term := 1; term < p.terms; term++ {
					copy(list[term*len(one):], one)
				}
				t.args.rowStep = uintptr(8 * m)
				result := resultInt8{i8: out, ld: c.OC}
				v.panels(t, p, &result, (n*c.OH+oy)*c.OW*c.OC+g*p.n, addressOf(list), m, less)
			}
		}
	}
	runtime.KeepAlive(scratch)
	runtime.KeepAlive(in)
	runtime.KeepAlive(out)
}
