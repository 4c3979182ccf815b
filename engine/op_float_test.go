package engine

import (
	"math"
	"testing"

	"dunlin/model"
)

func f64s(v []float64, shape ...int) *model.Tensor { return model.Of(model.F64, v, shape...) }

// bools is a Bool tensor of any shape.
func bools(v []uint8, shape ...int) *model.Tensor { return model.Of(model.Bool, v, shape...) }

// opCase is a node with what the ONNX specification says it gives.
type opCase struct {
	op   string
	a    attrs
	in   []*model.Tensor
	want []*model.Tensor
}

type tensors = []*model.Tensor

// check runs each case with inputs that a run gives, and with all but the
// first as constants, and looks at a second run's allocations.
func check(t *testing.T, cases []opCase) {
	t.Helper()
	for _, c := range cases {
		for _, constants := range []bool{false, true} {
			got := one(t, c.op, c.a, len(c.want), constants, c.in...)
			for i, want := range c.want {
				near(t, c.op, got[i], want)
			}
		}
		quiet(t, c)
	}
}

// near fails where floats differ by more than 1e-5, or others at all.
func near(t *testing.T, op string, got, want *model.Tensor) {
	t.Helper()
	if got.Type != want.Type || !got.Shape.Equal(want.Shape) {
		t.Errorf("%s: %v %v, want %v %v", op, got.Type, got.Shape, want.Type, want.Shape)
		return
	}
	a, b := Numbers(got), Numbers(want)
	for i := range b {
		d := math.Abs(a[i] - b[i])
		if a[i] != b[i] && !(d <= 1e-5*max(1, math.Abs(b[i]))) && (a[i] == a[i] || b[i] == b[i]) {
			t.Errorf("%s: %v, want %v", op, a, b)
			return
		}
	}
}

// quiet fails where a second run of a case allocates; nodes whose shapes
// depend on the data may.
func quiet(t *testing.T, c opCase) {
	t.Helper()
	if operators[c.op].eager != nil || operators[c.op].infer == nil {
		return
	}
	b := newBuild(1)
	n := &model.Node{Op: c.op, Name: "node", Attrs: c.a}
	for i, x := range c.in {
		switch {
		case x == nil:
			n.In = append(n.In, "")
		case i > 0:
			n.In = append(n.In, b.constant(x))
		default:
			b.typed("x", x.Type, append([]int{}, x.Shape...)...)
			n.In = append(n.In, "x")
		}
	}
	for i := range c.want {
		n.Out = append(n.Out, string(rune('p'+i)))
	}
	b.Nodes = append(b.Nodes, n)
	b.output(n.Out...)
	p, err := Compile(b.Graph, Options{})
	if err != nil {
		t.Errorf("%s: %v", c.op, err)
		return
	}
	s := p.NewSession()
	if len(c.in) > 0 && len(p.Inputs()) > 0 {
		copy(s.Input(0).Data, c.in[0].Data)
	}
	if a := testing.AllocsPerRun(2, func() {
		if err := s.Run(); err != nil {
			t.Errorf("%s: %v", c.op, err)
		}
	}); a != 0 && p.then == nil {
		t.Errorf("%s: %v allocations in a second run", c.op, a)
	}
}

