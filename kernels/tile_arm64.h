// What the tile functions share: the walk over tiles and segments, and what
// becomes of sums. See tileArgs for what they read.
//
//	R0  args           R6   tiles left       R11-R14  rows
//	R1  list of rows   R7   bias             R15      scratch
//	R2  rowStep        R8   weights          R16      list of this segment
//	R3  steps          R9   segments left    R17      less, or unscale
//	R4  out            R10  steps left       R20-R22  Zero, Min, Max
//	R5  ld             R19  bytes of the rows that are done
//
// A function is TILE_BEGIN, the sums' start, SEGMENTS, TILE_STORE, TILE_END.
//
// TILE_BEGIN_WITH and TILE_END_WITH name the field that has a value for each
// row, less or unscale.

#define TILE_BEGIN TILE_BEGIN_WITH(tileArgs_less)
#define TILE_BEGIN_WITH(each) \
	MOVD     args+0(FP), R0         \
	MOVD     tileArgs_rows(R0), R1  \
	MOVD     tileArgs_rowStep(R0), R2 \
	MOVD     tileArgs_steps(R0), R3 \
	MOVD     tileArgs_out(R0), R4   \
	MOVD     tileArgs_ld(R0), R5    \
	MOVD     tileArgs_tiles(R0), R6 \
	MOVD     tileArgs_bias(R0), R7  \
	MOVW     tileArgs_zero(R0), R20 \
	MOVW     tileArgs_least(R0), R21 \
	FMOVS    tileArgs_hi(R0), F16   \
	FCVTZSSW F16, R22               \
	ADDW     R20, R22               \
	MOVD     each(R0), R17          \
tile:                               \
	MOVD     R1, R16                \
	MOVD     tileArgs_weights(R0), R8 \
	MOVD     tileArgs_segments(R0), R9

// SEGMENTS passes over the depth. rows loads R11.. from the list, many does
// count steps, one does one; both move R8 and R19 on.
//
// Loads have no writeback, which holds an in-order core (Cortex-A53, A55) for as
// long as the load does, as LLVM's models have it: no core was measured. Those
// of a step's weights stand before the products of the step before.
#define SEGMENTS(rows, count, many, one) \
segment:                   \
	rows                   \
	MOVD $0, R19           \
	ADD  R2, R16           \
	SUBS $count, R3, R10   \
	BLT  few               \
steps:                     \
	many                   \
	SUBS $count, R10, R10  \
	BGE  steps             \
few:                       \
	ADDS $count, R10, R10  \
	BEQ  next              \
step:                      \
	one                    \
	SUBS $1, R10, R10      \
	BNE  step              \
next:                      \
	SUBS $1, R9, R9        \
	BNE  segment

// TILE_STORE writes the sums, less loads' values if there are any, as mode says:
// int32 as they are, float32 times scale, or int8. scales loads scales into
// V20.., and each argument after it stores all rows.
#define TILE_STORE(less, scales, whole, real, bytes) \
	CBZ  R17, lessened           \
	less                         \
lessened:                        \
	MOVD tileArgs_mode(R0), R15  \
	CMP  $1, R15                 \
	BLT  whole32                 \
	MOVD tileArgs_scale(R0), R15 \
	scales                       \
	BEQ  real32                  \
	VDUP R20, V16.H8             \
	VDUP R21, V17.B16            \
	VDUP R22, V18.B16            \
	bytes                        \
	B    stored                  \
whole32:                         \
	whole                        \
	B    stored                  \
real32:                          \
	real                         \
stored:

// TILE_END goes to the next tile, of rows rows.
#define TILE_END(rows) TILE_END_WITH(rows, tileArgs_less)
#define TILE_END_WITH(rows, each) \
	ADD  $(8*rows), R1         \
	SUBS $1, R6, R6            \
	BNE  tile                  \
	MOVD R1, tileArgs_rows(R0) \
	MOVD R4, tileArgs_out(R0)  \
	MOVD R17, each(R0)         \
	RET

#define ROWS1 \
	MOVD (R16), R11
#define ROWS2 \
	LDP (R16), (R11, R12)
#define ROWS4 \
	LDP (R16), (R11, R12) \
	LDP 16(R16), (R13, R14)

// less, spread over a register for each row, then taken off its sums.
#define LESS_ROW16(a) \
	VLD1R.P 4(R17), [V16.S4] \
	SUB_S(a, a, 16)     \
	SUB_S(a+1, a+1, 16) \
	SUB_S(a+2, a+2, 16) \
	SUB_S(a+3, a+3, 16)
#define LESS_ROW8(a) \
	VLD1R.P 4(R17), [V16.S4] \
	SUB_S(a, a, 16) \
	SUB_S(a+1, a+1, 16)

#define SCALES16 \
	VLD1 (R15), [V20.S4, V21.S4, V22.S4, V23.S4]
#define SCALES8 \
	VLD1 (R15), [V20.S4, V21.S4]

// One row of 16 columns, in a to a+3, or of 8, in a and a+1.

