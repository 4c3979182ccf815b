package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

var loopArgs = &args{
	name: "loopArgs",
	doc: `is what the loops over neighbouring elements read: see tileArgs. A
// block is 4 registers of 32-bit values; the driver computes what is left over.`,
	fields: []field{
		{"out", "uintptr", "result"},
		{"a", "uintptr", "first input"},
		{"b", "uintptr", "second input"},
		{"plane", "uintptr", "bytes from one plane of the first input to the next"},
		{"blocks", "uintptr", "at least 1"},
		{"scaleA", "float32", "of the first input"},
		{"scaleB", "float32", "of the second"},
		{"lo", "float32", "lower bound of a value before zero is added"},
		{"hi", "float32", "upper bound"},
		{"zeroA", "int32", "zero point of the first input"},
		{"zeroB", "int32", "of the second"},
		{"zero", "int32", "zero point of the result"},
		{"least", "int32", "lower bound of the result"},
		{"most", "int32", "not looked at: it is hi with zero added"},
	},
}

func loopsInt8(f *file) {
	for _, s := range []isa{avx512, avx2} {
		f.addInt8(s)
		for _, kind := range []string{"Int8", "Uint8"} {
			f.quantize(s, kind)
			f.dequantize(s, kind)
		}
		for channels := 2; channels <= 4; channels++ {
			f.quantizePlanes(s, channels)
		}
		f.dequantize(s, "Int32")
		f.maxPoolInt8(s)
		f.sumPoolInt8(s)
		f.maxPoolF32(s)
		f.sumPoolF32(s)
	}
}

// loop is a loop over blocks.
type loop struct {
	*function
	out, a, b, blocks reg.GPVirtual
}

func (file *file) loop(s isa, name, doc string) *loop {
	f := file.function(name+s.name, s, loopArgs, doc, "4 registers of 32-bit values a turn.")
	return &loop{function: f, out: f.value("out"), a: f.value("a"), b: f.value("b"), blocks: f.value("blocks")}
}

// spread puts a 32-bit argument into each part of a register.
func (f *function) spread(name string) reg.VecVirtual {
	v := f.vec()
	f.VBROADCASTSS(f.field(name), v)
	f.usesVecs(name, v)
	return v
}

// next moves on by a block of which a, b and out take so many bytes a value.
func (l *loop) next(a, b, out int) {
	for _, p := range []struct {
		r    reg.GPVirtual
		size int
	}{{l.a, a}, {l.b, b}, {l.out, out}} {
		if p.size > 0 {
			l.ADDQ(U32(uint32(p.size*4*l.lanes)), p.r)
		}
	}
	l.DECQ(l.blocks)
	l.JNZ(LabelRef("block"))
	l.end()
}

// widen loads a register of 32-bit values from bytes.
func (f *function) widenBytes(m Mem, unsigned bool, v reg.VecVirtual) {
	if unsigned {
		f.VPMOVZXBD(m, v)
	} else {
		f.VPMOVSXBD(m, v)
	}
}

// pack stores 4 registers of 32-bit values, which fit, as bytes.
func (f *function) pack(v []reg.VecVirtual, order reg.VecVirtual, unsigned bool, to Mem) {
	f.VPACKSSDW(v[1], v[0], v[0])
	f.VPACKSSDW(v[3], v[2], v[2])
	if unsigned {
		f.VPACKUSWB(v[2], v[0], v[0])
	} else {
		f.VPACKSSWB(v[2], v[0], v[0])
	}
	f.VPERMD(v[0], order, v[0])
	f.VMOVUPS(v[0], to)
}

