//go:build !purego

package kernels

import (
	"runtime"
	"unsafe"
)

// depthwiseReal is a float tier of arm64: see depthwise_f32_amd64.s. Blocks of
// 2*lanes channels are treated as depthwiseTier treats its own.
type depthwiseReal struct {
	lanes int
	row   func(*depthwiseArgs)
}

func (v *depthwiseReal) tier() depthwiseF32Tier {
	return depthwiseF32Tier{pack: v.pack, scratch: v.scratch, run: v.run}
}

func (v *depthwiseReal) blocks(d *DepthwiseF32) blocks {
	return blocks{channels: d.C, block: 2 * v.lanes, masked: v.lanes == 16}
}

// pack lays out weights [blocks][taps][block] and bias [blocks][block].
func (v *depthwiseReal) pack(d *DepthwiseF32) {
	b, taps := v.blocks(d), d.taps()
	w, bias := make([]float32, b.count()*taps*b.block), make([]float32, b.count()*b.block)
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
	n := depthwiseScratchBytes + 8*d.taps() + r.bytes()
	if b.peels() {
		n += 4 * d.OW * b.block
	}
	return n
}

// run is depthwiseF32Generic a row of output pixels at a time.
func (v *depthwiseReal) run(d *DepthwiseF32, out, in []float32, scratch []byte) {
	r := ringRun{ring: ringOf(&d.Geometry, 4, depthwisePixels), g: &d.Geometry, stage: copyF32, size: 4, padding: zeroF32}
	x := &(*depthwiseScratch)(unsafe.Pointer(unsafe.SliceData(scratch[:depthwiseScratchBytes]))).args
	taps := view[uintptr](scratch[depthwiseScratchBytes:][:8*d.taps()])
	memory := scratch[depthwiseScratchBytes+8*len(taps):]
	r.memory = memory[:r.bytes()]
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
			r.taps(taps, oy, false)
			if b.peels() {
				peeled := view[float32](memory[r.bytes():][:4*d.OW*b.block])
				v.rowOf(x, d, 0, 1, addressOf(peeled), b.block)
				for i := range d.OW {
					copy(dst[i*d.C:(i+1)*d.C], peeled[i*b.block:])
				}
				continue
			}
			b.row(taps, 4, func(from, count, channel int) {
				v.rowOf(x, d, from, count, addressOf(dst[channel:]), d.C)
			})
		}
	}
	runtime.KeepAlive(scratch)
	runtime.KeepAlive(in)
	runtime.KeepAlive(out)
}

// rowOf computes count blocks of a row, the first of them from.
func (v *depthwiseReal) rowOf(x *depthwiseArgs, d *DepthwiseF32, from, count int, out uintptr, step int) {
	at := from * 2 * v.lanes
	x.weights, x.bias = addressOf(d.w[at*d.taps():]), addressOf(d.bias[at:])
	x.out, x.outStep, x.blocks = out, uintptr(4*step), uintptr(count)
	v.row(x)
}
