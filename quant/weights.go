package quant

import (
	"math"

	"dunlin/model"
)

// The clips that channelScale tries: the largest magnitude times factors from
// clipLeast to 1.
const (
	clipSteps = 31
	clipLeast = 0.4
)

// int8Weights is a layer's weights in int8.
type int8Weights struct {
	values *model.Tensor // I8, the shape of the float weights
	scales []float32     // one for each output channel
	sqnr   float64       // signal to quantisation noise, dB
}

// smallestUnit keeps the units of a bias, and the quotients that kernels make
// of scales, far from underflow.
const smallestUnit = 1e-30

// quantise returns l's weights in int8, symmetric, with one scale for each
// output channel, clipped where that makes the squared error least. inScale
// is the scale of the layer's input: no weight scale is so small that the
// bias overflows an int32 in units of both.
func (l *layer) quantise(inScale float32) int8Weights {
	w := l.weight.F32()
	channels := make([][]float32, l.channels)
	l.eachWeight(func(c, i int) { channels[c] = append(channels[c], w[i]) })
	shared := float32(0)
	if l.perTensor {
		shared = l.sharedScale(inScale)
	}
	q := int8Weights{values: model.Of(model.I8, make([]int8, len(w)), l.weight.Shape...), scales: make([]float32, l.channels)}
	for c, v := range channels {
		if l.perTensor {
			q.scales[c] = shared
			continue
		}
		s := channelScale(v)
		if s == 0 && (l.bias == nil || l.bias[c] == 0) {
			s = 1
		}
		q.scales[c] = max(s, l.leastScale(c, inScale))
	}
	q.sqnr = l.round(q)
	l.shorten(&q)
	return q
}

// round rounds l's weights to q's scales, and returns the SQNR in dB.
func (l *layer) round(q int8Weights) float64 {
	var noise, signal float64
	w := l.weight.F32()
	l.eachWeight(func(c, i int) {
		v := toInt8(w[i], q.scales[c])
		q.values.I8()[i] = v
		d := float64(w[i]) - float64(float64(v)*float64(q.scales[c]))
		noise += float64(d * d)
		signal += float64(float64(w[i]) * float64(w[i]))
	})
	return decibel(signal, noise)
}

// shortCost is how much worse, in dB, weights may be for scales that are
// bfloat16 numbers. Weights that were quantised before lose far more, and
// keep their scales.
const shortCost = 0.1

// shorten gives q such scales where that costs next to nothing: they take
// half the bytes in a pack.
func (l *layer) shorten(q *int8Weights) {
	short := int8Weights{values: q.values.Clone(), scales: make([]float32, len(q.scales))}
	for c, s := range q.scales {
		short.scales[c] = upShort(s)
	}
	if short.sqnr = l.round(short); short.sqnr >= q.sqnr-shortCost {
		*q = short
	}
}

// sharedScale returns the one scale for all of l's weights, with the limits
// that quantise names.
func (l *layer) sharedScale(inScale float32) float32 {
	s := channelScale(l.weight.F32())
	for _, b := range l.bias {
		s = max(s, float32(math.Abs(float64(b))/(float64(inScale)*(1<<30))))
	}
	if s == 0 {
		s = 1
	}
	return max(s, smallestUnit/inScale)
}

// correction returns what the rounding of l's weights takes from each output
// channel on average, given the mean of each input channel: with it in the
// bias, the rounding has no mean error. nil where the means do not fit.
// (Nagel et al. 2019, arXiv:1906.04721, section 4.2; padding counts as if it
// had the mean too.)
func (q int8Weights) correction(l *layer, mean []float64) []float64 {
	input, channels := l.inputChannel()
	if len(mean) != channels {
		return nil
	}
	w, lost := l.weight.F32(), make([]float64, l.channels)
	l.eachWeight(func(c, i int) {
		d := float64(w[i]) - float64(float64(q.values.I8()[i])*float64(q.scales[c]))
		lost[c] += float64(d * mean[input(c, i)])
	})
	return lost
}

// channelScale returns the scale with the least squared error for a channel's
// weights, 0 where all are 0.
func channelScale(w []float32) float32 {
	most := 0.0
	for _, v := range w {
		most = math.Max(most, math.Abs(float64(v)))
	}
	best, bestErr := float32(most/127), math.Inf(1)
	if best == 0 {
		return 0
	}
	for i := range clipSteps {
		r := 1 - float64(float64(i)*(1-clipLeast)/(clipSteps-1))
		s := float32(most * r / 127)
		if s == 0 {
			break
		}
		sum := 0.0
		for _, v := range w {
			// The conversions keep products and sums apart on every CPU.
			d := float64(v) - float64(float64(toInt8(v, s))*float64(s))
			sum += float64(d * d)
		}
		if sum < bestErr {
			best, bestErr = s, sum
		}
	}
	return best
}

// toInt8 rounds v/s half to even, as the kernels do, into [-127, 127].
func toInt8(v, s float32) int8 {
	return int8(math.Max(-127, math.Min(127, math.RoundToEven(float64(v)/float64(s)))))
}

// int32Bias returns a bias in units of inScale times the scale of the
// weights' channel, and those units.
func int32Bias(bias, scales []float32, inScale float32) (values []int32, units []float32) {
	values, units = make([]int32, len(bias)), make([]float32, len(bias))
	for c, b := range bias {
		units[c] = float32(float64(inScale) * float64(scales[c]))
		v := math.RoundToEven(float64(b) / float64(units[c]))
		values[c] = int32(math.Max(-math.MaxInt32, math.Min(math.MaxInt32, v)))
	}
	return values, units
}

// lossless is the SQNR in dB that stands for no noise at all: JSON has no
// infinity.
const lossless = 200

// decibel returns 10 log10(signal/noise), at most lossless.
func decibel(signal, noise float64) float64 {
	if noise == 0 {
		return lossless
	}
	if signal == 0 {
		return -lossless
	}
	return math.Max(-lossless, math.Min(lossless, 10*math.Log10(signal/noise)))
}
