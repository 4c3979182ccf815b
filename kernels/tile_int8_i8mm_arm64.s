//go:build !purego

#include "go_asm.h"
#include "textflag.h"
#include "neon_arm64.h"
#include "tile_arm64.h"

// Tiles of int8 for CPUs with SMMLA (Armv8.6: Cortex-A510, A710, X2, Neoverse
// V1, N2): 8 bytes of two rows against 8 bytes of two columns give four sums.
//
//	V0-V15   sums: rows 2p, 2p+1 and columns 2c, 2c+1 in V(8p+c), or V(4p+c) of 8 columns
//	V16-V23  weights of a step, each of two columns
//	V24-V27  16 bytes of each row    V28-V31  8 bytes of two rows

#define MULTIPLY16(sum, a) \
	SMMLA(sum, a, 16)   \
	SMMLA(sum+1, a, 17) \
	SMMLA(sum+2, a, 18) \
	SMMLA(sum+3, a, 19) \
	SMMLA(sum+4, a, 20) \
	SMMLA(sum+5, a, 21) \
	SMMLA(sum+6, a, 22) \
	SMMLA(sum+7, a, 23)
#define MULTIPLY8(sum, a, w) \
	SMMLA(sum, a, w)     \
	SMMLA(sum+1, a, w+1) \
	SMMLA(sum+2, a, w+2) \
	SMMLA(sum+3, a, w+3)
#define WEIGHTS8(off) \
	WEIGHTS4(16, off) \
	WEIGHTS4(20, off+64)

// Rows: 16 bytes, two steps, or 8.
#define PAIR1 \
	LDR_QX(24, 11, 19)
#define PAIR2 \
	PAIR1 \
	LDR_QX(25, 12, 19)
#define PAIR4 \
	PAIR2 \
	LDR_QX(26, 13, 19) \
	LDR_QX(27, 14, 19)
#define HALF1 \
	FMOVD (R11)(R19), F24
#define HALF2 \
	HALF1 \
	FMOVD (R12)(R19), F25
#define HALF4 \
	HALF2 \
	FMOVD (R13)(R19), F26 \
	FMOVD (R14)(R19), F27

// The first step of the rows, and the second. A single row has itself for
// company.
#define FIRST1 \
	ZIP1_D(28, 24, 24)
#define FIRST2 \
	ZIP1_D(28, 24, 25)
#define FIRST4 \
	FIRST2 \
	ZIP1_D(30, 26, 27)
#define SECOND1 \
	ZIP2_D(29, 24, 24)
#define SECOND2 \
	ZIP2_D(29, 24, 25)
#define SECOND4 \
	SECOND2 \
	ZIP2_D(31, 26, 27)

// Two steps, and one.
#define TWO4x16 \
	PAIR4 \
	WEIGHTS8(0) \
	FIRST4 \
	SECOND4 \
	MULTIPLY16(0, 28) \
	MULTIPLY16(8, 30) \
	WEIGHTS8(128) \
	ADD $16, R19 \
	ADD $256, R8 \
	MULTIPLY16(0, 29) \
	MULTIPLY16(8, 31)
#define ONE4x16 \
	HALF4 \
	WEIGHTS8(0) \
	FIRST4 \
	ADD $8, R19 \
	ADD $128, R8 \
	MULTIPLY16(0, 28) \
	MULTIPLY16(8, 30)
#define TWO2x16 \
	PAIR2 \
	WEIGHTS8(0) \
	FIRST2 \
	SECOND2 \
	MULTIPLY16(0, 28) \
	WEIGHTS8(128) \
	ADD $16, R19 \
	ADD $256, R8 \
	MULTIPLY16(0, 29)
#define ONE2x16 \
	HALF2 \
	WEIGHTS8(0) \
	FIRST2 \
	ADD $8, R19 \
	ADD $128, R8 \
	MULTIPLY16(0, 28)
#define TWO1x16 \
	PAIR1 \
	WEIGHTS8(0) \
	FIRST1 \
	SECOND1 \
	MULTIPLY16(0, 28) \
	WEIGHTS8(128) \
	ADD $16, R19 \
	ADD $256, R8 \
	MULTIPLY16(0, 29)
#define ONE1x16 \
	HALF1 \
	WEIGHTS8(0) \
	FIRST1 \
	ADD $8, R19 \
	ADD $128, R8 \
	MULTIPLY16(0, 28)
