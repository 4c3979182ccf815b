//go:build !purego

#include "go_asm.h"
#include "textflag.h"
#include "neon_arm64.h"
#include "tile_arm64.h"

// Depthwise convolutions of int8 with SDOT, for square kernels of 3 and 5. Four
// rows of a column of pixels are interleaved, so that the taps of a channel lie
// side by side; what fills a column up has weights of 0 and may be anything. A
// column is interleaved once and added to all output pixels whose window holds
// it: pixel o reads columns o*stride to o*stride+kernel-1. Its sums are in set
// o mod live, live being the most pixels a column belongs to; the loop is
// unrolled live times, so that sets have fixed registers.
//
//	R0  args       R5  outStep      R11-R14, R19  rows          R23  weights of the block
//	R2  inStep     R6  blocks left  R13 (of 3: R11-R13)         R24  offset of the block
//	R4  out        R7  bias         R15  offset of the column   R25  out of the block
//	R9  scale      R10 pixels left  R20-R22  Zero, Min, Max

#define BEGIN \
	MOVD     args+0(FP), R0               \
	MOVD     depthwiseArgs_inStep(R0), R2 \
	MOVD     depthwiseArgs_outStep(R0), R5 \
	MOVD     depthwiseArgs_blocks(R0), R6 \
	MOVD     depthwiseArgs_bias(R0), R7   \
	MOVD     depthwiseArgs_scale(R0), R9  \
	MOVW     depthwiseArgs_zero(R0), R20  \
	MOVW     depthwiseArgs_least(R0), R21 \
	FMOVS    depthwiseArgs_hi(R0), F16    \
	FCVTZSSW F16, R22                     \
	ADDW     R20, R22                     \
	MOVD     depthwiseArgs_weights(R0), R23 \
	MOVD     depthwiseArgs_out(R0), R25   \
	MOVD     depthwiseArgs_taps(R0), R1   \
	LDP      (R1), (R11, R12)             \
	LDP      16(R1), (R13, R14)           \
	MOVD     32(R1), R19                  \
	MOVD     $0, R24                      \
block:                                    \
	MOVD     depthwiseArgs_pixels(R0), R10 \
	MOVD     R24, R15                     \
	MOVD     R25, R4

// END goes to the next block; weights is what one takes.
#define END(weights) \
row:                      \
	ADD  $weights, R23    \
	ADD  $64, R7          \
	ADD  $64, R9          \
	ADD  $16, R24         \
	ADD  $16, R25         \
	SUBS $1, R6, R6       \
	BNE  block            \
	RET

// FINISH requantises and stores set s and leaves where it was the last pixel.
#define FINISH(s) \
	VLD1 (R9), [V24.S4, V25.S4, V26.S4, V27.S4] \
	VDUP R20, V28.H8  \
	VDUP R21, V29.B16 \
	VDUP R22, V30.B16 \
	SCVTF(s, s)          \
	SCVTF(s+1, s+1)      \
	SCVTF(s+2, s+2)      \
	SCVTF(s+3, s+3)      \
	FMUL(s, s, 24)       \
	FMUL(s+1, s+1, 25)   \
	FMUL(s+2, s+2, 26)   \
	FMUL(s+3, s+3, 27)   \
	FCVTNS(s, s)         \
	FCVTNS(s+1, s+1)     \
	FCVTNS(s+2, s+2)     \
	FCVTNS(s+3, s+3)     \
	SQXTN_H(s, s)        \
	SQXTN2_H(s, s+1)     \
	SQXTN_H(s+2, s+2)    \
	SQXTN2_H(s+2, s+3)   \
	SQADD(s, s, 28)      \
	SQADD(s+2, s+2, 28)  \
	SQXTN_B(s, s)        \
	SQXTN2_B(s, s+2)     \
	SMAX(s, s, 29)       \
	SMIN(s, s, 30)       \
	STR_Q(s, 4, 0)       \
	ADD  R5, R4          \
	SUBS $1, R10, R10    \
	BEQ  row

// START sets the sums of four registers to the bias.
#define START(a, b, c, d) \
	VLD1 (R7), [a.S4, b.S4, c.S4, d.S4]

