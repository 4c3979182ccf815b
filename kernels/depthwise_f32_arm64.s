//go:build !purego

#include "go_asm.h"
#include "textflag.h"
#include "neon_arm64.h"
#include "tile_arm64.h"

// Depthwise convolutions of float32: blocks of 8 channels; four pixels pass over
// the taps at once, so that weights are loaded once for four. Fast ones fuse
// products and sums, exact ones round each product first.
//
//	R0  args       R4  out          R8   weights      R12  channels of a pixel  R19  taps left
//	R1  taps       R5  outStep      R10  pixels left  R13  offset of a pixel    R23  weights of the block
//	R2  inStep     R6  blocks left  R11  tap          R15  scratch              R24  offset of the block
//	R3  how many   R7  bias                           R17  next taps            R25  out of the block
//
//	V0-V7    sums: pixel p, channels 4j to 4j+3 in V(2p+j)
//	V16, V17 weights    V18-V25  channels of a tap, each pixel two    V26-V29  products, where exact

#define FUSED(sum, x) \
	FMLA(sum, x, 16) \
	FMLA(sum+1, x+1, 17)
#define EXACT(sum, x) \
	FMUL(26, x, 16)    \
	FMUL(27, x+1, 17)  \
	FADD(sum, sum, 26) \
	FADD(sum+1, sum+1, 27)

// A tap of four pixels, or of one.
#define FOUR(multiplyAdd) \
	MOVD (R17), R11    \
	WEIGHTS2(16, 0)    \
	ADD  R13, R11, R12 \
	LDR_Q(18, 12, 0)   \
	LDR_Q(19, 12, 16)  \
	ADD  R2, R12       \
	LDR_Q(20, 12, 0)   \
	LDR_Q(21, 12, 16)  \
	ADD  R2, R12       \
	LDR_Q(22, 12, 0)   \
	LDR_Q(23, 12, 16)  \
	ADD  R2, R12       \
	LDR_Q(24, 12, 0)   \
	LDR_Q(25, 12, 16)  \
	ADD  $8, R17       \
	ADD  $32, R8       \
	multiplyAdd(0, 18) \
	multiplyAdd(2, 20) \
	multiplyAdd(4, 22) \
	multiplyAdd(6, 24)
#define ONE(multiplyAdd) \
	MOVD (R17), R11    \
	WEIGHTS2(16, 0)    \
	ADD  R13, R11, R12 \
	LDR_Q(18, 12, 0)   \
	LDR_Q(19, 12, 16)  \
	ADD  $8, R17       \
	ADD  $32, R8       \
	multiplyAdd(0, 18)

// DEPTHWISE is the function.
#define DEPTHWISE(multiplyAdd) \
	MOVD args+0(FP), R0 \
	MOVD depthwiseArgs_taps(R0), R1 \
	MOVD depthwiseArgs_inStep(R0), R2 \
	MOVD depthwiseArgs_groups(R0), R3 \
	MOVD depthwiseArgs_outStep(R0), R5 \
	MOVD depthwiseArgs_blocks(R0), R6 \
	MOVD depthwiseArgs_bias(R0), R7 \
	MOVD depthwiseArgs_weights(R0), R23 \
	MOVD depthwiseArgs_out(R0), R25 \
	MOVD $0, R24 \
block: \
	MOVD R24, R13 \
	MOVD R25, R4  \
	MOVD depthwiseArgs_pixels(R0), R10 \
	SUBS $4, R10, R10 \
	BLT  few \
four: \
	BIAS4x8 \
	MOVD R1, R17  \
	MOVD R23, R8  \
	MOVD R3, R19  \
tapOfFour: \
	FOUR(multiplyAdd) \
	SUBS $1, R19, R19 \
	BNE  tapOfFour \
	BOUNDS \
	BOUND4x8 \
	ADD  R2<<2, R13, R13 \
	SUBS $4, R10, R10 \
	BGE  four \
few: \
	ADDS $4, R10, R10 \
	BEQ  row \
one: \
	BIAS1x8 \
	MOVD R1, R17  \
	MOVD R23, R8  \
	MOVD R3, R19  \
tapOfOne: \
	ONE(multiplyAdd) \
	SUBS $1, R19, R19 \
	BNE  tapOfOne \
	BOUNDS \
	BOUND1x8 \
	ADD  R2, R13, R13 \
	SUBS $1, R10, R10 \
	BNE  one \
row: \
	ADD  R3<<5, R23, R23 \
	ADD  $32, R7  \
	ADD  $32, R24 \
	ADD  $32, R25 \
	SUBS $1, R6, R6 \
	BNE  block \
	RET

#define BOUNDS \
	MOVD    $depthwiseArgs_lo(R0), R15 \
	VLD1R.P 4(R15), [V16.S4] \
	VLD1R   (R15), [V17.S4]

// func depthwiseF32_NEON(args *depthwiseArgs)
// Reference: depthwiseF32Generic.
TEXT ·depthwiseF32_NEON(SB), NOSPLIT, $0-8
	DEPTHWISE(FUSED)

// func depthwiseExactF32_NEON(args *depthwiseArgs)
// Reference: depthwiseF32Generic.
TEXT ·depthwiseExactF32_NEON(SB), NOSPLIT, $0-8
	DEPTHWISE(EXACT)