#define WHOLE16(a) \
	STR_Q(a, 4, 0)    \
	STR_Q(a+1, 4, 16) \
	STR_Q(a+2, 4, 32) \
	STR_Q(a+3, 4, 48) \
	ADD R5, R4
#define WHOLE8(a) \
	STR_Q(a, 4, 0)    \
	STR_Q(a+1, 4, 16) \
	ADD R5, R4

#define REAL16(a) \
	REAL(a, 20)   \
	REAL(a+1, 21) \
	REAL(a+2, 22) \
	REAL(a+3, 23) \
	WHOLE16(a)
#define REAL8(a) \
	REAL(a, 20)   \
	REAL(a+1, 21) \
	WHOLE8(a)
#define REAL(a, scale) \
	SCVTF(a, a) \
	FMUL(a, a, scale)

// The rule of Requant: V20.. scales, V16 Zero, V17 Min, V18 Max. Whatever
// saturates in between is beyond int8 and so beyond Min or Max.
#define BYTES16(a) \
	REQUANTISE8(a, 20)   \
	REQUANTISE8(a+2, 22) \
	SQXTN_B(a, a)        \
	SQXTN2_B(a, a+2)     \
	SMAX(a, a, 17)       \
	SMIN(a, a, 18)       \
	STR_Q(a, 4, 0)       \
	ADD R5, R4
#define BYTES8(a) \
	REQUANTISE8(a, 20) \
	SQXTN_B(a, a)      \
	SMAX(a, a, 17)     \
	SMIN(a, a, 18)     \
	STR_D(a, 4, 0)     \
	ADD R5, R4
#define REQUANTISE8(a, scale) \
	SCVTF(a, a)            \
	SCVTF(a+1, a+1)        \
	FMUL(a, a, scale)      \
	FMUL(a+1, a+1, scale+1) \
	FCVTNS(a, a)           \
	FCVTNS(a+1, a+1)       \
	SQXTN_H(a, a)          \
	SQXTN2_H(a, a+1)       \
	SQADD(a, a, 16)

// Each of the above for all rows of a tile whose sums begin at V0.

#define LESS1x16 \
	LESS_ROW16(0)
#define LESS2x16 \
	LESS_ROW16(0) \
	LESS_ROW16(4)
#define LESS4x16 \
	LESS2x16 \
	LESS_ROW16(8) \
	LESS_ROW16(12)
#define LESS1x8 \
	LESS_ROW8(0)
#define LESS2x8 \
	LESS_ROW8(0) \
	LESS_ROW8(2)
#define LESS4x8 \
	LESS2x8 \
	LESS_ROW8(4) \
	LESS_ROW8(6)
#define WHOLE1x16 \
	WHOLE16(0)
#define WHOLE2x16 \
	WHOLE16(0) \
	WHOLE16(4)
#define WHOLE4x16 \
	WHOLE2x16  \
	WHOLE16(8) \
	WHOLE16(12)
#define WHOLE1x8 \
	WHOLE8(0)
#define WHOLE2x8 \
	WHOLE8(0) \
	WHOLE8(2)
#define WHOLE4x8 \
	WHOLE2x8  \
	WHOLE8(4) \
	WHOLE8(6)
#define REAL1x16 \
	REAL16(0)
#define REAL2x16 \
	REAL16(0) \
	REAL16(4)
#define REAL4x16 \
	REAL2x16  \
	REAL16(8) \
	REAL16(12)
#define REAL1x8 \
	REAL8(0)
#define REAL2x8 \
	REAL8(0) \
	REAL8(2)
#define REAL4x8 \
	REAL2x8  \
	REAL8(4) \
	REAL8(6)
#define BYTES1x16 \
	BYTES16(0)
#define BYTES2x16 \
	BYTES16(0) \
	BYTES16(4)
#define BYTES4x16 \
	BYTES2x16  \
	BYTES16(8) \
	BYTES16(12)
#define BYTES1x8 \
	BYTES8(0)
#define BYTES2x8 \
	BYTES8(0) \
	BYTES8(2)
#define BYTES4x8 \
	BYTES2x8  \
	BYTES8(4) \
	BYTES8(6)

// Where a step is 4 bytes of a row (four int8, a float32): V28-V31 hold 16 bytes
// of each row, or 4; V16-V23 weights.
#define LOAD1 \
	LDR_QX(28, 11, 19)
#define LOAD2 \
	LOAD1 \
	LDR_QX(29, 12, 19)
#define LOAD4 \
	LOAD2 \
	LDR_QX(30, 13, 19) \
	LDR_QX(31, 14, 19)
#define WORD1 \
	FMOVS (R11)(R19), F28
#define WORD2 \
	WORD1 \
	FMOVS (R12)(R19), F29
#define WORD4 \
	WORD2 \
	FMOVS (R13)(R19), F30 \
	FMOVS (R14)(R19), F31

// Weights at off into two or four registers from w on.
#define WEIGHTS2(w, off) \
	LDR_Q(w, 8, off) \
	LDR_Q(w+1, 8, off+16)
