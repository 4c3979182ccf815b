//go:build !purego

#include "go_asm.h"
#include "textflag.h"
#include "neon_arm64.h"
#include "tile_arm64.h"

// Tiles of int8 for every ARMv8 CPU (Cortex-A53, A57, A72). A step is 8 bytes
// of a row against 8 bytes of each column; a register holds those of two
// columns. The products of two steps are added in 16 bits, which packing sees
// to be enough (cellPaired), then pairwise to 32.
//
//	V0-V7    four partial sums of each column of row 0, V8-V15 of row 1
//	V16, V17 8 bytes of rows 0 and 1, twice; V18, V19 the 8 after them
//	V20-V23  weights: four columns of two steps
//	V24-V31  products

// Two steps of the rows, and one. There is no load to both halves of a register
// with an index.
#define EIGHT(v, row) \
	VLD1R (row), [v.D2] \
	ADD $8, row
#define PAIR1 \
	EIGHT(V16, R11) \
	EIGHT(V18, R11)
#define PAIR2 \
	EIGHT(V16, R11) \
	EIGHT(V17, R12) \
	EIGHT(V18, R11) \
	EIGHT(V19, R12)

// Products of four columns, weights in b and b+1, with a row.
#define FIRST4(p, b, a) \
	SMULL(p, b, a)    \
	SMULL2(p+1, b, a) \
	SMULL(p+2, b+1, a) \
	SMULL2(p+3, b+1, a)
#define THEN4(p, b, a) \
	SMLAL(p, b, a)    \
	SMLAL2(p+1, b, a) \
	SMLAL(p+2, b+1, a) \
	SMLAL2(p+3, b+1, a)
#define SUM4(sum, p) \
	SADALP(sum, p)     \
	SADALP(sum+1, p+1) \
	SADALP(sum+2, p+2) \
	SADALP(sum+3, p+3)

// Two steps: four columns, then the other four, whose weights arrive while
// the first four are multiplied and summed.
#define TWO2x8 \
	PAIR2              \
	WEIGHTS2(20, 0)    \
	WEIGHTS2(22, 64)   \
	FIRST4(24, 20, 16) \
	FIRST4(28, 20, 17) \
	WEIGHTS2(20, 32)   \
	THEN4(24, 22, 18)  \
	THEN4(28, 22, 19)  \
	WEIGHTS2(22, 96)   \
	SUM4(0, 24)        \
	SUM4(8, 28)        \
	ADD $128, R8       \
	FIRST4(24, 20, 16) \
	FIRST4(28, 20, 17) \
	THEN4(24, 22, 18)  \
	THEN4(28, 22, 19)  \
	SUM4(4, 24)        \
	SUM4(12, 28)
#define ONE2x8 \
	EIGHT(V16, R11)    \
	EIGHT(V17, R12)    \
	WEIGHTS4(20, 0)    \
	ADD $64, R8        \
	FIRST4(24, 20, 16) \
	FIRST4(28, 20, 17) \
	SUM4(0, 24)        \
	SUM4(8, 28)        \
	FIRST4(24, 22, 16) \
	FIRST4(28, 22, 17) \
	SUM4(4, 24)        \
	SUM4(12, 28)
#define TWO1x8 \
	PAIR1              \
	WEIGHTS4(20, 0)    \
	FIRST4(24, 20, 16) \
	FIRST4(28, 22, 16) \
	WEIGHTS4(20, 64)   \
	ADD $128, R8       \
	THEN4(24, 20, 18)  \
	THEN4(28, 22, 18)  \
	SUM4(0, 24)        \
	SUM4(4, 28)
#define ONE1x8 \
	EIGHT(V16, R11)    \
	WEIGHTS4(20, 0)    \
	ADD $64, R8        \
	FIRST4(24, 20, 16) \
	FIRST4(28, 22, 16) \
	SUM4(0, 24)        \
	SUM4(4, 28)

// The four partial sums of the columns in p.. become one each, eight columns
// in d and d+1, on top of the bias in V20, V21.
#define REDUCE8(d, p) \
	ADDP(p, p, p+1)     \
	ADDP(p+2, p+2, p+3) \
	ADDP(p+4, p+4, p+5) \
	ADDP(p+6, p+6, p+7) \
	ADDP(d, p, p+2)     \
	ADDP(d+1, p+4, p+6) \
	ADD_S(d, d, 20)     \
	ADD_S(d+1, d+1, 21)

// func tileInt8_2x8_NEON(args *tileArgs)
// Reference: gemmInt8Generic.
TEXT ·tileInt8_2x8_NEON(SB), NOSPLIT, $0-8
	TILE_BEGIN
	ZERO4(V0, V1, V2, V3)
	ZERO4(V4, V5, V6, V7)
	ZERO4(V8, V9, V10, V11)
	ZERO4(V12, V13, V14, V15)
	SEGMENTS(ROWS2, 2, TWO2x8, ONE2x8)
	VLD1 (R7), [V20.S4, V21.S4]
	REDUCE8(0, 0)
	REDUCE8(2, 8)
	TILE_STORE(LESS2x8, SCALES8, WHOLE2x8, REAL2x8, BYTES2x8)
	TILE_END(2)

// func tileInt8_1x8_NEON(args *tileArgs)
// Reference: gemmInt8Generic.
TEXT ·tileInt8_1x8_NEON(SB), NOSPLIT, $0-8
	TILE_BEGIN
	ZERO4(V0, V1, V2, V3)
	ZERO4(V4, V5, V6, V7)
	SEGMENTS(ROWS1, 2, TWO1x8, ONE1x8)
	VLD1 (R7), [V20.S4, V21.S4]
	REDUCE8(0, 0)
	TILE_STORE(LESS1x8, SCALES8, WHOLE1x8, REAL1x8, BYTES1x8)
	TILE_END(1)
