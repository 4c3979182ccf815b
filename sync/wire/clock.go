package wire

import "time"

// ClockFloor is before every moment at which this program runs: a clock that
// is behind it was never set.
var ClockFloor = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// ReadClock returns the time now, as far as source lets it be trusted: the
// wall clock in UTC to the millisecond, and the milliseconds since boot.
func ReadClock(source ClockSync) Clock {
	return Clock{
		Wall:   time.Now().UTC().Truncate(time.Millisecond),
		MonoMS: sinceBoot().Milliseconds(),
		Sync:   source,
	}
}

// Correct returns when c was, by the clock of someone who knows: at the moment
// when the device's clock read seen, in the same boot, the time was really.
// What c's own wall clock says does not matter.
func (c Clock) Correct(seen Clock, really time.Time) time.Time {
	return really.Add(time.Duration(c.MonoMS-seen.MonoMS) * time.Millisecond)
}
