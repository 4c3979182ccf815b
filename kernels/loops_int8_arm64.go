//go:build !purego

package kernels

import "runtime"

// The loops take whole blocks of 16 values; the generic functions do what is
// left over. Arguments are on the stack: assembly is called by name, so that
// they do not escape. The slices do, being arguments of calls through function
// values, so that their addresses hold.

// loopBlock is how many values a turn of a loop takes.
const loopBlock = 16

func addInt8NEON(s *AddInt8, out, a, b []int8) {
	blocks := len(a) / loopBlock
	n := blocks * loopBlock
	if blocks > 0 {
		addInt8_NEON(&loopArgs{
			out: addressOf(out), a: addressOf(a), b: addressOf(b), blocks: uintptr(blocks),
			scaleA: s.out.Scale[0], scaleB: s.out.Scale[1], zeroA: int32(s.za), zeroB: int32(s.zb),
			zero: s.out.Zero, least: int32(s.out.Min), most: int32(s.out.Max),
		})
	}
	addInt8Generic(s, out[n:], a[n:], b[n:])
	runtime.KeepAlive(out)
}

// quantizeNEON is Quantize; signed says what T is.
func quantizeNEON[T int8 | uint8](signed bool) quantizeTier[T] {
	return func(out []T, in []float32, scale float32, zero T) {
		out = out[:len(in)]
		blocks := len(in) / loopBlock
		n := blocks * loopBlock
		x := loopArgs{out: addressOf(out), a: addressOf(in), blocks: uintptr(blocks), scaleA: scale, zero: int32(zero)}
		switch {
		case blocks == 0:
		case signed:
			quantizeInt8_NEON(&x)
		default:
			quantizeUint8_NEON(&x)
		}
		Quantize(out[n:], in[n:], scale, zero)
		runtime.KeepAlive(in)
	}
}

// dequantizeNEON is Dequantize; signed says what T is.
func dequantizeNEON[T int8 | uint8](signed bool) dequantizeTier[T] {
	return func(out []float32, in []T, scale float32, zero T) {
		out = out[:len(in)]
		blocks := len(in) / loopBlock
		n := blocks * loopBlock
		x := loopArgs{out: addressOf(out), a: addressOf(in), blocks: uintptr(blocks), scaleA: scale, zeroA: int32(zero)}
		switch {
		case blocks == 0:
		case signed:
			dequantizeInt8_NEON(&x)
		default:
			dequantizeUint8_NEON(&x)
		}
		Dequantize(out[n:], in[n:], scale, zero)
		runtime.KeepAlive(in)
	}
}

// dequantizeInt32NEON is Dequantize.
func dequantizeInt32NEON(out []float32, in []int32, scale float32, zero int32) {
	out = out[:len(in)]
	blocks := len(in) / loopBlock
	n := blocks * loopBlock
	if blocks > 0 {
		dequantizeInt32_NEON(&loopArgs{out: addressOf(out), a: addressOf(in), blocks: uintptr(blocks), scaleA: scale, zeroA: zero})
	}
	Dequantize(out[n:], in[n:], scale, zero)
	runtime.KeepAlive(in)
}

func maxPoolInt8NEON(p *MaxPool, out, in []int8) {
	r := poolRun[int8]{&p.Geometry, p.lists, blocks{p.C, loopBlock, false}, out, in}
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
		maxPoolInt8_NEON(&x)
		if last > 0 {
			x.in, x.out, x.blocks = x.in+uintptr(last), x.out+uintptr(last), 1
			maxPoolInt8_NEON(&x)
		}
	})
	runtime.KeepAlive(out)
	runtime.KeepAlive(in)
}

func averagePoolInt8NEON(p *AveragePool, out, in []int8, scratch []byte) {
	r := poolRun[int8]{&p.Geometry, p.lists, blocks{p.C, loopBlock, false}, out, in}
	if r.taps == nil || r.blocks.peels() || p.countPad {
		averagePoolInt8Generic(p, out, in, scratch)
		return
	}
	first, last := r.blocks.parts()
	r.each(func(picture, oy, ox, n int) {
		x := r.pixels(picture, oy, ox, n)
		if x.count == 0 { // nothing but padding: the sum is 0
			fillBytes(bytesAt(x.out, n*p.C), []byte{byte(min(max(p.out.Zero, int32(p.out.Min)), int32(p.out.Max)))})
			return
		}
		x.scale, x.zero, x.least, x.most = p.multipliers[x.count], p.out.Zero, int32(p.out.Min), int32(p.out.Max)
		x.start = -int32(x.count) * int32(p.inZero)
		x.blocks = uintptr(first)
		sumPoolInt8_NEON(&x)
		if last > 0 {
			x.in, x.out, x.blocks = x.in+uintptr(last), x.out+uintptr(last), 1
			sumPoolInt8_NEON(&x)
		}
	})
	runtime.KeepAlive(out)
	runtime.KeepAlive(in)
}
