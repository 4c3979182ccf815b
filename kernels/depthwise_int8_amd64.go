//go:build !purego

package kernels

import (
	"runtime"
	"unsafe"
)

// depthwiseTier is a tier of amd64: see depthwise_int8_amd64.s. It computes
// blocks of 4*lanes channels.
type depthwiseTier struct {
	lanes int // 32-bit values in a register
	group int // taps that are interleaved: 4 bytes or 2 words
	row   func(*depthwiseArgs)
	stage func(to, from uintptr, n int)
	size  int // bytes of a staged value
	fixed []depthwiseColumns
}

// depthwiseColumns is a function for one size of kernel and one stride. It
// reads a column of pixels once for all output pixels that hold it.
type depthwiseColumns struct {
	kernel, stride, terms int
	row                   func(*depthwiseArgs)
}

// fits reports whether the function computes d's kernel for so many pixels at
// once: see depthwiseColumns in _gen.
func (f *depthwiseColumns) fits(d *DepthwiseInt8, together, terms int) bool {
	return f.kernel == d.KH && f.kernel == d.KW && d.DilationW == 1 && f.terms == terms &&
		f.stride == d.StrideW*together && (together == 1 || d.StrideW == 1 && d.OW%together == 0)
}

var (
	depthwiseAVX512  = &depthwiseTier{16, 4, depthwiseInt8_AVX512, flipAVX512, 1, depthwiseColumnsAVX512}
	depthwiseAVXVNNI = &depthwiseTier{8, 4, depthwiseInt8_AVXVNNI, flipAVXVNNI, 1, nil}
	depthwiseAVX2    = &depthwiseTier{8, 2, depthwiseInt8_AVX2, widenAVX2, 2, nil}
)

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
	return blocks{channels: d.C * d.packed.together, block: 4 * v.lanes, masked: v.lanes == 16}
}

// channel returns which channel of a block is lane i of register j.
func (v *depthwiseTier) channel(j, i int) int {
	if v.group == 4 { // unpacked twice: 16 channels in each 128 bits
		return i/4*16 + 4*j + i%4
	}
	return j/2*16 + i/4*8 + j%2*4 + i%4
}

// choose picks the function: one for this kernel, which computes as many
// pixels at once as a block has room for, or the one for any.
func (v *depthwiseTier) choose(d *DepthwiseInt8) depthwisePacked {
	p := depthwisePacked{terms: v.terms(d.w), together: 1, order: tapOrder(d.taps(), 1, v.group)}
	for together := 1; together == 1 || together*d.C <= 4*v.lanes; together *= 2 {
		for i := range v.fixed {
			if v.fixed[i].fits(d, together, p.terms) {
				p.form, p.together, p.order = i+1, together, tapOrder(d.KH, d.KW, v.group)
			}
		}
	}
	return p
}

// pack lays out weights, biases and scales by block, and takes the 128 that
// staging adds off the bias.
func (v *depthwiseTier) pack(d *DepthwiseInt8) {
	d.packed = v.choose(d)
	p, b := &d.packed, v.blocks(d)
	all := b.count() * b.block
	p.w, p.bias, p.scale = aligned[int8](all*len(p.order)*p.terms*v.size), aligned[int32](all), aligned[float32](all)
	for i := range b.count() {
		for lane := range b.block {
			if c := b.first(i) + v.channel(lane/v.lanes, lane%v.lanes); c < b.channels {
				at := i*b.block + lane
				p.scale[at], p.bias[at] = d.out.Scale[c%d.C], d.bias[c%d.C]
				v.packChannel(d, p, c%d.C, i, lane)
			}
		}
	}
	d.w, d.bias = nil, nil
}

