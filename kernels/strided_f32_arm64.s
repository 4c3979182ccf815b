//go:build !purego

#include "go_asm.h"
#include "textflag.h"
#include "neon_arm64.h"

// Loops of StridedF32: registers of 4 values, then single ones.
//
//	R0  args        R5  rows left      R8   out
//	R1  row of out  R6  vectors left   R9   a
//	R2  row of a    R7  values left    R10  b
//	R3  row of b    R12 scratch        R11  c
//	R4  row of c
//
//	V0 a   V1 b   V2 c   V3 out   V4, V5 scratch   V16 p   V17 q

#define STRIDED_BEGIN \
	MOVD args+0(FP), R0              \
	MOVD stridedArgs_out(R0), R1     \
	MOVD stridedArgs_a(R0), R2       \
	MOVD stridedArgs_b(R0), R3       \
	MOVD stridedArgs_c(R0), R4       \
	MOVD stridedArgs_rows(R0), R5    \
	MOVW stridedArgs_p(R0), R12      \
	VDUP R12, V16.S4                 \
	MOVW stridedArgs_q(R0), R12      \
	VDUP R12, V17.S4                 \
row:                                     \
	MOVD R1, R8                      \
	MOVD R2, R9                      \
	MOVD R3, R10                     \
	MOVD R4, R11                     \
	MOVD stridedArgs_vectors(R0), R6 \
	MOVD stridedArgs_rest(R0), R7

#define STRIDED_END \
	MOVD stridedArgs_outStep(R0), R12 \
	ADD  R12, R1                      \
	MOVD stridedArgs_aStep(R0), R12   \
	ADD  R12, R2                      \
	MOVD stridedArgs_bStep(R0), R12   \
	ADD  R12, R3                      \
	MOVD stridedArgs_cStep(R0), R12   \
	ADD  R12, R4                      \
	SUBS $1, R5, R5                   \
	BNE  row                          \
	RET

// What a loop reads and writes: of registers, and of single values.
#define LOAD_OUT VLD1 (R8), [V3.S4]
#define LOAD_A   VLD1.P 16(R9), [V0.S4]
#define LOAD_B   VLD1.P 16(R10), [V1.S4]
#define LOAD_C   VLD1 (R11), [V2.S4]
#define STORE    VST1.P [V3.S4], 16(R8)
#define STORE_C  VST1 [V2.S4], (R11)
#define NEXT_C   ADD $16, R11

#define LOAD1_OUT FMOVS (R8), F3
#define LOAD1_A \
	FMOVS (R9), F0 \
	ADD $4, R9
#define LOAD1_B \
	FMOVS (R10), F1 \
	ADD $4, R10
#define LOAD1_C FMOVS (R11), F2
#define STORE1 \
	FMOVS F3, (R8) \
	ADD $4, R8
#define STORE1_C FMOVS F2, (R11)
#define NEXT1_C  ADD $4, R11

// STRIDED is the body of an operation: loads, op and stores of a register and
// of a single value.
#define STRIDED(loads, stores, loads1, stores1, op) \
	STRIDED_BEGIN        \
	CBZ  R6, rest        \
vector:                  \
	loads                \
	op                   \
	stores               \
	SUBS $1, R6, R6      \
	BNE  vector          \
rest:                    \
	CBZ  R7, done        \
single:                  \
	loads1               \
	op                   \
	stores1              \
	SUBS $1, R7, R7      \
	BNE  single          \
done:                    \
	STRIDED_END

#define LOADS_AB \
	LOAD_A \
	LOAD_B
#define LOADS1_AB \
	LOAD1_A \
	LOAD1_B
#define LOADS_ABC \
	LOAD_A \
	LOAD_B \
	LOAD_C \
	NEXT_C
#define LOADS1_ABC \
	LOAD1_A \
	LOAD1_B \
	LOAD1_C \
	NEXT1_C
#define LOADS_OUT_A \
	LOAD_OUT \
	LOAD_A
#define LOADS1_OUT_A \
	LOAD1_OUT \
	LOAD1_A
#define LOADS_OUT_AB \
	LOAD_OUT \
	LOADS_AB
