//go:build !purego

#include "go_asm.h"
#include "textflag.h"
#include "neon_arm64.h"

// Loops over neighbouring values, 16 a turn, and pools, 16 channels at once.
//
//	R0  args    R1  out    R2  a    R3  b    R4  blocks left    R5, R6  scratch
//
//	V0-V7    values, as int32 or float32    V24, V25  bytes and words
//	V16, V17 zero points of a and b         V18, V19  scales of a and b
//	V20      zero point of the result       V21, V22  its bounds

#define LOOP_BEGIN \
	MOVD args+0(FP), R0         \
	MOVD loopArgs_out(R0), R1   \
	MOVD loopArgs_a(R0), R2     \
	MOVD loopArgs_b(R0), R3     \
	MOVD loopArgs_blocks(R0), R4 \
	MOVW loopArgs_zeroA(R0), R5 \
	MOVW loopArgs_zeroB(R0), R6 \
	VDUP R5, V16.B16            \
	VDUP R6, V17.B16            \
	MOVW loopArgs_scaleA(R0), R5 \
	MOVW loopArgs_scaleB(R0), R6 \
	VDUP R5, V18.S4             \
	VDUP R6, V19.S4             \
	MOVW loopArgs_zero(R0), R5  \
	VDUP R5, V20.H8             \
	MOVW loopArgs_least(R0), R5 \
	MOVW loopArgs_most(R0), R6  \
	VDUP R5, V21.B16            \
	VDUP R6, V22.B16            \
block:

#define LOOP_END \
	SUBS $1, R4, R4 \
	BNE  block      \
	RET

// DIFFERENCE turns 16 bytes in V24 less their zero point into float32 in v to
// v+3; sub and sub2 are SSUBL or USUBL.
#define DIFFERENCE(v, zero, sub, sub2) \
	sub(25, 24, zero)  \
	sub2(24, 24, zero) \
	SXTL_S(v, 25)      \
	SXTL2_S(v+1, 25)   \
	SXTL_S(v+2, 24)    \
	SXTL2_S(v+3, 24)   \
	SCVTF(v, v)        \
	SCVTF(v+1, v+1)    \
	SCVTF(v+2, v+2)    \
	SCVTF(v+3, v+3)
#define SCALE(v, scale) \
	FMUL(v, v, scale)     \
	FMUL(v+1, v+1, scale) \
	FMUL(v+2, v+2, scale) \
	FMUL(v+3, v+3, scale)

// ROUND turns float32 in V0-V3 into words, the zero point added, in V0 and V2.
// What saturates is beyond the bounds; NaN gives the zero point.
#define ROUND \
	FCVTNS(0, 0)    \
	FCVTNS(1, 1)    \
	FCVTNS(2, 2)    \
	FCVTNS(3, 3)    \
	SQXTN_H(0, 0)   \
	SQXTN2_H(0, 1)  \
	SQXTN_H(2, 2)   \
	SQXTN2_H(2, 3)  \
	SQADD(0, 0, 20) \
	SQADD(2, 2, 20)

// func addInt8_NEON(args *loopArgs)
// Reference: addInt8Generic.
TEXT ·addInt8_NEON(SB), NOSPLIT, $0-8
	LOOP_BEGIN
	VLD1.P 16(R2), [V24.B16]
	DIFFERENCE(0, 16, SSUBL, SSUBL2)
	VLD1.P 16(R3), [V24.B16]
	DIFFERENCE(4, 17, SSUBL, SSUBL2)
	SCALE(0, 18)
	SCALE(4, 19)
	FADD(0, 0, 4)
	FADD(1, 1, 5)
	FADD(2, 2, 6)
	FADD(3, 3, 7)
	ROUND
	SQXTN_B(0, 0)
	SQXTN2_B(0, 2)
	SMAX(0, 0, 21)
	SMIN(0, 0, 22)
	VST1.P [V0.B16], 16(R1)
	LOOP_END

