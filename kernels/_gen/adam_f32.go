package main

import (
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

var adamArgs = &args{
	name: "adamArgs",
	doc: `is what the loop of AdamF32 reads: see tileArgs.
// The numbers are those of Adam.`,
	fields: []field{
		{"p", "uintptr", "parameters"},
		{"m", "uintptr", "first moments"},
		{"v", "uintptr", "second moments"},
		{"g", "uintptr", "gradients"},
		{"vectors", "uintptr", "whole registers"},
		{"rest", "uintptr", "values behind them"},
		{"mask", "uint64", "a bit for each of these, where the tier has masks"},
		{"beta1", "float32", ""},
		{"rest1", "float32", ""},
		{"beta2", "float32", ""},
		{"rest2", "float32", ""},
		{"decay", "float32", ""},
		{"keep", "float32", ""},
		{"rate", "float32", ""},
		{"spread", "float32", ""},
		{"epsilon", "float32", ""},
	},
}

func adamF32(f *file) {
	for _, s := range []isa{plain512, plain256} {
		f.adam(s)
	}
}

// adam emits a turn a register: the division and the root take longer than
// all else, and the next turn's begin before they end.
func (file *file) adam(s isa) {
	f := file.function("adamF32"+s.name, s, adamArgs, "makes a step of Adam. Reference: AdamF32Generic.", "A register a turn, then the rest.")
	p, m, v, g, left := f.value("p"), f.value("m"), f.value("v"), f.value("g"), f.value("vectors")
	mask := f.rowMask()
	number := f.numbers("beta1", "rest1", "beta2", "rest2", "decay", "keep", "rate", "spread", "epsilon")
	turn := func(masked bool) {
		load := func(at reg.GPVirtual) reg.VecVirtual {
			x := f.vec()
			if masked {
				f.loadMasked(Mem{Base: at}, mask, x)
			} else {
				f.load(Mem{Base: at}, x)
			}
			return x
		}
		store := func(x reg.VecVirtual, at reg.GPVirtual) {
			if masked {
				f.storeMasked(x, mask, Mem{Base: at})
			} else {
				f.VMOVUPS(x, Mem{Base: at})
			}
		}
		// by multiplies x by a number, to a new register or to x itself.
		by := func(x, to reg.VecVirtual, name string) reg.VecVirtual {
			f.VMULPS(number(name), x, to)
			return to
		}
		value, gradient := load(p), load(g)
		f.VADDPS(by(value, f.vec(), "decay"), gradient, gradient)
		first := load(m)
		by(first, first, "beta1")
		f.VADDPS(by(gradient, f.vec(), "rest1"), first, first)
		store(first, m)
		second := load(v)
		by(second, second, "beta2")
		f.VMULPS(gradient, gradient, gradient)
		f.VADDPS(by(gradient, gradient, "rest2"), second, second)
		store(second, v)
		f.VSQRTPS(second, second)
		by(second, second, "spread")
		f.VADDPS(number("epsilon"), second, second)
		f.VDIVPS(second, first, first)
		by(first, first, "rate")
		by(value, value, "keep")
		f.VSUBPS(first, value, value)
		store(value, p)
	}
	f.TESTQ(left, left)
	f.JZ(LabelRef("rest"))
	f.Label("turn")
	turn(false)
	for _, at := range []reg.GPVirtual{p, m, v, g} {
		f.ADDQ(U32(uint32(f.bytes())), at)
	}
	f.DECQ(left)
	f.JNZ(LabelRef("turn"))
	f.Label("rest")
	f.CMPQ(f.field("rest"), Imm(0))
	f.JE(LabelRef("done"))
	turn(true)
	f.Label("done")
	f.end()
}

// numbers returns what gives a register with an argument in all lanes: one
// that holds it throughout where there are enough, one just loaded elsewhere.
func (f *function) numbers(names ...string) func(name string) reg.VecVirtual {
	held := map[string]reg.VecVirtual{}
	if f.zmm() {
		for _, name := range names {
			held[name] = f.spread(name)
		}
	}
	return func(name string) reg.VecVirtual {
		if r, ok := held[name]; ok {
			return r
		}
		r := f.vec()
		f.VBROADCASTSS(f.field(name), r)
		return r
	}
}
