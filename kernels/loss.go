package kernels

// Loss is a negative log likelihood: for each target t at (n, i) of [n,
// inner], -weight[t] * x[n, t, i], x [n, classes, inner] being logarithms of
// probabilities.
type Loss struct {
	N, Classes, Inner int
	Ignore            int64
	HasIgnore         bool
}

// Each writes the loss of every target to out [n, inner] where that is not
// nil, and returns their sum, the sum of weights, and the first target that
// is no class, -1 where none is. weight may be nil, for ones.
func (l Loss) Each(out, x []float32, target []int64, weight []float32) (sum, weights float64, bad int) {
	for n := range l.N {
		for i := range l.Inner {
			at := n*l.Inner + i
			t := target[at]
			if l.HasIgnore && t == l.Ignore {
				if out != nil {
					out[at] = 0
				}
				continue
			}
			if t < 0 || t >= int64(l.Classes) {
				return 0, 0, at
			}
			w := 1.0
			if weight != nil {
				w = float64(weight[t])
			}
			v := float64(-float64(x[(n*l.Classes+int(t))*l.Inner+i]) * w)
			if out != nil {
				out[at] = float32(v)
			}
			sum, weights = sum+v, weights+w
		}
	}
	return sum, weights, -1
}
