package agent

import (
	"sync"
	"time"

	"dunlin/sync/wire"
)

// hubClock is the hub's time, as far as its acknowledgements told it. A board
// without a clock of its own starts in the past; counted from the boot
// counter, one word of the hub is enough until the next boot.
type hubClock struct {
	mu     sync.Mutex
	seen   wire.Clock // when the hub last said its time
	really time.Time
}

// heard notes the hub's time. Messages may be late: the latest time, by the
// boot counter, is the best one. A hub whose own clock was never set tells none.
func (c *hubClock) heard(hub time.Time) {
	if hub.Before(wire.ClockFloor) {
		return
	}
	now := wire.ReadClock(wire.ClockHub)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.really.IsZero() || hub.After(now.Correct(c.seen, c.really)) {
		c.seen, c.really = now, hub
	}
}

// read returns the clock, and by whom it is set.
func (c *hubClock) read() wire.Clock {
	c.mu.Lock()
	known := !c.really.IsZero()
	c.mu.Unlock()
	switch {
	case ntpSynced():
		return wire.ReadClock(wire.ClockNTP)
	case known:
		return wire.ReadClock(wire.ClockHub)
	}
	return wire.ReadClock(wire.ClockNone)
}

// at returns the clock as it was at a moment of this process, as far as it is
// known now; zero is now.
func (c *hubClock) at(t time.Time) wire.Clock {
	clock := c.read()
	if t.IsZero() {
		return clock
	}
	ago := time.Since(t).Truncate(time.Millisecond)
	clock.Wall, clock.MonoMS = clock.Wall.Add(-ago), clock.MonoMS-ago.Milliseconds()
	return clock
}

// now returns the hub's time, or else the wall clock's where that is set; ok
// is false where nobody knows.
func (c *hubClock) now() (t time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.really.IsZero() {
		return wire.ReadClock(wire.ClockHub).Correct(c.seen, c.really), true
	}
	return time.Now(), ntpSynced()
}