// Values of the ONNX specification, operator by operator.
func TestUnaryOperators(t *testing.T) {
	x := f32s([]float32{-1, 0, 1}, 3)
	f := func(op string, a attrs, want ...float32) opCase {
		return opCase{op, a, tensors{x}, tensors{f32s(want, 3)}}
	}
	inf := float32(math.Inf(1))
	check(t, []opCase{
		f("Elu", attrs{"alpha": float32(2)}, -1.2642411, 0, 1),
		f("Selu", attrs{"alpha": float32(2), "gamma": float32(3)}, -3.79272318, 0, 3),
		f("Celu", attrs{"alpha": float32(2)}, -0.78693867, 0, 1),
		f("Softplus", nil, 0.31326166, 0.69314718, 1.31326163),
		f("Softsign", nil, -0.5, 0, 0.5),
		f("HardSigmoid", attrs{"alpha": float32(0.5), "beta": float32(0.6)}, 0.1, 0.6, 1),
		f("HardSwish", nil, -1.0/3, 0, 2.0/3),
		f("LeakyRelu", attrs{"alpha": float32(0.1)}, -0.1, 0, 1),
		f("ThresholdedRelu", attrs{"alpha": float32(0.5)}, 0, 0, 1),
		f("Shrink", attrs{"lambd": float32(0.5), "bias": float32(0.25)}, -0.75, 0, 0.75),
		f("Mish", nil, -0.30340147, 0, 0.86509836),
		f("Gelu", nil, -0.15865526, 0, 0.84134474),
		f("Gelu", attrs{"approximate": "tanh"}, -0.158808, 0, 0.841192),
		f("Erf", nil, -0.84270079, 0, 0.84270079),
		f("Reciprocal", nil, -1, inf, 1),
		f("Sin", nil, -0.84147098, 0, 0.84147098), f("Cos", nil, 0.54030231, 1, 0.54030231), f("Tan", nil, -1.55740772, 0, 1.55740772),
		f("Asin", nil, -1.57079633, 0, 1.57079633), f("Acos", nil, 3.14159265, 1.57079633, 0), f("Atan", nil, -0.78539816, 0, 0.78539816),
		f("Sinh", nil, -1.17520119, 0, 1.17520119), f("Cosh", nil, 1.54308063, 1, 1.54308063), f("Asinh", nil, -0.88137359, 0, 0.88137359),
		f("Sign", nil, -1, 0, 1), f("Exp", nil, 0.36787944, 1, 2.71828183),
		{"Round", nil, tensors{f32s([]float32{0.5, 1.5, 2.5, -0.5, -2.5, 2.4}, 6)}, tensors{f32s([]float32{0, 2, 2, 0, -2, 2}, 6)}},
		{"Floor", nil, tensors{f32s([]float32{-1.5, 1.2}, 2)}, tensors{f32s([]float32{-2, 1}, 2)}},
		{"Ceil", nil, tensors{f32s([]float32{-1.5, 1.2}, 2)}, tensors{f32s([]float32{-1, 2}, 2)}},
		{"Log", nil, tensors{f64s([]float64{1, 10}, 2)}, tensors{f64s([]float64{0, math.Ln10}, 2)}},
		{"Acosh", nil, tensors{f32s([]float32{1, 10}, 2)}, tensors{f32s([]float32{0, 2.99322285}, 2)}},
		{"Atanh", nil, tensors{f32s([]float32{0.5, -0.25}, 2)}, tensors{f32s([]float32{0.54930614, -0.25541281}, 2)}},
		{"Abs", nil, tensors{i8s([]int8{-3, 4}, 2)}, tensors{i8s([]int8{3, 4}, 2)}},
		{"Neg", nil, tensors{i32s([]int32{-3, 4}, 2)}, tensors{i32s([]int32{3, -4}, 2)}},
		{"Not", nil, tensors{truths(1, 0)}, tensors{truths(0, 1)}},
		{"IsNaN", nil, tensors{f32s([]float32{float32(math.NaN()), 1, inf}, 3)}, tensors{truths(1, 0, 0)}},
		{"IsInf", attrs{"detect_negative": int64(0)}, tensors{f32s([]float32{-inf, 1, inf}, 3)}, tensors{truths(0, 0, 1)}},
		{"Clip", nil, tensors{i8s([]int8{-9, 3, 9}, 3), i8s([]int8{-2}), i8s([]int8{5})}, tensors{i8s([]int8{-2, 3, 5}, 3)}},
		{"Clip", nil, tensors{f32s([]float32{-9, 3, 9}, 3), nil, f32s([]float32{5})}, tensors{f32s([]float32{-9, 3, 5}, 3)}},
	})
}

