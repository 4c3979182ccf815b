//go:build !purego

#include "go_asm.h"
#include "textflag.h"
#include "neon_arm64.h"

// Elementwise loops over rows of float32: registers of 4 values, then single
// ones. A repeated value is spread over 16 bytes of the stack, which are then
// read over and over.
//
//	R0  args        R4  rows left       R7   out   R10  bytes of a register of a, or 0
//	R1  row of out  R5  vectors left    R8   a     R11  likewise of b
//	R2  row of a    R6  values left     R9   b     R12, R13  bytes of a value, or 0
//	R3  row of b    R14 scratch
//
//	V0 a, and the result   V1 b   V2 scratch   V16 p   V17 q   V18 zeros   V19 ones

#define ROWS_BEGIN \
	MOVD args+0(FP), R0          \
	MOVD rowArgs_out(R0), R1     \
	MOVD rowArgs_a(R0), R2       \
	MOVD rowArgs_b(R0), R3       \
	MOVD rowArgs_rows(R0), R4    \
	MOVD rowArgs_aEach(R0), R12  \
	MOVD rowArgs_bEach(R0), R13  \
	LSL  $2, R12, R10            \
	LSL  $2, R13, R11            \
	MOVW rowArgs_p(R0), R14      \
	VDUP R14, V16.S4             \
	MOVW rowArgs_q(R0), R14      \
	VDUP R14, V17.S4             \
	VEOR V18.B16, V18.B16, V18.B16 \
	MOVW $0x3f800000, R14        \
	VDUP R14, V19.S4             \
row:                             \
	MOVD R1, R7                  \
	MOVD R2, R8                  \
	CBNZ R12, movesA             \
	MOVWU (R2), R14              \
	VDUP R14, V0.S4              \
	MOVD $spreadA-32(SP), R8     \
	VST1 [V0.B16], (R8)          \
movesA:

// SECOND finds the row of b.
#define SECOND \
	MOVD R3, R9                  \
	CBNZ R13, movesB             \
	MOVWU (R3), R14              \
	VDUP R14, V1.S4              \
	MOVD $spreadB-16(SP), R9     \
	VST1 [V1.B16], (R9)          \
movesB:

#define ROW_LEFT \
	MOVD rowArgs_vectors(R0), R5 \
	MOVD rowArgs_rest(R0), R6

#define LOAD_A \
	VLD1 (R8), [V0.S4] \
	ADD R10, R8
#define LOAD_B \
	VLD1 (R9), [V1.S4] \
	ADD R11, R9
#define STORE   VST1.P [V0.S4], 16(R7)
#define LOAD1_A \
	FMOVS (R8), F0 \
	ADD R12, R8
#define LOAD1_B \
	FMOVS (R9), F1 \
	ADD R13, R9
#define STORE1 \
	FMOVS F0, (R7) \
	ADD $4, R7

#define ROWS_END \
	MOVD rowArgs_outStep(R0), R14 \
	ADD  R14, R1                  \
	MOVD rowArgs_aStep(R0), R14   \
	ADD  R14, R2                  \
	MOVD rowArgs_bStep(R0), R14   \
	ADD  R14, R3                  \
	SUBS $1, R4, R4               \
	BNE  row                      \
	RET

// BINARY is the body of an operation of two operands, V0 = V0 op V1.
#define BINARY(op) \
	ROWS_BEGIN           \
	SECOND               \
	ROW_LEFT             \
	CBZ  R5, rest        \
vector:                  \
	LOAD_A               \
	LOAD_B               \
	op                   \
	STORE                \
	SUBS $1, R5, R5      \
	BNE  vector          \
rest:                    \
	CBZ  R6, done        \
single:                  \
	LOAD1_A              \
	LOAD1_B              \
	op                   \
	STORE1               \
	SUBS $1, R6, R6      \
	BNE  single          \
done:                    \
	ROWS_END

// UNARY is the body of an operation of one operand, V0 = op V0.
#define UNARY(op) \
	ROWS_BEGIN           \
	ROW_LEFT             \
	CBZ  R5, rest        \
vector:                  \
	LOAD_A               \
	op                   \
	STORE                \
	SUBS $1, R5, R5      \
	BNE  vector          \
rest:                    \
	CBZ  R6, done        \
single:                  \
	LOAD1_A              \
	op                   \
	STORE1               \
	SUBS $1, R6, R6      \
	BNE  single          \
done:                    \
	ROWS_END

// CLAMP bounds v by lo and hi; NaN stays NaN, of equal zeros v's stays. V2 is
// scratch.
#define CLAMP(v, lo, hi) \
	FCMGT(2, lo, v) \
	BIT(v, lo, 2)   \
	FCMGT(2, v, hi) \
	BIT(v, hi, 2)

// UNIT writes clamp(p*V0 + q, 0, 1) to V3.
#define UNIT \
	FMUL(3, 0, 16) \
	FADD(3, 3, 17) \
	CLAMP(3, 18, 19)

