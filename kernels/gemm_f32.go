package kernels

import (
	"fmt"
	"math"
)

// Clamp is an activation that bounds its result: Relu is {0, +Inf}. NaN stays
// NaN.
type Clamp struct{ Min, Max float32 }

// NoClamp bounds nothing.
var NoClamp = Clamp{Min: float32(math.Inf(-1)), Max: float32(math.Inf(1))}

func (c Clamp) of(v float32) float32 {
	if v < c.Min {
		v = c.Min
	}
	if v > c.Max {
		v = c.Max
	}
	return v
}

// GEMMF32 is a matrix product with constant float32 weights, ready to run:
//
//	a    [M, K]
//	w    [N, K]
//	bias [N], 0 where nil
//	more [M, N], 0 where nil
//	out  [M, N] = clamp(bias[n] + Σ_k a[m,k]*w[n,k] + more[m,n])
//
// The exact order is: start from the bias, k ascending, each product rounded
// before it is added; more is added last.
type GEMMF32 struct {
	K, N    int
	weights panelsF32
	variant variant[gemmF32Tier]
}

// WeightsF32 are the constants of a float convolution or product, in the
// order of the operation's own comment.
type WeightsF32 struct {
	W    []float32
	Half []uint16  // in place of W: IEEE 754 binary16, each standing for the float32 it equals
	Bias []float32 // or nil: all 0
	Clamp
}

// count returns how many weights there are.
func (w *WeightsF32) count() int { return len(w.W) + len(w.Half) }

// widened returns w without Half.
func (w WeightsF32) widened() WeightsF32 {
	for _, v := range w.Half {
		w.W = append(w.W, Float16(v))
	}
	w.Half = nil
	return w
}

// panelsF32 are the weights of one group of output channels in panels of width
// channels, [n/width][steps][width], the last as narrow as a multiple of lanes
// allows.
type panelsF32 struct {
	layoutF32
	w, bias  []float32 // bias for a multiple of lanes channels
	half     []uint16  // instead of w, where the layout has them so
	greatest float32   // magnitude of the greatest finite one of half
	n, depth int
	ld       int // elements from one row of a product's result to the next: n, or more where this is a part
	segments int // runs of the depth that lie side by side in the input
	clamp    Clamp
}

type layoutF32 struct {
	width, lanes int
	half         bool // weights that come as binary16 stay so
	turn         int  // the depth is filled up to a multiple of it with zeros; 0 is 1
}

// layoutGenericF32 is that of the generic tier.
var layoutGenericF32 = layoutF32{width: panel, lanes: panel}

// gemmF32Tier is a way to compute a product: the layout it wants, the bytes of
// scratch it needs, and the loop over m rows.
type gemmF32Tier struct {
	layout  layoutF32
	scratch func(p *panelsF32) int // nil: none
	run     func(p *panelsF32, out, a, more []float32, m int, scratch []byte)
	rows    func(p *panelsF32, m int) int // multiples at which a part of m may begin, for the order of sums to stay; nil: any
}

// gemmF32Variants is the table of GEMMF32.
var gemmF32Variants = append(gemmF32Native,
	variant[gemmF32Tier]{Generic, true, gemmF32Tier{layout: layoutGenericF32, run: gemmF32Generic}})

// gemmF16Variants is the table of GEMMF32 with weights in binary16: that of
// float32, which widens them when it packs them, but for the tiers that
// multiply them as they are.
var gemmF16Variants = instead(gemmF16Native, gemmF32Variants)

// PackGEMMF32 lays w, [N, K], out for t. It fails where lengths do not fit.
func PackGEMMF32(t Target, n, k int, w WeightsF32) (*GEMMF32, error) {
	if n < 1 || k < 1 || w.count() != n*k || (len(w.W) > 0 && len(w.Half) > 0) {
		return nil, fmt.Errorf("float product: %d weights for [%d, %d]", w.count(), n, k)
	}
	v := pick(t, gemmF32Variants)
	if w.Half != nil {
		v = pick(t, gemmF16Variants)
	}
	p, err := packPanelsF32(v.run.layout, n, k, w)
	if err != nil {
		return nil, fmt.Errorf("float product: %w", err)
	}
	p.segments = 1
	return &GEMMF32{K: k, N: n, weights: p, variant: v}, nil
}

