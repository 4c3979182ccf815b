//go:build !purego

package kernels

import (
	"math"
	"runtime"
	"unsafe"
)

// depthwiseTier is a tier of arm64: see depthwise_int8_amd64.s. It computes
// blocks of 4*lanes channels.
type depthwiseTier struct {
	lanes int // 32-bit values in a register
	group int // taps that are interleaved: 4 bytes or 2 words
	row   func(*depthwiseArgs)
	stage func(to, from uintptr, n int)
	size  int // bytes of a staged value
	cell  cellInt8
	fixed []depthwiseColumns
}

// depthwiseColumns is a function for one size of kernel and one stride. It
// reads a column of pixels once for all output pixels that hold it.
type depthwiseColumns struct {
	kernel, stride, terms int
	row                   func(*depthwiseArgs)
}

func (v *depthwiseTier) tier() depthwiseInt8Tier {
	return depthwiseInt8Tier{pack: v.pack, scratch: v.scratch, run: v.run}
}

// depthwiseScratch is where the functions run. See tileScratch.
type depthwiseScratch struct {
	args depthwiseArgs
	_    uint32
}

const depthwiseScratchBytes = (int(unsafe.Sizeof(depthwiseScratch{})) + 7) &^ 7

// depthwisePixels is about how many output pixels are computed before the
// next rows are staged.
const depthwisePixels = 32

func (v *depthwiseTier) blocks(d *DepthwiseInt8) blocks {
	return blocks{channels: d.C, block: 4 * v.lanes, masked: v.lanes == 16}
}

// channel returns which channel of a block is lane i of register j.
func (v *depthwiseTier) channel(j, i int) int {
	if v.size == 1 { // unpacked twice: 16 channels in each 128 bits
		return i/4*16 + 4*j + i%4
	}
	return j/2*16 + i/4*8 + j%2*4 + i%4
}

// pack lays out weights, biases and scales by block, and takes the 128 that
// staging adds off the bias.
func (v *depthwiseTier) pack(d *DepthwiseInt8) {
	floor := math.MinInt8
	p := depthwisePacked{terms: v.terms(d.w, floor)}
	for i, f := range v.fixed {
		if f.kernel == d.KH && f.kernel == d.KW && f.stride == d.StrideW && d.DilationW == 1 && f.terms == p.terms {
			p.form, p.order = i+1, tapOrder(d.KH, d.KW, interleaved)
		}
	}
	if p.form == 0 {
		floor = v.floor(d)
		p.terms, p.order = v.terms(d.w, floor), tapOrder(d.taps(), 1, v.group)
	}
	b := v.blocks(d)
	all := b.count() * b.block
	p.w, p.bias, p.scale = make([]int8, all*len(p.order)*p.terms*v.size), make([]int32, all), make([]float32, all)
	for i := range b.count() {
		for lane := range b.block {
			if c := b.first(i) + v.channel(lane/v.lanes, lane%v.lanes); c < d.C {
				at := i*b.block + lane
				p.scale[at], p.bias[at] = d.out.Scale[c], d.bias[c]
				v.packChannel(d, &p, c, i, lane, floor)
			}
		}
	}
	d.packed, d.w, d.bias = p, nil, nil
}

// packChannel writes the weights of channel c, which is lane of block b:
// [blocks][groups][terms][4*lanes][group].
func (v *depthwiseTier) packChannel(d *DepthwiseInt8, p *depthwisePacked, c, b, lane, floor int) {
	group, block := v.groupOf(p.form), 4*v.lanes
	groups := len(p.order) / group
	for i, tap := range p.order {
		if tap < 0 {
			continue
		}
		w := int(d.w[tap*d.C+c])
		if v.cell == cellBiased {
			p.bias[b*block+lane] -= 128 * int32(w)
		}
		for term := range p.terms {
			cell := (((b*groups+i/group)*p.terms+term)*block+lane)*group + i%group
			if v.size == 2 {
				p.w[2*cell], p.w[2*cell+1] = int8(w), int8(w>>8)
				continue
			}
			part := min(max(w, floor), 127)
			p.w[cell] = int8(part)
			w -= part
		}
	}
}

// interleaved is how many taps functions for one size interleave.
const interleaved = 4

// groupOf is how many taps a form interleaves.
func (v *depthwiseTier) groupOf(form int) int {
	if form > 0 {
		return interleaved
	}
	return v.group
}

// tapOrder lists the taps of a kernel a column after the other, each filled up
// with -1 to a multiple of group.
func tapOrder(rows, columns, group int) []int {
	var order []int
	for kx := range columns {
		for ky := range roundUp(rows, group) {
			tap := ky*columns + kx
			if ky >= rows {
				tap = -1
			}
			order = append(order, tap)
		}
	}
	return order
}

// terms is how many taps one tap becomes: see termsInt8.
func (v *depthwiseTier) terms(w []int16, floor int) int {
	terms := 1
	for _, x := range w {
		if v.size == 1 {
			terms = max(terms, (int(x)+126)/127, (-int(x)-floor-1)/-floor)
		}
	}
	return terms
}

