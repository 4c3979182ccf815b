package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

var transposeArgs = &args{
	name: "transposeArgs",
	doc: `is what the transposes of square tiles read: see tileArgs. A tile takes
// as many neighbouring values of as many lines and makes columns of them; the
// next tile takes what stands behind in the same lines.`,
	fields: []field{
		{"in", "uintptr", "first value of the first line"},
		{"inStep", "uintptr", "bytes from line to line"},
		{"inStep3", "uintptr", "bytes from a line to the third behind it"},
		{"out", "uintptr", "first row of the result"},
		{"outStep", "uintptr", "bytes from row to row"},
		{"tiles", "uintptr", "how many, at least 1"},
	},
}

func transposes(f *file) {
	for _, s := range []isa{avx512, avx2, {name: "AVX2", lanes: 4}} {
		f.transpose(s)
	}
}

// transpose emits the loop for tiles of s.lanes times s.lanes values of 32
// bits. A register holds four values of each fourth line, one line in each of
// its 128 bits; four such registers make four rows of the result:
//
//	a0 a1 a2 a3 | e0 …      a0 b0 c0 d0 | e0 …
//	b0 b1 b2 b3 | f0 …  ->  a1 b1 c1 d1 | e1 …
//	c0 c1 c2 c3 | g0 …      a2 b2 c2 d2 | e2 …
//	d0 d1 d2 d3 | h0 …      a3 b3 c3 d3 | e3 …
func (file *file) transpose(s isa) {
	n := s.lanes
	f := file.function(fmt.Sprintf("transpose%dx%d%s", n, n, s.name), s, transposeArgs,
		fmt.Sprintf("turns lines of 32-bit values into columns, %d at once. Reference: transposeGeneric.", n), "a tile a turn, four of its rows at once.")
	step, step3, out, outStep, outStep3, tiles := f.value("inStep"), f.value("inStep3"), f.value("out"), f.value("outStep"), f.GP64(), f.value("tiles")
	f.LEAQ(Mem{Base: outStep, Index: outStep, Scale: 2}, outStep3)
	f.uses("3*outStep", outStep3)
	lines := []reg.GPVirtual{f.value("in")} // each fourth line
	for len(lines) < n/4 {
		next := f.GP64()
		f.LEAQ(Mem{Base: lines[len(lines)-1], Index: step, Scale: 4}, next)
		f.uses("in", next)
		lines = append(lines, next)
	}
	// row is the place of row i of four.
	row := func(base, step, step3 reg.GPVirtual, i, disp int) Mem {
		m := Mem{Base: base, Disp: disp}
		switch i {
		case 1, 2:
			m.Index, m.Scale = step, uint8(i)
		case 3:
			m.Index, m.Scale = step3, 1
		}
		return m
	}
	f.Label("tile")
	for quarter := range n / 4 {
		v := make([]reg.VecVirtual, 4)
		for i := range v {
			v[i] = f.gathered(func(part int) Mem { return row(lines[part], step, step3, i, 16*quarter) })
		}
		f.usesVecs("values", v...)
		t := f.quads(4)
		f.VUNPCKLPS(v[1], v[0], t[0])
		f.VUNPCKHPS(v[1], v[0], t[1])
		f.VUNPCKLPS(v[3], v[2], t[2])
		f.VUNPCKHPS(v[3], v[2], t[3])
		f.VUNPCKLPD(t[2], t[0], v[0])
		f.VUNPCKHPD(t[2], t[0], v[1])
		f.VUNPCKLPD(t[3], t[1], v[2])
		f.VUNPCKHPD(t[3], t[1], v[3])
		for i := range v {
			f.VMOVUPS(v[i], row(out, outStep, outStep3, i, 0))
		}
		f.LEAQ(Mem{Base: out, Index: outStep, Scale: 4}, out)
	}
	for _, line := range lines {
		f.ADDQ(Imm(uint64(4*n)), line)
	}
	f.DECQ(tiles)
	f.JNZ(LabelRef("tile"))
	f.end()
}

// quads returns registers of the width of a tile's rows, which may be less
// than a ymm.
func (f *function) quads(n int) []reg.VecVirtual {
	if f.lanes > 4 {
		return f.vecs(n)
	}
	v := make([]reg.VecVirtual, n)
	for i := range v {
		v[i] = f.XMM()
	}
	return v
}

// gathered returns a register whose 128-bit parts come from these places.
func (f *function) gathered(at func(part int) Mem) reg.VecVirtual {
	v := f.quads(1)[0]
	f.VMOVUPS(at(0), v.AsX())
	for part := 1; part < f.lanes/4; part++ {
		if f.zmm() {
			f.VINSERTF32X4(Imm(uint64(part)), at(part), v, v)
		} else {
			f.VINSERTF128(Imm(uint64(part)), at(part), v, v)
		}
	}
	return v
}
