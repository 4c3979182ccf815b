package kernels

import "fmt"

// MatMulInt8 is the product of two computed int8 matrices, ready to run:
//
//	a    [M, K], zero point AZero
//	b    [K, N], zero point BZero
//	out  [M, N] requantised, or as float32
//	sum[m,n] = Σ_k (a[m,k]-AZero) * (b[k,n]-BZero)   in int32, wrapping
type MatMulInt8 struct {
	M, K, N      int
	AZero, BZero int8
	out          Requant
	scale        float32
	lo, hi       float32
	variant      variant[matMulInt8Tier]
	floats       floatMatMul
}

// matMulInt8Tier is a way to compute it: the rows of the table of ProductF32
// that it multiplies with, nil for the definition.
type matMulInt8Tier *variant[productF32Tier]

// matMulInt8Variants is the table of MatMulInt8. Every tier that multiplies
// float32 multiplies integers with it: see floatMatMul.
var matMulInt8Variants = append(overFloats(productF32Native), variant[matMulInt8Tier]{Generic, true, nil})

func overFloats(rows []variant[productF32Tier]) (list []variant[matMulInt8Tier]) {
	for _, r := range rows {
		if r.exact {
			list = append(list, variant[matMulInt8Tier]{r.tier, true, &r})
		}
	}
	return list
}

// NewMatMulInt8 returns the product for t; m is s_a*s_b/s_y, out.Scale is not
// looked at. For a float32 result m is s_a*s_b.
func NewMatMulInt8(t Target, rows, depth, columns int, m float32, za, zb int8, out Requant) (*MatMulInt8, error) {
	p := &MatMulInt8{M: rows, K: depth, N: columns, AZero: za, BZero: zb, out: out, scale: m}
	p.out.Scale = []float32{m}
	if err := p.out.Check(1); err != nil {
		return nil, fmt.Errorf("int8 product: %w", err)
	}
	p.lo, p.hi = p.out.bounds()
	p.variant = pick(t, matMulInt8Variants)
	if rows < 1 || depth < 1 || columns < 1 {
		p.variant = pick(Target{Tier: Generic}, matMulInt8Variants)
	}
	if p.variant.run != nil {
		p.floats = newFloatMatMul(p)
	}
	return p, nil
}

// Tier returns the tier that was chosen.
func (p *MatMulInt8) Tier() Tier { return p.variant.tier }

// Scratch returns the bytes of scratch that Run and RunF32 need, aligned to 8.
func (p *MatMulInt8) Scratch() int {
	if p.variant.run != nil {
		return p.floats.scratch(p)
	}
	return 4 * p.N
}

// Run writes the requantised product of a and b to out.
func (p *MatMulInt8) Run(out, a, b []int8, scratch []byte) {
	p.run(a, b, scratch, func(at int, sums []int32) {
		to := out[at:][:len(sums)]
		for i, sum := range sums {
			to[i] = requantise(sum, p.scale, p.lo, p.hi, p.out.Zero)
		}
	})
}

// RunF32 writes float32(sum)*scale, rounded once, to out.
func (p *MatMulInt8) RunF32(out []float32, a, b []int8, scratch []byte) {
	p.run(a, b, scratch, func(at int, sums []int32) {
		to := out[at:][:len(sums)]
		for i, sum := range sums {
			to[i] = float32(float32(sum) * p.scale)
		}
	})
}

// run calls store with the sums, some rows at a time.
func (p *MatMulInt8) run(a, b []int8, scratch []byte, store func(at int, sums []int32)) {
	if p.variant.run != nil {
		p.floats.run(p, a, b, scratch, store)
		return
	}
	sums := int32s(scratch, p.N)
	for m := range p.M {
		p.row(sums, a[m*p.K:(m+1)*p.K], b)
		store(m*p.N, sums)
	}
}

// row is the definition of the sums of one row.
func (p *MatMulInt8) row(sums []int32, a, b []int8) {
	clear(sums)
	zero := int32(p.BZero)
	for k, v := range a {
		x := int32(v) - int32(p.AZero)
		if x == 0 {
			continue
		}
		for n, w := range b[k*p.N : (k+1)*p.N] {
			sums[n] += x * (int32(w) - zero)
		}
	}
}

// floatMatMul computes the sums of MatMulInt8 in float32: both operands less
// their zero points are at most 255, so that a sum of 258 products is below
// 2^24 and every float32 on the way to it is that integer, in any order. What
// is deeper goes in parts. Laying int8 out for dot products of bytes in the run
// would have to know their zero points; this is the product that attention in
// float has.
type floatMatMul struct {
	widen    func(out []float32, in []int8, scale float32, zero int8)
	products [2][2]*ProductF32 // of a whole block of rows and of what is left, likewise of the depth
	batch    []Offsets
}

const (
	exactDepth = (1 << 24) / (255 * 255)
	floatRows  = 126 // of a block
)

func newFloatMatMul(p *MatMulInt8) (f floatMatMul) {
	_, f.widen = Dequantizer[int8](Target{Tier: p.variant.tier})
	f.batch = make([]Offsets, 1)
	for i, m := range parts(p.M, floatRows) {
		for j, k := range parts(p.K, exactDepth) {
			f.products[i][j] = &ProductF32{
				M: m, K: k, N: p.N, A: Strides{p.K, 1}, B: Strides{p.N, 1}, OutRow: p.N, variant: *p.variant.run,
			}
		}
	}
	return f
}

// parts returns how long the parts of n are, and the last one; 1 for what does
// not occur.
func parts(n, most int) [2]int { return [2]int{max(1, min(n, most)), max(1, n%most)} }

// scratch has the operands as floats, a product, its sums, and what the
// product needs.
func (f *floatMatMul) scratch(p *MatMulInt8) int {
	own := 0
	for _, list := range f.products {
		for _, x := range list {
			own = max(own, x.Scratch())
		}
	}
	rows := min(p.M, floatRows)
	return roundUp(4*(rows*p.K+min(p.K, exactDepth)*p.N+2*rows*p.N), 8) + own
}

func (f *floatMatMul) run(p *MatMulInt8, a, b []int8, scratch []byte, store func(at int, sums []int32)) {
	rows := min(p.M, floatRows)
	all := view[float32](scratch[:4*(rows*p.K+min(p.K, exactDepth)*p.N+rows*p.N)])
	x, w, y := all[:rows*p.K], all[rows*p.K:][:min(p.K, exactDepth)*p.N], all[len(all)-rows*p.N:]
	sums := int32s(scratch[4*len(all):], rows*p.N)
	scratch = scratch[roundUp(4*(len(all)+len(sums)), 8):]
	for m := 0; m < p.M; m += rows {
		n := min(rows, p.M-m)
		f.widen(x, a[m*p.K:(m+n)*p.K], 1, p.AZero)
		clear(sums)
		for k := 0; k < p.K; k += exactDepth {
			depth := min(exactDepth, p.K-k)
			f.widen(w, b[k*p.N:(k+depth)*p.N], 1, p.BZero)
			f.products[last(n < rows)][last(depth < min(p.K, exactDepth))].Run(y, x[k:], w, f.batch, scratch)
			for i, v := range y[:n*p.N] {
				sums[i] += int32(v)
			}
		}
		store(m*p.N, sums[:n*p.N])
	}
}

// last is the index of what is left of a whole.
func last(is bool) int {
	if is {
		return 1
	}
	return 0
}
