//go:build !purego

package kernels

import "runtime"

// The functions over rows take any number of values. The slices are arguments
// of calls through function values, so that they are not on the stack and
// their addresses hold.

func softmaxWith(f func(to, from uintptr, n, rows int)) softmaxFunc {
	return func(dst, src []float32, n int) {
		if n == 0 || len(src) < n {
			return
		}
		rows := len(src) / n
		dst = dst[:rows*n]
		f(addressOf(dst), addressOf(src), n, rows)
		runtime.KeepAlive(dst)
		runtime.KeepAlive(src)
	}
}

var (
	standardizeWithAVX512 = standardizeTier{
		sum:        func(x []float32) float32 { return sumAVX512(addressOf(x), len(x)) },
		deviations: func(x []float32, mean float32) (_, _ float32) { return deviationsAVX512(addressOf(x), len(x), mean) },
		row: func(dst, src, scale, shift []float32, mean, inverse float32) {
			standardizeAVX512(addressOf(dst), addressOf(src), addressOf(scale), addressOf(shift), len(src), mean, inverse)
		},
		plane: func(dst, src []float32, mean, inverse, scale, shift float32) {
			standardizePlaneAVX512(addressOf(dst), addressOf(src), len(src), mean, inverse, scale, shift)
		},
	}
	standardizeWithAVX2 = standardizeTier{
		sum:        func(x []float32) float32 { return sumAVX2(addressOf(x), len(x)) },
		deviations: func(x []float32, mean float32) (_, _ float32) { return deviationsAVX2(addressOf(x), len(x), mean) },
		row: func(dst, src, scale, shift []float32, mean, inverse float32) {
			standardizeAVX2(addressOf(dst), addressOf(src), addressOf(scale), addressOf(shift), len(src), mean, inverse)
		},
		plane: func(dst, src []float32, mean, inverse, scale, shift float32) {
			standardizePlaneAVX2(addressOf(dst), addressOf(src), len(src), mean, inverse, scale, shift)
		},
	}
)
