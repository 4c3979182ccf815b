package kernels

import "fmt"

// Rotation turns pairs of a tensor by angles, as rotary position embedding
// does (Su et al. 2021, arXiv:2104.09864, section 3.4.2):
//
//	x        [..., 2*N] pairs (a, b), halves of a row, or neighbours
//	cos, sin broadcast to [..., N]
//	out      (a*cos - b*sin, a*sin + b*cos), in the places of a and b
//
// Each product is rounded before it is added.
type Rotation struct {
	walk        *Walk
	pairs       int // of a row
	step, apart int // from a to the next a, and from a to its b
}

// NewRotation makes one of rows of pairs, [..., N]; neighbours says whether a
// and b of a pair lie side by side. It fails where cos and sin do not broadcast
// to the pairs.
func NewRotation(pairs, cos, sin []int, neighbours bool) (*Rotation, error) {
	walk, err := NewWalk(pairs, cos, sin)
	if err != nil || len(pairs) == 0 {
		return nil, fmt.Errorf("rotation of pairs %v by %v and %v", pairs, cos, sin)
	}
	r := &Rotation{walk: walk, pairs: walk.length, step: 1, apart: walk.length}
	if neighbours {
		r.step, r.apart = 2, 1
	}
	return r, nil
}

// Run rotates x. out may be x.
func (r *Rotation) Run(out, x, cos, sin []float32) {
	rows, strides := 1, [maxWalk]int{} // along the axis before the last: they differ in one number
	if n := len(r.walk.shape); n > 0 {
		rows, strides = r.walk.shape[n-1], r.walk.strides[n-1]
	}
	for at := 0; at < r.walk.total; at += rows * r.pairs {
		from := r.walk.row(at / r.pairs)
		for i := range rows {
			first := 2 * (at + i*r.pairs)
			r.row(out[first:first+2*r.pairs], x[first:first+2*r.pairs], cos[from[0]+i*strides[0]:], sin[from[1]+i*strides[1]:])
		}
	}
}

func (r *Rotation) row(out, x, cos, sin []float32) {
	c, s, at := 0, 0, 0
	for range r.pairs {
		a, b := x[at], x[at+r.apart]
		out[at] = float32(a*cos[c]) - float32(b*sin[s])
		out[at+r.apart] = float32(a*sin[s]) + float32(b*cos[c])
		c, s, at = c+r.walk.step[0], s+r.walk.step[1], at+r.step
	}
}
