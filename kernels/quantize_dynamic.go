package kernels

// spanFunc is what the table of span holds.
type spanFunc func(x []float32) (lo, hi float32)

// spanVariants is the table of span.
var spanVariants = append(spanNative, variant[spanFunc]{Generic, true, span})

// DynamicQuantize writes x as uint8 with a scale and a zero point that its
// own range, widened to hold 0, asks for, and returns them:
//
//	scale = (max - min) / 255, 1 where that is 0
//	zero  = clamp(round half to even(-min / scale), 0, 255)
//
// (https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html). NaN does
// not count for the range.
func DynamicQuantize(dst []uint8, x []float32) (scale float32, zero uint8) {
	return dynamicQuantize(span, Quantize[uint8], dst, x)
}

// DynamicQuantizer returns DynamicQuantize as t computes it, and the tier that
// does.
func DynamicQuantizer(t Target) (Tier, func(dst []uint8, x []float32) (scale float32, zero uint8)) {
	v := pick(t, spanVariants)
	tier, quantize := Quantizer[uint8](t)
	return min(tier, v.tier), func(dst []uint8, x []float32) (float32, uint8) { return dynamicQuantize(v.run, quantize, dst, x) }
}

func dynamicQuantize(span spanFunc, quantize quantizeTier[uint8], dst []uint8, x []float32) (scale float32, zero uint8) {
	lo, hi := span(x)
	scale = float32(float32(hi-lo) / 255)
	if !(scale > 0) {
		scale = 1
	}
	zero = quantizeOne(-lo, scale)
	quantize(dst, x, scale, zero)
	return scale, zero
}

// quantizeOne is Quantize of one value with zero point 0.
func quantizeOne(x, scale float32) uint8 {
	var z [1]uint8
	Quantize(z[:], []float32{x}, scale, uint8(0))
	return z[0]
}

// span returns the least and the largest of x and 0, not looking at NaN.
func span(x []float32) (lo, hi float32) {
	for _, v := range x {
		if v < lo {
			lo = v
		}
		if v > hi {
			hi = v
		}
	}
	return lo, hi
}
