#include "textflag.h"

// func spin(n uint32)
// ISB rather than YIELD, which most cores ignore.
//	R0 times left
TEXT ·spin(SB), NOSPLIT, $0-4
	MOVWU n+0(FP), R0

again:
	ISB  $15
	SUBS $1, R0, R0
	BNE  again
	RET
