package engine

import "dunlin/kernels"

// HostKernels returns the name of the tier that Compile chooses on this CPU,
// within what DUNLIN_KERNELS allows: "avx512", "dotprod", "generic".
func HostKernels() (string, error) {
	t, err := kernels.Host("")
	return t.Tier.String(), err
}
