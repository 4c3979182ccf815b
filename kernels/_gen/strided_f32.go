package main

import (
	"fmt"
	"strings"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

var stridedArgs = &args{
	name: "stridedArgs",
	doc:  `is what the loops of StridedF32 read: see tileArgs.`,
	fields: []field{
		{"out", "uintptr", "first row of the result"},
		{"a", "uintptr", "first row of a"},
		{"b", "uintptr", "likewise of b"},
		{"c", "uintptr", "likewise of c"},
		{"rows", "uintptr", "how many, at least 1"},
		{"vectors", "uintptr", "whole registers of a row"},
		{"rest", "uintptr", "values of a row behind them"},
		{"mask", "uint64", "a bit for each of these, where the tier has masks"},
		{"outStep", "uintptr", "bytes from one row to the next"},
		{"aStep", "uintptr", "likewise of a"},
		{"bStep", "uintptr", "likewise of b"},
		{"cStep", "uintptr", "likewise of c"},
		{"p", "float32", "first parameter"},
		{"q", "float32", "second parameter"},
	},
}

// stridedOp is an operation of StridedF32. emit prepares constants and returns
// what emits the operation on registers, the result in v["out"].
type stridedOp struct {
	name   string
	reads  string // of out, a, b and c: those that are loaded
	writes string // those that are stored
	emit   func(f *function) func(v map[string]reg.VecVirtual)
}

// stridedOps are all operations; kernels/strided_f32.go has their definitions.
var stridedOps = []stridedOp{
	{"pass", "a b", "out", func(f *function) func(v map[string]reg.VecVirtual) {
		lo, hi := f.spread("p"), f.spread("q")
		return func(v map[string]reg.VecVirtual) {
			a, b, out := v["a"], v["b"], v["out"]
			if f.zmm() {
				above, below := f.K(), f.K()
				f.VCMPPS(Imm(lessThan), a, lo, above)
				f.VCMPPS(Imm(lessThan), hi, a, below)
				f.KANDW(above, below, below)
				f.VMOVAPS_Z(b, below, out)
				return
			}
			above, below := f.vec(), f.vec()
			f.VCMPPS(Imm(lessThan), a, lo, above)
			f.VCMPPS(Imm(lessThan), hi, a, below)
			f.VANDPS(above, below, below)
			f.VANDPS(b, below, out)
		}
	}},
	{"give", "out a b c", "out c", func(f *function) func(v map[string]reg.VecVirtual) {
		return func(v map[string]reg.VecVirtual) {
			a, b, c, out, t := v["a"], v["b"], v["c"], v["out"], f.vec()
			if f.zmm() {
				equal, other := f.K(), f.K()
				f.VCMPPS(Imm(0), b, a, equal)
				f.KNOTW(equal, other)
				f.VMOVAPS_Z(c, equal, t)
				f.VMOVAPS_Z(c, other, c)
			} else {
				equal := f.vec()
				f.VCMPPS(Imm(0), b, a, equal)
				f.VANDPS(c, equal, t)
				f.VANDNPS(c, equal, c)
			}
			f.VADDPS(t, out, out)
		}
	}},
	{"add", "out a", "out", func(f *function) func(v map[string]reg.VecVirtual) {
		return func(v map[string]reg.VecVirtual) { f.VADDPS(v["a"], v["out"], v["out"]) }
	}},
	{"addProduct", "out a b", "out", func(f *function) func(v map[string]reg.VecVirtual) {
		return func(v map[string]reg.VecVirtual) {
			f.VMULPS(v["b"], v["a"], v["a"])
			f.VADDPS(v["a"], v["out"], v["out"])
		}
	}},
	{"line", "a b c", "out", func(f *function) func(v map[string]reg.VecVirtual) {
		return func(v map[string]reg.VecVirtual) {
			f.VMULPS(v["b"], v["a"], v["out"])
			f.VADDPS(v["c"], v["out"], v["out"])
		}
	}},
	{"addSquare", "out a c", "out", func(f *function) func(v map[string]reg.VecVirtual) {
		return func(v map[string]reg.VecVirtual) {
			f.VSUBPS(v["c"], v["a"], v["a"])
			f.VMULPS(v["a"], v["a"], v["a"])
			f.VADDPS(v["a"], v["out"], v["out"])
		}
	}},
	{"addCentred", "out a b c", "out", func(f *function) func(v map[string]reg.VecVirtual) {
		return func(v map[string]reg.VecVirtual) {
			f.VSUBPS(v["c"], v["a"], v["a"])
			f.VMULPS(v["b"], v["a"], v["a"])
			f.VADDPS(v["a"], v["out"], v["out"])
		}
	}},
}

func stridedF32(f *file) {
	for _, s := range []isa{avx512, avx2} {
		for _, op := range stridedOps {
			f.strided(s, op)
		}
		table := &f.stubs.tables
		fmt.Fprintf(table, "\n// stridedF32%s runs the loop of op.\nfunc stridedF32%s(op StridedOp, args *stridedArgs) {\n\tswitch op {\n", s.name, s.name)
		for _, op := range stridedOps {
			fmt.Fprintf(table, "\tcase Strided%[1]s:\n\t\tstrided%[1]sF32%[2]s(args)\n", strings.ToUpper(op.name[:1])+op.name[1:], s.name)
		}
		fmt.Fprint(table, "\t}\n}\n")
	}
}

// strided emits the loop of one operation: a register of a row a turn, then
// what is left of it.
func (file *file) strided(s isa, op stridedOp) {
	f := file.function("strided"+strings.ToUpper(op.name[:1])+op.name[1:]+"F32"+s.name, s, stridedArgs, "is "+op.name+" of rows. Reference: stridedF32Generic.", "A register of a row a turn, then the rest of it.")
	do := op.emit(f)
	names := []string{"out"}
	for _, n := range strings.Fields(op.reads) {
		if n != "out" {
			names = append(names, n)
		}
	}
	row, step := map[string]reg.GPVirtual{}, map[string]reg.GPVirtual{}
	for _, n := range names {
		row[n], step[n] = f.value(n), f.value(n+"Step")
	}
	rows, vectors, left, at := f.value("rows"), f.value("vectors"), f.GP64(), f.GP64()
	f.uses("vectors left", left)
	f.uses("bytes of the row done", at)
	mask := f.rowMask()
	turn := func(masked bool) {
		v := map[string]reg.VecVirtual{}
		for _, n := range names {
			v[n] = f.vec()
		}
		for _, n := range strings.Fields(op.reads) {
			if m := (Mem{Base: row[n], Index: at, Scale: 1}); masked {
				f.loadMasked(m, mask, v[n])
			} else {
				f.load(m, v[n])
			}
		}
		do(v)
		for _, n := range strings.Fields(op.writes) {
			if m := (Mem{Base: row[n], Index: at, Scale: 1}); masked {
				f.storeMasked(v[n], mask, m)
			} else {
				f.VMOVUPS(v[n], m)
			}
		}
	}
	f.Label("row")
	f.XORQ(at, at)
	f.MOVQ(vectors, left)
	f.TESTQ(left, left)
	f.JZ(LabelRef("rest"))
	f.Label("one")
	turn(false)
	f.ADDQ(U32(uint32(f.bytes())), at)
	f.DECQ(left)
	f.JNZ(LabelRef("one"))
	f.Label("rest")
	f.CMPQ(f.field("rest"), Imm(0))
	f.JE(LabelRef("done"))
	turn(true)
	f.Label("done")
	for _, n := range names {
		f.ADDQ(step[n], row[n])
	}
	f.DECQ(rows)
	f.JNZ(LabelRef("row"))
	f.end()
}
