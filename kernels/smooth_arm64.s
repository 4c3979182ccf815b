//go:build !purego

#include "textflag.h"
#include "neon_arm64.h"
#include "block_arm64.h"

// The functions of exp.go, step by step, 16 values a turn.
//
//	R1  to    R2  from    R3  blocks left    R5  numbers
//
//	V0-V3    values     V8-V11   p of exp.go, or P of erf      V16-V19  what waits    V20-V23  masks
//	V4-V7    t, or x²   V12-V15  products, or Q of erf         V30, V31  numbers

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
#define LEAST        (16*35)
#define LEAST_NORMAL (16*36)
#define LIFT         (16*37)
#define LIFTED       (16*38)
#define ROOT_HALF_BITS (16*39)
#define FRACTION     (16*40)
#define INFINITE     (16*41)
#define MINUS_INFINITE (16*42)
#define NO_NUMBER    (16*43)
#define LOG_0        (16*44)
#define LOG_1        (16*45)
#define LOG_2        (16*46)
#define LOG_3        (16*47)
#define LOG_4        (16*48)
#define LOG_5        (16*49)
#define LOG_6        (16*50)
#define LOG_7        (16*51)
#define LOG_8        (16*52)

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
DATA numbers<>+560(SB)/8, $0x0000000100000001
DATA numbers<>+568(SB)/8, $0x0000000100000001
DATA numbers<>+576(SB)/8, $0x0080000000800000 // 1.17549e-38
DATA numbers<>+584(SB)/8, $0x0080000000800000
DATA numbers<>+592(SB)/8, $0x4b0000004b000000 // 8.38861e+06
DATA numbers<>+600(SB)/8, $0x4b0000004b000000
DATA numbers<>+608(SB)/8, $0xc1b80000c1b80000 // -23
DATA numbers<>+616(SB)/8, $0xc1b80000c1b80000
DATA numbers<>+624(SB)/8, $0x3f3504f33f3504f3
DATA numbers<>+632(SB)/8, $0x3f3504f33f3504f3
DATA numbers<>+640(SB)/8, $0x007fffff007fffff
DATA numbers<>+648(SB)/8, $0x007fffff007fffff
DATA numbers<>+656(SB)/8, $0x7f8000007f800000
DATA numbers<>+664(SB)/8, $0x7f8000007f800000
DATA numbers<>+672(SB)/8, $0xff800000ff800000
DATA numbers<>+680(SB)/8, $0xff800000ff800000
DATA numbers<>+688(SB)/8, $0x7fc000007fc00000
DATA numbers<>+696(SB)/8, $0x7fc000007fc00000
DATA numbers<>+704(SB)/8, $0x3d9021bb3d9021bb // 0.0703768
DATA numbers<>+712(SB)/8, $0x3d9021bb3d9021bb
DATA numbers<>+720(SB)/8, $0xbdebd1b8bdebd1b8 // -0.115146
DATA numbers<>+728(SB)/8, $0xbdebd1b8bdebd1b8
DATA numbers<>+736(SB)/8, $0x3def251a3def251a // 0.11677
DATA numbers<>+744(SB)/8, $0x3def251a3def251a
DATA numbers<>+752(SB)/8, $0xbdfe5d4fbdfe5d4f // -0.124201
DATA numbers<>+760(SB)/8, $0xbdfe5d4fbdfe5d4f
DATA numbers<>+768(SB)/8, $0x3e11e9bf3e11e9bf // 0.142493
DATA numbers<>+776(SB)/8, $0x3e11e9bf3e11e9bf
DATA numbers<>+784(SB)/8, $0xbe2aae50be2aae50 // -0.166681
DATA numbers<>+792(SB)/8, $0xbe2aae50be2aae50
DATA numbers<>+800(SB)/8, $0x3e4cceac3e4cceac // 0.200007
DATA numbers<>+808(SB)/8, $0x3e4cceac3e4cceac
DATA numbers<>+816(SB)/8, $0xbe7ffffcbe7ffffc // -0.25
DATA numbers<>+824(SB)/8, $0xbe7ffffcbe7ffffc
DATA numbers<>+832(SB)/8, $0x3eaaaaaa3eaaaaaa // 0.333333
DATA numbers<>+840(SB)/8, $0x3eaaaaaa3eaaaaaa
GLOBL numbers<>(SB), RODATA|NOPTR, $848


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

