package quant

import (
	"math"
	"slices"
)

// bins is the number of bins of a histogram: eight for each int8 step of the
// whole range.
const bins = 2048

// Histogram counts the values of one edge of the graph in bins of equal
// width. The width is a power of two and the bins lie on its multiples, so
// that when the range grows, pairs of bins become one without anything being
// spread: the counts of two histograms of the same values are the same in
// whatever order the values came, up to the width.
//
//	bin i counts values in [(base+i)*width, (base+i+1)*width)
//
// Exact zeros, of which a Relu makes many, are counted apart: they cost
// nothing in any range.
type Histogram struct {
	Min, Max float32 // exact; both 0 where nothing but zeros was seen
	Zeros    uint64
	Counts   [bins]uint64

	exp  int   // width is 2^exp
	base int64 // the multiple of the width at which the bins begin
	low  int64 // the lowest and highest multiple with a count
	high int64
	some bool // a value other than zero was seen
}

// Width returns the width of a bin.
func (h *Histogram) Width() float64 { return math.Ldexp(1, h.exp) }

// Total returns how many values were counted.
func (h *Histogram) Total() uint64 {
	n := h.Zeros
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// Add counts values. It fails with ErrRange, and counts none of them, where
// one is NaN or infinite.
func (h *Histogram) Add(values []float32) error {
	lo, hi, some := float32(math.Inf(1)), float32(math.Inf(-1)), false
	for _, v := range values {
		if v-v != 0 { // NaN and infinities
			return ErrRange
		}
		if v != 0 {
			lo, hi, some = min(lo, v), max(hi, v), true
		}
	}
	if some {
		h.reach(lo, hi)
	}
	scale, base := math.Ldexp(1, -h.exp), h.base
	for _, v := range values {
		if v == 0 {
			h.Zeros++
			continue
		}
		h.Counts[int64(math.Floor(float64(v)*scale))-base]++
	}
	return nil
}

// finest is how much finer than a tensor's largest value the first width is:
// the precision of a float32. Widths only grow from there.
const finest = 24

// reach makes the bins cover lo and hi.
func (h *Histogram) reach(lo, hi float32) {
	if !h.some {
		h.Min, h.Max, h.some = lo, hi, true
		_, e := math.Frexp(math.Max(math.Abs(float64(lo)), math.Abs(float64(hi))))
		h.exp = e - finest
		h.low, h.high = h.index(lo), h.index(hi)
		h.base = h.low
	}
	h.Min, h.Max = min(h.Min, lo), max(h.Max, hi)
	// A width far below the values would overflow index.
	for math.Abs(float64(lo)) > math.Ldexp(1, h.exp+40) || math.Abs(float64(hi)) > math.Ldexp(1, h.exp+40) {
		h.widen()
	}
	for max(h.high, h.index(hi))-min(h.low, h.index(lo)) >= bins {
		h.widen()
	}
	h.low, h.high = min(h.low, h.index(lo)), max(h.high, h.index(hi))
	if h.low < h.base || h.high >= h.base+bins {
		h.shift(h.low)
	}
}

// index returns the multiple of the width at or below v.
func (h *Histogram) index(v float32) int64 {
	return int64(math.Floor(math.Ldexp(float64(v), -h.exp)))
}

// shift moves the bins so that they begin at base; what is counted fits.
func (h *Histogram) shift(base int64) {
	old := h.Counts
	h.Counts = [bins]uint64{}
	for i, c := range old {
		if c != 0 {
			h.Counts[h.base+int64(i)-base] = c
		}
	}
	h.base = base
}

// widen doubles the width: two bins become one.
func (h *Histogram) widen() {
	old := h.Counts
	h.Counts = [bins]uint64{}
	base := h.base >> 1 // rounds down, as index does
	for i, c := range old {
		if c != 0 {
			h.Counts[(h.base+int64(i))>>1-base] += c
		}
	}
	h.base, h.low, h.high = base, h.low>>1, h.high>>1
	h.exp++
}

// merge adds the counts of o.
func (h *Histogram) merge(o *Histogram) {
	h.Zeros += o.Zeros
	if !o.some {
		return
	}
	if !h.some {
		zeros := h.Zeros
		*h = *o
		h.Zeros = zeros
		return
	}
	c := *o
	h.reach(o.Min, o.Max)
	for h.exp < c.exp {
		h.widen()
	}
	for c.exp < h.exp {
		c.widen()
	}
	if low := min(h.low, c.low); low < h.base || max(h.high, c.high) >= h.base+bins {
		h.low, h.high = low, max(h.high, c.high)
		h.shift(low)
	}
	for i, n := range c.Counts {
		if n != 0 {
			h.Counts[c.base+int64(i)-h.base] += n
		}
	}
}

// choose returns the range of h by o's way. It always holds 0.
func (h *Histogram) choose(o Options) (lo, hi float64) {
	lo, hi = math.Min(float64(h.Min), 0), math.Max(float64(h.Max), 0)
	if !h.some {
		return 0, 0
	}
	switch o.Range {
	case "minmax":
		return lo, hi
	case "percentile":
		p := o.Percentile
		if p == 0 {
			p = 99.99
		}
		return h.percentile(lo, hi, p)
	default:
		return h.leastError(lo, hi)
	}
}

// percentile cuts half of what p leaves over from each end.
func (h *Histogram) percentile(lo, hi, p float64) (float64, float64) {
	cut := float64(h.Total()) * (1 - p/100) / 2
	edge := func(order func(i int) int, side int64, from float64) float64 {
		seen := 0.0
		for i := range bins {
			at := order(i)
			if seen += float64(h.Counts[at]); seen > cut {
				return float64(h.base+int64(at)+side) * h.Width()
			}
		}
		return from
	}
	lo = max(lo, math.Min(0, edge(func(i int) int { return i }, 0, lo)))
	hi = min(hi, math.Max(0, edge(func(i int) int { return bins - 1 - i }, 1, hi)))
	return lo, hi
}

// The ranges that leastError tries: each end of what was seen, times each of
// shrinkSteps factors from 1 down to shrinkLeast.
const (
	shrinkSteps = 36
	shrinkLeast = 0.3
)

// leastError returns the range with the least squared error over the counted
// values, each taken to be in the middle of its bin. It tries the factors of
// both ends together first, then each end alone around the best.
func (h *Histogram) leastError(lo, hi float64) (float64, float64) {
	centres, counts := h.occupied()
	best, bestA, bestB := math.Inf(1), 1.0, 1.0
	try := func(a, b float64) {
		if e := squaredError(centres, counts, lo*a, hi*b); e < best {
			best, bestA, bestB = e, a, b
		}
	}
	factor := func(i int) float64 { return 1 - float64(float64(i)*(1-shrinkLeast)/(shrinkSteps-1)) }
	for i := range shrinkSteps {
		try(factor(i), factor(i))
	}
	if lo < 0 && hi > 0 {
		for range 2 {
			b := bestB
			for i := range shrinkSteps {
				try(factor(i), b)
			}
			a := bestA
			for i := range shrinkSteps {
				try(a, factor(i))
			}
		}
	}
	return lo * bestA, hi * bestB
}

// occupied returns the middles and the counts of the bins that have any.
func (h *Histogram) occupied() (centres, counts []float64) {
	w := h.Width()
	for i, c := range h.Counts {
		if c != 0 {
			centre := float64((float64(h.base+int64(i)) + .5) * w)
			centre = math.Max(float64(h.Min), math.Min(float64(h.Max), centre))
			centres, counts = append(centres, centre), append(counts, float64(c))
		}
	}
	return slices.Clip(centres), slices.Clip(counts)
}

// squaredError returns the sum of squared errors of int8 over lo..hi.
func squaredError(centres, counts []float64, lo, hi float64) float64 {
	q := grid(lo, hi)
	s, z := float64(q.Scale), float64(q.Zero)
	sum := 0.0
	for i, c := range centres {
		v := math.Max(-128, math.Min(127, math.RoundToEven(c/s)+z))
		// The conversions keep the compiler from fusing a product and a sum,
		// which would choose another range on another CPU.
		d := float64((v-z)*s) - c
		sum += float64(counts[i] * float64(d*d))
	}
	return sum
}

// Grid is the 256 steps of an activation: real = Scale * (int - Zero).
type Grid struct {
	Scale float32 `json:"scale"`
	Zero  int8    `json:"zero"`
}

// smallestScale keeps the quotients of scales finite where an activation is
// always zero.
const smallestScale = 1e-12

// grid returns the steps that cover lo..hi, lo <= 0 <= hi. 0.0 is one of
// them, so that padding and Relu are exact.
func grid(lo, hi float64) Grid {
	s := float32((hi - lo) / 255)
	if !(s > smallestScale) {
		return Grid{Scale: 1}
	}
	z := math.RoundToEven(-128 - lo/float64(s))
	return Grid{Scale: s, Zero: int8(math.Max(-128, math.Min(127, z)))}
}
