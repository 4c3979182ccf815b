//go:build !purego

package kernels

func quantizePlanesBlocks(_, channels int, x *loopArgs) {
	switch channels {
	case 2:
		quantizePlanes2_NEON(x)
	case 3:
		quantizePlanes3_NEON(x)
	default:
		quantizePlanes4_NEON(x)
	}
}
