package kernels

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Tier is a family of instructions. A higher one is faster where the CPU has
// it, and each contains those below it on the same architecture.
type Tier uint8

// The tiers, slowest first.
const (
	Generic Tier = iota // Go, no assembly: the definition
	AVX2                // amd64: AVX2, FMA and F16C
	AVXVNNI             // amd64: AVX2 and dot products of bytes, for CPUs without AVX-512
	AVX512              // amd64: AVX-512 with VNNI
	NEON                // arm64: what every ARMv8 CPU has
	FP16                // arm64: arithmetic in binary16
	DotProd             // arm64: dot products of bytes (SDOT)
	I8MM                // arm64: matrix products of bytes (SMMLA)
)

var tierNames = [...]string{Generic: "generic", AVX2: "avx2", AVXVNNI: "avxvnni", AVX512: "avx512", NEON: "neon", FP16: "fp16", DotProd: "dotprod", I8MM: "i8mm"}

// String returns the name used in DUNLIN_KERNELS and in plans.
func (t Tier) String() string {
	if int(t) < len(tierNames) {
		return tierNames[t]
	}
	return fmt.Sprintf("tier(%d)", uint8(t))
}

// Target is what a kernel is made for.
type Target struct {
	Tier  Tier
	Exact bool // float operators too give the same bits on every CPU
}

// Host returns the best target of this CPU among the tiers named in allowed,
// a comma-separated list. An empty list means the environment variable
// DUNLIN_KERNELS; where that is empty too, every tier is allowed. Generic is
// always there. A name that no dunlin knows is an error.
func Host(allowed string) (Target, error) {
	if allowed == "" {
		allowed = os.Getenv("DUNLIN_KERNELS")
	}
	if allowed == "" {
		tiers := hostTiers()
		return Target{Tier: tiers[len(tiers)-1]}, nil
	}
	var t Target
	for name := range strings.SplitSeq(allowed, ",") {
		tier, err := parseTier(strings.TrimSpace(name))
		if err != nil {
			return Target{}, err
		}
		for _, h := range hostTiers() {
			if h == tier && tier > t.Tier {
				t.Tier = tier
			}
		}
	}
	return t, nil
}

func parseTier(name string) (Tier, error) {
	for i, n := range tierNames {
		if n == name {
			return Tier(i), nil
		}
	}
	return 0, fmt.Errorf("kernels %q: no such tier; known are %s", name, strings.Join(tierNames[:], ", "))
}

// variant is one row of an operation's table: the function, the tier it needs
// and whether it equals the generic one bit for bit. Integer variants always
// do.
type variant[F any] struct {
	tier  Tier
	exact bool
	run   F
}

// pick returns the row of the highest tier that t allows. Tables end with the
// generic row, so there is always one.
func pick[F any](t Target, rows []variant[F]) variant[F] {
	best := -1
	for i, r := range rows {
		if r.tier <= t.Tier && (r.exact || !t.Exact) && (best < 0 || r.tier > rows[best].tier) {
			best = i
		}
	}
	return rows[best]
}

// instead returns rows with those of better in place of their equals in tier
// and exactness.
func instead[F any](better, rows []variant[F]) []variant[F] {
	list := slices.Clone(better)
	for _, r := range rows {
		if !slices.ContainsFunc(better, func(b variant[F]) bool { return b.tier == r.tier && b.exact == r.exact }) {
			list = append(list, r)
		}
	}
	return list
}