#define TWO4x8 \
	PAIR4 \
	WEIGHTS8(0) \
	FIRST4 \
	SECOND4 \
	ADD $16, R19 \
	ADD $128, R8 \
	MULTIPLY8(0, 28, 16) \
	MULTIPLY8(4, 30, 16) \
	MULTIPLY8(0, 29, 20) \
	MULTIPLY8(4, 31, 20)
#define ONE4x8 \
	HALF4 \
	WEIGHTS4(16, 0) \
	FIRST4 \
	ADD $8, R19 \
	ADD $64, R8 \
	MULTIPLY8(0, 28, 16) \
	MULTIPLY8(4, 30, 16)
#define TWO2x8 \
	PAIR2 \
	WEIGHTS8(0) \
	FIRST2 \
	SECOND2 \
	ADD $16, R19 \
	ADD $128, R8 \
	MULTIPLY8(0, 28, 16) \
	MULTIPLY8(0, 29, 20)
#define ONE2x8 \
	HALF2 \
	WEIGHTS4(16, 0) \
	FIRST2 \
	ADD $8, R19 \
	ADD $64, R8 \
	MULTIPLY8(0, 28, 16)
#define TWO1x8 \
	PAIR1 \
	WEIGHTS8(0) \
	FIRST1 \
	SECOND1 \
	ADD $16, R19 \
	ADD $128, R8 \
	MULTIPLY8(0, 28, 16) \
	MULTIPLY8(0, 29, 20)
#define ONE1x8 \
	HALF1 \
	WEIGHTS4(16, 0) \
	FIRST1 \
	ADD $8, R19 \
	ADD $64, R8 \
	MULTIPLY8(0, 28, 16)

// Two rows of columns side by side: 16 of s to s+7 in d to d+3 and e to e+3, or
// 8 of s to s+3 in d, d+1 and e, e+1, on top of the bias in V16 to V19.
#define ROWS16(d, e, s) \
	ROWS8(d, e, s, 16) \
	ROWS8(d+2, e+2, s+4, 18)
#define ROWS8(d, e, s, bias) \
	ZIP1_D(d, s, s+1)     \
	ZIP2_D(e, s, s+1)     \
	ZIP1_D(d+1, s+2, s+3) \
	ZIP2_D(e+1, s+2, s+3) \
	ADD_S(d, d, bias)     \
	ADD_S(e, e, bias)     \
	ADD_S(d+1, d+1, bias+1) \
	ADD_S(e+1, e+1, bias+1)

#define LESS_4x16 \
	LESS_ROW16(24) \
	LESS_ROW16(28) \
	LESS_ROW16(0) \
	LESS_ROW16(4)
#define LESS_2x16 \
	LESS_ROW16(24) \
	LESS_ROW16(28)
#define LESS_1x16 \
	LESS_ROW16(24)
#define LESS_4x8 \
	LESS_ROW8(24) \
	LESS_ROW8(26) \
	LESS_ROW8(28) \
	LESS_ROW8(30)
#define LESS_2x8 \
	LESS_ROW8(24) \
	LESS_ROW8(26)
#define LESS_1x8 \
	LESS_ROW8(24)
#define WHOLE_4x16 \
	WHOLE16(24) \
	WHOLE16(28) \
	WHOLE16(0) \
	WHOLE16(4)
#define WHOLE_2x16 \
	WHOLE16(24) \
	WHOLE16(28)
#define WHOLE_1x16 \
	WHOLE16(24)
#define WHOLE_4x8 \
	WHOLE8(24) \
	WHOLE8(26) \
	WHOLE8(28) \
	WHOLE8(30)
#define WHOLE_2x8 \
	WHOLE8(24) \
	WHOLE8(26)
#define WHOLE_1x8 \
	WHOLE8(24)
#define REAL_4x16 \
	REAL16(24) \
	REAL16(28) \
	REAL16(0) \
	REAL16(4)
#define REAL_2x16 \
	REAL16(24) \
	REAL16(28)
#define REAL_1x16 \
	REAL16(24)
#define REAL_4x8 \
	REAL8(24) \
	REAL8(26) \
	REAL8(28) \
	REAL8(30)
#define REAL_2x8 \
	REAL8(24) \
	REAL8(26)
#define REAL_1x8 \
	REAL8(24)
#define BYTES_4x16 \
	BYTES16(24) \
	BYTES16(28) \
	BYTES16(0) \
	BYTES16(4)
#define BYTES_2x16 \
	BYTES16(24) \
	BYTES16(28)
#define BYTES_1x16 \
	BYTES16(24)
