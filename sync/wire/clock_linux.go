package wire

import (
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot counts the time asleep too, as CLOCK_MONOTONIC does not.
func sinceBoot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return time.Since(started) // no Linux that Go runs on lacks it
	}
	return time.Duration(t.Nano())
}

var started = time.Now()
