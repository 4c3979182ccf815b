package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"dunlin/internal/guard"
)

// specialF32 are values where operations are at their ends.
var specialF32 = []float32{
	0, float32(math.Copysign(0, -1)), 1, -1, 0.5, -0.5, 2.5, -2.5, 3, -3, 6, 8388609,
	math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32, 1e-39,
	float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()),
}

// oddF32 returns n guarded values, a third of them special ones.
func oddF32(t testing.TB, r *rand.Rand, n int, end bool) []float32 {
	s := wildF32(t, r, n, end)
	for i := range s {
		if r.IntN(3) == 0 {
			s[i] = specialF32[r.IntN(len(specialF32))]
		}
	}
	return s
}

// elementLengths are lengths around one register and four, of every tier.
var elementLengths = []int{0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 19, 31, 32, 33, 47, 48, 63, 64, 65, 79, 80, 100, 129, 300}

func checkRowsF32(t *testing.T, target Target) {
	for op := range definitionsF32 {
		d := definitionsF32[op]
		t.Run(d.name, func(t *testing.T) {
			for _, n := range elementLengths {
				if d.binary == nil {
					testUnaryF32(t, target, OpF32(op), n)
				} else {
					testBinaryF32(t, target, OpF32(op), n)
				}
			}
		})
	}
}

func testUnaryF32(t *testing.T, target Target, op OpF32, n int) {
	r, end := seeded(uint64(n)), n%2 == 0
	in, out, want := oddF32(t, r, n, end), guard.Of[float32](t, n, end), make([]float32, n)
	for _, params := range [][2]float32{{0, 6}, {float32(1) / 6, 0.5}, {-1, float32(math.Inf(1))}, {2, 1}} {
		tier, f := UnaryF32(target, op, params[0], params[1])
		if tier != target.Tier {
			t.Fatalf("tier %v", tier)
		}
		f(out, in)
		definitionsF32[op].unary(params[0], params[1])(want, in)
		sameBits(t, fmt.Sprint(n, params), out, want)
	}
	_, f := UnaryF32(target, op, 0, 6)
	definitionsF32[op].unary(0, 6)(want, in)
	f(in, in)
	sameBits(t, fmt.Sprint(n, " in place"), in, want)
}

// testBinaryF32 runs rows of n values that walk and repeat in all ways.
func testBinaryF32(t *testing.T, target Target, op OpF32, n int) {
	for i, s := range [][2][]int{
		{{n}, {n}},
		{{n}, {1}},
		{{1}, {n}},
		{{5, n}, {n}},
		{{n}, {5, n}},
		{{5, n}, {5, 1}},
		{{5, 1}, {5, n}},
		{{1, n}, {5, 1}},
		{{2, 3, n}, {2, 1, n}},
		{{2, 1, 2, n}, {3, 1, 1}},
		{{1}, {1}},
	} {
		w, err := NewBroadcast(s[0], s[1])
		if err != nil {
			t.Fatal(err)
		}
		r, end := seeded(uint64(n)), (n+i)%2 == 0
		a, b := oddF32(t, r, volume(s[0]), end), oddF32(t, r, volume(s[1]), !end)
		out, want := guard.Of[float32](t, w.total, end), make([]float32, w.total)
		tier, f := BinaryF32(target, op, w)
		if tier != target.Tier {
			t.Fatalf("tier %v", tier)
		}
		f(out, a, b)
		Elementwise(w, definitionsF32[op].binary, want, a, b)
		sameBits(t, fmt.Sprint(s), out, want)
		if len(a) == len(out) {
			f(a, a, b)
			sameBits(t, fmt.Sprint(s, " in place"), a, want)
		}
	}
}

func volume(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// Min and Max know NaN and the sign of zero, as the language defines them.
func TestMinMaxF32(t *testing.T) {
	forVariants(t, rowsF32Variants, func(t *testing.T, target Target) {
		nan, minus := float32(math.NaN()), float32(math.Copysign(0, -1))
		a := []float32{0, minus, nan, 1, nan, 2}
		b := []float32{minus, 0, 1, nan, nan, 3}
		w, err := NewBroadcast([]int{6}, []int{6})
		if err != nil {
			t.Fatal(err)
		}
		out := make([]float32, 6)
		_, least := BinaryF32(target, OpMin, w)
		least(out, a, b)
		sameBits(t, "min", out, []float32{minus, minus, nan, nan, nan, 2})
		_, most := BinaryF32(target, OpMax, w)
		most(out, a, b)
		sameBits(t, "max", out, []float32{0, 0, nan, nan, nan, 3})
	})
}

func TestExtremesF32(t *testing.T) {
	forVariants(t, rowsF32Variants, func(t *testing.T, target Target) {
		scratch := guard.Of[float32](t, ExtremesBlock, true)
		for i, s := range [][3]int{{3, 1, 1}, {2, 5, 1}, {1, 1023, 1}, {1, 1024, 1}, {2, 1025, 1}, {1, 5000, 1}, {2, 3, 7}, {1, 9, 40}, {0, 3, 1}, {1, 4, 0}} {
			r := seeded(uint64(i))
			for _, op := range []OpF32{OpMax, OpMin} {
				in, out, want := randomF32(t, r, s[0]*s[1]*s[2], i%2 == 0), guard.Of[float32](t, s[0]*s[2], true), make([]float32, s[0]*s[2])
				if len(in) > 20 {
					in[17] = float32(math.NaN())
				}
				reduce := map[OpF32]ReduceOp{OpMax: ReduceMax, OpMin: ReduceMin}[op]
				ReduceFloat(reduce, want, in, s[0], s[1], s[2])
				_, f := ExtremesF32(target, op)
				f(out, in, scratch, s[0], s[1], s[2])
				sameBits(t, fmt.Sprint(op, s), out, want)
			}
		}
	})
}

func TestClipF32(t *testing.T) {
	forVariants(t, rowsF32Variants, func(t *testing.T, target Target) {
		r := seeded(1)
		in, out, want := oddF32(t, r, 100, true), guard.Of[float32](t, 100, true), make([]float32, 100)
		_, f := ClipF32(target)
		for _, c := range []Clamp{NoClamp, {-1, 2}, {3, 1}, {float32(math.NaN()), 1}} {
			f(out, in, c)
			c.Clip(want, in)
			sameBits(t, fmt.Sprint(c), out, want)
			if n := testing.AllocsPerRun(3, func() { f(out, in, c) }); n != 0 {
				t.Errorf("%v: %v allocations a run", c, n)
			}
		}
	})
}
