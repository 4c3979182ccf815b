package kernels

import (
	"fmt"
	"slices"
	"testing"

	"dunlin/internal/guard"
)

var stridedNames = [stridedOps]string{
	StridedPass: "pass", StridedGive: "give", StridedAdd: "add", StridedAddProduct: "addProduct", StridedLine: "line", StridedAddSquare: "addSquare", StridedAddCentred: "addCentred",
}

func checkStridedF32(t *testing.T, target Target) {
	for op := range stridedOps {
		t.Run(stridedNames[op], func(t *testing.T) {
			for _, n := range elementLengths {
				for i, s := range []Strided{
					{Rows: 1},
					{Rows: 3, Out: n, A: n, B: n, C: n},
					{Rows: 4, Out: n + 3, A: 2 * n, B: n, C: n + 1},
					{Rows: 5, A: n, B: n + 2}, // sums of all rows
					{Rows: 3, Out: n, A: n},   // b and c the same in each
				} {
					s.N, s.P, s.Q = n, -0.5, 2.5
					checkStrided(t, target, op, s, (n+i)%2 == 0)
				}
			}
		})
	}
}

// checkStrided compares one call with the definition. A third of what a holds
// is what b holds there, so that some are equal.
func checkStrided(t *testing.T, target Target, op StridedOp, s Strided, end bool) {
	t.Helper()
	tier, run := StridedF32(target, op)
	if tier != target.Tier {
		t.Fatalf("tier %v", tier)
	}
	if s.N == 0 {
		run(nil, nil, nil, nil, s)
		return
	}
	r := seeded(uint64(s.N))
	out, a := oddF32(t, r, s.span(s.Out), end), oddF32(t, r, s.span(s.A), end)
	b, c := oddF32(t, r, s.span(s.B), !end), oddF32(t, r, s.span(s.C), !end)
	for i := range s.Rows {
		for k := range s.N {
			if r.IntN(3) == 0 {
				a[i*s.A+k] = b[i*s.B+k]
			}
		}
	}
	want, wantC := slices.Clone(out), slices.Clone(c)
	before := slices.Clone(a)
	stridedF32Generic(op, want, a, b, wantC, s)
	run(out, a, b, c, s)
	sameBits(t, fmt.Sprint(s), out, want)
	sameBits(t, fmt.Sprint(s, " c"), c, wantC)
	sameBits(t, fmt.Sprint(s, " a"), a, before)
}

// TestStridedF32 has each operation by hand.
func TestStridedF32(t *testing.T) {
	a, b := []float32{1, 2, 3, 4}, []float32{5, 2, -1, 4}
	for op, want := range [stridedOps][]float32{
		StridedPass: {0, 2, -1, 0}, StridedGive: {10, 27, 30, 49}, StridedAdd: {11, 22, 33, 44}, StridedAddProduct: {15, 24, 27, 56},
		StridedLine: {11, 11, 5, 25}, StridedAddSquare: {35, 45, 55, 65}, StridedAddCentred: {-15, 10, 35, 20},
	} {
		forVariants(t, stridedF32Variants, func(t *testing.T, target Target) {
			out, c := []float32{10, 20, 30, 40}, []float32{6, 7, 8, 9}
			_, run := StridedF32(target, StridedOp(op))
			run(out, a, b, c, Strided{Rows: 1, N: 4, P: 1, Q: 4})
			sameBits(t, stridedNames[op], out, want)
			if op == int(StridedGive) {
				sameBits(t, "what is left", c, []float32{6, 0, 8, 0})
			}
		})
	}
}

// A call allocates nothing, and reads no more than it says.
func TestStridedF32Memory(t *testing.T) {
	forVariants(t, stridedF32Variants, func(t *testing.T, target Target) {
		_, run := StridedF32(target, StridedPass)
		x, y := guard.Of[float32](t, 37, true), guard.Of[float32](t, 37, true)
		if n := testing.AllocsPerRun(10, func() { run(y, x, y, nil, Strided{Rows: 1, N: 37}) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

func benchStridedF32(run measure) {
	for op := range stridedOps {
		for _, s := range []Strided{{Rows: 1, N: 4096}, {Rows: 256, N: 16, Out: 16, A: 16, B: 16, C: 16}, {Rows: 128, N: 32, A: 32, B: 32}} {
			run(fmt.Sprintf("%s/%dx%d", stridedNames[op], s.Rows, s.N), 4096, func(_ *testing.B, t Target) func() {
				_, f := StridedF32(t, op)
				out, a, b, c := make([]float32, 4096), benchF32(4096), benchF32(4096), benchF32(4096)
				return func() { f(out, a, b, c, s) }
			})
		}
	}
}
