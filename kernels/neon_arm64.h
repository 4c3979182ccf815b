// Instructions that the Go 1.26 assembler for arm64 cannot spell, or not over
// register numbers, which is what macros count in. Each is one macro, named as
// Arm names the instruction (an arrangement is added where there are several)
// with its operands in Arm's order: the destination first. The line above a
// macro is the instruction; encodings_test.go assembles it with GNU as
// and compares.
// Reference: Arm Architecture Reference Manual for A-profile, DDI 0487, C7.2.

// Products of bytes.

// sdot v{d}.4s, v{n}.16b, v{m}.4b[{i}]
#define SDOT_LANE(d, n, m, i) WORD $(0x4f80e000 | ((i)&1)<<21 | ((i)>>1)<<11 | (m)<<16 | (n)<<5 | (d))
// sdot v{d}.4s, v{n}.16b, v{m}.16b
#define SDOT(d, n, m) WORD $(0x4e809400 | (m)<<16 | (n)<<5 | (d))
// smmla v{d}.4s, v{n}.16b, v{m}.16b
#define SMMLA(d, n, m) WORD $(0x4e80a400 | (m)<<16 | (n)<<5 | (d))
// smull v{d}.8h, v{n}.8b, v{m}.8b
#define SMULL(d, n, m) WORD $(0x0e20c000 | (m)<<16 | (n)<<5 | (d))
// smull2 v{d}.8h, v{n}.16b, v{m}.16b
#define SMULL2(d, n, m) WORD $(0x4e20c000 | (m)<<16 | (n)<<5 | (d))
// smlal v{d}.8h, v{n}.8b, v{m}.8b
#define SMLAL(d, n, m) WORD $(0x0e208000 | (m)<<16 | (n)<<5 | (d))
// smlal2 v{d}.8h, v{n}.16b, v{m}.16b
#define SMLAL2(d, n, m) WORD $(0x4e208000 | (m)<<16 | (n)<<5 | (d))

// Sums of what is narrower.

// sadalp v{d}.4s, v{n}.8h
#define SADALP(d, n) WORD $(0x4e606800 | (n)<<5 | (d))
// saddw v{d}.4s, v{n}.4s, v{m}.4h
#define SADDW(d, n, m) WORD $(0x0e601000 | (m)<<16 | (n)<<5 | (d))
// saddw2 v{d}.4s, v{n}.4s, v{m}.8h
#define SADDW2(d, n, m) WORD $(0x4e601000 | (m)<<16 | (n)<<5 | (d))
// addp v{d}.4s, v{n}.4s, v{m}.4s
#define ADDP(d, n, m) WORD $(0x4ea0bc00 | (m)<<16 | (n)<<5 | (d))
// add v{d}.4s, v{n}.4s, v{m}.4s
#define ADD_S(d, n, m) WORD $(0x4ea08400 | (m)<<16 | (n)<<5 | (d))
// sub v{d}.4s, v{n}.4s, v{m}.4s
#define SUB_S(d, n, m) WORD $(0x6ea08400 | (m)<<16 | (n)<<5 | (d))
// ssubl v{d}.8h, v{n}.8b, v{m}.8b
#define SSUBL(d, n, m) WORD $(0x0e202000 | (m)<<16 | (n)<<5 | (d))
// ssubl2 v{d}.8h, v{n}.16b, v{m}.16b
#define SSUBL2(d, n, m) WORD $(0x4e202000 | (m)<<16 | (n)<<5 | (d))
// usubl v{d}.8h, v{n}.8b, v{m}.8b
#define USUBL(d, n, m) WORD $(0x2e202000 | (m)<<16 | (n)<<5 | (d))
// usubl2 v{d}.8h, v{n}.16b, v{m}.16b
#define USUBL2(d, n, m) WORD $(0x6e202000 | (m)<<16 | (n)<<5 | (d))
// sxtl v{d}.8h, v{n}.8b
#define SXTL_H(d, n) WORD $(0x0f08a400 | (n)<<5 | (d))
// sxtl2 v{d}.8h, v{n}.16b
#define SXTL2_H(d, n) WORD $(0x4f08a400 | (n)<<5 | (d))
// sxtl v{d}.4s, v{n}.4h
#define SXTL_S(d, n) WORD $(0x0f10a400 | (n)<<5 | (d))
// sxtl2 v{d}.4s, v{n}.8h
#define SXTL2_S(d, n) WORD $(0x4f10a400 | (n)<<5 | (d))

// Products and sums of float32.

