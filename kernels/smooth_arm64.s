//go:build !purego

#include "textflag.h"
#include "neon_arm64.h"
#include "norm_arm64.h"

// The functions of exp.go, step by step, 16 values a turn.
//
//	R1  to    R2  from    R3  blocks left    R5  numbers
//
//	V0-V3    values     V8-V11   p of exp.go, or P of erf      V16-V19  what waits
//	V4-V7    t, or x²   V12-V15  products, or Q of erf         V31      a number

// The numbers, four times each; names are their places.
#define ONE          (16*0)
#define TWO          (16*1)
#define HALF         (16*2)
#define LOG2E        (16*3)
#define LN2_HIGH     (16*4)
#define LN2_LOW      (16*5)
#define ROUNDER_ONE  (16*6)
#define ROUNDER_TWO  (16*7)
#define EXP_LEAST    (16*8)
#define EXP_MOST     (16*9)
#define TANH_LEAST   (16*10)
#define TANH_MOST    (16*11)
#define ERF_LEAST    (16*12)
#define ERF_MOST     (16*13)
#define ROOT_HALF    (16*14)
#define ROOT_TWO_PI  (16*15)
#define CUBE         (16*16)
#define EXP_0        (16*17)
#define EXP_1        (16*18)
#define EXP_2        (16*19)
#define EXP_3        (16*20)
#define EXP_4        (16*21)
#define EXP_5        (16*22)
#define ERF_P0       (16*23)
#define ERF_P1       (16*24)
#define ERF_P2       (16*25)
#define ERF_P3       (16*26)
#define ERF_P4       (16*27)
#define ERF_P5       (16*28)
#define ERF_P6       (16*29)
#define ERF_Q0       (16*30)
#define ERF_Q1       (16*31)
#define ERF_Q2       (16*32)
#define ERF_Q3       (16*33)
#define ERF_Q4       (16*34)

