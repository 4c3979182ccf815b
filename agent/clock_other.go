//go:build !linux

package agent

// ntpSynced is for development machines, whose clocks are set.
func ntpSynced() bool { return true }
