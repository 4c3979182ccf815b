//go:build !purego

#include "go_asm.h"
#include "textflag.h"
#include "neon_arm64.h"
#include "tile_arm64.h"

// Tiles of binary16 for CPUs that compute with it (FEAT_FP16): a lane of a row
// against the weights of 8 columns. Up to 32 products of a sum are added up in
// binary16, then to float32: see tileHalf for what that costs. A step is 16 of
// the depth. A tile of fewer rows adds products up in several sets, so that
// there are always eight chains of FMLA.
//
//	V0-V3    rows: 8 of the depth each
//	V4-V7    weights, 16 columns in two registers; V0-V7 then what is widened
//	V8-V15   sums in binary16: set s of R rows, row r, in V(8+2*R*s+2r) and the next
//	V16-V31  sums in float32: row r, columns 4c to 4c+3 in V(16+4r+c)
//	R17      a float32 for each row, which its sums are times

#define EIGHT1 \
	LDR_QX(0, 11, 19) \
	ADD $16, R19
#define EIGHT2 \
	LDR_QX(0, 11, 19) \
	LDR_QX(1, 12, 19) \
	ADD $16, R19
#define EIGHT4 \
	LDR_QX(0, 11, 19) \
	LDR_QX(1, 12, 19) \
	LDR_QX(2, 13, 19) \
	LDR_QX(3, 14, 19) \
	ADD $16, R19

// Weights of 16 columns, in w and w+1, times lane i of one row, or of all.
#define ROW(multiply, sum, w, a, i) \
	multiply(sum, w, a, i) \
	multiply(sum+1, w+1, a, i)
#define ALL1(multiply, sum, w, i) \
	ROW(multiply, sum, w, 0, i)
#define ALL2(multiply, sum, w, i) \
	ROW(multiply, sum, w, 0, i) \
	ROW(multiply, sum+2, w, 1, i)
#define ALL4(multiply, sum, w, i) \
	ALL2(multiply, sum, w, i) \
	ROW(multiply, sum+4, w, 2, i) \
	ROW(multiply, sum+6, w, 3, i)

// A step. Products i, i+4, ... go to the sums from si on, the first of them as
// m0, m1 and m2 say: the sums begin with FMUL_LANE_H.
#define SIXTEEN(eight, all, s0, s1, s2, s3, m0, m1, m2) \
	WEIGHTS2(4, 0)             \
	eight                      \
	WEIGHTS2(6, 32)            \
	all(m0, s0, 4, 0)          \
	WEIGHTS2(4, 64)            \
	all(m1, s1, 6, 1)          \
	WEIGHTS2(6, 96)            \
	all(m2, s2, 4, 2)          \
	WEIGHTS2(4, 128)           \
	all(m2, s3, 6, 3)          \
	WEIGHTS2(6, 160)           \
	all(FMLA_LANE_H, s0, 4, 4) \
	WEIGHTS2(4, 192)           \
	all(FMLA_LANE_H, s1, 6, 5) \
	WEIGHTS2(6, 224)           \
	all(FMLA_LANE_H, s2, 4, 6) \
	WEIGHTS2(4, 256)           \
	all(FMLA_LANE_H, s3, 6, 7) \
	eight                      \
	WEIGHTS2(6, 288)           \
	all(FMLA_LANE_H, s0, 4, 0) \
	WEIGHTS2(4, 320)           \
	all(FMLA_LANE_H, s1, 6, 1) \
	WEIGHTS2(6, 352)           \
	all(FMLA_LANE_H, s2, 4, 2) \
	WEIGHTS2(4, 384)           \
	all(FMLA_LANE_H, s3, 6, 3) \
	WEIGHTS2(6, 416)           \
	all(FMLA_LANE_H, s0, 4, 4) \
	WEIGHTS2(4, 448)           \
	all(FMLA_LANE_H, s1, 6, 5) \
	WEIGHTS2(6, 480)           \
	all(FMLA_LANE_H, s2, 4, 6) \
	all(FMLA_LANE_H, s3, 6, 7) \
	ADD $512, R8
