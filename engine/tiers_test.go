package engine_test

import (
	"crypto/sha256"
	"testing"

	"dunlin/engine"
	"dunlin/kernels"
)

// A quantised model gives the same bits whatever the tier, its float operators
// included. A tier that this CPU lacks would fall back to generic, and prove
// nothing.
func TestTiersGiveTheSameBits(t *testing.T) {
	for _, name := range integerGoldens {
		t.Run(name, func(t *testing.T) {
			g := readGolden(t, name)
			want := g.digest(t, "generic")
			for _, tier := range []string{"avx2", "avxvnni", "avx512", "neon", "fp16", "dotprod", "i8mm"} {
				if host, err := kernels.Host(tier); err != nil || host.Tier == kernels.Generic {
					continue
				}
				if got := g.digest(t, tier); got != want {
					t.Errorf("tier %q: outputs are %x, generic's are %x", tier, got, want)
				}
			}
		})
	}
}

// digest runs the golden's model and returns the SHA-256 of all outputs.
func (g golden) digest(t *testing.T, tier string) (sum [sha256.Size]byte) {
	t.Helper()
	p, s := g.session(t, engine.Options{Kernels: tier})
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	for i := range p.Outputs() {
		h.Write(s.Output(i).Data)
	}
	h.Sum(sum[:0])
	return sum
}
