package kernels

import "math"

// Columns calls f for each column of in [outer, n, inner], copied to row (n
// elements), and writes the row that f left to out.
func Columns[T any](out, in, row []T, outer, n, inner int, f func(row []T)) {
	row = row[:n]
	for o := range outer {
		for i := range inner {
			at := o*n*inner + i
			for k := range row {
				row[k] = in[at+k*inner]
			}
			f(row)
			for k, v := range row {
				out[at+k*inner] = v
			}
		}
	}
}

// Softmax64 makes e^(x-max) / Σ e^(x-max) of a row.
func Softmax64(row []float64) {
	top, sum := reduceColumn(ReduceMax, row, len(row), 1), 0.0
	for i, v := range row {
		row[i] = exp64(v - top)
		sum += row[i]
	}
	for i := range row {
		row[i] /= sum
	}
}

// LogSoftmax makes x - max - log Σ e^(x-max) of a row, in float64.
func LogSoftmax[T float32 | float64](row []T) {
	all := reduceColumn(ReduceLogSumExp, row, len(row), 1)
	for i, v := range row {
		row[i] = T(float64(v) - all)
	}
}

// Hardmax makes 1 of the first of a row's largest elements, 0 of all others.
func Hardmax[T float32 | float64](row []T) {
	best := 0
	for i, v := range row {
		if v > row[best] {
			best = i
		}
	}
	clear(row)
	if len(row) > 0 {
		row[best] = 1
	}
}

// LpNormalize divides a row by its norm: the sum of magnitudes for p of 1,
// the root of the sum of squares for p of 2. A row of zeros stays.
func LpNormalize[T float32 | float64](row []T, p int) {
	op := ReduceL2
	if p == 1 {
		op = ReduceL1
	}
	norm := reduceColumn(op, row, len(row), 1)
	if norm == 0 {
		return
	}
	for i, v := range row {
		row[i] = T(float64(v) / norm)
	}
}

// Standardize64 is Standardize in float64, with plain sums.
func Standardize64(dst, src, scale, shift []float64, each int, epsilon float64) (mean, inverse float64) {
	n := len(src)
	mean = sumColumn(src, n, 1) / float64(n)
	s := 0.0
	for _, v := range src {
		d := v - mean
		s += float64(d * d)
	}
	inverse = 1 / math.Sqrt(s/float64(n)+epsilon)
	dst = dst[:n]
	for i, v := range src {
		y := float64((v - mean) * inverse)
		if scale != nil {
			y = float64(y * scale[i/each%len(scale)])
		}
		if shift != nil {
			y += shift[i/each%len(shift)]
		}
		dst[i] = y
	}
	return mean, inverse
}

// LRN is local response normalisation over the channels of in [outer, c,
// inner]: x / (bias + alpha/size * Σ x²)^beta, the sum over size channels
// around (Krizhevsky et al. 2012, section 3.3).
func LRN(out, in []float32, outer, c, inner, size int, alpha, beta, bias float64) {
	low, high := (size-1)/2, size-1-(size-1)/2
	for o := range outer {
		for i := range inner {
			base := o*c*inner + i
			for k := range c {
				s := 0.0
				for j := max(0, k-low); j <= min(c-1, k+high); j++ {
					v := float64(in[base+j*inner])
					s += float64(v * v)
				}
				d := bias + float64(alpha/float64(size)*s)
				out[base+k*inner] = float32(float64(in[base+k*inner]) / pow64(d, beta))
			}
		}
	}
}

// MeanVariance makes (x-mean)/(deviation+epsilon) of a row.
func MeanVariance(row []float32, epsilon float64) {
	n := float64(len(row))
	mean := sumColumn(row, len(row), 1) / n
	s := 0.0
	for _, v := range row {
		d := float64(v) - mean
		s += float64(d * d)
	}
	deviation := math.Sqrt(s/n) + epsilon
	for i, v := range row {
		row[i] = float32((float64(v) - mean) / deviation)
	}
}

// Moments returns the mean and the variance of one channel of x [outer,
// channels, inner].
func Moments(x []float32, channels, inner, channel int) (mean, variance float64) {
	n, step := 0, channels*inner
	for at := channel * inner; at+inner <= len(x) && inner > 0; at += step {
		mean += sumColumn(x[at:], inner, 1)
		n += inner
	}
	mean /= float64(n)
	for at := channel * inner; at+inner <= len(x) && inner > 0; at += step {
		for _, v := range x[at : at+inner] {
			d := float64(v) - mean
			variance += float64(d * d)
		}
	}
	return mean, variance / float64(n)
}
