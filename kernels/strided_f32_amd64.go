//go:build !purego

package kernels

import "runtime"

// stridedF32Tier is stridedF32Generic with lanes. What an operation does not
// read is not there.
func stridedF32Tier(lanes int) stridedF32Func {
	return func(op StridedOp, out, a, b, c []float32, s Strided) {
		rest := s.N % lanes
		args := stridedArgs{
			out: addressOf(out), a: addressOf(a), b: addressOf(b), c: addressOf(c), rows: uintptr(s.Rows),
			vectors: uintptr(s.N / lanes), rest: uintptr(rest), mask: 1<<rest - 1,
			outStep: uintptr(4 * s.Out), aStep: uintptr(4 * s.A), bStep: uintptr(4 * s.B), cStep: uintptr(4 * s.C), p: s.P, q: s.Q,
		}
		if lanes == wide {
			stridedF32AVX512(op, &args)
		} else {
			stridedF32AVX2(op, &args)
		}
		runtime.KeepAlive(out)
		runtime.KeepAlive(a)
		runtime.KeepAlive(b)
		runtime.KeepAlive(c)
	}
}
