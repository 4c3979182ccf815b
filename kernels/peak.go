package kernels

import "time"

// peakLoop is a loop of nothing but products, on registers.
type peakLoop struct {
	run  func(n int)
	macs int // products a turn
}

// PeakInt8 measures, for a few milliseconds, how many products of int8 this
// CPU can add up at most with the instructions of t's tier: multiplications
// and additions in a second. It is the yardstick of benchmarks and profiles;
// 0 where the tier has none.
func PeakInt8(t Tier) float64 { return peakOf(t, peakInt8Native) }

// PeakF32 is PeakInt8 for float32.
func PeakF32(t Tier) float64 { return peakOf(t, peakF32Native) }

func peakOf(t Tier, rows []variant[peakLoop]) float64 {
	for _, r := range rows {
		if r.tier == t {
			return r.run.measure()
		}
	}
	return 0
}

// measure returns the best of some short runs: what disturbs a run only makes
// it slower.
func (l *peakLoop) measure() float64 {
	const turns = 10_000
	best := time.Duration(1 << 62)
	for range 40 {
		start := time.Now()
		l.run(turns)
		best = min(best, time.Since(start))
	}
	return float64(turns*l.macs) / best.Seconds()
}
