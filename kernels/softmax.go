package kernels

import "math"

// lanes is how many partial sums a reduction over neighbouring elements
// keeps: lane i sums elements i, i+lanes, ..., and the lanes are added in
// pairs at the end. It is part of the exact order, so that a vector register
// can hold the lanes.
const lanes = 8

// Softmax writes e^(x-max) / Σ e^(x-max) for each row of n elements. dst may
// be src.
func Softmax(dst, src []float32, n int) {
	for at := 0; at+n <= len(src) && n > 0; at += n {
		row, out := src[at:at+n], dst[at:at+n]
		top := float32(math.Inf(-1))
		for _, v := range row {
			if v > top {
				top = v
			}
		}
		for i, v := range row {
			out[i] = exp(float32(v - top))
		}
		sum := Sum(out)
		for i, v := range out {
			out[i] = float32(v / sum)
		}
	}
}

// Sum returns the sum of x in the exact order: see lanes.
func Sum(x []float32) float32 {
	var l [lanes]float32
	for i, v := range x {
		l[i%lanes] += v
	}
	for n := lanes / 2; n > 0; n /= 2 {
		for i := range n {
			l[i] += l[i+n]
		}
	}
	return l[0]
}
