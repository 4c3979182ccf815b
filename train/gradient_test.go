package train

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"dunlin/engine"
	"dunlin/model"
)

// TestGradients compares the gradient of each operator with central
// differences of the same net, for a loss Σ r*y of random r.
//
// The bound has two parts. Of the step h: the difference of D(h) and D(2h) is
// three times the error of D(h), up to terms of h⁴. Of float32: each y is
// rounded, so that a difference of losses is off by at most a few ulp of
// Σ|r*y|, divided by 2h.
func TestGradients(t *testing.T) {
	for i := range cases {
		for _, batch := range []int{1, 3} {
			c := &cases[i]
			t.Run(fmt.Sprintf("%s/%d", c.name, batch), func(t *testing.T) { checkGradients(t, c, batch) })
		}
	}
}

// checkedPlaces is how many elements of each tensor are looked at.
const checkedPlaces = 24

func checkGradients(t *testing.T, c *graphCase, batch int) {
	n, r := startNet(t, c, batch)
	weights := make([]float32, len(n.Output(0)))
	fillNormal(r, weights)
	kept := keep(n)
	n.Forward(c.training)
	copy(n.OutputGradient(0), weights)
	n.Backward()
	loss := func() (sum, size float64) {
		restore(n, kept)
		n.Forward(c.training)
		for i, y := range n.Output(0) {
			p := float64(weights[i]) * float64(y)
			sum += p
			size += math.Abs(p)
		}
		return sum, size
	}
	for i := range c.inputs {
		differences(t, fmt.Sprintf("input %d", i), r, n.Input(i), n.InputGradient(i), loss)
	}
	for _, p := range n.Parameters() {
		differences(t, p.Name, r, p.Value, p.Gradient, loss)
	}
}

// startNet returns a net with its inputs filled.
func startNet(t *testing.T, c *graphCase, batch int) (*Net, *rand.Rand) {
	t.Helper()
	return startNetWith(t, c, Options{Batch: batch, InputGradients: true})
}

func startNetWith(t *testing.T, c *graphCase, o Options) (*Net, *rand.Rand) {
	t.Helper()
	n := laidOut(t, c.graph(), o)
	r := rand.New(rand.NewPCG(1, uint64(o.Batch)))
	fill := c.values
	if fill == nil {
		fill = fillNormal
	}
	for i := range c.inputs {
		fill(r, n.Input(i))
	}
	return n, r
}

func keep(n *Net) (all [][]float32) {
	for _, s := range n.Statistics() {
		all = append(all, append([]float32{}, s.Value...))
	}
	return all
}

func restore(n *Net, all [][]float32) {
	for i, s := range n.Statistics() {
		copy(s.Value, all[i])
	}
}

// differences checks gradient, which a second Backward does not change, at
// some places of x.
func differences(t *testing.T, what string, r *rand.Rand, x, gradient []float32, loss func() (sum, size float64)) {
	t.Helper()
	const h = 1.0 / 64 // a power of two: x±h is exact for x near 1
	at := func(i int, step float32) (d, size float64) {
		old := x[i]
		x[i] = old + step
		high, size := loss()
		up := float64(x[i])
		x[i] = old - step
		low, _ := loss()
		down := float64(x[i])
		x[i] = old
		return (high - low) / (up - down), size
	}
	places := r.Perm(len(x))
	wrong := 0
	for _, i := range places[:min(len(places), checkedPlaces)] {
		d, size := at(i, h)
		d2, _ := at(i, 2*h)
		bound := math.Abs(d-d2) + 8*size*0x1p-24/h + 1e-6*math.Abs(d)
		if g := float64(gradient[i]); math.IsNaN(g) || math.Abs(g-d) > bound {
			t.Errorf("%s[%d]: gradient %g, difference %g, bound %g", what, i, g, d, bound)
			if wrong++; wrong > 4 {
				return
			}
		}
	}
}

// TestForward compares each case with the engine.
func TestForward(t *testing.T) {
	for i := range cases {
		c := &cases[i]
		if c.training {
			continue
		}
		for _, batch := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s/%d", c.name, batch), func(t *testing.T) {
				n, _ := startNet(t, c, batch)
				n.Forward(false)
				compareWithEngine(t, n, c.graph())
			})
		}
	}
}

// compareWithEngine runs g on the inputs of n and compares the outputs, within
// 1e-5 of the largest number that stands in one.
func compareWithEngine(t *testing.T, n *Net, g *model.Graph) {
	t.Helper()
	shapes := map[string]model.Shape{}
	for i, name := range g.Inputs {
		shapes[name] = n.InputShape(i)
	}
	p, err := engine.Compile(g, engine.Options{Shapes: shapes})
	if err != nil {
		t.Fatal(err)
	}
	s := p.NewSession()
	for i := range g.Inputs {
		copy(s.Input(i).F32(), n.Input(i))
	}
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	for i := range g.Outputs {
		want, got := s.Output(i), n.Output(i)
		if !want.Shape.Equal(n.OutputShape(i)) {
			t.Fatalf("output %d is %v, the engine's %v", i, n.OutputShape(i), want.Shape)
		}
		close32(t, fmt.Sprintf("output %d", i), got, want.F32(), 1e-5)
	}
}

// close32 fails where a number differs by more than that share of the largest.
func close32(t *testing.T, what string, got, want []float32, share float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d numbers, not %d", what, len(got), len(want))
	}
	top := 0.0
	for _, v := range want {
		top = max(top, math.Abs(float64(v)))
	}
	for i, v := range want {
		if d := math.Abs(float64(got[i]) - float64(v)); !(d <= share*top) {
			t.Fatalf("%s: element %d is %g, not %g (of at most %g)", what, i, got[i], v, top)
		}
	}
}
