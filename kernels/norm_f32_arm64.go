//go:build !purego

package kernels

import (
	"math"
	"unsafe"
)

// The loops over rows take whole blocks of 16 values; Go does what is left
// over, on the same lanes.

// whole returns the values of whole blocks, their number, and what is left.
func whole(x []float32) (first *float32, blocks int, rest []float32) {
	blocks = len(x) / lanes
	return unsafe.SliceData(x), blocks, x[blocks*lanes:]
}

func sumNEON(x []float32) float32 {
	var l laneSums
	first, blocks, rest := whole(x)
	if blocks > 0 {
		sum_NEON(&l, first, blocks)
	}
	l.add(rest)
	return l.total()
}

func deviationsNEON(x []float32, mean float32) (sum, squares float32) {
	var s, q laneSums
	first, blocks, rest := whole(x)
	if blocks > 0 {
		deviations_NEON(&s, &q, first, blocks, mean)
	}
	addDeviations(&s, &q, rest, mean)
	return s.total(), q.total()
}

func scaleRowNEON(dst, src, scale, shift []float32, mean, inverse float32) {
	first, blocks, rest := whole(src)
	n := blocks * lanes
	if blocks > 0 {
		standardize_NEON(unsafe.SliceData(dst), first, unsafe.SliceData(scale), unsafe.SliceData(shift), blocks, mean, inverse)
	}
	scaleRow(dst[n:], rest, scale[n:], shift[n:], mean, inverse)
}

func scalePlaneNEON(dst, src []float32, mean, inverse, scale, shift float32) {
	first, blocks, rest := whole(src)
	if blocks > 0 {
		standardizePlane_NEON(unsafe.SliceData(dst), first, blocks, mean, inverse, scale, shift)
	}
	scalePlane(dst[blocks*lanes:], rest, mean, inverse, scale, shift)
}

func spanNEON(x []float32) (lo, hi float32) {
	var least, most laneSums
	first, blocks, rest := whole(x)
	if blocks > 0 {
		span_NEON(&least, &most, first, blocks)
	}
	lo, hi = span(rest)
	for i := range lanes {
		lo, hi = min(lo, least[i]), max(hi, most[i])
	}
	return lo, hi
}

func softmaxNEON(dst, src []float32, n int) {
	for at := 0; at+n <= len(src) && n > 0; at += n {
		softmaxRowNEON(dst[at:at+n], src[at:at+n])
	}
}

func softmaxRowNEON(dst, src []float32) {
	first, blocks, rest := whole(src)
	out, top := unsafe.SliceData(dst), largest(rest)
	n, low := blocks*lanes, float32(math.Inf(-1))
	if blocks > 0 {
		var least, most laneSums
		for i := range most {
			most[i] = low
		}
		span_NEON(&least, &most, first, blocks)
		top = max(top, largest(most[:]))
	}
	var sums laneSums
	if blocks > 0 {
		expSum_NEON(&sums, out, first, blocks, top)
	}
	if len(rest) > 0 { // a block of what is left and of e^-Inf, which is 0
		var block laneSums
		for i := copy(block[:], rest); i < lanes; i++ {
			block[i] = low
		}
		expSum_NEON(&sums, &block[0], &block[0], 1, top)
		copy(dst[n:], block[:])
	}
	scale := float32(1 / sums.total())
	if blocks > 0 { // (y-0)*scale*1 + 0 is y*scale
		standardizePlane_NEON(out, out, blocks, 0, scale, 1, 0)
	}
	for i, y := range dst[n:] {
		dst[n+i] = float32(y * scale)
	}
}
