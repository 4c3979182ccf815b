//go:build !purego

package kernels

func transposeTile(_ int, x *transposeArgs) { transpose4x4_NEON(x) }