#define SIXTEEN4(multiply) \
	SIXTEEN(EIGHT4, ALL4, 8, 8, 8, 8, multiply, FMLA_LANE_H, FMLA_LANE_H)
#define SIXTEEN2(multiply) \
	SIXTEEN(EIGHT2, ALL2, 8, 12, 8, 12, multiply, multiply, FMLA_LANE_H)
#define SIXTEEN1(multiply) \
	SIXTEEN(EIGHT1, ALL1, 8, 10, 12, 14, multiply, multiply, multiply)

// WIDENED makes float32 of 16 columns of a row, in h and h+1; WIDEN adds those of
// all rows to the sums, after it has made one of the sets.
#define WIDENED(t, h) \
	FCVTL(t, h)    \
	FCVTL2(t+1, h) \
	FCVTL(t+2, h+1) \
	FCVTL2(t+3, h+1)
#define ADDED(sum, t) \
	FADD(sum, sum, t)       \
	FADD(sum+1, sum+1, t+1) \
	FADD(sum+2, sum+2, t+2) \
	FADD(sum+3, sum+3, t+3)
#define WIDEN1 \
	FADD_H(8, 8, 10)   \
	FADD_H(9, 9, 11)   \
	FADD_H(12, 12, 14) \
	FADD_H(13, 13, 15) \
	FADD_H(8, 8, 12)   \
	FADD_H(9, 9, 13)   \
	WIDENED(0, 8) \
	ADDED(16, 0)
#define WIDEN2 \
	FADD_H(8, 8, 12)   \
	FADD_H(9, 9, 13)   \
	FADD_H(10, 10, 14) \
	FADD_H(11, 11, 15) \
	WIDENED(0, 8)  \
	WIDENED(4, 10) \
	ADDED(16, 0)   \
	ADDED(20, 4)
#define WIDEN4 \
	WIDENED(0, 8)  \
	WIDENED(4, 10) \
	ADDED(16, 0)   \
	ADDED(20, 4)   \
	WIDENED(0, 12) \
	WIDENED(4, 14) \
	ADDED(24, 0)   \
	ADDED(28, 4)

// Two steps, and one.
#define TWO(steps, widen) \
	steps(FMUL_LANE_H) \
	steps(FMLA_LANE_H) \
	widen
#define ONE(steps, widen) \
	steps(FMUL_LANE_H) \
	widen

// UNSCALE moves the sums of row r to V(4r), times lane r of V15, on top of the
// bias, which BIAS loads afterwards, when V16-V19 are free.
#define UNSCALE(r) \
	FMUL_LANE(4*r, 16+4*r, 15, r)     \
	FMUL_LANE(4*r+1, 17+4*r, 15, r)   \
	FMUL_LANE(4*r+2, 18+4*r, 15, r)   \
	FMUL_LANE(4*r+3, 19+4*r, 15, r)
#define BIAS \
	VLD1 (R7), [V16.S4, V17.S4, V18.S4, V19.S4]
#define ADDBIAS(r) \
	FADD(4*r, 4*r, 16)     \
	FADD(4*r+1, 4*r+1, 17) \
	FADD(4*r+2, 4*r+2, 18) \
	FADD(4*r+3, 4*r+3, 19)

// func tileF16_4x16_FP16(args *tileArgs)
// Reference: gemmF32Generic. Rows are binary16, steps are sixteen of the
// depth, unscale holds a float32 for each row.
TEXT ·tileF16_4x16_FP16(SB), NOSPLIT, $0-8
	TILE_BEGIN_WITH(tileArgs_unscale)
	ZERO4(V16, V17, V18, V19)
	ZERO4(V20, V21, V22, V23)
	ZERO4(V24, V25, V26, V27)
	ZERO4(V28, V29, V30, V31)
	SEGMENTS(ROWS4, 2, TWO(SIXTEEN4, WIDEN4), ONE(SIXTEEN4, WIDEN4))
	VLD1.P 16(R17), [V15.S4]
	UNSCALE(0)
	UNSCALE(1)
	UNSCALE(2)
	UNSCALE(3)
	BIAS
	ADDBIAS(0)
	ADDBIAS(1)
	ADDBIAS(2)
	ADDBIAS(3)
	TILE_STORE_F32(MORE4x16, BOUND4x16)
	TILE_END_WITH(4, tileArgs_unscale)

