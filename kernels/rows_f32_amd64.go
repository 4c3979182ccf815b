//go:build !purego

package kernels

import "runtime"

// rowsF32Tier is rowsF32Generic with lanes. Of one operand, b is not there.
func rowsF32Tier(lanes int) rowsF32Func {
	return func(op OpF32, x rowsF32) {
		if x.rows == 0 || x.n == 0 {
			return
		}
		rest := x.n % lanes
		args := rowArgs{
			out: addressOf(x.out), a: addressOf(x.a), b: addressOf(x.b), rows: uintptr(x.rows),
			vectors: uintptr(x.n / lanes), rest: uintptr(rest), mask: 1<<rest - 1,
			outStep: uintptr(4 * x.step), aStep: uintptr(4 * x.aStep), bStep: uintptr(4 * x.bStep),
			aEach: uintptr(4 * lanes * x.aEach), bEach: uintptr(4 * lanes * x.bEach), p: x.p, q: x.q,
		}
		if lanes == wide {
			rowsF32AVX512(op, &args)
		} else {
			rowsF32AVX2(op, &args)
		}
		runtime.KeepAlive(x)
	}
}