func TestBinaryOperators(t *testing.T) {
	a, b := f32s([]float32{1, 2, 3, 4}, 2, 2), f32s([]float32{2, 3}, 2)
	check(t, []opCase{
		{"Pow", nil, tensors{a, b}, tensors{f32s([]float32{1, 8, 9, 64}, 2, 2)}},
		{"Pow", nil, tensors{i32s([]int32{-2, 3}, 2), i64s([]int64{3, 2}, 2)}, tensors{i32s([]int32{-8, 9}, 2)}},
		{"Pow", nil, tensors{i32s([]int32{4}, 1), f32s([]float32{0.5}, 1)}, tensors{i32s([]int32{2}, 1)}},
		{"Mod", nil, tensors{i32s([]int32{-4, 7, 5, 4, -7, 8}, 6), i32s([]int32{2, -3, 8, -2, 3, 5}, 6)}, tensors{i32s([]int32{0, -2, 5, 0, 2, 3}, 6)}},
		{"Mod", attrs{"fmod": int64(1)}, tensors{f32s([]float32{-4.3, 7.2, 5}, 3), f32s([]float32{2.1, -3.4, 8}, 3)}, tensors{f32s([]float32{-0.1, 0.4, 5}, 3)}},
		{"Max", nil, tensors{b, a, f32s([]float32{2.5})}, tensors{f32s([]float32{2.5, 3, 3, 4}, 2, 2)}},
		{"Min", nil, tensors{u8s([]uint8{200, 3}, 2), u8s([]uint8{100, 9}, 2)}, tensors{u8s([]uint8{100, 3}, 2)}},
		{"Sum", nil, tensors{b, b, a}, tensors{f32s([]float32{5, 8, 7, 10}, 2, 2)}},
		{"Mean", nil, tensors{b, a}, tensors{f32s([]float32{1.5, 2.5, 2.5, 3.5}, 2, 2)}},
		{"Add", nil, tensors{u8s([]uint8{200}, 1), u8s([]uint8{100}, 1)}, tensors{u8s([]uint8{44}, 1)}},
		{"Div", nil, tensors{i32s([]int32{-7, 7}, 2), i32s([]int32{2, 0}, 2)}, tensors{i32s([]int32{-3, 0}, 2)}},
		{"PRelu", nil, tensors{f32s([]float32{-1, 2}, 2), f32s([]float32{0.5}, 1)}, tensors{f32s([]float32{-0.5, 2}, 2)}},
		{"Equal", nil, tensors{a, f32s([]float32{2})}, tensors{bools([]uint8{0, 1, 0, 0}, 2, 2)}},
		{"Greater", nil, tensors{a, b}, tensors{bools([]uint8{0, 0, 1, 1}, 2, 2)}},
		{"LessOrEqual", nil, tensors{i64s([]int64{1, 2}, 2), i64s([]int64{1, 1}, 2)}, tensors{truths(1, 0)}},
		{"Xor", nil, tensors{truths(1, 0), truths(1, 1)}, tensors{truths(0, 1)}},
		{"And", nil, tensors{truths(1, 0), truths(1, 1)}, tensors{truths(1, 0)}},
		{"BitShift", attrs{"direction": "LEFT"}, tensors{u8s([]uint8{16, 4, 1}, 3), u8s([]uint8{1, 2, 9}, 3)}, tensors{u8s([]uint8{32, 16, 0}, 3)}},
		{"BitwiseXor", nil, tensors{i32s([]int32{6, -1}, 2), i32s([]int32{3, 1}, 2)}, tensors{i32s([]int32{5, -2}, 2)}},
		{"Where", nil, tensors{truths(1, 0), i64s([]int64{1, 2, 3, 4}, 2, 2), i64s([]int64{9})}, tensors{i64s([]int64{1, 9, 3, 9}, 2, 2)}},
	})
}

func TestCastOfEveryKind(t *testing.T) {
	x := f32s([]float32{-1.7, 300, float32(math.NaN()), 0.3}, 4)
	to := func(n int64) attrs { return attrs{"to": n} }
	check(t, []opCase{
		{"Cast", to(2), tensors{x}, tensors{u8s([]uint8{0, 255, 0, 0}, 4)}},
		{"Cast", to(3), tensors{x}, tensors{i8s([]int8{-1, 127, 0, 0}, 4)}},
		{"Cast", to(9), tensors{x}, tensors{truths(1, 1, 1, 1)}},
		{"Cast", to(3), tensors{i64s([]int64{-1, 300}, 2)}, tensors{i8s([]int8{-1, 44}, 2)}},
		{
			"Cast", to(10),
			tensors{f64s([]float64{1, 65504, 1e9, 5.9604644775390625e-08, 1 + 1.0/2048 + 1e-12}, 5)},
			tensors{model.Of(model.F16, []uint16{0x3c00, 0x7bff, 0x7c00, 1, 0x3c01}, 5)},
		},
		{"Cast", to(16), tensors{f32s([]float32{1, 1.00390625, -2}, 3)}, tensors{model.Of(model.BF16, []uint16{0x3f80, 0x3f80, 0xc000}, 3)}},
		{"CastLike", nil, tensors{f32s([]float32{2.9}, 1), i64s([]int64{0}, 1)}, tensors{i64s([]int64{2}, 1)}},
	})
}

