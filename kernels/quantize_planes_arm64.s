//go:build !purego

#include "go_asm.h"
#include "textflag.h"
#include "neon_arm64.h"

// Planes of float32 that become pixels of bytes, 16 pixels a turn: a plane at
// a time is quantised, and a structure store interleaves them.
//
//	R0  args    R1  out    R2  where the planes' next values are    R3  from plane to plane
//	R4  blocks left    R5  scratch
//
//	V0-V3    16 values of a plane    V4-V7  bytes of planes
//	V18      scale                   V20    zero point

#define PLANES_BEGIN \
	MOVD args+0(FP), R0          \
	MOVD loopArgs_out(R0), R1    \
	MOVD loopArgs_a(R0), R2      \
	MOVD loopArgs_plane(R0), R3  \
	MOVD loopArgs_blocks(R0), R4 \
	MOVW loopArgs_scaleA(R0), R5 \
	VDUP R5, V18.S4              \
	MOVW loopArgs_zero(R0), R5   \
	VDUP R5, V20.H8              \
block:                           \
	MOVD R2, R5

// PLANE quantises 16 values at R5 to the bytes of v, and goes to the next
// plane. What saturates is beyond the bounds; NaN gives the zero point.
#define PLANE(v) \
	VLD1 (R5), [V0.S4, V1.S4, V2.S4, V3.S4] \
	ADD  R3, R5     \
	FDIV(0, 0, 18)  \
	FDIV(1, 1, 18)  \
	FDIV(2, 2, 18)  \
	FDIV(3, 3, 18)  \
	FCVTNS(0, 0)    \
	FCVTNS(1, 1)    \
	FCVTNS(2, 2)    \
	FCVTNS(3, 3)    \
	SQXTN_H(0, 0)   \
	SQXTN2_H(0, 1)  \
	SQXTN_H(2, 2)   \
	SQXTN2_H(2, 3)  \
	SQADD(0, 0, 20) \
	SQADD(2, 2, 20) \
	SQXTN_B(v, 0)   \
	SQXTN2_B(v, 2)

#define PLANES_END \
	ADD  $64, R2    \
	SUBS $1, R4, R4 \
	BNE  block      \
	RET

// func quantizePlanes2_NEON(args *loopArgs)
// Reference: quantizePlanesGeneric.
TEXT ·quantizePlanes2_NEON(SB), NOSPLIT, $0-8
	PLANES_BEGIN
	PLANE(4)
	PLANE(5)
	VST2.P [V4.B16, V5.B16], 32(R1)
	PLANES_END

// func quantizePlanes3_NEON(args *loopArgs)
// Reference: quantizePlanesGeneric.
TEXT ·quantizePlanes3_NEON(SB), NOSPLIT, $0-8
	PLANES_BEGIN
	PLANE(4)
	PLANE(5)
	PLANE(6)
	VST3.P [V4.B16, V5.B16, V6.B16], 48(R1)
	PLANES_END

// func quantizePlanes4_NEON(args *loopArgs)
// Reference: quantizePlanesGeneric.
TEXT ·quantizePlanes4_NEON(SB), NOSPLIT, $0-8
	PLANES_BEGIN
	PLANE(4)
	PLANE(5)
	PLANE(6)
	PLANE(7)
	VST4.P [V4.B16, V5.B16, V6.B16, V7.B16], 64(R1)
	PLANES_END
