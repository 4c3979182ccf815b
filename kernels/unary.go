package kernels

import "math"

// Unary is a float32 function applied to each element: dst[i] = f(src[i]).
// dst may be src; len(dst) >= len(src). All are exact.
type Unary func(dst, src []float32)

// Sqrt is rounded correctly.
func Sqrt(dst, src []float32) {
	each(dst, src, func(x float32) float32 { return float32(math.Sqrt(float64(x))) })
}

// Neg and Abs change the sign.
func Neg(dst, src []float32) { each(dst, src, func(x float32) float32 { return -x }) }

func Abs(dst, src []float32) {
	each(dst, src, func(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) })
}

// Reciprocal is 1/x.
func Reciprocal(dst, src []float32) { each(dst, src, func(x float32) float32 { return 1 / x }) }

// HardSwish is x * clamp(x/6 + 1/2, 0, 1).
func HardSwish(dst, src []float32) { hardSwish(float32(1)/6, 0.5)(dst, src) }

// hardSwish is x * clamp(alpha*x + beta, 0, 1).
func hardSwish(alpha, beta float32) Unary {
	return func(dst, src []float32) {
		each(dst, src, func(x float32) float32 {
			return float32(x * Clamp{0, 1}.of(float32(float32(alpha*x)+beta)))
		})
	}
}

// Clip bounds each element; NaN stays NaN.
func (c Clamp) Clip(dst, src []float32) {
	dst = dst[:len(src)]
	for i, v := range src {
		dst[i] = c.of(v)
	}
}

// LeakyRelu returns x, or alpha*x where x is negative.
func LeakyRelu(alpha float32) Unary {
	return func(dst, src []float32) {
		dst = dst[:len(src)]
		for i, v := range src {
			if v < 0 {
				v = float32(alpha * v)
			}
			dst[i] = v
		}
	}
}

// HardSigmoid returns clamp(alpha*x + beta, 0, 1).
func HardSigmoid(alpha, beta float32) Unary {
	return func(dst, src []float32) {
		dst = dst[:len(src)]
		for i, v := range src {
			dst[i] = Clamp{0, 1}.of(float32(float32(alpha*v) + beta))
		}
	}
}

func each(dst, src []float32, f func(float32) float32) {
	dst = dst[:len(src)]
	for i, v := range src {
		dst[i] = f(v)
	}
}

// ScaleShift writes x*scale[c] + shift[c] for x [outer, C, inner], the product
// rounded first. dst may be src.
func ScaleShift(dst, src, scale, shift []float32, inner int) {
	dst, shift = dst[:len(src)], shift[:len(scale)]
	for at := 0; at < len(src); {
		for c, s := range scale {
			for range inner {
				dst[at] = float32(src[at]*s) + shift[c]
				at++
			}
		}
	}
}
