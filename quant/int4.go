package quant

import (
	"math"

	"dunlin/kernels"
	"dunlin/model"
)

// Weights of four bits are int8 weights where they are computed: each group
// of model.Int4Group consecutive weights of an output channel is
//
//	real = channel scale * factor * q    q in [-7, 7], factor in 1..int4Factors
//
// and factor*q is the int8 weight that the graph has. So the int8 kernels run
// them as they are, with the same bits on every CPU, and a pack stores the
// factor and the q: 4.25 bits a weight.

const (
	int4Most    = 7
	int4Factors = 127 / int4Most
)

// The clips that int4Scales tries for a channel, and the least for a group: a
// group's range is cut by a factor of its own anyway.
const (
	int4Clips     = 13
	int4ClipLeast = 0.5
)

// quantise4 returns l's weights in groups of four bits, with the channel
// scales and factors that make the squared error least.
func (l *layer) quantise4(inScale float32) int8Weights {
	w := l.weight.F32()
	q := int8Weights{values: model.Of(model.I8, make([]int8, len(w)), l.weight.Shape...), scales: make([]float32, l.channels)}
	var noise, signal float64
	values := make([]float64, len(w)/l.channels)
	var at []int
	for c := range l.channels {
		at = l.row(c, at[:0])
		for k, i := range at {
			values[k] = float64(w[i])
		}
		g := int4Channel(values, float64(kernels.LeastScale(l.biasOf(c), inScale)))
		q.scales[c] = g.scale
		for k, i := range at {
			f := g.factors[k/model.Int4Group]
			v := f * toInt4(values[k], float64(f)*float64(g.scale))
			q.values.I8()[i] = int8(v)
			d := values[k] - float64(float64(v)*float64(g.scale))
			noise += float64(d * d)
			signal += float64(values[k] * values[k])
		}
	}
	q.sqnr = decibel(signal, noise)
	return q
}

// row appends to at the indices of output channel c's weights, in the order in
// which a pack stores them.
func (l *layer) row(c int, at []int) []int {
	inner, outer := l.strides()
	for o := range outer {
		for i := range inner {
			at = append(at, (o*l.channels+c)*inner+i)
		}
	}
	return at
}

// upShort returns the least bfloat16 number that is not below s, a scale: it
// takes half the bytes in a pack.
func upShort(s float32) float32 {
	bits := math.Float32bits(s)
	return math.Float32frombits((bits + 0xffff) &^ 0xffff)
}

// groups are the scale of a channel and the factor of each of its groups.
type groups struct {
	scale   float32
	factors []int
	err     float64 // squared, of all its weights
}

// int4Channel chooses them for one channel's weights.
func int4Channel(w []float64, least float64) groups {
	most := 0.0
	for _, v := range w {
		most = math.Max(most, math.Abs(v))
	}
	if most == 0 {
		return int4Groups(w, upShort(float32(math.Max(least, 1))))
	}
	best := groups{err: math.Inf(1)}
	for i := range int4Clips {
		r := 1 - float64(float64(i)*(1-int4ClipLeast)/(int4Clips-1))
		s := upShort(float32(math.Max(least, most*r/(int4Most*int4Factors))))
		if g := int4Groups(w, s); g.err < best.err {
			best = g
		}
	}
	return best
}

// int4Groups chooses the factors of a channel with that scale.
func int4Groups(w []float64, scale float32) groups {
	g := groups{scale: scale}
	for from := 0; from < len(w); from += model.Int4Group {
		f, err := int4Factor(w[from:min(from+model.Int4Group, len(w))], float64(scale))
		g.factors, g.err = append(g.factors, f), g.err+err
	}
	return g
}

// int4Factor returns the factor of one group with the least squared error.
func int4Factor(w []float64, scale float64) (factor int, err float64) {
	most := 0.0
	for _, v := range w {
		most = math.Max(most, math.Abs(v))
	}
	factor, err = 1, math.Inf(1)
	least := int(math.Min(int4Factors, math.Max(1, most/(int4Most*scale)*kernels.ClipLeast)))
	for f := least; f <= int4Factors && err > 0; f++ {
		s, sum := float64(f)*scale, 0.0
		for _, v := range w {
			// The conversions keep products and sums apart on every CPU.
			d := v - float64(float64(toInt4(v, s))*s)
			if sum += float64(d * d); sum >= err {
				break
			}
		}
		if sum < err {
			factor, err = f, sum
		}
	}
	return factor, err
}

// toInt4 rounds v/s half to even into [-7, 7].
func toInt4(v, s float64) int {
	return int(math.Max(-int4Most, math.Min(int4Most, math.RoundToEven(v/s))))
}
