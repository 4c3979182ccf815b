//go:build !purego

package kernels

func transposeTile(n int, x *transposeArgs) {
	switch n {
	case 16:
		transpose16x16AVX512(x)
	case 8:
		transpose8x8AVX2(x)
	default:
		transpose4x4AVX2(x)
	}
}

// transposeMost returns the side of the largest tile of a tier of so many lanes.
func transposeMost(lanes int) int { return lanes }