#define BYTES_4x8 \
	BYTES8(24) \
	BYTES8(26) \
	BYTES8(28) \
	BYTES8(30)
#define BYTES_2x8 \
	BYTES8(24) \
	BYTES8(26)
#define BYTES_1x8 \
	BYTES8(24)

// func tileInt8_4x16_I8MM(args *tileArgs)
// Reference: gemmInt8Generic.
TEXT ·tileInt8_4x16_I8MM(SB), NOSPLIT, $0-8
	TILE_BEGIN
	ZERO4(V0, V1, V2, V3)
	ZERO4(V4, V5, V6, V7)
	ZERO4(V8, V9, V10, V11)
	ZERO4(V12, V13, V14, V15)
	SEGMENTS(ROWS4, 2, TWO4x16, ONE4x16)
	VLD1 (R7), [V16.S4, V17.S4, V18.S4, V19.S4]
	ROWS16(24, 28, 0)
	ROWS16(0, 4, 8)
	TILE_STORE(LESS_4x16, SCALES16, WHOLE_4x16, REAL_4x16, BYTES_4x16)
	TILE_END(4)

// func tileInt8_2x16_I8MM(args *tileArgs)
// Reference: gemmInt8Generic.
TEXT ·tileInt8_2x16_I8MM(SB), NOSPLIT, $0-8
	TILE_BEGIN
	ZERO4(V0, V1, V2, V3)
	ZERO4(V4, V5, V6, V7)
	SEGMENTS(ROWS2, 2, TWO2x16, ONE2x16)
	VLD1 (R7), [V16.S4, V17.S4, V18.S4, V19.S4]
	ROWS16(24, 28, 0)
	TILE_STORE(LESS_2x16, SCALES16, WHOLE_2x16, REAL_2x16, BYTES_2x16)
	TILE_END(2)

// func tileInt8_1x16_I8MM(args *tileArgs)
// Reference: gemmInt8Generic.
TEXT ·tileInt8_1x16_I8MM(SB), NOSPLIT, $0-8
	TILE_BEGIN
	ZERO4(V0, V1, V2, V3)
	ZERO4(V4, V5, V6, V7)
	SEGMENTS(ROWS1, 2, TWO1x16, ONE1x16)
	VLD1 (R7), [V16.S4, V17.S4, V18.S4, V19.S4]
	ROWS16(24, 28, 0)
	TILE_STORE(LESS_1x16, SCALES16, WHOLE_1x16, REAL_1x16, BYTES_1x16)
	TILE_END(1)

// func tileInt8_4x8_I8MM(args *tileArgs)
// Reference: gemmInt8Generic.
TEXT ·tileInt8_4x8_I8MM(SB), NOSPLIT, $0-8
	TILE_BEGIN
	ZERO4(V0, V1, V2, V3)
	ZERO4(V4, V5, V6, V7)
	SEGMENTS(ROWS4, 2, TWO4x8, ONE4x8)
	VLD1 (R7), [V16.S4, V17.S4]
	ROWS8(24, 26, 0, 16)
	ROWS8(28, 30, 4, 16)
	TILE_STORE(LESS_4x8, SCALES8, WHOLE_4x8, REAL_4x8, BYTES_4x8)
	TILE_END(4)

// func tileInt8_2x8_I8MM(args *tileArgs)
// Reference: gemmInt8Generic.
TEXT ·tileInt8_2x8_I8MM(SB), NOSPLIT, $0-8
	TILE_BEGIN
	ZERO4(V0, V1, V2, V3)
	SEGMENTS(ROWS2, 2, TWO2x8, ONE2x8)
	VLD1 (R7), [V16.S4, V17.S4]
	ROWS8(24, 26, 0, 16)
	TILE_STORE(LESS_2x8, SCALES8, WHOLE_2x8, REAL_2x8, BYTES_2x8)
	TILE_END(2)

// func tileInt8_1x8_I8MM(args *tileArgs)
// Reference: gemmInt8Generic.
TEXT ·tileInt8_1x8_I8MM(SB), NOSPLIT, $0-8
	TILE_BEGIN
	ZERO4(V0, V1, V2, V3)
	SEGMENTS(ROWS1, 2, TWO1x8, ONE1x8)
	VLD1 (R7), [V16.S4, V17.S4]
	ROWS8(24, 26, 0, 16)
	TILE_STORE(LESS_1x8, SCALES8, WHOLE_1x8, REAL_1x8, BYTES_1x8)
	TILE_END(1)
