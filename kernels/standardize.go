package kernels

import "math"

// standardizeTier are the loops of Standardize over one row.
type standardizeTier struct {
	sum        func(x []float32) float32
	deviations func(x []float32, mean float32) (sum, squares float32)
	row        func(dst, src, scale, shift []float32, mean, inverse float32)
	plane      func(dst, src []float32, mean, inverse, scale, shift float32)
}

// standardizeVariants is the table of Standardize.
var standardizeVariants = append(standardizeNative, variant[standardizeTier]{Generic, true, standardizeTier{Sum, deviations, scaleRow, scalePlane}})

// StandardizeFunc is Standardize on a tier.
type StandardizeFunc func(dst, src, scale, shift []float32, each int, epsilon float64) (mean, inverse float32)

// Standardizer returns Standardize as t computes it, and the tier that does.
func Standardizer(t Target) (Tier, StandardizeFunc) {
	v := pick(t, standardizeVariants)
	return v.tier, v.run.standardize
}

// Standardize writes (x-mean)/√(variance+epsilon) for a row, times scale[k]
// plus shift[k], where k is i/each for element i, modulo their length; scale
// and shift may be nil: 1 and 0. It returns the mean and the factor
// 1/√(variance+epsilon). dst may be src.
//
// The mean is Σx/n, in float32 and in the order of Sum, corrected by the mean
// of d = x - mean: the corrected two-pass algorithm (Chan, Golub and LeVeque,
// The American Statistician 37, 1983, equation 1.7), variance
// (Σd² - (Σd)²/n)/n. For k = n/16+4 and u = 2^-24 the mean is within about
// (1 + (k*u)*k)*u of the mean magnitude, the variance within 2*(k+2)*u of
// itself. Each step of (x-mean)*factor*scale + shift is rounded to float32.
func Standardize(dst, src, scale, shift []float32, each int, epsilon float64) (mean, inverse float32) {
	return standardizeVariants[len(standardizeVariants)-1].run.standardize(dst, src, scale, shift, each, epsilon)
}

func (s standardizeTier) standardize(dst, src, scale, shift []float32, each int, epsilon float64) (mean, inverse float32) {
	n := len(src)
	dst = dst[:n]
	mean = float32(s.sum(src) / float32(n))
	sum, squares := s.deviations(src, mean)
	off := float64(sum) / float64(n)
	variance := max(0, float64(squares)-float64(float64(sum)*off)) / float64(n)
	mean = float32(float64(mean) + off)
	inverse = float32(1 / math.Sqrt(variance+epsilon))
	switch {
	case scale == nil && shift == nil:
		s.plane(dst, src, mean, inverse, 1, 0)
	case each == 1 && len(scale) >= n && len(shift) >= n:
		s.row(dst, src, scale[:n], shift[:n], mean, inverse)
	case each == 1:
		s.plane(dst, src, mean, inverse, 1, 0)
		for i, y := range dst {
			if scale != nil {
				y = float32(y * scale[i%len(scale)])
			}
			if shift != nil {
				y += shift[i%len(shift)]
			}
			dst[i] = y
		}
	default:
		for at := 0; at < n; at += each {
			part, m, b := min(each, n-at), float32(1), float32(0)
			if scale != nil {
				m = scale[at/each%len(scale)]
			}
			if shift != nil {
				b = shift[at/each%len(shift)]
			}
			s.plane(dst[at:at+part], src[at:at+part], mean, inverse, m, b)
		}
	}
	return mean, inverse
}

// deviations returns Σd and Σd² for d = x-mean, both in the order of Sum.
func deviations(x []float32, mean float32) (sum, squares float32) {
	var s, q laneSums
	addDeviations(&s, &q, x, mean)
	return s.total(), q.total()
}

func addDeviations(s, q *laneSums, x []float32, mean float32) {
	for i, v := range x {
		d := float32(v - mean)
		s[i%lanes] += d
		q[i%lanes] += float32(d * d)
	}
}

// scaleRow is the last step of Standardize with a scale and a shift for each
// element.
func scaleRow(dst, src, scale, shift []float32, mean, inverse float32) {
	dst, scale, shift = dst[:len(src)], scale[:len(src)], shift[:len(src)]
	for i, v := range src {
		dst[i] = float32(float32(float32(v-mean)*inverse)*scale[i]) + shift[i]
	}
}

// scalePlane is the last step of Standardize with one scale and one shift.
func scalePlane(dst, src []float32, mean, inverse, scale, shift float32) {
	dst = dst[:len(src)]
	for i, v := range src {
		dst[i] = float32(float32(float32(v-mean)*inverse)*scale) + shift
	}
}
