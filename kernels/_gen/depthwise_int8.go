package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// A depthwise convolution has one product per tap and channel, so nothing can
// be spread over columns. The vectors of some taps are interleaved instead, so
// that the taps of a channel lie side by side, as the dot products want them:
// 4 bytes, or 2 words. Interleaving mixes up the channels of a block; weights,
// bias and scale lie in that order, and packing the results undoes it.
var depthwiseArgs = &args{
	name: "depthwiseArgs",
	doc:  "is what a depthwise function reads. See tileArgs.",
	fields: []field{
		{"taps", "uintptr", "addresses of the taps of each row's first pixel: [rows][groups][4 or 2], or of the rows of the kernel: [rows][kernel]"},
		{"groups", "uintptr", "how many"},
		{"terms", "uintptr", "how many weights of a tap are added up to one"},
		{"weights", "uintptr", "[blocks][groups][terms][4 registers]"},
		{"bias", "uintptr", "[blocks][4 registers]"},
		{"scale", "uintptr", "[blocks][4 registers], float32"},
		{"out", "uintptr", "first pixel of the result; rows follow one another"},
		{"outStep", "uintptr", "bytes from one pixel of the result to the next"},
		{"inStep", "uintptr", "bytes from a pixel's tap to that of the next, or from column to column"},
		{"pixels", "uintptr", "how many in a row"},
		{"rows", "uintptr", "how many, for the integer functions"},
		{"row", "uintptr", "the taps of the row at hand, and"},
		{"rowsLeft", "uintptr", "how many there are from it on: functions keep both here"},
		{"blocks", "uintptr", "of 4 registers of channels; counted down"},
		{"mask", "uint64", "a bit for each channel of the last block, where the tier has masks"},
		{"lo", "float32", "lower bound of a float result"},
		{"hi", "float32", "upper bound, of a requantised value before zero is added"},
		{"zero", "int32", "zero point of the result"},
		{"least", "int32", "lower bound of a requantised value, zero added"},
	},
}

func depthwiseInt8(f *file) {
	for _, s := range []isa{avx512, avxvnni, avx2} {
		f.depthwise(s)
	}
	table := &f.stubs.tables
	table.WriteString("\n// depthwiseColumnsAVX512 are kernels of fixed sizes and strides.\n")
	table.WriteString("var depthwiseColumnsAVX512 = []depthwiseColumns{\n")
	for _, k := range []struct{ kernel, stride, terms int }{
		{3, 1, 1}, {3, 2, 1}, {3, 4, 1}, {3, 8, 1}, {3, 1, 2}, {3, 2, 2}, {5, 1, 1}, {5, 2, 1}, {5, 1, 2}, {5, 2, 2},
	} {
		fmt.Fprintf(table, "\t{%d, %d, %d, %s},\n", k.kernel, k.stride, k.terms, f.depthwiseColumns(avx512, k.kernel, k.stride, k.terms))
	}
	table.WriteString("}\n")
}

// tapBytes is what the channels of a block take in one tap.
func (f *function) tapBytes() int {
	if f.dot == dotWords {
		return 2 * f.bytes()
	}
	return f.bytes()
}

// depthwise emits the function for any kernel: taps are reached by addresses.
func (file *file) depthwise(s isa) {
	f := file.function("depthwiseInt8_"+s.name, s, depthwiseArgs,
		fmt.Sprintf("computes rows of pixels, %d channels at once. Reference: depthwiseInt8Generic.", 4*s.lanes),
		"4 registers of sums pass over the groups of taps; each group is interleaved first.")
	x := f.depthwiseBegin()
	at, left, out := f.GP64(), f.GP64(), f.GP64()
	f.uses("at", at)
	f.uses("pixels left", left)
	f.uses("out", out)
	x.firstRow()
	f.MOVQ(x.out, out)
	f.Label("row")
	f.MOVQ(f.field("pixels"), left)
	f.MOVQ(x.offset, at)

	f.Label("pixel")
	sums := f.vecs(4)
	f.usesVecs("sums", sums...)
	x.start(sums)
	list, groups, weights := f.value("row"), f.value("groups"), f.GP64()
	f.MOVQ(x.weights, weights)
	f.Label("group")
	taps := 4
	if f.dot == dotWords {
		taps = 2
	}
	var v []reg.VecVirtual
	address := f.GP64()
	for i := range taps {
		f.MOVQ(Mem{Base: list, Disp: 8 * i}, address)
		for half := range f.tapBytes() / f.bytes() {
			r := f.vec()
			f.usesVecs("tap", r)
			f.load(Mem{Base: address, Index: at, Scale: 1, Disp: half * f.bytes()}, r)
			v = append(v, r)
		}
	}
	v = f.interleave(v)
	terms := f.value("terms")
	f.Label("term")
	for j, r := range v {
		f.multiplyAdd(r, Mem{Base: weights, Disp: j * f.bytes()}, sums[j])
	}
	f.ADDQ(U32(uint32(4*f.bytes())), weights)
	f.DECQ(terms)
	f.JNZ(LabelRef("term"))
	f.ADDQ(Imm(uint64(8*taps)), list)
	f.DECQ(groups)
	f.JNZ(LabelRef("group"))
	x.finish(sums, out)
	f.ADDQ(f.field("outStep"), out)
	f.ADDQ(f.field("inStep"), at)
	f.DECQ(left)
	f.JNZ(LabelRef("pixel"))

	f.MOVQ(list, f.field("row")) // where the last group's taps ended
	f.DECQ(f.field("rowsLeft"))
	f.JNZ(LabelRef("row"))
	f.MOVQ(weights, x.weights) // where the last group ended
	x.nextBlock()
	f.end()
}

