//go:build !purego

#include "go_asm.h"
#include "textflag.h"
#include "neon_arm64.h"
#include "tile_arm64.h"

// Tiles of float32: a lane of a row against the weights of 4 columns. Fast ones
// fuse products and sums (FMLA), and those of one row keep a set of sums for
// each of four steps; exact ones round each product first.
//
//	V0-V15   sums: row r, columns 4c to 4c+3 in V(4r+c), or V(2r+c) of 8 columns
//	V16-V23  weights of two steps, or of four of 8 columns
//	V24-V27  products, where exact
//	V28-V31  16 bytes of each row, 4 steps

#define FUSED16(sum, b, a, i) \
	FMLA_LANE(sum, b, a, i)     \
	FMLA_LANE(sum+1, b+1, a, i) \
	FMLA_LANE(sum+2, b+2, a, i) \
	FMLA_LANE(sum+3, b+3, a, i)
#define FUSED8(sum, b, a, i) \
	FMLA_LANE(sum, b, a, i) \
	FMLA_LANE(sum+1, b+1, a, i)
#define EXACT16(sum, b, a, i) \
	FMUL_LANE(24, b, a, i)   \
	FMUL_LANE(25, b+1, a, i) \
	FMUL_LANE(26, b+2, a, i) \
	FMUL_LANE(27, b+3, a, i) \
	FADD(sum, sum, 24)       \
	FADD(sum+1, sum+1, 25)   \
	FADD(sum+2, sum+2, 26)   \
	FADD(sum+3, sum+3, 27)
// Two rows of 8 columns.
#define EXACT2x8(sum, b, a, i) \
	FMUL_LANE(24, b, a, i)     \
	FMUL_LANE(25, b+1, a, i)   \
	FMUL_LANE(26, b, a+1, i)   \
	FMUL_LANE(27, b+1, a+1, i) \
	FADD(sum, sum, 24)         \
	FADD(sum+1, sum+1, 25)     \
	FADD(sum+2, sum+2, 26)     \
	FADD(sum+3, sum+3, 27)
#define EXACT8(sum, b, a, i) \
	FMUL_LANE(24, b, a, i)   \
	FMUL_LANE(25, b+1, a, i) \
	FADD(sum, sum, 24)       \
	FADD(sum+1, sum+1, 25)

#define FUSED1x16(b, i) \
	FUSED16(4*i, b, 28, i)
#define FUSED2x16(b, i) \
	FUSED16(0, b, 28, i) \
	FUSED16(4, b, 29, i)
#define FUSED4x16(b, i) \
	FUSED2x16(b, i)      \
	FUSED16(8, b, 30, i) \
	FUSED16(12, b, 31, i)
#define FUSED1x8(b, i) \
	FUSED8(2*i, b, 28, i)
#define FUSED2x8(b, i) \
	FUSED8(0, b, 28, i) \
	FUSED8(2, b, 29, i)
#define FUSED4x8(b, i) \
	FUSED2x8(b, i)      \
	FUSED8(4, b, 30, i) \
	FUSED8(6, b, 31, i)
#define EXACT1x16(b, i) \
	EXACT16(0, b, 28, i)
#define EXACT2x16(b, i) \
	EXACT16(0, b, 28, i) \
	EXACT16(4, b, 29, i)
#define EXACT4x16(b, i) \
	EXACT2x16(b, i)      \
	EXACT16(8, b, 30, i) \
	EXACT16(12, b, 31, i)
#define EXACT1x8(b, i) \
	EXACT8(0, b, 28, i)
#define EXACT_2x8(b, i) \
	EXACT2x8(0, b, 28, i)
#define EXACT4x8(b, i) \
	EXACT2x8(0, b, 28, i) \
	EXACT2x8(4, b, 30, i)

// FOUR16 and the like with weights in binary16, which V24-V27 hold before they
// are widened.
#define FOUR_HALF16(load, dot) \
	VLD1.P 64(R8), [V24.B16, V25.B16, V26.B16, V27.B16] \
	load           \
	FCVTL(16, 24)  \
	FCVTL2(17, 24) \
	FCVTL(18, 25)  \
	FCVTL2(19, 25) \
	FCVTL(20, 26)  \
	FCVTL2(21, 26) \
	FCVTL(22, 27)  \
	FCVTL2(23, 27) \
	VLD1.P 64(R8), [V24.B16, V25.B16, V26.B16, V27.B16] \
	dot(16, 0)     \
	dot(20, 1)     \
	FCVTL(16, 24)  \
	FCVTL2(17, 24) \
	FCVTL(18, 25)  \
	FCVTL2(19, 25) \
	FCVTL(20, 26)  \
	FCVTL2(21, 26) \
	FCVTL(22, 27)  \
	FCVTL2(23, 27) \
	dot(16, 2)     \
	dot(20, 3)
