//go:build !purego

package kernels

import "golang.org/x/sys/cpu"

// hostTiers returns what this CPU has, slowest first, Generic always.
func hostTiers() []Tier {
	tiers := []Tier{Generic}
	x := &cpu.ARM64
	if !x.HasASIMD {
		return tiers
	}
	tiers = append(tiers, NEON)
	if !x.HasASIMDDP {
		return tiers
	}
	tiers = append(tiers, DotProd)
	if x.HasI8MM {
		tiers = append(tiers, I8MM)
	}
	return tiers
}
