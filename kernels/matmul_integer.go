package kernels

// MatMulInteger writes the sums Σ (a-za)*(b-zb) of a [m, k] and b [k, n], both
// computed, to out [m, n], in int32, wrapping. za has one element or one for
// each row, zb one or one for each column.
func MatMulInteger[A, B int8 | uint8](out []int32, a []A, b []B, za []A, zb []B, m, k, n int) {
	for i := range m {
		row := out[i*n : (i+1)*n]
		clear(row)
		zero := int32(za[i%len(za)])
		for j, v := range a[i*k : (i+1)*k] {
			x := int32(v) - zero
			if len(zb) == 1 {
				z := int32(zb[0])
				for c, w := range b[j*n : (j+1)*n] {
					row[c] += x * (int32(w) - z)
				}
				continue
			}
			for c, w := range b[j*n : (j+1)*n] {
				row[c] += x * (int32(w) - int32(zb[c]))
			}
		}
	}
}

// DynamicQuantize writes x as uint8 with a scale and a zero point that its
// own range, widened to hold 0, asks for, and returns them:
//
//	scale = (max - min) / 255, 1 where that is 0
//	zero  = clamp(round half to even(-min / scale), 0, 255)
//
// (https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html). NaN does
// not count for the range.
func DynamicQuantize(dst []uint8, x []float32) (scale float32, zero uint8) {
	lo, hi := float32(0), float32(0)
	for _, v := range x {
		if v < lo {
			lo = v
		}
		if v > hi {
			hi = v
		}
	}
	scale = float32(float32(hi-lo) / 255)
	if !(scale > 0) {
		scale = 1
	}
	var z [1]uint8
	Quantize(z[:], []float32{-lo}, scale, uint8(0))
	Quantize(dst, x, scale, z[0])
	return scale, z[0]
}
