//go:build !purego

#include "go_asm.h"
#include "textflag.h"
#include "neon_arm64.h"

// func transpose4x4_NEON(args *transposeArgs)
// Reference: transposeGeneric. A tile a turn; the next one takes what stands
// behind in the same lines.
//
//	R0  args     R2  inStep   R4  outStep      R6-R9  lines
//	R1  in       R3  out      R5  tiles left
//
//	V0-V3  lines, then rows   V4-V7  pairs of them
TEXT ·transpose4x4_NEON(SB), NOSPLIT, $0-8
	MOVD args+0(FP), R0
	MOVD transposeArgs_in(R0), R6
	MOVD transposeArgs_inStep(R0), R2
	MOVD transposeArgs_out(R0), R3
	MOVD transposeArgs_outStep(R0), R4
	MOVD transposeArgs_tiles(R0), R5
	ADD  R2, R6, R7
	ADD  R2, R7, R8
	MOVD transposeArgs_inStep3(R0), R9
	ADD  R6, R9

tile:
	VLD1.P 16(R6), [V0.S4]
	VLD1.P 16(R7), [V1.S4]
	VLD1.P 16(R8), [V2.S4]
	VLD1.P 16(R9), [V3.S4]
	ZIP1_S(4, 0, 1)
	ZIP2_S(5, 0, 1)
	ZIP1_S(6, 2, 3)
	ZIP2_S(7, 2, 3)
	ZIP1_D(0, 4, 6)
	ZIP2_D(1, 4, 6)
	ZIP1_D(2, 5, 7)
	ZIP2_D(3, 5, 7)
	VST1   [V0.S4], (R3)
	ADD    R4, R3
	VST1   [V1.S4], (R3)
	ADD    R4, R3
	VST1   [V2.S4], (R3)
	ADD    R4, R3
	VST1   [V3.S4], (R3)
	ADD    R4, R3
	SUBS   $1, R5, R5
	BNE    tile
	RET
