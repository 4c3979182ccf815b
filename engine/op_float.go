package engine

import (
	"fmt"
	"math"

	"dunlin/kernels"
	"dunlin/model"
)

// inferSame is for operators whose output is like their first input.
func inferSame(c *call) error { return c.set(c.in[0].Type, c.shape(0)...) }

// inferFloat is inferSame for float32 alone.
func inferFloat(c *call) error {
	if err := c.want(0, model.F32); err != nil {
		return err
	}
	return inferSame(c)
}

// lowerUnary is for operators that see one element at a time.
func lowerUnary(c *call) (*kernel, error) {
	f, err := unary(c)
	if err != nil {
		return nil, err
	}
	k := named(c.node.Op + "-f32")
	k.bind = floats(func(out, in []float32, _ []byte) { f(out, in) })
	return k, nil
}

func unary(c *call) (kernels.Unary, error) {
	switch c.node.Op {
	case "Relu":
		return kernels.Clamp{Min: 0, Max: kernels.NoClamp.Max}.Clip, nil
	case "Clip":
		b, err := clipBounds(c)
		return b.Clip, err
	case "LeakyRelu":
		return kernels.LeakyRelu(c.node.Float("alpha", 0.01)), nil
	case "HardSigmoid":
		return kernels.HardSigmoid(c.node.Float("alpha", 0.2), c.node.Float("beta", 0.5)), nil
	case "HardSwish":
		return kernels.HardSwish, nil
	case "Sigmoid":
		return kernels.Sigmoid, nil
	case "Tanh":
		return kernels.Tanh, nil
	case "Exp":
		return kernels.Exp, nil
	case "Sqrt":
		return kernels.Sqrt, nil
	case "Neg":
		return kernels.Neg, nil
	case "Abs":
		return kernels.Abs, nil
	}
	return nil, notYet("no such function")
}

// clipBounds returns the bounds of a Clip node, whose inputs 1 and 2 are its
// optional bounds.
func clipBounds(c *call) (kernels.Clamp, error) {
	b := kernels.NoClamp
	for i, p := range []*float32{&b.Min, &b.Max} {
		if !c.has(i + 1) {
			continue
		}
		t := c.constant(i + 1)
		if t == nil || t.Type != model.F32 || t.Elements() != 1 {
			return b, notYet("the bounds of Clip must be single float32 constants")
		}
		*p = t.F32()[0]
	}
	return b, nil
}

func inferBinary(c *call) error {
	if err := c.want(0, model.F32, model.F64, model.I32, model.I64); err != nil {
		return err
	}
	if err := c.want(1, c.in[0].Type); err != nil {
		return err
	}
	w, err := kernels.NewBroadcast(c.shape(0), c.shape(1))
	if err != nil {
		return err
	}
	return c.set(c.in[0].Type, w.Shape...)
}

func lowerBinary(c *call) (*kernel, error) {
	w, err := kernels.NewBroadcast(c.shape(0), c.shape(1))
	if err != nil {
		return nil, err
	}
	switch c.in[0].Type {
	case model.F32:
		return binary(c, w, (*model.Tensor).F32), nil
	case model.F64:
		return binary(c, w, (*model.Tensor).F64), nil
	case model.I32:
		return binary(c, w, (*model.Tensor).I32), nil
	default:
		return binary(c, w, (*model.Tensor).I64), nil
	}
}

func binary[T kernels.Number](c *call, w *kernels.Broadcast, view func(*model.Tensor) []T) *kernel {
	var f kernels.Binary[T]
	switch c.node.Op {
	case "Add":
		f = kernels.Add[T]
	case "Sub":
		f = kernels.Sub[T]
	case "Mul":
		f = kernels.Mul[T]
	case "Div":
		f = kernels.Div[T]
	}
	k := named(c.node.Op + "-" + c.in[0].Type.String())
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		a, b, y := view(in[0]), view(in[1]), view(out[0])
		return func() error { kernels.Elementwise(w, f, y, a, b); return nil }
	}
	return k
}

// lowerSoftmax is that of opset 13: over one axis, the last by default.
func lowerSoftmax(c *call) (*kernel, error) {
	s := c.shape(0)
	axis, err := c.axis("axis", -1, len(s))
	if err != nil {
		return nil, err
	}
	n := s[axis]
	for _, d := range s[axis+1:] {
		if d != 1 {
			return nil, notYet(fmt.Sprintf("softmax over axis %d of %v; the last is supported", axis, s))
		}
	}
	k := named("softmax-f32")
	k.bind = floats(func(out, in []float32, _ []byte) { kernels.Softmax(out, in, n) })
	return k, nil
}

// inferBatchNorm wants scale, bias, mean and variance, one a channel.
func inferBatchNorm(c *call) error {
	for i := range 5 {
		if err := c.want(i, model.F32); err != nil {
			return err
		}
	}
	s := c.shape(0)
	if len(s) < 2 {
		return fmt.Errorf("batch normalisation of %v", s)
	}
	channels := s[1]
	if isChannelsLast(c.node) {
		channels = s[len(s)-1]
	}
	for i := 1; i < 5; i++ {
		if !c.shape(i).Equal(model.Shape{channels}) {
			return fmt.Errorf("input %d is %v for %d channels", i, c.shape(i), channels)
		}
	}
	return inferSame(c)
}

func lowerBatchNorm(c *call) (*kernel, error) {
	scale, shift, err := batchNorm(c.node, c.constant)
	if err != nil {
		return nil, err
	}
	inner := 1
	if !isChannelsLast(c.node) {
		inner, _ = c.shape(0)[2:].Elements()
	}
	k := named("batchnorm-f32")
	k.weights = 8 * len(scale)
	k.bind = floats(func(out, in []float32, _ []byte) { kernels.ScaleShift(out, in, scale, shift, inner) })
	return k, nil
}

// batchNorm returns y = x*scale + shift for each channel of a
// BatchNormalization node: scale = gamma/sqrt(variance+epsilon), shift =
// beta - mean*scale, computed in float64 (Ioffe and Szegedy 2015,
// arXiv:1502.03167, algorithm 2). constant returns input i.
func batchNorm(n *model.Node, constant func(i int) *model.Tensor) (scale, shift []float32, err error) {
	var in [5][]float32
	for i := 1; i < 5; i++ {
		t := constant(i)
		if t == nil || t.Type != model.F32 {
			return nil, nil, notYet("the statistics must be float32 constants")
		}
		in[i] = t.F32()
	}
	if n.Int("training_mode", 0) != 0 {
		return nil, nil, notYet("training mode")
	}
	epsilon := float64(n.Float("epsilon", 1e-5))
	for i, gamma := range in[1] {
		s := float64(gamma) / math.Sqrt(float64(in[4][i])+epsilon)
		product := float64(in[3][i]) * s
		scale = append(scale, float32(s))
		shift = append(shift, float32(float64(in[2][i])-float64(product)))
	}
	return scale, shift, nil
}
