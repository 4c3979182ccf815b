//go:build !purego

#include "go_asm.h"
#include "textflag.h"
#include "neon_arm64.h"
#include "tile_arm64.h"

// Tiles of int8 for CPUs with SDOT (Cortex-A55, A75 and later): a lane of a
// row, 4 bytes of it, against 4 bytes of each of 4 columns.
//
//	V0-V15   sums: row r, columns 4c to 4c+3 in V(4r+c), or V(2r+c) of 8 columns
//	V16-V23  weights of two steps, or of four of 8 columns
//	V28-V31  16 bytes of each row, 4 steps

// One row, one step, 16 or 8 columns: weights from b, lane i of row a.
#define DOT16(sum, b, a, i) \
	SDOT_LANE(sum, b, a, i)     \
	SDOT_LANE(sum+1, b+1, a, i) \
	SDOT_LANE(sum+2, b+2, a, i) \
	SDOT_LANE(sum+3, b+3, a, i)
#define DOT8(sum, b, a, i) \
	SDOT_LANE(sum, b, a, i) \
	SDOT_LANE(sum+1, b+1, a, i)

#define DOT1x16(b, i) \
	DOT16(0, b, 28, i)
#define DOT2x16(b, i) \
	DOT1x16(b, i) \
	DOT16(4, b, 29, i)
#define DOT4x16(b, i) \
	DOT2x16(b, i)      \
	DOT16(8, b, 30, i) \
	DOT16(12, b, 31, i)
#define DOT1x8(b, i) \
	DOT8(0, b, 28, i)
#define DOT2x8(b, i) \
	DOT1x8(b, i) \
	DOT8(2, b, 29, i)
#define DOT4x8(b, i) \
	DOT2x8(b, i)      \
	DOT8(4, b, 30, i) \
	DOT8(6, b, 31, i)

// func tileInt8_4x16_DOTPROD(args *tileArgs)
// Reference: gemmInt8Generic.
TEXT ·tileInt8_4x16_DOTPROD(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS4x16
	SEGMENTS(ROWS4, 4, FOUR16(LOAD4, DOT4x16), ONE16(WORD4, DOT4x16))
	TILE_STORE(LESS4x16, SCALES16, WHOLE4x16, REAL4x16, BYTES4x16)
	TILE_END(4)

// func tileInt8_2x16_DOTPROD(args *tileArgs)
// Reference: gemmInt8Generic.
TEXT ·tileInt8_2x16_DOTPROD(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS2x16
	SEGMENTS(ROWS2, 4, FOUR16(LOAD2, DOT2x16), ONE16(WORD2, DOT2x16))
	TILE_STORE(LESS2x16, SCALES16, WHOLE2x16, REAL2x16, BYTES2x16)
	TILE_END(2)

// func tileInt8_1x16_DOTPROD(args *tileArgs)
// Reference: gemmInt8Generic.
TEXT ·tileInt8_1x16_DOTPROD(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS1x16
	SEGMENTS(ROWS1, 4, FOUR16(LOAD1, DOT1x16), ONE16(WORD1, DOT1x16))
	TILE_STORE(LESS1x16, SCALES16, WHOLE1x16, REAL1x16, BYTES1x16)
	TILE_END(1)

// func tileInt8_4x8_DOTPROD(args *tileArgs)
// Reference: gemmInt8Generic.
TEXT ·tileInt8_4x8_DOTPROD(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS4x8
	SEGMENTS(ROWS4, 4, FOUR8(LOAD4, DOT4x8), ONE8(WORD4, DOT4x8))
	TILE_STORE(LESS4x8, SCALES8, WHOLE4x8, REAL4x8, BYTES4x8)
	TILE_END(4)

// func tileInt8_2x8_DOTPROD(args *tileArgs)
// Reference: gemmInt8Generic.
TEXT ·tileInt8_2x8_DOTPROD(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS2x8
	SEGMENTS(ROWS2, 4, FOUR8(LOAD2, DOT2x8), ONE8(WORD2, DOT2x8))
	TILE_STORE(LESS2x8, SCALES8, WHOLE2x8, REAL2x8, BYTES2x8)
	TILE_END(2)

// func tileInt8_1x8_DOTPROD(args *tileArgs)
// Reference: gemmInt8Generic.
TEXT ·tileInt8_1x8_DOTPROD(SB), NOSPLIT, $0-8
	TILE_BEGIN
	BIAS1x8
	SEGMENTS(ROWS1, 4, FOUR8(LOAD1, DOT1x8), ONE8(WORD1, DOT1x8))
	TILE_STORE(LESS1x8, SCALES8, WHOLE1x8, REAL1x8, BYTES1x8)
	TILE_END(1)