// func tileF16_2x16_FP16(args *tileArgs)
// Reference: gemmF32Generic. See tileF16_4x16_FP16.
TEXT ·tileF16_2x16_FP16(SB), NOSPLIT, $0-8
	TILE_BEGIN_WITH(tileArgs_unscale)
	ZERO4(V16, V17, V18, V19)
	ZERO4(V20, V21, V22, V23)
	SEGMENTS(ROWS2, 2, TWO(SIXTEEN2, WIDEN2), ONE(SIXTEEN2, WIDEN2))
	FMOVD.P 8(R17), F15
	UNSCALE(0)
	UNSCALE(1)
	BIAS
	ADDBIAS(0)
	ADDBIAS(1)
	TILE_STORE_F32(MORE2x16, BOUND2x16)
	TILE_END_WITH(2, tileArgs_unscale)

// func tileF16_1x16_FP16(args *tileArgs)
// Reference: gemmF32Generic. See tileF16_4x16_FP16.
TEXT ·tileF16_1x16_FP16(SB), NOSPLIT, $0-8
	TILE_BEGIN_WITH(tileArgs_unscale)
	ZERO4(V16, V17, V18, V19)
	SEGMENTS(ROWS1, 2, TWO(SIXTEEN1, WIDEN1), ONE(SIXTEEN1, WIDEN1))
	FMOVS.P 4(R17), F15
	UNSCALE(0)
	BIAS
	ADDBIAS(0)
	TILE_STORE_F32(MORE1x16, BOUND1x16)
	TILE_END_WITH(1, tileArgs_unscale)

// Rows become binary16 in two passes.
//
//	R0  args    R1  out    R2  a    R4  blocks left    V18  scale
//	V0-V3  values    V4-V7  greatest of each lane

// func greatestF32_FP16(args *loopArgs)
// Reference: greatest. NaN counts for nothing, unless it signals.
TEXT ·greatestF32_FP16(SB), NOSPLIT, $0-8
	MOVD args+0(FP), R0
	MOVD loopArgs_a(R0), R2
	MOVD loopArgs_blocks(R0), R4
	ZERO4(V4, V5, V6, V7)

greatest:
	VLD1.P 64(R2), [V0.S4, V1.S4, V2.S4, V3.S4]
	FABS(0, 0)
	FABS(1, 1)
	FABS(2, 2)
	FABS(3, 3)
	FMAXNM(4, 4, 0)
	FMAXNM(5, 5, 1)
	FMAXNM(6, 6, 2)
	FMAXNM(7, 7, 3)
	SUBS $1, R4, R4
	BNE  greatest
	FMAXNM(4, 4, 5)
	FMAXNM(6, 6, 7)
	FMAXNM(4, 4, 6)
	FMAXNMV(4, 4)
	FMOVS F4, loopArgs_scaleB(R0)
	RET

// func halvesF32_FP16(args *loopArgs)
// Reference: Float16Bits, of each value times scaleA.
TEXT ·halvesF32_FP16(SB), NOSPLIT, $0-8
	MOVD args+0(FP), R0
	MOVD loopArgs_out(R0), R1
	MOVD loopArgs_a(R0), R2
	MOVD loopArgs_blocks(R0), R4
	MOVW loopArgs_scaleA(R0), R5
	VDUP R5, V18.S4

halves:
	VLD1.P 64(R2), [V0.S4, V1.S4, V2.S4, V3.S4]
	FMUL(0, 0, 18)
	FMUL(1, 1, 18)
	FMUL(2, 2, 18)
	FMUL(3, 3, 18)
	FCVTN(4, 0)
	FCVTN(5, 2)
	FCVTN2(4, 1)
	FCVTN2(5, 3)
	VST1.P [V4.B16, V5.B16], 32(R1)
	SUBS   $1, R4, R4
	BNE    halves
	RET
