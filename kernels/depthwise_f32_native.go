//go:build !purego && (amd64 || arm64)

package kernels

import (
	"runtime"
	"unsafe"
)

// depthwiseReal is a float tier: a function for any kernel, by blocks of two
// registers of channels, and functions for some, by blocks of one. Blocks are
// treated as depthwiseTier treats its own.
type depthwiseReal struct {
	lanes  int
	row    func(*depthwiseArgs)
	square []depthwiseSquare
}

// depthwiseSquare is a function for square kernels of one size and stride. It
// computes rows of four pixels or more.
type depthwiseSquare struct {
	kernel, stride int
	row            func(*depthwiseArgs)
}

// form returns the function for a geometry, and how many channels it computes
// at once.
func (v *depthwiseReal) form(g *Geometry) (row func(*depthwiseArgs), block int) {
	for _, s := range v.square {
		if g.KH == s.kernel && g.KW == s.kernel && g.StrideH == s.stride && g.StrideW == s.stride &&
			g.DilationH == 1 && g.DilationW == 1 && g.OW >= 4 {
			return s.row, v.lanes
		}
	}
	return v.row, 2 * v.lanes
}

func (v *depthwiseReal) tier() depthwiseF32Tier {
	return depthwiseF32Tier{pack: v.pack, scratch: v.scratch, run: v.run}
}

func (v *depthwiseReal) blocks(d *DepthwiseF32) blocks {
	_, block := v.form(&d.Geometry)
	return blocks{channels: d.C, block: block, masked: v.lanes == 16}
}

// pack lays out weights [blocks][taps][block] and bias [blocks][block].
func (v *depthwiseReal) pack(d *DepthwiseF32) {
	b, taps := v.blocks(d), d.taps()
	w, bias := aligned[float32](b.count()*taps*b.block), aligned[float32](b.count()*b.block)
	for i := range b.count() {
		for k := range b.block {
			c := b.first(i) + k
			if c >= d.C {
				break
			}
			bias[i*b.block+k] = d.bias[c]
			for tap := range taps {
				w[(i*taps+tap)*b.block+k] = d.w[tap*d.C+c]
			}
		}
	}
	d.w, d.bias = w, bias
}

func (v *depthwiseReal) scratch(d *DepthwiseF32) int {
	r, b := ringOf(&d.Geometry, 4, depthwisePixels), v.blocks(d)
	n := ringAt(d) + r.bytes()
	if b.peels() {
		n += 4 * d.OW * b.block
	}
	return n
}

// ringAt is where in scratch the ring begins: at a cache line, where scratch
// does.
func ringAt(d *DepthwiseF32) int { return roundUp(depthwiseScratchBytes+8*d.taps(), cacheLine) }

// run is depthwiseF32Generic a row of output pixels at a time.
func (v *depthwiseReal) run(d *DepthwiseF32, out, in []float32, scratch []byte) {
	r := ringRun{ring: ringOf(&d.Geometry, 4, depthwisePixels), g: &d.Geometry, stage: copyF32, size: 4, padding: zeroF32}
	x := &(*depthwiseScratch)(unsafe.Pointer(unsafe.SliceData(scratch[:depthwiseScratchBytes]))).args
	taps := view[uintptr](scratch[depthwiseScratchBytes:][:8*d.taps()])
	memory := scratch[ringAt(d):]
	r.memory = memory[:r.bytes()]
	row, _ := v.form(&d.Geometry)
	b := v.blocks(d)
	*x = depthwiseArgs{
		taps: addressOf(taps), groups: uintptr(len(taps)), inStep: uintptr(d.StrideW * r.pixel), pixels: uintptr(d.OW),
		mask: b.mask(), lo: d.clamp.Min, hi: d.clamp.Max,
	}
	for n := range d.N {
		r.picture(addressOf(in[n*d.H*d.W*d.C:]))
		for oy := range d.OH {
			if oy%r.outRows == 0 {
				r.advance(oy, min(r.outRows, d.OH-oy))
			}
			dst := out[(n*d.OH+oy)*d.OW*d.C:][:d.OW*d.C]
			if b.block == v.lanes {
				r.columns(taps, oy)
			} else {
				r.taps(taps, oy, false)
			}
			if b.peels() {
				peeled := view[float32](memory[r.bytes():][:4*d.OW*b.block])
				x.rowOf(d, b, 0, 1, addressOf(peeled), b.block)
				row(x)
				for i := range d.OW {
					copy(dst[i*d.C:(i+1)*d.C], peeled[i*b.block:])
				}
				continue
			}
			b.row(taps, 4, func(from, count, channel int) {
				x.rowOf(d, b, from, count, addressOf(dst[channel:]), d.C)
				row(x)
			})
		}
	}
	runtime.KeepAlive(scratch)
	runtime.KeepAlive(in)
	runtime.KeepAlive(out)
}

// columns writes the taps of the first column of the kernel, where taps has
// them: what a depthwiseSquare reads.
func (r *ringRun) columns(taps []uintptr, oy int) {
	y := oy * r.g.StrideH % r.slots
	for i := 0; i < len(taps); i += r.g.KW {
		taps[i] = addressOf(r.memory[y*r.row:])
		if y++; y == r.slots {
			y = 0
		}
	}
}

// rowOf makes count blocks of a row, the first of them from, what is computed.
func (x *depthwiseArgs) rowOf(d *DepthwiseF32, b blocks, from, count int, out uintptr, step int) {
	at := from * b.block
	x.weights, x.bias = addressOf(d.w[at*d.taps():]), addressOf(d.bias[at:])
	x.out, x.outStep, x.blocks = out, uintptr(4*step), uintptr(count)
}
