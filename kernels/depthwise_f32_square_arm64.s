//go:build !purego

#include "go_asm.h"
#include "textflag.h"
#include "neon_arm64.h"
#include "tile_arm64.h"

// Depthwise convolutions of float32 with 3x3 kernels, by blocks of 4 channels.
// The weights of a block stay in registers while a row of pixels passes, and a
// value that is loaded is multiplied with all the weights that it meets under
// the windows of four pixels. The last four pixels of a row overlap those
// before, if they must.
//
//	R0  args       R5  outStep      R10      pixels left          R17      column
//	R2  inStep     R6  blocks left  R11-R13  rows                 R19-R22  bytes of 1 to 4 pixels
//	R3  scratch    R7  bias         R14      offset of the pixel  R24      offset of the block
//	R4  out        R8  weights      R15      scratch              R25      out of the block
//
//	V0-V3    sums of four pixels    V4-V12   weights: tap t in V(4+t)    V13  bias
//	V14, V15 bounds                 V16-V27  columns of a row, or of two
//	V25-V28  products, where exact; V28-V31 else a second set of sums, so that
//	         there are eight chains of FMLA; V25 scratch of bounds

// The columns of a row that four pixels read, in x and those after it.
#define COLUMNS1(row, x) \
	ADD R14, row, R17   \
	LDR_Q(x, 17, 0)     \
	LDR_QX(x+1, 17, 19) \
	LDR_QX(x+2, 17, 20) \
	LDR_QX(x+3, 17, 21) \
	ADD R22, R17        \
	LDR_Q(x+4, 17, 0)   \
	LDR_QX(x+5, 17, 19)
#define COLUMNS2(row, x) \
	COLUMNS1(row, x)    \
	LDR_QX(x+6, 17, 20) \
	LDR_QX(x+7, 17, 21) \
	ADD R22, R17        \
	LDR_Q(x+8, 17, 0)

// One tap of four pixels: weight w times the columns from x on, stride apart.
#define TAP(multiply, sum, x, w, stride) \
	multiply(sum, x, w)              \
	multiply(sum+1, x+stride, w)     \
	multiply(sum+2, x+2*stride, w)   \
	multiply(sum+3, x+3*stride, w)
#define TAP_EXACT(x, w, stride) \
	TAP(FMUL, 25, x, w, stride) \
	FADD(0, 0, 25) \
	FADD(1, 1, 26) \
	FADD(2, 2, 27) \
	FADD(3, 3, 28)

// The three rows of four pixels; for stride 1 there is room for two at once.
#define FUSED1 \
	COLUMNS1(R11, 16)      \
	COLUMNS1(R12, 22)      \
	TAP(FMLA, 0, 16, 4, 1) \
	TAP(FMUL, 28, 22, 7, 1) \
	TAP(FMLA, 0, 17, 5, 1) \
	TAP(FMLA, 28, 23, 8, 1) \
	TAP(FMLA, 0, 18, 6, 1) \
	TAP(FMLA, 28, 24, 9, 1) \
	COLUMNS1(R13, 16)      \
	TAP(FMLA, 0, 16, 10, 1) \
	TAP(FMLA, 28, 17, 11, 1) \
	TAP(FMLA, 0, 18, 12, 1) \
	SETS
#define FUSED2 \
	COLUMNS2(R11, 16)      \
	TAP(FMLA, 0, 16, 4, 2) \
	TAP(FMUL, 28, 17, 5, 2) \
	TAP(FMLA, 0, 18, 6, 2) \
	COLUMNS2(R12, 16)      \
	TAP(FMLA, 28, 16, 7, 2) \
	TAP(FMLA, 0, 17, 8, 2) \
	TAP(FMLA, 28, 18, 9, 2) \
	COLUMNS2(R13, 16)      \
	TAP(FMLA, 0, 16, 10, 2) \
	TAP(FMLA, 28, 17, 11, 2) \
	TAP(FMLA, 0, 18, 12, 2) \
	SETS
#define SETS \
	FADD(0, 0, 28) \
	FADD(1, 1, 29) \
	FADD(2, 2, 30) \
	FADD(3, 3, 31)
#define EXACT(columns, stride) \
	columns(R11, 16)          \
	TAP_EXACT(16, 4, stride)  \
	TAP_EXACT(17, 5, stride)  \
	TAP_EXACT(18, 6, stride)  \
	columns(R12, 16)          \
	TAP_EXACT(16, 7, stride)  \
	TAP_EXACT(17, 8, stride)  \
	TAP_EXACT(18, 9, stride)  \
	columns(R13, 16)          \
	TAP_EXACT(16, 10, stride) \
	TAP_EXACT(17, 11, stride) \
	TAP_EXACT(18, 12, stride)

