//go:build !purego && (amd64 || arm64)

package kernels

import (
	"runtime"
	"unsafe"
)

// A product of computed matrices runs in the tiles of GEMMF32. b, which takes
// the place of weights, is laid out in panels of scratch first; a is read where
// it is, by the addresses of its rows.

// productSpace is the scratch of a product: see tileF32.productSpace.
type productSpace struct {
	t      *tileScratchF32
	zeros  []float32 // the bias of a panel
	list   []uintptr // addresses of a block of rows
	panels []float32
	rows   []float32 // a block of a's rows, where its columns do not lie side by side
}

func (v *tileF32) productTier() productF32Tier {
	return productF32Tier{scratch: v.productScratch, run: v.product}
}

// productBlock returns how many rows pass all panels before the next do.
func (v *tileF32) productBlock(p *ProductF32) int {
	most := v.most()
	return min(p.M, min(max(stagedBytes/(4*p.K)/most, 8), 64)*most)
}

// staged returns how many elements of a are brought together at once.
func (v *tileF32) staged(p *ProductF32) int {
	if p.A.Column == 1 || p.K == 1 {
		return 0
	}
	return v.productBlock(p) * p.K
}

// inPlace reports whether b already lies as a panel does.
func (v *tileF32) inPlace(p *ProductF32) bool {
	return p.B == Strides{p.N, 1} && p.N <= v.layout.width && p.N%v.layout.lanes == 0
}

func (v *tileF32) packed(p *ProductF32) int {
	if v.inPlace(p) {
		return 0
	}
	return roundUp(p.N, v.layout.lanes) * p.K
}

func (v *tileF32) productScratch(p *ProductF32) int {
	return tileScratchF32Bytes + 4*v.layout.width + 8*v.productBlock(p) + roundUp(4*(v.packed(p)+v.staged(p)), 8)
}

func (v *tileF32) productSpace(p *ProductF32, scratch []byte) (s productSpace) {
	s.t = tileSpaceF32(scratch)
	scratch = scratch[tileScratchF32Bytes:]
	s.zeros, scratch = view[float32](scratch[:4*v.layout.width]), scratch[4*v.layout.width:]
	list := 8 * v.productBlock(p)
	s.list, scratch = view[uintptr](scratch[:list]), scratch[list:]
	packed := 4 * v.packed(p)
	s.panels, s.rows = view[float32](scratch[:packed]), view[float32](scratch[packed:][:4*v.staged(p)])
	return s
}

// product is productF32Generic with tiles.
func (v *tileF32) product(p *ProductF32, out, a, b []float32, batch []Offsets, scratch []byte) {
	s := v.productSpace(p, scratch)
	clear(s.zeros)
	x := &s.t.args
	x.rowStep, x.segments, x.steps = uintptr(8*len(s.list)), 1, uintptr(p.K)
	x.lo, x.hi, x.bias = NoClamp.Min, NoClamp.Max, addressOf(s.zeros)
	for i, at := range batch {
		panels := addressOf(b[at.B:])
		if !v.inPlace(p) {
			panels = addressOf(s.panels)
			if i == 0 || at.B != batch[i-1].B {
				v.packProduct(p, s.panels, b[at.B:])
			}
		}
		for m := 0; m < p.M; m += len(s.list) {
			rows := min(len(s.list), p.M-m)
			v.productRows(p, &s, a[at.A+m*p.A.Row:], rows)
			r := resultF32(out, nil, at.Out+m*p.OutRow, p.OutRow)
			for j := 0; j < p.N; j += v.layout.width {
				columns := min(v.layout.width, roundUp(p.N-j, v.layout.lanes))
				x.weights, r.length = panels+uintptr(4*j*p.K), min(columns, p.N-j)
				v.panel(s.t, r, addressOf(s.list), rows, columns)
				r.move(uintptr(4 * v.layout.width))
			}
		}
	}
	runtime.KeepAlive(scratch)
	runtime.KeepAlive(out)
	runtime.KeepAlive(a)
	runtime.KeepAlive(b)
}

// productRows lists the addresses of rows of a.
func (v *tileF32) productRows(p *ProductF32, s *productSpace, a []float32, rows int) {
	at, step := addressOf(a), uintptr(4*p.A.Row)
	switch {
	case len(s.rows) > 0 && p.A.Row == 1: // a is the transpose of what lies there
		transposeTiled(transposeMost(v.layout.lanes), wordsOf(s.rows), wordsOf(a), axis{length: rows, stride: 1, to: p.K}, axis{length: p.K, stride: p.A.Column, to: 1})
	case len(s.rows) > 0:
		for m := range rows {
			row := s.rows[m*p.K:][:p.K]
			for k := range row {
				row[k] = a[m*p.A.Row+k*p.A.Column]
			}
		}
	}
	if len(s.rows) > 0 {
		at, step = addressOf(s.rows), uintptr(4*p.K)
	}
	for m := range s.list[:rows] {
		s.list[m] = at
		at += step
	}
}

// packProduct lays b out in panels, [N/width][K][width]; what fills up the last
// is 0.
func (v *tileF32) packProduct(p *ProductF32, panels, b []float32) {
	for j := 0; j < p.N; j += v.layout.width {
		width := min(v.layout.width, roundUp(p.N-j, v.layout.lanes))
		n := min(width, p.N-j)
		dst := panels[j*p.K:][:width*p.K]
		if n < width {
			clear(dst)
		}
		switch {
		case p.B.Column == 1:
			for k := range p.K {
				copy(dst[k*width:][:n], b[j+k*p.B.Row:])
			}
			continue
		case p.B.Row == 1:
			transposeTiled(transposeMost(v.layout.lanes), wordsOf(dst), wordsOf(b[j*p.B.Column:]), axis{length: p.K, stride: 1, to: width}, axis{length: n, stride: p.B.Column, to: 1})
			continue
		}
		packColumns(dst, b[j*p.B.Column:], p.K, n, width, p.B)
	}
}

// wordsOf sees x as words, which a transpose moves.
func wordsOf(x []float32) []uint32 {
	return unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(x))), len(x))
}
