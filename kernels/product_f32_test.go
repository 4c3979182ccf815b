package kernels

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"dunlin/internal/guard"
)

// operandOf returns count guarded matrices of rows by columns that follow each
// other, transposed where turned is set, gap elements between rows.
func operandOf(t testing.TB, seed uint64, count, rows, columns, gap int, turned, end bool) (data []float32, s Strides, each int) {
	if turned {
		s = Strides{1, rows + gap}
		each = columns * s.Column
	} else {
		s = Strides{columns + gap, 1}
		each = rows * s.Row
	}
	return randomF32(t, seeded(seed), (count-1)*each+s.last(rows, columns)+1, end), s, each
}

// checkProductF32 multiplies three pairs of matrices, of which two share b, in
// every order of their axes.
func checkProductF32(t *testing.T, target Target) {
	r := seeded(6)
	for i, k := range lengths {
		for _, n := range lengths {
			p := ProductF32{M: 1 + r.IntN(14), K: k, N: n}
			gap, end := r.IntN(2)*r.IntN(5), i%2 == 0
			a, sa, eachA := operandOf(t, uint64(k), 3, p.M, k, gap, r.IntN(3) == 0, end)
			b, sb, eachB := operandOf(t, uint64(n), 2, k, n, gap, r.IntN(2) == 0, end)
			p.A, p.B, p.OutRow = sa, sb, n+gap
			out := guard.Of[float32](t, 2*p.M*p.OutRow+(p.M-1)*p.OutRow+n, end)
			for i := range out {
				out[i] = 77
			}
			batch := []Offsets{{0, 0, 0}, {eachA, eachB, p.M * p.OutRow}, {2 * eachA, eachB, 2 * p.M * p.OutRow}}
			kernel, err := PickProductF32(target, p)
			if err != nil {
				t.Fatal(err)
			}
			kernel.Run(out, a, b, batch, guard.Of[byte](t, kernel.Scratch(), true))
			sameProduct(t, target, p, out, a, b, batch)
		}
	}
}

// More rows than pass at once, several panels, and b where it lies.
func TestProductF32Large(t *testing.T) {
	forVariants(t, productF32Variants, func(t *testing.T, target Target) {
		for _, s := range [][3]int{{61, 4099, 70}, {801, 3, 130}, {13, 40, 64}, {128, 64, 128}} {
			p := ProductF32{M: s[0], K: s[1], N: s[2], A: Strides{s[1], 1}, B: Strides{s[2], 1}, OutRow: s[2]}
			a, b := randomF32(t, seeded(1), p.M*p.K, true), randomF32(t, seeded(2), p.K*p.N, true)
			out := guard.Of[float32](t, p.M*p.N, true)
			kernel, err := PickProductF32(target, p)
			if err != nil {
				t.Fatal(err)
			}
			kernel.Run(out, a, b, make([]Offsets, 1), guard.Of[byte](t, kernel.Scratch(), true))
			sameProduct(t, target, p, out, a, b, make([]Offsets, 1))
		}
	})
}

// sameProduct checks products one element at a time: all bits of an exact
// tier's, the bound of boundF32 of a fast one's; what lies between rows is 77.
func sameProduct(t testing.TB, target Target, p ProductF32, out, a, b []float32, batch []Offsets) {
	t.Helper()
	want, bound := slices.Repeat([]float32{77}, len(out)), make([]float64, len(out))
	for _, at := range batch {
		for m := range p.M {
			for n := range p.N {
				sum, size := float32(0), 0.0
				for k := range p.K {
					v := float32(a[at.A+m*p.A.Row+k*p.A.Column] * b[at.B+k*p.B.Row+n*p.B.Column])
					sum, size = sum+v, size+math.Abs(float64(v))
				}
				nu := float64(p.K+1) / (1 << 24)
				want[at.Out+m*p.OutRow+n], bound[at.Out+m*p.OutRow+n] = sum, 2*nu/(1-nu)*size
			}
		}
	}
	if target.Exact {
		same(t, fmt.Sprint(p), out, want)
		return
	}
	for i, v := range out {
		if d := math.Abs(float64(v) - float64(want[i])); !(d <= bound[i]) {
			t.Fatalf("%v: element %d is %v, want %v within %g", p, i, v, want[i], bound[i])
		}
	}
}

func TestProductF32Refuses(t *testing.T) {
	good := ProductF32{M: 2, K: 3, N: 4, A: Strides{3, 1}, B: Strides{4, 1}, OutRow: 4}
	for name, change := range map[string]func(p *ProductF32){
		"no rows": func(p *ProductF32) { p.M = 0 }, "no depth": func(p *ProductF32) { p.K = 0 }, "no columns": func(p *ProductF32) { p.N = 0 },
		"rows that overlap": func(p *ProductF32) { p.OutRow = 3 }, "backwards": func(p *ProductF32) { p.B.Row = -4 },
	} {
		p := good
		change(&p)
		if _, err := PickProductF32(Target{}, p); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
