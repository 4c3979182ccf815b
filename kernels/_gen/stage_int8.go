package main

import (
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// stages emits the loops that bring int8 rows into the form that the tiles
// want: with 128 added, or widened to int16.
func stages(f *file) {
	for _, s := range []isa{avx512, avxvnni} {
		f.flip(s)
	}
	f.widen(avx2)
}

// copyFunction begins a function of two addresses and a length.
func (file *file) copyFunction(name, doc string, s isa) *function {
	file.plainFunction(name, "to, from uintptr, n int", doc)
	return &function{file: file, isa: s}
}

// copyParams loads the parameters of a copyFunction.
func (f *function) copyParams() (to, from, n reg.GPVirtual) {
	to, from, n = f.GP64(), f.GP64(), f.GP64()
	for _, p := range []struct {
		name string
		r    reg.GPVirtual
	}{{"to", to}, {"from", from}, {"n", n}} {
		f.Load(f.Param(p.name), p.r)
		f.uses(p.name, p.r)
	}
	return to, from, n
}

func (file *file) flip(s isa) {
	f := file.copyFunction("flip"+s.name, "writes n bytes with 128 added: int8 as uint8. Reference: FlipSign.", s)
	to, from, n := f.copyParams()
	sign, tmp, v := f.vec(), f.GP32(), f.vec()
	f.usesVecs("signs", sign)
	f.usesVecs("bytes", v)
	f.MOVL(U32(0x80808080), tmp)
	if f.zmm() {
		f.VPBROADCASTD(tmp, sign)
	} else {
		f.VMOVD(tmp, sign.AsX())
		f.VPBROADCASTD(sign.AsX(), sign)
	}
	f.SUBQ(Imm(uint64(f.bytes())), n)
	f.JL(LabelRef("tail"))
	f.Label("loop")
	if f.zmm() {
		f.VPXORD(Mem{Base: from}, sign, v)
	} else {
		f.VPXOR(Mem{Base: from}, sign, v)
	}
	f.VMOVUPS(v, Mem{Base: to})
	f.ADDQ(Imm(uint64(f.bytes())), from)
	f.ADDQ(Imm(uint64(f.bytes())), to)
	f.SUBQ(Imm(uint64(f.bytes())), n)
	f.JGE(LabelRef("loop"))
	f.Label("tail")
	f.ADDQ(Imm(uint64(f.bytes())), n)
	f.JZ(LabelRef("done"))
	if f.zmm() {
		f.Comment("a mask of the n lowest bits")
		bits, k := f.GP64(), f.K()
		f.MOVQ(I64(-1), bits)
		f.BZHIQ(n, bits, bits)
		f.KMOVQ(bits, k)
		f.VMOVDQU8_Z(Mem{Base: from}, k, v)
		f.VPXORD(sign, v, v)
		f.VMOVDQU8(v, k, Mem{Base: to})
	} else {
		b := f.GP32()
		f.Label("byte")
		f.MOVB(Mem{Base: from}, b.As8())
		f.XORB(Imm(0x80), b.As8())
		f.MOVB(b.As8(), Mem{Base: to})
		f.INCQ(from)
		f.INCQ(to)
		f.DECQ(n)
		f.JNZ(LabelRef("byte"))
	}
	f.Label("done")
	f.end()
}

func (file *file) widen(s isa) {
	f := file.copyFunction("widen"+s.name, "writes n int8 as int16.", s)
	to, from, n := f.copyParams()
	v := f.YMM()
	f.usesVecs("words", v)
	f.SUBQ(Imm(16), n)
	f.JL(LabelRef("tail"))
	f.Label("loop")
	f.VPMOVSXBW(Mem{Base: from}, v)
	f.VMOVDQU(v, Mem{Base: to})
	f.ADDQ(Imm(16), from)
	f.ADDQ(Imm(32), to)
	f.SUBQ(Imm(16), n)
	f.JGE(LabelRef("loop"))
	f.Label("tail")
	f.ADDQ(Imm(16), n)
	f.JZ(LabelRef("done"))
	w := f.GP32()
	f.Label("one")
	f.MOVBLSX(Mem{Base: from}, w)
	f.MOVW(w.As16(), Mem{Base: to})
	f.INCQ(from)
	f.ADDQ(Imm(2), to)
	f.DECQ(n)
	f.JNZ(LabelRef("one"))
	f.Label("done")
	f.end()
}
