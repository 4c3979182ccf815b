//go:build !purego && (amd64 || arm64)

package kernels

import "runtime"

func (v *tileF32) conv() convF32Tier {
	return convF32Tier{layout: v.layout, scratch: v.convScratch, run: v.runConv, rows: v.convRows}
}

// convRows is how many rows of output pixels share tiles, of which small ones
// keep several sums of one result.
func (v *tileF32) convRows(c *ConvF32) int {
	r := ringOf(&c.Geometry, 4, convPixels)
	return r.outRows
}

func (v *tileF32) convScratch(c *ConvF32) int {
	r := c.ring()
	n := tileScratchF32Bytes + 8*c.groups[0].segments*r.outRows*c.OW
	if !c.unpadded() {
		n += r.bytes()
	}
	return n
}

// ring returns the rows that are looked at together: those of the picture
// itself, where no window reaches beyond it.
func (c *ConvF32) ring() ring {
	r := ringOf(&c.Geometry, 4, convPixels)
	if c.unpadded() {
		r.slots, r.row = c.H, c.W*r.pixel
	}
	return r
}

// zeroF32 is the padding of float rows.
var zeroF32 = []byte{0, 0, 0, 0}

// copyF32 stages n float32 as they are.
func copyF32(to, from uintptr, n int) { copyBytes(to, from, 4*n) }

// runConv is convF32Generic with tiles: see tileInt8.runConv.
func (v *tileF32) runConv(c *ConvF32, out, in, more []float32, scratch []byte) {
	r := ringRun{ring: c.ring(), g: &c.Geometry, stage: copyF32, size: 4, padding: zeroF32}
	t := tileSpaceF32(scratch)
	segments := c.groups[0].segments
	list := view[uintptr](scratch[tileScratchF32Bytes:][:8*segments*r.outRows*c.OW])
	direct := c.unpadded()
	if !direct {
		r.memory = scratch[tileScratchF32Bytes+8*len(list):][:r.bytes()]
	}
	for n := range c.N {
		picture := addressOf(in[n*c.H*c.W*c.C:])
		if direct {
			r.memory = bytesAt(picture, r.slots*r.row)
		} else {
			r.picture(picture)
		}
		for oy := 0; oy < c.OH; oy += r.outRows {
			rows := min(r.outRows, c.OH-oy)
			if !direct {
				r.advance(oy, rows)
			}
			addresses := list[:segments*rows*c.OW]
			for g := range c.groups {
				r.list(addresses, oy, rows, 4*g*(c.C/c.Groups))
				p := &c.groups[g]
				at := (n*c.OH+oy)*c.OW*c.OC + g*p.n
				v.panels(t, p, resultF32(out, more, at, c.OC), addresses)
			}
		}
	}
	runtime.KeepAlive(scratch)
	runtime.KeepAlive(in)
	runtime.KeepAlive(more)
	runtime.KeepAlive(out)
}
