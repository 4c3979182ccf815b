//go:build !purego

#include "go_asm.h"
#include "textflag.h"
#include "neon_arm64.h"
#include "tile_arm64.h"

// A depthwise convolution of int8 has one product for each tap and channel.
// Those of two taps are added in 16 bits, which packing sees to be enough, then
// to 32. Blocks are of 16 channels; four pixels pass over the taps at once, so
// that weights are loaded once for four.
//
//	R0  args       R5  outStep      R10      pixels left        R19      taps left
//	R1  taps       R6  blocks left  R11, R12 taps at hand       R20-R22  Zero, Min, Max
//	R2  inStep     R7  bias         R13-R16  offsets of pixels  R23      weights of the block
//	R3  how many   R8  weights      R17      next taps          R24      offset of the block
//	R4  out        R9  scale                                    R25      out of the block
//
//	V0-V15   sums: pixel p, channels 4j to 4j+3 in V(4p+j)
//	V16, V17 weights of two taps    V18-V23  16 channels of a tap and pixel
//	V24-V31  products of channels 0-7 and 8-15, for a pixel each two

// Of 16 channels of a pixel in x, products with the first tap's weights in p and
// p+1, then those with the second tap's on top.
#define MULTIPLY(p, x) \
	SMULL(p, x, 16) \
	SMULL2(p+1, x, 16)
#define THEN(p, x) \
	SMLAL(p, x, 17) \
	SMLAL2(p+1, x, 17)
#define WIDEN(sum, p) \
	SADDW(sum, sum, p)         \
	SADDW2(sum+1, sum+1, p)    \
	SADDW(sum+2, sum+2, p+1)   \
	SADDW2(sum+3, sum+3, p+1)

#define BIASES(r, a, b, c, d) \
	VLD1 (r), [a.S4, b.S4, c.S4, d.S4]

#define STORE_BEGIN \
	VLD1 (R9), [V20.S4, V21.S4, V22.S4, V23.S4] \
	VDUP R20, V16.H8  \
	VDUP R21, V17.B16 \
	VDUP R22, V18.B16

// func depthwiseInt8_NEON(args *depthwiseArgs)
// Reference: depthwiseInt8Generic.
TEXT ·depthwiseInt8_NEON(SB), NOSPLIT, $0-8
	MOVD     args+0(FP), R0
	MOVD     depthwiseArgs_taps(R0), R1
	MOVD     depthwiseArgs_inStep(R0), R2
	MOVD     depthwiseArgs_groups(R0), R3
	MOVD     depthwiseArgs_outStep(R0), R5
	MOVD     depthwiseArgs_blocks(R0), R6
	MOVD     depthwiseArgs_bias(R0), R7
	MOVD     depthwiseArgs_scale(R0), R9
	MOVW     depthwiseArgs_zero(R0), R20
	MOVW     depthwiseArgs_least(R0), R21
	FMOVS    depthwiseArgs_hi(R0), F16
	FCVTZSSW F16, R22
	ADDW     R20, R22
	MOVD     depthwiseArgs_weights(R0), R23
	MOVD     depthwiseArgs_out(R0), R25
	MOVD     $0, R24

block:
	MOVD R24, R13
	MOVD R25, R4
	MOVD depthwiseArgs_pixels(R0), R10
	SUBS $4, R10, R10
	BLT  few

four:
	ADD  R2, R13, R14
	ADD  R2, R14, R15
	ADD  R2, R15, R16
	BIASES(R7, V0, V1, V2, V3)
	BIASES(R7, V4, V5, V6, V7)
	BIASES(R7, V8, V9, V10, V11)
	BIASES(R7, V12, V13, V14, V15)
	MOVD R1, R17
	MOVD R23, R8
	SUBS $2, R3, R19
	BLT  lastOfFour

twoOfFour:
	LDP  (R17), (R11, R12)
	WEIGHTS2(16, 0)
	LDR_QX(18, 11, 13)
	LDR_QX(20, 11, 14)
	LDR_QX(19, 12, 13)
	LDR_QX(21, 12, 14)
	MULTIPLY(24, 18)
	MULTIPLY(26, 20)
	LDR_QX(22, 11, 15)
	LDR_QX(23, 12, 15)
	THEN(24, 19)
	THEN(26, 21)
	LDR_QX(18, 11, 16)
	LDR_QX(20, 12, 16)
	MULTIPLY(28, 22)
	MULTIPLY(30, 18)
	WIDEN(0, 24)
	THEN(28, 23)
	THEN(30, 20)
	WIDEN(4, 26)
	WIDEN(8, 28)
	WIDEN(12, 30)
	ADD  $16, R17
	ADD  $32, R8
	SUBS $2, R19, R19
	BGE  twoOfFour

lastOfFour:
	ADDS $2, R19, R19
	BEQ  storeFour
	MOVD (R17), R11
	LDR_Q(16, 8, 0)
	LDR_QX(18, 11, 13)
	LDR_QX(19, 11, 14)
	LDR_QX(20, 11, 15)
	LDR_QX(21, 11, 16)
	MULTIPLY(24, 18)
	MULTIPLY(26, 19)
	MULTIPLY(28, 20)
	MULTIPLY(30, 21)
	WIDEN(0, 24)
	WIDEN(4, 26)
	WIDEN(8, 28)
	WIDEN(12, 30)

storeFour:
	STORE_BEGIN
	BYTES4x16
	ADD  R2<<2, R13, R13
	SUBS $4, R10, R10
	BGE  four

few:
	ADDS $4, R10, R10
	BEQ  row

one:
	BIASES(R7, V0, V1, V2, V3)
	MOVD R1, R17
	MOVD R23, R8
	SUBS $2, R3, R19
	BLT  lastOfOne

twoOfOne:
	LDP  (R17), (R11, R12)
	WEIGHTS2(16, 0)
	LDR_QX(18, 11, 13)
	LDR_QX(19, 12, 13)
	MULTIPLY(24, 18)
	THEN(24, 19)
	WIDEN(0, 24)
	ADD  $16, R17
	ADD  $32, R8
	SUBS $2, R19, R19
	BGE  twoOfOne

lastOfOne:
	ADDS $2, R19, R19
	BEQ  storeOne
	MOVD (R17), R11
	LDR_Q(16, 8, 0)
	LDR_QX(18, 11, 13)
	MULTIPLY(24, 18)
	WIDEN(0, 24)

storeOne:
	STORE_BEGIN
	BYTES1x16
	ADD  R2, R13, R13
	SUBS $1, R10, R10
	BNE  one

row:
	ADD  R3<<4, R23, R23
	ADD  $64, R7
	ADD  $64, R9
	ADD  $16, R24
	ADD  $16, R25
	SUBS $1, R6, R6
	BNE  block
	RET
