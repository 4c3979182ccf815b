package kernels

import "math"

// Float16 returns the value of the IEEE 754 binary16 number with these bits.
// Every one is a float32 exactly; a NaN keeps its payload and becomes quiet.
func Float16(bits uint16) float32 {
	sign := uint32(bits>>15) << 31
	exponent, fraction := uint32(bits>>10)&0x1f, uint32(bits)&0x3ff
	switch exponent {
	case 0: // subnormal: fraction * 2^-24
		v := float32(fraction) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 0x1f:
		if fraction != 0 {
			fraction |= 0x200
		}
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}

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
