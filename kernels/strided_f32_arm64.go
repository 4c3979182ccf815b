//go:build !purego

package kernels

import "runtime"

// stridedF32NEON is stridedF32Generic with 4 lanes. Loops are called by name,
// so that their arguments do not escape.
func stridedF32NEON(op StridedOp, out, a, b, c []float32, s Strided) {
	args := stridedArgs{
		out: addressOf(out), a: addressOf(a), b: addressOf(b), c: addressOf(c), rows: uintptr(s.Rows), vectors: uintptr(s.N / 4), rest: uintptr(s.N % 4),
		outStep: uintptr(4 * s.Out), aStep: uintptr(4 * s.A), bStep: uintptr(4 * s.B), cStep: uintptr(4 * s.C), p: s.P, q: s.Q,
	}
	switch op {
	case StridedPass:
		passF32_NEON(&args)
	case StridedGive:
		giveF32_NEON(&args)
	case StridedAddProduct:
		addProductF32_NEON(&args)
	case StridedLine:
		lineF32_NEON(&args)
	case StridedAddSquare:
		addSquareF32_NEON(&args)
	case StridedAddCentred:
		addCentredF32_NEON(&args)
	}
	runtime.KeepAlive(out)
	runtime.KeepAlive(a)
	runtime.KeepAlive(b)
	runtime.KeepAlive(c)
}
