package kernels

import "fmt"

// Broadcast walks two tensors of different shapes in step, as ONNX (and
// numpy) define it: shapes are aligned at their last axes, and an axis of
// length 1, or a missing one, is repeated.
type Broadcast struct {
	Shape []int // of the result
	axes  []pair
	inner pair
	total int
}

type pair struct{ length, a, b int } // a step along the axis, in elements of a and b; 0 where repeated

// NewBroadcast fails where the shapes do not fit each other.
func NewBroadcast(a, b []int) (*Broadcast, error) {
	n := max(len(a), len(b))
	w := &Broadcast{Shape: make([]int, n), total: 1}
	sa, sb := 1, 1
	axes := make([]pair, 0, n) // innermost first
	for i := range n {
		la, lb := 1, 1
		if i < len(a) {
			la = a[len(a)-1-i]
		}
		if i < len(b) {
			lb = b[len(b)-1-i]
		}
		if la != lb && la != 1 && lb != 1 {
			return nil, fmt.Errorf("shapes %v and %v do not broadcast", a, b)
		}
		p := pair{length: la, a: sa, b: sb}
		if la == 1 {
			p.length, p.a = lb, 0
		}
		if lb == 1 {
			p.b = 0
		}
		w.Shape[n-1-i] = p.length
		w.total *= p.length
		sa, sb = sa*la, sb*lb
		if p.length == 1 {
			continue
		}
		// An axis that both tensors walk like the one inside it joins it.
		if k := len(axes); k > 0 && p.a == axes[k-1].a*axes[k-1].length && p.b == axes[k-1].b*axes[k-1].length {
			axes[k-1].length *= p.length
			continue
		}
		axes = append(axes, p)
	}
	if len(axes) == 0 {
		axes = append(axes, pair{length: 1})
	}
	w.inner = axes[0]
	for i := len(axes) - 1; i > 0; i-- {
		w.axes = append(w.axes, axes[i])
	}
	return w, nil
}

// Number is what the elementwise operations compute with.
type Number interface {
	float32 | float64 | int8 | uint8 | int16 | uint16 | int32 | uint32 | int64 | uint64
}

// Binary is an elementwise operation of two rows of len(out) elements. The
// rows are sa and sb apart from element to element, each 0 or 1: 0 repeats
// the first. out may be a or b where that row is not repeated.
type Binary[T Number] func(out, a, b []T, sa, sb int)

// Add, Sub and Mul compute a+b, a-b, a*b.
func Add[T Number](out, a, b []T, sa, sb int) {
	for i := range out {
		out[i] = a[i*sa] + b[i*sb]
	}
}

// Sub writes a-b.
func Sub[T Number](out, a, b []T, sa, sb int) {
	for i := range out {
		out[i] = a[i*sa] - b[i*sb]
	}
}

// Mul writes a*b.
func Mul[T Number](out, a, b []T, sa, sb int) {
	for i := range out {
		out[i] = a[i*sa] * b[i*sb]
	}
}

// Div writes a/b; integers round towards 0, and a division of integers by 0
// gives 0.
func Div[T Number](out, a, b []T, sa, sb int) {
	for i := range out {
		d := b[i*sb]
		if d == 0 && T(1)/2 == 0 { // integers
			out[i] = 0
			continue
		}
		out[i] = a[i*sa] / d
	}
}

// Max writes the larger; NaN where either is.
func Max[T Number](out, a, b []T, sa, sb int) {
	for i := range out {
		out[i] = max(a[i*sa], b[i*sb])
	}
}

// Min writes the smaller; NaN where either is.
func Min[T Number](out, a, b []T, sa, sb int) {
	for i := range out {
		out[i] = min(a[i*sa], b[i*sb])
	}
}

// First writes a.
func First[T Number](out, a, _ []T, sa, _ int) {
	for i := range out {
		out[i] = a[i*sa]
	}
}

// Prelu writes a, or a*b where a is negative.
func Prelu(out, a, b []float32, sa, sb int) {
	for i := range out {
		v := a[i*sa]
		if v < 0 {
			v = float32(v * b[i*sb])
		}
		out[i] = v
	}
}

// Elementwise runs f over all of w's rows.
func Elementwise[T Number](w *Broadcast, f Binary[T], out, a, b []T) {
	if w.total == 0 {
		return
	}
	step := w.inner.length
	for at := 0; at < w.total; at += step {
		fa, fb := offsets(w.axes, at/step)
		f(out[at:at+step], a[fa:], b[fb:], w.inner.a, w.inner.b)
	}
}

// offsets returns where place n of the axes is in a and b.
func offsets(axes []pair, n int) (a, b int) {
	for i := len(axes) - 1; i >= 0; i-- {
		x := axes[i]
		k := n % x.length
		n /= x.length
		a, b = a+k*x.a, b+k*x.b
	}
	return a, b
}
