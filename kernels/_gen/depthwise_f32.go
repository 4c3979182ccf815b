package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func depthwiseF32(f *file) {
	for _, s := range []isa{fused512, exact512, fused256, exact256} {
		f.depthwiseReal(s)
		table := &f.stubs.tables
		name := "depthwise" + s.kind() + s.name
		fmt.Fprintf(table, "\n// %s are the functions for one kernel and stride.\nvar %s = []depthwiseSquare{\n", name, name)
		for _, kernel := range []int{3, 5} {
			for _, stride := range []int{1, 2} {
				fmt.Fprintf(table, "\t{%d, %d, %s},\n", kernel, stride, f.depthwiseSquare(s, kernel, stride))
			}
		}
		table.WriteString("}\n")
	}
}

// depthwiseSquare emits the function for a square kernel: the weights of a
// register of channels stay in registers, where the tier has so many, while a
// row of pixels passes, and each value that is loaded is multiplied with all
// the weights that it meets under the windows of four pixels.
//
//	kernel 3, stride 1   columns    0 1 2 3 4 5
//	                     pixel 0    a b c
//	                     pixel 1      a b c
//	                     pixel 2        a b c
//	                     pixel 3          a b c
//
// The last four pixels of a row overlap those before, if they must.
func (file *file) depthwiseSquare(s isa, kernel, stride int) string {
	name := fmt.Sprintf("depthwise%s_%dx%ds%d_%s", s.kind(), kernel, kernel, stride, s.name)
	f := file.function(name, s, depthwiseArgs,
		fmt.Sprintf("computes a row of 4 pixels or more, %d channels at once; taps are those of the first column. Reference: depthwiseF32Generic.", s.lanes),
		"A register of sums for each of 4 pixels passes over the taps.")
	blocks, weights, bias := f.value("blocks"), f.value("weights"), f.value("bias")
	pixel, pixel3, offset := f.value("inStep"), f.GP64(), f.GP64()
	if stride == 2 {
		f.SHRQ(Imm(1), pixel)
	}
	f.LEAQ(Mem{Base: pixel, Index: pixel, Scale: 2}, pixel3)
	f.XORQ(offset, offset)
	f.uses("channels passed", offset)
	f.uses("bytes of a pixel, of 3", pixel, pixel3)
	var mask reg.Register
	if f.zmm() {
		mask = f.K()
	}
	w := make([]Op, kernel*kernel)
	inRegisters := len(w)+depthwisePixels+3 <= 2*f.lanes
	rows := make([]reg.GPVirtual, kernel)
	for i := range rows {
		rows[i] = f.GP64()
	}
	out, left := f.GP64(), f.GP64()
	f.uses("rows", gps(rows)...)
	f.uses("out", out)
	f.uses("pixels left", left)

	var inside []reg.VecVirtual
	f.Label("block")
	if f.zmm() {
		m := f.GP64()
		f.MOVQ(I64(-1), m)
		f.CMPQ(blocks, Imm(1))
		f.CMOVQEQ(f.field("mask"), m)
		f.KMOVW(m.As32(), mask)
	}
	for i := range w {
		m := Mem{Base: weights, Disp: i * f.bytes()}
		w[i] = m
		if inRegisters {
			v := f.vec()
			f.load(m, v)
			inside = append(inside, v)
			w[i] = v
		}
	}
	f.usesVecs("weights", inside...)
	list := f.value("taps")
	for i, row := range rows {
		f.MOVQ(Mem{Base: list, Disp: 8 * kernel * i}, row)
		f.ADDQ(offset, row)
	}
	f.MOVQ(f.field("out"), out)
	f.ADDQ(offset, out)
	f.MOVQ(f.field("pixels"), left)

	f.Label("four")
	sums := f.vecs(depthwisePixels)
	f.usesVecs("sums", sums...)
	for _, v := range sums {
		f.load(Mem{Base: bias}, v)
	}
	for ky, row := range rows {
		f.depthwiseColumns(row, pixel, pixel3, w[ky*kernel:(ky+1)*kernel], sums, stride)
		f.LEAQ(Mem{Base: row, Index: pixel, Scale: uint8(depthwisePixels * stride)}, row)
	}
	lo, hi := f.vec(), f.vec()
	f.VBROADCASTSS(f.field("lo"), lo)
	f.VBROADCASTSS(f.field("hi"), hi)
	for _, v := range sums {
		f.VMAXPS(v, lo, v)
		f.VMINPS(v, hi, v)
		if f.zmm() {
			f.VMOVUPS(v, mask, Mem{Base: out})
		} else {
			f.VMOVUPS(v, Mem{Base: out})
		}
		f.ADDQ(f.field("outStep"), out)
	}
	f.SUBQ(Imm(depthwisePixels), left)
	f.JZ(LabelRef("row"))
	f.CMPQ(left, Imm(depthwisePixels))
	f.JGE(LabelRef("four"))
	f.Comment("fewer than four are left: go back so far that they are four")
	back := f.GP64()
	f.SUBQ(Imm(depthwisePixels), left)
	f.MOVQ(left, back)
	f.IMULQ(f.field("outStep"), back)
	f.ADDQ(back, out)
	f.IMULQ(f.field("inStep"), left)
	for _, row := range rows {
		f.ADDQ(left, row)
	}
	f.MOVQ(U32(depthwisePixels), left)
	f.JMP(LabelRef("four"))

	f.Label("row")
	f.ADDQ(Imm(uint64(f.bytes())), offset)
	f.ADDQ(Imm(uint64(f.bytes())), bias)
	f.ADDQ(U32(uint32(len(w)*f.bytes())), weights)
	f.DECQ(blocks)
	f.JNZ(LabelRef("block"))
	f.end()
	return name
}

// depthwisePixels is how many pixels pass over the taps at once.
const depthwisePixels = 4

// depthwiseColumns adds what one row of the input gives: its columns in order,
// so that each sum sees its taps in order.
func (f *function) depthwiseColumns(row, pixel, pixel3 reg.Register, w []Op, sums []reg.VecVirtual, stride int) {
	base := row
	for j := range (len(sums)-1)*stride + len(w) {
		if j > 0 && j%4 == 0 {
			next := f.GP64()
			f.LEAQ(Mem{Base: base, Index: pixel, Scale: 4}, next)
			base = next
		}
		m := Mem{Base: base}
		switch j % 4 {
		case 1, 2:
			m.Index, m.Scale = pixel, uint8(j%4)
		case 3:
			m.Index, m.Scale = pixel3, 1
		}
		x := f.vec()
		f.load(m, x)
		f.usesVecs("channels of a tap", x)
		for p, sum := range sums {
			if kx := j - p*stride; kx >= 0 && kx < len(w) {
				f.multiplyAdd(x, w[kx], sum)
			}
		}
	}
}

// depthwiseReal emits the function for float32: two registers of channels of
// four pixels at once, so that a weight is loaded once for four.
func (file *file) depthwiseReal(s isa) {
	const wide, registers = depthwisePixels, 2
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
