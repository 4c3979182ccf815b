package kernels

import "math"

// OpF32 is an elementwise operation of float32 that has loops of its own on
// every tier. All are exact.
type OpF32 uint8

// The operations of two operands, and those of one with up to two parameters.
const (
	OpAdd         OpF32 = iota // a + b
	OpSub                      // a - b
	OpMul                      // a * b
	OpDiv                      // a / b
	OpMin                      // the smaller; NaN where either is
	OpMax                      // the larger; NaN where either is
	OpPrelu                    // a, or a*b where a is negative
	OpClip                     // a bounded to [p, q]; NaN stays NaN
	OpHardSigmoid              // clamp(p*a + q, 0, 1)
	OpHardSwish                // a * clamp(p*a + q, 0, 1)
	OpAbs                      // a without its sign
	OpNeg                      // -a
	OpSqrt                     // √a, rounded correctly
	OpReciprocal               // 1/a
	OpFloor                    // a rounded down
	OpCeil                     // a rounded up
	OpRound                    // a rounded half to even
)

// definitionF32 is what an operation computes: one of the two.
type definitionF32 struct {
	name   string
	binary Binary[float32]
	unary  func(p, q float32) Unary
}

// definitionsF32 are the definitions of all operations.
var definitionsF32 = [...]definitionF32{
	OpAdd:         {name: "add", binary: Add[float32]},
	OpSub:         {name: "sub", binary: Sub[float32]},
	OpMul:         {name: "mul", binary: Mul[float32]},
	OpDiv:         {name: "div", binary: Div[float32]},
	OpMin:         {name: "min", binary: Min[float32]},
	OpMax:         {name: "max", binary: Max[float32]},
	OpPrelu:       {name: "prelu", binary: Prelu},
	OpClip:        {name: "clip", unary: func(p, q float32) Unary { return Clamp{p, q}.Clip }},
	OpHardSigmoid: {name: "hardsigmoid", unary: HardSigmoid},
	OpHardSwish:   {name: "hardswish", unary: hardSwish},
	OpAbs:         {name: "abs", unary: plain(Abs)},
	OpNeg:         {name: "neg", unary: plain(Neg)},
	OpSqrt:        {name: "sqrt", unary: plain(Sqrt)},
	OpReciprocal:  {name: "reciprocal", unary: plain(Reciprocal)},
	OpFloor:       {name: "floor", unary: wholeF32(math.Floor)},
	OpCeil:        {name: "ceil", unary: wholeF32(math.Ceil)},
	OpRound:       {name: "round", unary: wholeF32(math.RoundToEven)},
}

// plain is a function without parameters.
func plain(f Unary) func(p, q float32) Unary { return func(_, _ float32) Unary { return f } }

func wholeF32(f func(float64) float64) func(p, q float32) Unary {
	return plain(func(dst, src []float32) {
		each(dst, src, func(x float32) float32 { return float32(f(float64(x))) })
	})
}

// rowsF32 are rows of n values: those of out side by side, those of a and b
// aStep and bStep values apart. aEach and bEach are 1, or 0 where a row
// repeats its first value.
type rowsF32 struct {
	out, a, b    []float32
	rows, n      int
	aStep, bStep int
	aEach, bEach int
	p, q         float32
}

type rowsF32Func func(op OpF32, x rowsF32)

// rowsF32Variants is the table of all elementwise operations of float32.
var rowsF32Variants = append(rowsF32Native, variant[rowsF32Func]{Generic, true, rowsF32Generic})

// rowsF32Generic runs the definitions.
func rowsF32Generic(op OpF32, x rowsF32) {
	d := &definitionsF32[op]
	if d.binary == nil {
		d.unary(x.p, x.q)(x.out[:x.n], x.a)
		return
	}
	for r := range x.rows {
		d.binary(x.out[r*x.n:][:x.n], x.a[r*x.aStep:], x.b[r*x.bStep:], x.aEach, x.bEach)
	}
}

// UnaryF32 returns the operation of one operand as t computes it, and the
// tier that does.
func UnaryF32(t Target, op OpF32, p, q float32) (Tier, Unary) {
	v := pick(t, rowsF32Variants)
	if v.tier == Generic {
		return Generic, definitionsF32[op].unary(p, q)
	}
	return v.tier, func(dst, src []float32) {
		v.run(op, rowsF32{out: dst[:len(src)], a: src, rows: 1, n: len(src), aEach: 1, p: p, q: q})
	}
}

// LeakyReluF32 returns LeakyRelu as t computes it, and the tier that does.
func LeakyReluF32(t Target, alpha float32) (Tier, Unary) {
	v, slope := pick(t, rowsF32Variants), []float32{alpha}
	return v.tier, func(dst, src []float32) {
		v.run(OpPrelu, rowsF32{out: dst[:len(src)], a: src, b: slope, rows: 1, n: len(src), aEach: 1})
	}
}

// BinaryF32 returns the operation of two tensors that w broadcasts as t
// computes it, and the tier that does. Lengths are those of Elementwise.
func BinaryF32(t Target, op OpF32, w *Broadcast) (Tier, func(out, a, b []float32)) {
	v := pick(t, rowsF32Variants)
	return v.tier, func(out, a, b []float32) { elementwiseF32(v.run, op, w, out, a, b) }
}

// elementwiseF32 is Elementwise with the rows of the second innermost axis
// done at once.
func elementwiseF32(run rowsF32Func, op OpF32, w *Broadcast, out, a, b []float32) {
	if w.total == 0 {
		return
	}
	x := rowsF32{rows: 1, n: w.inner.length, aEach: w.inner.a, bEach: w.inner.b}
	axes := w.axes
	if k := len(axes) - 1; k >= 0 {
		x.rows, x.aStep, x.bStep = axes[k].length, axes[k].a, axes[k].b
		axes = axes[:k]
	}
	spanA := (x.rows-1)*x.aStep + (x.n-1)*x.aEach + 1
	spanB := (x.rows-1)*x.bStep + (x.n-1)*x.bEach + 1
	block := x.rows * x.n
	for at := 0; at < w.total; at += block {
		fa, fb := offsets(axes, at/block)
		x.out, x.a, x.b = out[at:at+block], a[fa:fa+spanA], b[fb:fb+spanB]
		run(op, x)
	}
}
