package kernels

import "math"

// Pairs writes f(a, b) for each element of a broadcast: elements of any three
// types.
func Pairs[A, B, Y any](w *Broadcast, out []Y, a []A, b []B, f func(A, B) Y) {
	if w.total == 0 {
		return
	}
	step, sa, sb := w.inner.length, w.inner.a, w.inner.b
	for at := 0; at < w.total; at += step {
		fa, fb, n := 0, 0, at/step
		for i := len(w.axes) - 1; i >= 0; i-- {
			x := w.axes[i]
			k := n % x.length
			n /= x.length
			fa, fb = fa+k*x.a, fb+k*x.b
		}
		row := out[at : at+step]
		for i := range row {
			row[i] = f(a[fa+i*sa], b[fb+i*sb])
		}
	}
}

// PowFloat returns x^y: float32 values are computed in float64 and rounded.
func PowFloat(x, y float64) float64 { return pow64(x, y) }

// PowInt returns x^y of integers, by multiplication; a negative y gives 0
// but for x of 1 and -1.
func PowInt(x, y int64) int64 {
	if y < 0 {
		switch {
		case x == 1:
			return 1
		case x == -1:
			return 1 - 2*(y&1)
		}
		return 0
	}
	r := int64(1)
	for ; y > 0; y >>= 1 {
		if y&1 == 1 {
			r *= x
		}
		x *= x
	}
	return r
}

// ModFloat returns the remainder with the sign of x, as C's fmod: exact.
func ModFloat(x, y float64) float64 { return math.Mod(x, y) }

// ModFloor returns the remainder with the sign of y.
func ModFloor(x, y float64) float64 {
	r := math.Mod(x, y)
	if r != 0 && (r < 0) != (y < 0) {
		r += y
	}
	return r
}

// Mod returns the remainder of integers, 0 for y of 0: with the sign of y, or
// of x where fmod is set.
func Mod[T Number](x, y T, fmod bool) T {
	if y == 0 {
		return 0
	}
	r := x - x/y*y
	if !fmod && r != 0 && (r < 0) != (y < 0) {
		r += y
	}
	return r
}

// Pairs returns, for each element of the result in order, the numbers of the
// two elements that meet there.
func (w *Broadcast) Pairs() [][2]int {
	list := make([][2]int, 0, w.total)
	for n := range w.total {
		at, k := [2]int{}, n/w.inner.length
		at[0], at[1] = n%w.inner.length*w.inner.a, n%w.inner.length*w.inner.b
		for i := len(w.axes) - 1; i >= 0; i-- {
			x := w.axes[i]
			at[0], at[1] = at[0]+k%x.length*x.a, at[1]+k%x.length*x.b
			k /= x.length
		}
		list = append(list, at)
	}
	return list
}
