package kernels

import "fmt"

// maxWalk is the most inputs of a Walk.
const maxWalk = 4

// Walk goes over the elements of a result in order, and over those of up to
// four inputs that are broadcast to it.
type Walk struct {
	shape   []int // all axes but the last
	strides [][maxWalk]int
	length  int // of the last axis
	step    [maxWalk]int
	total   int
}

// NewWalk fails where an input's shape does not broadcast to out.
func NewWalk(out []int, in ...[]int) (*Walk, error) {
	strides := make([][maxWalk]int, len(out)+1)
	for i, s := range in {
		if len(s) > len(out) {
			return nil, fmt.Errorf("%v does not broadcast to %v", s, out)
		}
		step, skip := 1, len(out)-len(s)
		for a := len(s) - 1; a >= 0; a-- {
			if s[a] != out[skip+a] && s[a] != 1 {
				return nil, fmt.Errorf("%v does not broadcast to %v", s, out)
			}
			if s[a] != 1 {
				strides[skip+a][i] = step
			}
			step *= s[a]
		}
	}
	return newWalk(out, strides[:len(out)]), nil
}

func newWalk(out []int, strides [][maxWalk]int) *Walk {
	w := &Walk{length: 1, total: 1}
	for _, d := range out {
		w.total *= d
	}
	if n := len(out); n > 0 {
		w.length, w.step = out[n-1], strides[n-1]
		w.shape, w.strides = out[:n-1], strides[:n-1]
	}
	return w
}

// row returns where row number n of the result begins in each input.
func (w *Walk) row(n int) (from [maxWalk]int) {
	for i := len(w.shape) - 1; i >= 0; i-- {
		k := n % w.shape[i]
		n /= w.shape[i]
		for j, s := range w.strides[i] {
			from[j] += k * s
		}
	}
	return from
}

// Expand writes in, broadcast to the walk's result.
func Expand[T any](w *Walk, out, in []T) {
	for at := 0; at < w.total; at += w.length {
		from, row := w.row(at / w.length)[0], out[at:at+w.length]
		if w.step[0] == 1 {
			copy(row, in[from:])
			continue
		}
		for i := range row {
			row[i] = in[from+i*w.step[0]]
		}
	}
}

// Where writes a where cond is not 0, else b.
func Where[T any](w *Walk, out []T, cond []uint8, a, b []T) {
	for at := 0; at < w.total; at += w.length {
		from, row := w.row(at/w.length), out[at:at+w.length]
		for i := range row {
			if cond[from[0]+i*w.step[0]] != 0 {
				row[i] = a[from[1]+i*w.step[1]]
			} else {
				row[i] = b[from[2]+i*w.step[2]]
			}
		}
	}
}
