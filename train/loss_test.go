package train

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// closeTo fails where got is further from want than a share of 1+|want|.
func closeTo(t *testing.T, what string, got, want, share float64) {
	t.Helper()
	if !(math.Abs(got-want) <= share*(1+math.Abs(want))) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func normals(r *rand.Rand, n int, scale float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64() * scale)
	}
	return x
}

// By hand: logits (0, ln 3), class 1: p = (1/4, 3/4), loss ln(4/3).
func TestLossesByHand(t *testing.T) {
	ln3 := float32(math.Log(3))
	for name, c := range map[string]struct {
		loss     Loss
		out      []float32
		targets  Targets
		want     float64
		gradient []float64
	}{
		"mse": {MSE{}, []float32{1, 2, 3, 5}, Targets{Values: []float32{1, 0, 4, 5}}, 5.0 / 4, []float64{0, 1, -0.5, 0}},
		"cross-entropy": {
			&CrossEntropy{}, []float32{0, ln3}, Targets{Classes: []int32{1}}, math.Log(4.0 / 3), []float64{0.25, -0.25},
		},
		"of two": { // the second sample is all but sure of its class
			&CrossEntropy{}, []float32{0, ln3, 60, -60}, Targets{Classes: []int32{0, 0}}, math.Log(4) / 2, []float64{-0.375, 0.375, 0, 0},
		},
		"smoothed": { // q = (0.1, 0.9)
			&CrossEntropy{Smoothing: 0.2},
			[]float32{0, ln3},
			Targets{Classes: []int32{1}},
			0.1*math.Log(4) + 0.9*math.Log(4.0/3),
			[]float64{0.15, -0.15},
		},
		"unlabelled": {&CrossEntropy{}, []float32{5, 1, 0, ln3}, Targets{Classes: []int32{Unlabelled, 1}}, math.Log(4.0/3) / 2, []float64{0, 0, 0.125, -0.125}},
		"distilled": { // at T = 2: p = (1/2, 1/2), q = (1/4, 3/4); KL = ln 2 + (ln 1/4)/4 + (3 ln 3/4)/4
			&Distillation{Temperature: 2, Weight: 1},
			[]float32{7, 7},
			Targets{Teacher: []float32{0, 2 * ln3}},
			4 * (math.Log(2) + 0.25*math.Log(0.25) + 0.75*math.Log(0.75)),
			[]float64{0.5, -0.5},
		},
		"half distilled": {
			&Distillation{Temperature: 2, Weight: 0.5},
			[]float32{7, 7},
			Targets{Teacher: []float32{0, 2 * ln3}, Classes: []int32{0}},
			0.5*math.Log(2) + 2*(math.Log(2)+0.25*math.Log(0.25)+0.75*math.Log(0.75)),
			[]float64{0, 0},
		},
		"like its teacher": {
			&Distillation{Temperature: 3, Weight: 1}, []float32{1, 2, -5}, Targets{Teacher: []float32{1, 2, -5}}, 0, []float64{0, 0, 0},
		},
	} {
		n := 1
		if len(c.targets.Classes) > 0 {
			n = len(c.targets.Classes)
		}
		g := normals(rand.New(rand.NewPCG(1, 2)), len(c.out), 1)
		closeTo(t, name, c.loss.Of(n, c.out, c.targets, g), c.want, 1e-6)
		for i, w := range c.gradient {
			closeTo(t, fmt.Sprintf("%s: gradient %d", name, i), float64(g[i]), w, 1e-6)
		}
		closeTo(t, name+" without gradient", c.loss.Of(n, c.out, c.targets, nil), c.want, 1e-6)
	}
}

// The gradient of each loss is the slope of it: central differences, whose
// error is about h² of the third derivative, below 10 here.
func TestLossGradients(t *testing.T) {
	const n, width, h = 5, 7, 1.0 / 128
	r := rand.New(rand.NewPCG(3, 1))
	targets := Targets{Values: normals(r, n*width, 1), Teacher: normals(r, n*width, 3)}
	for range n {
		targets.Classes = append(targets.Classes, int32(r.IntN(width)))
	}
	targets.Classes[2] = Unlabelled
	for _, l := range []Loss{
		MSE{},
		&CrossEntropy{},
		&CrossEntropy{Smoothing: 0.1},
		&Distillation{Temperature: 1, Weight: 1},
		&Distillation{Temperature: 4, Weight: 0.7},
		&Distillation{Temperature: 2.5, Weight: 0.25, Smoothing: 0.05},
	} {
		out := normals(r, n*width, 2)
		gradient := make([]float32, len(out))
		l.Of(n, out, targets, gradient)
		for i, v := range out {
			out[i] = v + h
			above := l.Of(n, out, targets, nil)
			out[i] = v - h
			below := l.Of(n, out, targets, nil)
			out[i] = v
			closeTo(t, fmt.Sprintf("%v: value %d", l, i), float64(gradient[i]), (above-below)/(2*h), 2e-5)
		}
	}
}

// Logits far beyond what e^x can hold give finite losses and gradients.
func TestLossesOfLargeLogits(t *testing.T) {
	out := []float32{3e4, -3e4, 0, -3e38, 0, 1}
	targets := Targets{Classes: []int32{1, 0}, Teacher: []float32{-1e4, 1e4, 0, 5, 0, 0}}
	for _, l := range []Loss{&CrossEntropy{}, &CrossEntropy{Smoothing: 0.1}} {
		g := make([]float32, len(out))
		if loss := l.Of(2, out, targets, g); math.IsNaN(loss) || math.IsInf(loss, 0) {
			t.Errorf("%v: %v", l, loss)
		}
		for i, v := range g {
			if !(math.Abs(float64(v)) <= 1) {
				t.Errorf("%v: gradient %d is %v", l, i, v)
			}
		}
	}
}

func TestRight(t *testing.T) {
	if n := Right(3, []float32{1, 2, 3, 3, 0, 0}, []int32{1, 0, 1}); n != 2 {
		t.Errorf("%d", n)
	}
}

func TestLossesKeepTheirMemory(t *testing.T) {
	out, g := make([]float32, 640), make([]float32, 640)
	targets := Targets{Classes: make([]int32, 64), Values: out, Teacher: out}
	for _, l := range []Loss{MSE{}, &CrossEntropy{}, &Distillation{Temperature: 2, Weight: 0.5}} {
		if n := testing.AllocsPerRun(3, func() { l.Of(64, out, targets, g) }); n != 0 {
			t.Errorf("%v: %v allocations", l, n)
		}
	}
}
