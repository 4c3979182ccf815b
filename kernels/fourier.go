package kernels

// Fourier is a discrete Fourier transform of length n, by its definition, in
// float64: X[k] = Σ x[j] e^(-2πijk/n), or its inverse, which divides by n.
// The time is n² multiplications; lengths of audio frames are small.
type Fourier struct {
	n        int
	cos, sin []float64 // of 2πj/n
	inverse  bool
}

// NewFourier returns a transform of length n.
func NewFourier(n int, inverse bool) *Fourier {
	f := &Fourier{n: n, cos: make([]float64, n), sin: make([]float64, n), inverse: inverse}
	for j := range n {
		// Each angle is reduced to the first octant by symmetry, so that the tables are as symmetric as the circle.
		f.cos[j], f.sin[j] = circle(j, n)
	}
	return f
}

// circle returns the cosine and the sine of 2πj/n, 0 <= j < n.
func circle(j, n int) (cos, sin float64) {
	const tau = 6.283185307179586476925286766559
	switch {
	case 2*j > n:
		cos, sin = circle(n-j, n)
		return cos, -sin
	case 4*j > n:
		// angle > π/2: cos(π-a) = -cos(a)
		a := float64(tau * (float64(n-2*j) / float64(2*n)))
		return -cos64(a), sin64(a)
	case 8*j > n:
		// angle > π/4: cos(π/2-a) = sin(a)
		a := float64(tau * (float64(n-4*j) / float64(4*n)))
		return sin64(a), cos64(a)
	}
	a := float64(tau * (float64(j) / float64(n)))
	return cos64(a), sin64(a)
}

// Signal is where a transform reads or writes complex or real numbers: at
// Data[At + k*Step], the imaginary part behind it where Complex is set.
type Signal struct {
	Data     []float32
	At, Step int
	Complex  bool
}

// Run writes the first bins numbers of the transform of the length numbers of
// in (0 behind them), each times window where that is not nil.
func (f *Fourier) Run(out, in Signal, length, bins int, window []float32) {
	scale := 1.0
	if f.inverse {
		scale = 1 / float64(f.n)
	}
	for k := range bins {
		var re, im float64
		for j := range min(length, f.n) {
			at := in.At + j*in.Step
			x, y := float64(in.Data[at]), 0.0
			if in.Complex {
				y = float64(in.Data[at+1])
			}
			if window != nil {
				x, y = float64(x*float64(window[j])), float64(y*float64(window[j]))
			}
			turn := int(int64(j) * int64(k) % int64(f.n))
			c, s := f.cos[turn], -f.sin[turn]
			if f.inverse {
				s = -s
			}
			re += float64(x*c) - float64(y*s)
			im += float64(x*s) + float64(y*c)
		}
		at := out.At + k*out.Step
		out.Data[at] = float32(float64(re * scale))
		if out.Complex {
			out.Data[at+1] = float32(float64(im * scale))
		}
	}
}
