package main

import (
	"math"

	. "github.com/mmcloughlin/avo/operand"
)

func normsF32(f *file) {
	for _, s := range []isa{plain512, plain256} {
		f.softmax(s)
		f.sum(s)
		f.deviations(s)
		f.standardize(s)
		f.standardizePlane(s)
		f.span(s)
	}
}

func (file *file) softmax(s isa) {
	r := file.sweepFunction("softmax", "(to, from uintptr, n, rows int)", "computes rows of n values each, neither 0. Reference: Softmax.", s)
	to, from, n, rows := r.param("to"), r.param("from"), r.param("n"), r.param("rows")
	r.n = r.GP64()
	r.uses("left", r.n)
	at := r.GP64()
	r.uses("at", at)
	r.hold(expLeast, expMost)
	r.Label("row")

	top := r.set(float32(math.Inf(-1)))
	r.usesVecs("largest", top...)
	r.MOVQ(n, r.n)
	r.MOVQ(from, at)
	r.blocks("largest", func(masked bool) {
		x := r.load(at, masked)
		if masked {
			x = r.only(x, top)
		}
		r.accumulate(r.VMAXPS, top, x)
		r.advance(at)
	})
	top = r.all(r.folded(top, r.VMAXPS))

	sum := r.set(0)
	r.usesVecs("sums", sum...)
	r.MOVQ(n, r.n)
	r.MOVQ(to, at)
	r.blocks("exp", func(masked bool) {
		y := r.exp(r.sub(r.load(from, masked), top))
		r.store(y, at, masked)
		if masked {
			y = r.only(y, r.set(0))
			left := r.GP64() // the next row begins behind what there was
			r.MOVQ(r.n, left)
			r.LEAQ(Mem{Base: from, Index: left, Scale: 4}, from)
		} else {
			r.advance(from, at)
		}
		r.accumulate(r.VADDPS, sum, y)
	})
	one := r.XMM()
	r.VMOVSS(r.number(1), one)
	r.VDIVSS(r.folded(sum, r.VADDPS), one, one)
	scale := r.all(one)

	r.MOVQ(n, r.n)
	r.blocks("scale", func(masked bool) {
		r.store(r.mul(r.load(to, masked), scale), to, masked)
		if masked {
			r.LEAQ(Mem{Base: to, Index: r.n, Scale: 4}, to)
		} else {
			r.advance(to)
		}
	})
	r.DECQ(rows)
	r.JNZ(LabelRef("row"))
	r.end()
}

func (file *file) sum(s isa) {
	r := file.sweepFunction("sum", "(x uintptr, n int) (sum float32)", "adds n values up. Reference: Sum.", s)
	x := r.param("x")
	r.n = r.param("n")
	sum := r.set(0)
	r.usesVecs("sums", sum...)
	r.blocks("block", func(masked bool) {
		r.accumulate(r.VADDPS, sum, r.load(x, masked))
		r.advance(x)
	})
	r.result("sum", r.folded(sum, r.VADDPS))
	r.end()
}

func (file *file) deviations(s isa) {
	r := file.sweepFunction("deviations", "(x uintptr, n int, mean float32) (sum, squares float32)",
		"adds up what n values are above mean, and the squares of it. Reference: deviations.", s)
	x := r.param("x")
	r.n = r.param("n")
	mean, sum, squares := r.floatParam("mean"), r.set(0), r.set(0)
	r.usesVecs("sums", sum...)
	r.usesVecs("sums of squares", squares...)
	r.blocks("block", func(masked bool) {
		d := r.sub(r.load(x, masked), mean)
		if masked {
			d = r.only(d, r.set(0))
		}
		r.accumulate(r.VADDPS, sum, d)
		r.accumulate(r.VADDPS, squares, r.mul(d, d))
		r.advance(x)
	})
	r.result("sum", r.folded(sum, r.VADDPS))
	r.result("squares", r.folded(squares, r.VADDPS))
	r.end()
}

func (file *file) standardize(s isa) {
	r := file.sweepFunction("standardize", "(to, from, scale, shift uintptr, n int, mean, inverse float32)",
		"writes (x-mean)*inverse*scale + shift of n values. Reference: scaleRow.", s)
	to, from, scale, shift := r.param("to"), r.param("from"), r.param("scale"), r.param("shift")
	r.n = r.param("n")
	mean, inverse := r.floatParam("mean"), r.floatParam("inverse")
	r.blocks("block", func(masked bool) {
		y := r.mul(r.sub(r.load(from, masked), mean), inverse)
		y = r.add(r.mul(y, r.load(scale, masked)), r.load(shift, masked))
		r.store(y, to, masked)
		r.advance(to, from, scale, shift)
	})
	r.end()
}

func (file *file) standardizePlane(s isa) {
	r := file.sweepFunction("standardizePlane", "(to, from uintptr, n int, mean, inverse, scale, shift float32)",
		"writes (x-mean)*inverse*scale + shift of n values. Reference: scalePlane.", s)
	to, from := r.param("to"), r.param("from")
	r.n = r.param("n")
	mean, inverse, scale, shift := r.floatParam("mean"), r.floatParam("inverse"), r.floatParam("scale"), r.floatParam("shift")
	r.blocks("block", func(masked bool) {
		y := r.mul(r.sub(r.load(from, masked), mean), inverse)
		r.store(r.add(r.mul(y, scale), shift), to, masked)
		r.advance(to, from)
	})
	r.end()
}

func (file *file) span(s isa) {
	r := file.sweepFunction("span", "(x uintptr, n int) (lo, hi float32)", "finds the least and the largest of 0 and n values. Reference: span.", s)
	x := r.param("x")
	r.n = r.param("n")
	lo, hi := r.set(0), r.set(0)
	r.usesVecs("least", lo...)
	r.usesVecs("largest", hi...)
	r.blocks("block", func(masked bool) {
		v := r.load(x, masked)
		r.accumulate(r.VMINPS, lo, v)
		r.accumulate(r.VMAXPS, hi, v)
		r.advance(x)
	})
	r.result("lo", r.folded(lo, r.VMINPS))
	r.result("hi", r.folded(hi, r.VMAXPS))
	r.end()
}
