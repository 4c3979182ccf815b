package prep

import (
	"math"
	"math/rand/v2"
	"testing"
)

// ulps returns how many units in the last place of want lie between the two.
func ulps(got, want float64) float64 {
	unit := math.Nextafter(math.Abs(want), math.Inf(1)) - math.Abs(want)
	return math.Abs(got-want) / unit
}

func TestElementary(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	worst := map[string]float64{}
	note := func(name string, v float64) { worst[name] = max(worst[name], v) }
	for range 200_000 {
		x := rnd.Float64()*1400 - 700
		note("exp", ulps(exp(x), math.Exp(x)))
		y := math.Ldexp(1+rnd.Float64(), rnd.IntN(2000)-1000)
		note("ln", ulps(ln(y), math.Log(y)))
		near := 0.9 + 0.2*rnd.Float64()
		note("ln", ulps(ln(near), math.Log(near)))
		a := rnd.Float64()*4 - 2
		note("sinPi", math.Abs(sinPi(a)-math.Sin(math.Pi*a))/0x1p-52)
		note("cosPi", math.Abs(cosPi(a)-math.Cos(math.Pi*a))/0x1p-52)
		note("tanh", math.Abs(tanh(x/100)-math.Tanh(x/100))/0x1p-52)
	}
	// math.Sin(math.Pi*a) is itself off by the rounding of its argument.
	for name, limit := range map[string]float64{"exp": 4, "ln": 4, "sinPi": 5, "cosPi": 5, "tanh": 4} {
		if worst[name] > limit {
			t.Errorf("%s: off by %.2f units, want at most %v", name, worst[name], limit)
		}
	}
	t.Log(worst)
}

func TestElementaryExact(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want float64
	}{
		{"exp 0", exp(0), 1},
		{"exp of much", exp(1e4), math.Inf(1)},
		{"exp of little", exp(-1e4), 0},
		{"exp of -Inf", exp(math.Inf(-1)), 0},
		{"ln 1", ln(1), 0},
		{"ln 0", ln(0), math.Inf(-1)},
		{"ln 2", ln(2), math.Ln2},
		{"sinPi 0", sinPi(0), 0},
		{"sinPi 1/2", sinPi(0.5), 1},
		{"sinPi 1", sinPi(1), 0},
		{"sinPi 3/2", sinPi(1.5), -1},
		{"sinPi of much", sinPi(1e6 + 0.5), 1},
		{"cosPi 0", cosPi(0), 1},
		{"cosPi 1/2", cosPi(0.5), 0},
		{"cosPi 1", cosPi(1), -1},
		{"cosPi -1/2", cosPi(-0.5), 0},
		{"sigmoid 0", sigmoid(0), 0.5},
		{"tanh 0", tanh(0), 0},
		{"tanh of much", tanh(1e3), 1},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
	if v := exp(math.NaN()); v == v {
		t.Errorf("exp of NaN: %v", v)
	}
}

// The transform is that of the definition, X[k] = sum x[i] e^(-2 pi j i k/n).
func TestFFT(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for _, n := range []int{2, 4, 8, 64, 512} {
		for _, given := range []int{n, n/2 + 1, 1} {
			x := make([]float64, given)
			for i := range x {
				x[i] = rnd.NormFloat64()
			}
			got := make([]float64, n/2+1)
			newFFT(n).power(x, got)
			for k := range got {
				var re, im float64
				for i, v := range x {
					angle := 2 * math.Pi * float64(i*k%n) / float64(n)
					re, im = re+v*math.Cos(angle), im-v*math.Sin(angle)
				}
				if want := re*re + im*im; math.Abs(got[k]-want) > 1e-11*float64(n) {
					t.Fatalf("n %d, %d samples, bin %d: %v, want %v", n, given, k, got[k], want)
				}
			}
		}
	}
}