// depthwiseColumns emits the function for a square kernel of a size and a
// stride: its taps are rows, of which a column of pixels is interleaved once
// and then added to all output pixels whose window holds it.
//
// Output pixel o reads columns o*stride to o*stride+kernel-1. Sums of pixel o
// are in set o mod live; the loop is unrolled live times, so that sets have
// fixed registers. The weights of the smallest kernel stay in registers too.
//
// What the function calls a pixel may be several: where a block has room for
// the channels of p neighbours, a kernel of stride 1 is one of stride p that
// reads and writes p pixels at once, each with the same weights.
func (file *file) depthwiseColumns(s isa, kernel, stride, terms int) string {
	name := fmt.Sprintf("depthwiseInt8_%dx%ds%dt%d_%s", kernel, kernel, stride, terms, s.name)
	live := (kernel + stride - 1) / stride
	f := file.function(name, s, depthwiseArgs,
		fmt.Sprintf("computes rows of pixels with a %dx%d kernel at stride %d, %d terms; taps are its rows. Reference: depthwiseInt8Generic.", kernel, kernel, stride, terms),
		fmt.Sprintf("%d sets of 4 registers of sums, for the pixels whose windows hold the column at hand.", live))
	x := f.depthwiseBegin()
	row := make([]reg.GPVirtual, kernel)
	for i := range row {
		row[i] = f.GP64()
	}
	at, left, out := f.GP64(), f.GP64(), f.GP64()
	sums := make([][]reg.VecVirtual, live)
	for i := range sums {
		sums[i] = f.vecs(4)
		f.usesVecs(fmt.Sprintf("sums of pixels %d, %d, ...", i, i+live), sums[i]...)
	}
	f.uses("rows", gps(row)...)
	f.uses("at", at)
	f.uses("pixels left", left)
	f.uses("out", out)
	groups := (kernel + 3) / 4
	weights := make([]Op, kernel*groups*terms*4)
	for i := range weights {
		weights[i] = Mem{Base: x.weights, Disp: i * f.bytes()}
	}
	// column adds column c to the pixels that hold it, first up to last.
	column := func(c, first, last int) {
		for g := range groups {
			v := make([]reg.VecVirtual, min(4, kernel-4*g))
			for i := range v {
				v[i] = f.vec()
				f.usesVecs("column", v[i])
				f.load(Mem{Base: row[4*g+i], Index: at, Scale: 1}, v[i])
			}
			taps := f.interleave(v)
			for o := first; o <= last; o++ {
				tap := c - o*stride
				if tap < 0 || tap >= kernel {
					continue
				}
				if tap == 0 && g == 0 {
					x.start(sums[o%live])
				}
				for i := range 4 * terms {
					f.multiplyAdd(taps[i%4], weights[(tap*groups+g)*4*terms+i], sums[o%live][i%4])
				}
			}
		}
		f.ADDQ(f.field("inStep"), at)
	}

	x.firstRow()
	if len(weights) <= 12 {
		for i, m := range weights {
			r := f.vec()
			f.usesVecs("weights", r)
			f.load(m, r)
			weights[i] = r
		}
	}
	f.MOVQ(x.out, out)
	f.Label("row")
	list := f.value("row")
	for i := range row {
		f.MOVQ(Mem{Base: list, Disp: 8 * i}, row[i])
	}
	f.ADDQ(Imm(uint64(8*kernel)), f.field("row"))
	f.MOVQ(x.offset, at)
	f.MOVQ(f.field("pixels"), left)
	for c := range kernel - stride {
		column(c, 0, live)
	}
	f.Label("pixels")
	for o := range live {
		for c := o*stride + max(0, kernel-stride); c < o*stride+kernel; c++ {
			column(c, o, o+live)
		}
		for range stride - kernel { // columns that no window holds
			f.ADDQ(f.field("inStep"), at)
		}
		x.finish(sums[o], out)
		f.ADDQ(f.field("outStep"), out)
		f.DECQ(left)
		if o < live-1 {
			f.JZ(LabelRef("nextRow"))
		}
	}
	f.JNZ(LabelRef("pixels"))
	f.Label("nextRow")
	f.DECQ(f.field("rowsLeft"))
	f.JNZ(LabelRef("row"))
	f.ADDQ(U32(uint32(kernel*groups*terms*4*f.bytes())), x.weights)
	x.nextBlock()
	f.end()
	return name
}

