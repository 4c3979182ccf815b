//go:build !purego

package kernels

import "runtime"

// The smooth functions of amd64.
var (
	smoothAVX512 = smoothTier{
		SmoothExp: over(expAVX512), SmoothSigmoid: over(sigmoidAVX512), SmoothTanh: over(tanhAVX512), SmoothErf: over(erfAVX512),
		SmoothGelu: over(geluAVX512), SmoothGeluTanh: over(geluTanhAVX512), SmoothSilu: over(siluAVX512),
		SmoothLog: over(logAVX512),
	}
	smoothAVX2 = smoothTier{
		SmoothExp: over(expAVX2), SmoothSigmoid: over(sigmoidAVX2), SmoothTanh: over(tanhAVX2), SmoothErf: over(erfAVX2),
		SmoothGelu: over(geluAVX2), SmoothGeluTanh: over(geluTanhAVX2), SmoothSilu: over(siluAVX2),
		SmoothLog: over(logAVX2),
	}
)

// over makes a Unary of f, which takes any number of values. The slices are
// arguments of a call through a function value, so that they are not on the
// stack and their addresses hold.
func over(f func(to, from uintptr, n int)) Unary {
	return func(dst, src []float32) {
		dst = dst[:len(src)]
		f(addressOf(dst), addressOf(src), len(src))
		runtime.KeepAlive(dst)
		runtime.KeepAlive(src)
	}
}
