package main

import (
	"fmt"
	"strings"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

var rowArgs = &args{
	name: "rowArgs",
	doc: `is what the elementwise loops over rows of float32 read: see tileArgs.
// A row that repeats its first value has 0 for the bytes of a register.`,
	fields: []field{
		{"out", "uintptr", "first row of the result"},
		{"a", "uintptr", "first row of the first input"},
		{"b", "uintptr", "first row of the second, where there is one"},
		{"rows", "uintptr", "how many, at least 1"},
		{"vectors", "uintptr", "whole registers of a row"},
		{"rest", "uintptr", "values of a row behind them"},
		{"mask", "uint64", "a bit for each of these, where the tier has masks"},
		{"outStep", "uintptr", "bytes from one row to the next"},
		{"aStep", "uintptr", "likewise of a"},
		{"bStep", "uintptr", "likewise of b"},
		{"aEach", "uintptr", "bytes of a register, or 0"},
		{"bEach", "uintptr", "likewise of b"},
		{"p", "float32", "first parameter"},
		{"q", "float32", "second parameter"},
	},
}

// realOp is an elementwise operation. emit prepares constants and returns
// what emits the operation on registers, the result in a.
type realOp struct {
	name   string
	inputs int
	emit   func(f *function) func(a, b reg.VecVirtual)
}

// realOps are all operations, one a line; kernels/rows_f32.go has their
// definitions.
var realOps = []realOp{
	{"add", 2, func(f *function) func(a, b reg.VecVirtual) { return func(a, b reg.VecVirtual) { f.VADDPS(b, a, a) } }},
	{"sub", 2, func(f *function) func(a, b reg.VecVirtual) { return func(a, b reg.VecVirtual) { f.VSUBPS(b, a, a) } }},
	{"mul", 2, func(f *function) func(a, b reg.VecVirtual) { return func(a, b reg.VecVirtual) { f.VMULPS(b, a, a) } }},
	{"div", 2, func(f *function) func(a, b reg.VecVirtual) { return func(a, b reg.VecVirtual) { f.VDIVPS(b, a, a) } }},
	{"min", 2, func(f *function) func(a, b reg.VecVirtual) { return f.least }},
	{"max", 2, func(f *function) func(a, b reg.VecVirtual) {
		sign := f.bits("signs", 1<<31)
		return func(a, b reg.VecVirtual) {
			f.xor(sign, a)
			f.xor(sign, b)
			f.least(a, b)
			f.xor(sign, a)
		}
	}},
	{"prelu", 2, func(f *function) func(a, b reg.VecVirtual) {
		zero := f.bits("zeros", 0)
		return func(a, b reg.VecVirtual) {
			if f.zmm() {
				negative := f.K()
				f.VCMPPS(Imm(lessThan), zero, a, negative)
				f.VMULPS(b, a, negative, a)
				return
			}
			negative := f.vec()
			f.VCMPPS(Imm(lessThan), zero, a, negative)
			f.VMULPS(b, a, b)
			f.VBLENDVPS(negative, b, a, a)
		}
	}},
	{"copy", 1, func(f *function) func(a, b reg.VecVirtual) { return func(_, _ reg.VecVirtual) {} }},
	{"clip", 1, func(f *function) func(a, b reg.VecVirtual) {
		lo, hi := f.spread("p"), f.spread("q")
		return func(a, _ reg.VecVirtual) { f.clamp(a, lo, hi) }
	}},
	{"hardSigmoid", 1, func(f *function) func(a, b reg.VecVirtual) {
		unit := f.hardSigmoid()
		return func(a, _ reg.VecVirtual) { unit(a, a) }
	}},
	{"hardSwish", 1, func(f *function) func(a, b reg.VecVirtual) {
		unit := f.hardSigmoid()
		return func(a, _ reg.VecVirtual) {
			t := f.vec()
			unit(a, t)
			f.VMULPS(t, a, a)
		}
	}},
	{"abs", 1, func(f *function) func(a, b reg.VecVirtual) {
		magnitude := f.bits("magnitudes", 1<<31-1)
		return func(a, _ reg.VecVirtual) {
			if f.zmm() {
				f.VPANDD(magnitude, a, a)
			} else {
				f.VANDPS(magnitude, a, a)
			}
		}
	}},
	{"neg", 1, func(f *function) func(a, b reg.VecVirtual) {
		sign := f.bits("signs", 1<<31)
		return func(a, _ reg.VecVirtual) { f.xor(sign, a) }
	}},
	{"sqrt", 1, func(f *function) func(a, b reg.VecVirtual) { return func(a, _ reg.VecVirtual) { f.VSQRTPS(a, a) } }},
	{"reciprocal", 1, func(f *function) func(a, b reg.VecVirtual) {
		one := f.bits("ones", oneF32)
		return func(a, _ reg.VecVirtual) { f.VDIVPS(a, one, a) }
	}},
	{"floor", 1, func(f *function) func(a, b reg.VecVirtual) { return f.whole(9) }},
	{"ceil", 1, func(f *function) func(a, b reg.VecVirtual) { return f.whole(10) }},
	{"round", 1, func(f *function) func(a, b reg.VecVirtual) { return f.whole(8) }},
}

const (
	lessThan = 17         // VCMPPS: below, no exception
	oneF32   = 0x3f800000 // 1.0
)

// bits returns a register of equal 32-bit words.
func (f *function) bits(what string, word uint32) reg.VecVirtual {
	v := f.vec()
	f.usesVecs(what, v)
	if word == 0 {
		f.clear(v)
		return v
	}
	tmp := f.GP32()
	f.MOVL(U32(word), tmp)
	if f.zmm() {
		f.VPBROADCASTD(tmp, v)
	} else {
		f.VMOVD(tmp, v.AsX())
		f.VPBROADCASTD(v.AsX(), v)
	}
	return v
}

func (f *function) xor(mask, v reg.VecVirtual) {
	if f.zmm() {
		f.VPXORD(mask, v, v)
	} else {
		f.VXORPS(mask, v, v)
	}
}

// least is Go's min, as its compiler does it: of two zeros the negative one,
// and NaN where either is, since each order of VMINPS gives its second operand
// then.
func (f *function) least(a, b reg.VecVirtual) {
	t := f.vec()
	f.VMINPS(b, a, t)
	f.VMINPS(a, b, a)
	if f.zmm() {
		f.VPORD(t, a, a)
	} else {
		f.VORPS(t, a, a)
	}
}

// clamp bounds v; the second operand is what NaN and equal zeros give.
func (f *function) clamp(v, lo, hi reg.VecVirtual) {
	f.VMAXPS(v, lo, v)
	f.VMINPS(v, hi, v)
}

// hardSigmoid returns what emits to = clamp(p*from + q, 0, 1).
func (f *function) hardSigmoid() func(from, to reg.VecVirtual) {
	p, q, zero, one := f.spread("p"), f.spread("q"), f.bits("zeros", 0), f.bits("ones", oneF32)
	return func(from, to reg.VecVirtual) {
		f.VMULPS(p, from, to)
		f.VADDPS(q, to, to)
		f.clamp(to, zero, one)
	}
}

// whole rounds to whole numbers.
func (f *function) whole(mode uint64) func(a, b reg.VecVirtual) {
	return func(a, _ reg.VecVirtual) {
		if f.zmm() {
			f.VRNDSCALEPS(Imm(mode), a, a)
		} else {
			f.VROUNDPS(Imm(mode), a, a)
		}
	}
}

func rowsF32(f *file) {
	for _, s := range []isa{avx512, avx2} {
		for _, op := range realOps {
			f.rows(s, op)
		}
		f.rowSwitch(s)
	}
}

// rowSwitch writes the Go function that calls the loop of an operation by
// name, so that its arguments do not escape.
func (file *file) rowSwitch(s isa) {
	table := &file.stubs.tables
	fmt.Fprintf(table, "\n// rowsF32%s runs the loop of op.\nfunc rowsF32%s(op OpF32, args *rowArgs) {\n\tswitch op {\n", s.name, s.name)
	for _, op := range realOps {
		fmt.Fprintf(table, "\tcase Op%s:\n\t\t%sF32%s(args)\n", strings.ToUpper(op.name[:1])+op.name[1:], op.name, s.name)
	}
	fmt.Fprint(table, "\t}\n}\n")
}

// rowInput is one of the inputs of a loop over rows.
type rowInput struct {
	step        string // the field
	row, at     reg.GPVirtual
	each, each3 reg.GPVirtual
	local       Mem
	value       reg.VecVirtual
}

// rows emits the loop of one operation: rows, in each 4 registers at once,
// then single ones, then what is left over. A repeated value is spread over a
// register on the stack, which is then read over and over.
func (file *file) rows(s isa, op realOp) {
	f := file.function(op.name+"F32"+s.name, s, rowArgs, "is "+op.name+" of rows. Reference: rowsF32Generic.",
		"4 registers of a row a turn, then one, then the rest of the row.")
	do := op.emit(f)
	out, outAt := f.value("out"), f.GP64()
	f.uses("out", outAt)
	var in []*rowInput
	for _, name := range []string{"a", "b"}[:op.inputs] {
		x := &rowInput{step: name + "Step", row: f.value(name), at: f.GP64(), each: f.value(name + "Each"), each3: f.GP64(), local: f.AllocLocal(f.bytes())}
		f.LEAQ(Mem{Base: x.each, Index: x.each, Scale: 2}, x.each3)
		f.uses(name, x.at)
		f.uses("3*"+name+"Each", x.each3)
		in = append(in, x)
	}
	rows, left := f.value("rows"), f.GP64()
	f.uses("vectors left", left)
	mask := f.rowMask()

	f.Label("row")
	f.MOVQ(out, outAt)
	for i, x := range in {
		label := fmt.Sprintf("spread%d", i)
		f.MOVQ(x.row, x.at)
		f.TESTQ(x.each, x.each)
		f.JNZ(LabelRef(label))
		v := f.vec()
		f.VBROADCASTSS(Mem{Base: x.row}, v)
		f.VMOVUPS(v, x.local)
		f.LEAQ(x.local, x.at)
		f.Label(label)
	}
	// load and store move n registers; masked is for the rest of the row.
	step := func(n int, masked bool) {
		var values [][]reg.VecVirtual
		for j := range n {
			var v []reg.VecVirtual
			for _, x := range in {
				m := Mem{Base: x.at}
				switch j {
				case 1, 2:
					m.Index, m.Scale = x.each, uint8(j)
				case 3:
					m.Index, m.Scale = x.each3, 1
				}
				r := f.vec()
				if masked {
					f.loadMasked(m, mask, r)
				} else {
					f.load(m, r)
				}
				v = append(v, r)
			}
			values = append(values, append(v, v[0]))
		}
		for j, v := range values {
			do(v[0], v[1])
			m := Mem{Base: outAt, Disp: j * f.bytes()}
			if masked {
				f.storeMasked(v[0], mask, m)
			} else {
				f.VMOVUPS(v[0], m)
			}
		}
		f.usesVecs("values", values[0][:op.inputs]...)
	}
	next := func(n int) {
		for _, x := range in {
			if n == 4 {
				f.LEAQ(Mem{Base: x.at, Index: x.each, Scale: 4}, x.at)
			} else {
				f.ADDQ(x.each, x.at)
			}
		}
		f.ADDQ(U32(uint32(n*f.bytes())), outAt)
	}
	f.MOVQ(f.field("vectors"), left)
	f.SUBQ(Imm(4), left)
	f.JL(LabelRef("few"))
	f.Label("four")
	step(4, false)
	next(4)
	f.SUBQ(Imm(4), left)
	f.JGE(LabelRef("four"))
	f.Label("few")
	f.ADDQ(Imm(4), left)
	f.JZ(LabelRef("rest"))
	f.Label("one")
	step(1, false)
	next(1)
	f.DECQ(left)
	f.JNZ(LabelRef("one"))
	f.Label("rest")
	f.CMPQ(f.field("rest"), Imm(0))
	f.JE(LabelRef("done"))
	step(1, true)
	f.Label("done")
	f.ADDQ(f.field("outStep"), out)
	for _, x := range in {
		f.ADDQ(f.field(x.step), x.row)
	}
	f.DECQ(rows)
	f.JNZ(LabelRef("row"))
	f.end()
}

// rowMask returns the mask of the rest of a row: a mask register, or the sign
// bits of a vector.
func (f *function) rowMask() reg.Register {
	if f.zmm() {
		k := f.K()
		f.uses("mask", k)
		f.KMOVW(f.field("mask"), k)
		return k
	}
	v, lanes := f.vec(), f.vec()
	f.usesVecs("mask", v)
	f.load(f.words("lanes", 0, 1, 2, 3, 4, 5, 6, 7), lanes)
	f.VPBROADCASTD(f.field("rest"), v)
	f.VPCMPGTD(lanes, v, v)
	return v
}

func (f *function) loadMasked(m Mem, mask reg.Register, v reg.VecVirtual) {
	if f.zmm() {
		f.VMOVUPS_Z(m, mask, v)
	} else {
		f.VMASKMOVPS(m, mask, v)
	}
}

func (f *function) storeMasked(v reg.VecVirtual, mask reg.Register, m Mem) {
	if f.zmm() {
		f.VMOVUPS(v, mask, m)
	} else {
		f.VMASKMOVPS(v, mask, m)
	}
}

// words returns a constant of 32-bit words.
func (f *function) words(name string, list ...uint32) Mem {
	if m, ok := f.constants[name]; ok {
		return m
	}
	m := f.StaticGlobal(name)
	f.DataAttributes(attr.RODATA | attr.NOPTR)
	for i, w := range list {
		f.AddDatum(4*i, U32(w))
	}
	f.constants[name] = m
	return m
}