#define OP_ADD FADD(0, 0, 1)
#define OP_SUB FSUB(0, 0, 1)
#define OP_MUL FMUL(0, 0, 1)
#define OP_DIV FDIV(0, 0, 1)
#define OP_MIN FMIN(0, 0, 1)
#define OP_MAX FMAX(0, 0, 1)
#define OP_PRELU \
	FMUL(1, 0, 1)   \
	FCMGT(2, 18, 0) \
	BIT(0, 1, 2)
#define OP_COPY
#define OP_CLIP CLAMP(0, 16, 17)
#define OP_HARD_SIGMOID \
	UNIT                \
	VMOV V3.B16, V0.B16
#define OP_HARD_SWISH \
	UNIT          \
	FMUL(0, 0, 3)
#define OP_ABS FABS(0, 0)
#define OP_NEG FNEG(0, 0)
#define OP_SQRT FSQRT(0, 0)
#define OP_RECIPROCAL FDIV(0, 19, 0)
#define OP_FLOOR FRINTM(0, 0)
#define OP_CEIL FRINTP(0, 0)
#define OP_ROUND FRINTN(0, 0)

// func addF32_NEON(args *rowArgs)
// Reference: rowsF32Generic.
TEXT ·addF32_NEON(SB), NOSPLIT, $32-8
	BINARY(OP_ADD)

// func subF32_NEON(args *rowArgs)
// Reference: rowsF32Generic.
TEXT ·subF32_NEON(SB), NOSPLIT, $32-8
	BINARY(OP_SUB)

// func mulF32_NEON(args *rowArgs)
// Reference: rowsF32Generic.
TEXT ·mulF32_NEON(SB), NOSPLIT, $32-8
	BINARY(OP_MUL)

// func divF32_NEON(args *rowArgs)
// Reference: rowsF32Generic.
TEXT ·divF32_NEON(SB), NOSPLIT, $32-8
	BINARY(OP_DIV)

// func minF32_NEON(args *rowArgs)
// Reference: rowsF32Generic.
TEXT ·minF32_NEON(SB), NOSPLIT, $32-8
	BINARY(OP_MIN)

// func maxF32_NEON(args *rowArgs)
// Reference: rowsF32Generic.
TEXT ·maxF32_NEON(SB), NOSPLIT, $32-8
	BINARY(OP_MAX)

// func preluF32_NEON(args *rowArgs)
// Reference: rowsF32Generic.
TEXT ·preluF32_NEON(SB), NOSPLIT, $32-8
	BINARY(OP_PRELU)

// func copyF32_NEON(args *rowArgs)
// Reference: rowsF32Generic.
TEXT ·copyF32_NEON(SB), NOSPLIT, $32-8
	UNARY(OP_COPY)

// func clipF32_NEON(args *rowArgs)
// Reference: rowsF32Generic.
TEXT ·clipF32_NEON(SB), NOSPLIT, $32-8
	UNARY(OP_CLIP)

// func hardSigmoidF32_NEON(args *rowArgs)
// Reference: rowsF32Generic.
TEXT ·hardSigmoidF32_NEON(SB), NOSPLIT, $32-8
	UNARY(OP_HARD_SIGMOID)

// func hardSwishF32_NEON(args *rowArgs)
// Reference: rowsF32Generic.
TEXT ·hardSwishF32_NEON(SB), NOSPLIT, $32-8
	UNARY(OP_HARD_SWISH)

// func absF32_NEON(args *rowArgs)
// Reference: rowsF32Generic.
TEXT ·absF32_NEON(SB), NOSPLIT, $32-8
	UNARY(OP_ABS)

// func negF32_NEON(args *rowArgs)
// Reference: rowsF32Generic.
TEXT ·negF32_NEON(SB), NOSPLIT, $32-8
	UNARY(OP_NEG)

// func sqrtF32_NEON(args *rowArgs)
// Reference: rowsF32Generic.
TEXT ·sqrtF32_NEON(SB), NOSPLIT, $32-8
	UNARY(OP_SQRT)

// func reciprocalF32_NEON(args *rowArgs)
// Reference: rowsF32Generic.
TEXT ·reciprocalF32_NEON(SB), NOSPLIT, $32-8
	UNARY(OP_RECIPROCAL)

// func floorF32_NEON(args *rowArgs)
// Reference: rowsF32Generic.
TEXT ·floorF32_NEON(SB), NOSPLIT, $32-8
	UNARY(OP_FLOOR)

// func ceilF32_NEON(args *rowArgs)
// Reference: rowsF32Generic.
TEXT ·ceilF32_NEON(SB), NOSPLIT, $32-8
	UNARY(OP_CEIL)

// func roundF32_NEON(args *rowArgs)
// Reference: rowsF32Generic.
TEXT ·roundF32_NEON(SB), NOSPLIT, $32-8
	UNARY(OP_ROUND)
