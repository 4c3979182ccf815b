//go:build !purego

package kernels

import "runtime"

// quantizePlanesNEON is quantizePlanesGeneric with 16 pixels at once. The last
// block ends with the last pixel, so that some may be written twice.
func quantizePlanesNEON(out []int8, in []float32, channels int, scale float32, zero int8) {
	pixels := len(in) / channels
	if channels < 2 || channels > MaxPlanes || pixels < loopBlock {
		quantizePlanesGeneric(out, in, channels, scale, zero)
		return
	}
	x := loopArgs{
		out: addressOf(out[:len(in)]), a: addressOf(in), plane: uintptr(4 * pixels), blocks: uintptr(pixels / loopBlock),
		scaleA: scale, zero: int32(zero),
	}
	quantizePlanesBlocks(channels, &x)
	if last := pixels - loopBlock; pixels%loopBlock > 0 {
		x.out, x.a, x.blocks = addressOf(out[last*channels:]), addressOf(in[last:]), 1
		quantizePlanesBlocks(channels, &x)
	}
	runtime.KeepAlive(out)
	runtime.KeepAlive(in)
}

func quantizePlanesBlocks(channels int, x *loopArgs) {
	switch channels {
	case 2:
		quantizePlanes2_NEON(x)
	case 3:
		quantizePlanes3_NEON(x)
	default:
		quantizePlanes4_NEON(x)
	}
}
