package quant

import (
	"math"
)

// AdaRound learns for each weight whether it is rounded down or up, all
// weights of a layer together (Nagel et al. 2020, arXiv:2004.10568):
//
//	w = step * (floor + h(V))    h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1)
//	minimise  e G eᵀ / (nearest's) + weight * mean(1 - |2h-1|^beta)
//
// where beta falls from 20 to 2 and so drives each h to 0 or 1. With the Gram
// matrix the gradient of the first term needs no inputs: 2 step h' (G e).
const (
	adaSteps  = 120
	adaFree   = 0.2 // share of the steps before h is driven
	adaWeight = 0.5
	adaLow    = -0.1
	adaWide   = 1.2
)

// adaMost bounds the multiplications that one layer may take, a few seconds:
// above it only descend rounds the layer.
const adaMost = 6e9

// learn returns the whole numbers of each channel's weights, learned together;
// nil where that would take too long.
func (s *steps) learn(optimise func(n int) func(values, gradients []float32)) [][]int {
	n, channels := len(s.real), s.l.channels
	if optimise == nil || adaSteps*float64(channels)*float64(n)*float64(n) > adaMost {
		return nil
	}
	values, gradients := make([]float32, channels*n), make([]float32, channels*n)
	scale := make([]float64, channels)
	for c := range channels {
		s.channel(c)
		scale[c] = math.Max(s.err(), 1e-30)
		for k := range s.real {
			h := math.Max(.01, math.Min(.99, s.real[k]/s.step[k]-s.floor(k)))
			values[c*n+k] = float32(-math.Log(adaWide/(h-adaLow) - 1))
		}
	}
	step := optimise(len(values))
	for t := range adaSteps {
		done := math.Max(0, (float64(t)/adaSteps-adaFree)/(1-adaFree))
		for c := range channels {
			s.channel(c)
			s.gradient(values[c*n:(c+1)*n], gradients[c*n:(c+1)*n], scale[c], done)
		}
		step(values, gradients)
	}
	out := make([][]int, channels)
	for c := range channels {
		s.channel(c)
		for k := range s.real {
			v := int(s.floor(k))
			if h, _ := rectified(values[c*n+k]); h >= .5 {
				v++
			}
			out[c] = append(out[c], max(-int4Most, min(int4Most, v)))
		}
	}
	return out
}

// floor is the whole number below a weight; both it and the next are in
// range, or the weight is clipped to the end of the range.
func (s *steps) floor(k int) float64 {
	return math.Max(-int4Most, math.Min(int4Most-1, math.Floor(s.real[k]/s.step[k])))
}

// gradient fills in that of one channel. scale is its error with the nearest
// rounding; done, from 0 to 1, is how far h has been driven.
func (s *steps) gradient(values, gradients []float32, scale, done float64) {
	n := len(s.real)
	clear(s.slope)
	for k := range s.real {
		h, _ := rectified(values[k])
		s.error[k] = float64((s.floor(k)+h)*s.step[k]) - s.real[k]
		for j, m := range s.matrix[k*n : (k+1)*n] {
			s.slope[j] += float64(s.error[k] * float64(m))
		}
	}
	beta := 20 - float64(18*done)
	for k := range s.real {
		h, slope := rectified(values[k])
		g := 2 * s.step[k] * s.slope[k] / scale
		if d := 2*h - 1; done > 0 && d != 0 {
			g -= float64(adaWeight / float64(n) * 2 * beta * math.Copysign(math.Pow(math.Abs(d), beta-1), d))
		}
		gradients[k] = float32(g * slope)
	}
}

// rectified is h and its derivative.
func rectified(v float32) (h, slope float64) {
	p := 1 / (1 + math.Exp(-float64(v)))
	h = float64(adaWide*p) + adaLow
	if h <= 0 || h >= 1 {
		return math.Max(0, math.Min(1, h)), 0
	}
	return h, adaWide * p * (1 - p)
}
