package engine

import (
	"fmt"
	"math"

	"dunlin/kernels"
	"dunlin/model"
)

// numbers are the types that compute; integers those without a fraction.
var (
	numbers  = append([]model.DType{model.F32, model.F64}, integerTypes...)
	floating = []model.DType{model.F32, model.F64}

	integerTypes = []model.DType{model.I8, model.U8, model.I16, model.U16, model.I32, model.U32, model.I64, model.U64}
)

// inferFloats is inferSame for float32 and float64.
func inferFloats(c *call) error {
	if err := c.want(0, floating...); err != nil {
		return err
	}
	return inferSame(c)
}

// inferNumbers is inferSame for all types that compute.
func inferNumbers(c *call) error {
	if err := c.want(0, numbers...); err != nil {
		return err
	}
	return inferSame(c)
}

// smooth are the functions that each tier has as a program of steps.
var smooth = map[string]kernels.Smooth{
	"Exp": kernels.SmoothExp, "Sigmoid": kernels.SmoothSigmoid, "Tanh": kernels.SmoothTanh, "Erf": kernels.SmoothErf,
	"Gelu": kernels.SmoothGelu, "Log": kernels.SmoothLog,
}

// unaryF32 returns the function of a node that has loops over float32 as c's
// target computes it, nil for others.
func unaryF32(c *call) (kernels.Tier, kernels.Unary) {
	op, p, q := kernels.OpClip, float32(0), kernels.NoClamp.Max
	switch n := c.node; n.Op {
	case "Relu":
	case "LeakyRelu":
		return kernels.LeakyReluF32(c.target, n.Float("alpha", 0.01))
	case "HardSigmoid":
		op, p, q = kernels.OpHardSigmoid, n.Float("alpha", 0.2), n.Float("beta", 0.5)
	case "HardSwish":
		op, p, q = kernels.OpHardSwish, float32(1)/6, 0.5
	case "Abs":
		op = kernels.OpAbs
	case "Neg":
		op = kernels.OpNeg
	case "Sqrt":
		op = kernels.OpSqrt
	case "Reciprocal":
		op = kernels.OpReciprocal
	case "Floor":
		op = kernels.OpFloor
	case "Ceil":
		op = kernels.OpCeil
	case "Round":
		op = kernels.OpRound
	default:
		s, ok := smooth[n.Op]
		if !ok {
			return kernels.Generic, nil
		}
		if n.Op == "Gelu" && n.Str("approximate", "none") == "tanh" {
			s = kernels.SmoothGeluTanh
		}
		return s.For(c.target)
	}
	return kernels.UnaryF32(c.target, op, p, q)
}

// functionAttrs are the attributes of parametric functions, and their
// defaults.
var functionAttrs = map[string][2]struct {
	name string
	or   float32
}{
	"LeakyRelu": {{"alpha", 0.01}}, "Elu": {{"alpha", 1}}, "Celu": {{"alpha", 1}}, "ThresholdedRelu": {{"alpha", 1}},
	"Selu":        {{"alpha", 1.67326319217681884765625}, {"gamma", 1.05070102214813232421875}},
	"HardSigmoid": {{"alpha", 0.2}, {"beta", 0.5}},
	"Shrink":      {{"lambd", 0.5}, {"bias", 0}},
}

// lowerUnary is for operators that see one element at a time.
func lowerUnary(c *call) (*kernel, error) {
	op := c.node.Op
	k := named(op + "-" + c.in[0].Type.String())
	if c.in[0].Type == model.F32 {
		if tier, f := unaryF32(c); f != nil {
			k.tier = tier
			k.bind = floats(func(out, in []float32, _ []byte) { f(out, in) })
			return k, nil
		}
	}
	a := functionAttrs[op]
	f := kernels.NewFunction(op, kernels.FunctionAttrs{
		Alpha: float64(c.node.Float(a[0].name, a[0].or)), Beta: float64(c.node.Float(a[1].name, a[1].or)),
	})
	if f == nil {
		return nil, notYet("no such function")
	}
	switch c.in[0].Type {
	case model.F32:
		k.bind = floats(func(out, in []float32, _ []byte) { f.MapF32(out, in) })
	case model.F64:
		k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
			x, y := in[0].F64(), out[0].F64()
			return func() error { f.Map(y, x); return nil }
		}
	default:
		k.bind = byWhole(c.in[0].Type,
			integerUnary[int8](op, f), integerUnary[uint8](op, f), integerUnary[int16](op, f), integerUnary[uint16](op, f),
			integerUnary[int32](op, f), integerUnary[uint32](op, f), integerUnary[int64](op, f), integerUnary[uint64](op, f))
	}
	return k, nil
}

