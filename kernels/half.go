package kernels

import "math"

// Float16Bits returns the bits of the binary16 number nearest to v, ties to
// even; NaN stays NaN.
func Float16Bits(v float32) uint16 {
	b := math.Float32bits(v)
	sign, exp, frac := uint16(b>>16)&0x8000, int(b>>23&0xff)-127, b&0x7fffff
	switch {
	case exp == 128 && frac != 0:
		return sign | 0x7e00
	case exp > 15:
		return sign | 0x7c00
	case exp < -25:
		return sign
	}
	shift, base := 13, uint32(exp+15)<<10
	if exp < -14 { // subnormal: the leading one moves into the fraction
		frac |= 0x800000
		shift, base = 13+(-14-exp), 0
	}
	half := base + frac>>shift
	rest, tie := frac&(1<<shift-1), uint32(1)<<(shift-1)
	if rest > tie || (rest == tie && half&1 == 1) {
		half++ // may carry into the exponent, which is right
	}
	return sign | uint16(half)
}

// BFloat16 returns the value of the bfloat16 number with these bits.
func BFloat16(bits uint16) float32 { return math.Float32frombits(uint32(bits) << 16) }

// BFloat16Bits returns the bits of the bfloat16 number nearest to v, ties to
// even; NaN stays NaN.
func BFloat16Bits(v float32) uint16 {
	b := math.Float32bits(v)
	if v != v {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// RoundOdd returns v as a float32, towards 0 with the last bit set where that
// is inexact: a later rounding to a half is then the rounding of v itself
// (Boldo and Melquiond 2008, "Emulation of a FMA and correctly rounded sums").
func RoundOdd(v float64) float32 {
	f := float32(v)
	if float64(f) == v || v != v {
		return f
	}
	b := math.Float32bits(f)
	if math.Abs(float64(f)) > math.Abs(v) {
		b--
	}
	return math.Float32frombits(b | 1)
}

// Halves returns the bits of w as binary16 numbers, nil where one of w is none.
func Halves(w []float32) []uint16 {
	half := make([]uint16, len(w))
	for i, v := range w {
		b := Float16Bits(v)
		if math.Float32bits(Float16(b)) != math.Float32bits(v) {
			return nil
		}
		half[i] = b
	}
	return half
}

// HalvesPay reports whether GEMMF32 of m rows is better off with weights in
// binary16 than with the float32 they stand for: they take half the memory,
// and widening them costs nothing but on arm64 without arithmetic in binary16,
// where it pays for few rows, which wait for memory.
func HalvesPay(t Target, m int) bool { return t.Tier != NEON || m < 8 }