#define ONE_HALF16(load, dot) \
	VLD1.P 32(R8), [V24.B16, V25.B16] \
	load           \
	FCVTL(16, 24)  \
	FCVTL2(17, 24) \
	FCVTL(18, 25)  \
	FCVTL2(19, 25) \
	dot(16, 0)
#define FOUR_HALF8(load, dot) \
	VLD1.P 64(R8), [V24.B16, V25.B16, V26.B16, V27.B16] \
	load           \
	FCVTL(16, 24)  \
	FCVTL2(17, 24) \
	FCVTL(18, 25)  \
	FCVTL2(19, 25) \
	FCVTL(20, 26)  \
	FCVTL2(21, 26) \
	FCVTL(22, 27)  \
	FCVTL2(23, 27) \
	dot(16, 0)     \
	dot(18, 1)     \
	dot(20, 2)     \
	dot(22, 3)
#define ONE_HALF8(load, dot) \
	VLD1.P 16(R8), [V24.B16] \
	load           \
	FCVTL(16, 24)  \
	FCVTL2(17, 24) \
	dot(16, 0)

// Sets of sums of one row become one.
#define SETS1x16 \
	FADD(0, 0, 4)    \
	FADD(1, 1, 5)    \
	FADD(2, 2, 6)    \
	FADD(3, 3, 7)    \
	FADD(8, 8, 12)   \
	FADD(9, 9, 13)   \
	FADD(10, 10, 14) \
	FADD(11, 11, 15) \
	FADD(0, 0, 8)    \
	FADD(1, 1, 9)    \
	FADD(2, 2, 10)   \
	FADD(3, 3, 11)
#define SETS1x8 \
	FADD(0, 0, 2) \
	FADD(1, 1, 3) \
	FADD(4, 4, 6) \
	FADD(5, 5, 7) \
	FADD(0, 0, 4) \
	FADD(1, 1, 5)

