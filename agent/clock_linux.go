package agent

import "golang.org/x/sys/unix"

// ntpSynced reports whether the kernel holds the clock for set: somebody (NTP,
// PTP, GPS) disciplines it.
func ntpSynced() bool {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return err == nil && state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
}