DATA numbers<>+0(SB)/8, $0x3f8000003f800000 // 1
DATA numbers<>+8(SB)/8, $0x3f8000003f800000
DATA numbers<>+16(SB)/8, $0x4000000040000000 // 2
DATA numbers<>+24(SB)/8, $0x4000000040000000
DATA numbers<>+32(SB)/8, $0x3f0000003f000000 // 0.5
DATA numbers<>+40(SB)/8, $0x3f0000003f000000
DATA numbers<>+48(SB)/8, $0x3fb8aa3b3fb8aa3b // 1.4427
DATA numbers<>+56(SB)/8, $0x3fb8aa3b3fb8aa3b
DATA numbers<>+64(SB)/8, $0x3f3180003f318000 // 0.693359
DATA numbers<>+72(SB)/8, $0x3f3180003f318000
DATA numbers<>+80(SB)/8, $0xb95e8083b95e8083 // -0.000212194
DATA numbers<>+88(SB)/8, $0xb95e8083b95e8083
DATA numbers<>+96(SB)/8, $0x4b40007f4b40007f // 1.2583e+07
DATA numbers<>+104(SB)/8, $0x4b40007f4b40007f
DATA numbers<>+112(SB)/8, $0x4b4000fe4b4000fe // 1.25832e+07
DATA numbers<>+120(SB)/8, $0x4b4000fe4b4000fe
DATA numbers<>+128(SB)/8, $0xc2d00000c2d00000 // -104
DATA numbers<>+136(SB)/8, $0xc2d00000c2d00000
DATA numbers<>+144(SB)/8, $0x42b2000042b20000 // 89
DATA numbers<>+152(SB)/8, $0x42b2000042b20000
DATA numbers<>+160(SB)/8, $0xc1200000c1200000 // -10
DATA numbers<>+168(SB)/8, $0xc1200000c1200000
DATA numbers<>+176(SB)/8, $0x4120000041200000 // 10
DATA numbers<>+184(SB)/8, $0x4120000041200000
DATA numbers<>+192(SB)/8, $0xc0800000c0800000 // -4
DATA numbers<>+200(SB)/8, $0xc0800000c0800000
DATA numbers<>+208(SB)/8, $0x4080000040800000 // 4
DATA numbers<>+216(SB)/8, $0x4080000040800000
DATA numbers<>+224(SB)/8, $0x3f3504f33f3504f3 // 0.707107
DATA numbers<>+232(SB)/8, $0x3f3504f33f3504f3
DATA numbers<>+240(SB)/8, $0x3f4c422a3f4c422a // 0.797885
DATA numbers<>+248(SB)/8, $0x3f4c422a3f4c422a
DATA numbers<>+256(SB)/8, $0x3d3727133d372713 // 0.044715
DATA numbers<>+264(SB)/8, $0x3d3727133d372713
DATA numbers<>+272(SB)/8, $0x3950696739506967 // 0.000198757
DATA numbers<>+280(SB)/8, $0x3950696739506967
DATA numbers<>+288(SB)/8, $0x3ab743ce3ab743ce // 0.0013982
DATA numbers<>+296(SB)/8, $0x3ab743ce3ab743ce
DATA numbers<>+304(SB)/8, $0x3c0889083c088908 // 0.00833345
DATA numbers<>+312(SB)/8, $0x3c0889083c088908
DATA numbers<>+320(SB)/8, $0x3d2aa9c13d2aa9c1 // 0.0416658
DATA numbers<>+328(SB)/8, $0x3d2aa9c13d2aa9c1
DATA numbers<>+336(SB)/8, $0x3e2aaaaa3e2aaaaa // 0.166667
DATA numbers<>+344(SB)/8, $0x3e2aaaaa3e2aaaaa
DATA numbers<>+352(SB)/8, $0x3f0000003f000000 // 0.5
DATA numbers<>+360(SB)/8, $0x3f0000003f000000
DATA numbers<>+368(SB)/8, $0xaf95df0baf95df0b // -2.72614e-10
DATA numbers<>+376(SB)/8, $0xaf95df0baf95df0b
DATA numbers<>+384(SB)/8, $0x32edffee32edffee // 2.77068e-08
DATA numbers<>+392(SB)/8, $0x32edffee32edffee
DATA numbers<>+400(SB)/8, $0xb60cff51b60cff51 // -2.10102e-06
DATA numbers<>+408(SB)/8, $0xb60cff51b60cff51
DATA numbers<>+416(SB)/8, $0xb86ec2d2b86ec2d2 // -5.69251e-05
DATA numbers<>+424(SB)/8, $0xb86ec2d2b86ec2d2
DATA numbers<>+432(SB)/8, $0xba40ac63ba40ac63 // -0.000734991
DATA numbers<>+440(SB)/8, $0xba40ac63ba40ac63
DATA numbers<>+448(SB)/8, $0xbb41a1f6bb41a1f6 // -0.0029546
DATA numbers<>+456(SB)/8, $0xbb41a1f6bb41a1f6
DATA numbers<>+464(SB)/8, $0xbc83dbd4bc83dbd4 // -0.016096
DATA numbers<>+472(SB)/8, $0xbc83dbd4bc83dbd4
DATA numbers<>+480(SB)/8, $0xb77460cdb77460cd // -1.45661e-05
DATA numbers<>+488(SB)/8, $0xb77460cdb77460cd
DATA numbers<>+496(SB)/8, $0xb95fbd29b95fbd29 // -0.000213374
DATA numbers<>+504(SB)/8, $0xb95fbd29b95fbd29
DATA numbers<>+512(SB)/8, $0xbadc924ebadc924e // -0.00168283
DATA numbers<>+520(SB)/8, $0xbadc924ebadc924e
DATA numbers<>+528(SB)/8, $0xbbf19bf8bbf19bf8 // -0.00737333
DATA numbers<>+536(SB)/8, $0xbbf19bf8bbf19bf8
DATA numbers<>+544(SB)/8, $0xbc69b6a7bc69b6a7 // -0.0142647
DATA numbers<>+552(SB)/8, $0xbc69b6a7bc69b6a7
GLOBL numbers<>(SB), RODATA|NOPTR, $560


