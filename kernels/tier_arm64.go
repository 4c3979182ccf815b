//go:build !purego

package kernels

import "golang.org/x/sys/cpu"

// hostTiers returns what this CPU has, slowest first, Generic always.
//
// FP16 stands below DotProd, as the cores came: Jetson Xavier's, the A64FX and
// the first Cortex-A55 and A75 have FP16 alone, the A76 and all after it both
// (and Cortex-A53 and A72 neither). A CPU that were to have DotProd without
// FP16 would run as NEON.
func hostTiers() []Tier {
	tiers := []Tier{Generic}
	x := &cpu.ARM64
	if !x.HasASIMD {
		return tiers
	}
	tiers = append(tiers, NEON)
	if !x.HasFPHP || !x.HasASIMDHP {
		return tiers
	}
	tiers = append(tiers, FP16)
	if !x.HasASIMDDP {
		return tiers
	}
	tiers = append(tiers, DotProd)
	if x.HasI8MM {
		tiers = append(tiers, I8MM)
	}
	return tiers
}
