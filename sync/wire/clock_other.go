//go:build !linux

package wire

import "time"

// sinceBoot takes the start of the program for the boot: agents run on Linux.
func sinceBoot() time.Duration { return time.Since(started) }

var started = time.Now()
