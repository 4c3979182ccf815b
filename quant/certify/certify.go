// Package certify says how much worse a changed model can be than the one it
// was made from, with a stated confidence, from answers of both to the same
// samples. Start with Outcomes: count each sample with Add, then ask Bernstein
// or Exact for the most that the drop can be, and let a Sequence walk from the
// least changed model to the most.
//
// A sample counts as d = before - after, each 1 where the answer is right and
// 0 where it is wrong: d is -1, 0 or 1, and its mean over all the data that a
// device will ever see is the drop, the share of answers lost. Where nobody
// knows the right answers, d is 1 where the two models disagree, and the drop
// is at most the mean of that.
//
// The promise: if the samples are drawn independently from the data that the
// device will see, a bound at level alpha is below the true drop in at most
// alpha of all draws, whatever the distribution. It holds for no other data,
// and not for samples that the model was trained, calibrated or chosen with.
//
// It runs no models, and it does not round: a bound is a share, 0.01 for a
// point.
package certify

import (
	"errors"
	"fmt"
	"math"
)

// Outcomes are paired answers of two models to N samples.
type Outcomes struct {
	N      int `json:"n"`
	Worse  int `json:"worse"`  // right before, wrong after; without labels: another answer
	Better int `json:"better"` // wrong before, right after; without labels: 0

	// Unlabelled says that d is 0 or 1, a disagreement: its range is half as
	// wide, and so is what the range costs.
	Unlabelled bool `json:"unlabelled,omitempty"`
}

// Add counts a sample with a label.
func (o *Outcomes) Add(before, after bool) {
	o.N++
	switch {
	case before && !after:
		o.Worse++
	case after && !before:
		o.Better++
	}
}

// AddUnlabelled counts a sample without one.
func (o *Outcomes) AddUnlabelled(same bool) {
	o.N++
	o.Unlabelled = true
	if !same {
		o.Worse++
	}
}

// ErrCounts is returned, wrapped, for Outcomes that no samples can have.
var ErrCounts = errors.New("these counts cannot be")

func (o Outcomes) check(alpha float64) error {
	switch {
	case o.N < 0 || o.Worse < 0 || o.Better < 0 || o.Worse+o.Better > o.N || o.Unlabelled && o.Better > 0:
		return fmt.Errorf("%w: %d worse and %d better of %d", ErrCounts, o.Worse, o.Better, o.N)
	case !(alpha > 0 && alpha < 1):
		return fmt.Errorf("level %v: want more than 0, less than 1", alpha)
	}
	return nil
}

// Drop returns the mean of d: what was lost on these samples.
func (o Outcomes) Drop() float64 {
	if o.N == 0 {
		return 0
	}
	return float64(o.Worse-o.Better) / float64(o.N)
}

// Variance returns the sample variance of d, over N-1.
func (o Outcomes) Variance() float64 {
	if o.N < 2 {
		return 0
	}
	mean := o.Drop()
	sum := float64(o.Worse+o.Better) - float64(o.N)*mean*mean
	return max(0, sum) / float64(o.N-1)
}

// Bernstein returns a bound that the true drop is above with probability at
// most alpha. For Z in [0, 1],
//
//	E Z <= mean + sqrt(2 V ln(2/alpha) / n) + 7 ln(2/alpha) / (3 (n-1))
//
// with V the sample variance: Maurer & Pontil 2009, Empirical Bernstein Bounds
// and Sample Variance Penalization, arXiv:0907.3740, Theorem 4, for 1-Z. A d
// in [-1, 1] is 2Z-1, which doubles the last term. Fewer than two samples
// bound nothing: 1. It fails on counts and levels that cannot be.
func Bernstein(o Outcomes, alpha float64) (float64, error) {
	if err := o.check(alpha); err != nil {
		return 0, err
	}
	if o.N < 2 {
		return 1, nil
	}
	width := 2.0
	if o.Unlabelled {
		width = 1
	}
	n, l := float64(o.N), math.Log(2/alpha)
	return min(1, o.Drop()+math.Sqrt(2*o.Variance()*l/n)+width*7*l/(3*(n-1))), nil
}

// A Bound is Bernstein or Exact.
type Bound func(o Outcomes, alpha float64) (float64, error)

// mostSamples ends the search of Needed.
const mostSamples = 1 << 24

// Needed returns about how many samples like these, with the same shares of
// better and worse, would certify the budget, to one part in a hundred; ok is
// false where no number would, or more than 16 million. With a Worse and a
// Better of 0 it is the fewest that can ever do.
func Needed(o Outcomes, bound Bound, alpha, budget float64) (n int, ok bool) {
	passes := func(n int) bool {
		scaled := o
		scaled.N = n
		if o.N > 0 {
			scaled.Worse = int(math.Round(float64(o.Worse) / float64(o.N) * float64(n)))
			scaled.Better = int(float64(o.Better) / float64(o.N) * float64(n))
		}
		b, err := bound(scaled, alpha)
		return err == nil && b <= budget
	}
	if o.Drop() >= budget {
		return 0, false
	}
	high := 2
	for !passes(high) {
		if high *= 2; high > mostSamples {
			return 0, false
		}
	}
	low := high / 2 // does not pass, or is 1
	for high-low > max(1, high/100) {
		if mid := (low + high) / 2; passes(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return high, true
}

// Sequence tests a nested front, one model after the other from the least
// changed one, each at the full level, and stops at the first that does not
// keep the budget: with probability 1-Alpha all that it certified keep it,
// however many there are. The order must not come from the samples that are
// counted. It is fixed-sequence testing: Angelopoulos, Bates, Candès, Jordan &
// Lei 2021, Learn then Test, arXiv:2110.01052, section 3.2.
type Sequence struct {
	Budget, Alpha float64
	Bound         Bound

	stopped bool
}

// Test reports whether the next model keeps the budget, and the bound of its
// drop. After the first that does not, none is certified: a bound says then
// what was seen, and promises nothing.
func (s *Sequence) Test(o Outcomes) (certified bool, bound float64, err error) {
	bound, err = s.Bound(o, s.Alpha)
	if err != nil {
		return false, 0, err
	}
	if bound > s.Budget {
		s.stopped = true
	}
	return !s.stopped, bound, nil
}

// Stopped reports whether a test has failed.
func (s *Sequence) Stopped() bool { return s.stopped }
