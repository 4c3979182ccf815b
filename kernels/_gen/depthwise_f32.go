package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func depthwiseF32(f *file) {
	for _, s := range []isa{fused512, exact512, fused256, exact256} {
		f.depthwiseReal(s)
	}
}

// depthwiseReal emits the function for float32: two registers of channels of
// four pixels at once, so that a weight is loaded once for four.
func (file *file) depthwiseReal(s isa) {
	const wide, registers = 4, 2
	f := file.function("depthwise"+s.kind()+"_"+s.name, s, depthwiseArgs,
		fmt.Sprintf("computes a row of pixels, %d channels at once; groups counts taps. Reference: depthwiseF32Generic.", registers*s.lanes),
		"2 registers of sums for each of 4 pixels pass over the taps; then pixels one by one.")
	blocks, weights, bias := f.value("blocks"), f.value("weights"), f.value("bias")
	offset := f.GP64()
	f.XORQ(offset, offset)
	step, step3 := f.value("inStep"), f.GP64()
	f.LEAQ(Mem{Base: step, Index: step, Scale: 2}, step3)
	lo, hi := f.vec(), f.vec()
	f.VBROADCASTSS(f.field("lo"), lo)
	f.VBROADCASTSS(f.field("hi"), hi)
	var masks []reg.Register
	if f.zmm() {
		masks = []reg.Register{f.K(), f.K()}
	}
	at, left, out := f.GP64(), f.GP64(), f.GP64()
	f.uses("channels passed", offset)
	f.uses("3*inStep", step3)
	f.uses("at", at)
	f.uses("pixels left", left)
	f.uses("out", out)
	f.usesVecs("lo", lo)
	f.usesVecs("hi", hi)

	// pixels emits a loop body for n pixels.
	pixels := func(n int) {
		label := fmt.Sprintf("tap%d", n)
		sums := make([][]reg.VecVirtual, n)
		for p := range sums {
			sums[p] = f.vecs(registers)
			f.usesVecs(fmt.Sprintf("sums of pixel %d of %d", p, n), sums[p]...)
			for j := range sums[p] {
				f.load(Mem{Base: bias, Disp: j * f.bytes()}, sums[p][j])
			}
		}
		list, taps, w, x := f.value("taps"), f.value("groups"), f.GP64(), f.GP64()
		f.MOVQ(weights, w)
		f.Label(label)
		f.MOVQ(Mem{Base: list}, x)
		f.ADDQ(at, x)
		b := f.vecs(registers)
		f.usesVecs("weights", b...)
		for j := range b {
			f.load(Mem{Base: w, Disp: j * f.bytes()}, b[j])
		}
		for p := range sums {
			m := Mem{Base: x}
			switch p {
			case 1, 2:
				m.Index, m.Scale = step, uint8(p)
			case 3:
				m.Index, m.Scale = step3, 1
			}
			for j := range b {
				m.Disp = j * f.bytes()
				f.multiplyAddMemory(m, b[j], sums[p][j])
			}
		}
		f.ADDQ(Imm(8), list)
		f.ADDQ(Imm(uint64(registers*f.bytes())), w)
		f.DECQ(taps)
		f.JNZ(LabelRef(label))
		for p := range sums {
			for j, v := range sums[p] {
				f.VMAXPS(v, lo, v)
				f.VMINPS(v, hi, v)
				m := Mem{Base: out, Disp: j * f.bytes()}
				if f.zmm() {
					f.VMOVUPS(v, masks[j], m)
				} else {
					f.VMOVUPS(v, m)
				}
			}
			f.ADDQ(f.field("outStep"), out)
		}
	}

	f.Label("block")
	if f.zmm() {
		mask := f.GP64()
		f.MOVQ(I64(-1), mask)
		f.CMPQ(blocks, Imm(1))
		f.CMOVQEQ(f.field("mask"), mask)
		f.KMOVW(mask.As32(), masks[0])
		f.SHRQ(Imm(16), mask)
		f.KMOVW(mask.As32(), masks[1])
	}
	f.MOVQ(offset, at)
	f.MOVQ(f.field("out"), out)
	f.MOVQ(f.field("pixels"), left)
	f.SUBQ(Imm(wide), left)
	f.JL(LabelRef("few"))
	f.Label("four")
	pixels(wide)
	f.LEAQ(Mem{Base: at, Index: step, Scale: wide}, at)
	f.SUBQ(Imm(wide), left)
	f.JGE(LabelRef("four"))
	f.Label("few")
	f.ADDQ(Imm(wide), left)
	f.JZ(LabelRef("row"))
	f.Label("one")
	pixels(1)
	f.ADDQ(step, at)
	f.DECQ(left)
	f.JNZ(LabelRef("one"))
	f.Label("row")
	f.ADDQ(Imm(uint64(registers*f.bytes())), offset)
	f.ADDQ(Imm(uint64(registers*f.bytes())), f.field("out"))
	f.ADDQ(Imm(uint64(registers*f.bytes())), bias)
	n := f.value("groups")
	f.IMUL3Q(Imm(uint64(registers*f.bytes())), n, n)
	f.ADDQ(n, weights)
	f.DECQ(blocks)
	f.JNZ(LabelRef("block"))
	f.end()
}

// multiplyAddMemory is multiplyAdd of a value in memory.
func (f *function) multiplyAddMemory(m Mem, b, sum reg.VecVirtual) {
	if f.dot == fused {
		f.VFMADD231PS(m, b, sum)
		return
	}
	t := f.vec()
	f.VMULPS(m, b, t)
	f.VADDPS(t, sum, sum)
}
