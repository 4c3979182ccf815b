package certify

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func bound(t *testing.T, f Bound, o Outcomes, alpha float64) float64 {
	t.Helper()
	b, err := f(o, alpha)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if !(math.Abs(got-want) <= within) {
		t.Errorf("%s: %.7f, want %.7f", what, got, want)
	}
}

// TestByHand: values worked out from the formulas on paper, and the rule of
// three of an event that never came.
func TestByHand(t *testing.T) {
	o := Outcomes{N: 10000, Worse: 158, Better: 142}
	near(t, "drop", o.Drop(), 0.0016, 1e-15)
	near(t, "variance", o.Variance(), (300-10000*0.0016*0.0016)/9999, 1e-15)
	// ln 40 = 3.6888795; sqrt(2*0.03000044*3.6888795/1e4) = 0.0047046; 14*3.6888795/(3*9999) = 0.0017217
	near(t, "Bernstein", bound(t, Bernstein, o, 0.05), 0.0016+0.0047046+0.0017217, 2e-7)
	same := Outcomes{N: 1000, Worse: 0, Unlabelled: true}
	near(t, "Bernstein without labels", bound(t, Bernstein, same, 0.05), 7*3.6888795/(3*999), 1e-7)
	near(t, "rule of three", bound(t, Exact, same, 0.05), 1-math.Pow(0.05, 1.0/1000), 1e-6)
	near(t, "Clopper & Pearson, 10 of 100", bound(t, Exact, Outcomes{N: 100, Worse: 10, Unlabelled: true}, 0.025), 0.1762226, 1e-6)
	// Many samples: the normal bound, 1.645 standard deviations, with what the
	// share of changed answers costs.
	many := Outcomes{N: 1000000, Worse: 16000, Better: 14000}
	sd := math.Sqrt(many.Variance() / float64(many.N))
	if got := (bound(t, Exact, many, 0.05) - many.Drop()) / sd; got < 1.645 || got > 1.75 {
		t.Errorf("a million samples: %.3f standard deviations above the mean", got)
	}
	for _, f := range []Bound{Bernstein, Exact} {
		near(t, "no samples", bound(t, f, Outcomes{}, 0.05), 1, 0)
	}
}

// TestExactTail compares the recurrences with the sum over all counts.
func TestExactTail(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 400 {
		n := 1 + r.IntN(60)
		w := r.Float64()
		b := (1 - w) * r.Float64()
		switch r.IntN(8) {
		case 0:
			b = 0
		case 1:
			w, b = 0, w
		case 2:
			w, b = 0, 0
		}
		at := r.IntN(2*n+1) - n
		want := 0.0
		for i := 0; i <= n; i++ {
			for j := 0; i+j <= n; j++ {
				if i-j > at {
					continue
				}
				p := lnFactorial(n) - lnFactorial(i) - lnFactorial(j) - lnFactorial(n-i-j)
				want += math.Exp(p) * math.Pow(w, float64(i)) * math.Pow(b, float64(j)) * math.Pow(1-w-b, float64(n-i-j))
			}
		}
		near(t, fmt.Sprintf("n %d t %d w %.4f b %.4f", n, at, w, b), tail(n, at, w, b), want, 1e-10)
	}
}

// TestCoverage draws samples from models whose true drop is known: the bound
// is below it in no more of 2,000 draws than the level allows.
func TestCoverage(t *testing.T) {
	const runs, alpha = 2000, 0.05
	// The count of misses has a standard deviation of 9.7 around 100 at most:
	// 135 is beyond three and a half of them.
	const allowed = 135
	for i, c := range []struct {
		n             int
		worse, better float64
	}{
		{50, 0.02, 0.01},
		{50, 0.3, 0.25},
		{200, 0.01, 0},
		{200, 0.03, 0.02},
		{1000, 0.004, 0.001},
		{1000, 0.05, 0.05},
		{4000, 0.02, 0.01},
		{10000, 0.016, 0.014},
		{10000, 0.0003, 0},
		{200, 0.5, 0.5},
	} {
		r := rand.New(rand.NewPCG(uint64(i), 7))
		truth := c.worse - c.better
		missed := map[string]int{}
		known := map[Outcomes]float64{}
		for range runs {
			o := draw(r, c.n, c.worse, c.better)
			if bound(t, Bernstein, o, alpha) < truth {
				missed["Bernstein"]++
			}
			e, ok := known[o]
			if !ok {
				// Only the side matters here, and one test of it is quicker
				// than the search for the bound.
				e = b2f(excluded(o, truth, math.Abs(truth), atMost(o.Worse+o.Better, o.N, alpha*nuisance), alpha*(1-nuisance)))
				known[o] = e
			}
			if e == 1 && o.Drop() < truth {
				missed["Exact"]++
			}
		}
		for name, n := range missed {
			if n > allowed {
				t.Errorf("n %d, %v worse, %v better: %s is below the truth in %d of %d draws", c.n, c.worse, c.better, name, n, runs)
			}
		}
		t.Logf("n %5d, %.4f worse, %.4f better: below the truth in %d (Bernstein) and %d (exact) of %d", c.n, c.worse, c.better, missed["Bernstein"], missed["Exact"], runs)
	}
}

