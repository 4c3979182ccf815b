package kernels

import "math"

// lanes is how many partial sums a reduction over neighbouring elements
// keeps: lane i sums elements i, i+lanes, ..., and the lanes are added in
// pairs at the end. It is part of the exact order, so that vector registers
// can hold the lanes: one of AVX-512, two of AVX2, four of NEON.
const lanes = 16

// laneSums are partial sums.
type laneSums [lanes]float32

// add adds x, of which the first element goes to lane 0.
func (l *laneSums) add(x []float32) {
	for i, v := range x {
		l[i%lanes] += v
	}
}

// total adds the lanes up, in pairs lanes/2 apart, then lanes/4, and so on.
func (l *laneSums) total() float32 {
	for n := lanes / 2; n > 0; n /= 2 {
		for i := range n {
			l[i] += l[i+n]
		}
	}
	return l[0]
}

// Sum returns the sum of x in the exact order: see lanes.
func Sum(x []float32) float32 {
	var l laneSums
	l.add(x)
	return l.total()
}

// softmaxFunc is what the table of Softmax holds.
type softmaxFunc func(dst, src []float32, n int)

// softmaxVariants is the table of Softmax.
var softmaxVariants = append(softmaxNative, variant[softmaxFunc]{Generic, true, Softmax})

// Softmaxer returns Softmax as t computes it, and the tier that does.
func Softmaxer(t Target) (Tier, func(dst, src []float32, n int)) {
	v := pick(t, softmaxVariants)
	return v.tier, v.run
}

// Softmax writes e^(x-max) / Σ e^(x-max) for each row of n elements, the
// quotient as a product with float32(1/Σ). dst may be src.
func Softmax(dst, src []float32, n int) {
	for at := 0; at+n <= len(src) && n > 0; at += n {
		row, out := src[at:at+n], dst[at:at+n]
		top := largest(row)
		for i, v := range row {
			out[i] = exp(float32(v - top))
		}
		scale := float32(1 / Sum(out))
		for i, v := range out {
			out[i] = float32(v * scale)
		}
	}
}

// largest returns the largest of x, not looking at NaN; -Inf of nothing.
func largest(x []float32) float32 {
	top := float32(math.Inf(-1))
	for _, v := range x {
		if v > top {
			top = v
		}
	}
	return top
}
