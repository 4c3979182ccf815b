//go:build !purego

#include "textflag.h"
#include "neon_arm64.h"
#include "block_arm64.h"

// Loops over rows of float32, 16 values a turn, and as many lanes.
//
//	R0, R1  lanes, or to    R2  from    R3  blocks left    R4, R5  scale and shift
//
//	V0-V3  values    V4-V7, V16-V19  lanes    V20-V23  products, or masks    V24-V27  parameters

// func sum_NEON(sums *laneSums, x *float32, blocks int)
// Reference: laneSums.add.
TEXT ·sum_NEON(SB), NOSPLIT, $0-24
	MOVD sums+0(FP), R0
	MOVD x+8(FP), R2
	MOVD blocks+16(FP), R3
	VLD1 (R0), [V4.S4, V5.S4, V6.S4, V7.S4]
block:
	VLD1.P 64(R2), [V0.S4, V1.S4, V2.S4, V3.S4]
	FOUR(FADD, 4, 4, 0)
	SUBS   $1, R3, R3
	BNE    block
	VST1   [V4.S4, V5.S4, V6.S4, V7.S4], (R0)
	RET

// func deviations_NEON(sums, squares *laneSums, x *float32, blocks int, mean float32)
// Reference: addDeviations.
TEXT ·deviations_NEON(SB), NOSPLIT, $0-36
	MOVD  sums+0(FP), R0
	MOVD  squares+8(FP), R1
	MOVD  x+16(FP), R2
	MOVD  blocks+24(FP), R3
	FMOVS mean+32(FP), F24
	VDUP  V24.S[0], V24.S4
	VLD1  (R0), [V4.S4, V5.S4, V6.S4, V7.S4]
	VLD1  (R1), [V16.S4, V17.S4, V18.S4, V19.S4]
block:
	VLD1.P 64(R2), [V0.S4, V1.S4, V2.S4, V3.S4]
	FOUR_BY(FSUB, 0, 0, 24)
	FOUR(FMUL, 20, 0, 0)
	FOUR(FADD, 4, 4, 0)
	FOUR(FADD, 16, 16, 20)
	SUBS   $1, R3, R3
	BNE    block
	VST1   [V4.S4, V5.S4, V6.S4, V7.S4], (R0)
	VST1   [V16.S4, V17.S4, V18.S4, V19.S4], (R1)
	RET

// func standardize_NEON(to, from, scale, shift *float32, blocks int, mean, inverse float32)
// Reference: scaleRow.
TEXT ·standardize_NEON(SB), NOSPLIT, $0-48
	MOVD  to+0(FP), R1
	MOVD  from+8(FP), R2
	MOVD  scale+16(FP), R4
	MOVD  shift+24(FP), R5
	MOVD  blocks+32(FP), R3
	FMOVS mean+40(FP), F24
	FMOVS inverse+44(FP), F25
	VDUP  V24.S[0], V24.S4
	VDUP  V25.S[0], V25.S4
block:
	VLD1.P 64(R2), [V0.S4, V1.S4, V2.S4, V3.S4]
	VLD1.P 64(R4), [V4.S4, V5.S4, V6.S4, V7.S4]
	VLD1.P 64(R5), [V16.S4, V17.S4, V18.S4, V19.S4]
	FOUR_BY(FSUB, 0, 0, 24)
	FOUR_BY(FMUL, 0, 0, 25)
	FOUR(FMUL, 0, 0, 4)
	FOUR(FADD, 0, 0, 16)
	VST1.P [V0.S4, V1.S4, V2.S4, V3.S4], 64(R1)
	SUBS   $1, R3, R3
	BNE    block
	RET

// func standardizePlane_NEON(to, from *float32, blocks int, mean, inverse, scale, shift float32)
// Reference: scalePlane.
TEXT ·standardizePlane_NEON(SB), NOSPLIT, $0-40
	MOVD  to+0(FP), R1
	MOVD  from+8(FP), R2
	MOVD  blocks+16(FP), R3
	FMOVS mean+24(FP), F24
	FMOVS inverse+28(FP), F25
	FMOVS scale+32(FP), F26
	FMOVS shift+36(FP), F27
	VDUP  V24.S[0], V24.S4
	VDUP  V25.S[0], V25.S4
	VDUP  V26.S[0], V26.S4
	VDUP  V27.S[0], V27.S4
block:
	VLD1.P 64(R2), [V0.S4, V1.S4, V2.S4, V3.S4]
	FOUR_BY(FSUB, 0, 0, 24)
	FOUR_BY(FMUL, 0, 0, 25)
	FOUR_BY(FMUL, 0, 0, 26)
	FOUR_BY(FADD, 0, 0, 27)
	VST1.P [V0.S4, V1.S4, V2.S4, V3.S4], 64(R1)
	SUBS   $1, R3, R3
	BNE    block
	RET

// LARGER keeps the larger of value and lane, LESS the lesser; the lane where
// the value is NaN. masks is four registers.
#define LARGER(lanes, x, masks) \
	FOUR(FCMGT, masks, x, lanes) \
	FOUR(BIT, lanes, x, masks)
#define LESS(lanes, x, masks) \
	FOUR(FCMGT, masks, lanes, x) \
	FOUR(BIT, lanes, x, masks)

// func span_NEON(least, most *laneSums, x *float32, blocks int)
// Reference: span; largest, where least is not looked at.
TEXT ·span_NEON(SB), NOSPLIT, $0-32
	MOVD least+0(FP), R0
	MOVD most+8(FP), R1
	MOVD x+16(FP), R2
	MOVD blocks+24(FP), R3
	VLD1 (R0), [V4.S4, V5.S4, V6.S4, V7.S4]
	VLD1 (R1), [V16.S4, V17.S4, V18.S4, V19.S4]
block:
	VLD1.P 64(R2), [V0.S4, V1.S4, V2.S4, V3.S4]
	LESS(4, 0, 20)
	LARGER(16, 0, 20)
	SUBS   $1, R3, R3
	BNE    block
	VST1   [V4.S4, V5.S4, V6.S4, V7.S4], (R0)
	VST1   [V16.S4, V17.S4, V18.S4, V19.S4], (R1)
	RET
