//go:build !purego

#include "textflag.h"
#include "neon_arm64.h"

// Loops of nothing but products on registers, far enough apart to hide their
// latency. What they compute is of no use, so that there is no reference; n is
// at least 1.
//
//	R0  turns left    V0-V15  sums    V16-V23  products of 16 bits    V30, V31  factors

#define REPEAT16(multiply) \
	multiply(0)  \
	multiply(1)  \
	multiply(2)  \
	multiply(3)  \
	multiply(4)  \
	multiply(5)  \
	multiply(6)  \
	multiply(7)  \
	multiply(8)  \
	multiply(9)  \
	multiply(10) \
	multiply(11) \
	multiply(12) \
	multiply(13) \
	multiply(14) \
	multiply(15)
#define REPEAT8(multiply) \
	multiply(16) \
	multiply(17) \
	multiply(18) \
	multiply(19) \
	multiply(20) \
	multiply(21) \
	multiply(22) \
	multiply(23)

#define PEAK(body) \
	MOVD n+0(FP), R0 \
turn:                \
	body             \
	SUBS $1, R0, R0  \
	BNE  turn        \
	RET

#define SDOT_PEAK(sum) SDOT(sum, 30, 31)
#define SMMLA_PEAK(sum) SMMLA(sum, 30, 31)
#define FMLA_PEAK(sum) FMLA(sum, 30, 31)
#define FMLA_H_PEAK(sum) FMLA_H(sum, 30, 31)
#define SMULL_PEAK(p) SMULL(p, 30, 31)
#define SMLAL_PEAK(p) SMLAL2(p, 30, 31)
#define SADALP_PEAK(p) SADALP(p-16, p)

#define NEON_PEAK \
	REPEAT8(SMULL_PEAK) \
	REPEAT8(SMLAL_PEAK) \
	REPEAT8(SADALP_PEAK)

// func peakInt8_NEON(n int)
TEXT ·peakInt8_NEON(SB), NOSPLIT, $0-8
	PEAK(NEON_PEAK)

// func peakInt8_DOTPROD(n int)
TEXT ·peakInt8_DOTPROD(SB), NOSPLIT, $0-8
	PEAK(REPEAT16(SDOT_PEAK))

// func peakInt8_I8MM(n int)
TEXT ·peakInt8_I8MM(SB), NOSPLIT, $0-8
	PEAK(REPEAT16(SMMLA_PEAK))

// func peakF32_NEON(n int)
TEXT ·peakF32_NEON(SB), NOSPLIT, $0-8
	PEAK(REPEAT16(FMLA_PEAK))

// func peakF16_FP16(n int)
TEXT ·peakF16_FP16(SB), NOSPLIT, $0-8
	PEAK(REPEAT16(FMLA_H_PEAK))
