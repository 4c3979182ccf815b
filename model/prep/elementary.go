package prep

import "math"

// The functions below are what sounds and boxes need of math, written so that
// every CPU gives the same bits: sums, products, quotients and square roots of
// IEEE 754 only, and each product inside a sum is converted explicitly, which
// forbids the compiler to fuse the two. The functions of package math have
// assembly on some CPUs and are fused on others.
//
// Each agrees with package math to 4 units in the last place (2^-52 of the
// value), which TestElementary measures; sinPi and cosPi to 2^-52 in absolute
// terms.

const (
	ln2High = 0x1.62e42feep-1 // 33 bits of ln 2, so that n*ln2High is exact for |n| < 2^20
	ln2Low  = 0x1.a39ef35793c76p-33
)

// exp returns e to the power of x.
//
// x = n ln 2 + r with |r| <= ln 2 / 2; a Taylor sum of 14 terms leaves less
// than 2^-57.
func exp(x float64) float64 {
	switch {
	case x != x:
		return x
	case x > 709:
		return math.Inf(1)
	case x < -745:
		return 0
	}
	n := math.RoundToEven(x / math.Ln2)
	r := x - float64(n*ln2High)
	r -= float64(n * ln2Low)
	sum := 1.0
	for k := 14.0; k > 0; k-- {
		sum = 1 + float64(sum*r)/k
	}
	return math.Ldexp(sum, int(n))
}

// ln returns the natural logarithm of x > 0, and -Inf for 0.
//
// x = 2^e f with f in [sqrt 1/2, sqrt 2); s = (f-1)/(f+1) is at most 0.172,
// and ln f = 2 (s + s^3/3 + s^5/5 + …): twelve terms leave less than 2^-60.
func ln(x float64) float64 {
	if x == 0 {
		return math.Inf(-1)
	}
	f, e := math.Frexp(x)
	if f < math.Sqrt2/2 {
		f, e = 2*f, e-1
	}
	s := (f - 1) / (f + 1)
	z := float64(s * s)
	sum := 0.0
	for k := 23.0; k > 1; k -= 2 {
		sum = float64((sum + 1/k) * z)
	}
	low := float64(2*float64(s*sum)) + float64(float64(e)*ln2Low)
	return float64(float64(e)*ln2High) + (2*s + low)
}

// sinPi returns sin(pi x). It is exact where the result is 0, 1 or -1.
func sinPi(x float64) float64 {
	x -= 2 * math.RoundToEven(x/2) // exact; now in [-1, 1]
	switch {
	case x > 0.5:
		x = 1 - x
	case x < -0.5:
		x = -1 - x
	}
	if x > 0.25 {
		return cosTaylor(0.5 - x)
	}
	if x < -0.25 {
		return -cosTaylor(0.5 + x)
	}
	return sinTaylor(x)
}

// cosPi returns cos(pi x).
func cosPi(x float64) float64 {
	x -= 2 * math.RoundToEven(x/2)
	return sinPi(0.5 - math.Abs(x))
}

// sinTaylor returns sin(pi x) for |x| <= 1/4: nine terms leave 2^-63.
func sinTaylor(x float64) float64 {
	t := math.Pi * x
	z := float64(t * t)
	sum := 1.0
	for k := 18.0; k > 0; k -= 2 {
		sum = 1 - float64(sum*z)/(k*(k+1))
	}
	return float64(t * sum)
}

// cosTaylor returns cos(pi x) for |x| <= 1/4.
func cosTaylor(x float64) float64 {
	t := math.Pi * x
	z := float64(t * t)
	sum := 1.0
	for k := 18.0; k > 0; k -= 2 {
		sum = 1 - float64(sum*z)/(k*(k-1))
	}
	return sum
}

// sigmoid returns 1 / (1 + e^-x).
func sigmoid(x float64) float64 { return 1 / (1 + exp(-x)) }

// tanh returns the hyperbolic tangent, 2 sigmoid(2x) - 1.
func tanh(x float64) float64 { return float64(2*sigmoid(2*x)) - 1 }
