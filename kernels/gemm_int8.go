package kernels

import "fmt"

// panel is how many output channels the generic kernels compute side by side,
// and rowTile how many rows: 8 sums stay in registers.
const (
	panel   = 4
	rowTile = 2
)

// GEMMInt8 is a matrix product with constant int8 weights, ready to run:
//
//	a    [M, K]  int8, zero point InZero
//	w    [N, K]  int8, zero point WZero[n] (0 where nil)
//	bias [N]     int32, in units of the scales of a and w
//	sum[m,n] = bias[n] + Σ_k (a[m,k]-InZero) * (w[n,k]-WZero[n])   in int32, wrapping
//
// Run gives the sums requantised, RunInt32 gives them as they are, RunF32
// multiplied by a scale.
type GEMMInt8 struct {
	K, N    int
	ld      int // elements from one row of the result to the next: N, or more where this is a part
	weights panels
	variant variant[gemmInt8Tier]
}

// WeightsInt8 are the constants of an integer convolution or product, in the
// order of the operation's own comment.
type WeightsInt8 struct {
	InZero int8
	W      []int8
	WZero  []int8  // one for each output channel, or nil: all 0
	Bias   []int32 // or nil: all 0
	Out    Requant // Scale nil where only sums or floats are wanted
}

// panels are the weights of one group of output channels as a tier wants them
// (layoutInt8), with what is added per channel.
type panels struct {
	layoutInt8
	w        []int8
	bias     []int32 // bias - InZero * Σ_k (w-WZero), for a multiple of lanes channels
	sums     []int32 // Σ_k (w-WZero), likewise
	wzero    []int32 // WZero, or nil where all are 0 or the weights have taken it in
	out      Requant // one scale for each of them
	n, depth int
	inZero   int8
	lo, hi   float32
	wide     bool   // a sum times a scale may leave int32: some scale is 1 or more
	zeros    []int8 // a panel of the weights' common zero point, where they have not taken it in
	terms    int    // how many stored weights make one: above 1 where 8 bits are too few
	floor    int32  // the smallest that is stored
	segments int    // runs of the depth that lie side by side in the input
	steps    int    // in a segment
}

// gemmInt8Tier is a way to compute a product: the layout it wants, the bytes
// of scratch it needs, and the loop over m rows.
type gemmInt8Tier struct {
	layout  layoutInt8
	scratch func(p *panels) int // nil: none
	run     func(p *panels, out resultInt8, a []int8, m int, scratch []byte)
}

// gemmInt8Variants is the table of GEMMInt8.
var gemmInt8Variants = append(gemmInt8Native,
	variant[gemmInt8Tier]{Generic, true, gemmInt8Tier{layout: layoutGeneric, run: gemmInt8Generic}})

// resultInt8 is where sums go: one of the three slices.
type resultInt8 struct {
	i8    []int8
	i32   []int32
	f32   []float32
	scale []float32 // of f32, for a multiple of panel channels
	bias  []int32   // in place of the panels' own, or nil
	ld    int       // elements from one row to the next
}

// PackGEMMInt8 lays w, [N, K], out for t. It fails where lengths do not fit.
func PackGEMMInt8(t Target, n, k int, w WeightsInt8) (*GEMMInt8, error) {
	if n < 1 || k < 1 || len(w.W) != n*k {
		return nil, fmt.Errorf("int8 product: %d weights for [%d, %d]", len(w.W), n, k)
	}
	v := pick(t, gemmInt8Variants)
	p, err := packPanels(v.run.layout, n, 1, k, w)
	if err != nil {
		return nil, fmt.Errorf("int8 product: %w", err)
	}
	return &GEMMInt8{K: k, N: n, ld: n, weights: p, variant: v}, nil
}

// Tier returns the tier that was chosen.
func (g *GEMMInt8) Tier() Tier { return g.variant.tier }

// Bytes returns the memory that the packed weights take.
func (g *GEMMInt8) Bytes() int { return g.weights.bytes() }

func (p *panels) bytes() int {
	return len(p.w) + len(p.zeros) + 4*(len(p.bias)+len(p.sums)+len(p.wzero)+len(p.out.Scale))
}

// Scratch returns the bytes of scratch that Run needs, aligned to 8.
func (g *GEMMInt8) Scratch() int {
	if g.variant.run.scratch == nil {
		return 0
	}
	return g.variant.run.scratch(&g.weights)
}

// length is that of a result of m rows.
func (g *GEMMInt8) length(m int) int { return max(0, (m-1)*g.ld+g.N) }

// Run writes the requantised product of a [m, K] to out [m, N].
func (g *GEMMInt8) Run(out, a []int8, m int, scratch []byte) {
	g.variant.run.run(&g.weights, resultInt8{i8: out[:g.length(m)], ld: g.ld}, a[:m*g.K], m, scratch)
}

// RunInt32 writes the sums to out [m, N].
func (g *GEMMInt8) RunInt32(out []int32, a []int8, m int, scratch []byte) {
	g.variant.run.run(&g.weights, resultInt8{i32: out[:g.length(m)], ld: g.ld}, a[:m*g.K], m, scratch)
}

