package main

import (
	"fmt"
	"slices"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// A tile of float32 is narrow and tall: a panel of weights comes from the
// second cache or from memory, and passes once for as many rows as there are
// registers. Each row has a register for its address, so that a tile of 14
// takes all there are but one; what else a tile keeps is in its frame.
//
//	frame  list of the segment | segments left | steps left

func tilesF32(f *file) {
	for _, s := range []isa{fused512, exact512, fused256, exact256} {
		f.tileSetF32(s)
	}
}

func tilesF16(f *file) {
	for _, s := range []isa{half512, half256} {
		f.tileSetF32(s)
	}
}

// mostRows and mostColumns, in registers, are the size of a tier's largest
// float tile: 28 sums of 32 registers, 12 of 16.
func (s isa) mostRows() int {
	if s.lanes == 16 {
		return 14
	}
	return 6
}

const mostColumns = 2

// tileSetF32 emits tiles of every height and width, and the table of them.
func (f *file) tileSetF32(s isa) {
	table := &f.stubs.tables
	name := fmt.Sprintf("tiles%s%s", s.kind(), s.name)
	fmt.Fprintf(table, "\n// %s are the tiles by columns/%d-1 and rows-1.\n", name, s.lanes)
	fmt.Fprintf(table, "var %s = tileSetF32{lanes: %d, functions: [][]func(*tileArgs){\n", name, s.lanes)
	for columns := 1; columns <= mostColumns; columns++ {
		table.WriteString("\t{\n")
		for rows := 1; rows <= s.mostRows(); rows++ {
			fmt.Fprintf(table, "\t\t%s,\n", f.tileF32(s, rows, columns))
		}
		table.WriteString("\t},\n")
	}
	table.WriteString("}}\n")
}

// tileF32 emits a function for tiles of rows by columns*lanes sums.
func (file *file) tileF32(s isa, rows, columns int) string {
	name := fmt.Sprintf("tile%s_%dx%d_%s", s.kind(), rows, columns*s.lanes, s.name)
	sets := s.sets(rows, columns)
	f := file.function(name, s, tileArgs,
		fmt.Sprintf("computes tiles of %d rows by %d columns. Reference: gemmF32Generic.", rows, columns*s.lanes),
		fmt.Sprintf("%d sums (%d sets of %d rows by %d registers) stay in registers while the depth passes;", rows*columns*sets, sets, rows, columns),
		fmt.Sprintf("each step loads %d registers of weights and spreads a value of each row over one more.", columns))
	masks := f.masks(columns)
	f.Label("tile")
	f.reload()
	sums := f.start(rows, columns, sets)
	f.usesVecs("sums", slices.Concat(sums...)...)
	f.depthF32(sums, rows, columns, sets)
	for set := 1; set < sets; set++ {
		for r := range rows {
			for j := range columns {
				f.addSums(sums[r][j], sums[set*rows+r][j])
			}
		}
	}
	f.reload()
	f.storeF32(sums[:rows], masks)
	f.Comment("the next tile")
	f.ADDQ(Imm(uint64(8*rows)), f.field("rows"))
	f.DECQ(f.field("tiles"))
	f.JNZ(LabelRef("tile"))
	f.end()
	return name
}

// reload loads the address of the arguments again.
func (f *function) reload() {
	f.base = f.Load(f.Param("args"), f.GP64())
	f.uses("args", f.base)
}

// depthF32 adds all products. No other register than rows and weights lives
// in the loop over steps.
func (f *function) depthF32(sums [][]reg.VecVirtual, rows, columns, sets int) {
	frame := f.AllocLocal(24)
	list, segments, left := frame, frame.Offset(8), frame.Offset(16)
	unroll := 4
	if rows >= f.mostRows()/2 {
		unroll = 2
	}
	copyTo := func(field string, to Mem) {
		t := f.GP64()
		f.MOVQ(f.field(field), t)
		f.MOVQ(t, to)
	}
	copyTo("rows", list)
	copyTo("segments", segments)
	weights := f.value("weights")
	row := make([]reg.GPVirtual, rows)
	for r := range row {
		row[r] = f.GP64()
	}
	f.uses("rows of the segment", gps(row)...)

	step := func(i int) {
		b := f.vecs(columns)
		for j := range b {
			at := Mem{Base: weights, Disp: (i*columns + j) * f.weightBytes()}
			if f.half {
				f.VCVTPH2PS(at, b[j])
			} else {
				f.load(at, b[j])
			}
		}
		f.usesVecs("weights of a step", b...)
		for r := range row {
			a := f.vec()
			f.usesVecs("a value of a row", a)
			f.VBROADCASTSS(Mem{Base: row[r], Disp: 4 * i}, a)
			for j := range b {
				f.multiplyAdd(a, b[j], sums[i%sets*rows+r][j])
			}
		}
	}
	advance := func(n int) {
		for _, r := range row {
			f.ADDQ(Imm(uint64(4*n)), r)
		}
		f.ADDQ(U32(uint32(n*columns*f.weightBytes())), weights)
	}

	f.Label("segment")
	f.reload()
	copyTo("steps", left)
	at, next := f.GP64(), f.GP64()
	f.MOVQ(list, at)
	f.MOVQ(f.field("rowStep"), next)
	f.ADDQ(at, next)
	f.MOVQ(next, list)
	for r := range row {
		f.MOVQ(Mem{Base: at, Disp: 8 * r}, row[r])
	}
	f.SUBQ(Imm(uint64(unroll)), left)
	f.JL(LabelRef("few"))
	f.Label("steps")
	for i := range unroll {
		step(i)
	}
	f.prefetch(weights, unroll*columns*f.weightBytes())
	advance(unroll)
	f.SUBQ(Imm(uint64(unroll)), left)
	f.JGE(LabelRef("steps"))
	f.Label("few")
	f.ADDQ(Imm(uint64(unroll)), left)
	f.JZ(LabelRef("next"))
	f.Label("one")
	step(0)
	advance(1)
	f.DECQ(left)
	f.JNZ(LabelRef("one"))
	f.Label("next")
	f.DECQ(segments)
	f.JNZ(LabelRef("segment"))
}

// ahead is how far before their use weights are asked for, in bytes: beyond
// the page, where the prefetchers of most CPUs stop, and as long before as
// memory takes to answer.
const ahead = 8192

// prefetch asks for n bytes of the weights that come next.
func (f *function) prefetch(weights reg.Register, n int) {
	for i := 0; i < n; i += 64 {
		f.PREFETCHT0(Mem{Base: weights, Disp: ahead + i})
	}
}

// weightBytes is what a register of weights takes in memory.
func (f *function) weightBytes() int {
	if f.half {
		return f.bytes() / 2
	}
	return f.bytes()
}

// storeF32 adds what there is to add to the sums of a tile, bounds them and
// writes them. Where one operand is NaN, VMAXPS and VMINPS return the first of
// their operands as written here, which is the sum: NaN stays NaN.
func (f *function) storeF32(sums [][]reg.VecVirtual, masks []reg.Register) {
	out, ld, more := f.value("out"), f.value("ld"), f.value("more")
	f.TESTQ(more, more)
	f.JZ(LabelRef("alone"))
	for _, row := range sums {
		for j, v := range row {
			m := Mem{Base: more, Disp: j * f.bytes()}
			if f.zmm() {
				f.VADDPS(m, v, masks[j], v)
			} else {
				f.VADDPS(m, v, v)
			}
		}
		f.ADDQ(ld, more)
	}
	f.MOVQ(more, f.field("more"))
	f.Label("alone")
	lo, hi := f.vec(), f.vec()
	f.VBROADCASTSS(f.field("lo"), lo)
	f.VBROADCASTSS(f.field("hi"), hi)
	for _, row := range sums {
		for _, v := range row {
			f.VMAXPS(v, lo, v)
			f.VMINPS(v, hi, v)
		}
	}
	f.stores(sums, out, ld, masks)
	f.MOVQ(out, f.field("out"))
}
