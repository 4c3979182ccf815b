package certify

import "math"

// Exact's bound comes from the distribution of the counts themselves. With a
// share w of all data that gets worse and a share b that gets better, what is
// asked for is m = w - b, and the share of both together, s = w + b, is not
// known either. The difference T of the two counts among n samples has the
// distribution of
//
//	T = 2 K - N   N of n with probability s, K of N with probability w/s
//
// and m is too large to be true where P(T <= what was seen) is small for every
// s that may be. Those s are at most what the number of changed answers leaves
// likely at level gamma (Clopper & Pearson 1934), and gamma is taken from the
// level of the test (Berger & Boos 1994, P Values Maximized Over a Confidence
// Set for the Nuisance Parameter, JASA 89:1012).
//
// That a whole interval of s is excluded, and not a grid of it, follows from
// an order: P(T <= t) falls where w grows and where b shrinks. So the w of an
// interval's lower end with the b of its upper end bounds it, and an interval
// that is not excluded is halved.

// nuisance is gamma, as a part of the level.
const nuisance = 1.0 / 50

// slack is added to each probability for what float64 rounds.
const slack = 1e-9

// Exact returns a bound that the true drop is above with probability at most
// alpha, from the exact distribution of the counts. It is lower than
// Bernstein's, much so for few samples, and takes up to a second for a million
// of them. It fails on counts and levels that cannot be.
func Exact(o Outcomes, alpha float64) (float64, error) {
	if err := o.check(alpha); err != nil {
		return 0, err
	}
	if o.N == 0 || alpha < 100*slack {
		return 1, nil
	}
	if o.Unlabelled {
		return atMost(o.Worse, o.N, alpha), nil
	}
	gamma := alpha * nuisance
	most := atMost(o.Worse+o.Better, o.N, gamma)
	low, high := o.Drop(), most
	for high-low > 1e-6 {
		m := (low + high) / 2
		if excluded(o, m, math.Abs(m), most, alpha-gamma) {
			high = m
		} else {
			low = m
		}
	}
	return high, nil
}

// excluded reports whether P(T <= what was seen) is at most level for every s
// from a to b, the drop being m.
func excluded(o Outcomes, m, a, b, level float64) bool {
	t := o.Worse - o.Better
	if tail(o.N, t, (a+m)/2, (b-m)/2)+slack <= level {
		return true
	}
	// Halving ends where it gains less than the bound is rounded to, and at
	// once where an end itself is not excluded.
	if b-a < 1e-7 || tail(o.N, t, (b+m)/2, (b-m)/2) > level {
		return false
	}
	mid := (a + b) / 2
	return excluded(o, m, mid, b, level) && excluded(o, m, a, mid, level)
}

// tail returns P(T <= t) among n samples of which each is worse with
// probability w and better with probability b.
func tail(n, t int, w, b float64) float64 {
	w, b = max(0, w), max(0, b)
	s := w + b
	if s == 0 {
		return b2f(t >= 0)
	}
	// Nearly all of N lies within ten standard deviations and 40 of its mean:
	// what is beyond has less than 1e-20.
	mean := float64(n) * s
	reach := 10*math.Sqrt(mean*max(0, 1-s)) + 40
	first, last := max(0, int(mean-reach)), min(n, int(mean+reach)+1)
	q := w / s
	sum := 0.0
	p := binomial(n, first, s)
	k := newCumulative(first, floorHalf(first+t), q)
	for c := first; ; c++ {
		sum += p * k.below
		if c == last {
			break
		}
		p *= float64(n-c) / float64(c+1) * s / (1 - s)
		k.next(floorHalf(c + 1 + t))
	}
	return min(1, sum)
}

// cumulative is P(K <= k) for K of n with probability q, as n grows by one
// and k by one or none.
type cumulative struct {
	n, k  int
	q     float64
	at    float64 // P(K = k)
	below float64 // P(K <= k)
}

func newCumulative(n, k int, q float64) *cumulative {
	c := &cumulative{n: n, k: k, q: q}
	c.start()
	return c
}

// start sums from nothing.
func (c *cumulative) start() {
	c.at, c.below = 0, 0
	switch {
	case c.k < 0:
		return
	case c.k >= c.n || c.q <= 0:
		c.below = 1
		c.at = binomial(c.n, c.k, c.q)
		return
	}
	c.at = binomial(c.n, c.k, c.q)
	// The shorter side is summed, from k outwards, where terms only shrink.
	if float64(c.k) < float64(c.n)*c.q {
		p := c.at
		for i := c.k; i >= 0 && p > c.below*1e-18; i-- {
			c.below += p
			p *= float64(i) / float64(c.n-i+1) * (1 - c.q) / c.q
		}
		return
	}
	p, above := c.at, 0.0
	for i := c.k; i < c.n && p > above*1e-18; i++ {
		p *= float64(c.n-i) / float64(i+1) * c.q / (1 - c.q)
		above += p
	}
	c.below = max(0, 1-above)
}

// next goes to n+1 and to k, which is as before or one more.
func (c *cumulative) next(k int) {
	if c.at == 0 || c.k < 0 || c.k >= c.n || c.q <= 0 || c.q >= 1 { // nothing to go on from
		c.n, c.k = c.n+1, k
		c.start()
		return
	}
	// P(K(n+1) <= k) = P(K(n) <= k) - q P(K(n) = k)
	c.below -= c.q * c.at
	c.at *= float64(c.n+1) / float64(c.n+1-c.k) * (1 - c.q)
	c.n++
	if k > c.k {
		c.at *= float64(c.n-c.k) / float64(k) * c.q / (1 - c.q)
		c.k = k
		c.below += c.at
	}
	c.below = min(1, max(0, c.below))
}

// binomial returns P(K = k) for K of n with probability p.
func binomial(n, k int, p float64) float64 {
	switch {
	case k < 0 || k > n:
		return 0
	case p <= 0:
		return b2f(k == 0)
	case p >= 1:
		return b2f(k == n)
	}
	return math.Exp(lnFactorial(n) - lnFactorial(k) - lnFactorial(n-k) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
}

func lnFactorial(n int) float64 {
	v, _ := math.Lgamma(float64(n + 1))
	return v
}

// atMost returns the share that k of n samples leave likely at level alpha:
// the largest p with P(K <= k) > alpha (Clopper & Pearson 1934).
func atMost(k, n int, alpha float64) float64 {
	if k >= n {
		return 1
	}
	low, high := float64(k)/float64(n), 1.0
	for high-low > 1e-9 {
		p := (low + high) / 2
		if newCumulative(n, k, p).below+slack <= alpha {
			high = p
		} else {
			low = p
		}
	}
	return high
}

func floorHalf(v int) int { return v >> 1 }

func b2f(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
