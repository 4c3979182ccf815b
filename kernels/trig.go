package kernels

import "math"

// Trigonometry after Cephes (sin.c, atan.c, S. Moshier 1989), rounded as the
// functions of float64.go are, for the same bits on every CPU. Arguments from
// 2^29 on are first reduced by the float64 nearest to 2π.

const (
	pi4A = 7.85398125648498535156e-1
	pi4B = 3.77489470793079817668e-8
	pi4C = 2.69515142907905952645e-15
)

// octant returns x >= 0 reduced to [-π/4, π/4], and the number of π/4 taken
// away, made even.
func octant(x float64) (r float64, j uint64) {
	if x >= 1<<29 {
		x = math.Mod(x, 2*math.Pi)
	}
	j = uint64(float64(x * (4 / math.Pi)))
	j += j & 1
	y := float64(j)
	r = x - float64(y*pi4A)
	r -= float64(y * pi4B)
	r -= float64(y * pi4C)
	return r, j & 7
}

func sinPoly(r float64) float64 {
	z := float64(r * r)
	return r + float64(float64(r*z)*horner(z, -1.66666666666666307295e-1, 8.33333333332211858878e-3, -1.98412698295895385996e-4,
		2.75573136213857245213e-6, -2.50507477628578072866e-8, 1.58962301576546568060e-10))
}

func cosPoly(r float64) float64 {
	z := float64(r * r)
	return 1 - float64(0.5*z) + float64(float64(z*z)*horner(z, 4.16666666666665929218e-2, -1.38888888888730564116e-3,
		2.48015872888517045348e-5, -2.75573141792967388112e-7, 2.08757008419747316778e-9, -1.13585365213876817300e-11))
}

func sin64(x float64) float64 {
	if x != x || math.IsInf(x, 0) {
		return math.NaN()
	}
	r, j := octant(math.Abs(x))
	negative := math.Signbit(x) != (j > 3)
	y := sinPoly(r)
	if j == 2 || j == 6 {
		y = cosPoly(r)
	}
	if negative {
		return -y
	}
	return y
}

func cos64(x float64) float64 {
	if x != x || math.IsInf(x, 0) {
		return math.NaN()
	}
	r, j := octant(math.Abs(x))
	switch j {
	case 2:
		return -sinPoly(r)
	case 4:
		return -cosPoly(r)
	case 6:
		return sinPoly(r)
	}
	return cosPoly(r)
}

func tan64(x float64) float64 { return sin64(x) / cos64(x) }

func atanPoly(x float64) float64 {
	z := float64(x * x)
	p := float64(z * horner(z, -6.485021904942025371773e+01, -1.228866684490136173410e+02, -7.500855792314704667340e+01,
		-1.615753718733365076637e+01, -8.750608600031904122785e-01))
	q := horner(z, 1.945506571482613964425e+02, 4.853903996359136964868e+02, 4.328810604912902668951e+02,
		1.650270098316988542046e+02, 2.485846490142306297962e+01, 1)
	return float64(x*(p/q)) + x
}

func atan64(x float64) float64 {
	const more = 6.123233995736765886130e-17 // π/2 less the float64 nearest to it
	a, y := math.Abs(x), 0.0
	switch {
	case x != x || x == 0:
		return x
	case a <= 0.66:
		y = atanPoly(a)
	case a > 2.41421356237309504880:
		y = math.Pi/2 - atanPoly(1/a) + more
	default:
		y = math.Pi/4 + atanPoly((a-1)/(a+1)) + 0.5*more
	}
	return math.Copysign(y, x)
}

func asin64(x float64) float64 {
	a := math.Abs(x)
	if !(a <= 1) {
		return math.NaN()
	}
	root := math.Sqrt(1 - float64(a*a))
	if a > 0.7 {
		return math.Copysign(math.Pi/2-atan64(root/a), x)
	}
	return math.Copysign(atan64(a/root), x)
}

func acos64(x float64) float64 { return math.Pi/2 - asin64(x) }

// Cosine and Sine are for callers that make windows and twiddle factors.
func Cosine(x float64) float64 { return cos64(x) }

// Sine is like Cosine.
func Sine(x float64) float64 { return sin64(x) }
