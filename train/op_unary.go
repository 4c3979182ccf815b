package train

import (
	"math"

	"dunlin/kernels"
)

// unary is a function of one element: y = f(x).
type unary struct {
	x *port
	y *value
	f kernels.Unary
	// slope writes f'(x), given x and y.
	slope func(to, x, y []float32)
	// gradient writes dx = dy*f'(x). Those without one have a slope.
	gradient func(dx, dy, x, y []float32)
	times    func(out, a, b []float32)
}

func (s *unary) forward(bool) { s.f(s.y.data, s.x.data) }

func (s *unary) backward() {
	if s.gradient != nil {
		s.gradient(s.x.dx, s.y.grad, s.x.data, s.y.data)
		return
	}
	s.slope(s.x.dx, s.x.data, s.y.data)
	s.times(s.x.dx, s.x.dx, s.y.grad)
}

func makeUnary(c *call) (step, error) {
	x, err := c.read(0)
	if err != nil {
		return nil, err
	}
	s := &unary{x: x}
	if s.y, err = c.write(0, x.shape, x.last); err != nil {
		return nil, err
	}
	line, err := kernels.NewBroadcast([]int{len(x.data)}, []int{len(x.data)})
	if err != nil {
		return nil, err
	}
	_, s.times = kernels.BinaryF32(c.target(), kernels.OpMul, line)
	return s, unaries[c.node.Op](c, s)
}

// clamp bounds x to [low, high]. The gradient passes where x is between the
// bounds, not where it is on one: at 0, that of Relu is 0.
func (s *unary) clamp(c *call, low, high float32) {
	_, s.f = kernels.UnaryF32(c.target(), kernels.OpClip, low, high)
	pass := c.b.net.loops.pass
	s.gradient = func(dx, dy, x, _ []float32) {
		pass(dx, x, dy, nil, kernels.Strided{Rows: 1, N: len(dx), P: low, Q: high})
	}
}

// unaries are the functions, made of a node.
var unaries = map[string]func(c *call, s *unary) error{
	"Relu": func(c *call, s *unary) error {
		s.clamp(c, 0, float32(math.Inf(1)))
		return nil
	},
	"Clip": func(c *call, s *unary) error {
		low, err := c.number(1, float32(math.Inf(-1)))
		if err != nil {
			return err
		}
		high, err := c.number(2, float32(math.Inf(1)))
		s.clamp(c, low, high)
		return err
	},
	"LeakyRelu": func(c *call, s *unary) error {
		alpha := c.node.Float("alpha", 0.01)
		_, s.f = kernels.LeakyReluF32(c.target(), alpha)
		s.slope = pointwise(func(x, _ float32) float32 {
			if x > 0 {
				return 1
			}
			return alpha
		})
		return nil
	},
	"HardSigmoid": func(c *call, s *unary) error {
		alpha, beta := c.node.Float("alpha", 0.2), c.node.Float("beta", 0.5)
		_, s.f = kernels.UnaryF32(c.target(), kernels.OpHardSigmoid, alpha, beta)
		s.slope = pointwise(func(_, y float32) float32 {
			if y > 0 && y < 1 {
				return alpha
			}
			return 0
		})
		return nil
	},
	"HardSwish": func(c *call, s *unary) error {
		_, s.f = kernels.UnaryF32(c.target(), kernels.OpHardSwish, float32(1)/6, 0.5)
		s.slope = pointwise(func(x, _ float32) float32 {
			switch {
			case x <= -3:
				return 0
			case x >= 3:
				return 1
			}
			return float32(x/3) + 0.5
		})
		return nil
	},
	"Elu": func(c *call, s *unary) (err error) {
		alpha := c.node.Float("alpha", 1)
		s.f, _ = kernels.Activation(c.target(), "Elu", alpha, 0)
		s.slope = pointwise(func(x, y float32) float32 {
			if x > 0 {
				return 1
			}
			return y + alpha
		})
		return nil
	},
	"Softplus": func(c *call, s *unary) error {
		s.f, _ = kernels.Activation(c.target(), "Softplus", 0, 0)
		_, sigmoid := kernels.SmoothSigmoid.For(c.target())
		s.slope = func(to, x, _ []float32) { sigmoid(to, x) }
		return nil
	},
	"Sigmoid":    smooth(kernels.SmoothSigmoid, func(_, y float32) float32 { return y - float32(y*y) }),
	"Tanh":       smooth(kernels.SmoothTanh, func(_, y float32) float32 { return 1 - float32(y*y) }),
	"Exp":        smooth(kernels.SmoothExp, func(_, y float32) float32 { return y }),
	"Log":        smooth(kernels.SmoothLog, func(x, _ float32) float32 { return 1 / x }),
	"Sqrt":       plain(kernels.OpSqrt, func(_, y float32) float32 { return 0.5 / y }),
	"Reciprocal": plain(kernels.OpReciprocal, func(_, y float32) float32 { return -float32(y * y) }),
	"Neg":        plain(kernels.OpNeg, func(_, _ float32) float32 { return -1 }),
	"Abs": plain(kernels.OpAbs, func(x, _ float32) float32 {
		switch {
		case x > 0:
			return 1
		case x < 0:
			return -1
		}
		return 0
	}),
	"Erf":  erf,
	"Gelu": gelu,
	"Pow":  raised,
}

