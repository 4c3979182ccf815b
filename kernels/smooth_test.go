package kernels

import (
	"flag"
	"fmt"
	"math"
	"testing"

	"dunlin/internal/guard"
)

var smoothNames = [smooths]string{"exp", "sigmoid", "tanh", "erf", "gelu", "gelutanh", "silu", "log"}

var everyFloat = flag.Bool("every-float", false, "compare the tiers of smooth functions on all 2^32 arguments, not on some")

// Every tier gives the bits of the definition: on arguments all over the range
// of float32, which includes denormals, large ones and NaN.
func TestSmoothEverywhere(t *testing.T) {
	if len(hostTiers()) == 1 {
		t.Skip("skipped: there is no tier but the definition")
	}
	step := uint64(1009)
	if testing.Short() {
		step = 65537
	}
	if *everyFloat {
		step = 1
	}
	for s := range smooths {
		t.Run(smoothNames[s], func(t *testing.T) {
			in, out, want := make([]float32, 1<<14), make([]float32, 1<<14), make([]float32, 1<<14)
			_, define := s.For(Target{})
			for bits := uint64(0); bits < 1<<32; {
				n := 0
				for ; n < len(in) && bits < 1<<32; n++ {
					in[n] = math.Float32frombits(uint32(bits))
					bits += step
				}
				define(want, in[:n])
				for _, tier := range hostTiers() {
					of, f := s.For(Target{Tier: tier})
					if of != tier || tier == Generic {
						continue
					}
					f(out, in[:n])
					for i, w := range want[:n] {
						if g := out[i]; math.Float32bits(g) != math.Float32bits(w) && (g == g || w == w) {
							t.Fatalf("%v of %v (%#x) is %v, want %v", tier, in[i], math.Float32bits(in[i]), g, w)
						}
					}
				}
			}
		})
	}
}

// All lengths, on guard pages, in place too.
func checkSmooth(t *testing.T, target Target) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	special := []float32{0, float32(math.Copysign(0, -1)), inf, -inf, nan, 1e-45, -1e-45, 1e-38, math.MaxFloat32, -math.MaxFloat32, 88.7228, 89, -103.97, -104}
	for s := range smooths {
		if tier, _ := s.For(target); tier != target.Tier {
			t.Fatalf("tier %v", tier)
		}
	}
	for n := range 100 {
		for s := range smooths {
			r := seeded(uint64(n))
			in := randomF32(t, r, n, n%2 == 0)
			for i := range in {
				if r.IntN(4) == 0 {
					in[i] = special[r.IntN(len(special))]
				}
			}
			_, f := s.For(target)
			_, define := s.For(Target{})
			out, want := guard.Of[float32](t, n, n%2 == 1), make([]float32, n)
			define(want, in)
			f(out, in)
			sameBits(t, fmt.Sprintf("%s of %d", smoothNames[s], n), out, want)
			f(in, in)
			sameBits(t, fmt.Sprintf("%s of %d in place", smoothNames[s], n), in, want)
		}
	}
}

// The bounds are what was measured, rounded up; a change of a coefficient
// shows here. Erf is held to units of 1, gelu and silu to those of their
// argument.
func TestAccuracyOfSmoothFunctions(t *testing.T) {
	for _, f := range []struct {
		s     Smooth
		want  func(float64) float64
		bound float64
		limit float32
		unit  func(x, want float64) float64 // of which the last place counts
	}{
		{SmoothExp, math.Exp, 1.5, 87, nil},
		{SmoothTanh, math.Tanh, 3, 12, nil},
		{SmoothSigmoid, func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }, 3, 87, nil},
		{SmoothErf, math.Erf, 4, 6, func(_, _ float64) float64 { return 1 }},
		{SmoothGelu, func(x float64) float64 { return x * (1 + math.Erf(x/math.Sqrt2)) / 2 }, 5, 9, func(x, _ float64) float64 { return x }},
		{SmoothGeluTanh, func(x float64) float64 {
			return x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x))) / 2
		}, 4, 9, func(x, _ float64) float64 { return x }},
		{SmoothSilu, func(x float64) float64 { return x / (1 + math.Exp(-x)) }, 4, 80, nil},
		{SmoothLog, math.Log, 1, 40, nil},
	} {
		worst, at := 0.0, float32(0)
		x, y := make([]float32, 1), make([]float32, 1)
		_, run := f.s.For(Target{})
		for i := -200_000; i <= 200_000; i++ {
			x[0] = float32(i) / 200_000 * f.limit
			if i%5 == 0 { // small ones too
				x[0] *= 1e-3
			}
			if f.s == SmoothLog {
				x[0] = float32(math.Exp(float64(x[0])))
			}
			run(y, x)
			want := f.want(float64(x[0]))
			unit := want
			if f.unit != nil {
				unit = f.unit(float64(x[0]), want)
			}
			e := ulps(y[0], want) * ulpOf(want) / ulpOf(unit)
			if e > worst {
				worst, at = e, x[0]
			}
		}
		t.Logf("%s: %.3f units in the last place at %v", smoothNames[f.s], worst, at)
		if worst > f.bound {
			t.Errorf("%s(%v) is off by %.3f units in the last place, bound %v", smoothNames[f.s], at, worst, f.bound)
		}
	}
}

// ulpOf is the step of float32 at v, away from 0.
func ulpOf(v float64) float64 {
	w := float32(math.Abs(v))
	return float64(math.Nextafter32(w, float32(math.Inf(1)))) - float64(w)
}
