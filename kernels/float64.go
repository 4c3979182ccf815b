package kernels

import "math"

// The functions of this file are those of FreeBSD's msun (s_log.c, e_exp.c,
// Sun Microsystems 1993), each product rounded before it is added to, so that
// they give the same bits on every CPU; package math has assembly for some,
// and lets the compiler fuse the others. Errors are below one unit in the
// last place of a float64, which is all that a float32 result needs.

// horner returns c[0] + x*(c[1] + x*(c[2] + ...)).
func horner(x float64, c ...float64) float64 {
	y := 0.0
	for i := len(c) - 1; i >= 0; i-- {
		y = float64(y*x) + c[i]
	}
	return y
}

const (
	ln2High = 6.93147180369123816490e-01
	ln2Low  = 1.90821492927058770002e-10
)

func exp64(x float64) float64 {
	switch {
	case x != x:
		return x
	case x > 709.782712893383973096:
		return math.Inf(1)
	case x < -745.13321910194110842:
		return 0
	}
	k := math.RoundToEven(float64(x * math.Log2E))
	hi, lo := x-float64(k*ln2High), float64(k*ln2Low)
	r := hi - lo
	t := float64(r * r)
	c := r - float64(t*horner(t, 1.66666666666666657415e-01, -2.77777777770155933842e-03, 6.61375632143793436117e-05,
		-1.65339022054652515390e-06, 4.13813679705723846039e-08))
	y := 1 - ((lo - float64(r*c)/(2-c)) - hi)
	return math.Ldexp(y, int(k))
}

func log64(x float64) float64 {
	switch {
	case x != x || x > math.MaxFloat64:
		return x
	case x < 0:
		return math.NaN()
	case x == 0:
		return math.Inf(-1)
	}
	m, e := math.Frexp(x)
	if m < math.Sqrt2/2 {
		m, e = m*2, e-1
	}
	f, k := m-1, float64(e)
	s := f / (2 + f)
	s2 := float64(s * s)
	s4 := float64(s2 * s2)
	r := float64(s2*horner(s4, 6.666666666666735130e-01, 2.857142874366239149e-01, 1.818357216161805012e-01, 1.479819860511658591e-01)) +
		float64(s4*horner(s4, 3.999999999940941908e-01, 2.222219843214978396e-01, 1.531383769920937332e-01))
	half := float64(0.5*f) * f
	half = float64(half)
	return float64(k*ln2High) - ((half - (float64(s*(half+r)) + float64(k*ln2Low))) - f)
}

// log1p64 returns log(1+x).
func log1p64(x float64) float64 {
	u := 1 + x
	if u == 1 || math.IsInf(u, 0) {
		return x
	}
	return float64(log64(u)*x) / (u - 1) // Kahan: the error of u cancels
}

// expm164 returns e^x - 1.
func expm164(x float64) float64 {
	u := exp64(x)
	switch {
	case u == 1:
		return x
	case u-1 == -1 || math.IsInf(u, 0):
		return u - 1
	}
	return float64((u-1)*x) / log64(u) // likewise
}

func sinh64(x float64) float64 {
	if math.Abs(x) > 700 {
		return float64(math.Copysign(0.5, x)*exp64(math.Abs(x)/2)) * exp64(math.Abs(x)/2)
	}
	u := expm164(math.Abs(x))
	return math.Copysign(float64(0.5*(u+u/(u+1))), x)
}

func cosh64(x float64) float64 {
	h := exp64(math.Abs(x) / 2)
	return float64(float64(0.5*h)*h) + 0.5/float64(h*h)
}

func tanh64(x float64) float64 {
	if math.Abs(x) > 22 {
		return math.Copysign(1, x)
	}
	u := expm164(2 * x)
	return u / (u + 2)
}

func asinh64(x float64) float64 {
	a := math.Abs(x)
	if a > 1e8 {
		return math.Copysign(log64(a)+math.Ln2, x)
	}
	q := float64(a * a)
	return math.Copysign(log1p64(a+q/(1+math.Sqrt(1+q))), x)
}

func acosh64(x float64) float64 {
	if x > 1e8 {
		return log64(x) + math.Ln2
	}
	t := x - 1
	return log1p64(t + math.Sqrt(t+t+float64(t*t)))
}

func atanh64(x float64) float64 {
	a := math.Abs(x)
	return math.Copysign(float64(0.5*log1p64(2*a/(1-a))), x)
}

// pow64 returns x^y with the special cases of C's pow.
func pow64(x, y float64) float64 {
	switch {
	case y == 2:
		return float64(x * x)
	case y == 1:
		return x
	case y == 0 || x == 1:
		return 1
	case y == 0.5 && !math.IsInf(x, -1):
		return math.Sqrt(x) + 0 // -0 becomes 0
	case y == -1:
		return 1 / x
	case math.Floor(y) == y && math.Abs(y) <= 64:
		return powInt(x, int(y))
	case x > 0 && x <= math.MaxFloat64 && math.Abs(y) <= math.MaxFloat64:
		return exp64(float64(y * log64(x)))
	case x < 0 && x >= -math.MaxFloat64 && math.Floor(y) == y && math.Abs(y) <= 1<<53:
		m := exp64(float64(y * log64(-x)))
		if math.Mod(y, 2) != 0 {
			return -m
		}
		return m
	}
	return math.Pow(x, y) // zeros, infinities and NaN: exact
}

func powInt(x float64, n int) float64 {
	if n < 0 {
		return 1 / powInt(x, -n)
	}
	y := 1.0
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			y = float64(y * x)
		}
		x = float64(x * x)
	}
	return y
}
