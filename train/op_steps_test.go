package train

import (
	"math"
	"math/rand/v2"
	"testing"

	"dunlin/model"
)

// TestStraightThrough compares the gradient of each rounding operator with the
// slope of a wide chord: over 16 output steps to either side, rounding tilts it
// by a thirty-second at most. Where a bound is crossed the chord says nothing;
// beyond it both are 0.
func TestStraightThrough(t *testing.T) {
	scales := model.Of(model.F32, []float32{0.02, 0.5, 0.11}, 3)
	for _, c := range []struct {
		name    string
		shape   model.Shape
		n       *model.Node
		factors *model.Tensor
		spread  float64 // of x, in units of a step of y
		unit    func(channel int) float64
	}{
		{"quantize", model.Shape{2, 3, 4, 4}, nodeOf(opQuantize, "n", names("x0"), names("y"), "scale", float32(0.04), "lo", float32(-100), "hi", float32(155)), nil, 90, func(int) float64 { return 0.04 }},
		{"requantize", model.Shape{2, 3, 4, 4}, nodeOf(opRequantize, "n", names("x0", "c"), names("y"), "lo", float32(0), "hi", float32(200)), scales, 90, func(c int) float64 { return 1 / float64(scales.F32()[c]) }},
		{"one multiplier", model.Shape{2, 5}, nodeOf(opRequantize, "n", names("x0", "c"), names("y")), single(0.03), 90, func(int) float64 { return 1 / 0.03 }},
		{"dequantize", model.Shape{2, 3, 2, 2}, nodeOf(opDequantize, "n", names("x0", "c"), names("y")), scales, 90, func(c int) float64 { return 1 / float64(scales.F32()[c]) }},
		{"weights", model.Shape{3, 7}, nodeOf(opQuantizeWeights, "n", names("x0", "c"), names("y"), "axis", int64(0), "limit", float32(127)), scales, 90, nil},
		{"sum", model.Shape{2, 3, 4, 4}, nodeOf(opAddSteps, "n", names("x0", "x0"), names("y"), "a", float32(0.3), "b", float32(0.2), "lo", float32(-90), "hi", float32(165)), nil, 90, func(int) float64 { return 2 }},
		{"mean of one", model.Shape{4, 8, 1, 1}, nodeOf(opAverageSteps, "n", names("x0"), names("y"), "x_scale", float32(0.1), "y_scale", float32(0.2)), nil, 90, func(int) float64 { return 2 }},
	} {
		t.Run(c.name, func(t *testing.T) { chords(t, c.shape, c.n, c.factors, c.spread, c.unit) })
	}
}

func chords(t *testing.T, shape model.Shape, n *model.Node, factors *model.Tensor, spread float64, unit func(channel int) float64) {
	g := model.New("steps")
	g.Inputs, g.Outputs, g.Nodes = []string{"x0"}, []string{"y"}, []*model.Node{n}
	g.Values["x0"] = &model.Value{Type: model.F32, Shape: shape}
	if factors != nil {
		g.AddConst("c", factors)
	}
	net := laidOut(t, g, Options{Batch: shape[0], InputGradients: true})
	r := rand.New(rand.NewPCG(7, 8))
	inner, _ := shape[2:].Elements()
	at := func(i int) float64 {
		if unit == nil { // weights: the scale of a row
			return float64(factors.F32()[i/shape[1]])
		}
		return unit(i / inner % shape[1])
	}
	x, weights := net.Input(0), make([]float32, len(net.Output(0)))
	for i := range x {
		x[i] = float32(r.NormFloat64() * spread * at(i))
		weights[i] = float32(r.NormFloat64())
	}
	net.Forward(true)
	copy(net.OutputGradient(0), weights)
	net.Backward()
	gradient := append([]float32{}, net.InputGradient(0)...)
	value := func() float64 {
		net.Forward(true)
		sum := 0.0
		for i, y := range net.Output(0) {
			sum += float64(weights[i]) * float64(y)
		}
		return sum
	}
	seen, flat := 0, 0
	for i := range x {
		old, h := x[i], float32(16*at(i))
		x[i] = old + h
		up := value()
		x[i] = old - h
		down := value()
		x[i] = old
		slope := (up - down) / (2 * float64(h))
		full := float64(weights[i]) / at(i)
		bound := math.Abs(full)/32 + 1e-4
		switch got := float64(gradient[i]); {
		case math.Abs(slope) <= bound && got == 0:
			flat++
		case math.Abs(slope-full) <= bound:
			if seen++; math.Abs(got-full) > bound {
				t.Errorf("element %d: gradient %g, the chord rises by %g", i, got, slope)
			}
		case got != 0 && math.Abs(got-full) > bound: // a bound between
			t.Errorf("element %d: gradient %g is neither 0 nor %g", i, got, full)
		}
	}
	if seen < len(x)/4 {
		t.Errorf("only %d of %d elements lie between the bounds, %d beyond", seen, len(x), flat)
	}
}

// TestRoundsAsRequant: halves go to even, what is out of bounds to the bound,
// and what is no number to the lower one.
func TestRoundsAsRequant(t *testing.T) {
	b := bounds{-3, 200}
	for _, c := range [][2]float32{
		{0.5, 0}, {1.5, 2}, {2.5, 2}, {-0.5, 0}, {-1.5, -2}, {-3.5, -3}, {199.5, 200}, {1e30, 200}, {float32(math.Inf(-1)), -3}, {float32(math.NaN()), -3},
	} {
		if got := b.round(c[0]); got != c[1] {
			t.Errorf("%v becomes %v, want %v", c[0], got, c[1])
		}
	}
}