// Bounds, as BOUND of tile_arm64.h in other registers, or, where the sign of 0
// may differ, in one instruction each.
#define EXACT_BOUND(a) \
	FCMGT(25, 14, a) \
	BIT(a, 14, 25)   \
	FCMGT(25, a, 15) \
	BIT(a, 15, 25)
#define FUSED_BOUND(a) \
	FMAX(a, a, 14) \
	FMIN(a, a, 15)
#define STORE(a) \
	STR_Q(a, 4, 0) \
	ADD R5, R4

// SQUARE is the function; shift makes bytes of a pixel of inStep, rows does
// the three rows of four pixels, bound a pixel.
#define SQUARE(shift, rows, bound) \
	MOVD args+0(FP), R0 \
	MOVD depthwiseArgs_taps(R0), R1 \
	MOVD depthwiseArgs_inStep(R0), R2 \
	MOVD depthwiseArgs_outStep(R0), R5 \
	MOVD depthwiseArgs_blocks(R0), R6 \
	MOVD depthwiseArgs_bias(R0), R7 \
	MOVD depthwiseArgs_weights(R0), R8 \
	MOVD depthwiseArgs_out(R0), R25 \
	MOVD (R1), R11   \
	MOVD 24(R1), R12 \
	MOVD 48(R1), R13 \
	LSR  $shift, R2, R19 \
	ADD  R19, R19, R20 \
	ADD  R19, R20, R21 \
	ADD  R19, R21, R22 \
	MOVD    $depthwiseArgs_lo(R0), R15 \
	VLD1R.P 4(R15), [V14.S4] \
	VLD1R   (R15), [V15.S4]  \
	MOVD $0, R24 \
block: \
	WEIGHTS4(4, 0)   \
	WEIGHTS4(8, 64)  \
	LDR_Q(12, 8, 128) \
	LDR_Q(13, 7, 0)  \
	MOVD R24, R14 \
	MOVD R25, R4  \
	MOVD depthwiseArgs_pixels(R0), R10 \
four: \
	SUBS $4, R10, R10 \
	BGE  whole \
	MUL  R2, R10, R3 \
	ADD  R3, R14 \
	MUL  R5, R10, R3 \
	ADD  R3, R4 \
	MOVD $0, R10 \
whole: \
	VMOV V13.B16, V0.B16 \
	VMOV V13.B16, V1.B16 \
	VMOV V13.B16, V2.B16 \
	VMOV V13.B16, V3.B16 \
	rows \
	bound(0) \
	bound(1) \
	bound(2) \
	bound(3) \
	STORE(0) \
	STORE(1) \
	STORE(2) \
	STORE(3) \
	ADD  R2<<2, R14, R14 \
	CBNZ R10, four \
	ADD  $144, R8 \
	ADD  $16, R7  \
	ADD  $16, R24 \
	ADD  $16, R25 \
	SUBS $1, R6, R6 \
	BNE  block \
	RET

// func depthwiseF32_3x3s1_NEON(args *depthwiseArgs)
// Reference: depthwiseF32Generic. taps are those of the first column, three
// apart; there are four pixels or more.
TEXT ·depthwiseF32_3x3s1_NEON(SB), NOSPLIT, $0-8
	SQUARE(0, FUSED1, FUSED_BOUND)

// func depthwiseF32_3x3s2_NEON(args *depthwiseArgs)
// Reference: depthwiseF32Generic. See depthwiseF32_3x3s1_NEON.
TEXT ·depthwiseF32_3x3s2_NEON(SB), NOSPLIT, $0-8
	SQUARE(1, FUSED2, FUSED_BOUND)

// func depthwiseExactF32_3x3s1_NEON(args *depthwiseArgs)
// Reference: depthwiseF32Generic. See depthwiseF32_3x3s1_NEON.
TEXT ·depthwiseExactF32_3x3s1_NEON(SB), NOSPLIT, $0-8
	SQUARE(0, EXACT(COLUMNS1, 1), EXACT_BOUND)

// func depthwiseExactF32_3x3s2_NEON(args *depthwiseArgs)
// Reference: depthwiseF32Generic. See depthwiseF32_3x3s1_NEON.
TEXT ·depthwiseExactF32_3x3s2_NEON(SB), NOSPLIT, $0-8
	SQUARE(1, EXACT(COLUMNS2, 2), EXACT_BOUND)