// draw counts n samples.
func draw(r *rand.Rand, n int, worse, better float64) Outcomes {
	o := Outcomes{}
	for range n {
		switch u := r.Float64(); {
		case u < worse:
			o.Add(true, false)
		case u < worse+better:
			o.Add(false, true)
		default:
			o.Add(u < 0.9, u < 0.9)
		}
	}
	return o
}

// TestExactIsTheBound: excluded, which TestCoverage asks, and the bound that
// Exact returns say the same on both sides of it.
func TestExactIsTheBound(t *testing.T) {
	for _, o := range []Outcomes{
		{N: 1},
		{N: 40, Worse: 3, Better: 1},
		{N: 500, Worse: 6, Better: 5},
		{N: 500, Worse: 500},
		{N: 300, Better: 300},
		{N: 10000, Worse: 158, Better: 142},
		{N: 10000, Worse: 45, Better: 5},
		{N: 200000, Worse: 3000, Better: 2900},
	} {
		b, alpha := bound(t, Exact, o, 0.05), 0.05
		most := atMost(o.Worse+o.Better, o.N, alpha*nuisance)
		if up := b + 3e-6; up < most && !excluded(o, up, math.Abs(up), most, alpha*(1-nuisance)) {
			t.Errorf("%+v: %v is above the bound %v, and not excluded", o, up, b)
		}
		if down := b - 3e-6; down > o.Drop() && excluded(o, down, math.Abs(down), most, alpha*(1-nuisance)) {
			t.Errorf("%+v: %v is below the bound %v, and excluded", o, down, b)
		}
		if e := bound(t, Bernstein, o, alpha); b > e && o.Drop() < 0.9 {
			t.Errorf("%+v: exact %v is above Bernstein's %v", o, b, e)
		}
	}
}

// TestFamily: over a front whose later models all break the budget by a hair,
// a walk certifies a wrong one in no more runs than alpha.
func TestFamily(t *testing.T) {
	const runs, alpha, budget = 2000, 0.05, 0.03
	r := rand.New(rand.NewPCG(3, 4))
	known := map[Outcomes]float64{}
	remembered := func(o Outcomes, alpha float64) (float64, error) {
		b, ok := known[o]
		if !ok {
			b = bound(t, Exact, o, alpha)
			known[o] = b
		}
		return b, nil
	}
	wrong := 0
	for range runs {
		s := Sequence{Budget: budget, Alpha: alpha, Bound: remembered}
		bad := false
		for _, drop := range []float64{0, 0.001, 0.0301, 0.0301, 0.0302, 0.0303, 0.031, 0.0301, 0.0302} {
			certified, _, err := s.Test(draw(r, 300, drop+0.01, 0.01))
			if err != nil {
				t.Fatal(err)
			}
			bad = bad || certified && drop > budget
		}
		wrong += int(b2f(bad))
	}
	if t.Logf("a wrong model was certified in %d of %d walks", wrong, runs); wrong > 135 || wrong == 0 {
		t.Errorf("a wrong model was certified in %d of %d walks: want some, and at most 135", wrong, runs)
	}
}

