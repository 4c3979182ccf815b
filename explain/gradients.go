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
	MaxSteps int     // 512 where 0, and at least 2
	Within   float64 // of Unexplained, 0.01 where 0
}

// IntegratedGradients attributes F(x) - F(baseline) to the values of x
// (Sundararajan et al. 2017, arXiv:1703.01365, eq. 1):
//
//	IG_i = (x_i - b_i) * integral over a from 0 to 1 of dF/dx_i at b + a (x - b)
//
// The integral is the trapezoidal sum. A network of ReLUs has kinks on the way,
// so the steps, 16 at first, are halved until the attributions sum to the
// difference within o.Within (the paper's completeness, section 3), or there
// would be more than o.MaxSteps of them: Unexplained says what was reached.
// What was computed for longer steps is used again: so many steps take as many
// gradients, and one.
func IntegratedGradients(ctx context.Context, f Gradient, x, baseline []float32, o IntegratedOptions) (*Attribution, error) {
	if len(x) != len(baseline) || len(x) == 0 {
		return nil, fmt.Errorf("integrated gradients: input of %d values, baseline of %d", len(x), len(baseline))
	}
	o.setDefaults()
	p := newPath(f, x, baseline, o.Batch)
	scores, err := p.ends()
	if err != nil {
		return nil, err
	}
	a := &Attribution{Score: scores[1], Baseline: scores[0], Values: make([]float32, len(x))}
	for steps := min(16, o.MaxSteps); ; steps *= 2 {
		if err := p.between(ctx, a.Steps, steps); err != nil {
			return nil, err
		}
		a.Steps = steps
		for i := range a.Values {
			a.Values[i] = float32(p.sum[i] / float64(steps) * float64(x[i]-baseline[i]))
		}
		a.Unexplained = a.unexplained()
		if a.Unexplained <= o.Within || 2*steps > o.MaxSteps {
			return a, nil
		}
	}
}

func (o *IntegratedOptions) setDefaults() {
	if o.Batch <= 0 {
		o.Batch = 16
	}
	if o.MaxSteps <= 0 {
		o.MaxSteps = 512
	}
	o.MaxSteps = max(2, o.MaxSteps)
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
	sum         []float64 // of the gradients, those of the ends halved

	inputs, scores, gradient []float32 // of a batch
}

func newPath(f Gradient, x, baseline []float32, batch int) *path {
	n := batch * len(x)
	return &path{
		f: f, x: x, baseline: baseline, batch: batch, sum: make([]float64, len(x)),
		inputs: make([]float32, n), scores: make([]float32, batch), gradient: make([]float32, n),
	}
}

// at has input b of the batch be the place from 0 to 1 on the path.
func (p *path) at(b int, place float32) {
	to := p.inputs[b*len(p.x) : (b+1)*len(p.x)]
	for i, v := range p.baseline {
		to[i] = v + place*(p.x[i]-v)
	}
}

// add adds the gradient of input b of the batch, so many times.
func (p *path) add(b int, times float64) {
	for i, g := range p.gradient[b*len(p.x) : (b+1)*len(p.x)] {
		p.sum[i] += times * float64(g)
	}
}

// ends returns the scores of the baseline and of the input, and adds half of
// the gradient of each.
func (p *path) ends() (scores [2]float64, err error) {
	for i := range scores {
		row := min(i, p.batch-1)
		if i == 0 || p.batch == 1 { // else the input is in the batch already
			for b := range p.batch {
				p.at(b, float32(max(i, min(b, 1))))
			}
			if err := p.f(p.inputs, p.scores, p.gradient); err != nil {
				return scores, err
			}
		}
		p.add(row, 0.5)
		scores[i] = float64(p.scores[row])
		if math.IsNaN(scores[i]) || math.IsInf(scores[i], 0) {
			return scores, errors.New("integrated gradients: the score is not a number")
		}
	}
	return scores, nil
}

// between adds the gradients at the places that so many steps have and half as
// many, the known ones, have not; known 0 means that none has been added.
func (p *path) between(ctx context.Context, known, steps int) error {
	first, stride := 1, 1
	if known > 0 {
		stride = 2
	}
	for first < steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := 0
		for b := range p.batch {
			k := min(first+b*stride, steps-1)
			p.at(b, float32(float64(k)/float64(steps)))
			if first+b*stride < steps {
				n++
			}
		}
		if err := p.f(p.inputs, p.scores, p.gradient); err != nil {
			return err
		}
		for b := range n {
			p.add(b, 1)
		}
		first += n * stride
	}
	return nil
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
		Values: make([]float32, p.width*p.height), Runs: a.Steps + 1, Complete: a.Unexplained <= 0.01,
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
