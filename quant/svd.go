package quant

import (
	"math"
	"slices"
)

// Rotations stop when no two columns are further from a right angle than
// rightAngle, or after mostSweeps over all pairs.
const (
	rightAngle = 1e-10
	mostSweeps = 40
)

// singular returns the singular values of the matrix whose columns are a, the
// greatest first, and turns a into the columns U*S in that order: of the
// matrix A = U S V^T, by one-sided Jacobi rotations (Hestenes 1958; Golub and
// Van Loan, Matrix Computations, 4th edition, section 8.6.3). There are at
// most as many columns as rows. It takes about 8 sweeps of 4*rows*columns^2
// operations.
func singular(a [][]float64) []float64 {
	square := make([]float64, len(a))
	for range mostSweeps {
		for j, c := range a {
			square[j] = dot(c, c)
		}
		turned := false
		for p := range a {
			for q := p + 1; q < len(a); q++ {
				turned = turn(a, square, p, q) || turned
			}
		}
		if !turned {
			break
		}
	}
	order := make([]int, len(a))
	for j, c := range a {
		order[j], square[j] = j, dot(c, c)
	}
	slices.SortStableFunc(order, func(i, j int) int {
		switch {
		case square[i] > square[j]:
			return -1
		case square[i] < square[j]:
			return 1
		}
		return 0
	})
	columns, values := slices.Clone(a), make([]float64, len(a))
	for i, j := range order {
		a[i], values[i] = columns[j], math.Sqrt(square[j])
	}
	return values
}

// turn makes columns p and q orthogonal, where they are not, and reports
// whether it had to.
func turn(a [][]float64, square []float64, p, q int) bool {
	x, y := a[p], a[q]
	g := dot(x, y)
	if math.Abs(g) <= rightAngle*math.Sqrt(math.Max(0, square[p])*math.Max(0, square[q])) {
		return false
	}
	zeta := (square[q] - square[p]) / (2 * g)
	t := math.Copysign(1, zeta) / (math.Abs(zeta) + math.Sqrt(1+float64(zeta*zeta)))
	c := 1 / math.Sqrt(1+float64(t*t))
	s := c * t
	for i, v := range x {
		w := y[i]
		x[i] = float64(c*v) - float64(s*w)
		y[i] = float64(s*v) + float64(c*w)
	}
	square[p] -= float64(t * g)
	square[q] += float64(t * g)
	return true
}

// dot returns the product of x and y: four sums, so that the processor need
// not wait for one.
func dot(x, y []float64) float64 {
	var s [4]float64
	y = y[:len(x)]
	i := 0
	for ; i+4 <= len(x); i += 4 {
		s[0] += float64(x[i] * y[i])
		s[1] += float64(x[i+1] * y[i+1])
		s[2] += float64(x[i+2] * y[i+2])
		s[3] += float64(x[i+3] * y[i+3])
	}
	for ; i < len(x); i++ {
		s[0] += float64(x[i] * y[i])
	}
	return s[0] + s[1] + s[2] + s[3]
}
