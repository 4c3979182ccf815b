package kernels

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"dunlin/internal/guard"
)

// checkMatMulInt8 compares each tier with the definition, over depths around
// those that a float32 sums exactly, at the largest sums there are, too.
func checkMatMulInt8(t *testing.T, target Target) {
	r := seeded(7)
	for _, k := range append([]int{exactDepth - 1, exactDepth, exactDepth + 1, 2*exactDepth + 3}, lengths...) {
		for _, s := range [][2]int{{1, 1}, {3, 17}, {7, 64}, {floatRows + 1, 5}, {floatRows, 16}} {
			m, n, end := s[0], s[1], k%2 == 0
			za, zb := int8(r.IntN(256)-128), int8(r.IntN(256)-128)
			a, b := randomInt8(t, r, m*k, end), randomInt8(t, r, k*n, end)
			if k%3 == 0 {
				za, zb = math.MinInt8, math.MaxInt8
				copy(a, slices.Repeat([]int8{math.MaxInt8}, len(a)))
				copy(b, slices.Repeat([]int8{math.MinInt8}, len(b)))
			}
			q := Requant{Zero: int32(r.IntN(256) - 128), Min: -128, Max: 127}
			scale := 1 / float32(30*k)
			want := make([]int8, m*n)
			floats, wantFloats := guard.Of[float32](t, m*n, end), make([]float32, m*n)
			out := guard.Of[int8](t, m*n, end)
			for _, c := range []struct {
				t      Target
				out    []int8
				floats []float32
			}{{target, out, floats}, {Target{Tier: Generic}, want, wantFloats}} {
				p, err := NewMatMulInt8(c.t, m, k, n, scale, za, zb, q)
				if err != nil {
					t.Fatal(err)
				}
				scratch := guard.Of[byte](t, roundUp(p.Scratch(), 8), true)
				p.Run(c.out, a, b, scratch)
				p.RunF32(c.floats, a, b, scratch)
			}
			same(t, fmt.Sprintf("%dx%dx%d", m, n, k), out, want)
			same(t, fmt.Sprintf("%dx%dx%d", m, n, k), floats, wantFloats)
		}
	}
}
