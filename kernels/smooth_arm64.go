//go:build !purego

package kernels

import "unsafe"

// smoothNEON are the smooth functions of arm64.
var smoothNEON = func() (t smoothTier) {
	for s := range smooths {
		t[s] = s.neon
	}
	return t
}()

// neon is the function over blocks; what is left over passes through one.
func (s Smooth) neon(dst, src []float32) {
	dst = dst[:len(src)]
	n := len(src) / loopBlock * loopBlock
	if n > 0 {
		s.blocks(unsafe.SliceData(dst), unsafe.SliceData(src), n/loopBlock)
	}
	if n < len(src) {
		var rest [loopBlock]float32
		copy(rest[:], src[n:])
		s.blocks(&rest[0], &rest[0], 1)
		copy(dst[n:], rest[:])
	}
}

// blocks calls assembly by name, so that rest stays on the stack.
func (s Smooth) blocks(to, from *float32, blocks int) {
	switch s {
	case SmoothExp:
		exp_NEON(to, from, blocks)
	case SmoothSigmoid:
		sigmoid_NEON(to, from, blocks)
	case SmoothTanh:
		tanh_NEON(to, from, blocks)
	case SmoothErf:
		erf_NEON(to, from, blocks)
	case SmoothGelu:
		gelu_NEON(to, from, blocks)
	case SmoothGeluTanh:
		geluTanh_NEON(to, from, blocks)
	case SmoothSilu:
		silu_NEON(to, from, blocks)
	case SmoothLog:
		log_NEON(to, from, blocks)
	}
}
