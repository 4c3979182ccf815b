//go:build !purego && (amd64 || arm64)

package kernels

import (
	"math"
	"runtime"
	"unsafe"
)

// poolRun is a pool at work: taps are read where they are, without padding,
// pixels with the same taps at once.
type poolRun[T int8 | float32] struct {
	*Geometry
	taps    *tapLists
	blocks  blocks
	out, in []T
}

// pixels returns the arguments for n pixels from (oy, ox) on of a picture.
func (p *poolRun[T]) pixels(picture, oy, ox, n int) poolArgs {
	taps, size := p.taps.list(oy, ox), int(unsafe.Sizeof(p.in[0]))
	y, x := oy*p.StrideH-p.PadTop, ox*p.StrideW-p.PadLeft // may lie outside: it is a place to count from
	return poolArgs{
		in: addressOf(p.in) + uintptr(((picture*p.H+y)*p.W+x)*p.C*size), taps: addressOf(taps), count: uintptr(len(taps)),
		out: addressOf(p.out) + uintptr(((picture*p.OH+oy)*p.OW+ox)*p.C*size), outStep: uintptr(p.C * size),
		inStep: uintptr(p.StrideW * p.C * size), pixels: uintptr(n), mask: p.blocks.mask(),
	}
}

// parts returns how many of the blocks are computed first, and the channel at
// which one more begins, 0 where there is none.
func (b blocks) parts() (count, last int) {
	n := b.count()
	if last := b.first(n - 1); last != (n-1)*b.block {
		return n - 1, last
	}
	return n, 0
}

// each calls f for all pixels, those of a row with the same taps at once.
func (p *poolRun[T]) each(f func(picture, oy, ox, n int)) {
	for picture := range p.N {
		for oy := range p.OH {
			for ox := 0; ox < p.OW; {
				n := p.taps.alike(ox)
				f(picture, oy, ox, n)
				ox += n
			}
		}
	}
}

// maxPoolF32Tier is MaxPool.F32 with lanes.
func maxPoolF32Tier(lanes int) maxPoolF32Func {
	return func(p *MaxPool, out, in []float32) {
		r := poolRun[float32]{&p.Geometry, p.lists, blocks{p.C, lanes, lanes == maskedLanes}, out, in}
		if r.taps == nil || r.blocks.peels() {
			maxPoolF32Generic(p, out, in)
			return
		}
		first, last := r.blocks.parts()
		r.each(func(picture, oy, ox, n int) {
			x := r.pixels(picture, oy, ox, n)
			if x.count == 0 { // nothing but padding
				fillF32(out[((picture*p.OH+oy)*p.OW+ox)*p.C:][:n*p.C], float32(math.Inf(-1)))
				return
			}
			x.blocks = uintptr(first)
			maxPoolBlocksF32(lanes, &x)
			if last > 0 {
				x.in, x.out, x.blocks = x.in+uintptr(4*last), x.out+uintptr(4*last), 1
				maxPoolBlocksF32(lanes, &x)
			}
		})
		runtime.KeepAlive(in)
	}
}

// averagePoolF32Tier is AveragePool.F32 with lanes.
func averagePoolF32Tier(lanes int) averagePoolF32Func {
	return func(p *AveragePool, out, in []float32) {
		r := poolRun[float32]{&p.Geometry, p.lists, blocks{p.C, lanes, lanes == maskedLanes}, out, in}
		if r.taps == nil || r.blocks.peels() {
			averagePoolF32Generic(p, out, in)
			return
		}
		first, last := r.blocks.parts()
		some := func(picture, oy, ox, n int) {
			x := r.pixels(picture, oy, ox, n)
			if x.count == 0 { // nothing but padding: the sum is 0
				clear(out[((picture*p.OH+oy)*p.OW+ox)*p.C:][:n*p.C])
				return
			}
			x.scale, x.blocks = float32(p.count(oy, ox)), uintptr(first)
			sumPoolBlocksF32(lanes, &x)
			if last > 0 {
				x.in, x.out, x.blocks = x.in+uintptr(4*last), x.out+uintptr(4*last), 1
				sumPoolBlocksF32(lanes, &x)
			}
		}
		r.each(func(picture, oy, ox, n int) {
			if !p.countPad {
				some(picture, oy, ox, n)
				return
			}
			for i := range n { // padding that counts differs where taps do not
				some(picture, oy, ox+i, 1)
			}
		})
		runtime.KeepAlive(in)
	}
}

// maxPoolInt8Tier is MaxPool.Int8 with lanes.
func maxPoolInt8Tier(lanes int) maxPoolInt8Func {
	return func(p *MaxPool, out, in []int8) {
		r := poolRun[int8]{&p.Geometry, p.lists, blocks{p.C, 4 * lanes, lanes == maskedLanes}, out, in}
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
			maxPoolBlocksInt8(lanes, &x)
			if last > 0 {
				x.in, x.out, x.blocks = x.in+uintptr(last), x.out+uintptr(last), 1
				maxPoolBlocksInt8(lanes, &x)
			}
		})
		runtime.KeepAlive(out)
		runtime.KeepAlive(in)
	}
}

// averagePoolInt8Tier is AveragePool.Int8 with lanes.
func averagePoolInt8Tier(lanes int) averagePoolInt8Func {
	return func(p *AveragePool, out, in []int8, scratch []byte) {
		r := poolRun[int8]{&p.Geometry, p.lists, blocks{p.C, 4 * lanes, lanes == maskedLanes}, out, in}
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
			x.scale, x.hi, x.zero = p.multipliers[x.count], hi, p.out.Zero
			x.least, x.most = int32(p.out.Min), int32(p.out.Max)
			x.start = -int32(x.count) * int32(p.inZero)
			x.blocks = uintptr(first)
			sumPoolBlocksInt8(lanes, &x)
			if last > 0 {
				x.in, x.out, x.blocks = x.in+uintptr(last), x.out+uintptr(last), 1
				sumPoolBlocksInt8(lanes, &x)
			}
		})
		runtime.KeepAlive(out)
		runtime.KeepAlive(in)
	}
}

func fillF32(s []float32, v float32) {
	for i := range s {
		s[i] = v
	}
}