func (file *file) addInt8(s isa) {
	l := file.loop(s, "addInt8", "adds two scaled int8 arrays. Reference: addInt8Generic.")
	ma, mb, za, zb := l.spread("scaleA"), l.spread("scaleB"), l.spread("zeroA"), l.spread("zeroB")
	lo, hi, zero, order := l.spread("lo"), l.spread("hi"), l.spread("zero"), l.vec()
	l.load(l.order(), order)
	l.Label("block")
	v := l.vecs(4)
	l.usesVecs("values", v...)
	for j := range v {
		l.VPMOVSXBD(Mem{Base: l.a, Disp: j * l.lanes}, v[j])
		l.VPSUBD(za, v[j], v[j])
		l.VCVTDQ2PS(v[j], v[j])
		l.VMULPS(ma, v[j], v[j])
		w := l.vec()
		l.VPMOVSXBD(Mem{Base: l.b, Disp: j * l.lanes}, w)
		l.VPSUBD(zb, w, w)
		l.VCVTDQ2PS(w, w)
		l.VMULPS(mb, w, w)
		l.VADDPS(w, v[j], v[j])
		l.VMAXPS(lo, v[j], v[j])
		l.VMINPS(hi, v[j], v[j])
		l.VCVTPS2DQ(v[j], v[j])
		l.VPADDD(zero, v[j], v[j])
	}
	l.pack(v, order, false, Mem{Base: l.out})
	l.next(1, 1, 1)
}

func (file *file) quantize(s isa, kind string) {
	l := file.loop(s, "quantize"+kind, "turns float32 into bytes; b is not read. Reference: Quantize.")
	scale, lo, hi, zero, order := l.spread("scaleA"), l.spread("lo"), l.spread("hi"), l.spread("zero"), l.vec()
	l.load(l.order(), order)
	l.Label("block")
	v := l.vecs(4)
	l.usesVecs("values", v...)
	for j := range v {
		l.quotient(Mem{Base: l.a, Disp: j * l.bytes()}, v[j], scale, lo, hi, zero)
	}
	l.pack(v, order, kind == "Uint8", Mem{Base: l.out})
	l.next(4, 0, 1)
}

// quotient loads floats and quantises them, to 32 bits each.
func (l *loop) quotient(from Mem, v, scale, lo, hi, zero reg.VecVirtual) {
	l.load(from, v)
	l.VDIVPS(scale, v, v)
	if l.zmm() {
		k := l.K()
		l.VCMPPS(Imm(7), v, v, k) // 7: neither is NaN
		l.VMOVAPS_Z(v, k, v)
	} else {
		number := l.vec()
		l.VCMPPS(Imm(7), v, v, number)
		l.VANDPS(number, v, v)
	}
	l.VMAXPS(lo, v, v)
	l.VMINPS(hi, v, v)
	l.VCVTPS2DQ(v, v)
	l.VPADDD(zero, v, v)
}

// quantizePlanes emits the loop that makes pixels of planes. The bytes of a
// pixel are put into 32 bits, and then what they leave empty is closed up.
func (file *file) quantizePlanes(s isa, channels int) {
	l := &loop{function: file.function(fmt.Sprintf("quantizePlanes%d%s", channels, s.name), s, loopArgs,
		fmt.Sprintf("turns %d planes of float32 into pixels of bytes, %d a block; b is not read. Reference: quantizePlanesGeneric.", channels, s.lanes),
		"a register of 32-bit values for each plane, joined to one of pixels.")}
	l.out, l.a, l.blocks = l.value("out"), l.value("a"), l.value("blocks")
	plane, plane3 := l.value("plane"), l.GP64()
	l.LEAQ(Mem{Base: plane, Index: plane, Scale: 2}, plane3)
	l.uses("3*plane", plane3)
	scale, lo, hi, zero, low := l.spread("scaleA"), l.spread("lo"), l.spread("hi"), l.spread("zero"), l.vec()
	l.load(l.constant("lowByte", func(int) uint32 { return 0xff }), low)
	l.usesVecs("low bytes", low)
	part, order := l.vec(), l.vec()
	l.load(l.constant(fmt.Sprintf("close%d", channels), func(i int) uint32 { return closeBytes(channels, i%4) }), part)
	l.load(l.constant(fmt.Sprintf("close%dParts", channels), func(i int) uint32 {
		return uint32(i/channels*4+i%channels) % uint32(l.lanes)
	}), order)
	l.usesVecs("order of bytes, of parts", part, order)

	l.Label("block")
	planes := []Mem{{Base: l.a}, {Base: l.a, Index: plane, Scale: 1}, {Base: l.a, Index: plane, Scale: 2}, {Base: l.a, Index: plane3, Scale: 1}}
	pixels := l.vec()
	l.usesVecs("pixels", pixels)
	for c := channels - 1; c >= 0; c-- {
		if c == channels-1 {
			l.quotient(planes[c], pixels, scale, lo, hi, zero)
			continue
		}
		v := l.vec()
		l.quotient(planes[c], v, scale, lo, hi, zero)
		l.VPSLLD(Imm(8), pixels, pixels)
		l.join(v, low, pixels)
	}
	if channels < 4 {
		l.VPSHUFB(part, pixels, pixels)
		l.VPERMD(pixels, order, pixels)
	}
	l.storeFront(pixels, channels*l.lanes, l.out)
	l.ADDQ(Imm(uint64(channels*l.lanes)), l.out)
	l.ADDQ(Imm(uint64(l.bytes())), l.a)
	l.DECQ(l.blocks)
	l.JNZ(LabelRef("block"))
	l.end()
}

