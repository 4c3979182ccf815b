// Steps over 16 float32 values, which are four registers from d, n and m on.

// FOUR is op on each of four registers; FOUR_BY has one register for all as
// the last operand, FOUR_OF_ONE has one operand.
#define FOUR(op, d, n, m) \
	op(d, n, m)       \
	op(d+1, n+1, m+1) \
	op(d+2, n+2, m+2) \
	op(d+3, n+3, m+3)
#define FOUR_BY(op, d, n, m) \
	op(d, n, m)     \
	op(d+1, n+1, m) \
	op(d+2, n+2, m) \
	op(d+3, n+3, m)
#define FOUR_OF_ONE(op, d, n) \
	op(d, n)     \
	op(d+1, n+1) \
	op(d+2, n+2) \
	op(d+3, n+3)
