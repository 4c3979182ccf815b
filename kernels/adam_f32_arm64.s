//go:build !purego

#include "go_asm.h"
#include "textflag.h"
#include "neon_arm64.h"
#include "block_arm64.h"

// func adamF32_NEON(p, m, v, gradient *float32, blocks int, a *Adam)
// Reference: AdamF32Generic. blocks is at least 1.
//
//	R0 p   R1 m   R2 v   R3 gradient   R4 blocks left   R5 a
//
//	V0-V3 p   V4-V7 g   V8-V11 m   V12-V15 v   V16-V19 products   V20-V28 the numbers of a
TEXT ·adamF32_NEON(SB), NOSPLIT, $0-48
	MOVD p+0(FP), R0
	MOVD m+8(FP), R1
	MOVD v+16(FP), R2
	MOVD gradient+24(FP), R3
	MOVD blocks+32(FP), R4
	MOVD a+40(FP), R5
	FMOVS Adam_Beta1(R5), F20
	FMOVS Adam_Rest1(R5), F21
	FMOVS Adam_Beta2(R5), F22
	FMOVS Adam_Rest2(R5), F23
	FMOVS Adam_Decay(R5), F24
	FMOVS Adam_Keep(R5), F25
	FMOVS Adam_Rate(R5), F26
	FMOVS Adam_Spread(R5), F27
	FMOVS Adam_Epsilon(R5), F28
	VDUP  V20.S[0], V20.S4
	VDUP  V21.S[0], V21.S4
	VDUP  V22.S[0], V22.S4
	VDUP  V23.S[0], V23.S4
	VDUP  V24.S[0], V24.S4
	VDUP  V25.S[0], V25.S4
	VDUP  V26.S[0], V26.S4
	VDUP  V27.S[0], V27.S4
	VDUP  V28.S[0], V28.S4
block:
	VLD1   (R0), [V0.S4, V1.S4, V2.S4, V3.S4]
	VLD1.P 64(R3), [V4.S4, V5.S4, V6.S4, V7.S4]
	VLD1   (R1), [V8.S4, V9.S4, V10.S4, V11.S4]
	VLD1   (R2), [V12.S4, V13.S4, V14.S4, V15.S4]
	FOUR_BY(FMUL, 16, 0, 24)
	FOUR(FADD, 4, 4, 16)
	FOUR_BY(FMUL, 8, 8, 20)
	FOUR_BY(FMUL, 16, 4, 21)
	FOUR(FADD, 8, 8, 16)
	VST1.P [V8.S4, V9.S4, V10.S4, V11.S4], 64(R1)
	FOUR_BY(FMUL, 12, 12, 22)
	FOUR(FMUL, 4, 4, 4)
	FOUR_BY(FMUL, 4, 4, 23)
	FOUR(FADD, 12, 12, 4)
	VST1.P [V12.S4, V13.S4, V14.S4, V15.S4], 64(R2)
	FOUR_OF_ONE(FSQRT, 12, 12)
	FOUR_BY(FMUL, 12, 12, 27)
	FOUR_BY(FADD, 12, 12, 28)
	FOUR(FDIV, 8, 8, 12)
	FOUR_BY(FMUL, 8, 8, 26)
	FOUR_BY(FMUL, 0, 0, 25)
	FOUR(FSUB, 0, 0, 8)
	VST1.P [V0.S4, V1.S4, V2.S4, V3.S4], 64(R0)
	SUBS   $1, R4, R4
	BNE    block
	RET
