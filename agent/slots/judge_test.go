package slots

import (
	"math"
	"testing"
	"time"

	"dunlin/sync/wire"
)

// shorten makes trials without a length of their own last a moment.
func shorten(t *testing.T) {
	t.Helper()
	old := defaultTrial
	defaultTrial = time.Millisecond
	t.Cleanup(func() { defaultTrial = old })
}

func TestVerdict(t *testing.T) {
	r := rules{span: time.Minute, deadline: 3 * time.Minute, limit: time.Second, maxErrors: 1, minRuns: 20}
	for _, c := range []struct {
		what string
		c    count
		age  time.Duration
		done bool
		why  wire.Reason
	}{
		{"nothing yet", count{}, 0, false, ""},
		{"enough runs, too early", count{runs: 20}, time.Second, false, ""},
		{"time is over, too few runs", count{runs: 19}, time.Minute, false, ""},
		{"time is over", count{runs: 20}, time.Minute, true, ""},
		{"one in twenty may be slow", count{runs: 20, slow: 1}, time.Minute, true, ""},
		{"two of twenty may not", count{runs: 20, slow: 2}, time.Second, true, wire.ReasonTooSlow},
		{"two of the first three: known before the rest", count{runs: 3, slow: 2}, time.Second, true, wire.ReasonTooSlow},
		{"five of a hundred may", count{runs: 100, slow: 5}, time.Minute, true, ""},
		{"six may not", count{runs: 100, slow: 6}, time.Minute, true, wire.ReasonTooSlow},
		{"one error may be", count{runs: 20, errors: 1}, time.Minute, true, ""},
		{"two may not", count{runs: 20, errors: 2}, 0, true, wire.ReasonErrors},
		{"a run that never ends", count{runs: 2}, 3 * time.Minute, true, wire.ReasonTooSlow},
	} {
		if done, why := r.verdict(c.c, c.age); done != c.done || why != c.why {
			t.Errorf("%s: %v %q, want %v %q", c.what, done, why, c.done, c.why)
		}
	}
}

// The count of slow runs and the nearest-rank p95 are the same rule.
func TestVerdictIsTheP95(t *testing.T) {
	for n := 1; n <= 200; n++ {
		for slow := range n + 1 {
			above := slow > n-rank95(n) // slow runs sort last
			p95IsSlow := rank95(n) > n-slow
			if above != p95IsSlow {
				t.Fatalf("%d of %d slow: verdict %v, p95 %v", slow, n, above, p95IsSlow)
			}
		}
	}
}

func TestRules(t *testing.T) {
	for _, c := range []struct {
		in     wire.TrialRules
		before float64
		want   time.Duration
	}{
		{wire.TrialRules{}, 0, 50 * time.Millisecond},
		{wire.TrialRules{}, 10, 50 * time.Millisecond},
		{wire.TrialRules{}, 40, 120 * time.Millisecond},
		{wire.TrialRules{MaxMillis: 7.5}, 40, 7500 * time.Microsecond},
		{wire.TrialRules{MaxMillis: 1e300}, 0, 24 * time.Hour},
		{wire.TrialRules{MaxMillis: -1}, -3, 50 * time.Millisecond},
	} {
		if got := resolve(c.in, c.before).limit; got != c.want {
			t.Errorf("%+v after %v ms: %v, want %v", c.in, c.before, got, c.want)
		}
	}
	r := resolve(wire.TrialRules{Seconds: math.MaxInt, MinRuns: 1 << 30, MaxErrors: -5}, 0)
	if r.minRuns != maxMinRuns || r.maxErrors != 0 || r.span != 7*24*time.Hour {
		t.Errorf("wild rules: %+v", r)
	}
}

func TestP95(t *testing.T) {
	var m tally
	m.news = make(chan struct{}, 1)
	if m.p95() != 0 {
		t.Error("a p95 of nothing")
	}
	for i := 1; i <= 2*keptRuns; i++ {
		m.add(time.Duration(i)*time.Millisecond, nil, 1)
	}
	// The newest 512 are 513..1024 ms; rank ceil(0.95*512) = 487.
	if got := m.p95(); got != 512+487 {
		t.Errorf("p95 %v, want 999", got)
	}
}

// A device that holds itself back is given more time, and no more than that.
func TestSlowerByItself(t *testing.T) {
	m := tally{news: make(chan struct{}, 1), limit: 10 * time.Millisecond}
	m.add(39*time.Millisecond, nil, 4)
	m.add(41*time.Millisecond, nil, 4)
	m.add(39*time.Millisecond, nil, 1)
	if c := m.count(); c.slow != 2 || c.runs != 3 {
		t.Errorf("%+v, want the second and third to be slow", c)
	}
	var s Slots
	if s.hold.times() != 1 {
		t.Error("nothing is held back, and runs may take longer")
	}
	s.HoldBack(4, false)
	if s.hold.times() != 4 {
		t.Error("runs may not take longer")
	}
}
