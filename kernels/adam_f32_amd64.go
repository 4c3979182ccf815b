//go:build !purego

package kernels

import "runtime"

// adamF32Tier is AdamF32Generic with lanes. The slices are arguments of a call
// through a function value: see softmaxWith.
func adamF32Tier(lanes int) AdamFunc {
	return func(p, m, v, g []float32, a Adam) {
		n := len(p)
		m, v, g = m[:n], v[:n], g[:n]
		rest := n % lanes
		args := adamArgs{
			p: addressOf(p), m: addressOf(m), v: addressOf(v), g: addressOf(g),
			vectors: uintptr(n / lanes), rest: uintptr(rest), mask: 1<<rest - 1,
			beta1: a.Beta1, rest1: a.Rest1, beta2: a.Beta2, rest2: a.Rest2,
			decay: a.Decay, keep: a.Keep, rate: a.Rate, spread: a.Spread, epsilon: a.Epsilon,
		}
		if lanes == wide {
			adamF32AVX512(&args)
		} else {
			adamF32AVX2(&args)
		}
		runtime.KeepAlive(p)
		runtime.KeepAlive(m)
		runtime.KeepAlive(v)
		runtime.KeepAlive(g)
	}
}
