package slots

import (
	"math"
	"slices"
	"sync"
	"time"

	"dunlin/sync/wire"
)

// Defaults of a trial, where the offer leaves them to the agent.
const (
	defaultMinRuns = 20
	defaultLimit   = 50 * time.Millisecond
	slowerBy       = 3    // times the p95 of the model before
	maxMinRuns     = 1000 // an offer may ask for no more
	keptRuns       = 512  // measurements from which a p95 is told
)

// defaultTrial is how long a trial lasts where the offer does not say; tests
// shorten it.
var defaultTrial = 30 * time.Second

// rules are wire.TrialRules with every default filled in.
type rules struct {
	span      time.Duration // how long the trial lasts, at least
	deadline  time.Duration // when it ends without a verdict: the model goes back
	limit     time.Duration // a run above it is slow; one in twenty may be
	maxErrors int
	minRuns   int
}

// resolve fills in defaults. p95MS is that of the model before, 0 for none.
func resolve(r wire.TrialRules, p95MS float64) rules {
	out := rules{span: defaultTrial, limit: defaultLimit, maxErrors: max(r.MaxErrors, 0), minRuns: defaultMinRuns}
	if r.Seconds > 0 {
		out.span = time.Duration(min(r.Seconds, 7*24*3600)) * time.Second
	}
	if by := millis(p95MS * slowerBy); by > out.limit {
		out.limit = by
	}
	if r.MaxMillis > 0 {
		out.limit = millis(r.MaxMillis)
	}
	if r.MinRuns > 0 {
		out.minRuns = min(r.MinRuns, maxMinRuns)
	}
	out.deadline = 2*out.span + 30*time.Second
	return out
}

// millis is ms milliseconds, bounded by a day and from below by a nanosecond.
func millis(ms float64) time.Duration {
	const day = 24 * 3600 * 1000
	if !(ms > 0) {
		return 0
	}
	return max(1, time.Duration(min(ms, day)*float64(time.Millisecond)))
}

// tally is what is known of a model's runs: all since it was loaded, and
// those since its trial began.
type tally struct {
	mu     sync.Mutex
	recent [keptRuns]float32 // milliseconds, a ring
	runs   int64             // since it was loaded
	others int64             // of the small form, of which no p95 is told
	errors int64
	trial  count
	limit  time.Duration // of the trial; 0: none is under way
	news   chan struct{} // of one place: something was added
}

// count is what a trial is judged by.
type count struct{ runs, slow, errors int }

// add counts a run; slower is how many times as long as usual it may take,
// since the device holds itself back: that is no fault of the model's.
func (t *tally) add(took time.Duration, err error, slower int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.errors++
		t.trial.errors++
	} else {
		t.recent[t.runs%keptRuns] = float32(float64(took) / float64(time.Millisecond))
		t.runs++
		t.trial.runs++
		if took/time.Duration(slower) > t.limit {
			t.trial.slow++
		}
	}
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// aside counts a run of the small form.
func (t *tally) aside(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.errors++
	} else {
		t.others++
	}
}

// begin starts to count for a trial.
func (t *tally) begin(limit time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.trial, t.limit = count{}, limit
}

func (t *tally) count() count {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.trial
}

// p95 returns the 95th percentile (nearest rank) of the newest runs in
// milliseconds, 0 where there was none.
func (t *tally) p95() float64 {
	t.mu.Lock()
	kept := slices.Clone(t.recent[:min(t.runs, keptRuns)])
	t.mu.Unlock()
	if len(kept) == 0 {
		return 0
	}
	slices.Sort(kept)
	return float64(kept[rank95(len(kept))-1])
}

// rank95 is the nearest rank of the 95th percentile of n values, from 1.
func rank95(n int) int { return int(math.Ceil(0.95 * float64(n))) }

// verdict of a trial: ReasonNone and done is a commit. The p95 is above the
// limit exactly when more runs were slow than come after its rank; that can
// be told before all runs are in.
func (r rules) verdict(c count, age time.Duration) (done bool, why wire.Reason) {
	n := max(c.runs, r.minRuns)
	switch {
	case c.errors > r.maxErrors:
		return true, wire.ReasonErrors
	case c.slow > n-rank95(n):
		return true, wire.ReasonTooSlow
	case age >= r.span && c.runs >= r.minRuns:
		return true, wire.ReasonNone
	case age >= r.deadline:
		return true, wire.ReasonTooSlow // not even minRuns in all that time
	}
	return false, wire.ReasonNone
}
