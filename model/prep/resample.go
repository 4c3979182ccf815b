package prep

import (
	"fmt"
	"math"
)

const (
	sincZeros  = 16   // zero crossings of the kernel to each side
	sincCutoff = 0.94 // of the lower of the two half rates
	maxSamples = 1 << 26
)

// Resample returns s at another rate, of ceil(n*rate/s.Rate) samples.
//
// Output i lies at t = i*s.Rate/rate of the input and is the sum of x[j] k(j-t),
// where k is a sinc with its cutoff at 0.94 of the lower half rate, times a
// Hann window over 16 zero crossings to each side. The weights of each output
// are divided by their sum, so that a constant stays one. Beyond its ends a
// sound is silent. t takes rate/gcd different fractions; weights are computed
// once for each.
func (s Sound) Resample(rate int) (Sound, error) {
	if min(s.Rate, rate) < minRate || max(s.Rate, rate) > maxRate {
		return Sound{}, fmt.Errorf("sound: %d to %d samples a second: want %d to %d", s.Rate, rate, minRate, maxRate)
	}
	if s.Rate == rate {
		return s, nil
	}
	g := gcd(s.Rate, rate)
	up, down := rate/g, s.Rate/g
	n := (int64(len(s.Samples))*int64(up) + int64(down) - 1) / int64(down)
	if n > maxSamples {
		return Sound{}, fmt.Errorf("%w: %d samples at %d a second, limit %d", ErrSoundTooLarge, n, rate, maxSamples)
	}
	k := newSinc(up, down)
	out := Sound{rate, make([]float32, n)}
	for i := range out.Samples {
		at := int64(i) * int64(down)
		first, phase := int(at/int64(up))-k.reach+1, int(at%int64(up))
		sum := 0.0
		for j, w := range k.weights(phase) {
			if p := first + j; p >= 0 && p < len(s.Samples) {
				sum += float64(w * float64(s.Samples[p]))
			}
		}
		out.Samples[i] = float32(sum)
	}
	return out, nil
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// sinc is the kernel for one pair of rates.
type sinc struct {
	up     int
	cutoff float64     // in half rates of the input
	reach  int         // samples to each side
	phases [][]float64 // weights for t = floor(t) + phase/up, made when first asked for
}

func newSinc(up, down int) *sinc {
	cutoff := sincCutoff * min(1, float64(up)/float64(down))
	return &sinc{up, cutoff, int(math.Ceil(sincZeros / cutoff)), make([][]float64, up)}
}

// weights returns those of samples floor(t)-reach+1 to floor(t)+reach.
func (k *sinc) weights(phase int) []float64 {
	if w := k.phases[phase]; w != nil {
		return w
	}
	w, sum := make([]float64, 2*k.reach), 0.0
	for j := range w {
		d := float64(j-k.reach+1) - float64(phase)/float64(k.up)
		x := float64(d * k.cutoff)
		if math.Abs(x) >= sincZeros {
			continue
		}
		w[j] = 0.5 + float64(0.5*cosPi(x/sincZeros))
		if x != 0 {
			w[j] = float64(w[j] * sinPi(x) / (math.Pi * x))
		}
		sum += w[j]
	}
	for j := range w {
		w[j] /= sum
	}
	k.phases[phase] = w
	return w
}