#define LOADS1_OUT_AB \
	LOAD1_OUT \
	LOADS1_AB
#define LOADS_OUT_ABC \
	LOAD_OUT \
	LOADS_ABC
#define LOADS1_OUT_ABC \
	LOAD1_OUT \
	LOADS1_ABC
#define LOADS_OUT_AC \
	LOAD_OUT \
	LOAD_A   \
	LOAD_C   \
	NEXT_C
#define LOADS1_OUT_AC \
	LOAD1_OUT \
	LOAD1_A   \
	LOAD1_C   \
	NEXT1_C
#define LOADS_GIVE \
	LOAD_OUT \
	LOADS_AB \
	LOAD_C
#define LOADS1_GIVE \
	LOAD1_OUT \
	LOADS1_AB \
	LOAD1_C
#define STORES_GIVE \
	STORE   \
	STORE_C \
	NEXT_C
#define STORES1_GIVE \
	STORE1   \
	STORE1_C \
	NEXT1_C

#define OP_PASS \
	FCMGT(4, 0, 16) \
	FCMGT(5, 17, 0) \
	AND_V(4, 4, 5)  \
	AND_V(3, 1, 4)
#define OP_GIVE \
	FCMEQ(4, 0, 1) \
	AND_V(5, 2, 4) \
	BIC_V(2, 2, 4) \
	FADD(3, 3, 5)
#define OP_ADD FADD(3, 3, 0)
#define OP_ADD_PRODUCT \
	FMUL(0, 0, 1) \
	FADD(3, 3, 0)
#define OP_LINE \
	FMUL(3, 0, 1) \
	FADD(3, 3, 2)
#define OP_ADD_SQUARE \
	FSUB(0, 0, 2) \
	FMUL(0, 0, 0) \
	FADD(3, 3, 0)
#define OP_ADD_CENTRED \
	FSUB(0, 0, 2) \
	FMUL(0, 0, 1) \
	FADD(3, 3, 0)

// func stridedPassF32_NEON(args *stridedArgs)
// Reference: stridedF32Generic.
TEXT ·stridedPassF32_NEON(SB), NOSPLIT, $0-8
	STRIDED(LOADS_AB, STORE, LOADS1_AB, STORE1, OP_PASS)

// func stridedGiveF32_NEON(args *stridedArgs)
// Reference: stridedF32Generic.
TEXT ·stridedGiveF32_NEON(SB), NOSPLIT, $0-8
	STRIDED(LOADS_GIVE, STORES_GIVE, LOADS1_GIVE, STORES1_GIVE, OP_GIVE)

// func stridedAddF32_NEON(args *stridedArgs)
// Reference: stridedF32Generic.
TEXT ·stridedAddF32_NEON(SB), NOSPLIT, $0-8
	STRIDED(LOADS_OUT_A, STORE, LOADS1_OUT_A, STORE1, OP_ADD)

// func stridedAddProductF32_NEON(args *stridedArgs)
// Reference: stridedF32Generic.
TEXT ·stridedAddProductF32_NEON(SB), NOSPLIT, $0-8
	STRIDED(LOADS_OUT_AB, STORE, LOADS1_OUT_AB, STORE1, OP_ADD_PRODUCT)

// func stridedLineF32_NEON(args *stridedArgs)
// Reference: stridedF32Generic.
TEXT ·stridedLineF32_NEON(SB), NOSPLIT, $0-8
	STRIDED(LOADS_ABC, STORE, LOADS1_ABC, STORE1, OP_LINE)

// func stridedAddSquareF32_NEON(args *stridedArgs)
// Reference: stridedF32Generic.
TEXT ·stridedAddSquareF32_NEON(SB), NOSPLIT, $0-8
	STRIDED(LOADS_OUT_AC, STORE, LOADS1_OUT_AC, STORE1, OP_ADD_SQUARE)

// func stridedAddCentredF32_NEON(args *stridedArgs)
// Reference: stridedF32Generic.
TEXT ·stridedAddCentredF32_NEON(SB), NOSPLIT, $0-8
	STRIDED(LOADS_OUT_ABC, STORE, LOADS1_OUT_ABC, STORE1, OP_ADD_CENTRED)