// IF_LESS puts number into y where x, in V0-V3, is less than another.
#define IF_LESS(than, y, number) \
	LDR_Q(30, 5, than)  \
	LDR_Q(31, 5, number) \
	FCMGT(20, 30, 0)    \
	FCMGT(21, 30, 1)    \
	FCMGT(22, 30, 2)    \
	FCMGT(23, 30, 3)    \
	BIT(y, 31, 20)      \
	BIT(y+1, 31, 21)    \
	BIT(y+2, 31, 22)    \
	BIT(y+3, 31, 23)

// LOG: f in V4-V7, n in V16-V19, f² in V12-V15; n begins as what denormals are
// lifted by.
#define LOG \
	FOUR(SUB_S, 16, 16, 16)        \
	IF_LESS(LEAST_NORMAL, 16, LIFTED) \
	NUMBER(FMUL, 4, 0, LIFT)       \
	FOUR(BIC_V, 8, 0, 20)            \
	FOUR(AND_V, 4, 4, 20)            \
	FOUR(ORR_V, 4, 4, 8)             \
	NUMBER(SUB_S, 4, 4, ROOT_HALF_BITS) \
	FOUR_OF_ONE(SSHR_23, 8, 4)     \
	FOUR_OF_ONE(SCVTF, 8, 8)       \
	FOUR(FADD, 16, 8, 16)          \
	NUMBER(AND_V, 4, 4, FRACTION)    \
	NUMBER(ADD_S, 4, 4, ROOT_HALF_BITS) \
	NUMBER(FSUB, 4, 4, ONE)        \
	NUMBER(FMUL, 8, 4, LOG_0)      \
	NUMBER(FADD, 8, 8, LOG_1)      \
	TERM(8, 4, LOG_2)              \
	TERM(8, 4, LOG_3)              \
	TERM(8, 4, LOG_4)              \
	TERM(8, 4, LOG_5)              \
	TERM(8, 4, LOG_6)              \
	TERM(8, 4, LOG_7)              \
	TERM(8, 4, LOG_8)              \
	FOUR(FMUL, 12, 4, 4)           \
	FOUR(FMUL, 8, 8, 4)            \
	FOUR(FMUL, 8, 8, 12)           \
	NUMBER(FMUL, 20, 16, LN2_LOW)  \
	FOUR(FADD, 8, 8, 20)           \
	NUMBER(FMUL, 12, 12, HALF)     \
	FOUR(FSUB, 8, 8, 12)           \
	FOUR(FADD, 8, 8, 4)            \
	NUMBER(FMUL, 16, 16, LN2_HIGH) \
	FOUR(FADD, 8, 8, 16)           \
	IF_LESS(LEAST, 8, MINUS_INFINITE) \
	LDR_Q(31, 5, NO_NUMBER)        \
	FOUR_OF_ONE(FCMLT_0, 20, 0)    \
	BIT(8, 31, 20)                 \
	BIT(9, 31, 21)                 \
	BIT(10, 31, 22)                \
	BIT(11, 31, 23)                \
	LDR_Q(30, 5, INFINITE)         \
	FCMGT(20, 30, 0)               \
	FCMGT(21, 30, 1)               \
	FCMGT(22, 30, 2)               \
	FCMGT(23, 30, 3)               \
	FOUR(BIT, 0, 8, 20)

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

// func log_NEON(to, from *float32, blocks int)
// Reference: Log.
TEXT ·log_NEON(SB), NOSPLIT, $0-24
	SMOOTH(LOG)

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
