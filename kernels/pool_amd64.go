//go:build !purego

package kernels

// maskedLanes is how many lanes the tier has that knows masks.
const maskedLanes = wide

func maxPoolBlocksF32(lanes int, x *poolArgs) {
	if lanes == wide {
		maxPoolF32AVX512(x)
	} else {
		maxPoolF32AVX2(x)
	}
}

func sumPoolBlocksF32(lanes int, x *poolArgs) {
	if lanes == wide {
		sumPoolF32AVX512(x)
	} else {
		sumPoolF32AVX2(x)
	}
}
