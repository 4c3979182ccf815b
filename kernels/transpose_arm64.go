//go:build !purego

package kernels

func transposeTile(_ int, x *transposeArgs) { transpose4x4_NEON(x) }

// transposeMost returns the side of the largest tile of a tier of so many lanes.
func transposeMost(int) int { return 4 }