// NUMBER is op on four registers, with a number as the last operand.
#define NUMBER(op, d, n, number) \
	LDR_Q(31, 5, number) \
	FOUR_BY(op, d, n, 31)

// TERM is a step of a polynomial of x in p: p = p*x + number.
#define TERM(p, x, number) \
	FOUR(FMUL, p, p, x) \
	NUMBER(FADD, p, p, number)

// BOUND is bound: NaN stays.
#define BOUND(lo, hi) \
	NUMBER(FMAX, 0, 0, lo) \
	NUMBER(FMIN, 0, 0, hi)

// EXP_PARTS is expParts.
#define EXP_PARTS(by) \
	NUMBER(FMUL, 4, 0, LOG2E)     \
	NUMBER(FADD, 4, 4, by)        \
	NUMBER(FSUB, 8, 4, by)        \
	NUMBER(FMUL, 12, 8, LN2_HIGH) \
	FOUR(FSUB, 0, 0, 12)          \
	NUMBER(FMUL, 12, 8, LN2_LOW)  \
	FOUR(FSUB, 0, 0, 12)          \
	NUMBER(FMUL, 8, 0, EXP_0)     \
	NUMBER(FADD, 8, 8, EXP_1)     \
	TERM(8, 0, EXP_2)             \
	TERM(8, 0, EXP_3)             \
	TERM(8, 0, EXP_4)             \
	TERM(8, 0, EXP_5)             \
	FOUR(FMUL, 12, 0, 0)          \
	FOUR(FMUL, 8, 8, 12)          \
	FOUR(FADD, 8, 8, 0)

#define EXP \
	BOUND(EXP_LEAST, EXP_MOST)   \
	EXP_PARTS(ROUNDER_TWO)       \
	NUMBER(FADD, 8, 8, ONE)      \
	FOUR_OF_ONE(USHR_1, 12, 4)   \
	FOUR(SUB_S, 4, 4, 12)        \
	FOUR_OF_ONE(SHL_23, 12, 12)  \
	FOUR_OF_ONE(SHL_23, 4, 4)    \
	FOUR(FMUL, 8, 8, 12)         \
	FOUR(FMUL, 0, 8, 4)

#define SIGMOID \
	FOUR_OF_ONE(FNEG, 0, 0) \
	EXP                     \
	NUMBER(FADD, 0, 0, ONE) \
	FDIV(0, 31, 0)          \
	FDIV(1, 31, 1)          \
	FDIV(2, 31, 2)          \
	FDIV(3, 31, 3)

#define TANH \
	BOUND(TANH_LEAST, TANH_MOST) \
	FOUR(FADD, 0, 0, 0)          \
	EXP_PARTS(ROUNDER_ONE)       \
	FOUR_OF_ONE(SHL_23, 4, 4)    \
	FOUR(FMUL, 8, 4, 8)          \
	NUMBER(FSUB, 4, 4, ONE)      \
	FOUR(FADD, 8, 8, 4)          \
	NUMBER(FADD, 4, 8, TWO)      \
	FOUR(FDIV, 0, 8, 4)

#define ERF \
	BOUND(ERF_LEAST, ERF_MOST)  \
	FOUR(FMUL, 4, 0, 0)         \
	NUMBER(FMUL, 8, 4, ERF_P0)  \
	NUMBER(FADD, 8, 8, ERF_P1)  \
	TERM(8, 4, ERF_P2)          \
	TERM(8, 4, ERF_P3)          \
	TERM(8, 4, ERF_P4)          \
	TERM(8, 4, ERF_P5)          \
	TERM(8, 4, ERF_P6)          \
	NUMBER(FMUL, 12, 4, ERF_Q0) \
	NUMBER(FADD, 12, 12, ERF_Q1) \
	TERM(12, 4, ERF_Q2)         \
	TERM(12, 4, ERF_Q3)         \
	TERM(12, 4, ERF_Q4)         \
	FOUR(FMUL, 0, 0, 8)         \
	FOUR(FDIV, 0, 0, 12)

