package kernels

import "math"

// How float weights become integers: symmetric, in steps of a scale that an
// output channel has, or all of them. Whoever quantises rounds so: quant, the
// training of what quant made, and a head that is tuned on a device.

// The clips that WeightScale tries: the largest magnitude times factors from
// ClipLeast to 1.
const (
	clipSteps = 31
	ClipLeast = 0.4
)

// smallestUnit keeps the units of a bias, and the quotients that kernels make
// of scales, far from underflow.
const smallestUnit = 1e-30

// WeightStep returns v/scale, divided in float64, rounded half to even and
// within ±limit: 127 for int8.
func WeightStep(v, scale float32, limit float64) float64 {
	return math.Max(-limit, math.Min(limit, math.RoundToEven(float64(v)/float64(scale))))
}

// WeightScale returns the scale of int8 weights that share one, clipped where
// that makes their squared error least (Banner et al. 2019, arXiv:1810.05723),
// and no less than LeastScale of the biases behind them. It is 1 where all are
// 0.
func WeightScale(w, bias []float32, inScale float32) float32 {
	s := max(clippedScale(w), biasScale(bias, inScale))
	if s == 0 {
		s = 1
	}
	return max(s, smallestUnit/inScale)
}

// LeastScale returns the smallest scale that weights before these biases may
// have.
func LeastScale(bias []float32, inScale float32) float32 {
	return max(biasScale(bias, inScale), smallestUnit/inScale)
}

// biasScale returns the scale below which a bias would not fit int32, in units
// of it and of the input's scale. Half of what that holds leaves room for the
// sum itself.
func biasScale(bias []float32, inScale float32) float32 {
	least := float32(0)
	for _, b := range bias {
		least = max(least, float32(math.Abs(float64(b))/(float64(inScale)*(1<<30))))
	}
	return least
}

// clippedScale returns the scale with the least squared error, 0 where all
// weights are 0.
func clippedScale(w []float32) float32 {
	most := 0.0
	for _, v := range w {
		most = math.Max(most, math.Abs(float64(v)))
	}
	best, bestErr := float32(most/127), math.Inf(1)
	if best == 0 {
		return 0
	}
	for i := range clipSteps {
		r := 1 - float64(float64(i)*(1-ClipLeast)/(clipSteps-1))
		s := float32(most * r / 127)
		if s == 0 {
			break
		}
		sum := 0.0
		for _, v := range w {
			// The conversions keep products and sums apart on every CPU.
			d := float64(v) - float64(WeightStep(v, s, 127)*float64(s))
			sum += float64(d * d)
		}
		if sum < bestErr {
			best, bestErr = s, sum
		}
	}
	return best
}
