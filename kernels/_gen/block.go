package main

import (
	"fmt"
	"math"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/gotypes"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// sweepBlock is how many float32 values a turn of the loops over rows takes:
// one register of AVX-512, two of AVX2. Sums have as many lanes.
const sweepBlock = 16

// sweep is a function over neighbouring float32 values, any number of them.
type sweep struct {
	*function
	n    reg.GPVirtual // how many are left
	mask []reg.Register
	held map[float32]block
}

// block are the registers that hold sweepBlock values. The methods of sweep that
// compute with blocks take operands in the order of the Go definition, return
// new registers, and round each step.
type block []reg.VecVirtual

// value is a block, or a float32 that stands for a block of it.
type value any

// sweepFunction begins a function of a signature.
func (file *file) sweepFunction(name, signature, doc string, s isa) *sweep {
	file.signed(name+s.name, signature, doc)
	return &sweep{function: &function{file: file, isa: s}, held: map[float32]block{}}
}

// param loads a parameter.
func (r *sweep) param(name string) reg.GPVirtual {
	p := r.GP64()
	r.Load(r.Param(name), p)
	r.uses(name, p)
	return p
}

// floatParam loads a float32 parameter into all of a block.
func (r *sweep) floatParam(name string) block {
	w := r.vec()
	r.VBROADCASTSS(r.place(r.Param(name)), w)
	r.usesVecs(name, w)
	return r.repeated(w)
}

// result stores a float32 result. (Load and Store of avo would use SSE.)
func (r *sweep) result(name string, x reg.VecVirtual) { r.VMOVSS(x, r.place(r.Return(name))) }

// place is where a parameter or a result lies.
func (r *sweep) place(c gotypes.Component) Mem {
	b, err := c.Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

// registers returns how many registers a block has.
func (r *sweep) registers() int { return sweepBlock / r.lanes }

// repeated is a block of one register over again.
func (r *sweep) repeated(v reg.VecVirtual) block {
	b := make(block, r.registers())
	for i := range b {
		b[i] = v
	}
	return b
}

// hold keeps constants in registers from here on: those that are the first
// operand of an instruction, which memory cannot be.
func (r *sweep) hold(list ...float32) {
	for _, c := range list {
		v := r.vec()
		r.VBROADCASTSS(r.number(c), v)
		r.usesVecs(fmt.Sprint(c), v)
		r.held[c] = r.repeated(v)
	}
}

// number is the memory of a constant, 8 times over.
func (f *file) number(c float32) Mem {
	bits := math.Float32bits(c)
	name := fmt.Sprintf("number%08x", bits)
	m, ok := f.constants[name]
	if !ok {
		m = f.StaticGlobal(name)
		f.DataAttributes(attr.RODATA | attr.NOPTR)
		for i := range 8 {
			f.AddDatum(4*i, U32(bits))
		}
		f.constants[name] = m
	}
	return m
}

// fresh returns a new block.
func (r *sweep) fresh() block { return block(r.vecs(r.registers())) }

// fixed returns a block of a constant, of which all registers are the same.
func (r *sweep) fixed(c float32) block {
	if b := r.held[c]; b != nil {
		return b
	}
	v := r.vec()
	r.VBROADCASTSS(r.number(c), v)
	return r.repeated(v)
}

// set returns a block of a constant that lives through a loop.
func (r *sweep) set(c float32) block {
	b := r.fresh()
	for _, v := range b {
		if c == 0 {
			r.clear(v)
		} else {
			r.VBROADCASTSS(r.number(c), v)
		}
	}
	return b
}

// each emits one instruction a register: plain takes the operand b, bcst the
// memory of a constant where the tier reads one value for all lanes.
func (r *sweep) each(a, b value, plain, bcst func(ops ...Op)) block {
	x, ok := a.(block)
	if !ok {
		x = r.held[a.(float32)]
	}
	out := r.fresh()
	for i := range out {
		c, constant := b.(float32)
		switch held := r.held[c]; {
		case !constant:
			plain(b.(block)[i], x[i], out[i])
		case held != nil:
			plain(held[i], x[i], out[i])
		case r.zmm():
			bcst(r.number(c), x[i], out[i])
		default:
			plain(r.number(c), x[i], out[i])
		}
	}
	return out
}

func (r *sweep) add(a, b value) block { return r.each(a, b, r.VADDPS, r.VADDPS_BCST) }
func (r *sweep) sub(a, b value) block { return r.each(a, b, r.VSUBPS, r.VSUBPS_BCST) }
func (r *sweep) mul(a, b value) block { return r.each(a, b, r.VMULPS, r.VMULPS_BCST) }
func (r *sweep) div(a, b value) block { return r.each(a, b, r.VDIVPS, r.VDIVPS_BCST) }

// most and least return b where a is NaN, or where both are 0.
func (r *sweep) most(a, b value) block  { return r.each(a, b, r.VMAXPS, r.VMAXPS_BCST) }
func (r *sweep) least(a, b value) block { return r.each(a, b, r.VMINPS, r.VMINPS_BCST) }

// bound is bound of exp.go: NaN, the second operand, stays. lo and hi are
// held.
func (r *sweep) bound(x block, lo, hi float32) block { return r.least(hi, r.most(lo, x)) }

// negative changes the sign.
func (r *sweep) negative(x block) block {
	minus := float32(math.Copysign(0, -1))
	if r.zmm() {
		return r.each(x, minus, r.VXORPS, r.VXORPS_BCST)
	}
	return r.each(x, minus, r.VXORPS, nil)
}

// horner returns c[0]*x^k + c[1]*x^(k-1) + ... for k+1 constants.
func (r *sweep) horner(x block, c ...float32) block {
	p := r.mul(x, c[0])
	for i, k := range c[1:] {
		p = r.add(p, k)
		if i < len(c)-2 {
			p = r.mul(p, x)
		}
	}
	return p
}

// shifted returns the bits of x shifted by n to the left, or to the right.
func (r *sweep) shifted(x block, n int) block {
	out := r.fresh()
	for i := range out {
		if n > 0 {
			r.VPSLLD(Imm(uint64(n)), x[i], out[i])
		} else {
			r.VPSRLD(Imm(uint64(-n)), x[i], out[i])
		}
	}
	return out
}

// signed returns the bits of x shifted by n to the right, copies of the sign
// coming in.
func (r *sweep) signed(x block, n int) block {
	out := r.fresh()
	for i := range out {
		r.VPSRAD(Imm(uint64(n)), x[i], out[i])
	}
	return out
}

// floats returns integers as float32.
func (r *sweep) floats(x block) block {
	out := r.fresh()
	for i := range out {
		r.VCVTDQ2PS(x[i], out[i])
	}
	return out
}

// minusBits, plusBits and andBits take bits as integers.
func (r *sweep) minusBits(a, b value) block { return r.each(a, b, r.VPSUBD, r.VPSUBD_BCST) }
func (r *sweep) plusBits(a, b value) block  { return r.each(a, b, r.VPADDD, r.VPADDD_BCST) }
func (r *sweep) andBits(a, b value) block {
	if r.zmm() {
		return r.each(a, b, r.VPANDD, r.VPANDD_BCST)
	}
	return r.each(a, b, func(ops ...Op) { r.VPAND(ops[0], ops[1], ops[2]) }, nil)
}

// ifLess returns yes where x < than, which is held, no elsewhere and for NaN.
func (r *sweep) ifLess(x block, than float32, yes, no block) block {
	out, bound := r.fresh(), r.held[than]
	for i := range out {
		if r.zmm() {
			k := r.K()
			r.VCMPPS(Imm(17), bound[i], x[i], k) // 17: less, quietly
			r.VBLENDMPS(yes[i], no[i], k, out[i])
		} else {
			m := r.vec()
			r.VCMPPS(Imm(17), bound[i], x[i], m)
			r.VBLENDVPS(m, yes[i], no[i], out[i])
		}
	}
	return out
}

// load reads a block, of which only the lanes of the mask exist where masked;
// the others are 0.
func (r *sweep) load(from reg.GPVirtual, masked bool) block {
	out := r.fresh()
	for i := range out {
		switch m := (Mem{Base: from, Disp: i * r.bytes()}); {
		case !masked:
			r.VMOVUPS(m, out[i])
		case r.zmm():
			r.VMOVUPS_Z(m, r.mask[0], out[i])
		default:
			r.VMASKMOVPS(m, r.mask[i], out[i])
		}
	}
	return out
}

// store writes a block: see load.
func (r *sweep) store(x block, to reg.GPVirtual, masked bool) {
	for i := range x {
		switch m := (Mem{Base: to, Disp: i * r.bytes()}); {
		case !masked:
			r.VMOVUPS(x[i], m)
		case r.zmm():
			r.VMOVUPS(x[i], r.mask[0], m)
		default:
			r.VMASKMOVPS(x[i], r.mask[i], m)
		}
	}
}

// only returns x in the lanes of the mask, other in the rest.
func (r *sweep) only(x, other block) block {
	out := r.fresh()
	for i := range out {
		if r.zmm() {
			r.VBLENDMPS(x[i], other[i], r.mask[0], out[i])
		} else {
			r.VBLENDVPS(r.mask[i], x[i], other[i], out[i])
		}
	}
	return out
}

// accumulate combines x with b, which lives through a loop and is the second
// operand: what VMAXPS and VMINPS keep where x is NaN.
func (r *sweep) accumulate(op func(ops ...Op), b, x block) {
	for i := range b {
		op(b[i], x[i], b[i])
	}
}

// folded combines the lanes of a block in pairs, as laneSums does, and returns
// a register whose first lane is the result.
func (r *sweep) folded(b block, op func(ops ...Op)) reg.VecVirtual {
	half, quarter, other := r.YMM(), r.XMM(), r.XMM()
	if r.zmm() {
		high := r.YMM()
		r.VEXTRACTF64X4(Imm(1), b[0], high)
		op(high, b[0].AsY(), half)
		r.VEXTRACTF32X4(Imm(1), half, other)
	} else {
		op(b[1], b[0], half)
		r.VEXTRACTF128(Imm(1), half, other)
	}
	op(other, half.AsX(), quarter)
	r.VMOVHLPS(quarter, quarter, other)
	op(other, quarter, quarter)
	r.VMOVSHDUP(quarter, other)
	op(other, quarter, quarter)
	return quarter
}

// all is a block of a register's first lane.
func (r *sweep) all(x reg.VecVirtual) block {
	v := r.vec()
	r.VBROADCASTSS(x, v)
	return r.repeated(v)
}

// tail makes the mask of the n values left, 0 < n < sweepBlock.
func (r *sweep) tail() {
	if r.zmm() {
		bits, k := r.GP64(), r.K()
		r.MOVQ(I64(-1), bits)
		r.BZHIQ(r.n, bits, bits)
		r.KMOVQ(bits, k)
		r.mask = []reg.Register{k}
		return
	}
	at := r.GP64()
	r.LEAQ(r.tailMasks(), at)
	left := r.GP64()
	r.MOVQ(r.n, left)
	r.SHLQ(Imm(2), left)
	r.SUBQ(left, at)
	r.mask = nil
	for i := range r.registers() { // n words before the zeros begins the first mask
		v := r.vec()
		r.VMOVUPS(Mem{Base: at, Disp: 4*sweepBlock + i*r.bytes()}, v)
		r.mask = append(r.mask, v)
	}
}

// tailMasks are sweepBlock words of ones and as many of zeros.
func (f *file) tailMasks() Mem {
	m, ok := f.constants["masks"]
	if !ok {
		m = f.StaticGlobal("masks")
		f.DataAttributes(attr.RODATA | attr.NOPTR)
		for i := range 2 * sweepBlock {
			bits := uint32(0)
			if i < sweepBlock {
				bits = math.MaxUint32
			}
			f.AddDatum(4*i, U32(bits))
		}
		f.constants["masks"] = m
	}
	return m
}

// blocks emits a loop over the values that are left: body gets whole blocks,
// and what is left over as a masked one, and moves its addresses on itself
// (advance).
func (r *sweep) blocks(label string, body func(masked bool)) {
	r.SUBQ(Imm(sweepBlock), r.n)
	r.JL(LabelRef(label + "Tail"))
	r.Label(label)
	body(false)
	r.SUBQ(Imm(sweepBlock), r.n)
	r.JGE(LabelRef(label))
	r.Label(label + "Tail")
	r.ADDQ(Imm(sweepBlock), r.n)
	r.JZ(LabelRef(label + "Done"))
	r.tail()
	body(true)
	r.Label(label + "Done")
}

// advance moves addresses on by a block.
func (r *sweep) advance(list ...reg.GPVirtual) {
	for _, p := range list {
		r.ADDQ(Imm(4*sweepBlock), p)
	}
}