// closeBytes is part i of the order of bytes, in 128 bits, that takes what
// lies behind the channels out of each of 4 pixels.
func closeBytes(channels, i int) uint32 {
	v := uint32(0)
	for b := range 4 {
		from := 4*i + b
		from = from/channels*4 + from%channels
		if from > 15 {
			from = 0x80 // a zero
		}
		v |= uint32(from) << (8 * b)
	}
	return v
}

// join puts the low bytes of v into those of to, which are 0.
func (f *function) join(v, low, to reg.VecVirtual) {
	if f.zmm() {
		f.VPANDD(low, v, v)
		f.VPORD(v, to, to)
	} else {
		f.VPAND(low, v, v)
		f.VPOR(v, to, to)
	}
}

// storeFront stores the first bytes of a register: a multiple of 8.
func (f *function) storeFront(v reg.VecVirtual, bytes int, to reg.Register) {
	switch {
	case bytes == f.bytes():
		f.VMOVUPS(v, Mem{Base: to})
	case f.zmm():
		bits, k := f.GP32(), f.K()
		f.MOVL(U32(1<<(bytes/4)-1), bits)
		f.KMOVW(bits, k)
		f.VMOVDQU32(v, k, Mem{Base: to})
	default:
		f.VMOVDQU(v.AsX(), Mem{Base: to})
		if bytes > 16 {
			rest := f.XMM()
			f.VEXTRACTI128(Imm(1), v, rest)
			f.VMOVQ(rest, Mem{Base: to, Disp: 16})
		}
	}
}

func (file *file) dequantize(s isa, kind string) {
	l := file.loop(s, "dequantize"+kind, "turns integers into float32; b is not read. Reference: Dequantize.")
	scale, zero := l.spread("scaleA"), l.spread("zeroA")
	size := 1
	if kind == "Int32" {
		size = 4
	}
	l.Label("block")
	for j := range 4 {
		v, m := l.vec(), Mem{Base: l.a, Disp: j * size * l.lanes}
		if size == 4 {
			l.load(m, v)
		} else {
			l.widenBytes(m, kind == "Uint8", v)
		}
		l.VPSUBD(zero, v, v)
		l.VCVTDQ2PS(v, v)
		l.VMULPS(scale, v, v)
		l.VMOVUPS(v, Mem{Base: l.out, Disp: j * l.bytes()})
	}
	l.next(size, 0, 4)
}

var poolArgs = &args{
	name: "poolArgs",
	doc:  "is what the pools read: see tileArgs.",
	fields: []field{
		{"in", "uintptr", "where the window of the first pixel begins"},
		{"taps", "uintptr", "list of the distances of taps from there, in elements"},
		{"count", "uintptr", "how many taps"},
		{"out", "uintptr", "first pixel of the result"},
		{"outStep", "uintptr", "bytes from one pixel of the result to the next"},
		{"inStep", "uintptr", "bytes from a pixel's tap to that of the next"},
		{"pixels", "uintptr", "how many"},
		{"blocks", "uintptr", "of as many channels as a register holds"},
		{"mask", "uint64", "a bit for each channel of the last block, where the tier has masks"},
		{"scale", "float32", "of a sum; of float32, what it is divided by"},
		{"hi", "float32", "upper bound of a value before zero is added"},
		{"start", "int32", "what sums begin with"},
		{"zero", "int32", "zero point of the result"},
		{"least", "int32", "lower bound of the result"},
		{"most", "int32", "not looked at: it is hi with zero added"},
	},
}

