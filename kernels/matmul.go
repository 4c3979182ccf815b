package kernels

// MatMul writes the product of a [m, k] and b [k, n] to out [m, n], sums in
// the order of k: for the types that have no GEMM of their own.
func MatMul[T Number](out, a, b []T, m, k, n int) {
	for i := range m {
		row := out[i*n : (i+1)*n]
		clear(row)
		for j, x := range a[i*k : (i+1)*k] {
			for c, w := range b[j*n : (j+1)*n] {
				row[c] += T(x * w)
			}
		}
	}
}

// Contraction is a sum of products over named axes: an Einsum of one tensor
// or two. Axes of the result come first in the walk, those summed over last.
type Contraction struct {
	lengths  []int
	strides  [][2]int // of each operand, in elements; 0 where it lacks the axis
	out, sum int      // elements of the result, and products summed for each
	kept     int      // axes of the result
}

// NewContraction makes one of the lengths of all axes, those of the result
// first (kept of them), and each axis's stride in the two operands.
func NewContraction(lengths []int, strides [][2]int, kept int) *Contraction {
	c := &Contraction{lengths: lengths, strides: strides, kept: kept, out: 1, sum: 1}
	for i, d := range lengths {
		if i < kept {
			c.out *= d
		} else {
			c.sum *= d
		}
	}
	return c
}

// offsets returns where number n of the walk over axes from to lies in each
// operand.
func (c *Contraction) offsets(n, from, to int) (a, b int) {
	for i := to - 1; i >= from; i-- {
		k := n % c.lengths[i]
		n /= c.lengths[i]
		a, b = a+k*c.strides[i][0], b+k*c.strides[i][1]
	}
	return a, b
}

// Contract writes the sums of products; b may be nil, for a sum alone.
func Contract[T Number](c *Contraction, out, a, b []T) {
	last, inner := len(c.lengths), 1
	var step [2]int
	if last > c.kept { // the last summed axis is walked by steps
		last--
		inner, step = c.lengths[last], c.strides[last]
	}
	for i := range c.out {
		fa, fb := c.offsets(i, 0, c.kept)
		var sum T
		for j := 0; j < c.sum; j += inner {
			oa, ob := c.offsets(j/inner, c.kept, last)
			for k := range inner {
				p := a[fa+oa+k*step[0]]
				if b != nil {
					p = T(p * b[fb+ob+k*step[1]])
				}
				sum += p
			}
		}
		out[i] = sum
	}
}
