package main

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// isa is what differs between tiers: how wide a register is, and how a step of
// a product is added to a sum. The methods of function below hide it.
type isa struct {
	name  string
	lanes int // 32-bit values in a register: 16 (zmm) or 8 (ymm)
	dot   dot
	half  bool // weights are float16, widened while they are loaded
}

// dot is how sums grow.
type dot int

const (
	none     dot = iota
	dotBytes     // four products of uint8 and int8: VPDPBUSD
	dotWords     // two products of int16: VPMADDWD, VPADDD
	fused        // one product of float32: VFMADD231PS
	exact        // one product of float32, rounded, then added
)

var (
	avx512  = isa{name: "AVX512", lanes: 16, dot: dotBytes}
	avxvnni = isa{name: "AVXVNNI", lanes: 8, dot: dotBytes}
	avx2    = isa{name: "AVX2", lanes: 8, dot: dotWords}

	fused512 = isa{name: "AVX512", lanes: 16, dot: fused}
	fused256 = isa{name: "AVX2", lanes: 8, dot: fused}
	exact512 = isa{name: "AVX512", lanes: 16, dot: exact}
	exact256 = isa{name: "AVX2", lanes: 8, dot: exact}

	plain512 = isa{name: "AVX512", lanes: 16}
	plain256 = isa{name: "AVX2", lanes: 8}

	half512 = isa{name: "AVX512", lanes: 16, dot: fused, half: true}
	half256 = isa{name: "AVX2", lanes: 8, dot: fused, half: true}
)

func (s isa) float() bool { return s.dot == fused || s.dot == exact }

// reference is the part of the name that the generic functions share.
func (s isa) reference() string {
	if s.float() {
		return "F32"
	}
	return "Int8"
}

// kind is how names say what a tier multiplies.
func (s isa) kind() string {
	if s.half {
		return "F16"
	}
	switch s.dot {
	case fused:
		return "F32"
	case exact:
		return "ExactF32"
	}
	return "Int8"
}

func (f *function) zmm() bool { return f.lanes == 16 }

// bytes is the width of a register.
func (f *function) bytes() int { return 4 * f.lanes }

// vec returns a register.
func (f *function) vec() reg.VecVirtual {
	if f.zmm() {
		return f.ZMM()
	}
	return f.YMM()
}

// vecs returns n registers.
func (f *function) vecs(n int) []reg.VecVirtual {
	v := make([]reg.VecVirtual, n)
	for i := range v {
		v[i] = f.vec()
	}
	return v
}

// load copies a register's width, from memory or a register.
func (f *function) load(from operand.Op, to operand.Op) { f.VMOVUPS(from, to) }

func (f *function) clear(v reg.VecVirtual) {
	if f.zmm() {
		f.VPXORD(v, v, v)
	} else {
		f.VPXOR(v, v, v)
	}
}

// multiplyAdd adds the products of a and b to sum. tmp is used where the tier
// cannot do without.
func (f *function) multiplyAdd(a, b operand.Op, sum reg.VecVirtual) {
	switch f.dot {
	case dotBytes: // a is unsigned
		if m, ok := b.(operand.Mem); ok && !f.zmm() { // vex knows registers only
			v := f.vec()
			f.load(m, v)
			b = v
		}
		f.VPDPBUSD(b, a, sum)
	case dotWords:
		t := f.vec()
		f.VPMADDWD(b, a, t)
		f.VPADDD(t, sum, sum)
	case fused:
		f.VFMADD231PS(b, a, sum)
	case exact:
		t := f.vec()
		f.VMULPS(b, a, t)
		f.VADDPS(t, sum, sum)
	}
}

// addSums adds b to a.
func (f *function) addSums(a, b reg.VecVirtual) {
	if f.float() {
		f.VADDPS(b, a, a)
	} else {
		f.VPADDD(b, a, a)
	}
}

// dotLine is VPDPBUSD as the Go assembler spells it; it knows the EVEX form
// only.
var (
	textLine = regexp.MustCompile(`(?m)^TEXT ·(\w+)\(SB\)`)
	dotLine  = regexp.MustCompile(`(?m)^\tVPDPBUSD +Y(\d+), Y(\d+), Y(\d+)$`)
)

// vex turns VPDPBUSD in functions of AVX-VNNI into the bytes of its VEX form:
// CPUs with AVX-VNNI and without AVX-512, such as Intel's N100, have no EVEX.
//
//	C4 | ~R ~X ~B 00010 | W=0 ~vvvv L=1 pp=01 | 50 | ModRM 11 reg rm
func vex(text []byte) []byte {
	starts := textLine.FindAllSubmatchIndex(text, -1)
	var out []byte
	at := 0
	for i, m := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		out = append(out, text[at:m[0]]...)
		body := text[m[0]:end]
		if name := string(text[m[2]:m[3]]); len(name) > 7 && regexp.MustCompile(`AVXVNNI`).MatchString(name) {
			body = dotLine.ReplaceAllFunc(body, vexDot)
		}
		out = append(out, body...)
		at = end
	}
	return append(out, text[at:]...)
}

func vexDot(line []byte) []byte {
	m := dotLine.FindSubmatch(line)
	var r [3]int
	for i := range r {
		r[i], _ = strconv.Atoi(string(m[i+1]))
	}
	b, a, sum := r[0], r[1], r[2]
	second := (^sum>>3&1)<<7 | 1<<6 | (^b>>3&1)<<5 | 2
	third := (^a&15)<<3 | 4 | 1
	return fmt.Appendf(nil, "\tLONG $0x50%02x%02xc4; BYTE $0x%02x // VPDPBUSD Y%d, Y%d, Y%d (VEX)",
		third, second, 0xc0|(sum&7)<<3|b&7, b, a, sum)
}
