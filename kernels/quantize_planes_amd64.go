//go:build !purego

package kernels

func quantizePlanesBlocks(block, channels int, x *loopArgs) {
	switch {
	case block == wide && channels == 2:
		quantizePlanes2AVX512(x)
	case block == wide && channels == 3:
		quantizePlanes3AVX512(x)
	case block == wide:
		quantizePlanes4AVX512(x)
	case channels == 2:
		quantizePlanes2AVX2(x)
	case channels == 3:
		quantizePlanes3AVX2(x)
	default:
		quantizePlanes4AVX2(x)
	}
}
