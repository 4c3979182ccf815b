//go:build !purego

package kernels

import (
	"math"
	"runtime"
)

// The loops take whole blocks of 4 registers; the generic functions do what is
// left over. Arguments are on the stack: assembly is called by name, so that
// they do not escape. The slices do, being arguments of calls through function
// values, so that their addresses hold.

// wide is the number of lanes of AVX-512; what has fewer is AVX2.
const wide = 16

func addInt8Tier(lanes int) addInt8Func {
	return func(s *AddInt8, out, a, b []int8) {
		blocks := len(a) / (4 * lanes)
		n := blocks * 4 * lanes
		if x := (loopArgs{
			out: addressOf(out), a: addressOf(a), b: addressOf(b), blocks: uintptr(blocks), scaleA: s.out.Scale[0], scaleB: s.out.Scale[1],
			zeroA: int32(s.za), zeroB: int32(s.zb), lo: s.lo, hi: s.hi, zero: s.out.Zero,
		}); blocks > 0 {
			if lanes == wide {
				addInt8AVX512(&x)
			} else {
				addInt8AVX2(&x)
			}
		}
		addInt8Generic(s, out[n:], a[n:], b[n:])
	}
}

// quantizeWith is Quantize with lanes; signed says what T is.
func quantizeWith[T int8 | uint8](lanes int, signed bool) quantizeTier[T] {
	lo, hi := math.MinInt8, math.MaxInt8
	if !signed {
		lo, hi = 0, math.MaxUint8
	}
	return func(out []T, in []float32, scale float32, zero T) {
		out = out[:len(in)]
		blocks := len(in) / (4 * lanes)
		n := blocks * 4 * lanes
		if x := (loopArgs{
			out: addressOf(out), a: addressOf(in), blocks: uintptr(blocks), scaleA: scale,
			lo: float32(lo - int(zero)), hi: float32(hi - int(zero)), zero: int32(zero),
		}); blocks > 0 {
			switch {
			case lanes == wide && signed:
				quantizeInt8AVX512(&x)
			case lanes == wide:
				quantizeUint8AVX512(&x)
			case signed:
				quantizeInt8AVX2(&x)
			default:
				quantizeUint8AVX2(&x)
			}
		}
		Quantize(out[n:], in[n:], scale, zero)
	}
}

// dequantizeWith is Dequantize with lanes.
func dequantizeWith[T int8 | uint8](lanes int, signed bool) dequantizeTier[T] {
	return func(out []float32, in []T, scale float32, zero T) {
		out = out[:len(in)]
		blocks := len(in) / (4 * lanes)
		n := blocks * 4 * lanes
		if x := (loopArgs{
			out: addressOf(out), a: addressOf(in), blocks: uintptr(blocks), scaleA: scale, zeroA: int32(zero),
		}); blocks > 0 {
			switch {
			case lanes == wide && signed:
				dequantizeInt8AVX512(&x)
			case lanes == wide:
				dequantizeUint8AVX512(&x)
			case signed:
				dequantizeInt8AVX2(&x)
			default:
				dequantizeUint8AVX2(&x)
			}
		}
		Dequantize(out[n:], in[n:], scale, zero)
	}
}

// dequantizeInt32With is Dequantize with lanes.
func dequantizeInt32With(lanes int) dequantizeTier[int32] {
	return func(out []float32, in []int32, scale float32, zero int32) {
		out = out[:len(in)]
		blocks := len(in) / (4 * lanes)
		n := blocks * 4 * lanes
		if x := (loopArgs{
			out: addressOf(out), a: addressOf(in), blocks: uintptr(blocks), scaleA: scale, zeroA: zero,
		}); blocks > 0 {
			if lanes == wide {
				dequantizeInt32AVX512(&x)
			} else {
				dequantizeInt32AVX2(&x)
			}
		}
		Dequantize(out[n:], in[n:], scale, zero)
	}
}

func maxPoolInt8Tier(lanes int) maxPoolInt8Func {
	return func(p *MaxPool, out, in []int8) {
		r := poolRun[int8]{&p.Geometry, p.lists, blocks{p.C, 4 * lanes, lanes == wide}, out, in}
		if r.taps == nil || r.blocks.peels() {
			maxPoolInt8Generic(p, out, in)
			return
		}
		first, last := r.blocks.parts()
		r.each(func(picture, oy, ox, n int) {
			x := r.pixels(picture, oy, ox, n)
			if x.count == 0 { // nothing but padding
				fillBytes(bytesAt(x.out, n*p.C), []byte{0x80})
				return
			}
			x.blocks = uintptr(first)
			maxPoolBlocks(lanes, &x)
			if last > 0 {
				x.in, x.out, x.blocks = x.in+uintptr(last), x.out+uintptr(last), 1
				maxPoolBlocks(lanes, &x)
			}
		})
		runtime.KeepAlive(out)
		runtime.KeepAlive(in)
	}
}

func maxPoolBlocks(lanes int, x *poolArgs) {
	if lanes == wide {
		maxPoolInt8AVX512(x)
	} else {
		maxPoolInt8AVX2(x)
	}
}

func averagePoolInt8Tier(lanes int) averagePoolInt8Func {
	return func(p *AveragePool, out, in []int8, scratch []byte) {
		r := poolRun[int8]{&p.Geometry, p.lists, blocks{p.C, 4 * lanes, lanes == wide}, out, in}
		if r.taps == nil || r.blocks.peels() || p.countPad {
			averagePoolInt8Generic(p, out, in, scratch)
			return
		}
		first, last := r.blocks.parts()
		_, hi := p.out.bounds()
		r.each(func(picture, oy, ox, n int) {
			x := r.pixels(picture, oy, ox, n)
			if x.count == 0 { // nothing but padding: the sum is 0
				fillBytes(bytesAt(x.out, n*p.C), []byte{byte(min(max(p.out.Zero, int32(p.out.Min)), int32(p.out.Max)))})
				return
			}
			x.scale, x.hi, x.zero, x.least = p.multipliers[x.count], hi, p.out.Zero, int32(p.out.Min)
			x.start = -int32(x.count) * int32(p.inZero)
			x.blocks = uintptr(first)
			sumPoolBlocks(lanes, &x)
			if last > 0 {
				x.in, x.out, x.blocks = x.in+uintptr(last), x.out+uintptr(last), 1
				sumPoolBlocks(lanes, &x)
			}
		})
		runtime.KeepAlive(out)
		runtime.KeepAlive(in)
	}
}

func sumPoolBlocks(lanes int, x *poolArgs) {
	if lanes == wide {
		sumPoolInt8AVX512(x)
	} else {
		sumPoolInt8AVX2(x)
	}
}