// fmla v{d}.4s, v{n}.4s, v{m}.s[{i}]
#define FMLA_LANE(d, n, m, i) WORD $(0x4f801000 | ((i)&1)<<21 | ((i)>>1)<<11 | (m)<<16 | (n)<<5 | (d))
// fmla v{d}.4s, v{n}.4s, v{m}.4s
#define FMLA(d, n, m) WORD $(0x4e20cc00 | (m)<<16 | (n)<<5 | (d))
// fmul v{d}.4s, v{n}.4s, v{m}.s[{i}]
#define FMUL_LANE(d, n, m, i) WORD $(0x4f809000 | ((i)&1)<<21 | ((i)>>1)<<11 | (m)<<16 | (n)<<5 | (d))
// fmul v{d}.4s, v{n}.4s, v{m}.4s
#define FMUL(d, n, m) WORD $(0x6e20dc00 | (m)<<16 | (n)<<5 | (d))
// fadd v{d}.4s, v{n}.4s, v{m}.4s
#define FADD(d, n, m) WORD $(0x4e20d400 | (m)<<16 | (n)<<5 | (d))
// fdiv v{d}.4s, v{n}.4s, v{m}.4s
#define FDIV(d, n, m) WORD $(0x6e20fc00 | (m)<<16 | (n)<<5 | (d))
// fsub v{d}.4s, v{n}.4s, v{m}.4s
#define FSUB(d, n, m) WORD $(0x4ea0d400 | (m)<<16 | (n)<<5 | (d))
// fmax v{d}.4s, v{n}.4s, v{m}.4s
#define FMAX(d, n, m) WORD $(0x4e20f400 | (m)<<16 | (n)<<5 | (d))
// fmin v{d}.4s, v{n}.4s, v{m}.4s
#define FMIN(d, n, m) WORD $(0x4ea0f400 | (m)<<16 | (n)<<5 | (d))
// fneg v{d}.4s, v{n}.4s
#define FNEG(d, n) WORD $(0x6ea0f800 | (n)<<5 | (d))
// fabs v{d}.4s, v{n}.4s
#define FABS(d, n) WORD $(0x4ea0f800 | (n)<<5 | (d))
// fsqrt v{d}.4s, v{n}.4s
#define FSQRT(d, n) WORD $(0x6ea1f800 | (n)<<5 | (d))
// frintm v{d}.4s, v{n}.4s
#define FRINTM(d, n) WORD $(0x4e219800 | (n)<<5 | (d))
// frintp v{d}.4s, v{n}.4s
#define FRINTP(d, n) WORD $(0x4ea18800 | (n)<<5 | (d))
// frintn v{d}.4s, v{n}.4s
#define FRINTN(d, n) WORD $(0x4e218800 | (n)<<5 | (d))
// fcmeq v{d}.4s, v{n}.4s, v{m}.4s
#define FCMEQ(d, n, m) WORD $(0x4e20e400 | (m)<<16 | (n)<<5 | (d))
// fcmgt v{d}.4s, v{n}.4s, v{m}.4s
#define FCMGT(d, n, m) WORD $(0x6ea0e400 | (m)<<16 | (n)<<5 | (d))
// fcmlt v{d}.4s, v{n}.4s, #0.0
#define FCMLT_0(d, n) WORD $(0x4ea0e800 | (n)<<5 | (d))
// bit v{d}.16b, v{n}.16b, v{m}.16b
#define BIT(d, n, m) WORD $(0x6ea01c00 | (m)<<16 | (n)<<5 | (d))
// fmaxnm v{d}.4s, v{n}.4s, v{m}.4s
#define FMAXNM(d, n, m) WORD $(0x4e20c400 | (m)<<16 | (n)<<5 | (d))
// fmaxnmv s{d}, v{n}.4s
#define FMAXNMV(d, n) WORD $(0x6e30c800 | (n)<<5 | (d))

// Products and sums of binary16; a lane is of V0 to V15.

// fmla v{d}.8h, v{n}.8h, v{m}.h[{i}]
#define FMLA_LANE_H(d, n, m, i) WORD $(0x4f001000 | ((i)&3)<<20 | ((i)&4)<<9 | (m)<<16 | (n)<<5 | (d))
// fmul v{d}.8h, v{n}.8h, v{m}.h[{i}]
#define FMUL_LANE_H(d, n, m, i) WORD $(0x4f009000 | ((i)&3)<<20 | ((i)&4)<<9 | (m)<<16 | (n)<<5 | (d))
// fmla v{d}.8h, v{n}.8h, v{m}.8h
#define FMLA_H(d, n, m) WORD $(0x4e400c00 | (m)<<16 | (n)<<5 | (d))
// fadd v{d}.8h, v{n}.8h, v{m}.8h
#define FADD_H(d, n, m) WORD $(0x4e401400 | (m)<<16 | (n)<<5 | (d))

// Bits.

// mov v{d}.16b, v{n}.16b
#define MOV_V(d, n) WORD $(0x4ea01c00 | (n)<<16 | (n)<<5 | (d))
// and v{d}.16b, v{n}.16b, v{m}.16b
#define AND_V(d, n, m) WORD $(0x4e201c00 | (m)<<16 | (n)<<5 | (d))
// bic v{d}.16b, v{n}.16b, v{m}.16b
#define BIC_V(d, n, m) WORD $(0x4e601c00 | (m)<<16 | (n)<<5 | (d))
// orr v{d}.16b, v{n}.16b, v{m}.16b
#define ORR_V(d, n, m) WORD $(0x4ea01c00 | (m)<<16 | (n)<<5 | (d))
// sshr v{d}.4s, v{n}.4s, #23
#define SSHR_23(d, n) WORD $(0x4f290400 | (n)<<5 | (d))
// ushr v{d}.4s, v{n}.4s, #1
#define USHR_1(d, n) WORD $(0x6f3f0400 | (n)<<5 | (d))
// shl v{d}.4s, v{n}.4s, #23
#define SHL_23(d, n) WORD $(0x4f375400 | (n)<<5 | (d))

