package main

import "math"

// The constants of exp.go.
const (
	expMost    = 89
	expLeast   = -104
	tanhMost   = 10
	erfMost    = 4
	log2e      = 1.44269504088896341
	ln2Hi      = 0.693359375
	ln2Lo      = -2.12194440e-4
	rootHalf   = math.Sqrt2 / 2
	rootTwoPi  = 0.7978845608
	rounder    = 12582912
	rounderOne = rounder + 127
	rounderTwo = rounder + 2*127

	least        = math.SmallestNonzeroFloat32
	leastNormal  = 0x1p-126
	rootHalfBits = 0x3f3504f3
	fraction     = 1<<23 - 1
)

// smoothFunctions repeat exp.go step by step.
var smoothFunctions = []struct {
	name, reference string
	held            []float32
	of              func(r *sweep, x block) block
}{
	{"exp", "Exp", []float32{expLeast, expMost}, (*sweep).exp},
	{"sigmoid", "Sigmoid", []float32{expLeast, expMost, 1}, (*sweep).sigmoid},
	{"tanh", "Tanh", []float32{-tanhMost, tanhMost}, (*sweep).tanh},
	{"erf", "Erf", []float32{-erfMost, erfMost}, (*sweep).erf},
	{"gelu", "Gelu", []float32{-erfMost, erfMost}, func(r *sweep, x block) block {
		return r.mul(r.mul(x, float32(0.5)), r.add(r.erf(r.mul(x, float32(rootHalf))), float32(1)))
	}},
	{"geluTanh", "GeluTanh", []float32{-tanhMost, tanhMost}, func(r *sweep, x block) block {
		cube := r.mul(r.mul(r.mul(x, x), x), float32(0.044715))
		return r.mul(r.mul(x, float32(0.5)), r.add(r.tanh(r.mul(r.add(x, cube), float32(rootTwoPi))), float32(1)))
	}},
	{"log", "Log", []float32{0, 1, least, leastNormal, float32(math.Inf(1))}, (*sweep).log},
	{"silu", "Silu", []float32{expLeast, expMost, 1}, func(r *sweep, x block) block { return r.mul(x, r.sigmoid(x)) }},
}

func smooth(f *file) {
	for _, s := range []isa{plain512, plain256} {
		for _, fn := range smoothFunctions {
			r := f.sweepFunction(fn.name, "(to, from uintptr, n int)", "computes "+fn.reference+" of n values. Reference: "+fn.reference+".", s)
			to, from := r.param("to"), r.param("from")
			r.n = r.param("n")
			r.hold(fn.held...)
			r.blocks("block", func(masked bool) {
				r.store(fn.of(r, r.load(from, masked)), to, masked)
				r.advance(from, to)
			})
			r.end()
		}
	}
}

// expParts returns t and p of exp.go.
func (r *sweep) expParts(x block, by float32) (t, p block) {
	t = r.add(r.mul(x, float32(log2e)), by)
	n := r.sub(t, by)
	x = r.sub(x, r.mul(n, float32(ln2Hi)))
	x = r.sub(x, r.mul(n, float32(ln2Lo)))
	p = r.horner(x, 1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
	return t, r.add(r.mul(p, r.mul(x, x)), x)
}

func (r *sweep) exp(x block) block {
	t, p := r.expParts(r.bound(x, expLeast, expMost), rounderTwo)
	y := r.add(p, float32(1))
	if r.zmm() { // rounds once, as the second of the two products does
		n := r.sub(t, float32(rounderTwo))
		for i := range y {
			r.VSCALEFPS(n[i], y[i], y[i])
		}
		return y
	}
	half := r.shifted(t, -1)
	y = r.mul(y, r.shifted(half, 23))
	return r.mul(y, r.shifted(r.minusBits(t, half), 23))
}

func (r *sweep) sigmoid(x block) block {
	return r.div(float32(1), r.add(r.exp(r.negative(x)), float32(1)))
}

func (r *sweep) tanh(x block) block {
	x = r.bound(x, -tanhMost, tanhMost)
	t, p := r.expParts(r.add(x, x), rounderOne)
	two := r.shifted(t, 23)
	e := r.add(r.mul(two, p), r.sub(two, float32(1)))
	return r.div(e, r.add(e, float32(2)))
}

func (r *sweep) erf(x block) block {
	x = r.bound(x, -erfMost, erfMost)
	z := r.mul(x, x)
	p := r.horner(z, -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05, -7.34990630326855e-04,
		-2.95459980854025e-03, -1.60960333262415e-02)
	q := r.horner(z, -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03, -1.42647390514189e-02)
	return r.div(r.mul(x, p), q)
}

func (r *sweep) log(x block) block {
	normal := r.ifLess(x, leastNormal, r.mul(x, float32(1<<23)), x)
	lift := r.ifLess(x, leastNormal, r.fixed(-23), r.fixed(0))
	apart := r.minusBits(normal, bits(rootHalfBits))
	n := r.add(r.floats(r.signed(apart, 23)), lift)
	f := r.sub(r.plusBits(r.andBits(apart, bits(fraction)), bits(rootHalfBits)), float32(1))
	p := r.horner(f, 7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1, 2.0000714765e-1,
		-2.4999993993e-1, 3.3333331174e-1)
	z := r.mul(f, f)
	y := r.mul(r.mul(p, f), z)
	y = r.add(y, r.mul(n, float32(ln2Lo)))
	y = r.sub(y, r.mul(z, float32(0.5)))
	y = r.add(r.add(y, f), r.mul(n, float32(ln2Hi)))
	y = r.ifLess(x, float32(math.Inf(1)), y, x)
	y = r.ifLess(x, least, r.fixed(float32(math.Inf(-1))), y)
	return r.ifLess(x, 0, r.fixed(float32(math.NaN())), y)
}

// bits is the float32 of these bits, which instructions for integers read.
func bits(b uint32) float32 { return math.Float32frombits(b) }
