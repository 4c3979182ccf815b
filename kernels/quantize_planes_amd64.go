//go:build !purego

package kernels

import (
	"math"
	"runtime"
)

// quantizePlanesTier is quantizePlanesGeneric with lanes pixels at once. The
// last block ends with the last pixel, so that some may be written twice.
func quantizePlanesTier(lanes int) quantizePlanesFunc {
	return func(out []int8, in []float32, channels int, scale float32, zero int8) {
		pixels := len(in) / channels
		if channels < 2 || channels > MaxPlanes || pixels < lanes {
			quantizePlanesGeneric(out, in, channels, scale, zero)
			return
		}
		x := loopArgs{
			out: addressOf(out[:len(in)]), a: addressOf(in), plane: uintptr(4 * pixels), blocks: uintptr(pixels / lanes),
			scaleA: scale, lo: float32(math.MinInt8 - int(zero)), hi: float32(math.MaxInt8 - int(zero)), zero: int32(zero),
		}
		quantizePlanesBlocks(lanes, channels, &x)
		if last := pixels - lanes; pixels%lanes > 0 {
			x.out, x.a, x.blocks = addressOf(out[last*channels:]), addressOf(in[last:]), 1
			quantizePlanesBlocks(lanes, channels, &x)
		}
		runtime.KeepAlive(out)
		runtime.KeepAlive(in)
	}
}

func quantizePlanesBlocks(lanes, channels int, x *loopArgs) {
	switch {
	case lanes == wide && channels == 2:
		quantizePlanes2AVX512(x)
	case lanes == wide && channels == 3:
		quantizePlanes3AVX512(x)
	case lanes == wide:
		quantizePlanes4AVX512(x)
	case channels == 2:
		quantizePlanes2AVX2(x)
	case channels == 3:
		quantizePlanes3AVX2(x)
	default:
		quantizePlanes4AVX2(x)
	}
}