// floor is the smallest weight that is stored: see panels.fitPairs.
func (v *depthwiseTier) floor(d *DepthwiseInt8) int {
	if v.cell != cellPaired {
		return math.MinInt8
	}
	for tap := 0; tap+1 < d.taps(); tap += 2 {
		pair := d.w[tap*d.C : (tap+2)*d.C]
		for c, w := range pair[:d.C] {
			if w <= math.MinInt8 && pair[d.C+c] <= math.MinInt8 {
				return -math.MaxInt8
			}
		}
	}
	return math.MinInt8
}

// addresses is how many of taps functions read: of interleaved ones, each once,
// otherwise once for each term.
func (v *depthwiseTier) addresses(d *DepthwiseInt8) int {
	if v.groupOf(d.packed.form) == 1 {
		return len(d.packed.order) * d.packed.terms
	}
	return len(d.packed.order)
}

func (v *depthwiseTier) scratch(d *DepthwiseInt8) int {
	r, b := ringOf(&d.Geometry, v.size, depthwisePixels), v.blocks(d)
	n := depthwiseScratchBytes + 8*v.addresses(d) + r.bytes()
	if b.peels() {
		n += roundUp(d.OW*b.block, 8)
	}
	return n
}

// run is depthwiseInt8Generic a row of output pixels at a time.
func (v *depthwiseTier) run(d *DepthwiseInt8, out, in []int8, scratch []byte) {
	r := ringRun{ring: ringOf(&d.Geometry, v.size, depthwisePixels), g: &d.Geometry, stage: v.stage, size: 1}
	x := &(*depthwiseScratch)(unsafe.Pointer(unsafe.SliceData(scratch[:depthwiseScratchBytes]))).args
	taps := view[uintptr](scratch[depthwiseScratchBytes:][:8*v.addresses(d)])
	memory := scratch[depthwiseScratchBytes+8*len(taps):]
	peeled := memory[r.bytes():]
	r.memory = memory[:r.bytes()]
	padding := paddingInt8(d.pad[0], v.size)
	r.padding = padding[:]
	b := v.blocks(d)
	x.mask = b.mask()
	x.terms = uintptr(d.packed.terms)
	x.taps, x.groups = addressOf(taps), uintptr(len(taps)/v.groupOf(d.packed.form))
	x.inStep, x.pixels = uintptr(d.StrideW*r.pixel), uintptr(d.OW)
	columns := d.packed.form > 0
	if columns {
		x.inStep = uintptr(r.pixel)
	}
	x.hi, x.zero, x.least = d.hi, d.out.Zero, int32(d.out.Min)
	for n := range d.N {
		r.picture(addressOf(in[n*d.H*d.W*d.C:]))
		for oy := range d.OH {
			if oy%r.outRows == 0 {
				r.advance(oy, min(r.outRows, d.OH-oy))
			}
			dst := out[(n*d.OH+oy)*d.OW*d.C:][:d.OW*d.C]
			r.taps(taps[:len(d.packed.order)], oy, columns)
			repeat(taps, len(d.packed.order))
			if b.peels() {
				v.rowOf(x, d, 0, 1, addressOf(peeled), b.block)
				for i := range d.OW {
					copy(dst[i*d.C:(i+1)*d.C], view[int8](peeled[i*b.block:]))
				}
				continue
			}
			b.row(taps, v.size, func(from, count, channel int) {
				v.rowOf(x, d, from, count, addressOf(dst[channel:]), d.C)
			})
		}
	}
	runtime.KeepAlive(scratch)
	runtime.KeepAlive(in)
	runtime.KeepAlive(out)
}

// taps writes the addresses of all taps of the first pixel of output row oy,
// or only of those of the first column; those that fill up are the first
// again.
func (r *ringRun) taps(taps []uintptr, oy int, column bool) {
	g := r.g
	step := 1
	if column {
		step = g.KW
	}
	for i := range taps {
		k := i * step % g.taps()
		y := oy*g.StrideH + k/g.KW*g.DilationH
		taps[i] = r.at(y) + uintptr(k%g.KW*g.DilationW*r.pixel)
	}
}

// repeat writes the first n taps several times each, side by side, as often as
// there is room.
func repeat(taps []uintptr, n int) {
	times := len(taps) / n
	for i := len(taps) - 1; i > 0; i-- {
		taps[i] = taps[i/times]
	}
}

// rowOf computes count blocks of a row, the first of them from.
func (v *depthwiseTier) rowOf(x *depthwiseArgs, d *DepthwiseInt8, from, count int, out uintptr, step int) {
	p, at := &d.packed, from*4*v.lanes
	x.weights = addressOf(p.w[at*len(p.order)*p.terms*v.size:])
	x.bias, x.scale = addressOf(p.bias[at:]), addressOf(p.scale[at:])
	x.out, x.outStep, x.blocks = out, uintptr(step), uintptr(count)
	if p.form > 0 {
		v.fixed[p.form-1].row(x)
	} else {
		v.row(x)
	}
}