#define WEIGHTS4(w, off) \
	WEIGHTS2(w, off) \
	WEIGHTS2(w+2, off+32)

// Four steps, and one. dot adds what the weights from a register on and a lane
// of the rows give. Weights are loaded a step ahead.
#define FOUR16(load, dot) \
	load              \
	WEIGHTS4(16, 0)   \
	WEIGHTS4(20, 64)  \
	dot(16, 0)        \
	WEIGHTS4(16, 128) \
	dot(20, 1)        \
	WEIGHTS4(20, 192) \
	dot(16, 2)        \
	ADD $16, R19      \
	ADD $256, R8      \
	dot(20, 3)
#define ONE16(load, dot) \
	load            \
	WEIGHTS4(16, 0) \
	ADD $4, R19     \
	ADD $64, R8     \
	dot(16, 0)
#define FOUR8(load, dot) \
	load             \
	WEIGHTS4(16, 0)  \
	WEIGHTS4(20, 64) \
	dot(16, 0)       \
	dot(18, 1)       \
	ADD $16, R19     \
	ADD $128, R8     \
	dot(20, 2)       \
	dot(22, 3)
#define ONE8(load, dot) \
	load            \
	WEIGHTS2(16, 0) \
	ADD $4, R19     \
	ADD $32, R8     \
	dot(16, 0)

// Sums begin with the bias.
#define BIAS1x16 \
	VLD1 (R7), [V0.S4, V1.S4, V2.S4, V3.S4]
#define BIAS2x16 \
	BIAS1x16 \
	VLD1 (R7), [V4.S4, V5.S4, V6.S4, V7.S4]
#define BIAS4x16 \
	BIAS2x16 \
	VLD1 (R7), [V8.S4, V9.S4, V10.S4, V11.S4] \
	VLD1 (R7), [V12.S4, V13.S4, V14.S4, V15.S4]
#define BIAS1x8 \
	VLD1 (R7), [V0.S4, V1.S4]
#define BIAS2x8 \
	BIAS1x8 \
	VLD1 (R7), [V2.S4, V3.S4]
#define BIAS4x8 \
	BIAS2x8 \
	VLD1 (R7), [V4.S4, V5.S4] \
	VLD1 (R7), [V6.S4, V7.S4]

// TILE_STORE_F32 adds to float32 sums what there is to add, bounds them and
// writes them; more and rows do each row.
#define TILE_STORE_F32(more, rows) \
	MOVD tileArgs_more(R0), R15   \
	CBZ  R15, alone               \
	more                          \
	MOVD R15, tileArgs_more(R0)   \
alone:                            \
	MOVD    $tileArgs_lo(R0), R15 \
	VLD1R.P 4(R15), [V16.S4]      \
	VLD1R   (R15), [V17.S4]       \
	rows

#define MORE16(a) \
	VLD1 (R15), [V20.S4, V21.S4, V22.S4, V23.S4] \
	FADD(a, a, 20)     \
	FADD(a+1, a+1, 21) \
	FADD(a+2, a+2, 22) \
	FADD(a+3, a+3, 23) \
	ADD R5, R15
#define MORE8(a) \
	VLD1 (R15), [V20.S4, V21.S4] \
	FADD(a, a, 20)     \
	FADD(a+1, a+1, 21) \
	ADD R5, R15
#define MORE1x16 \
	MORE16(0)
#define MORE2x16 \
	MORE16(0) \
	MORE16(4)
#define MORE4x16 \
	MORE2x16  \
	MORE16(8) \
	MORE16(12)
#define MORE1x8 \
	MORE8(0)
#define MORE2x8 \
	MORE8(0) \
	MORE8(2)
#define MORE4x8 \
	MORE2x8  \
	MORE8(4) \
	MORE8(6)

// Bounds as Clamp does: -0 is not below 0, and NaN stays, unlike with FMAX.
#define BOUND(a) \
	FCMGT(18, 16, a) \
	BIT(a, 16, 18)   \
	FCMGT(18, a, 17) \
	BIT(a, 17, 18)
#define BOUND16(a) \
	BOUND(a)   \
	BOUND(a+1) \
	BOUND(a+2) \
	BOUND(a+3) \
	WHOLE16(a)
#define BOUND8(a) \
	BOUND(a)   \
	BOUND(a+1) \
	WHOLE8(a)
#define BOUND1x16 \
	BOUND16(0)
#define BOUND2x16 \
	BOUND16(0) \
	BOUND16(4)
#define BOUND4x16 \
	BOUND2x16  \
	BOUND16(8) \
	BOUND16(12)
#define BOUND1x8 \
	BOUND8(0)
#define BOUND2x8 \
	BOUND8(0) \
	BOUND8(2)
#define BOUND4x8 \
	BOUND2x8  \
	BOUND8(4) \
	BOUND8(6)

#define ZERO4(a, b, c, d) \
	VEOR a.B16, a.B16, a.B16 \
	VEOR b.B16, b.B16, b.B16 \
	VEOR c.B16, c.B16, c.B16 \
	VEOR d.B16, d.B16, d.B16