// TestStops: after a failure nothing is certified, however good it is.
func TestStops(t *testing.T) {
	s := Sequence{Budget: 0.01, Alpha: 0.05, Bound: Bernstein}
	for i, c := range []struct {
		o    Outcomes
		want bool
	}{
		{Outcomes{N: 10000}, true},
		{Outcomes{N: 10000, Worse: 20}, true},
		{Outcomes{N: 10000, Worse: 400}, false},
		{Outcomes{N: 10000}, false},
	} {
		got, _, err := s.Test(c.o)
		if err != nil || got != c.want || s.Stopped() == c.want {
			t.Errorf("model %d: certified %v, stopped %v, %v", i, got, s.Stopped(), err)
		}
	}
}

// TestMonotone: more losses, a smaller level or fewer samples never make a
// bound lower.
func TestMonotone(t *testing.T) {
	for _, f := range []Bound{Bernstein, Exact} {
		last := 0.0
		for worse := 0; worse <= 40; worse += 5 {
			b := bound(t, f, Outcomes{N: 800, Worse: worse, Better: 3}, 0.05)
			if b <= last {
				t.Errorf("%d worse: %v after %v", worse, b, last)
			}
			last = b
		}
		if a, b := bound(t, f, Outcomes{N: 800, Worse: 9}, 0.01), bound(t, f, Outcomes{N: 800, Worse: 9}, 0.1); a <= b {
			t.Errorf("level 0.01: %v, level 0.1: %v", a, b)
		}
		if a, b := bound(t, f, Outcomes{N: 800, Worse: 8, Better: 4}, 0.05), bound(t, f, Outcomes{N: 1600, Worse: 16, Better: 8}, 0.05); a <= b {
			t.Errorf("800 samples: %v, 1600: %v", a, b)
		}
	}
}

// TestNeeded: as many samples as it says do, and clearly fewer do not.
func TestNeeded(t *testing.T) {
	for _, f := range []Bound{Bernstein, Exact} {
		for _, o := range []Outcomes{{}, {N: 500, Worse: 2, Better: 1}, {N: 400, Worse: 1, Unlabelled: true}} {
			n, ok := Needed(o, f, 0.05, 0.01)
			if !ok {
				t.Fatalf("%+v: no number is enough", o)
			}
			scale := func(n int) Outcomes {
				s := o
				if s.N = n; o.N > 0 {
					s.Worse, s.Better = int(math.Round(float64(o.Worse*n)/float64(o.N))), o.Better*n/o.N
				}
				return s
			}
			if b := bound(t, f, scale(n), 0.05); b > 0.01 {
				t.Errorf("%+v: %d samples bound %v", o, n, b)
			}
			if b := bound(t, f, scale(n*9/10), 0.05); b <= 0.01 {
				t.Errorf("%+v: %d samples, a tenth fewer than needed, bound %v", o, n*9/10, b)
			}
		}
		if n, ok := Needed(Outcomes{N: 100, Worse: 2}, f, 0.05, 0.01); ok {
			t.Errorf("a drop beyond the budget is certified with %d samples", n)
		}
	}
}

func TestRefuses(t *testing.T) {
	for _, o := range []Outcomes{{N: -1}, {N: 3, Worse: 2, Better: 2}, {N: 3, Worse: -1}, {N: 3, Better: 1, Unlabelled: true}} {
		for _, f := range []Bound{Bernstein, Exact} {
			if _, err := f(o, 0.05); !errors.Is(err, ErrCounts) {
				t.Errorf("%+v: %v", o, err)
			}
		}
	}
	for _, alpha := range []float64{0, 1, -1, 2, math.NaN()} {
		if _, err := Bernstein(Outcomes{N: 5}, alpha); err == nil {
			t.Errorf("level %v was taken", alpha)
		}
	}
}

func TestAdd(t *testing.T) {
	var o Outcomes
	for _, c := range [][2]bool{{true, true}, {true, false}, {true, false}, {false, true}, {false, false}} {
		o.Add(c[0], c[1])
	}
	if o != (Outcomes{N: 5, Worse: 2, Better: 1}) || o.Drop() != 0.2 {
		t.Errorf("%+v", o)
	}
	var u Outcomes
	u.AddUnlabelled(true)
	u.AddUnlabelled(false)
	if u != (Outcomes{N: 2, Worse: 1, Unlabelled: true}) {
		t.Errorf("%+v", u)
	}
}

func BenchmarkExact(b *testing.B) {
	for _, n := range []int{1000, 10000, 1000000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if _, err := Exact(Outcomes{N: n, Worse: n / 60, Better: n / 70}, 0.05); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
