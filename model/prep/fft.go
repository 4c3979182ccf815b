package prep

// fft is the discrete Fourier transform of n real samples, n a power of two,
// in float64: iterative, radix 2, decimation in time (Cooley and Tukey 1965).
// Its tables are made once.
type fft struct {
	n        int
	swap     []int     // where sample i goes: i with its bits reversed
	cos, sin []float64 // of -2 pi k/n, k < n/2
	re, im   []float64
}

func newFFT(n int) *fft {
	f := &fft{n: n, swap: make([]int, n), cos: make([]float64, n/2), sin: make([]float64, n/2), re: make([]float64, n), im: make([]float64, n)}
	for i := 1; i < n; i++ {
		f.swap[i] = f.swap[i>>1] >> 1
		if i&1 == 1 {
			f.swap[i] |= n >> 1
		}
	}
	for k := range n / 2 {
		f.cos[k], f.sin[k] = cosPi(2*float64(k)/float64(n)), -sinPi(2*float64(k)/float64(n))
	}
	return f
}

// power writes |X[k]|^2 to out, for k = 0 to n/2. in has at most n samples;
// the rest are zeros.
func (f *fft) power(in, out []float64) {
	clear(f.re)
	clear(f.im)
	for i, v := range in {
		f.re[f.swap[i]] = v
	}
	for half := 1; half < f.n; half *= 2 {
		stride := f.n / (2 * half)
		for start := 0; start < f.n; start += 2 * half {
			for k := range half {
				f.butterfly(start+k, start+k+half, k*stride)
			}
		}
	}
	for k := range out {
		out[k] = float64(f.re[k]*f.re[k]) + float64(f.im[k]*f.im[k])
	}
}

// butterfly turns a, b into a + w b, a - w b.
func (f *fft) butterfly(a, b, w int) {
	c, s := f.cos[w], f.sin[w]
	re := float64(f.re[b]*c) - float64(f.im[b]*s)
	im := float64(f.re[b]*s) + float64(f.im[b]*c)
	f.re[b], f.im[b] = f.re[a]-re, f.im[a]-im
	f.re[a], f.im[a] = f.re[a]+re, f.im[a]+im
}
