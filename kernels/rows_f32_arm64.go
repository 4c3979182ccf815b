//go:build !purego

package kernels

import "runtime"

// rowsF32NEON is rowsF32Generic with 4 lanes. Of one operand, b is not there.
// Loops are called by name, so that their arguments do not escape.
func rowsF32NEON(op OpF32, x rowsF32) {
	if x.rows == 0 || x.n == 0 {
		return
	}
	args := rowArgs{
		out: addressOf(x.out), a: addressOf(x.a), b: addressOf(x.b), rows: uintptr(x.rows), vectors: uintptr(x.n / 4), rest: uintptr(x.n % 4),
		outStep: uintptr(4 * x.step), aStep: uintptr(4 * x.aStep), bStep: uintptr(4 * x.bStep),
		aEach: uintptr(4 * x.aEach), bEach: uintptr(4 * x.bEach), p: x.p, q: x.q,
	}
	switch op {
	case OpAdd:
		addF32_NEON(&args)
	case OpSub:
		subF32_NEON(&args)
	case OpMul:
		mulF32_NEON(&args)
	case OpDiv:
		divF32_NEON(&args)
	case OpMin:
		minF32_NEON(&args)
	case OpMax:
		maxF32_NEON(&args)
	case OpPrelu:
		preluF32_NEON(&args)
	case OpCopy:
		copyF32_NEON(&args)
	case OpClip:
		clipF32_NEON(&args)
	case OpHardSigmoid:
		hardSigmoidF32_NEON(&args)
	case OpHardSwish:
		hardSwishF32_NEON(&args)
	case OpAbs:
		absF32_NEON(&args)
	case OpNeg:
		negF32_NEON(&args)
	case OpSqrt:
		sqrtF32_NEON(&args)
	case OpReciprocal:
		reciprocalF32_NEON(&args)
	case OpFloor:
		floorF32_NEON(&args)
	case OpCeil:
		ceilF32_NEON(&args)
	case OpRound:
		roundF32_NEON(&args)
	}
	runtime.KeepAlive(x)
}
