package train

import (
	"fmt"

	"dunlin/kernels"
)

// spread is a tensor repeated along axes to another shape, as ONNX and numpy
// broadcast it. Its gradient is the sum over what is repeated.
type spread struct {
	axes  []axis // outermost first; one at least
	total int
}

// axis is an axis of the result: step is how far apart its neighbours lie in
// what is repeated, 0 along the axis that repeats it.
type axis struct{ length, step int }

func newSpread(from, to []int) (*spread, error) {
	if len(from) > len(to) {
		return nil, fmt.Errorf("%v does not broadcast to %v", from, to)
	}
	s := &spread{total: 1}
	step := 1
	for i := len(to) - 1; i >= 0; i-- {
		a := axis{to[i], 0}
		if k := i - (len(to) - len(from)); k >= 0 && from[k] != 1 {
			if from[k] != to[i] {
				return nil, fmt.Errorf("%v does not broadcast to %v", from, to)
			}
			a.step = step
			step *= from[k]
		}
		s.total *= a.length
		if a.length == 1 {
			continue
		}
		if n := len(s.axes); n > 0 && joins(a, s.axes[n-1]) {
			s.axes[n-1].length *= a.length
			continue
		}
		s.axes = append(s.axes, a)
	}
	if len(s.axes) == 0 {
		s.axes = []axis{{1, 0}}
	}
	for i, j := 0, len(s.axes)-1; i < j; i, j = i+1, j-1 {
		s.axes[i], s.axes[j] = s.axes[j], s.axes[i]
	}
	return s, nil
}

// joins reports whether an axis walks on where the one inside it ends.
func joins(outer, inner axis) bool {
	return outer.step == inner.step*inner.length
}

// whole reports whether nothing is repeated.
func (s *spread) whole() bool {
	return len(s.axes) == 1 && (s.axes[0].step == 1 || s.axes[0].length == 1)
}

// row returns where row n, along the innermost axis, begins in what is
// repeated.
func (s *spread) row(n int) int {
	at := 0
	for i := len(s.axes) - 2; i >= 0; i-- {
		a := s.axes[i]
		at += n % a.length * a.step
		n /= a.length
	}
	return at
}

// each calls f for each element of the result with where it is, and where in
// what is repeated.
func (s *spread) each(f func(at, from int)) {
	inner := s.axes[len(s.axes)-1]
	for at := 0; at < s.total; at += inner.length {
		from := s.row(at / inner.length)
		for i := range inner.length {
			f(at+i, from+i*inner.step)
		}
	}
}

// reduce writes the sums over what is repeated of x, which has the result's
// shape.
func (s *spread) reduce(to, x []float32) {
	if s.whole() {
		copy(to, x)
		return
	}
	clear(to)
	inner := s.axes[len(s.axes)-1]
	for at := 0; at < s.total; at += inner.length {
		row, from := x[at:at+inner.length], s.row(at/inner.length)
		if inner.step == 0 {
			to[from] += kernels.Sum(row)
			continue
		}
		addTo(to[from:from+inner.length], row)
	}
}