// integerUnary is for Abs, Neg, Sign and Relu.
func integerUnary[T whole](op string, f kernels.Function) func(in, out []*model.Tensor, _ []byte) func() error {
	one := func(x T) T { return x }
	switch op {
	case "Abs":
		one = func(x T) T {
			if x < 0 {
				return -x
			}
			return x
		}
	case "Neg":
		one = func(x T) T { return -x }
	case "Relu":
		one = func(x T) T { return max(x, 0) }
	case "Sign":
		one = func(x T) T { return T(int64(f(float64(x)))) }
	}
	return func(in, out []*model.Tensor, _ []byte) func() error {
		x, y := elementsOf[T](in[0]), elementsOf[T](out[0])
		return func() error {
			for i, v := range x {
				y[i] = one(v)
			}
			return nil
		}
	}
}

// inferTest is for questions about floats: the result is Bool.
func inferTest(c *call) error {
	if err := c.want(0, floating...); err != nil {
		return err
	}
	return c.set(model.Bool, c.shape(0)...)
}

// lowerTest is for IsNaN and IsInf.
func lowerTest(c *call) (*kernel, error) {
	test := func(x float64) bool { return x != x }
	if c.node.Op == "IsInf" {
		plus, minus := c.node.Int("detect_positive", 1) != 0, c.node.Int("detect_negative", 1) != 0
		test = func(x float64) bool { return plus && math.IsInf(x, 1) || minus && math.IsInf(x, -1) }
	}
	k := named(c.node.Op)
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		y := out[0].Bools()
		if in[0].Type == model.F64 {
			x := in[0].F64()
			return func() error { testEach(y, x, test); return nil }
		}
		x := in[0].F32()
		return func() error { testEach(y, x, test); return nil }
	}
	return k, nil
}

func testEach[T float32 | float64](y []uint8, x []T, test func(float64) bool) {
	for i, v := range x {
		y[i] = 0
		if test(float64(v)) {
			y[i] = 1
		}
	}
}

// inferNot wants Bool.
func inferNot(c *call) error {
	if err := c.want(0, model.Bool); err != nil {
		return err
	}
	return inferSame(c)
}

func lowerNot(*call) (*kernel, error) {
	k := named("not")
	k.bind = moves(func(out, in []byte) {
		for i, v := range in {
			out[i] = v ^ 1
		}
	})
	return k, nil
}

// clipBounds returns the bounds of a Clip node, whose inputs 1 and 2 are its
// optional bounds, where they are float32 constants.
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

func inferClip(c *call) error {
	for i := 1; i < 3; i++ {
		if !c.has(i) {
			continue
		}
		if n, err := c.shape(i).Elements(); err != nil || n != 1 {
			return fmt.Errorf("bound %v of Clip is no single value", c.shape(i))
		}
		if err := c.want(i, c.in[0].Type); err != nil {
			return err
		}
	}
	return inferNumbers(c)
}

func lowerClip(c *call) (*kernel, error) {
	k := named("Clip-" + c.in[0].Type.String())
	if b, err := clipBounds(c); err == nil && c.in[0].Type == model.F32 {
		tier, f := kernels.UnaryF32(c.target, kernels.OpClip, b.Min, b.Max)
		k.tier, k.bind = tier, floats(func(out, in []float32, _ []byte) { f(out, in) })
		return k, nil
	}
	k.bind = byNumber(c.in[0].Type, clip[float32], clip[float64], clip[int8], clip[uint8], clip[int16], clip[uint16], clip[int32], clip[uint32],
		clip[int64], clip[uint64])
	return k, nil
}

// clip is min(max(x, low), high): where low is above high, it is high.
func clip[T real](in, out []*model.Tensor, _ []byte) func() error {
	x, y := elementsOf[T](in[0]), elementsOf[T](out[0])
	bound := func(i int) []T {
		if i < len(in) && in[i] != nil {
			return elementsOf[T](in[i])
		}
		return nil
	}
	low, high := bound(1), bound(2)
	return func() error {
		for i, v := range x {
			if low != nil && v < low[0] {
				v = low[0]
			}
			if high != nil && v > high[0] {
				v = high[0]
			}
			y[i] = v
		}
		return nil
	}
}
