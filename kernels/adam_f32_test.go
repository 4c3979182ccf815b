package kernels

import (
	"fmt"
	"math"
	"testing"

	"dunlin/internal/guard"
)

// adamNaive is a step of Adam in float64, for one value.
func adamNaive(p, m, v, g float64, a Adam) (_, _, _ float64) {
	g += float64(a.Decay) * p
	m = float64(a.Beta1)*m + float64(a.Rest1)*g
	v = float64(a.Beta2)*v + float64(a.Rest2)*g*g
	return float64(a.Keep)*p - float64(a.Rate)*m/(float64(a.Spread)*math.Sqrt(v)+float64(a.Epsilon)), m, v
}

func checkAdamF32(t *testing.T, target Target) {
	tier, run := AdamF32(target)
	if tier != target.Tier {
		t.Fatalf("tier %v", tier)
	}
	a := Adam{Beta1: 0.9, Rest1: 0.1, Beta2: 0.999, Rest2: 0.001, Decay: 0.01, Keep: 0.995, Rate: 0.02, Spread: 3.1, Epsilon: 1e-3}
	for _, n := range append(rowLengths(), 0) {
		r := seeded(uint64(n))
		// start is p, m, v and g, on guard pages; v is a mean of squares.
		var start, want, out [4][]float32
		for i := range start {
			start[i] = randomF32(t, r, n, n%2 == 0)
			if i == 2 {
				for j, x := range start[i] {
					start[i][j] = x * x
				}
			}
			want[i], out[i] = append([]float32{}, start[i]...), guard.Copy(t, start[i], n%2 == 1)
		}
		for range 3 {
			AdamF32Generic(want[0], want[1], want[2], want[3], a)
			run(out[0], out[1], out[2], out[3], a)
		}
		for i, name := range []string{"p", "m", "v", "g"} {
			sameBits(t, fmt.Sprintf("%d: %s", n, name), out[i], want[i])
		}
		sameBits(t, "gradients", out[3], start[3])
		for i, p := range start[0] {
			p, m, v := float64(p), float64(start[1][i]), float64(start[2][i])
			for range 3 {
				p, m, v = adamNaive(p, m, v, float64(start[3][i]), a)
			}
			// Each step rounds some ten times, and no term is much larger than the largest of these.
			for j, w := range []float64{p, m, v} {
				if d := math.Abs(float64(out[j][i]) - w); !(d < 1e-5*(1+math.Abs(w))) {
					t.Fatalf("%d: value %d of %d is %v, want %v", n, i, j, out[j][i], w)
				}
			}
		}
	}
}

func benchAdamF32(run measure) {
	const n = 784 * 128
	p, m, v, g := benchF32(n), benchF32(n), benchF32(n), benchF32(n)
	for i, x := range v {
		v[i] = x * x
	}
	run("784x128", n, func(_ *testing.B, t Target) func() {
		_, f := AdamF32(t)
		a := Adam{Beta1: 0.9, Rest1: 0.1, Beta2: 0.999, Rest2: 0.001, Keep: 1, Rate: 1e-3, Spread: 1, Epsilon: 1e-8}
		return func() { f(p, m, v, g, a) }
	})
}