// Changes of form. FCVTNS rounds half to even and saturates.

// scvtf v{d}.4s, v{n}.4s
#define SCVTF(d, n) WORD $(0x4e21d800 | (n)<<5 | (d))
// fcvtns v{d}.4s, v{n}.4s
#define FCVTNS(d, n) WORD $(0x4e21a800 | (n)<<5 | (d))
// fcvtl v{d}.4s, v{n}.4h
#define FCVTL(d, n) WORD $(0x0e217800 | (n)<<5 | (d))
// fcvtl2 v{d}.4s, v{n}.8h
#define FCVTL2(d, n) WORD $(0x4e217800 | (n)<<5 | (d))
// fcvtn v{d}.4h, v{n}.4s
#define FCVTN(d, n) WORD $(0x0e216800 | (n)<<5 | (d))
// fcvtn2 v{d}.8h, v{n}.4s
#define FCVTN2(d, n) WORD $(0x4e216800 | (n)<<5 | (d))
// sqxtn v{d}.4h, v{n}.4s
#define SQXTN_H(d, n) WORD $(0x0e614800 | (n)<<5 | (d))
// sqxtn2 v{d}.8h, v{n}.4s
#define SQXTN2_H(d, n) WORD $(0x4e614800 | (n)<<5 | (d))
// sqxtn v{d}.8b, v{n}.8h
#define SQXTN_B(d, n) WORD $(0x0e214800 | (n)<<5 | (d))
// sqxtn2 v{d}.16b, v{n}.8h
#define SQXTN2_B(d, n) WORD $(0x4e214800 | (n)<<5 | (d))
// sqxtun v{d}.8b, v{n}.8h
#define SQXTUN_B(d, n) WORD $(0x2e212800 | (n)<<5 | (d))
// sqxtun2 v{d}.16b, v{n}.8h
#define SQXTUN2_B(d, n) WORD $(0x6e212800 | (n)<<5 | (d))
// sqadd v{d}.8h, v{n}.8h, v{m}.8h
#define SQADD(d, n, m) WORD $(0x4e600c00 | (m)<<16 | (n)<<5 | (d))
// smax v{d}.16b, v{n}.16b, v{m}.16b
#define SMAX(d, n, m) WORD $(0x4e206400 | (m)<<16 | (n)<<5 | (d))
// smin v{d}.16b, v{n}.16b, v{m}.16b
#define SMIN(d, n, m) WORD $(0x4e206c00 | (m)<<16 | (n)<<5 | (d))
// zip1 v{d}.16b, v{n}.16b, v{m}.16b
#define ZIP1_B(d, n, m) WORD $(0x4e003800 | (m)<<16 | (n)<<5 | (d))
// zip2 v{d}.16b, v{n}.16b, v{m}.16b
#define ZIP2_B(d, n, m) WORD $(0x4e007800 | (m)<<16 | (n)<<5 | (d))
// zip1 v{d}.8h, v{n}.8h, v{m}.8h
#define ZIP1_H(d, n, m) WORD $(0x4e403800 | (m)<<16 | (n)<<5 | (d))
// zip2 v{d}.8h, v{n}.8h, v{m}.8h
#define ZIP2_H(d, n, m) WORD $(0x4e407800 | (m)<<16 | (n)<<5 | (d))
// zip1 v{d}.4s, v{n}.4s, v{m}.4s
#define ZIP1_S(d, n, m) WORD $(0x4e803800 | (m)<<16 | (n)<<5 | (d))
// zip2 v{d}.4s, v{n}.4s, v{m}.4s
#define ZIP2_S(d, n, m) WORD $(0x4e807800 | (m)<<16 | (n)<<5 | (d))
// zip1 v{d}.2d, v{n}.2d, v{m}.2d
#define ZIP1_D(d, n, m) WORD $(0x4ec03800 | (m)<<16 | (n)<<5 | (d))
// zip2 v{d}.2d, v{n}.2d, v{m}.2d
#define ZIP2_D(d, n, m) WORD $(0x4ec07800 | (m)<<16 | (n)<<5 | (d))

// Loads and stores; offsets are multiples of the size.

// ldr q{t}, [x{n}, #{o}]
#define LDR_Q(t, n, o) WORD $(0x3dc00000 | ((o)/16)<<10 | (n)<<5 | (t))
// ldr q{t}, [x{n}, x{m}]
#define LDR_QX(t, n, m) WORD $(0x3ce06800 | (m)<<16 | (n)<<5 | (t))
// str q{t}, [x{n}, #{o}]
#define STR_Q(t, n, o) WORD $(0x3d800000 | ((o)/16)<<10 | (n)<<5 | (t))
// str d{t}, [x{n}, #{o}]
#define STR_D(t, n, o) WORD $(0xfd000000 | ((o)/8)<<10 | (n)<<5 | (t))
