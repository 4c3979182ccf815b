package kernels

// StridedOp is an elementwise operation of up to three rows and a result that
// may be read as well: what gradients, and sums over pixels, are made of. All
// are exact.
type StridedOp uint8

// The operations, on each value.
const (
	StridedPass       StridedOp = iota // out = b where p < a < q, else 0
	StridedGive                        // out += c and then c = 0, where a equals b; out += 0 elsewhere
	StridedAdd                         // out += a
	StridedAddProduct                  // out += a*b
	StridedLine                        // out = a*b + c
	StridedAddSquare                   // out += (a-c)²
	StridedAddCentred                  // out += (a-c)*b
	stridedOps
)

// Strided are rows of N values each: how many, and how far apart those of out,
// a, b and c lie, in values. A step of 0 takes the same row again: with out's,
// values are added up over all rows, one row after the other.
type Strided struct {
	Rows, N      int
	Out, A, B, C int
	P, Q         float32
}

// span returns how many values rows that are step apart take.
func (s Strided) span(step int) int { return (s.Rows-1)*step + s.N }

// StridedFunc runs an operation over rows. Slices that an operation does not
// read may be nil. Rows of out may be those of a, b or c, where an operation
// does not read out itself, and may overlap no others.
type StridedFunc func(out, a, b, c []float32, s Strided)

type stridedF32Func func(op StridedOp, out, a, b, c []float32, s Strided)

// stridedF32Variants is the table of StridedF32.
var stridedF32Variants = append(stridedF32Native, variant[stridedF32Func]{Generic, true, stridedF32Generic})

// StridedF32 returns an operation as t computes it, and the tier that does.
func StridedF32(t Target, op StridedOp) (Tier, StridedFunc) {
	v := pick(t, stridedF32Variants)
	reads := stridedReads[op]
	return v.tier, func(out, a, b, c []float32, s Strided) {
		if s.Rows < 1 || s.N < 1 {
			return
		}
		out, a = out[:s.span(s.Out)], a[:s.span(s.A)]
		if reads.b {
			b = b[:s.span(s.B)]
		}
		if reads.c {
			c = c[:s.span(s.C)]
		}
		v.run(op, out, a, b, c, s)
	}
}

// stridedReads says which of b and c an operation looks at.
var stridedReads = [stridedOps]struct{ b, c bool }{
	StridedPass: {b: true}, StridedGive: {true, true}, StridedAddProduct: {b: true},
	StridedLine: {true, true}, StridedAddSquare: {c: true}, StridedAddCentred: {true, true},
}

// stridedF32Generic is the definition of StridedF32.
func stridedF32Generic(op StridedOp, out, a, b, c []float32, s Strided) {
	for r := range s.Rows {
		y, x := out[r*s.Out:][:s.N], a[r*s.A:][:s.N]
		var v, w []float32
		if stridedReads[op].b {
			v = b[r*s.B:][:s.N]
		}
		if stridedReads[op].c {
			w = c[r*s.C:][:s.N]
		}
		stridedRow(op, y, x, v, w, s.P, s.Q)
	}
}

func stridedRow(op StridedOp, out, a, b, c []float32, p, q float32) {
	for i, x := range a {
		switch op {
		case StridedPass:
			d := float32(0)
			if x > p && x < q {
				d = b[i]
			}
			out[i] = d
		case StridedGive:
			d := float32(0)
			if x == b[i] {
				d, c[i] = c[i], 0
			}
			out[i] += d
		case StridedAdd:
			out[i] += x
		case StridedAddProduct:
			out[i] += float32(x * b[i])
		case StridedLine:
			out[i] = float32(x*b[i]) + c[i]
		case StridedAddSquare:
			d := x - c[i]
			out[i] += float32(d * d)
		case StridedAddCentred:
			out[i] += float32((x - c[i]) * b[i])
		}
	}
}