// interleave puts the taps of each channel side by side: of 4 bytes, or of 2
// words of two registers each. Where there are 3 taps or 1, those that are
// missing repeat others, and have weights of 0. It changes v.
func (f *function) interleave(v []reg.VecVirtual) []reg.VecVirtual {
	o := f.vecs(4)
	if f.dot == dotWords {
		for half := range 2 {
			f.VPUNPCKLWD(v[2+half], v[half], o[2*half])
			f.VPUNPCKHWD(v[2+half], v[half], o[2*half+1])
		}
		return o
	}
	pair := func(v []reg.VecVirtual) (lo, hi reg.VecVirtual) {
		lo, hi = f.vec(), f.vec()
		f.VPUNPCKLBW(v[len(v)-1], v[0], lo)
		f.VPUNPCKHBW(v[len(v)-1], v[0], hi)
		return lo, hi
	}
	lo, hi := pair(v[:min(2, len(v))])
	lo2, hi2 := lo, hi
	if len(v) > 2 {
		lo2, hi2 = pair(v[2:])
	}
	f.VPUNPCKLWD(lo2, lo, o[0])
	f.VPUNPCKHWD(lo2, lo, o[1])
	f.VPUNPCKLWD(hi2, hi, o[2])
	f.VPUNPCKHWD(hi2, hi, o[3])
	return o
}

// depthwiseLoop is what depthwise functions share: blocks of channels, and
// what becomes of sums.
type depthwiseLoop struct {
	*function
	offset               reg.GPVirtual
	weights, bias, scale reg.GPVirtual
	out                  reg.GPVirtual
	mask                 reg.Register
	least, hi, zero      reg.VecVirtual
}

func (f *function) depthwiseBegin() *depthwiseLoop {
	x := &depthwiseLoop{
		function: f, offset: f.GP64(), weights: f.value("weights"),
		bias: f.value("bias"), scale: f.value("scale"), out: f.value("out"),
	}
	f.XORQ(x.offset, x.offset)
	if f.zmm() {
		x.mask = f.K()
	}
	x.least, x.hi, x.zero = f.vec(), f.vec(), f.vec()
	f.VPBROADCASTB(f.field("least"), x.least)
	f.VBROADCASTSS(f.field("hi"), x.hi)
	f.VPBROADCASTW(f.field("zero"), x.zero)
	f.uses("channels passed", x.offset)
	f.usesVecs("least", x.least)
	f.usesVecs("hi", x.hi)
	f.usesVecs("zero", x.zero)
	return x
}

// firstRow begins a block at its first row. The mask is of all channels, but
// for the last block.
func (x *depthwiseLoop) firstRow() {
	x.Label("block")
	tmp := x.GP64()
	x.MOVQ(x.field("taps"), tmp)
	x.MOVQ(tmp, x.field("row"))
	x.MOVQ(x.field("rows"), tmp)
	x.MOVQ(tmp, x.field("rowsLeft"))
	if x.mask == nil {
		return
	}
	all := x.GP64()
	x.MOVQ(I64(-1), all)
	x.CMPQ(x.field("blocks"), Imm(1))
	x.CMOVQEQ(x.field("mask"), all)
	x.KMOVQ(all, x.mask)
}

// start sets sums to the bias.
func (x *depthwiseLoop) start(sums []reg.VecVirtual) {
	for j, v := range sums {
		x.load(Mem{Base: x.bias, Disp: j * x.bytes()}, v)
	}
}

// finish requantises the sums of a pixel and stores them.
func (x *depthwiseLoop) finish(v []reg.VecVirtual, out reg.Register) {
	for j := range v {
		x.round(v[j], Mem{Base: x.scale, Disp: j * x.bytes()}, x.hi)
	}
	x.VPACKSSDW(v[1], v[0], v[0])
	x.VPACKSSDW(v[3], v[2], v[2])
	x.VPADDSW(x.zero, v[0], v[0])
	x.VPADDSW(x.zero, v[2], v[2])
	x.VPACKSSWB(v[2], v[0], v[0])
	x.VPMAXSB(x.least, v[0], v[0])
	if x.dot == dotWords {
		x.VPERMQ(Imm(0xd8), v[0], v[0])
	}
	if x.mask != nil {
		x.VMOVDQU8(v[0], x.mask, Mem{Base: out})
	} else {
		x.VMOVDQU(v[0], Mem{Base: out})
	}
}

// nextBlock moves on by a block of channels, to firstRow's label, as long as
// there is one.
func (x *depthwiseLoop) nextBlock() {
	x.ADDQ(U32(uint32(x.tapBytes())), x.offset)
	x.ADDQ(U32(uint32(4*x.bytes())), x.bias)
	x.ADDQ(U32(uint32(4*x.bytes())), x.scale)
	x.ADDQ(Imm(uint64(x.bytes())), x.out)
	x.DECQ(x.field("blocks"))
	x.JNZ(LabelRef("block"))
}
