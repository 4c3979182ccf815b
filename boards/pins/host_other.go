//go:build !linux

package pins

// Open returns a host without lines: GPIO is Linux's here.
func Open() *Host { return New() }

func isBusy(error) bool { return false }

func hintNoChip(error) string { return "GPIO lines need Linux" }