// Half-precision tensors are computed with as float32, and rounded.
func TestHalves(t *testing.T) {
	half := func(bits ...uint16) *model.Tensor { return model.Of(model.F16, bits, len(bits)) }
	check(t, []opCase{
		{"Add", nil, tensors{half(0x3c00, 0x4000), half(0x3800, 0x3c00)}, tensors{half(0x3e00, 0x4200)}},
		{"Sqrt", nil, tensors{half(0x4400)}, tensors{half(0x4000)}},
		{"Transpose", nil, tensors{half(1, 2)}, tensors{half(1, 2)}},
		{"Greater", nil, tensors{half(0x3c00), half(0x3800)}, tensors{truths(1)}},
		{"ReduceSum", attrs{"keepdims": int64(0)}, tensors{half(0x3c00, 0x4000)}, tensors{model.Of(model.F16, []uint16{0x4200})}},
	})
}

func TestNormalisations(t *testing.T) {
	x := f32s([]float32{0, 1, 2, 3}, 2, 2)
	one := func(v ...float32) *model.Tensor { return f32s(v, len(v)) }
	check(t, []opCase{
		{"Softmax", attrs{"axis": int64(0)}, tensors{x}, tensors{f32s([]float32{0.1192029, 0.1192029, 0.8807971, 0.8807971}, 2, 2)}},
		{"LogSoftmax", nil, tensors{x}, tensors{f32s([]float32{-1.3132616, -0.3132616, -1.3132616, -0.3132616}, 2, 2)}},
		{"LogSoftmax", nil, tensors{f32s([]float32{10000, 10001}, 1, 2)}, tensors{f32s([]float32{-1.3132616, -0.3132616}, 1, 2)}},
		{"Hardmax", nil, tensors{f32s([]float32{3, 0, 3, 1}, 1, 4)}, tensors{f32s([]float32{1, 0, 0, 0}, 1, 4)}},
		{"LpNormalization", nil, tensors{f32s([]float32{3, 4, 0, 0}, 2, 2)}, tensors{f32s([]float32{0.6, 0.8, 0, 0}, 2, 2)}},
		{
			"LayerNormalization", nil,
			tensors{x, one(2, 2), one(0, 1)},
			tensors{f32s([]float32{-1.99996, 2.99996, -1.99996, 2.99996}, 2, 2), f32s([]float32{0.5, 2.5}, 2, 1), f32s([]float32{1.99996, 1.99996}, 2, 1)},
		},
		{
			"InstanceNormalization", nil,
			tensors{f32s([]float32{-1, 0, 1, 2, 3, 4}, 1, 2, 1, 3), one(1, 1.5), one(0, 1)},
			tensors{f32s([]float32{-1.2247356, 0, 1.2247356, -0.8371035, 1, 2.8371034}, 1, 2, 1, 3)},
		},
		{
			"GroupNormalization",
			attrs{"num_groups": int64(1)},
			tensors{f32s([]float32{0, 1, 2, 3}, 1, 2, 2), one(1, 2), one(0, 1)},
			tensors{f32s([]float32{-1.3416355, -0.4472118, 1.8944237, 3.683271}, 1, 2, 2)},
		},
		{"MeanVarianceNormalization", attrs{"axes": []int64{0}}, tensors{x}, tensors{f32s([]float32{-1, -1, 1, 1}, 2, 2)}},
		{
			"LRN",
			attrs{"size": int64(3), "alpha": float32(3), "beta": float32(1), "bias": float32(1)},
			tensors{f32s([]float32{1, 2, 3}, 1, 3)},
			tensors{f32s([]float32{1.0 / 6, 2.0 / 15, 3.0 / 14}, 1, 3)},
		},
		{
			"BatchNormalization", nil,
			tensors{f32s([]float32{1, 3}, 1, 2, 1, 1), one(1, 2), one(0, 1), one(1, 1), one(4, 4)},
			tensors{f32s([]float32{0, 3}, 1, 2, 1, 1)},
		},
		{
			"BatchNormalization",
			attrs{"training_mode": int64(1), "epsilon": float32(0)},
			tensors{f32s([]float32{1, 3}, 2, 1), one(1), one(0), one(0), one(1)},
			tensors{f32s([]float32{-1, 1}, 2, 1), one(0.2), one(1)},
		},
		{"Dropout", nil, tensors{x}, tensors{x, bools([]uint8{1, 1, 1, 1}, 2, 2)}},
		{"NegativeLogLikelihoodLoss", nil, tensors{x, i64s([]int64{0, 1}, 2), one(1, 3)}, tensors{f32s([]float32{-2.25})}},
		{
			"SoftmaxCrossEntropyLoss",
			attrs{"reduction": "none"},
			tensors{x, i64s([]int64{0, 1}, 2)},
			tensors{one(1.3132616, 0.3132616), f32s([]float32{-1.3132616, -0.3132616, -1.3132616, -0.3132616}, 2, 2)},
		},
	})
}

