#include "textflag.h"

// YIELD, which older cores than ARMv6K take for a NOP.
#define YIELD WORD $0xe320f001

// func spin(n uint32)
//	R0 times left
TEXT ·spin(SB), NOSPLIT, $0-4
	MOVW n+0(FP), R0

again:
	YIELD
	SUB.S $1, R0
	BNE   again
	RET