#define QUOTIENT \
	VLD1.P 64(R2), [V0.S4, V1.S4, V2.S4, V3.S4] \
	FDIV(0, 0, 18) \
	FDIV(1, 1, 18) \
	FDIV(2, 2, 18) \
	FDIV(3, 3, 18) \
	ROUND

// func quantizeInt8_NEON(args *loopArgs)
// Reference: Quantize.
TEXT ·quantizeInt8_NEON(SB), NOSPLIT, $0-8
	LOOP_BEGIN
	QUOTIENT
	SQXTN_B(0, 0)
	SQXTN2_B(0, 2)
	VST1.P [V0.B16], 16(R1)
	LOOP_END

// func quantizeUint8_NEON(args *loopArgs)
// Reference: Quantize.
TEXT ·quantizeUint8_NEON(SB), NOSPLIT, $0-8
	LOOP_BEGIN
	QUOTIENT
	SQXTUN_B(0, 0)
	SQXTUN2_B(0, 2)
	VST1.P [V0.B16], 16(R1)
	LOOP_END

// func dequantizeInt8_NEON(args *loopArgs)
// Reference: Dequantize.
TEXT ·dequantizeInt8_NEON(SB), NOSPLIT, $0-8
	LOOP_BEGIN
	VLD1.P 16(R2), [V24.B16]
	DIFFERENCE(0, 16, SSUBL, SSUBL2)
	SCALE(0, 18)
	VST1.P [V0.S4, V1.S4, V2.S4, V3.S4], 64(R1)
	LOOP_END

// func dequantizeUint8_NEON(args *loopArgs)
// Reference: Dequantize.
TEXT ·dequantizeUint8_NEON(SB), NOSPLIT, $0-8
	LOOP_BEGIN
	VLD1.P 16(R2), [V24.B16]
	DIFFERENCE(0, 16, USUBL, USUBL2)
	SCALE(0, 18)
	VST1.P [V0.S4, V1.S4, V2.S4, V3.S4], 64(R1)
	LOOP_END

// func dequantizeInt32_NEON(args *loopArgs)
// Reference: Dequantize.
TEXT ·dequantizeInt32_NEON(SB), NOSPLIT, $0-8
	MOVD args+0(FP), R0
	MOVD loopArgs_out(R0), R1
	MOVD loopArgs_a(R0), R2
	MOVD loopArgs_blocks(R0), R4
	MOVW loopArgs_zeroA(R0), R5
	MOVW loopArgs_scaleA(R0), R6
	VDUP R5, V16.S4
	VDUP R6, V18.S4
block:
	VLD1.P 64(R2), [V0.S4, V1.S4, V2.S4, V3.S4]
	SUB_S(0, 0, 16)
	SUB_S(1, 1, 16)
	SUB_S(2, 2, 16)
	SUB_S(3, 3, 16)
	SCVTF(0, 0)
	SCVTF(1, 1)
	SCVTF(2, 2)
	SCVTF(3, 3)
	SCALE(0, 18)
	VST1.P [V0.S4, V1.S4, V2.S4, V3.S4], 64(R1)
	LOOP_END

// Pools pass over blocks of channels, pixels and taps:
//
//	R0  args        R4  out of the pixel    R8   offset of the block   R11  taps left
//	R1  taps        R5  outStep             R9   window of the pixel   R12  tap
//	R2  inStep      R6  blocks left         R10  next taps             R13  pixels left
//	R3  how many    R7  -128, or start      R20-R22  Zero, Min, Max

#define POOL_BEGIN \
	MOVD args+0(FP), R0          \
	MOVD poolArgs_taps(R0), R1   \
	MOVD poolArgs_inStep(R0), R2 \
	MOVD poolArgs_count(R0), R3  \
	MOVD poolArgs_outStep(R0), R5 \
	MOVD poolArgs_blocks(R0), R6 \
	MOVD $0, R8                  \
block:                           \
	MOVD poolArgs_in(R0), R9     \
	MOVD poolArgs_out(R0), R4    \
	MOVD poolArgs_pixels(R0), R13 \
	ADD  R8, R9                  \
	ADD  R8, R4                  \
