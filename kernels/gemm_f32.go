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
//	out  [M, N] = clamp(bias[n] + Σ_k a[m,k]*w[n,k])
//
// The exact order is: start from the bias, k ascending, each product rounded
// before it is added.
type GEMMF32 struct {
	K, N    int
	weights panelsF32
	variant variant[gemmF32Func]
}

// WeightsF32 are the constants of a float convolution or product, in the
// order of the operation's own comment.
type WeightsF32 struct {
	W    []float32
	Bias []float32 // or nil: all 0
	Clamp
}

// panelsF32 are the weights of one group of output channels as the generic
// tier wants them, [n/panel][k][panel].
type panelsF32 struct {
	w, bias  []float32 // bias for a multiple of panel channels
	n, depth int
	clamp    Clamp
}

// gemmF32Func computes m rows of a product.
type gemmF32Func func(p *panelsF32, out, a []float32, m int)

// gemmF32Variants is the table of GEMMF32.
var gemmF32Variants = []variant[gemmF32Func]{
	{Generic, true, gemmF32Generic},
}

// PackGEMMF32 lays w, [N, K], out for t. It fails where lengths do not fit.
func PackGEMMF32(t Target, n, k int, w WeightsF32) (*GEMMF32, error) {
	if n < 1 || k < 1 || len(w.W) != n*k {
		return nil, fmt.Errorf("float product: %d weights for [%d, %d]", len(w.W), n, k)
	}
	p, err := packPanelsF32(n, k, w)
	if err != nil {
		return nil, fmt.Errorf("float product: %w", err)
	}
	return &GEMMF32{K: k, N: n, weights: p, variant: pick(t, gemmF32Variants)}, nil
}

func packPanelsF32(n, depth int, w WeightsF32) (panelsF32, error) {
	if w.Bias != nil && len(w.Bias) != n {
		return panelsF32{}, fmt.Errorf("%d biases for %d channels", len(w.Bias), n)
	}
	p := panelsF32{
		n: n, depth: depth, clamp: w.Clamp,
		w: make([]float32, roundUp(n, panel)*depth), bias: make([]float32, roundUp(n, panel)),
	}
	copy(p.bias, w.Bias)
	for j := range n {
		dst := p.w[j/panel*panel*depth+j%panel:]
		for k, v := range w.W[j*depth : (j+1)*depth] {
			dst[k*panel] = v
		}
	}
	return p, nil
}

func (p *panelsF32) bytes() int { return 4 * (len(p.w) + len(p.bias)) }

// Tier returns the tier that was chosen.
func (g *GEMMF32) Tier() Tier { return g.variant.tier }

// Bytes returns the memory that the packed weights take.
func (g *GEMMF32) Bytes() int { return g.weights.bytes() }

// Scratch returns the bytes of scratch that Run needs.
func (g *GEMMF32) Scratch() int { return 0 }

// Run writes the product of a [m, K] to out [m, N].
func (g *GEMMF32) Run(out, a []float32, m int, scratch []byte) {
	g.variant.run(&g.weights, out[:m*g.N], a[:m*g.K], m)
}

// gemmF32Generic is the definition of GEMMF32.
func gemmF32Generic(p *panelsF32, out, a []float32, m int) {
	k := p.depth
	for i := 0; i < m; i += rowTile {
		rows := min(rowTile, m-i)
		a0 := a[i*k : (i+1)*k]
		a1 := a[(i+rows-1)*k : (i+rows)*k]
		for j := 0; j < p.n; j += panel {
			var acc [rowTile][panel]float32
			p.start(&acc, j)
			dotF32(&acc, a0, a1, p.w[j*k:(j+panel)*k])
			p.store(out, &acc, i*p.n+j, p.n, j, rows)
		}
	}
}

// start sets both rows to the bias of channels j..
func (p *panelsF32) start(acc *[rowTile][panel]float32, j int) {
	copy(acc[0][:], p.bias[j:])
	copy(acc[1][:], p.bias[j:])
}

// store writes rows of channels j.. to out, the first at at, ld apart.
func (p *panelsF32) store(out []float32, acc *[rowTile][panel]float32, at, ld, j, rows int) {
	n := min(panel, p.n-j)
	for row := range rows {
		dst := out[at+row*ld:][:n]
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
