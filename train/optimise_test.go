package train

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// torchOptimisers is testdata/optimisers.json.
type torchOptimisers struct {
	Torch     string
	Start     []float32
	Rates     []float64
	Gradients [][]float32
	Cases     []struct {
		Name    string
		Options OptimiserOptions
		Values  [][]float32
	}
}

// testdata/optimisers.py made the values with torch 1.13. Rounding differs in
// the order of a few operations.
func TestOptimisersAsTorch(t *testing.T) {
	text, err := os.ReadFile("testdata/optimisers.json")
	if err != nil {
		t.Fatal(err)
	}
	var f torchOptimisers
	if err := json.Unmarshal(text, &f); err != nil || len(f.Cases) == 0 {
		t.Fatalf("%d cases, %v", len(f.Cases), err)
	}
	for _, c := range f.Cases {
		p := &Parameter{Name: "w", Value: slices.Clone(f.Start), Decay: true}
		o, err := NewOptimiser(c.Options, []*Parameter{p})
		if err != nil {
			t.Fatal(err)
		}
		for step, rate := range f.Rates {
			p.Gradient = f.Gradients[step]
			o.Step(rate)
			for i, want := range c.Values[step] {
				closeTo(t, fmt.Sprintf("%s: step %d, value %d", c.Name, step, i), float64(p.Value[i]), float64(want), 1e-6)
			}
		}
	}
}

// Losses and optimisers give these bits on every CPU: amd64, arm64, and
// without assembly.
func TestSameBitsOnEveryCPU(t *testing.T) {
	const n, width = 19, 7
	r := rand.New(rand.NewPCG(8, 8))
	targets := Targets{Values: normals(r, n*width, 1), Teacher: normals(r, n*width, 3), Classes: make([]int32, n)}
	for i := range targets.Classes {
		targets.Classes[i] = int32(r.IntN(width))
	}
	h := sha256.New()
	for _, l := range []Loss{MSE{}, &CrossEntropy{Smoothing: 0.1}, &Distillation{Temperature: 3, Weight: 0.6, Smoothing: 0.1}} {
		for _, o := range []OptimiserOptions{
			{Method: SGD, Decay: 0.03}, {Method: Momentum, Decay: 0.03}, {Method: Momentum, Nesterov: true}, {Method: Adam, Decay: 0.03}, {Method: AdamW, Decay: 0.03},
		} {
			p := &Parameter{Name: "w", Value: normals(r, n*width, 2), Gradient: make([]float32, n*width), Decay: true}
			optimiser, err := NewOptimiser(o, []*Parameter{p})
			if err != nil {
				t.Fatal(err)
			}
			for step := range 5 {
				l.Of(n, p.Value, targets, p.Gradient)
				optimiser.Step(Schedule{Shape: Cosine, Rate: 0.3}.At(step, 5, 1))
			}
			hashFloats(h, p.Value)
		}
	}
	if got, want := hex.EncodeToString(h.Sum(nil)[:8]), "57038cc9ecc2f317"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Decay is for weights alone.
func TestDecay(t *testing.T) {
	for _, m := range []Method{SGD, Momentum, Adam, AdamW} {
		weight := &Parameter{Name: "w", Value: []float32{1, -2}, Gradient: make([]float32, 2), Decay: true}
		bias := &Parameter{Name: "b", Value: []float32{1, -2}, Gradient: make([]float32, 2)}
		o, err := NewOptimiser(OptimiserOptions{Method: m, Decay: 0.1}, []*Parameter{weight, bias})
		if err != nil {
			t.Fatal(err)
		}
		o.Step(0.5)
		if !(weight.Value[0] < 1 && weight.Value[1] > -2) || bias.Value[0] != 1 || bias.Value[1] != -2 {
			t.Errorf("%s: weight %v, bias %v", m, weight.Value, bias.Value)
		}
	}
}

func TestOptimiserRefuses(t *testing.T) {
	p := []*Parameter{{Name: "w", Value: make([]float32, 2)}}
	for want, o := range map[string]OptimiserOptions{
		`"lion" is unknown`:     {Method: "lion"},
		"decay -1":              {Method: SGD, Decay: -1},
		"momentum 1":            {Method: Momentum, Momentum: 1},
		"betas 0.9 and 1.5":     {Method: Adam, Beta2: 1.5},
		"nesterov is a form of": {Method: AdamW, Nesterov: true},
		"epsilon -1":            {Method: Adam, Epsilon: -1},
	} {
		if _, err := NewOptimiser(o, p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
	if _, err := NewOptimiser(OptimiserOptions{Method: SGD}, nil); err == nil || !strings.Contains(err.Error(), "no parameters") {
		t.Errorf("%v", err)
	}
}

func TestSchedules(t *testing.T) {
	const perEpoch, epochs = 4, 3
	for _, c := range []struct {
		s    Schedule
		want map[int]float64
	}{
		{Schedule{Rate: 0.5}, map[int]float64{0: 0.5, 11: 0.5}},
		{Schedule{Shape: Constant, Rate: 1, Warmup: 1}, map[int]float64{0: 0.25, 1: 0.5, 3: 1, 4: 1, 11: 1}},
		{Schedule{Shape: Staircase, Rate: 1, Every: 1.5, Factor: 0.5}, map[int]float64{0: 1, 5: 1, 6: 0.5, 11: 0.5, 12: 0.25}},
		{Schedule{Shape: Cosine, Rate: 2, Warmup: 1, Last: 1}, map[int]float64{3: 2, 4: 2, 8: 1.5, 6: 1.5 + 0.5*0.7071067811865476, 12: 1}},
		{Schedule{Shape: Linear, Rate: 1, Warmup: 0.5}, map[int]float64{0: 0.5, 1: 1, 2: 1, 7: 0.5, 12: 0}},
	} {
		if err := c.s.Check(epochs); err != nil {
			t.Errorf("%+v: %v", c.s, err)
		}
		for step, want := range c.want {
			closeTo(t, fmt.Sprintf("%+v: step %d", c.s, step), c.s.At(step, perEpoch, epochs), want, 1e-12)
		}
	}
	for want, s := range map[string]Schedule{
		"rate 0":               {},
		`"exponential"`:        {Shape: "exponential", Rate: 1},
		"4 epochs of warm-up":  {Rate: 1, Warmup: 4},
		"last rate 2":          {Shape: Linear, Rate: 1, Last: 2},
		"every 0 epochs":       {Shape: Staircase, Rate: 1, Factor: 0.1},
		"every 1 epochs times": {Shape: Staircase, Rate: 1, Every: 1, Factor: 1},
	} {
		if err := s.Check(epochs); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", s, err, want)
		}
	}
}
