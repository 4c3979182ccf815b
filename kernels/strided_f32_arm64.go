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
		stridedPassF32_NEON(&args)
	case StridedGive:
		stridedGiveF32_NEON(&args)
	case StridedAdd:
		stridedAddF32_NEON(&args)
	case StridedAddProduct:
		stridedAddProductF32_NEON(&args)
	case StridedLine:
		stridedLineF32_NEON(&args)
	case StridedAddSquare:
		stridedAddSquareF32_NEON(&args)
	case StridedAddCentred:
		stridedAddCentredF32_NEON(&args)
	}
	runtime.KeepAlive(out)
	runtime.KeepAlive(a)
	runtime.KeepAlive(b)
	runtime.KeepAlive(c)
}