// INTERLEAVE turns rows in V28, V29 and two times V30 into taps in V24-V27.
#define INTERLEAVE3 \
	ZIP1_B(31, 28, 29) \
	ZIP2_B(28, 28, 29) \
	ZIP1_B(29, 30, 30) \
	ZIP2_B(30, 30, 30) \
	ZIP1_H(24, 31, 29) \
	ZIP2_H(25, 31, 29) \
	ZIP1_H(26, 28, 30) \
	ZIP2_H(27, 28, 30)

// The 3x3 kernels: sums in V0-V11, weights of column kx in V12+4*kx.

#define COLUMN3 \
	LDR_QX(28, 11, 15) \
	LDR_QX(29, 12, 15) \
	LDR_QX(30, 13, 15) \
	ADD R2, R15        \
	INTERLEAVE3
#define ADD3(s, w) \
	SDOT(s, 24, w)     \
	SDOT(s+1, 25, w+1) \
	SDOT(s+2, 26, w+2) \
	SDOT(s+3, 27, w+3)
#define WEIGHTS3 \
	MOVD   R23, R8 \
	VLD1.P 64(R8), [V12.B16, V13.B16, V14.B16, V15.B16] \
	VLD1.P 64(R8), [V16.B16, V17.B16, V18.B16, V19.B16] \
	VLD1   (R8), [V20.B16, V21.B16, V22.B16, V23.B16]

// func depthwiseInt8_3x3s1_DOTPROD(args *depthwiseArgs)
// Reference: depthwiseInt8Generic.
TEXT ·depthwiseInt8_3x3s1_DOTPROD(SB), NOSPLIT, $0-8
	BEGIN
	WEIGHTS3
	COLUMN3
	START(V0, V1, V2, V3)
	ADD3(0, 12)
	COLUMN3
	START(V4, V5, V6, V7)
	ADD3(0, 16)
	ADD3(4, 12)

pixels:
	COLUMN3
	START(V8, V9, V10, V11)
	ADD3(0, 20)
	ADD3(4, 16)
	ADD3(8, 12)
	FINISH(0)
	COLUMN3
	START(V0, V1, V2, V3)
	ADD3(4, 20)
	ADD3(8, 16)
	ADD3(0, 12)
	FINISH(4)
	COLUMN3
	START(V4, V5, V6, V7)
	ADD3(8, 20)
	ADD3(0, 16)
	ADD3(4, 12)
	FINISH(8)
	B pixels
	END(192)

// func depthwiseInt8_3x3s2_DOTPROD(args *depthwiseArgs)
// Reference: depthwiseInt8Generic.
TEXT ·depthwiseInt8_3x3s2_DOTPROD(SB), NOSPLIT, $0-8
	BEGIN
	WEIGHTS3
	COLUMN3
	START(V0, V1, V2, V3)
	ADD3(0, 12)

pixels:
	COLUMN3
	ADD3(0, 16)
	COLUMN3
	START(V4, V5, V6, V7)
	ADD3(0, 20)
	ADD3(4, 12)
	FINISH(0)
	COLUMN3
	ADD3(4, 16)
	COLUMN3
	START(V0, V1, V2, V3)
	ADD3(4, 20)
	ADD3(0, 12)
	FINISH(4)
	B pixels
	END(192)

// The 5x5 kernels: sums in V0-V19, taps of four rows in V24-V27 and of the
// fifth in V20-V23. Weights pass through V28-V31, 128 bytes a column.

#define COLUMN5 \
	LDR_QX(28, 11, 15) \
	LDR_QX(29, 12, 15) \
	LDR_QX(30, 13, 15) \
	LDR_QX(31, 14, 15) \
	LDR_QX(23, 19, 15) \
	ADD R2, R15        \
	ZIP1_B(20, 28, 29) \
	ZIP2_B(21, 28, 29) \
	ZIP1_B(22, 30, 31) \
	ZIP2_B(28, 30, 31) \
	ZIP1_H(24, 20, 22) \
	ZIP2_H(25, 20, 22) \
	ZIP1_H(26, 21, 28) \
	ZIP2_H(27, 21, 28) \
	ZIP1_B(29, 23, 23) \
	ZIP2_B(30, 23, 23) \
	ZIP1_H(20, 29, 29) \
	ZIP2_H(21, 29, 29) \
	ZIP1_H(22, 30, 30) \
	ZIP2_H(23, 30, 30)
