package kernels

import (
	"math"
	"math/rand/v2"
	"testing"

	"dunlin/internal/guard"
)

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// randomInt8 returns n guarded values over the whole range.
func randomInt8(t testing.TB, r *rand.Rand, n int, end bool) []int8 {
	s := guard.Of[int8](t, n, end)
	for i := range s {
		s[i] = int8(r.IntN(256) - 128)
	}
	return s
}

// randomF32 returns n guarded values of a normal distribution.
func randomF32(t testing.TB, r *rand.Rand, n int, end bool) []float32 {
	s := guard.Of[float32](t, n, end)
	for i := range s {
		s[i] = float32(r.NormFloat64())
	}
	return s
}

func randomInt32(r *rand.Rand, n, limit int) []int32 {
	s := make([]int32, n)
	for i := range s {
		s[i] = int32(r.IntN(2*limit) - limit)
	}
	return s
}

// randomRequant returns a rule with one scale for each of n channels, such
// that sums of depth products cover the range of the result and go beyond.
func randomRequant(r *rand.Rand, n, depth int) Requant {
	q := Requant{Scale: make([]float32, n), Zero: int32(r.IntN(256) - 128), Min: -128, Max: 127}
	for i := range q.Scale {
		q.Scale[i] = (0.5 + r.Float32()) / float32(40*depth)
	}
	if r.IntN(2) == 0 {
		q.Min, q.Max = int8(r.IntN(128)-128), int8(r.IntN(128))
	}
	return q
}

// same fails at the first element that differs.
func same[T comparable](t testing.TB, what string, got, want []T) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%s: element %d of %d is %v, want %v", what, i, len(want), got[i], want[i])
		}
	}
}

// sameBits fails at the first element that differs; NaN equals NaN.
func sameBits(t testing.TB, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i, w := range want {
		if g := got[i]; math.Float32bits(g) != math.Float32bits(w) && (g == g || w == w) {
			t.Fatalf("%s: element %d of %d is %v (%#x), want %v (%#x)", what, i, len(want), g, math.Float32bits(g), w, math.Float32bits(w))
		}
	}
}
