package kernels

import (
	"encoding/binary"
	"math"
)

// Quantize writes round half to even(x/scale) + zero, saturated to T, as
// ONNX's QuantizeLinear does; the division is rounded to float32. NaN gives
// zero. len(out) >= len(in).
func Quantize[T int8 | uint8](out []T, in []float32, scale float32, zero T) {
	lo, hi := float32(math.MinInt8), float32(math.MaxInt8)
	if ^T(0) > 0 {
		lo, hi = 0, math.MaxUint8
	}
	lo, hi = lo-float32(zero), hi-float32(zero)
	out = out[:len(in)]
	for i, v := range in {
		r := float32(v / scale)
		switch {
		case r != r:
			r = 0
		case r < lo:
			r = lo
		case r > hi:
			r = hi
		}
		r = float32(r + rounder)
		out[i] = T(int32(float32(r-rounder)) + int32(zero))
	}
}

// Dequantize writes float32(in-zero) * scale. len(out) >= len(in).
func Dequantize[T int8 | uint8 | int32](out []float32, in []T, scale float32, zero T) {
	out = out[:len(in)]
	for i, v := range in {
		out[i] = float32(float32(int32(v)-int32(zero)) * scale)
	}
}

// quantizeTier and dequantizeTier are what the tables of the two hold.
type (
	quantizeTier[T int8 | uint8]           func(out []T, in []float32, scale float32, zero T)
	dequantizeTier[T int8 | uint8 | int32] func(out []float32, in []T, scale float32, zero T)
)

// The tables of Quantize and Dequantize.
var (
	quantizeInt8Variants    = append(quantizeInt8Native, variant[quantizeTier[int8]]{Generic, true, Quantize[int8]})
	quantizeUint8Variants   = append(quantizeUint8Native, variant[quantizeTier[uint8]]{Generic, true, Quantize[uint8]})
	dequantizeInt8Variants  = append(dequantizeInt8Native, variant[dequantizeTier[int8]]{Generic, true, Dequantize[int8]})
	dequantizeUint8Variants = append(dequantizeUint8Native, variant[dequantizeTier[uint8]]{Generic, true, Dequantize[uint8]})
	dequantizeInt32Variants = append(dequantizeInt32Native, variant[dequantizeTier[int32]]{Generic, true, Dequantize[int32]})
)

// Quantizer returns Quantize as t computes it, and the tier that does.
func Quantizer[T int8 | uint8](t Target) (Tier, func(out []T, in []float32, scale float32, zero T)) {
	signed, unsigned := pick(t, quantizeInt8Variants), pick(t, quantizeUint8Variants)
	if f, ok := any(signed.run).(quantizeTier[T]); ok {
		return signed.tier, f
	}
	return unsigned.tier, any(unsigned.run).(quantizeTier[T])
}

// Dequantizer returns Dequantize as t computes it, and the tier that does.
func Dequantizer[T int8 | uint8 | int32](t Target) (Tier, func(out []float32, in []T, scale float32, zero T)) {
	signed, unsigned, wide := pick(t, dequantizeInt8Variants), pick(t, dequantizeUint8Variants), pick(t, dequantizeInt32Variants)
	if f, ok := any(signed.run).(dequantizeTier[T]); ok {
		return signed.tier, f
	}
	if f, ok := any(unsigned.run).(dequantizeTier[T]); ok {
		return unsigned.tier, f
	}
	return wide.tier, any(wide.run).(dequantizeTier[T])
}

// FlipSign changes int8 with an offset of 128 into uint8 and back: it writes
// in XOR 0x80 to out, of the length of in, which may be out.
func FlipSign(out, in []byte) {
	const signs = 0x8080808080808080
	out = out[:len(in)]
	for len(in) >= 8 {
		binary.LittleEndian.PutUint64(out, binary.LittleEndian.Uint64(in)^signs)
		out, in = out[8:], in[8:]
	}
	for i, v := range in {
		out[i] = v ^ 0x80
	}
}
