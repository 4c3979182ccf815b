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

func maxPoolBlocksInt8(lanes int, x *poolArgs) {
	if lanes == wide {
		maxPoolInt8AVX512(x)
	} else {
		maxPoolInt8AVX2(x)
	}
}

func sumPoolBlocksInt8(lanes int, x *poolArgs) {
	if lanes == wide {
		sumPoolInt8AVX512(x)
	} else {
		sumPoolInt8AVX2(x)
	}
}