#define GELU \
	NUMBER(FMUL, 16, 0, HALF)     \
	NUMBER(FMUL, 0, 0, ROOT_HALF) \
	ERF                           \
	NUMBER(FADD, 0, 0, ONE)       \
	FOUR(FMUL, 0, 16, 0)

#define GELU_TANH \
	FOUR(FMUL, 4, 0, 0)             \
	FOUR(FMUL, 4, 4, 0)             \
	NUMBER(FMUL, 4, 4, CUBE)        \
	NUMBER(FMUL, 16, 0, HALF)       \
	FOUR(FADD, 0, 0, 4)             \
	NUMBER(FMUL, 0, 0, ROOT_TWO_PI) \
	TANH                            \
	NUMBER(FADD, 0, 0, ONE)         \
	FOUR(FMUL, 0, 16, 0)

#define SILU \
	FOUR_OF_ONE(MOV_V, 16, 0) \
	SIGMOID                   \
	FOUR(FMUL, 0, 16, 0)

#define SMOOTH(function) \
	MOVD to+0(FP), R1      \
	MOVD from+8(FP), R2    \
	MOVD blocks+16(FP), R3 \
	MOVD $numbers<>(SB), R5 \
block: \
	VLD1.P 64(R2), [V0.S4, V1.S4, V2.S4, V3.S4] \
	function \
	VST1.P [V0.S4, V1.S4, V2.S4, V3.S4], 64(R1) \
	SUBS $1, R3, R3 \
	BNE  block \
	RET

// func exp_NEON(to, from *float32, blocks int)
// Reference: Exp.
TEXT ·exp_NEON(SB), NOSPLIT, $0-24
	SMOOTH(EXP)

// func sigmoid_NEON(to, from *float32, blocks int)
// Reference: Sigmoid.
TEXT ·sigmoid_NEON(SB), NOSPLIT, $0-24
	SMOOTH(SIGMOID)

// func tanh_NEON(to, from *float32, blocks int)
// Reference: Tanh.
TEXT ·tanh_NEON(SB), NOSPLIT, $0-24
	SMOOTH(TANH)

// func erf_NEON(to, from *float32, blocks int)
// Reference: Erf.
TEXT ·erf_NEON(SB), NOSPLIT, $0-24
	SMOOTH(ERF)

// func gelu_NEON(to, from *float32, blocks int)
// Reference: Gelu.
TEXT ·gelu_NEON(SB), NOSPLIT, $0-24
	SMOOTH(GELU)

// func geluTanh_NEON(to, from *float32, blocks int)
// Reference: GeluTanh.
TEXT ·geluTanh_NEON(SB), NOSPLIT, $0-24
	SMOOTH(GELU_TANH)

// func silu_NEON(to, from *float32, blocks int)
// Reference: Silu.
TEXT ·silu_NEON(SB), NOSPLIT, $0-24
	SMOOTH(SILU)

// func expSum_NEON(sums *laneSums, to, from *float32, blocks int, top float32)
// Reference: Softmax.
//
//	R0  sums    R1  to    R2  from    R3  blocks left    R5  numbers
//	V20-V23  sums    V24  top
TEXT ·expSum_NEON(SB), NOSPLIT, $0-36
	MOVD  sums+0(FP), R0
	MOVD  to+8(FP), R1
	MOVD  from+16(FP), R2
	MOVD  blocks+24(FP), R3
	FMOVS top+32(FP), F24
	VDUP  V24.S[0], V24.S4
	MOVD  $numbers<>(SB), R5
	VLD1  (R0), [V20.S4, V21.S4, V22.S4, V23.S4]
block:
	VLD1.P 64(R2), [V0.S4, V1.S4, V2.S4, V3.S4]
	FOUR_BY(FSUB, 0, 0, 24)
	EXP
	VST1.P [V0.S4, V1.S4, V2.S4, V3.S4], 64(R1)
	FOUR(FADD, 20, 20, 0)
	SUBS   $1, R3, R3
	BNE    block
	VST1   [V20.S4, V21.S4, V22.S4, V23.S4], (R0)
	RET