// pool emits the loops over blocks of channels and pixels; body emits what
// becomes of one pixel, whose window begins at at.
func (f *function) pool(body func(at, out reg.GPVirtual, mask reg.Register)) {
	blocks, offset := f.value("blocks"), f.GP64()
	f.XORQ(offset, offset)
	at, left, out := f.GP64(), f.GP64(), f.GP64()
	var mask reg.Register
	if f.zmm() {
		mask = f.K()
	}
	f.uses("channels passed", offset)
	f.uses("at", at)
	f.uses("pixels left", left)
	f.uses("out", out)
	f.Label("block")
	if mask != nil {
		all := f.GP64()
		f.MOVQ(I64(-1), all)
		f.CMPQ(blocks, Imm(1))
		f.CMOVQEQ(f.field("mask"), all)
		f.KMOVQ(all, mask)
	}
	f.MOVQ(f.field("in"), at)
	f.ADDQ(offset, at)
	f.MOVQ(f.field("out"), out)
	f.ADDQ(offset, out)
	f.MOVQ(f.field("pixels"), left)
	f.Label("pixel")
	body(at, out, mask)
	f.ADDQ(f.field("inStep"), at)
	f.ADDQ(f.field("outStep"), out)
	f.DECQ(left)
	f.JNZ(LabelRef("pixel"))
	f.ADDQ(Imm(uint64(f.bytes())), offset)
	f.DECQ(blocks)
	f.JNZ(LabelRef("block"))
	f.end()
}

// tapLoop emits a loop over taps.
func (f *function) tapLoop(at reg.GPVirtual, body func(tap Mem)) {
	list, taps, x := f.value("taps"), f.value("count"), f.GP64()
	f.Label("tap")
	f.MOVQ(Mem{Base: list}, x)
	body(Mem{Base: x, Index: at, Scale: 1})
	f.ADDQ(Imm(8), list)
	f.DECQ(taps)
	f.JNZ(LabelRef("tap"))
}

func (file *file) maxPoolInt8(s isa) {
	f := file.function("maxPoolInt8"+s.name, s, poolArgs, fmt.Sprintf("finds the largest of the taps, %d channels at once. Reference: maxPool.", 4*s.lanes),
		"a register of channels passes over the taps.")
	f.pool(func(at, out reg.GPVirtual, mask reg.Register) {
		most := f.vec()
		f.usesVecs("largest", most)
		tmp := f.GP32()
		f.MOVL(U32(0x80808080), tmp)
		if f.zmm() {
			f.VPBROADCASTD(tmp, most)
		} else {
			f.VMOVD(tmp, most.AsX())
			f.VPBROADCASTD(most.AsX(), most)
		}
		f.tapLoop(at, func(tap Mem) {
			if f.zmm() {
				f.VPMAXSB(tap, most, mask, most)
			} else {
				f.VPMAXSB(tap, most, most)
			}
		})
		if f.zmm() {
			f.VMOVDQU8(most, mask, Mem{Base: out})
		} else {
			f.VMOVDQU(most, Mem{Base: out})
		}
	})
}

// tapsF32 emits a loop over taps of float32, which are loaded into v.
func (f *function) tapsF32(at reg.GPVirtual, mask reg.Register, v reg.VecVirtual, body func()) {
	f.tapLoop(at, func(tap Mem) {
		tap.Base, tap.Index, tap.Scale = at, tap.Base, 4
		if f.zmm() {
			f.loadMasked(tap, mask, v)
		} else {
			f.load(tap, v)
		}
		body()
	})
}

