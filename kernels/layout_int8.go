package kernels

import (
	"fmt"
	"math"
)

// layoutInt8 says how a tier wants the weights of a product to lie: panels of
// width output channels, and in a panel
//
//	[segments][steps][width][step]
//
// that is, step weights of a channel side by side, then those of the next
// channel. The depth is cut into segments (for a convolution, what lies side by
// side in the input), each filled up with weights that count as 0 to a
// multiple of step. The last panel is as narrow as a multiple of lanes allows.
type layoutInt8 struct {
	width, lanes, step int
	cell               cellInt8
}

// cellInt8 is how one weight is stored.
type cellInt8 uint8

const (
	cellPlain  cellInt8 = iota // int8 as given; zero points are taken off at the end
	cellBiased                 // int8 less its zero point; activations come with 128 added, as uint8
	cellWide                   // int16 less its zero point
)

// layoutGeneric is that of the generic tier.
var layoutGeneric = layoutInt8{width: panel, lanes: panel, step: 1}

// packPanels lays w, [n, segments, length], out.
func packPanels(l layoutInt8, n, segments, length int, w WeightsInt8) (panels, error) {
	depth := segments * length
	if w.Bias != nil && len(w.Bias) != n {
		return panels{}, fmt.Errorf("%d biases for %d channels", len(w.Bias), n)
	}
	if w.WZero != nil && len(w.WZero) != n {
		return panels{}, fmt.Errorf("%d zero points of weights for %d channels", len(w.WZero), n)
	}
	p := panels{
		layoutInt8: l, n: n, depth: depth, inZero: w.InZero, terms: 1, segments: segments,
		steps: roundUp(length, l.step) / l.step, bias: make([]int32, roundUp(n, l.lanes)),
	}
	if w.Out.Scale != nil {
		if err := w.Out.Check(n); err != nil {
			return panels{}, err
		}
		p.out = w.Out.widened(n, l.lanes)
		p.lo, p.hi = p.out.bounds()
	}
	if l.cell == cellBiased {
		p.terms = termsInt8(w.W, w.WZero, depth)
	}
	p.w = make([]int8, roundUp(n, l.lanes)*p.channelBytes())
	for j := range n {
		p.channel(j, length, w)
	}
	return p, nil
}

// channelBytes is what the weights of one output channel take.
func (p *panels) channelBytes() int {
	bytes := p.terms * p.segments * p.steps * p.step
	if p.cell == cellWide {
		bytes *= 2
	}
	return bytes
}

// panelWidth returns how many channels lie in the panel that begins at j.
func (p *panels) panelWidth(j int) int { return min(p.width, roundUp(p.n-j, p.lanes)) }

// channel writes weights and bias of output channel j.
func (p *panels) channel(j, length int, w WeightsInt8) {
	zero := int32(0)
	if w.WZero != nil {
		zero = int32(w.WZero[j])
	}
	if zero != 0 && p.cell == cellPlain {
		if p.wzero == nil {
			p.wzero = make([]int32, len(p.bias))
		}
		p.wzero[j] = zero
	}
	first := j / p.width * p.width
	dst := p.w[first*p.channelBytes():]
	width, sum := p.panelWidth(first), int32(0)
	put := func(term, k int, v int32) {
		at := (term*p.segments+k/length)*p.steps + k%length/p.step
		at = (at*width+j-first)*p.step + k%length%p.step
		if p.cell == cellWide {
			dst[2*at], dst[2*at+1] = int8(v), int8(v>>8)
			return
		}
		dst[at] = int8(v)
	}
	for k, v := range w.W[j*p.depth : (j+1)*p.depth] {
		v, less := int32(v), int32(v)-zero
		sum += less
		switch p.cell {
		case cellPlain:
			put(0, k, v)
		case cellWide:
			put(0, k, less)
		case cellBiased:
			for term := range p.terms {
				part := min(max(less, math.MinInt8), math.MaxInt8)
				put(term, k, part)
				less -= part
			}
		}
	}
	if w.Bias != nil {
		p.bias[j] = w.Bias[j]
	}
	zeroIn := int32(w.InZero)
	if p.cell == cellBiased {
		zeroIn += 128
	}
	p.bias[j] -= zeroIn * sum
}

// termsInt8 returns how many int8 numbers must be added up to give each weight
// less its zero point: 1, but for asymmetric weights.
func termsInt8(w, zeros []int8, depth int) int {
	lo, hi := 0, 0
	for j, zero := range zeros {
		for _, v := range w[j*depth : (j+1)*depth] {
			d := int(v) - int(zero)
			lo, hi = min(lo, d), max(hi, d)
		}
	}
	return max(1, (hi+126)/127, (127-lo)/128)
}
