package source

import (
	"context"
	"sync"
	"time"
)

// Pace is how much rarer frames are looked at than their sources are told: by
// a factor, which whoever holds the device back sets while they play. nil is
// the usual pace.
type Pace struct {
	mu      sync.Mutex // guards what follows
	factor  int        // 0: 1
	changed chan struct{}
}

// Set has frames come so many times rarer from now on, 1: as usual.
func (p *Pace) Set(factor int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if factor = max(1, factor); factor == max(1, p.factor) {
		return
	}
	p.factor = factor
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// Factor returns the factor, and a channel that is ready when it is another.
func (p *Pace) Factor() (int, <-chan struct{}) {
	if p == nil {
		return 1, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return max(1, p.factor), p.changed
}

// Of returns how far apart frames are that are usually every apart.
func (p *Pace) Of(every time.Duration) time.Duration {
	factor, _ := p.Factor()
	return every * time.Duration(factor)
}

// Due reports whether a frame is due where the last one was at that time: by
// the pace of now, which may not be the one of then.
func (p *Pace) Due(last time.Time, every time.Duration) bool { return time.Since(last) >= p.Of(every) }

// mostRest bounds a rest: what took long may have waited, not worked.
const mostRest = time.Minute

// Rest waits after a frame on which the device worked for that time, so that
// of all time it works one part in factor.
func (p *Pace) Rest(ctx context.Context, worked time.Duration) {
	for start := time.Now(); ctx.Err() == nil; {
		factor, changed := p.Factor()
		wait := min(worked*time.Duration(factor-1), mostRest) - time.Since(start)
		if wait <= 0 {
			return
		}
		select {
		case <-time.After(wait):
		case <-changed:
		case <-ctx.Done():
		}
	}
}
