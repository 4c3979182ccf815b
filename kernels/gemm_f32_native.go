//go:build !purego && (amd64 || arm64)

package kernels

import "runtime"

// tileF32 is a float tier: its tiles, and the layout they want. Fast ones fuse
// products with sums and keep several sums of one result where a tile is
// small; exact ones do as the definition says.
type tileF32 struct {
	*tileSetF32
	layout layoutF32
}

func (v *tileF32) gemm() gemmF32Tier {
	return gemmF32Tier{layout: v.layout, scratch: v.gemmScratch, run: v.runGEMM, rows: v.gemmRows}
}

// gemmRows is how many rows share tiles of one height: low ones may keep
// several sums of one result.
func (v *tileF32) gemmRows(p *panelsF32, m int) int {
	if block := v.block(p); m > block {
		return block
	}
	return v.most()
}

// block returns how many rows pass all weights before the next do: what
// stagedBytes hold, but enough of them to be worth the passing.
func (v *tileF32) block(p *panelsF32) int {
	most := v.most()
	return min(max(stagedBytes/(4*p.depth)/most, 8), 64) * most
}

func (v *tileF32) gemmScratch(p *panelsF32) int { return tileScratchF32Bytes + 8*v.block(p) }

// runGEMM is gemmF32Generic with tiles.
func (v *tileF32) runGEMM(p *panelsF32, out, a, more []float32, m int, scratch []byte) {
	block := v.block(p)
	t := tileSpaceF32(scratch)
	list := view[uintptr](scratch[tileScratchF32Bytes:][:8*min(block, m)])
	for i := 0; i < m; i += block {
		rows := min(block, m-i)
		at := addressOf(a[i*p.depth:])
		for k := range list[:rows] {
			list[k] = at
			at += uintptr(4 * p.depth)
		}
		v.panels(t, p, resultF32(out, more, i*p.ld, p.ld), list[:rows])
	}
	runtime.KeepAlive(scratch)
	runtime.KeepAlive(a)
	runtime.KeepAlive(more)
	runtime.KeepAlive(out)
}

// panels runs all panels of p over rows, [segments][m] addresses, into r.
func (v *tileF32) panels(t *tileScratchF32, p *panelsF32, r tileResultF32, rows []uintptr) {
	x := &t.args
	m := len(rows) / p.segments
	x.rowStep, x.segments, x.steps = uintptr(8*m), uintptr(p.segments), uintptr(p.depth/p.segments)
	x.lo, x.hi = p.clamp.Min, p.clamp.Max
	weights, bias, size := addressOf(p.w), addressOf(p.bias), 4
	if p.half != nil {
		weights, size = addressOf(p.half), 2
	}
	for j := 0; j < p.n; j += p.width {
		columns := p.panelWidth(j)
		x.weights, x.bias = weights+uintptr(size*j*p.depth), bias+uintptr(4*j)
		r.length = min(columns, p.n-j)
		v.panel(t, r, addressOf(rows), m, columns)
		r.move(uintptr(4 * p.width))
	}
	runtime.KeepAlive(p)
}