// pointwise makes a slope of a function of x and y.
func pointwise(f func(x, y float32) float32) func(to, x, y []float32) {
	return func(to, x, y []float32) {
		x, y = x[:len(to)], y[:len(to)]
		for i := range to {
			to[i] = f(x[i], y[i])
		}
	}
}

func smooth(f kernels.Smooth, slope func(x, y float32) float32) func(c *call, s *unary) error {
	return func(c *call, s *unary) error {
		_, s.f = f.For(c.target())
		s.slope = pointwise(slope)
		return nil
	}
}

func plain(op kernels.OpF32, slope func(x, y float32) float32) func(c *call, s *unary) error {
	return func(c *call, s *unary) error {
		_, s.f = kernels.UnaryF32(c.target(), op, 0, 0)
		s.slope = pointwise(slope)
		return nil
	}
}

// erf has the slope 2/√π * e^(-x²).
func erf(c *call, s *unary) error {
	_, s.f = kernels.SmoothErf.For(c.target())
	_, exp := kernels.SmoothExp.For(c.target())
	s.slope = func(to, x, _ []float32) {
		for i, v := range x {
			to[i] = -float32(v * v)
		}
		exp(to, to)
		scale(to, 2/math.SqrtPi)
	}
	return nil
}

// gelu is x*Φ(x), of the slope Φ(x) + x*φ(x), or its approximation by tanh
// (Hendrycks and Gimpel 2016, arXiv:1606.08415).
func gelu(c *call, s *unary) error {
	if c.node.Str("approximate", "none") == "tanh" {
		return geluTanh(c, s)
	}
	_, s.f = kernels.SmoothGelu.For(c.target())
	_, exp := kernels.SmoothExp.For(c.target())
	_, erf := kernels.SmoothErf.For(c.target())
	phi := floats(len(s.x.data))
	s.slope = func(to, x, _ []float32) {
		for i, v := range x {
			phi[i] = -0.5 * float32(v*v)
			to[i] = v * (1 / math.Sqrt2)
		}
		exp(phi, phi)
		erf(to, to)
		for i, v := range x {
			density := float32(phi[i] * (1 / (math.Sqrt2 * 1.7724538509055159)))
			to[i] = float32(0.5*(1+to[i])) + float32(v*density)
		}
	}
	return nil
}

func geluTanh(c *call, s *unary) error {
	const k, cubic = 0.7978845608028654, 0.044715 // k is √(2/π)
	_, s.f = kernels.SmoothGeluTanh.For(c.target())
	_, tanh := kernels.SmoothTanh.For(c.target())
	s.slope = func(to, x, _ []float32) {
		for i, v := range x {
			to[i] = k * (v + float32(cubic*float32(float32(v*v)*v)))
		}
		tanh(to, to)
		for i, v := range x {
			t := to[i]
			inner := float32(k * (1 + float32(3*cubic*float32(v*v))))
			to[i] = float32(0.5*(1+t)) + float32(float32(0.5*v)*float32((1-float32(t*t))*inner))
		}
	}
	return nil
}

// raised is x^p with a constant p.
func raised(c *call, s *unary) error {
	p, err := c.number(1, 1)
	if err != nil {
		return err
	}
	raise := func(by float32) kernels.Unary {
		return kernels.Function(func(x float64) float64 { return kernels.PowFloat(x, float64(by)) }).MapF32
	}
	lower := raise(p - 1)
	s.f, s.slope = raise(p), func(to, x, _ []float32) {
		lower(to, x)
		scale(to, p)
	}
	if p == 2 { // a norm's, by far the most often
		s.f = func(to, x []float32) { s.times(to, x, x) }
		s.slope = func(to, x, _ []float32) { copy(to, x); scale(to, 2) }
	}
	return nil
}
