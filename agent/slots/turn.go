package slots

import (
	"context"
	"time"
)

// turnBegan is where turnClock begins: the clock of a board without
// a battery jumps by decades, and a turn must not seem to last them.
var turnBegan = time.Now()

func turnClock() int64 { return int64(time.Since(turnBegan)) + 1 }

// take waits for the turn.
func (m *Model) take(ctx context.Context) error {
	select {
	case <-m.turn:
		m.held.Store(turnClock())
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// give hands the turn on.
func (m *Model) give() {
	m.held.Store(0)
	m.turn <- struct{}{}
}

// Compiling reports whether whoever has the turn compiles the first form again,
// which takes what it takes and tells nothing about inferences. Held counts
// anew when it ends.
func (m *Model) Compiling() bool { return m.compile.Load() }

// Held returns how long ago the turn was taken by whoever has it, 0 where
// nobody has.
func (m *Model) Held() time.Duration {
	since := m.held.Load()
	if since == 0 {
		return 0
	}
	return time.Duration(turnClock() - since)
}

// Beat takes the turn and gives it back, where nobody has it. It reports
// whether it had it.
func (m *Model) Beat() bool {
	select {
	case <-m.turn:
		m.turn <- struct{}{}
		return true
	default:
		return false
	}
}
