//go:build !purego

package kernels

import "golang.org/x/sys/cpu"

// hostTiers returns what this CPU has, slowest first, Generic always. x/sys
// asks the operating system too whether it saves the wide registers.
func hostTiers() []Tier {
	tiers := []Tier{Generic}
	x := &cpu.X86
	if !x.HasAVX2 || !x.HasFMA || !x.HasF16C || !x.HasBMI2 {
		return tiers
	}
	tiers = append(tiers, AVX2)
	if x.HasAVXVNNI {
		tiers = append(tiers, AVXVNNI)
	}
	if x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL && x.HasAVX512VNNI {
		tiers = append(tiers, AVX512)
	}
	return tiers
}