// packChannel writes the weights of channel c, which is lane of block b:
// [blocks][groups][terms][4*lanes][group].
func (v *depthwiseTier) packChannel(d *DepthwiseInt8, p *depthwisePacked, c, b, lane int) {
	groups, block := len(p.order)/v.group, 4*v.lanes
	for i, tap := range p.order {
		if tap < 0 {
			continue
		}
		w := int(d.w[tap*d.C+c])
		if v.group == 4 {
			p.bias[b*block+lane] -= 128 * int32(w)
		}
		for term := range p.terms {
			cell := (((b*groups+i/v.group)*p.terms+term)*block+lane)*v.group + i%v.group
			if v.size == 2 {
				p.w[2*cell], p.w[2*cell+1] = int8(w), int8(w>>8)
				continue
			}
			part := min(max(w, -128), 127)
			p.w[cell] = int8(part)
			w -= part
		}
	}
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
func (v *depthwiseTier) terms(w []int16) int {
	terms := 1
	for _, x := range w {
		if v.size == 1 {
			terms = max(terms, (int(x)+126)/127, (127-int(x))/128)
		}
	}
	return terms
}

func (v *depthwiseTier) scratch(d *DepthwiseInt8) int {
	r, b := ringOf(&d.Geometry, v.size, depthwisePixels), v.blocks(d)
	n := depthwiseScratchBytes + 8*r.outRows*d.tapsOfRow() + r.bytes() + cacheLine
	if b.peels() {
		n += roundUp(r.outRows*d.OW*b.block, 8)
	}
	return n
}

// tapsOfRow is how many addresses the functions read for a row of the result.
func (d *DepthwiseInt8) tapsOfRow() int {
	if d.packed.form > 0 {
		return d.KH
	}
	return len(d.packed.order)
}

// run is depthwiseInt8Generic a few rows of output pixels at a time.
func (v *depthwiseTier) run(d *DepthwiseInt8, out, in []int8, scratch []byte) {
	r := ringRun{ring: ringOf(&d.Geometry, v.size, depthwisePixels), g: &d.Geometry, stage: v.stage, size: 1}
	x := &(*depthwiseScratch)(unsafe.Pointer(unsafe.SliceData(scratch[:depthwiseScratchBytes]))).args
	list := view[uintptr](scratch[depthwiseScratchBytes:][:8*r.outRows*d.tapsOfRow()])
	memory := alignedBytes(scratch[depthwiseScratchBytes+8*len(list):])
	peeled := memory[r.bytes():]
	r.memory = memory[:r.bytes()]
	padding := stagedInt8(d.pad[0], v.size)
	r.padding = padding[:v.size]
	b, together := v.blocks(d), d.packed.together
	x.mask = b.mask()
	x.terms = uintptr(d.packed.terms)
	x.taps, x.groups = addressOf(list), uintptr(d.tapsOfRow()/v.group)
	x.inStep, x.pixels = uintptr(d.StrideW*r.pixel), uintptr(d.OW/together)
	columns := d.packed.form > 0
	if columns {
		x.inStep = uintptr(r.pixel)
	}
	x.hi, x.zero, x.least = d.hi, d.out.Zero, int32(d.out.Min)
	for n := range d.N {
		r.picture(addressOf(in[n*d.H*d.W*d.C:]))
		for oy := 0; oy < d.OH; oy += r.outRows {
			rows := min(r.outRows, d.OH-oy)
			r.advance(oy, rows)
			taps := list[:rows*d.tapsOfRow()]
			for i := range rows {
				r.taps(taps[i*d.tapsOfRow():][:d.tapsOfRow()], oy+i, columns)
			}
			x.rows = uintptr(rows)
			dst := out[(n*d.OH+oy)*d.OW*d.C:][:rows*d.OW*d.C]
			if b.peels() {
				v.rowsOf(x, d, 0, 1, addressOf(peeled), b.block)
				for i := range rows * d.OW {
					copy(dst[i*d.C:(i+1)*d.C], view[int8](peeled[i*b.block:]))
				}
				continue
			}
			b.row(taps, v.size, func(from, count, channel int) {
				v.rowsOf(x, d, from, count, addressOf(dst[channel:]), d.C*together)
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
	g, i, columns := r.g, 0, r.g.KW
	if column {
		columns = 1
	}
	for ky := range g.KH {
		at := r.at(oy*g.StrideH + ky*g.DilationH)
		for range columns {
			taps[i] = at
			at += uintptr(g.DilationW * r.pixel)
			i++
		}
	}
	for ; i < len(taps); i++ {
		taps[i] = taps[0]
	}
}

// rowsOf computes count blocks of rows, the first of them from.
func (v *depthwiseTier) rowsOf(x *depthwiseArgs, d *DepthwiseInt8, from, count int, out uintptr, step int) {
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
