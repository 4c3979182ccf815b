//go:build !purego

package kernels

import (
	"math"
	"runtime"
)

// tileHalf multiplies in binary16, for weights that come so: FMLA of 8 lanes
// does twice the products of float32's. It is a fast tier only, and where a sum
// of float32 tiles is off by γ(K+1) of 2^-24, its own are by more:
//
//	Σ|a·w| * γ(turnHalf+1), γ(n) = n*u/(1-n*u), u = 2^-11
//
// since a value is rounded once and then takes part in at most turnHalf sums in
// binary16; after that, sums are float32. Of normal values and weights, errors
// were a fifteenth of that at most, and 9e-4 of the results in the mean of
// squares, at depths of 32, 256 and 1024 (TestGEMMF16Errors, under qemu).
//
// Range: a row is brought under a bound by a power of two, and its results
// back, so that no sum of turnHalf products reaches 65504, whatever its values
// are. What a number below 2^-14 loses, in a value or in a sum, is at most
// lostHalf of it each time. Infinities and NaN give what they give in float32.
type tileHalf struct {
	*tileSetF32
	layout layoutF32
}

// turnHalf is how many products tiles add up in binary16, and stepHalf how many
// a step of theirs takes.
const (
	turnHalf = 32
	stepHalf = 16
)

func (v *tileHalf) gemm() gemmF32Tier {
	return gemmF32Tier{layout: v.layout, scratch: v.scratch, run: v.run, rows: v.rows}
}

// rows is tileF32.gemmRows.
func (v *tileHalf) rows(p *panelsF32, m int) int {
	if block := v.block(p); m > block {
		return block
	}
	return v.most()
}

// block returns how many rows are staged at once.
func (v *tileHalf) block(p *panelsF32) int {
	most := v.most()
	return min(max(stagedBytes/(2*p.steps())/most, 8), 64) * most
}

func (v *tileHalf) scratch(p *panelsF32) int {
	m := v.block(p)
	return tileScratchF32Bytes + (8+4)*m + 2*m*p.steps() + beyond
}

// run is gemmF32Generic with tiles of binary16.
func (v *tileHalf) run(p *panelsF32, out, a, more []float32, m int, scratch []byte) {
	block, steps := v.block(p), p.steps()
	t := tileSpaceF32(scratch)
	list := view[uintptr](scratch[tileScratchF32Bytes:][:8*block])
	unscale := view[float32](scratch[tileScratchF32Bytes+8*block:][:4*block])
	staged := view[uint16](scratch[tileScratchF32Bytes+12*block:][:2*block*steps])
	for k := range list {
		list[k] = addressOf(staged[k*steps:])
	}
	for i := 0; i < m; i += block {
		rows := min(block, m-i)
		for k := range rows {
			unscale[k] = stageHalf(staged[k*steps:][:steps], a[(i+k)*p.depth:][:p.depth], p.greatest)
		}
		v.panels(t, p, resultF32(out, more, i*p.ld, p.ld), list[:rows], unscale)
	}
	runtime.KeepAlive(scratch)
	runtime.KeepAlive(a)
	runtime.KeepAlive(more)
	runtime.KeepAlive(out)
}

// panels runs all panels of p over rows, into r.
func (v *tileHalf) panels(t *tileScratchF32, p *panelsF32, r tileResultF32, rows []uintptr, unscale []float32) {
	x := &t.args
	x.segments, x.steps = 1, uintptr(p.steps()/stepHalf)
	x.lo, x.hi = p.clamp.Min, p.clamp.Max
	weights, bias := addressOf(p.half), addressOf(p.bias)
	for j := 0; j < p.n; j += p.width {
		x.weights, x.bias, x.unscale = weights+uintptr(2*j*p.steps()), bias+uintptr(4*j), addressOf(unscale)
		r.length = min(p.width, p.n-j)
		v.panel(t, r, addressOf(rows), len(rows), p.width)
		r.move(uintptr(4 * p.width))
	}
	runtime.KeepAlive(p)
}

// stageHalf writes in, times a power of two, to out, filled up with zeros, and
// returns that power's inverse; most is the magnitude of the greatest weight.
func stageHalf(out []uint16, in []float32, most float32) (unscale float32) {
	blocks := len(in) / loopBlock
	n := blocks * loopBlock
	x := loopArgs{out: addressOf(out), a: addressOf(in), blocks: uintptr(blocks)}
	if blocks > 0 {
		greatestF32_FP16(&x)
	}
	scale, unscale := scaleHalf(greatest(x.scaleB, in[n:]), most)
	if x.scaleA = scale; blocks > 0 {
		halvesF32_FP16(&x)
	}
	for i, v := range in[n:] {
		out[n+i] = Float16Bits(scale * v)
	}
	clear(out[len(in):])
	runtime.KeepAlive(in)
	return unscale
}

// greatest returns the greatest of most and the magnitudes of values.
func greatest(most float32, values []float32) float32 {
	for _, v := range values {
		if v = float32(math.Abs(float64(v))); v > most {
			most = v
		}
	}
	return most
}

// lostHalf is half the distance of subnormal numbers of binary16.
const lostHalf = 1.0 / (1 << 25)

// scaleHalf returns the power of two that brings values up to value so far
// that they, and turnHalf products with weights up to most added up, are less
// than 2^15, and its inverse. It stops at 2^±126, whose inverse is no subnormal
// number.
func scaleHalf(value, most float32) (scale, unscale float32) {
	if !(value <= math.MaxFloat32) { // infinite: finite ones do not matter in that row
		value = math.MaxFloat32
	}
	_, v := math.Frexp(float64(value)) // value < 2^v
	_, w := math.Frexp(float64(most))
	const products = 5 // turnHalf is 2^products
	e := min(max(15-max(products+w, 0)-v, -126), 126)
	return math.Float32frombits(uint32(127+e) << 23), math.Float32frombits(uint32(127-e) << 23)
}
