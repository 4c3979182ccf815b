package kernels

import (
	"fmt"
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

func BenchmarkSoftmax(b *testing.B) {
	for _, s := range [][2]int{{128, 128}, {128, 49}, {1000, 10}, {1, 1000}} {
		rows, n := s[0], s[1]
		in, out := benchF32(rows*n), make([]float32, rows*n)
		benchElements(b, softmaxVariants, fmt.Sprintf("%dx%d", rows, n), rows*n, func(t Target) func() {
			_, f := Softmaxer(t)
			return func() { f(out, in, n) }
		})
	}
}

func BenchmarkStandardize(b *testing.B) {
	for _, s := range [][2]int{{128, 256}, {128, 384}, {1, 3136}} {
		rows, n := s[0], s[1]
		in, out, scale := benchF32(rows*n), make([]float32, rows*n), benchF32(n)
		benchElements(b, standardizeVariants, fmt.Sprintf("%dx%d", rows, n), rows*n, func(t Target) func() {
			_, f := Standardizer(t)
			return func() {
				for at := 0; at < len(in); at += n {
					f(out[at:], in[at:at+n], scale, scale, 1, 1e-5)
				}
			}
		})
	}
}

func BenchmarkDynamicQuantize(b *testing.B) {
	const n = 128 * 256
	in, out := benchF32(n), make([]uint8, n)
	benchElements(b, spanVariants, "128x256", n, func(t Target) func() {
		_, f := DynamicQuantizer(t)
		return func() { f(out, in) }
	})
}
