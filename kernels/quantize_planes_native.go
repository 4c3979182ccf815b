//go:build !purego && (amd64 || arm64)

package kernels

import (
	"math"
	"runtime"
)

// quantizePlanesTier is quantizePlanesGeneric with block pixels at once. The
// last block ends with the last pixel, so that some may be written twice.
func quantizePlanesTier(block int) quantizePlanesFunc {
	return func(out []int8, in []float32, channels int, scale float32, zero int8) {
		pixels := len(in) / channels
		if channels < 2 || channels > MaxPlanes || pixels < block {
			quantizePlanesGeneric(out, in, channels, scale, zero)
			return
		}
		x := loopArgs{
			out: addressOf(out[:len(in)]), a: addressOf(in), plane: uintptr(4 * pixels), blocks: uintptr(pixels / block),
			scaleA: scale, lo: float32(math.MinInt8 - int(zero)), hi: float32(math.MaxInt8 - int(zero)), zero: int32(zero),
		}
		quantizePlanesBlocks(block, channels, &x)
		if last := pixels - block; pixels%block > 0 {
			x.out, x.a, x.blocks = addressOf(out[last*channels:]), addressOf(in[last:]), 1
			quantizePlanesBlocks(block, channels, &x)
		}
		runtime.KeepAlive(out)
		runtime.KeepAlive(in)
	}
}
