package kernels

import "math"

// The functions of this file are polynomials in float32, each step rounded
// once, so that they give the same bits on every CPU; math.Exp has assembly
// of its own for some. Coefficients and ranges: Cephes, expf.c and tanhf.c
// (S. Moshier). Errors are those that exp_test.go measures.

const (
	expMax   float32 = 88.72283 // largest x with a finite result
	expMin   float32 = -103.97208
	log2e    float32 = 1.44269504088896341
	ln2Hi    float32 = 0.693359375
	ln2Lo    float32 = -2.12194440e-4
	tanhHigh float32 = 9.01 // tanh is 1 to the last bit above
)

// exp returns e^x within 2 units in the last place (results below 2^-126
// within one more rounding), 0 below expMin, +Inf above expMax, NaN for NaN.
func exp(x float32) float32 {
	switch {
	case x != x:
		return x
	case x > expMax:
		return float32(math.Inf(1))
	case x < expMin:
		return 0
	}
	// x = n*ln 2 + r, |r| <= ln(2)/2; e^x = 2^n * e^r.
	n := float32(float32(float32(x*log2e)+rounder) - rounder)
	r := float32(x - float32(n*ln2Hi))
	r = float32(r - float32(n*ln2Lo))
	y := float32(1.9875691500e-4)
	y = float32(float32(y*r) + 1.3981999507e-3)
	y = float32(float32(y*r) + 8.3334519073e-3)
	y = float32(float32(y*r) + 4.1665795894e-2)
	y = float32(float32(y*r) + 1.6666665459e-1)
	y = float32(float32(y*r) + 5.0000001201e-1)
	y = float32(float32(y*float32(r*r)) + r)
	y = float32(y + 1)
	// 2^n in two factors, since n reaches 128 and -150.
	half := int32(n) >> 1
	y = float32(y * pow2(half))
	return float32(y * pow2(int32(n)-half))
}

// pow2 returns 2^n for -126 <= n <= 127.
func pow2(n int32) float32 { return math.Float32frombits(uint32(n+127) << 23) }

// sigmoid returns 1/(1+e^-x).
func sigmoid(x float32) float32 { return float32(1 / float32(1+exp(-x))) }

// tanh returns the hyperbolic tangent.
func tanh(x float32) float32 {
	a := x
	if a < 0 {
		a = -a
	}
	if a > tanhHigh {
		return float32(math.Copysign(1, float64(x)))
	}
	if a >= 0.625 {
		y := float32(1 - float32(2/float32(exp(float32(a+a))+1)))
		if x < 0 {
			y = -y
		}
		return y
	}
	z := float32(x * x)
	y := float32(-5.70498872745e-3)
	y = float32(float32(y*z) + 2.06390887954e-2)
	y = float32(float32(y*z) - 5.37397155531e-2)
	y = float32(float32(y*z) + 1.33314422036e-1)
	y = float32(float32(y*z) - 3.33332819422e-1)
	return float32(float32(float32(y*z)*x) + x)
}