func packPanelsF32(l layoutF32, n, depth int, w WeightsF32) (panelsF32, error) {
	if w.Bias != nil && len(w.Bias) != n {
		return panelsF32{}, fmt.Errorf("%d biases for %d channels", len(w.Bias), n)
	}
	p := panelsF32{layoutF32: l, n: n, ld: n, depth: depth, clamp: w.Clamp, bias: aligned[float32](roundUp(n, l.lanes))}
	copy(p.bias, w.Bias)
	switch {
	case w.Half == nil:
		p.w = pack(&p, w.W, func(v float32) float32 { return v })
	case l.half:
		p.half = pack(&p, w.Half, func(v uint16) uint16 { return v })
		for _, v := range w.Half {
			if v &^= 0x8000; v < 0x7c00 {
				p.greatest = max(p.greatest, Float16(v))
			}
		}
	default:
		p.w = pack(&p, w.Half, Float16)
	}
	return p, nil
}

// pack lays w, [n, depth], out in panels.
func pack[From, To any](p *panelsF32, w []From, convert func(From) To) []To {
	steps := p.steps()
	to := aligned[To](roundUp(p.n, p.lanes) * steps)
	for j := range p.n {
		first := j / p.width * p.width
		width := p.panelWidth(first)
		dst := to[first*steps+j-first:]
		for k, v := range w[j*p.depth : (j+1)*p.depth] {
			dst[k*width] = convert(v)
		}
	}
	return to
}

// repack lays other weights out where those of p, in float32, are.
func (p *panelsF32) repack(w, bias []float32) {
	copy(p.bias[:p.n], bias)
	steps := p.steps()
	for first := 0; first < p.n; first += p.width {
		n, width := min(p.width, p.n-first), p.panelWidth(first)
		packColumns(p.w[first*steps:], w[first*p.depth:], p.depth, n, width, Strides{1, p.depth})
	}
}

// packColumns writes n columns of k elements as rows of dst, width apart. Four
// are read side by side, so that a write is not of one element alone.
func packColumns(dst, b []float32, k, n, width int, s Strides) {
	c := 0
	for ; c+4 <= n && s.Row == 1; c += 4 {
		b0, b1, b2, b3 := b[c*s.Column:][:k], b[(c+1)*s.Column:][:k], b[(c+2)*s.Column:][:k], b[(c+3)*s.Column:][:k]
		at := c
		for i, v := range b0 {
			to := dst[at : at+4 : at+4]
			to[0], to[1], to[2], to[3] = v, b1[i], b2[i], b3[i]
			at += width
		}
	}
	for ; c < n; c++ {
		for i := range k {
			dst[i*width+c] = b[i*s.Row+c*s.Column]
		}
	}
}

// steps returns the depth with what it is filled up with.
func (p *panelsF32) steps() int { return roundUp(p.depth, max(p.turn, 1)) }

// panelWidth returns how many channels lie in the panel that begins at j.
func (p *panelsF32) panelWidth(j int) int { return min(p.width, roundUp(p.n-j, p.lanes)) }

func (p *panelsF32) bytes() int { return 4*(len(p.w)+len(p.bias)) + 2*len(p.half) }

// Tier returns the tier that was chosen.
func (g *GEMMF32) Tier() Tier { return g.variant.tier }

// Bytes returns the memory that the packed weights take.
func (g *GEMMF32) Bytes() int { return g.weights.bytes() }

// Scratch returns the bytes of scratch that Run needs, aligned to 8.
func (g *GEMMF32) Scratch() int {
	if g.variant.run.scratch == nil {
		return 0
	}
	return g.variant.run.scratch(&g.weights)
}

// Run writes the product of a [m, K] to out [m, N].
func (g *GEMMF32) Run(out, a []float32, m int, scratch []byte) {
	g.variant.run.run(&g.weights, out[:g.length(m)], a[:m*g.K], nil, m, scratch)
}

// length is that of a result of m rows.
func (g *GEMMF32) length(m int) int { return max(0, (m-1)*g.weights.ld+g.N) }

