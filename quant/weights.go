package quant

import (
	"math"

	"dunlin/kernels"
	"dunlin/model"
)

// int8Weights is a layer's weights in int8.
type int8Weights struct {
	values *model.Tensor // I8, the shape of the float weights
	scales []float32     // one for each output channel
	sqnr   float64       // signal to quantisation noise, dB
}

// quantise returns l's weights in int8, symmetric, with one scale for each
// output channel, clipped where that makes the squared error least. inScale
// is the scale of the layer's input: no weight scale is so small that the
// bias overflows an int32 in units of both.
func (l *layer) quantise(inScale float32) int8Weights {
	w := l.weight.F32()
	shared := float32(0)
	if l.perTensor {
		shared = kernels.WeightScale(w, l.bias, inScale)
	}
	q := int8Weights{values: model.Of(model.I8, make([]int8, len(w)), l.weight.Shape...), scales: make([]float32, l.channels)}
	var at []int
	v := make([]float32, len(w)/l.channels)
	for c := range l.channels {
		if l.perTensor {
			q.scales[c] = shared
			continue
		}
		at = l.row(c, at[:0])
		for k, i := range at {
			v[k] = w[i]
		}
		q.scales[c] = kernels.WeightScale(v, l.biasOf(c), inScale)
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
		v := int8(kernels.WeightStep(w[i], q.scales[c], 127))
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

// biasOf returns the bias of channel c alone, nil where there is none.
func (l *layer) biasOf(c int) []float32 {
	if l.bias == nil {
		return nil
	}
	return l.bias[c : c+1]
}

// int32Bias returns a bias in units of inScale times the scale of the
// weights' channel, and those units.
func int32Bias(bias, scales []float32, inScale float32) (values []int32, units []float32) {
	values, units = make([]int32, len(bias)), make([]float32, len(bias))
	for c, b := range bias {
		units[c] = float32(float64(inScale) * float64(scales[c]))
		values[c] = int32(kernels.WeightStep(b, units[c], math.MaxInt32))
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
	if signal <= 0 { // a quadratic form of a matrix of float32 may be a little below
		return -lossless
	}
	return math.Max(-lossless, math.Min(lossless, 10*math.Log10(signal/noise)))
}
