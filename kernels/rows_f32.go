package kernels

import (
	"math"
	"slices"
)

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
	OpCopy                     // a, whatever its bits and b are
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
	OpCopy:        {name: "copy", binary: First[float32]},
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

// rowsF32 are rows of n values, step, aStep and bStep values apart. aEach and
// bEach are 1, or 0 where a row repeats its first value.
type rowsF32 struct {
	out, a, b          []float32
	rows, n            int
	step, aStep, bStep int
	aEach, bEach       int
	p, q               float32
}

type rowsF32Func func(op OpF32, x rowsF32)

// rowsF32Variants is the table of all elementwise operations of float32.
var rowsF32Variants = append(rowsF32Native, variant[rowsF32Func]{Generic, true, rowsF32Generic})

// rowsF32Generic runs the definitions.
func rowsF32Generic(op OpF32, x rowsF32) {
	d := &definitionsF32[op]
	if d.binary == nil {
		f := d.unary(x.p, x.q)
		for r := range x.rows {
			f(x.out[r*x.step:][:x.n], x.a[r*x.aStep:][:x.n])
		}
		return
	}
	for r := range x.rows {
		d.binary(x.out[r*x.step:][:x.n], x.a[r*x.aStep:], x.b[r*x.bStep:], x.aEach, x.bEach)
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

// ClipF32 returns Clip with bounds that a run knows, and the tier that computes
// it.
func ClipF32(t Target) (Tier, func(dst, src []float32, bounds Clamp)) {
	v := pick(t, rowsF32Variants)
	if v.tier == Generic { // its function with two bounds would be new in each run
		return Generic, func(dst, src []float32, c Clamp) { c.Clip(dst, src) }
	}
	return v.tier, func(dst, src []float32, c Clamp) {
		v.run(OpClip, rowsF32{out: dst[:len(src)], a: src, rows: 1, n: len(src), step: len(src), aEach: 1, p: c.Min, q: c.Max})
	}
}

// ExtremesF32 returns ReduceMax, or ReduceMin, of in [outer, n, inner] to out
// [outer, inner], n not 0, and the tier that computes it. The order in which
// numbers are compared makes no difference. scratch holds
// ExtremesBlock values.
func ExtremesF32(t Target, op OpF32) (Tier, func(out, in, scratch []float32, outer, n, inner int)) {
	v := pick(t, rowsF32Variants)
	fold := func(acc, x []float32) {
		v.run(op, rowsF32{out: acc[:len(x)], a: acc[:len(x)], b: x, rows: 1, n: len(x), step: len(x), aEach: 1, bEach: 1})
	}
	return v.tier, func(out, in, scratch []float32, outer, n, inner int) {
		for o := range outer {
			x := in[o*n*inner:][:n*inner]
			if inner != 1 || n == 1 {
				acc := out[o*inner:][:inner]
				copy(acc, x)
				for k := 1; k < n; k++ {
					fold(acc, x[k*inner:][:inner])
				}
				continue
			}
			acc := scratch[:min(n, ExtremesBlock)]
			copy(acc, x)
			for at := len(acc); at < n; at += len(acc) {
				fold(acc, x[at:min(at+len(acc), n)])
			}
			for len(acc) > 1 {
				half := (len(acc) + 1) / 2
				fold(acc, acc[half:])
				acc = acc[:half]
			}
			out[o] = acc[0]
		}
	}
}

// ExtremesBlock is how many values of scratch ExtremesF32 needs.
const ExtremesBlock = 1024

// LeakyReluF32 returns LeakyRelu as t computes it, and the tier that does.
func LeakyReluF32(t Target, alpha float32) (Tier, Unary) {
	v, slope := pick(t, rowsF32Variants), []float32{alpha}
	return v.tier, func(dst, src []float32) {
		v.run(OpPrelu, rowsF32{out: dst[:len(src)], a: src, b: slope, rows: 1, n: len(src), step: len(src), aEach: 1})
	}
}

// BinaryF32 returns the operation of two tensors that w broadcasts as t
// computes it, and the tier that does. Lengths are those of Elementwise.
func BinaryF32(t Target, op OpF32, w *Broadcast) (Tier, func(out, a, b []float32)) {
	v, plan := pick(t, rowsF32Variants), planRows(w)
	return v.tier, func(out, a, b []float32) { plan.run(v.run, op, out, a, b) }
}

// rowPlan is a broadcast as calls of a loop over rows.
type rowPlan struct {
	x            rowsF32 // of each call
	outer        []triple
	calls        int
	spanA, spanB int // elements that a call reads
	span         int // elements from the first that it writes to the last
}

// triple is an axis of calls: how far apart they are in the result, a and b.
type triple struct{ length, to, a, b int }

// fewRows is how many rows make a call worth while.
const fewRows = 16

// planRows chooses the axis that is walked inside of a call: the second
// innermost, or, where that is short, the longest.
func planRows(w *Broadcast) *rowPlan {
	p := &rowPlan{calls: 1}
	p.x = rowsF32{rows: 1, n: w.inner.length, step: w.inner.length, aEach: w.inner.a, bEach: w.inner.b}
	var axes []triple // innermost first
	to := w.inner.length
	for i := len(w.axes) - 1; i >= 0; i-- {
		a := w.axes[i]
		axes = append(axes, triple{a.length, to, a.a, a.b})
		to *= a.length
	}
	if w.total == 0 {
		p.calls = 0
		return p
	}
	if len(axes) > 0 {
		rows := 0
		for i, a := range axes {
			if axes[0].length < fewRows && a.length > axes[rows].length {
				rows = i
			}
		}
		a := axes[rows]
		p.x.rows, p.x.step, p.x.aStep, p.x.bStep = a.length, a.to, a.a, a.b
		axes = slices.Delete(axes, rows, rows+1)
	}
	for _, a := range axes {
		p.calls *= a.length
	}
	p.outer = axes
	p.span = (p.x.rows-1)*p.x.step + p.x.n
	p.spanA = (p.x.rows-1)*p.x.aStep + (p.x.n-1)*p.x.aEach + 1
	p.spanB = (p.x.rows-1)*p.x.bStep + (p.x.n-1)*p.x.bEach + 1
	return p
}

// run is Elementwise.
func (p *rowPlan) run(f rowsF32Func, op OpF32, out, a, b []float32) {
	x := p.x
	for call := range p.calls {
		to, fa, fb, n := 0, 0, 0, call
		for _, axis := range p.outer {
			k := n % axis.length
			n /= axis.length
			to, fa, fb = to+k*axis.to, fa+k*axis.a, fb+k*axis.b
		}
		x.out, x.a, x.b = out[to:to+p.span], a[fa:fa+p.spanA], b[fb:fb+p.spanB]
		f(op, x)
	}
}

// ExpandF32 returns what writes a tensor, broadcast to another shape, as t
// does, and the tier that does: 32-bit values, whatever they are.
func ExpandF32(t Target, w *Broadcast) (Tier, func(out, in []float32)) {
	v, plan := pick(t, rowsF32Variants), planRows(w)
	return v.tier, func(out, in []float32) { plan.run(v.run, OpCopy, out, in, out) }
}
