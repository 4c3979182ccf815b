package main

import (
	"fmt"
	"slices"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Rows of a tile are reached by addresses, so that a product, whose rows lie
// at equal distances, and a convolution, whose rows are pixels under a window,
// share one loop.
var tileArgs = &args{
	name: "tileArgs",
	doc: `is what a tile function reads. It lies in scratch and holds
// addresses as integers: the garbage collector does not look at them, so that
// one may point past an end, and the driver keeps what they point to alive.`,
	fields: []field{
		{"rows", "uintptr", "list of the addresses of rows: [segments][rowStep/8]"},
		{"rowStep", "uintptr", "bytes from one segment's list to the next"},
		{"segments", "uintptr", "how many"},
		{"from", "uintptr", "bytes that integer tiles add to each address"},
		{"order", "uintptr", "an int32 for each column: which 4 bytes of a row, from those at hand on, it reads; for tiles of groups"},
		{"steps", "uintptr", "in a segment, each of 4 bytes of a row"},
		{"weights", "uintptr", "[segments][steps][columns] of 4 bytes, or of a float16"},
		{"ahead", "uintptr", "the weights of the panel after this one, which the widest integer tiles bring into the second cache"},
		{"aheadStep", "uintptr", "bytes of them for each two steps"},
		{"bias", "uintptr", "a value for each column"},
		{"less", "uintptr", "an int32 for each row, taken off its sums, or 0: none"},
		{"scale", "uintptr", "float32 for each column, for modeF32 and modeInt8"},
		{"more", "uintptr", "first row of what is added to float sums, as far apart as out's, or 0: nothing"},
		{"out", "uintptr", "first row of the result"},
		{"ld", "uintptr", "bytes from one row of the result to the next"},
		{"tiles", "uintptr", "how many, at least 1"},
		{"mask", "uint64", "a bit for each column that is stored, where the tier has masks"},
		{"mode", "uint64", "modeInt32, modeF32, modeInt8 or modeInt8Wide"},
		{"lo", "float32", "bounds: of the requantised value before zero is added, or of the float result"},
		{"hi", "float32", "see lo"},
		{"zero", "int32", "zero point of the result"},
		{"least", "int32", "lower bound of a requantised value, zero added"},
		{"most", "int32", "upper bound"},
	},
}

// tileRowsInt8 are the heights of tiles; the table of a tier is indexed by
// position.
var tileRowsInt8 = []int{6, 4, 2, 1}

func tilesInt8(f *file) {
	for _, s := range []isa{avx512, avxvnni, avx2, grouped512, groupedVNNI, grouped256} {
		f.tileSetInt8(s)
	}
}

// tileSetInt8 emits all tiles of a tier and the table of them.
func (f *file) tileSetInt8(s isa) {
	table := &f.stubs.tables
	name := fmt.Sprintf("tiles%s%s", s.kind(), s.name)
	fmt.Fprintf(table, "\n// %s are the tiles by columns/%d-1 and by the rows of tileRowsInt8.\n", name, s.lanes)
	fmt.Fprintf(table, "var %s = tileSetInt8{lanes: %d, functions: []tileColumnInt8{\n", name, s.lanes)
	for columns := 1; columns*s.lanes <= tileColumns(s); columns++ {
		table.WriteString("\t{")
		for _, rows := range tileRowsInt8 {
			fmt.Fprintf(table, "%s, ", f.tile(s, rows, columns))
		}
		table.WriteString("},\n")
	}
	table.WriteString("}}\n")
}

// tileColumns is the width of the widest tile: 24 sums of 32 registers, 12 of
// 16. Tiles of groups are as wide as a register.
func tileColumns(s isa) int {
	if s.grouped {
		return s.lanes
	}
	if s.lanes == 16 {
		return 64
	}
	return 16
}

// sets returns how many sets of sums a tile keeps, to hide the latency of the
// dot product where there are few: at least 10 sums keep two units busy for 5
// cycles.
func (s isa) sets(rows, columns int) int {
	if s.dot == exact {
		return 1
	}
	switch n := rows * columns; {
	case n >= 8:
		return 1
	case n >= 4 || s.lanes == 8 && n >= 3:
		return 2
	}
	return 4
}

// tile emits a function for tiles of rows by columns*lanes sums.
func (file *file) tile(s isa, rows, columns int) string {
	name := fmt.Sprintf("tile%s_%dx%d_%s", s.kind(), rows, columns*s.lanes, s.name)
	sets := s.sets(rows, columns)
	f := file.function(name, s, tileArgs,
		fmt.Sprintf("computes tiles of %d rows by %d columns. Reference: gemm%sGeneric.", rows, columns*s.lanes, s.reference()),
		fmt.Sprintf("%d sums (%d sets of %d rows by %d registers) stay in registers while the depth passes;", rows*columns*sets, sets, rows, columns),
		fmt.Sprintf("each step loads %d registers of weights and spreads 4 bytes of each row over one more.", columns))
	masks := f.masks(columns)

	var ahead reg.Register
	if !s.float() && !s.grouped && columns*s.lanes == tileColumns(s) {
		ahead = f.value("ahead")
	}

	f.Label("tile")
	sums := f.start(rows, columns, sets)
	f.usesVecs("sums", slices.Concat(sums...)...)
	f.depth(sums, rows, columns, sets, ahead)
	for set := 1; set < sets; set++ {
		for r := range rows {
			for j := range columns {
				f.addSums(sums[r][j], sums[set*rows+r][j])
			}
		}
	}
	f.subtract(sums[:rows])
	f.store(sums[:rows], columns, masks)
	f.Comment("the next tile")
	f.ADDQ(Imm(uint64(8*rows)), f.field("rows"))
	f.DECQ(f.field("tiles"))
	f.JNZ(LabelRef("tile"))
	f.end()
	return name
}

// masks loads the masks of columns registers, where the tier has masks.
func (f *function) masks(columns int) []reg.Register {
	if !f.zmm() {
		return nil
	}
	var masks []reg.Register
	m := f.value("mask")
	for j := range columns {
		k := f.K()
		f.KMOVW(m.As32(), k)
		masks = append(masks, k)
		if j < columns-1 {
			f.SHRQ(Imm(16), m)
		}
	}
	return masks
}

func gps(list []reg.GPVirtual) []reg.Register {
	var r []reg.Register
	for _, v := range list {
		r = append(r, v)
	}
	return r
}

// start sets the sums to the bias, those of further sets to 0.
func (f *function) start(rows, columns, sets int) [][]reg.VecVirtual {
	bias := f.value("bias")
	sums := make([][]reg.VecVirtual, sets*rows)
	for i := range sums {
		sums[i] = f.vecs(columns)
		for j, v := range sums[i] {
			switch {
			case i == 0:
				f.load(Mem{Base: bias, Disp: j * f.bytes()}, v)
			case i < rows:
				f.load(sums[0][j], v)
			default:
				f.clear(v)
			}
		}
	}
	return sums
}

// depth adds all products. Large weights come from memory while the first
// tiles of a panel pass over them; with ahead set, those of the next panel come
// while this one is computed.
func (f *function) depth(sums [][]reg.VecVirtual, rows, columns, sets int, ahead reg.Register) {
	list, weights, segments := f.value("rows"), f.value("weights"), f.value("segments")
	row := make([]reg.GPVirtual, rows)
	for r := range row {
		row[r] = f.GP64()
	}
	at, steps := f.GP64(), f.GP64()
	f.uses("rows of the segment", gps(row)...)
	f.uses("at", at)
	f.uses("steps", steps)
	unroll := max(2, sets)
	var order reg.VecVirtual
	if f.grouped {
		order = f.vec()
		f.usesVecs("order of columns", order)
		f.MOVQ(f.field("order"), at)
		f.load(Mem{Base: at}, order)
	}

	step := func(i int) {
		b := f.vecs(columns)
		for j := range b {
			f.load(Mem{Base: weights, Disp: (i*columns + j) * f.bytes()}, b[j])
		}
		f.usesVecs("weights of a step", b...)
		for r := range row {
			a := f.vec()
			f.usesVecs("4 bytes of a row", a)
			from := Mem{Base: row[r], Index: at, Scale: 1, Disp: 4 * i}
			if f.grouped {
				f.VPERMD(from, order, a)
			} else {
				f.VPBROADCASTD(from, a)
			}
			for j := range b {
				f.multiplyAdd(a, b[j], sums[i%sets*rows+r][j])
			}
		}
	}
	advance := func(n int) {
		f.ADDQ(Imm(uint64(4*n)), at)
		f.ADDQ(U32(uint32(n*columns*f.bytes())), weights)
	}

	f.Label("segment")
	for r := range row {
		f.MOVQ(Mem{Base: list, Disp: 8 * r}, row[r])
	}
	f.ADDQ(f.field("rowStep"), list)
	if f.float() {
		f.XORQ(at, at)
	} else {
		f.MOVQ(f.field("from"), at)
	}
	f.MOVQ(f.field("steps"), steps)
	f.SUBQ(Imm(uint64(unroll)), steps)
	f.JL(LabelRef("few"))
	f.Label("steps")
	if ahead != nil {
		f.PREFETCHT1(Mem{Base: ahead})
		f.ADDQ(f.field("aheadStep"), ahead)
	}
	for i := range unroll {
		step(i)
	}
	advance(unroll)
	f.SUBQ(Imm(uint64(unroll)), steps)
	f.JGE(LabelRef("steps"))
	f.Label("few")
	f.ADDQ(Imm(uint64(unroll)), steps)
	f.JZ(LabelRef("next"))
	f.Label("one")
	step(0)
	advance(1)
	f.DECQ(steps)
	f.JNZ(LabelRef("one"))
	f.Label("next")
	f.DECQ(segments)
	f.JNZ(LabelRef("segment"))
}

// subtract takes what a zero point of the weights brought in off each row.
func (f *function) subtract(sums [][]reg.VecVirtual) {
	less := f.value("less")
	f.TESTQ(less, less)
	f.JZ(LabelRef("symmetric"))
	for r := range sums {
		v := f.vec()
		f.VPBROADCASTD(Mem{Base: less, Disp: 4 * r}, v)
		for _, sum := range sums[r] {
			f.VPSUBD(v, sum, sum)
		}
	}
	f.ADDQ(Imm(uint64(4*len(sums))), f.field("less"))
	f.Label("symmetric")
}

// store writes the sums of a tile as the mode wants them.
func (f *function) store(sums [][]reg.VecVirtual, columns int, masks []reg.Register) {
	out, ld, scale := f.value("out"), f.value("ld"), f.value("scale")
	f.CMPQ(f.field("mode"), Imm(1))
	f.JEQ(LabelRef("real"))
	f.JA(LabelRef("requantise"))
	f.stores(sums, out, ld, masks)
	f.JMP(LabelRef("stored"))

	f.Label("real")
	for j := range columns {
		s := f.vec()
		f.columnsOf(scale, j, masks, s)
		for r := range sums {
			f.VCVTDQ2PS(sums[r][j], sums[r][j])
			f.VMULPS(s, sums[r][j], sums[r][j])
		}
	}
	f.stores(sums, out, ld, masks)
	f.JMP(LabelRef("stored"))

	f.Label("requantise")
	s := f.vec()
	for j := range columns {
		f.load(Mem{Base: scale, Disp: j * f.bytes()}, s)
		for r := range sums {
			f.VCVTDQ2PS(sums[r][j], sums[r][j])
			f.VMULPS(s, sums[r][j], sums[r][j])
		}
	}
	f.CMPQ(f.field("mode"), Imm(2))
	f.JEQ(LabelRef("fits"))
	hi := f.vec()
	f.VBROADCASTSS(f.field("hi"), hi)
	for _, v := range slices.Concat(sums...) {
		f.VMINPS(hi, v, v)
	}
	f.Label("fits")
	for _, v := range slices.Concat(sums...) {
		f.VCVTPS2DQ(v, v)
	}
	f.storeBytes(sums, out, ld)
	f.Label("stored")
	f.MOVQ(out, f.field("out"))
}

// columnsOf loads register j of an array of 32-bit values, but for those that
// the mask leaves out: the array may end before them.
func (f *function) columnsOf(from reg.Register, j int, masks []reg.Register, v reg.VecVirtual) {
	m := Mem{Base: from, Disp: j * f.bytes()}
	if f.zmm() {
		f.VMOVUPS_Z(m, masks[j], v)
	} else {
		f.load(m, v)
	}
}

// stores writes rows of 32-bit values.
func (f *function) stores(rows [][]reg.VecVirtual, out, ld reg.Register, masks []reg.Register) {
	for _, row := range rows {
		for j, v := range row {
			m := Mem{Base: out, Disp: j * f.bytes()}
			if f.zmm() {
				f.VMOVUPS(v, masks[j], m)
			} else {
				f.VMOVUPS(v, m)
			}
		}
		f.ADDQ(ld, out)
	}
}

// round turns sums into whole numbers: times scale, at most hi, half to even
// as Go runs the CPU. What is below the range of int32 becomes the least, and
// stays far below every lower bound.
func (f *function) round(v reg.VecVirtual, scale Op, hi reg.VecVirtual) {
	f.VCVTDQ2PS(v, v)
	f.VMULPS(scale, v, v)
	f.VMINPS(hi, v, v)
	f.VCVTPS2DQ(v, v)
}

// storeBytes adds the zero point to rows of whole numbers and stores them as
// bytes. Packing saturates, to 16 and then to 8 bits, which changes nothing
// between the bounds. It also mixes the 128-bit lanes of what it packs,
// which are as many registers, of one row or several, as give one of bytes;
// a permutation puts them in order.
func (f *function) storeBytes(sums [][]reg.VecVirtual, out, ld reg.Register) {
	zero, least, most, order := f.vec(), f.vec(), f.vec(), f.vec()
	f.VPBROADCASTW(f.field("zero"), zero)
	f.VPBROADCASTB(f.field("least"), least)
	f.VPBROADCASTB(f.field("most"), most)
	f.load(f.order(), order)
	columns := len(sums[0])
	together := max(1, 4/columns) // rows
	var mask reg.Register
	if f.zmm() {
		mask = f.K()
		f.KMOVQ(f.field("mask"), mask)
	}
	for ; len(sums) > 0; sums = sums[min(together, len(sums)):] {
		rows := sums[:min(together, len(sums))]
		var v []reg.VecVirtual
		for _, row := range rows {
			v = append(v, row...)
		}
		for len(v) < 4 { // what fills up is not stored
			v = append(v, v[len(v)-1])
		}
		low, high := v[0], v[2]
		f.VPACKSSDW(v[1], v[0], low)
		f.VPADDSW(zero, low, low)
		if len(rows) > 1 || columns > 2 {
			f.VPACKSSDW(v[3], v[2], high)
			f.VPADDSW(zero, high, high)
		} else {
			high = low
		}
		f.VPACKSSWB(high, low, low)
		f.VPMAXSB(least, low, low)
		f.VPMINSB(most, low, low)
		f.VPERMD(low, order, low)
		f.storeParts(low, len(rows), columns, out, ld, mask)
	}
}

// storeParts stores the bytes of rows that lie one after the other in v.
func (f *function) storeParts(v reg.VecVirtual, rows, columns int, out, ld, mask reg.Register) {
	for r := range rows {
		part := v.AsX()
		if f.zmm() {
			switch columns {
			case 1:
				if r > 0 {
					part = f.XMM()
					f.VEXTRACTI32X4(Imm(uint64(r)), v, part)
				}
			case 2:
				part = v.AsY()
				if r > 0 {
					part = f.YMM()
					f.VEXTRACTI64X4(Imm(1), v, part)
				}
			default:
				part = v
			}
			f.VMOVDQU8(part, mask, Mem{Base: out})
			f.ADDQ(ld, out)
			continue
		}
		bytes := columns * f.lanes
		if at := r * bytes; at >= 16 {
			part = f.XMM()
			f.VEXTRACTI128(Imm(1), v, part)
		}
		switch {
		case bytes == 16:
			f.VMOVDQU(part, Mem{Base: out})
		case r%2 == 0:
			f.VMOVQ(part, Mem{Base: out})
		default:
			f.VPEXTRQ(Imm(1), part, Mem{Base: out})
		}
		f.ADDQ(ld, out)
	}
}

// order is the permutation that puts the 32-bit parts of four packed registers
// in order: part i of a lane belongs to register i.
func (f *function) order() Mem {
	parts := f.lanes / 4 // lanes of 128 bits
	return f.constant("order", func(i int) uint32 { return uint32(i%parts*4 + i/parts) })
}

// constant is a register's width of constants of 32 bits, kept once a file.
func (f *function) constant(name string, part func(i int) uint32) Mem {
	name = fmt.Sprintf("%s%d", name, f.lanes)
	if m, ok := f.constants[name]; ok {
		return m
	}
	m := f.StaticGlobal(name)
	f.DataAttributes(attr.RODATA | attr.NOPTR)
	for i := range f.lanes {
		f.AddDatum(4*i, U32(part(i)))
	}
	f.constants[name] = m
	return m
}