// RunF32 writes float32(sum)*scale[n], rounded once, to out [m, N]. len(scale)
// is at least N rounded up to a multiple of 4.
func (g *GEMMInt8) RunF32(out []float32, a []int8, m int, scale []float32, scratch []byte) {
	g.variant.run.run(&g.weights, resultInt8{f32: out[:g.length(m)], scale: scale[:roundUp(g.N, panel)], ld: g.ld}, a[:m*g.K], m, scratch)
}

// DynamicScratch returns the bytes of scratch that RunDynamic needs, aligned
// to 8.
func (g *GEMMInt8) DynamicScratch() int { return roundUp(4*len(g.weights.bias), 8) + g.Scratch() }

// RunDynamic is RunF32 for rows whose zero point is known in the run only: it
// takes the place of InZero.
func (g *GEMMInt8) RunDynamic(out []float32, a []int8, m int, zero int8, scale []float32, scratch []byte) {
	p := &g.weights
	bias := int32s(scratch, len(p.bias))
	more := int32(zero) - int32(p.inZero)
	for j, b := range p.bias {
		bias[j] = b - more*p.sums[j]
	}
	r := resultInt8{f32: out[:g.length(m)], scale: scale[:roundUp(g.N, panel)], bias: bias, ld: g.ld}
	g.variant.run.run(p, r, a[:m*g.K], m, scratch[roundUp(4*len(bias), 8):])
}

// gemmInt8Generic is the definition of GEMMInt8.
func gemmInt8Generic(p *panels, out resultInt8, a []int8, m int, _ []byte) {
	k := p.depth
	for i := 0; i < m; i += rowTile {
		rows := min(rowTile, m-i)
		a0 := a[i*k : (i+1)*k]
		a1 := a0
		if rows == 2 {
			a1 = a[(i+1)*k : (i+2)*k]
		}
		s0, s1 := int32(0), int32(0)
		if p.wzero != nil {
			s0, s1 = sumInt8(a0), sumInt8(a1)
		}
		for j := 0; j < p.n; j += panel {
			var acc [rowTile][panel]int32
			dotInt8(&acc, a0, a1, p.w[j*k:(j+panel)*k])
			p.finish(&acc, j, s0, s1)
			out.rebias(p, &acc, j)
			out.store(p, &acc, i, j, rows)
		}
	}
}

// dotInt8 adds to acc the products of two rows with one panel of weights.
func dotInt8(acc *[rowTile][panel]int32, a0, a1, w []int8) {
	c00, c01, c02, c03 := acc[0][0], acc[0][1], acc[0][2], acc[0][3]
	c10, c11, c12, c13 := acc[1][0], acc[1][1], acc[1][2], acc[1][3]
	a1 = a1[:len(a0)]
	for k, x := range a0 {
		if len(w) < panel {
			break
		}
		x0, x1 := int32(x), int32(a1[k])
		w0, w1 := int32(w[0]), int32(w[1])
		c00 += x0 * w0
		c10 += x1 * w0
		c01 += x0 * w1
		c11 += x1 * w1
		w2, w3 := int32(w[2]), int32(w[3])
		c02 += x0 * w2
		c12 += x1 * w2
		c03 += x0 * w3
		c13 += x1 * w3
		w = w[panel:]
	}
	acc[0] = [panel]int32{c00, c01, c02, c03}
	acc[1] = [panel]int32{c10, c11, c12, c13}
}

func sumInt8(a []int8) int32 {
	s := int32(0)
	for _, v := range a {
		s += int32(v)
	}
	return s
}

// finish adds the bias of channels j.. and takes off what their weights' zero
// points brought in, s0 and s1 being the sums of the two rows.
func (p *panels) finish(acc *[rowTile][panel]int32, j int, s0, s1 int32) {
	for c, b := range p.bias[j : j+panel] {
		acc[0][c] += b
		acc[1][c] += b
		if p.wzero != nil {
			acc[0][c] -= s0 * p.wzero[j+c]
			acc[1][c] -= s1 * p.wzero[j+c]
		}
	}
}

// rebias puts the result's own bias in place of the panels'.
func (r *resultInt8) rebias(p *panels, acc *[rowTile][panel]int32, j int) {
	for c := range acc[0] {
		if r.bias != nil {
			acc[0][c] += r.bias[j+c] - p.bias[j+c]
			acc[1][c] += r.bias[j+c] - p.bias[j+c]
		}
	}
}

// store writes rows i.. and channels j.. of the result.
func (r *resultInt8) store(p *panels, acc *[rowTile][panel]int32, i, j, rows int) {
	n := min(panel, p.n-j)
	for row := range rows {
		at := (i+row)*r.ld + j
		switch {
		case r.i8 != nil:
			scale := p.out.Scale[j : j+panel]
			for c, sum := range acc[row][:n] {
				r.i8[at+c] = requantise(sum, scale[c], p.lo, p.hi, p.out.Zero)
			}
		case r.f32 != nil:
			for c, sum := range acc[row][:n] {
				r.f32[at+c] = float32(float32(sum) * r.scale[j+c])
			}
		default:
			copy(r.i32[at:at+n], acc[row][:n])
		}
	}
}
