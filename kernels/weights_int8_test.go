package kernels

import (
	"math/rand/v2"
	"testing"
)

func TestWeightStep(t *testing.T) {
	for _, c := range []struct {
		v, s float32
		want int8
	}{{0, 1, 0}, {.5, 1, 0}, {1.5, 1, 2}, {2.5, 1, 2}, {-2.5, 1, -2}, {-3.5, 1, -4}, {200, 1, 127}, {-200, 1, -127}, {1, .01, 100}} {
		if got := int8(WeightStep(c.v, c.s, 127)); got != c.want {
			t.Errorf("%g/%g: %d, want %d", c.v, c.s, got, c.want)
		}
	}
}

func TestWeightScale(t *testing.T) {
	if s := WeightScale([]float32{0, 0}, nil, 1); s != 1 {
		t.Errorf("zeros: %g", s)
	}
	if s := WeightScale([]float32{0, 1e-20}, []float32{1 << 20, -1 << 30}, 0.5); s != 2 || s != LeastScale([]float32{-1 << 30}, 0.5) {
		t.Errorf("a bias that takes half of an int32: %g, want 2", s)
	}
	if s := WeightScale([]float32{-127, 5, 64}, nil, 1); s != 1 {
		t.Errorf("whole numbers: %g, want 1", s)
	}
	// One outlier, and many small weights that its scale would round away:
	// clipping it has the least squared error.
	w := []float32{10}
	r := rand.New(rand.NewPCG(5, 6))
	for range 200000 {
		w = append(w, float32(r.NormFloat64()))
	}
	cost := func(s float32) float64 {
		sum := 0.0
		for _, v := range w {
			d := float64(v) - WeightStep(v, s, 127)*float64(s)
			sum += d * d
		}
		return sum
	}
	s := WeightScale(w, nil, 1)
	if s >= 10./127 || cost(s) >= cost(10./127) {
		t.Errorf("scale %g, error %g; unclipped %g, error %g", s, cost(s), 10./127, cost(10./127))
	}
}