pixel:                           \
	MOVD R1, R10                 \
	MOVD R3, R11

#define POOL_END \
	ADD  R2, R9       \
	ADD  R5, R4       \
	SUBS $1, R13, R13 \
	BNE  pixel        \
	ADD  $16, R8      \
	SUBS $1, R6, R6   \
	BNE  block        \
	RET

// func maxPoolInt8_NEON(args *poolArgs)
// Reference: maxPool.
TEXT ·maxPoolInt8_NEON(SB), NOSPLIT, $0-8
	MOVD $-128, R7
	POOL_BEGIN
	VDUP R7, V0.B16

tap:
	MOVD.P 8(R10), R12
	LDR_QX(1, 12, 9)
	SMAX(0, 0, 1)
	SUBS   $1, R11, R11
	BNE    tap
	VST1   [V0.B16], (R4)
	POOL_END

// func sumPoolInt8_NEON(args *poolArgs)
// Reference: averagePoolInt8Generic.
TEXT ·sumPoolInt8_NEON(SB), NOSPLIT, $0-8
	MOVD     args+0(FP), R0
	MOVW     poolArgs_start(R0), R7
	MOVW     poolArgs_scale(R0), R20
	VDUP     R20, V19.S4
	MOVW     poolArgs_zero(R0), R20
	VDUP     R20, V20.H8
	MOVW     poolArgs_least(R0), R21
	MOVW     poolArgs_most(R0), R22
	VDUP     R21, V21.B16
	VDUP     R22, V22.B16
	POOL_BEGIN
	VDUP R7, V0.S4
	VDUP R7, V1.S4
	VDUP R7, V2.S4
	VDUP R7, V3.S4

tap:
	MOVD.P 8(R10), R12
	LDR_QX(4, 12, 9)
	SXTL_H(5, 4)
	SXTL2_H(6, 4)
	SADDW(0, 0, 5)
	SADDW2(1, 1, 5)
	SADDW(2, 2, 6)
	SADDW2(3, 3, 6)
	SUBS   $1, R11, R11
	BNE    tap
	SCVTF(0, 0)
	SCVTF(1, 1)
	SCVTF(2, 2)
	SCVTF(3, 3)
	SCALE(0, 19)
	ROUND
	SQXTN_B(0, 0)
	SQXTN2_B(0, 2)
	SMAX(0, 0, 21)
	SMIN(0, 0, 22)
	VST1 [V0.B16], (R4)
	POOL_END

// TAPS_F32 passes over taps of 4 channels, loaded into V1.
#define TAPS_F32(op) \
tap:                       \
	MOVD.P 8(R10), R12     \
	LSL    $2, R12         \
	LDR_QX(1, 12, 9)       \
	op                     \
	SUBS   $1, R11, R11    \
	BNE    tap

// LARGER keeps the larger of V0 and V1; NaN loses.
#define LARGER \
	FCMGT(2, 1, 0) \
	BIT(0, 1, 2)
#define SUM FADD(0, 0, 1)

// func maxPoolF32_NEON(args *poolArgs)
// Reference: maxPool.
TEXT ·maxPoolF32_NEON(SB), NOSPLIT, $0-8
	MOVW $0xff800000, R7
	POOL_BEGIN
	VDUP R7, V0.S4
	TAPS_F32(LARGER)
	VST1 [V0.B16], (R4)
	POOL_END

// func sumPoolF32_NEON(args *poolArgs)
// Reference: averagePoolF32Generic.
TEXT ·sumPoolF32_NEON(SB), NOSPLIT, $0-8
	MOVD args+0(FP), R0
	MOVW poolArgs_scale(R0), R20
	VDUP R20, V19.S4
	POOL_BEGIN
	VEOR V0.B16, V0.B16, V0.B16
	TAPS_F32(SUM)
	FDIV(0, 0, 19)
	VST1 [V0.B16], (R4)
	POOL_END
