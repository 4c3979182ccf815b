package train

import (
	"errors"
	"fmt"
	"math"

	"dunlin/kernels"
)

// Method is how an Optimiser makes a step of a gradient.
type Method string

// The methods. g is the gradient, p the parameter, a the learning rate; all
// are those of torch.optim, so that its settings can be used as they are.
//
//	SGD       p -= a·g
//	Momentum  b = μ·b + g;  p -= a·b, or, with Nesterov, p -= a·(g + μ·b)
//	          (Sutskever et al. 2013, "On the importance of initialization and momentum")
//	Adam      m = β1·m + (1-β1)·g;  v = β2·v + (1-β2)·g²
//	          p -= a·(m/(1-β1ᵗ)) / (√(v/(1-β2ᵗ)) + ε)  (Kingma & Ba 2015, arXiv:1412.6980)
//	AdamW     Adam, its decay apart from the gradient: p -= a·decay·p
//	          (Loshchilov & Hutter 2019, arXiv:1711.05101)
//
// All but AdamW add decay·p to g first (L2).
const (
	SGD      Method = "sgd"
	Momentum Method = "momentum"
	Adam     Method = "adam"
	AdamW    Method = "adamw"
)

// OptimiserOptions say how to make steps. Zero values mean the defaults given
// in brackets.
type OptimiserOptions struct {
	Method   Method
	Decay    float64 // weight decay [0], of parameters with Parameter.Decay alone
	Momentum float64 // μ of Momentum [0.9]
	Nesterov bool    // look ahead: of Momentum
	Beta1    float64 // of Adam and AdamW [0.9]
	Beta2    float64 // of Adam and AdamW [0.999]
	Epsilon  float64 // ε of Adam and AdamW [1e-8]
}

// defaults returns o with its zero values replaced.
func (o OptimiserOptions) defaults() OptimiserOptions {
	or := func(v *float64, d float64) {
		if *v == 0 {
			*v = d
		}
	}
	if o.Method == Momentum {
		or(&o.Momentum, 0.9)
	}
	if o.adam() {
		or(&o.Beta1, 0.9)
		or(&o.Beta2, 0.999)
		or(&o.Epsilon, 1e-8)
	}
	return o
}

func (o OptimiserOptions) adam() bool { return o.Method == Adam || o.Method == AdamW }

// check fails on settings that no method has or that cannot learn.
func (o OptimiserOptions) check() error {
	inside := func(v float64) bool { return v >= 0 && v < 1 }
	switch {
	case o.Method != SGD && o.Method != Momentum && !o.adam():
		return fmt.Errorf("optimiser %q is unknown: want %s, %s, %s or %s", o.Method, SGD, Momentum, Adam, AdamW)
	case !(o.Decay >= 0):
		return fmt.Errorf("optimiser %s: decay %v: want 0 or more", o.Method, o.Decay)
	case !inside(o.Momentum) || !inside(o.Beta1) || !inside(o.Beta2):
		return fmt.Errorf("optimiser %s: momentum %v, betas %v and %v: want 0 to below 1", o.Method, o.Momentum, o.Beta1, o.Beta2)
	case o.Nesterov && o.Method != Momentum:
		return fmt.Errorf("optimiser %s: nesterov is a form of %s", o.Method, Momentum)
	case o.adam() && !(o.Epsilon > 0):
		return fmt.Errorf("optimiser %s: epsilon %v: want more than 0", o.Method, o.Epsilon)
	}
	return nil
}

// Optimiser changes parameters by their gradients. Its steps give the same
// bits on every CPU.
type Optimiser struct {
	options    OptimiserOptions
	parameters []*Parameter
	state      optimiserState
	adam       kernels.AdamFunc
}

// optimiserState is what an Optimiser remembers from step to step: a checkpoint
// keeps it, and writes into it.
type optimiserState struct {
	steps   int         // made so far
	moments [][]float32 // Momentum: b of each parameter; Adam and AdamW: m of each, then v of each
}

// NewOptimiser returns an optimiser for the parameters of a net. It fails on
// settings that make no sense.
func NewOptimiser(o OptimiserOptions, parameters []*Parameter) (*Optimiser, error) {
	o = o.defaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	if len(parameters) == 0 {
		return nil, errors.New("optimiser: the net has no parameters to train: is all of it frozen?")
	}
	target, err := kernels.Host("")
	if err != nil {
		return nil, err
	}
	s := &Optimiser{options: o, parameters: parameters}
	_, s.adam = kernels.AdamF32(target)
	for range o.moments() {
		for _, p := range parameters {
			s.state.moments = append(s.state.moments, make([]float32, len(p.Value)))
		}
	}
	return s, nil
}

// moments returns how many values are kept for each one of a parameter.
func (o OptimiserOptions) moments() int {
	switch {
	case o.adam():
		return 2
	case o.Method == Momentum:
		return 1
	}
	return 0
}

// Step changes every parameter by its gradient, at the given learning rate.
func (s *Optimiser) Step(rate float64) {
	s.state.steps++
	for i, p := range s.parameters {
		decay := 0.0
		if p.Decay {
			decay = s.options.Decay
		}
		switch {
		case s.options.adam():
			n := len(s.parameters)
			s.stepAdam(p, s.state.moments[i], s.state.moments[n+i], rate, decay)
		case s.options.Method == Momentum:
			s.stepMomentum(p, s.state.moments[i], float32(rate), float32(decay))
		default:
			stepSGD(p, float32(rate), float32(decay))
		}
	}
}

func stepSGD(p *Parameter, rate, decay float32) {
	gradient := p.Gradient[:len(p.Value)]
	for i, v := range p.Value {
		g := gradient[i] + float32(decay*v)
		p.Value[i] = v - float32(rate*g)
	}
}

func (s *Optimiser) stepMomentum(p *Parameter, b []float32, rate, decay float32) {
	mu := float32(s.options.Momentum)
	gradient, b := p.Gradient[:len(p.Value)], b[:len(p.Value)]
	if s.options.Nesterov {
		for i, v := range p.Value {
			g := gradient[i] + float32(decay*v)
			b[i] = float32(mu*b[i]) + g
			p.Value[i] = v - float32(rate*(g+float32(mu*b[i])))
		}
		return
	}
	for i, v := range p.Value {
		b[i] = float32(mu*b[i]) + (gradient[i] + float32(decay*v))
		p.Value[i] = v - float32(rate*b[i])
	}
}

func (s *Optimiser) stepAdam(p *Parameter, m, v []float32, rate, decay float64) {
	o := s.options
	correct1, correct2 := 1-power(o.Beta1, s.state.steps), 1-power(o.Beta2, s.state.steps)
	a := kernels.Adam{
		Beta1: float32(o.Beta1), Beta2: float32(o.Beta2),
		Rest1: float32(1 - o.Beta1), Rest2: float32(1 - o.Beta2),
		Rate: float32(rate / correct1), Spread: float32(math.Sqrt(1 / correct2)), Epsilon: float32(o.Epsilon), Keep: 1,
	}
	if o.Method == AdamW {
		a.Keep = float32(1 - float64(rate*decay))
	} else {
		a.Decay = float32(decay)
	}
	s.adam(p.Value, m, v, p.Gradient, a)
}

// power returns x to the n-th by squaring: the same bits on every CPU.
func power(x float64, n int) float64 {
	y := 1.0
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			y *= x
		}
		x *= x
	}
	return y
}