// storeBlock stores a block of channels.
func (f *function) storeBlock(v reg.VecVirtual, mask reg.Register, out reg.GPVirtual) {
	if f.zmm() {
		f.storeMasked(v, mask, Mem{Base: out})
	} else {
		f.VMOVUPS(v, Mem{Base: out})
	}
}

func (file *file) maxPoolF32(s isa) {
	f := file.function("maxPoolF32"+s.name, s, poolArgs, fmt.Sprintf("finds the largest of the taps, %d channels at once. Reference: maxPool.", s.lanes),
		"a register of channels passes over the taps.")
	least := f.bits("-Inf", 0xff800000)
	f.pool(func(at, out reg.GPVirtual, mask reg.Register) {
		most, v := f.vec(), f.vec()
		f.usesVecs("largest", most)
		f.load(least, most)
		// The second operand is what NaN and equal zeros give.
		f.tapsF32(at, mask, v, func() { f.VMAXPS(most, v, most) })
		f.storeBlock(most, mask, out)
	})
}

func (file *file) sumPoolF32(s isa) {
	f := file.function("sumPoolF32"+s.name, s, poolArgs, fmt.Sprintf("divides the sum of the taps by scale, %d channels at once. Reference: averagePoolF32Generic.", s.lanes),
		"a register of sums passes over the taps.")
	scale := f.spread("scale")
	f.pool(func(at, out reg.GPVirtual, mask reg.Register) {
		sum, v := f.vec(), f.vec()
		f.usesVecs("sums", sum)
		f.clear(sum)
		f.tapsF32(at, mask, v, func() { f.VADDPS(v, sum, sum) })
		f.VDIVPS(scale, sum, sum)
		f.storeBlock(sum, mask, out)
	})
}

func (file *file) sumPoolInt8(s isa) {
	f := file.function("sumPoolInt8"+s.name, s, poolArgs, fmt.Sprintf("requantises the sum of the taps, %d channels at once. Reference: AveragePool.Int8.", 4*s.lanes),
		"4 registers of sums pass over the taps.")
	scale, hi, start, order := f.spread("scale"), f.spread("hi"), f.spread("start"), f.vec()
	f.load(f.order(), order)
	zero, least := f.vec(), f.vec()
	f.VPBROADCASTW(f.field("zero"), zero)
	f.VPBROADCASTB(f.field("least"), least)
	f.pool(func(at, out reg.GPVirtual, mask reg.Register) {
		sums := f.vecs(4)
		f.usesVecs("sums", sums...)
		for _, v := range sums {
			f.load(start, v)
		}
		f.tapLoop(at, func(tap Mem) {
			if !f.zmm() {
				for j, v := range sums {
					w := f.vec()
					m := tap
					m.Disp = j * f.lanes
					f.VPMOVSXBD(m, w)
					f.VPADDD(w, v, v)
				}
				return
			}
			all := f.ZMM()
			f.VMOVDQU8_Z(tap, mask, all)
			for j, v := range sums {
				part := f.XMM()
				if j == 0 {
					part = all.AsX().(reg.VecVirtual)
				} else {
					f.VEXTRACTI32X4(Imm(uint64(j)), all, part)
				}
				w := f.ZMM()
				f.VPMOVSXBD(part, w)
				f.VPADDD(w, v, v)
			}
		})
		for _, v := range sums {
			f.round(v, scale, hi)
		}
		f.VPACKSSDW(sums[1], sums[0], sums[0])
		f.VPACKSSDW(sums[3], sums[2], sums[2])
		f.VPADDSW(zero, sums[0], sums[0])
		f.VPADDSW(zero, sums[2], sums[2])
		f.VPACKSSWB(sums[2], sums[0], sums[0])
		f.VPMAXSB(least, sums[0], sums[0])
		f.VPERMD(sums[0], order, sums[0])
		if f.zmm() {
			f.VMOVDQU8(sums[0], mask, Mem{Base: out})
		} else {
			f.VMOVDQU(sums[0], Mem{Base: out})
		}
	})
}
