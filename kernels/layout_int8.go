package kernels

import (
	"fmt"
	"math"
	"slices"
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
	cellBiased                 // int8 less its zero point (or see panels.zeros); activations come with 128 added, as uint8
	cellWide                   // int16 less its zero point
	cellSigned                 // as cellBiased; activations come as they are
	cellPaired                 // cellSigned, for tiles that add the products of two steps in 16 bits
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
		steps: roundUp(length, l.step) / l.step, bias: make([]int32, roundUp(n, l.lanes)), sums: make([]int32, roundUp(n, l.lanes)),
	}
	if w.Out.Scale != nil {
		if err := w.Out.Check(n); err != nil {
			return panels{}, err
		}
		p.out = w.Out.widened(n, l.lanes)
		p.lo, p.hi = p.out.bounds()
		p.wide = slices.ContainsFunc(w.Out.Scale, func(s float32) bool { return s >= 1 })
	}
	if l.cell != cellPlain && l.cell != cellWide {
		p.split(length, w)
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
	dst, width := p.w[first*p.channelBytes():], p.panelWidth(first)
	row, sum := w.W[j*p.depth:(j+1)*p.depth], int32(0)
	for term := range p.terms {
		for s := range p.segments {
			at := ((term*p.segments+s)*p.steps*width + j - first) * p.step
			for k := 0; k < length; k += p.step {
				for i, v := range row[s*length:][k:min(k+p.step, length)] {
					p.put(dst, at+i, term, int32(v), zero)
				}
				at += width * p.step
			}
		}
	}
	for _, v := range row {
		sum += int32(v) - zero
	}
	if w.Bias != nil {
		p.bias[j] = w.Bias[j]
	}
	zeroIn := int32(w.InZero)
	if p.cell == cellBiased {
		zeroIn += 128
	}
	p.bias[j] -= zeroIn * sum
	p.sums[j] = sum
}

// put stores a term of weight v with its zero point as cell at of a panel.
func (p *panels) put(dst []int8, at, term int, v, zero int32) {
	switch {
	case p.cell == cellPlain, p.zeros != nil:
		dst[at] = int8(v)
	case p.cell == cellWide:
		dst[2*at], dst[2*at+1] = int8(v-zero), int8((v-zero)>>8)
	default:
		v -= zero
		for range term { // what earlier terms hold
			v -= min(max(v, p.floor), math.MaxInt8)
		}
		dst[at] = int8(min(max(v, p.floor), math.MaxInt8))
	}
}

// split decides how the weights become int8: as they are less their zero
// points, or as they were given, with a panel of the common zero point, or in
// several terms.
func (p *panels) split(length int, w WeightsInt8) {
	p.floor = p.fitPairs(length, w.W, w.WZero)
	p.terms = termsInt8(w.W, w.WZero, p.depth, int(p.floor))
	if p.terms == 1 || w.WZero == nil || !uniform(w.WZero) {
		return
	}
	if p.cell == cellPaired && (w.WZero[0] == math.MinInt8 || p.fitPairs(length, w.W, nil) != math.MinInt8) {
		return
	}
	p.terms, p.floor = 1, math.MinInt8
	p.packZeros(length, w.WZero[0])
}

// fitPairs returns the smallest int8 that may be stored. Where tiles add the
// products of two steps in 16 bits, -128 twice, times -128 twice, would not
// fit.
func (p *panels) fitPairs(length int, w, zeros []int8) int32 {
	if p.cell != cellPaired {
		return math.MinInt8
	}
	for j := range p.n {
		zero := 0
		if zeros != nil {
			zero = int(zeros[j])
		}
		for s := range p.segments {
			run := w[j*p.depth+s*length:][:length]
			for k := p.step; k < length; k++ {
				if int(run[k-p.step])-zero <= math.MinInt8 && int(run[k])-zero <= math.MinInt8 {
					return -math.MaxInt8
				}
			}
		}
	}
	return math.MinInt8
}

// packZeros lays out a panel of lanes channels whose weights are all zero: its
// product with a row is what the zero point brings into each sum of the row.
func (p *panels) packZeros(length int, zero int8) {
	p.zeros = make([]int8, p.lanes*p.channelBytes())
	for at := range p.zeros {
		if k := at/(p.lanes*p.step)%p.steps*p.step + at%p.step; k < length {
			p.zeros[at] = zero
		}
	}
}

func uniform(s []int8) bool {
	for _, v := range s {
		if v != s[0] {
			return false
		}
	}
	return true
}

// termsInt8 returns how many int8 numbers must be added up to give each weight
// less its zero point: 1, but for asymmetric weights, or where floor, the
// smallest of them, is not the smallest int8.
func termsInt8(w, zeros []int8, depth, floor int) int {
	lo, hi := 0, 0
	if zeros == nil {
		lo = math.MinInt8
	}
	for j, zero := range zeros {
		for _, v := range w[j*depth : (j+1)*depth] {
			d := int(v) - int(zero)
			lo, hi = min(lo, d), max(hi, d)
		}
	}
	return max(1, (hi+126)/127, (-lo-floor-1)/-floor)
}