// func tileF32_4x16_NEON(args *tileArgs)
// Reference: gemmF32Generic.
TEXT ·tileF32_4x16_NEON(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS4x16
	SEGMENTS(ROWS4, 4, FOUR16(LOAD4, FUSED4x16), ONE16(WORD4, FUSED4x16))
	TILE_STORE_F32(MORE4x16, BOUND4x16)
	TILE_END(4)

// func tileF32_2x16_NEON(args *tileArgs)
// Reference: gemmF32Generic.
TEXT ·tileF32_2x16_NEON(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS2x16
	SEGMENTS(ROWS2, 4, FOUR16(LOAD2, FUSED2x16), ONE16(WORD2, FUSED2x16))
	TILE_STORE_F32(MORE2x16, BOUND2x16)
	TILE_END(2)

// func tileF32_1x16_NEON(args *tileArgs)
// Reference: gemmF32Generic.
TEXT ·tileF32_1x16_NEON(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS1x16
	ZERO4(V4, V5, V6, V7)
	ZERO4(V8, V9, V10, V11)
	ZERO4(V12, V13, V14, V15)
	SEGMENTS(ROWS1, 4, FOUR16(LOAD1, FUSED1x16), ONE16(WORD1, FUSED1x16))
	SETS1x16
	TILE_STORE_F32(MORE1x16, BOUND1x16)
	TILE_END(1)

// func tileF32_4x8_NEON(args *tileArgs)
// Reference: gemmF32Generic.
TEXT ·tileF32_4x8_NEON(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS4x8
	SEGMENTS(ROWS4, 4, FOUR8(LOAD4, FUSED4x8), ONE8(WORD4, FUSED4x8))
	TILE_STORE_F32(MORE4x8, BOUND4x8)
	TILE_END(4)

// func tileF32_2x8_NEON(args *tileArgs)
// Reference: gemmF32Generic.
TEXT ·tileF32_2x8_NEON(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS2x8
	SEGMENTS(ROWS2, 4, FOUR8(LOAD2, FUSED2x8), ONE8(WORD2, FUSED2x8))
	TILE_STORE_F32(MORE2x8, BOUND2x8)
	TILE_END(2)

// func tileF32_1x8_NEON(args *tileArgs)
// Reference: gemmF32Generic.
TEXT ·tileF32_1x8_NEON(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS1x8
	ZERO4(V2, V3, V4, V5)
	VEOR V6.B16, V6.B16, V6.B16
	VEOR V7.B16, V7.B16, V7.B16
	SEGMENTS(ROWS1, 4, FOUR8(LOAD1, FUSED1x8), ONE8(WORD1, FUSED1x8))
	SETS1x8
	TILE_STORE_F32(MORE1x8, BOUND1x8)
	TILE_END(1)

// func tileExactF32_4x16_NEON(args *tileArgs)
// Reference: gemmF32Generic.
TEXT ·tileExactF32_4x16_NEON(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS4x16
	SEGMENTS(ROWS4, 4, FOUR16(LOAD4, EXACT4x16), ONE16(WORD4, EXACT4x16))
	TILE_STORE_F32(MORE4x16, BOUND4x16)
	TILE_END(4)

// func tileExactF32_2x16_NEON(args *tileArgs)
// Reference: gemmF32Generic.
TEXT ·tileExactF32_2x16_NEON(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS2x16
	SEGMENTS(ROWS2, 4, FOUR16(LOAD2, EXACT2x16), ONE16(WORD2, EXACT2x16))
	TILE_STORE_F32(MORE2x16, BOUND2x16)
	TILE_END(2)

// func tileExactF32_1x16_NEON(args *tileArgs)
// Reference: gemmF32Generic.
TEXT ·tileExactF32_1x16_NEON(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS1x16
	SEGMENTS(ROWS1, 4, FOUR16(LOAD1, EXACT1x16), ONE16(WORD1, EXACT1x16))
	TILE_STORE_F32(MORE1x16, BOUND1x16)
	TILE_END(1)

// func tileExactF32_4x8_NEON(args *tileArgs)
// Reference: gemmF32Generic.
TEXT ·tileExactF32_4x8_NEON(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS4x8
	SEGMENTS(ROWS4, 4, FOUR8(LOAD4, EXACT4x8), ONE8(WORD4, EXACT4x8))
	TILE_STORE_F32(MORE4x8, BOUND4x8)
	TILE_END(4)

// func tileExactF32_2x8_NEON(args *tileArgs)
// Reference: gemmF32Generic.
TEXT ·tileExactF32_2x8_NEON(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS2x8
	SEGMENTS(ROWS2, 4, FOUR8(LOAD2, EXACT_2x8), ONE8(WORD2, EXACT_2x8))
	TILE_STORE_F32(MORE2x8, BOUND2x8)
	TILE_END(2)

// func tileExactF32_1x8_NEON(args *tileArgs)
// Reference: gemmF32Generic.
TEXT ·tileExactF32_1x8_NEON(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS1x8
	SEGMENTS(ROWS1, 4, FOUR8(LOAD1, EXACT1x8), ONE8(WORD1, EXACT1x8))
	TILE_STORE_F32(MORE1x8, BOUND1x8)
	TILE_END(1)

// func tileF16_4x16_NEON(args *tileArgs)
// Reference: gemmF32Generic.
TEXT ·tileF16_4x16_NEON(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS4x16
	SEGMENTS(ROWS4, 4, FOUR_HALF16(LOAD4, FUSED4x16), ONE_HALF16(WORD4, FUSED4x16))
	TILE_STORE_F32(MORE4x16, BOUND4x16)
	TILE_END(4)

// func tileF16_2x16_NEON(args *tileArgs)
// Reference: gemmF32Generic.
TEXT ·tileF16_2x16_NEON(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS2x16
	SEGMENTS(ROWS2, 4, FOUR_HALF16(LOAD2, FUSED2x16), ONE_HALF16(WORD2, FUSED2x16))
	TILE_STORE_F32(MORE2x16, BOUND2x16)
	TILE_END(2)

// func tileF16_1x16_NEON(args *tileArgs)
// Reference: gemmF32Generic.
TEXT ·tileF16_1x16_NEON(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS1x16
	ZERO4(V4, V5, V6, V7)
	ZERO4(V8, V9, V10, V11)
	ZERO4(V12, V13, V14, V15)
	SEGMENTS(ROWS1, 4, FOUR_HALF16(LOAD1, FUSED1x16), ONE_HALF16(WORD1, FUSED1x16))
	SETS1x16
	TILE_STORE_F32(MORE1x16, BOUND1x16)
	TILE_END(1)

// func tileF16_4x8_NEON(args *tileArgs)
// Reference: gemmF32Generic.
TEXT ·tileF16_4x8_NEON(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS4x8
	SEGMENTS(ROWS4, 4, FOUR_HALF8(LOAD4, FUSED4x8), ONE_HALF8(WORD4, FUSED4x8))
	TILE_STORE_F32(MORE4x8, BOUND4x8)
	TILE_END(4)

// func tileF16_2x8_NEON(args *tileArgs)
// Reference: gemmF32Generic.
TEXT ·tileF16_2x8_NEON(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS2x8
	SEGMENTS(ROWS2, 4, FOUR_HALF8(LOAD2, FUSED2x8), ONE_HALF8(WORD2, FUSED2x8))
	TILE_STORE_F32(MORE2x8, BOUND2x8)
	TILE_END(2)

// func tileF16_1x8_NEON(args *tileArgs)
// Reference: gemmF32Generic.
TEXT ·tileF16_1x8_NEON(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS1x8
	ZERO4(V2, V3, V4, V5)
	VEOR V6.B16, V6.B16, V6.B16
	VEOR V7.B16, V7.B16, V7.B16
	SEGMENTS(ROWS1, 4, FOUR_HALF8(LOAD1, FUSED1x8), ONE_HALF8(WORD1, FUSED1x8))
	SETS1x8
	TILE_STORE_F32(MORE1x8, BOUND1x8)
	TILE_END(1)
