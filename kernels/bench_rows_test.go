package kernels

import (
	"slices"
	"testing"
)

// benchElements runs f for each row of a table that this CPU has, and reports
// nanoseconds an element: the loops here multiply little.
func benchElements[F any](b *testing.B, rows []variant[F], what string, n int, make func(t Target) func()) {
	for _, r := range slices.Backward(rows) {
		if !slices.Contains(hostTiers(), r.tier) {
			continue
		}
		b.Run(what+"/"+r.tier.String(), func(b *testing.B) {
			f := make(Target{Tier: r.tier, Exact: true})
			b.ReportMetric(float64(median(b, f).Nanoseconds())/float64(n), "ns/element")
		})
	}
}

func BenchmarkSmooth(b *testing.B) {
	const n = 4096
	in, out := benchF32(n), make([]float32, n)
	for s := range smooths {
		benchElements(b, smoothVariants, smoothNames[s], n, func(t Target) func() {
			_, f := s.For(t)
			return func() { f(out, in) }
		})
	}
}
