package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/operand"
)

// peaks emits loops of nothing but the products of a tier, on registers: what
// the CPU can do at most.
func peaks(f *file) {
	for _, s := range []isa{avx512, avxvnni, avx2, fused512, fused256} {
		f.peak(s)
	}
}

func (file *file) peak(s isa) {
	name := "peak" + s.kind() + s.name
	sums := 12
	if s.lanes == 16 {
		sums = 24
	}
	if s.dot == dotWords {
		sums = 10 // leaves registers for the products
	}
	macs := s.lanes * sums
	switch s.dot {
	case dotBytes:
		macs *= 4
	case dotWords:
		macs *= 2
	}
	file.plainFunction(name, "n int", fmt.Sprintf("does %d products n times.", macs))
	fmt.Fprintf(&file.stubs.tables, "\n// %sMACs is what one turn of %s multiplies.\nconst %sMACs = %d\n", name, name, name, macs)
	f := &function{file: file, isa: s}
	n := f.GP64()
	f.Load(f.Param("n"), n)
	v := f.vecs(sums)
	a, b := f.vec(), f.vec()
	f.uses("n", n)
	f.usesVecs("sums", v...)
	f.usesVecs("factors", a, b)
	for _, r := range append(v, a, b) {
		f.clear(r)
	}
	f.Label("loop")
	for i := range v {
		f.multiplyAdd(a, b, v[i])
	}
	f.DECQ(n)
	f.JNZ(LabelRef("loop"))
	f.end()
}