func TestReductions(t *testing.T) {
	x := f32s([]float32{1, 2, 3, 4, 5, 6}, 1, 3, 2)
	r := func(op string, in *model.Tensor, want *model.Tensor, axes ...int64) opCase {
		return opCase{op, attrs{"keepdims": int64(0)}, tensors{in, i64s(axes, len(axes))}, tensors{want}}
	}
	check(t, []opCase{
		r("ReduceSum", x, f32s([]float32{9, 12}, 1, 2), 1),
		r("ReduceMean", x, f32s([]float32{1.5, 3.5, 5.5}, 3), 0, -1),
		r("ReduceMax", x, f32s([]float32{5, 6}, 1, 2), 1), r("ReduceMin", x, f32s([]float32{1, 2}, 1, 2), 1),
		r("ReduceProd", x, f32s([]float32{2, 12, 30}, 1, 3), 2),
		r("ReduceL1", f32s([]float32{-3, 4}, 2), f32s([]float32{7}), 0), r("ReduceL2", f32s([]float32{-3, 4}, 2), f32s([]float32{5}), 0),
		r("ReduceSumSquare", f32s([]float32{-3, 4}, 2), f32s([]float32{25}), 0),
		r("ReduceLogSum", f32s([]float32{1, 2}, 2), f32s([]float32{1.0986123}), 0),
		r("ReduceLogSumExp", f32s([]float32{1000, 1000}, 2), f32s([]float32{1000.6931}), 0),
		r("ReduceMax", u8s([]uint8{7, 200}, 2), u8s([]uint8{200}), 0), r("ReduceMean", i32s([]int32{-3, 4, 6}, 3), i32s([]int32{2}), 0),
		{"ReduceSum", attrs{"noop_with_empty_axes": int64(1)}, tensors{x}, tensors{x}},
		{"ReduceSum", nil, tensors{x}, tensors{f32s([]float32{21}, 1, 1, 1)}},
	})
}

func TestProducts(t *testing.T) {
	x := f32s([]float32{1, 2, 3, 4}, 2, 2)
	check(t, []opCase{
		{"MatMul", nil, tensors{x, f32s([]float32{1, 1}, 2)}, tensors{f32s([]float32{3, 7}, 2)}},
		{"MatMul", nil, tensors{f32s([]float32{1, 1}, 2), x}, tensors{f32s([]float32{4, 6}, 2)}},
		{"MatMul", nil, tensors{f32s([]float32{1, 2, 3, 4}, 2, 1, 2), x}, tensors{f32s([]float32{7, 10, 15, 22}, 2, 1, 2)}},
		{"MatMul", nil, tensors{f64s([]float64{1, 2}, 1, 1, 2), f64s([]float64{3, 4, 5, 6}, 2, 2, 1)}, tensors{f64s([]float64{11, 17}, 2, 1, 1)}},
		{"MatMul", nil, tensors{i32s([]int32{1, 2}, 1, 2), i32s([]int32{3, 4}, 2, 1)}, tensors{i32s([]int32{11}, 1, 1)}},
		{"Einsum", attrs{"equation": "ij,jk->ik"}, tensors{x, x}, tensors{f32s([]float32{7, 10, 15, 22}, 2, 2)}},
		{"Einsum", attrs{"equation": "ii"}, tensors{x}, tensors{f32s([]float32{5})}},
		{"Einsum", attrs{"equation": "...ii->...i"}, tensors{x}, tensors{f32s([]float32{1, 4}, 2)}},
		{"Einsum", attrs{"equation": "b i , b j -> b i j"}, tensors{x, x}, tensors{f32s([]float32{1, 2, 2, 4, 9, 12, 12, 16}, 2, 2, 2)}},
		{"Det", nil, tensors{x}, tensors{f32s([]float32{-2})}},
	})
}
