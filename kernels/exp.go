package kernels

import "math"

// The functions of this file are polynomials in float32, each step rounded
// once, so that they give the same bits on every CPU; math.Exp has assembly
// of its own for some. All arguments pass through the same steps; comparisons
// choose between values only, so that registers of values take the same way as one does:
// kernels/_gen/smooth.go and smooth_arm64.s repeat the steps. Errors are those
// that smooth_test.go measures.

const (
	expMost   float32 = 89 // above, e^x is +Inf in any case
	expLeast  float32 = -104
	tanhMost  float32 = 10 // above, tanh is 1 to the last bit
	erfMost   float32 = 4
	log2e     float32 = 1.44269504088896341
	ln2Hi     float32 = 0.693359375
	ln2Lo     float32 = -2.12194440e-4
	rootHalf  float32 = math.Sqrt2 / 2
	rootTwoPi float32 = 0.7978845608 // √(2/π)

	// rounder, with an exponent in its lowest bits: of 2^n itself, and of two
	// factors of it.
	rounderOne float32 = rounder + 127
	rounderTwo float32 = rounder + 2*127

	leastNormal  float32 = 0x1p-126
	rootHalfBits uint32  = 0x3f3504f3
	fraction     uint32  = 1<<23 - 1
)

// bound returns x, or the bound beyond which it lies. NaN stays NaN.
func bound(x, lo, hi float32) float32 {
	if x < lo {
		x = lo
	}
	if x > hi {
		x = hi
	}
	return x
}

// expParts returns e^x - 1 as far as x is no multiple of ln 2: for
// x = n*ln 2 + r, |r| <= ln(2)/2, it is e^r - 1. The float t is n + by, of
// which by is a rounder. Coefficients: Cephes, expf.c (S. Moshier).
func expParts(x, by float32) (t, p float32) {
	t = float32(float32(x*log2e) + by)
	n := float32(t - by)
	r := float32(x - float32(n*ln2Hi))
	r = float32(r - float32(n*ln2Lo))
	p = float32(1.9875691500e-4)
	p = float32(float32(p*r) + 1.3981999507e-3)
	p = float32(float32(p*r) + 8.3334519073e-3)
	p = float32(float32(p*r) + 4.1665795894e-2)
	p = float32(float32(p*r) + 1.6666665459e-1)
	p = float32(float32(p*r) + 5.0000001201e-1)
	return t, float32(float32(p*float32(r*r)) + r)
}

// exp returns e^x within 2 units in the last place (results below 2^-126
// within one more rounding), 0 where that is below the least float32, +Inf
// above the largest, NaN for NaN.
func exp(x float32) float32 {
	t, p := expParts(bound(x, expLeast, expMost), rounderTwo)
	// 2^n in two factors, since n reaches 128 and -150.
	both := math.Float32bits(t)
	half := both >> 1
	y := float32(float32(p+1) * math.Float32frombits(half<<23))
	return float32(y * math.Float32frombits((both-half)<<23))
}

// sigmoid returns 1/(1+e^-x) within 3 units in the last place.
func sigmoid(x float32) float32 { return float32(1 / float32(1+exp(-x))) }

// tanh returns the hyperbolic tangent, e/(e+2) for e = e^2x - 1, within 3
// units in the last place.
func tanh(x float32) float32 {
	x = bound(x, -tanhMost, tanhMost)
	t, p := expParts(float32(x+x), rounderOne)
	two := math.Float32frombits(math.Float32bits(t) << 23)
	e := float32(float32(two*p) + float32(two-1))
	return float32(e / float32(e+2))
}

// erf returns the error function, x*P(x²)/Q(x²) on [-4, 4]: the rational
// function of Eigen (MathFunctionsImpl.h, generic_fast_erf_float), within 4
// units in the last place of 1.
func erf(x float32) float32 {
	x = bound(x, -erfMost, erfMost)
	z := float32(x * x)
	p := float32(-2.72614225801306e-10)
	p = float32(float32(p*z) + 2.77068142495902e-08)
	p = float32(float32(p*z) + -2.10102402082508e-06)
	p = float32(float32(p*z) + -5.69250639462346e-05)
	p = float32(float32(p*z) + -7.34990630326855e-04)
	p = float32(float32(p*z) + -2.95459980854025e-03)
	p = float32(float32(p*z) + -1.60960333262415e-02)
	q := float32(-1.45660718464996e-05)
	q = float32(float32(q*z) + -2.13374055278905e-04)
	q = float32(float32(q*z) + -1.68282697438203e-03)
	q = float32(float32(q*z) + -7.37332916720468e-03)
	q = float32(float32(q*z) + -1.42647390514189e-02)
	return float32(float32(x*p) / q)
}

// gelu returns x*(1+erf(x/√2))/2.
func gelu(x float32) float32 {
	return float32(float32(x*0.5) * float32(erf(float32(x*rootHalf))+1))
}

// geluTanh returns x*(1+tanh(√(2/π)*(x+0.044715*x³)))/2.
func geluTanh(x float32) float32 {
	cube := float32(float32(float32(x*x)*x) * 0.044715)
	return float32(float32(x*0.5) * float32(tanh(float32(float32(x+cube)*rootTwoPi))+1))
}

// silu returns x/(1+e^-x), as the product of x and sigmoid(x).
func silu(x float32) float32 { return float32(x * sigmoid(x)) }

// log returns the natural logarithm within 1 unit in the last place, -Inf for
// 0, NaN for what is negative. Coefficients: Cephes, logf.c (S. Moshier).
func log(x float32) float32 {
	// x = m*2^n, √½ <= m < √2; a denormal is made normal first.
	normal, lift := x, float32(0)
	if x < leastNormal {
		normal, lift = float32(x*(1<<23)), -23
	}
	apart := math.Float32bits(normal) - rootHalfBits
	n := float32(float32(int32(apart)>>23) + lift)
	f := float32(math.Float32frombits(apart&fraction+rootHalfBits) - 1)
	p := float32(7.0376836292e-2)
	p = float32(float32(p*f) + -1.1514610310e-1)
	p = float32(float32(p*f) + 1.1676998740e-1)
	p = float32(float32(p*f) + -1.2420140846e-1)
	p = float32(float32(p*f) + 1.4249322787e-1)
	p = float32(float32(p*f) + -1.6668057665e-1)
	p = float32(float32(p*f) + 2.0000714765e-1)
	p = float32(float32(p*f) + -2.4999993993e-1)
	p = float32(float32(p*f) + 3.3333331174e-1)
	z := float32(f * f)
	y := float32(float32(p*f) * z)
	y = float32(y + float32(n*ln2Lo))
	y = float32(y - float32(z*0.5))
	y = float32(float32(y+f) + float32(n*ln2Hi))
	switch {
	case x < 0:
		y = float32(math.NaN())
	case x < math.SmallestNonzeroFloat32:
		y = float32(math.Inf(-1))
	case !(x < float32(math.Inf(1))):
		y = x
	}
	return y
}
