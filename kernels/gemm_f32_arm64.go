//go:build !purego

package kernels

import "runtime"

// tileF32 is a float tier of arm64: its tiles. Fast ones fuse products with
// sums and keep several sums of one result where a tile is small; exact ones
// do as the definition says.
type tileF32 struct {
	*tileSet
	layout layoutF32
}

func (v *tileF32) gemm() gemmF32Tier {
	return gemmF32Tier{layout: v.layout, scratch: v.gemmScratch, run: v.runGEMM}
}

// block returns how many rows pass all weights before the next do.
func (v *tileF32) block(p *panelsF32) int {
	return min(max(stagedBytes/(4*p.depth), 24), 768) / 6 * 6
}

func (v *tileF32) gemmScratch(p *panelsF32) int { return tileScratchBytes + 8*v.block(p) }

// runGEMM is gemmF32Generic with tiles.
func (v *tileF32) runGEMM(p *panelsF32, out, a []float32, m int, scratch []byte) {
	block := v.block(p)
	t := tileSpace(scratch)
	list := view[uintptr](scratch[tileScratchBytes:][:8*block])
	for i := 0; i < m; i += block {
		rows := min(block, m-i)
		at := addressOf(a[i*p.depth:])
		for k := range list[:rows] {
			list[k] = at
			at += uintptr(4 * p.depth)
		}
		v.panels(t, p, addressOf(out)+uintptr(4*i*p.ld), p.ld, list[:rows])
	}
	runtime.KeepAlive(scratch)
	runtime.KeepAlive(a)
	runtime.KeepAlive(out)
}

// panels runs all panels of p over rows, [segments][m] addresses; results go to
// out, ld elements from row to row.
func (v *tileF32) panels(t *tileScratch, p *panelsF32, out uintptr, ld int, rows []uintptr) {
	x := &t.args
	m := len(rows) / p.segments
	x.rowStep, x.segments, x.steps = uintptr(8*m), uintptr(p.segments), uintptr(p.depth/p.segments)
	x.lo, x.hi, x.mode = p.clamp.Min, p.clamp.Max, modeF32
	weights, bias, size := addressOf(p.w), addressOf(p.bias), 4
	if p.half != nil {
		weights, size = addressOf(p.half), 2
	}
	for j := 0; j < p.n; j += p.width {
		columns := p.panelWidth(j)
		x.weights, x.bias = weights+uintptr(size*j*p.depth), bias+uintptr(4*j)
		r := tileResult{at: out + uintptr(4*j), ld: uintptr(4 * ld), size: 4, length: min(columns, p.n-j)}
		v.panel(t, r, addressOf(rows), m, columns)
	}
	runtime.KeepAlive(p)
}
