package explain

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// Gradient computes, for a batch of inputs, a score of each and the derivative
// of that score by every value of the input:
//
//	inputs    [batch, values]
//	scores    [batch]
//	gradient  [batch, values]
//
// train.Net gives it on a workstation; this package has none.
type Gradient func(inputs, scores, gradient []float32) error

// Attribution is what IntegratedGradients found.
type Attribution struct {
	Values      []float32 // of each value of the input; their sum is about Score - Baseline
	Score       float64   // F(x)
	Baseline    float64   // F(baseline)
	Steps       int
	Unexplained float64 // |sum of Values - (Score - Baseline)| / |Score - Baseline|
}

// IntegratedOptions bound the integral.
type IntegratedOptions struct {
	Batch    int     // inputs in a call of the Gradient, 16 where 0
	Steps    int     // at first, 32 where 0; doubled until Unexplained is within Tolerance
	MaxSteps int     // 1024 where 0
	Within   float64 // of Unexplained, 0.01 where 0
}

// IntegratedGradients attributes F(x) - F(baseline) to the values of x
// (Sundararajan et al. 2017, arXiv:1703.01365, eq. 1):
//
//	IG_i = (x_i - b_i) * integral over a from 0 to 1 of dF/dx_i at b + a (x - b)
//
// The integral is a sum at the middles of equal steps. A network of ReLUs has
// kinks on the way, so the number of steps is doubled until the attributions
// sum to the difference within o.Within (the paper's completeness, section 3),
// or o.MaxSteps are taken: Unexplained says what was reached.
func IntegratedGradients(ctx context.Context, f Gradient, x, baseline []float32, o IntegratedOptions) (*Attribution, error) {
	if len(x) != len(baseline) || len(x) == 0 {
		return nil, fmt.Errorf("integrated gradients: input of %d values, baseline of %d", len(x), len(baseline))
	}
	o.setDefaults()
	p := path{f, x, baseline, o.Batch}
	ends, err := p.ends()
	if err != nil {
		return nil, err
	}
	a := &Attribution{Score: ends[1], Baseline: ends[0], Steps: o.Steps}
	for {
		if a.Values, err = p.integrate(ctx, a.Steps); err != nil {
			return nil, err
		}
		a.Unexplained = a.unexplained()
		if a.Unexplained <= o.Within || 2*a.Steps > o.MaxSteps {
			return a, nil
		}
		a.Steps *= 2
	}
}

func (o *IntegratedOptions) setDefaults() {
	if o.Batch <= 0 {
		o.Batch = 16
	}
	if o.Steps <= 0 {
		o.Steps = 32
	}
	if o.MaxSteps <= 0 {
		o.MaxSteps = 1024
	}
	if o.Within <= 0 {
		o.Within = 0.01
	}
}

// unexplained is 0 where both ends have the same score and so nothing is to be
// explained.
func (a *Attribution) unexplained() float64 {
	sum := 0.0
	for _, v := range a.Values {
		sum += float64(v)
	}
	gap := math.Abs(sum - (a.Score - a.Baseline))
	if gap == 0 {
		return 0
	}
	return gap / math.Abs(a.Score-a.Baseline)
}

// path is the straight line from the baseline to the input.
type path struct {
	f           Gradient
	x, baseline []float32
	batch       int
}

// ends returns the scores of the baseline and of the input.
func (p path) ends() ([2]float64, error) {
	inputs := make([]float32, p.batch*len(p.x))
	scores, gradient := make([]float32, p.batch), make([]float32, len(inputs))
	var out [2]float64
	for i, end := range [][]float32{p.baseline, p.x} {
		for b := range p.batch {
			copy(inputs[b*len(end):], end)
		}
		if err := p.f(inputs, scores, gradient); err != nil {
			return out, err
		}
		out[i] = float64(scores[0])
		if math.IsNaN(out[i]) || math.IsInf(out[i], 0) {
			return out, errors.New("integrated gradients: the score is not a number")
		}
	}
	return out, nil
}

// integrate sums the gradients at the middles of so many steps.
func (p path) integrate(ctx context.Context, steps int) ([]float32, error) {
	size := len(p.x)
	inputs := make([]float32, p.batch*size)
	scores, gradient := make([]float32, p.batch), make([]float32, len(inputs))
	sum := make([]float64, size)
	for from := 0; from < steps; from += p.batch {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for b := range p.batch {
			t := float32((float64(min(from+b, steps-1)) + 0.5) / float64(steps))
			for i, v := range p.baseline {
				inputs[b*size+i] = v + t*(p.x[i]-v)
			}
		}
		if err := p.f(inputs, scores, gradient); err != nil {
			return nil, err
		}
		for b := range min(p.batch, steps-from) {
			for i, g := range gradient[b*size : (b+1)*size] {
				sum[i] += float64(g)
			}
		}
	}
	out := make([]float32, size)
	for i := range out {
		out[i] = float32(sum[i] / float64(steps) * float64(p.x[i]-p.baseline[i]))
	}
	return out, nil
}

// GradientMap returns the attributions to a picture's pixels, the sum over
// their channels, as a map.
func (n *Network) GradientMap(a *Attribution, class int, score float32) (*Map, error) {
	p := n.plane()
	if len(a.Values) != p.width*p.height*p.channels {
		return nil, fmt.Errorf("integrated gradients: %d attributions for a picture of %d x %d x %d", len(a.Values), p.width, p.height, p.channels)
	}
	m := &Map{
		Method: Gradients, Class: class, Score: score, Width: p.width, Height: p.height,
		Values: make([]float32, p.width*p.height), Runs: a.Steps + 2, Complete: a.Unexplained <= 0.01,
	}
	for i := range m.Values {
		for c := range p.channels {
			m.Values[i] += a.Values[c*p.channel+i*p.pixel]
		}
	}
	return m, nil
}

// MeanPicture returns a baseline: the picture's mean colour everywhere, which
// is also what Occlusion covers with.
func (n *Network) MeanPicture(x []float32) []float32 {
	p := n.plane()
	out := make([]float32, len(x))
	for c, v := range p.mean(x) {
		for i := range p.width * p.height {
			out[c*p.channel+i*p.pixel] = v
		}
	}
	return out
}
