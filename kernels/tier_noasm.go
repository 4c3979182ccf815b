//go:build purego || !(amd64 || arm64)

package kernels

// hostTiers returns what this CPU has, slowest first, Generic always.
func hostTiers() []Tier { return []Tier{Generic} }
