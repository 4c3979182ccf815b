package kernels

import "math"

// ReduceOp is what a reduction computes of the numbers along an axis.
type ReduceOp uint8

// The reductions of ONNX.
const (
	ReduceSum ReduceOp = iota
	ReduceMean
	ReduceMax
	ReduceMin
	ReduceProd
	ReduceL1
	ReduceL2
	ReduceSumSquare
	ReduceLogSum
	ReduceLogSumExp
)

// ReduceFloat reduces in [outer, n, inner] to out [outer, inner]. It computes
// in float64, elements of a row in four lanes that are added in pairs at the
// end, and rounds once.
func ReduceFloat[T float32 | float64](op ReduceOp, out, in []T, outer, n, inner int) {
	for o := range outer {
		for i := range inner {
			x := in[o*n*inner:][:n*inner]
			out[o*inner+i] = T(reduceColumn(op, x[min(i, len(x)):], n, inner))
		}
	}
}

func reduceColumn[T float32 | float64](op ReduceOp, x []T, n, step int) float64 {
	switch op {
	case ReduceMean:
		return sumColumn(x, n, step) / float64(n)
	case ReduceMax:
		m := math.Inf(-1)
		for k := range n {
			m = max(m, float64(x[k*step]))
		}
		return m
	case ReduceMin:
		m := math.Inf(1)
		for k := range n {
			m = min(m, float64(x[k*step]))
		}
		return m
	case ReduceProd:
		p := 1.0
		for k := range n {
			p = float64(p * float64(x[k*step]))
		}
		return p
	case ReduceL1:
		s := 0.0
		for k := range n {
			s += math.Abs(float64(x[k*step]))
		}
		return s
	case ReduceL2, ReduceSumSquare:
		s := 0.0
		for k := range n {
			v := float64(x[k*step])
			s += float64(v * v)
		}
		if op == ReduceL2 {
			return math.Sqrt(s)
		}
		return s
	case ReduceLogSum:
		return log64(sumColumn(x, n, step))
	case ReduceLogSumExp:
		m := reduceColumn(ReduceMax, x, n, step)
		if math.IsInf(m, 0) || m != m {
			return m
		}
		s := 0.0
		for k := range n {
			s += exp64(float64(x[k*step]) - m)
		}
		return m + log64(s)
	}
	return sumColumn(x, n, step)
}

func sumColumn[T float32 | float64](x []T, n, step int) float64 {
	var a, b, c, d float64
	k := 0
	for ; k+4 <= n; k += 4 {
		p := x[k*step:]
		a += float64(p[0])
		b += float64(p[step])
		c += float64(p[2*step])
		d += float64(p[3*step])
	}
	for ; k < n; k++ {
		a += float64(x[k*step])
	}
	return (a + b) + (c + d)
}

// ReduceInt reduces in [outer, n, inner] to out [outer, inner]; sums and
// products wrap around, a mean is rounded towards 0. It reports whether it
// has the operation for integers.
func ReduceInt[T Number](op ReduceOp, out, in []T, outer, n, inner int) bool {
	step, first := func(a, x T) T { return a + x }, T(0)
	switch op {
	case ReduceSum, ReduceMean:
	case ReduceL1:
		step = func(a, x T) T { return a + max(x, -x) }
		if T(0)-1 > 0 {
			step = func(a, x T) T { return a + x }
		}
	case ReduceSumSquare:
		step = func(a, x T) T { return a + x*x }
	case ReduceProd:
		step, first = func(a, x T) T { return a * x }, 1
	case ReduceMax:
		step = func(a, x T) T { return max(a, x) }
	case ReduceMin:
		step = func(a, x T) T { return min(a, x) }
	default:
		return false
	}
	seeded := op == ReduceMax || op == ReduceMin
	for o := range outer {
		for i := range inner {
			a := first
			wide := int64(0)
			for k := range n {
				x := in[(o*n+k)*inner+i]
				if seeded && k == 0 {
					a = x
				}
				a = step(a, x)
				wide += int64(x)
			}
			if op == ReduceMean && n > 0 {
				a = T(wide / int64(n))
			}
			out[o*inner+i] = a
		}
	}
	return true
}