#define ADD5(s, kx) \
	LDR_Q(28, 23, 128*kx)    \
	LDR_Q(29, 23, 128*kx+16) \
	LDR_Q(30, 23, 128*kx+32) \
	LDR_Q(31, 23, 128*kx+48) \
	SDOT(s, 24, 28)          \
	SDOT(s+1, 25, 29)        \
	SDOT(s+2, 26, 30)        \
	SDOT(s+3, 27, 31)        \
	LDR_Q(28, 23, 128*kx+64) \
	LDR_Q(29, 23, 128*kx+80) \
	LDR_Q(30, 23, 128*kx+96) \
	LDR_Q(31, 23, 128*kx+112) \
	SDOT(s, 20, 28)          \
	SDOT(s+1, 21, 29)        \
	SDOT(s+2, 22, 30)        \
	SDOT(s+3, 23, 31)

// func depthwiseInt8_5x5s1_DOTPROD(args *depthwiseArgs)
// Reference: depthwiseInt8Generic.
TEXT ·depthwiseInt8_5x5s1_DOTPROD(SB), NOSPLIT, $0-8
	BEGIN
	COLUMN5
	START(V0, V1, V2, V3)
	ADD5(0, 0)
	COLUMN5
	ADD5(0, 1)
	START(V4, V5, V6, V7)
	ADD5(4, 0)
	COLUMN5
	ADD5(0, 2)
	ADD5(4, 1)
	START(V8, V9, V10, V11)
	ADD5(8, 0)
	COLUMN5
	ADD5(0, 3)
	ADD5(4, 2)
	ADD5(8, 1)
	START(V12, V13, V14, V15)
	ADD5(12, 0)

pixels:
	COLUMN5
	ADD5(0, 4)
	ADD5(4, 3)
	ADD5(8, 2)
	ADD5(12, 1)
	START(V16, V17, V18, V19)
	ADD5(16, 0)
	FINISH(0)
	COLUMN5
	ADD5(4, 4)
	ADD5(8, 3)
	ADD5(12, 2)
	ADD5(16, 1)
	START(V0, V1, V2, V3)
	ADD5(0, 0)
	FINISH(4)
	COLUMN5
	ADD5(8, 4)
	ADD5(12, 3)
	ADD5(16, 2)
	ADD5(0, 1)
	START(V4, V5, V6, V7)
	ADD5(4, 0)
	FINISH(8)
	COLUMN5
	ADD5(12, 4)
	ADD5(16, 3)
	ADD5(0, 2)
	ADD5(4, 1)
	START(V8, V9, V10, V11)
	ADD5(8, 0)
	FINISH(12)
	COLUMN5
	ADD5(16, 4)
	ADD5(0, 3)
	ADD5(4, 2)
	ADD5(8, 1)
	START(V12, V13, V14, V15)
	ADD5(12, 0)
	FINISH(16)
	B pixels
	END(640)

// func depthwiseInt8_5x5s2_DOTPROD(args *depthwiseArgs)
// Reference: depthwiseInt8Generic.
TEXT ·depthwiseInt8_5x5s2_DOTPROD(SB), NOSPLIT, $0-8
	BEGIN
	COLUMN5
	START(V0, V1, V2, V3)
	ADD5(0, 0)
	COLUMN5
	ADD5(0, 1)
	COLUMN5
	ADD5(0, 2)
	START(V4, V5, V6, V7)
	ADD5(4, 0)

pixels:
	COLUMN5
	ADD5(0, 3)
	ADD5(4, 1)
	COLUMN5
	ADD5(0, 4)
	ADD5(4, 2)
	START(V8, V9, V10, V11)
	ADD5(8, 0)
	FINISH(0)
	COLUMN5
	ADD5(4, 3)
	ADD5(8, 1)
	COLUMN5
	ADD5(4, 4)
	ADD5(8, 2)
	START(V0, V1, V2, V3)
	ADD5(0, 0)
	FINISH(4)
	COLUMN5
	ADD5(8, 3)
	ADD5(0, 1)
	COLUMN5
	ADD5(8, 4)
	ADD5(0, 2)
	START(V4, V5, V6, V7)
	ADD5(4, 0)
	FINISH(8)
	B pixels
	END(640)
