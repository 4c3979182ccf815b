//go:build !purego && (amd64 || arm64)

package kernels

import (
	"math"
	"runtime"
	"unsafe"
)

// depthwiseTier is an integer tier: see depthwise_int8_neon_arm64.s, and
// depthwise_int8.go in _gen. It computes blocks of 4*lanes channels.
type depthwiseTier struct {
	lanes int // 32-bit values in a register
	group int // taps that are interleaved: 4 bytes, 2 words, or 1 byte
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

// fits reports whether the function computes d's kernel for so many pixels at
// once: see depthwiseColumns in _gen.
func (f *depthwiseColumns) fits(d *DepthwiseInt8, together, terms int) bool {
	return f.kernel == d.KH && f.kernel == d.KW && d.DilationW == 1 && f.terms == terms &&
		f.stride == d.StrideW*together && (together == 1 || d.StrideW == 1 && d.OW%together == 0)
}

func (v *depthwiseTier) tier() depthwiseInt8Tier {
	return depthwiseInt8Tier{pack: v.pack, scratch: v.scratch, run: v.run}
}

// depthwiseScratch is where the functions run. See tileScratchInt8.
type depthwiseScratch struct {
	args depthwiseArgs
	_    uint32
}

const depthwiseScratchBytes = (int(unsafe.Sizeof(depthwiseScratch{})) + 7) &^ 7

// depthwisePixels is about how many output pixels are computed before the
// next rows are staged.
const depthwisePixels = 32

func (v *depthwiseTier) blocks(d *DepthwiseInt8) blocks {
	return blocks{channels: d.C * d.packed.together, block: 4 * v.lanes, masked: v.masked()}
}

// masked reports whether a block can leave out channels.
func (v *depthwiseTier) masked() bool { return v.lanes == maskedLanes }

// channel returns which channel of a block is lane i of register j.
func (v *depthwiseTier) channel(j, i int) int {
	if v.size == 1 { // unpacked twice: 16 channels in each 128 bits
		return i/4*16 + 4*j + i%4
	}
	return j/2*16 + i/4*8 + j%2*4 + i%4
}

// choose picks the function: one for this kernel, which computes as many
// pixels at once as a block has room for, or the one for any; and the smallest
// weight it takes. Several pixels at once need masks.
func (v *depthwiseTier) choose(d *DepthwiseInt8) (p depthwisePacked, floor int) {
	p = depthwisePacked{terms: v.terms(d.w, math.MinInt8), together: 1}
	for together := 1; together == 1 || v.masked() && together*d.C <= 4*v.lanes; together *= 2 {
		for i := range v.fixed {
			if v.fixed[i].fits(d, together, p.terms) {
				p.form, p.together, p.order = i+1, together, tapOrder(d.KH, d.KW, interleaved)
			}
		}
	}
	if p.form > 0 {
		return p, math.MinInt8
	}
	floor = v.floor(d)
	p.terms, p.order = v.terms(d.w, floor), tapOrder(d.taps(), 1, v.group)
	return p, floor
}

// pack lays out weights, biases and scales by block, and takes the 128 that
// staging adds off the bias.
func (v *depthwiseTier) pack(d *DepthwiseInt8) {
	var floor int
	d.packed, floor = v.choose(d)
	p, b := &d.packed, v.blocks(d)
	all := b.count() * b.block
	p.w, p.bias, p.scale = aligned[int8](all*len(p.order)*p.terms*v.size), aligned[int32](all), aligned[float32](all)
	for i := range b.count() {
		for lane := range b.block {
			if c := b.first(i) + v.channel(lane/v.lanes, lane%v.lanes); c < b.channels {
				at := i*b.block + lane
				p.scale[at], p.bias[at] = d.out.Scale[c%d.C], d.bias[c%d.C]
				v.packChannel(d, p, c%d.C, i, lane, floor)
			}
		}
	}
	d.w, d.bias = nil, nil
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

// addresses is how many a function reads for a row of the result: of one for
// this kernel, those of its rows; otherwise of all taps, each once where taps
// are interleaved, once for each term where not.
func (v *depthwiseTier) addresses(d *DepthwiseInt8) int {
	switch {
	case d.packed.form > 0:
		return d.KH
	case v.group == 1:
		return len(d.packed.order) * d.packed.terms
	}
	return len(d.packed.order)
}

// rowsAtOnce is how many rows of the result a call computes at most.
func (r *ring) rowsAtOnce() int {
	if depthwiseRows {
		return r.outRows
	}
	return 1
}

func (v *depthwiseTier) scratch(d *DepthwiseInt8) int {
	r, b := ringOf(&d.Geometry, v.size, depthwisePixels), v.blocks(d)
	n := depthwiseScratchBytes + 8*r.rowsAtOnce()*v.addresses(d) + r.bytes() + cacheLine
	if b.peels() {
		n += roundUp(r.rowsAtOnce()*d.OW*b.block, 8)
	}
	return n
}

// run is depthwiseInt8Generic a few rows of output pixels at a time.
func (v *depthwiseTier) run(d *DepthwiseInt8, out, in []int8, scratch []byte) {
	r := ringRun{ring: ringOf(&d.Geometry, v.size, depthwisePixels), g: &d.Geometry, stage: v.stage, size: 1}
	x := &(*depthwiseScratch)(unsafe.Pointer(unsafe.SliceData(scratch[:depthwiseScratchBytes]))).args
	most, addresses := r.rowsAtOnce(), v.addresses(d)
	list := view[uintptr](scratch[depthwiseScratchBytes:][:8*most*addresses])
	memory := alignedBytes(scratch[depthwiseScratchBytes+8*len(list):])
	peeled := memory[r.bytes():]
	r.memory = memory[:r.bytes()]
	padding := paddingInt8(d.pad[0], v.size)
	r.padding = padding[:]
	b, together := v.blocks(d), d.packed.together
	x.mask = b.mask()
	x.terms = uintptr(d.packed.terms)
	x.taps, x.groups = addressOf(list), uintptr(addresses/v.group)
	x.inStep, x.pixels = uintptr(d.StrideW*r.pixel), uintptr(d.OW/together)
	if d.packed.form > 0 {
		x.inStep = uintptr(r.pixel)
	}
	x.hi, x.zero, x.least = d.hi, d.out.Zero, int32(d.out.Min)
	for n := range d.N {
		r.picture(addressOf(in[n*d.H*d.W*d.C:]))
		for oy := 0; oy < d.OH; oy += most {
			if oy%r.outRows == 0 {
				r.advance(oy, min(r.outRows, d.OH-oy))
			}
			rows := min(most, d.OH-oy)
			taps := list[:rows*addresses]
			for i := range rows {
				v.tapsOfRow(&r, d, taps[i*addresses:][:addresses], oy+i)
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

// tapsOfRow writes the addresses that a function reads for output row oy.
func (v *depthwiseTier) tapsOfRow(r *ringRun, d *DepthwiseInt8, taps []uintptr, oy int) {
	if d.packed.form > 0 {
		r.taps(taps, oy, true)
		return
	}
	r.taps(taps[:len(d.packed.order)], oy, false)
	repeat(taps, len(d.packed.order))
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

// repeat writes the first n taps several times each, side by side, as often as
// there is room.
func repeat(taps []uintptr, n int) {
	if len(taps) == n {
		return
	}
	times := len(taps) / n
	for i := len(taps) - 1; i > 0; i-- {
		taps[i] = taps[i/times]
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
