//go:build !purego && (amd64 || arm64)

package kernels

import (
	"math"
	"runtime"
)

// The loops take whole blocks of 4 registers; the generic functions do what is
// left over. Arguments are on the stack: assembly is called by name, so that
// they do not escape. The slices do, being arguments of calls through function
// values, so that their addresses hold.

// loopInt8 is a loop over neighbouring elements.
type loopInt8 int

const (
	loopAdd loopInt8 = iota
	loopQuantizeInt8
	loopQuantizeUint8
	loopDequantizeInt8
	loopDequantizeUint8
	loopDequantizeInt32
)

// over runs a tier's loop over the whole blocks of n elements and returns how
// many elements those are.
func (l loopInt8) over(n, lanes int, x *loopArgs) int {
	blocks := n / (4 * lanes)
	if blocks > 0 {
		x.blocks = uintptr(blocks)
		l.run(lanes, x)
	}
	return blocks * 4 * lanes
}

// addInt8Tier is addInt8Generic with lanes.
func addInt8Tier(lanes int) addInt8Func {
	return func(s *AddInt8, out, a, b []int8) {
		n := loopAdd.over(len(a), lanes, &loopArgs{
			out: addressOf(out), a: addressOf(a), b: addressOf(b), scaleA: s.out.Scale[0], scaleB: s.out.Scale[1],
			zeroA: int32(s.za), zeroB: int32(s.zb), zero: s.out.Zero,
			lo: s.lo, hi: s.hi, least: int32(s.out.Min), most: int32(s.out.Max),
		})
		addInt8Generic(s, out[n:], a[n:], b[n:])
		runtime.KeepAlive(out)
	}
}

// quantizeInt8Tier and quantizeUint8Tier are Quantize with lanes.
func quantizeInt8Tier(lanes int) quantizeTier[int8] {
	return quantizeWith[int8](loopQuantizeInt8, lanes, math.MinInt8, math.MaxInt8)
}

func quantizeUint8Tier(lanes int) quantizeTier[uint8] {
	return quantizeWith[uint8](loopQuantizeUint8, lanes, 0, math.MaxUint8)
}

// quantizeWith is Quantize with lanes; least and most are the bounds of T.
func quantizeWith[T int8 | uint8](l loopInt8, lanes, least, most int) quantizeTier[T] {
	return func(out []T, in []float32, scale float32, zero T) {
		out = out[:len(in)]
		n := l.over(len(in), lanes, &loopArgs{
			out: addressOf(out), a: addressOf(in), scaleA: scale, zero: int32(zero),
			lo: float32(least - int(zero)), hi: float32(most - int(zero)),
		})
		Quantize(out[n:], in[n:], scale, zero)
		runtime.KeepAlive(in)
	}
}

// dequantizeWith is Dequantize with lanes.
func dequantizeWith[T int8 | uint8 | int32](l loopInt8, lanes int) dequantizeTier[T] {
	return func(out []float32, in []T, scale float32, zero T) {
		out = out[:len(in)]
		n := l.over(len(in), lanes, &loopArgs{out: addressOf(out), a: addressOf(in), scaleA: scale, zeroA: int32(zero)})
		Dequantize(out[n:], in[n:], scale, zero)
		runtime.KeepAlive(in)
	}
}
