//go:build !purego && (amd64 || arm64)

package kernels

import "runtime"

// tileInt8 is an integer tier: its tiles, and how it wants the rows of
// activations to look, which it brings into scratch first. There each may be
// read a few bytes beyond its end.
type tileInt8 struct {
	*tileSetInt8
	layout layoutInt8
	stage  func(to, from uintptr, n int) // copies n values
	size   int                           // bytes of a staged value

	grouped *tileInt8 // its tiles for narrow groups of a convolution, or nil
}

// beyond is how many bytes after a staged row may be read.
const beyond = 128

func (v *tileInt8) gemm() gemmInt8Tier {
	return gemmInt8Tier{layout: v.layout, scratch: v.gemmScratch, run: v.runGEMM}
}

// block returns how many rows are staged at once.
func (v *tileInt8) block(p *panels) int {
	return min(max(stagedBytes/(p.depth*v.size), 24), 768) / 6 * 6
}

func (v *tileInt8) gemmScratch(p *panels) int {
	m := v.block(p)
	return tileScratchInt8Bytes + 8*m*p.terms + p.lessBytes(m) + roundUp(m*p.depth*v.size+beyond, 8)
}

// runGEMM is gemmInt8Generic with tiles.
func (v *tileInt8) runGEMM(p *panels, out resultInt8, a []int8, m int, scratch []byte) {
	block := v.block(p)
	t := tileSpaceInt8(scratch)
	clear(t.none[:])
	list := view[uintptr](scratch[tileScratchInt8Bytes:][:8*block*p.terms])
	less := view[int32](scratch[tileScratchInt8Bytes+8*len(list):][:p.lessBytes(block)])
	staged := addressOf(scratch[tileScratchInt8Bytes+8*len(list)+4*len(less):])
	t.args.rowStep, t.args.from = uintptr(8*block), 0
	for i := 0; i < m; i += block {
		rows, at := min(block, m-i), addressOf(a[i*p.depth:])
		if !v.inPlace(p) {
			v.stage(staged, at, rows*p.depth)
			at = staged
		}
		if i == 0 || at != staged {
			v.list(list, p, at, block, rows)
		}
		v.panels(t, p, &out, i*out.ld, addressOf(list), rows, less)
	}
	runtime.KeepAlive(scratch)
	runtime.KeepAlive(a)
	runtime.KeepAlive(out)
}

// lessBytes is the scratch for what tiles take off m rows.
func (p *panels) lessBytes(m int) int {
	if p.zeros == nil {
		return 0
	}
	return roundUp(4*m, 8)
}

// inPlace reports whether tiles may read rows where they are: as they are, and
// none beyond its end.
func (v *tileInt8) inPlace(p *panels) bool {
	return v.size == 1 && p.cell != cellBiased && p.depth%p.step == 0
}

// list writes the addresses of rows from at on, for each term, whose lists are
// block addresses apart.
func (v *tileInt8) list(list []uintptr, p *panels, at uintptr, block, rows int) {
	for i := range rows {
		for term := range p.terms {
			list[term*block+i] = at
		}
		at += uintptr(p.depth * v.size)
	}
}

// panels runs all panels of p over m staged rows; the result's first is
// element at of out. less has a value for each row, or none.
func (v *tileInt8) panels(t *tileScratchInt8, p *panels, out *resultInt8, at int, rows uintptr, m int, less []int32) {
	x := &t.args
	x.segments, x.steps = uintptr(p.terms*p.segments), uintptr(p.steps)
	x.hi, x.zero, x.least, x.most = p.hi, p.out.Zero, int32(p.out.Min), int32(p.out.Max)
	r := tileResultInt8{size: 4}
	if p.zeros != nil {
		x.weights, x.bias, x.mode = addressOf(p.zeros), addressOf(t.none[:]), modeInt32
		v.panel(t, tileResultInt8{at: addressOf(less), ld: 4, size: 4, length: 1}, rows, m, p.lanes)
		r.less = addressOf(less)
	}
	var base, scale uintptr
	switch {
	case out.i8 != nil:
		x.mode, r.size, base, scale = modeInt8, 1, addressOf(out.i8), addressOf(p.out.Scale)
		if p.wide {
			x.mode = modeInt8Wide
		}
	case out.f32 != nil:
		x.mode, base, scale = modeF32, addressOf(out.f32), addressOf(out.scale)
	default:
		x.mode, base = modeInt32, addressOf(out.i32)
	}
	r.ld = uintptr(out.ld * r.size)
	weights, bias := addressOf(p.w), addressOf(p.bias)
	if out.bias != nil {
		bias = addressOf(out.bias)
	}
	for j := 0; j < p.n; j += p.width {
		columns := p.panelWidth(j)
		x.weights, x.bias = weights+uintptr(j*p.channelBytes()), bias+uintptr(4*j)
		x.ahead, x.aheadStep = x.weights+uintptr(columns*p.channelBytes()), 0
		if j+columns < p.n && m >= tileRowsInt8[0] {
			x.aheadStep = uintptr(2*columns*4*tileRowsInt8[0]/m + 1)
		}
		r.at = base + uintptr((at+j)*r.size)
		r.length = min(columns, p.n-j)
		if scale != 0 {
			r.scale = scale + uintptr(4*j)
		}
		v.panel(t, r, rows, m, columns)
	}
	runtime.KeepAlive(p)
}