// RunAdd is Run with more [m, N] added before the clamp. more may be out.
func (g *GEMMF32) RunAdd(out, a, more []float32, m int, scratch []byte) {
	n := g.length(m)
	g.variant.run.run(&g.weights, out[:n], a[:m*g.K], more[:n], m, scratch)
}

// gemmF32Generic is the definition of GEMMF32.
func gemmF32Generic(p *panelsF32, out, a, more []float32, m int, _ []byte) {
	k := p.depth
	for i := 0; i < m; i += rowTile {
		rows := min(rowTile, m-i)
		a0 := a[i*k : (i+1)*k]
		a1 := a[(i+rows-1)*k : (i+rows)*k]
		for j := 0; j < p.n; j += panel {
			var acc [rowTile][panel]float32
			p.start(&acc, j)
			dotF32(&acc, a0, a1, p.w[j*k:(j+panel)*k])
			p.store(out, more, &acc, i*p.ld+j, p.ld, j, rows)
		}
	}
}

// start sets both rows to the bias of channels j..
func (p *panelsF32) start(acc *[rowTile][panel]float32, j int) {
	copy(acc[0][:], p.bias[j:])
	copy(acc[1][:], p.bias[j:])
}

// store writes rows of channels j.. to out, the first at at, ld apart, with
// what is there in more added.
func (p *panelsF32) store(out, more []float32, acc *[rowTile][panel]float32, at, ld, j, rows int) {
	n := min(panel, p.n-j)
	for row := range rows {
		dst := out[at+row*ld:][:n]
		if more != nil {
			for c, v := range more[at+row*ld:][:n] {
				acc[row][c] += v
			}
		}
		for c, v := range acc[row][:n] {
			dst[c] = p.clamp.of(v)
		}
	}
}

// dotF32 adds to acc the products of two rows with one panel of weights, in
// order, each product rounded first.
func dotF32(acc *[rowTile][panel]float32, a0, a1, w []float32) {
	c00, c01, c02, c03 := acc[0][0], acc[0][1], acc[0][2], acc[0][3]
	c10, c11, c12, c13 := acc[1][0], acc[1][1], acc[1][2], acc[1][3]
	a1 = a1[:len(a0)]
	for k, x0 := range a0 {
		if len(w) < panel {
			break
		}
		x1 := a1[k]
		w0, w1, w2, w3 := w[0], w[1], w[2], w[3]
		c00 += float32(x0 * w0)
		c01 += float32(x0 * w1)
		c02 += float32(x0 * w2)
		c03 += float32(x0 * w3)
		c10 += float32(x1 * w0)
		c11 += float32(x1 * w1)
		c12 += float32(x1 * w2)
		c13 += float32(x1 * w3)
		w = w[panel:]
	}
	acc[0] = [panel]float32{c00, c01, c02, c03}
	acc[1] = [panel]float32{c10, c11, c12, c13}
}

// MatMulF32 writes the product of a [m, k] and b [k, n], both computed, to
// out [m, n]. The exact order is that of GEMMF32 without a bias.
func MatMulF32(out, a, b []float32, m, k, n int) {
	for i := range m {
		row := out[i*n : (i+1)*n]
		clear(row)
		for j, x := range a[i*k : (i+1)*k] {
			for c, w := range b[j*n : (j+1)*n] {
				row[c] += float32(x * w)
			}
		}
	}
}

// Halves returns the bits of w as binary16 numbers, nil where one of w is none.
func Halves(w []float32) []uint16 {
	half := make([]uint16, len(w))
	for i, v := range w {
		b := Float16Bits(v)
		if math.Float32bits(Float16(b)) != math.Float32bits(v) {
			return nil
		}
		half[i] = b
	}
	return half
}

// HalvesPay reports whether GEMMF32 of m rows is better off with weights in
// binary16 than with the float32 they stand for: they take half the memory,
// and widening them costs nothing but on arm64 without arithmetic in binary16,
// where it pays for few rows, which wait for memory.
func HalvesPay(t Target, m int) bool { return t.Tier != NEON || m < 8 }
