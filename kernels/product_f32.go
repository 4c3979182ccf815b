package kernels

import "fmt"

// ProductF32 is a matrix product of two computed float32 matrices, ready to
// run:
//
//	a   [M, K]  where Strides A say
//	b   [K, N]  where Strides B say
//	out [M, N]  rows OutRow apart, columns side by side
//	out[m,n] = Σ_k a[m,k]*b[k,n]
//
// The exact order is: start from 0, k ascending, each product rounded before
// it is added, which is that of GEMMF32 without a bias. Strides make the
// transpose of an operand, one head of several that lie side by side, and an
// operand that is repeated, as good as any other.
type ProductF32 struct {
	M, K, N int
	A, B    Strides
	OutRow  int

	variant variant[productF32Tier]
}

// Strides are how far apart the elements of a matrix lie, in elements: from a
// row to the next, and from a column to the next.
type Strides struct{ Row, Column int }

// last returns where the last element of a matrix is.
func (s Strides) last(rows, columns int) int { return (rows-1)*s.Row + (columns-1)*s.Column }

// Offsets are where the operands and the result of one product of a batch
// begin.
type Offsets struct{ A, B, Out int }

// productF32Tier is a way to compute a product: the bytes of scratch it needs,
// and the loop over a batch.
type productF32Tier struct {
	scratch func(p *ProductF32) int // nil: none
	run     func(p *ProductF32, out, a, b []float32, batch []Offsets, scratch []byte)
}

// productF32Variants is the table of ProductF32.
var productF32Variants = append(productF32Native,
	variant[productF32Tier]{Generic, true, productF32Tier{run: productF32Generic}})

// PickProductF32 makes p ready for t. It fails where p has no elements, or
// where columns or rows of the result would overlap.
func PickProductF32(t Target, p ProductF32) (*ProductF32, error) {
	if p.M < 1 || p.K < 1 || p.N < 1 || (p.OutRow < p.N && p.M > 1) || min(p.A.Row, p.A.Column, p.B.Row, p.B.Column) < 0 {
		return nil, fmt.Errorf("product [%d, %d, %d] with strides %v and %v to rows %d apart", p.M, p.K, p.N, p.A, p.B, p.OutRow)
	}
	p.variant = pick(t, productF32Variants)
	return &p, nil
}

// Tier returns the tier that was chosen.
func (p *ProductF32) Tier() Tier { return p.variant.tier }

// Scratch returns the bytes of scratch that Run needs, aligned to 8.
func (p *ProductF32) Scratch() int {
	if p.variant.run.scratch == nil {
		return 0
	}
	return p.variant.run.scratch(p)
}

// Run computes a product for each of batch. Those that share b should follow
// each other: a tier lays it out once for all of them.
func (p *ProductF32) Run(out, a, b []float32, batch []Offsets, scratch []byte) {
	for _, at := range batch {
		_ = a[at.A+p.A.last(p.M, p.K)]
		_ = b[at.B+p.B.last(p.K, p.N)]
		_ = out[at.Out+(p.M-1)*p.OutRow+p.N-1]
	}
	p.variant.run.run(p, out, a, b, batch, scratch)
}

// productF32Generic is the definition of ProductF32. Sums that lie side by side
// are taken together where b's columns do, and one after the other where they
// do not.
func productF32Generic(p *ProductF32, out, a, b []float32, batch []Offsets, _ []byte) {
	for _, at := range batch {
		for m := range p.M {
			row, x := out[at.Out+m*p.OutRow:][:p.N], a[at.A+m*p.A.Row:]
			if p.B.Column == 1 {
				p.sumRows(row, x, b[at.B:])
			} else {
				p.sumColumns(row, x, b[at.B:])
			}
		}
	}
}

func (p *ProductF32) sumRows(row, a, b []float32) {
	clear(row)
	for k := range p.K {
		x := a[k*p.A.Column]
		for n, w := range b[k*p.B.Row:][:len(row)] {
			row[n] += float32(x * w)
		}
	}
}

func (p *ProductF32) sumColumns(row, a, b []float32) {
	for n := range row {
		sum := float32(0)
		for k := range p.K {
			sum += float32(a[k*p.A.Column] * b[k*p.B.Row+n*p.B.Column])
		}
		row[n] = sum
	}
}
