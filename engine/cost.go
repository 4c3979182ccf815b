package engine

import (
	"runtime"

	"dunlin/kernels"
	"dunlin/model"
)

// Times of one thread decide what is cut. They need only be right within a
// factor of two or three: too long a guess makes parts that are shorter than
// they should be, too short a guess leaves a step to one thread.

// rate is what one thread of a tier does in a nanosecond.
type rate struct {
	int8s, floats float64 // products
	bytes         float64 // read and written
}

// rates were read from "dunlin model bench --profile" over ResNet-50,
// MobileNetV2 and MiniLM on a Zen 5 server (AVX-512; DUNLIN_KERNELS=avx2 and
// generic for those). Bytes of AVX-512 are those of integer additions and
// depthwise convolutions, where float additions within the second cache pass
// 180 a nanosecond; generic ones lie between a float addition's 17 and a
// softmax's 1. Those of arm64 are guesses, no core was measured: half of what
// LLVM's cycle models of a Cortex-A72 and A76 give at 1.5 and 2.4 GHz.
var rates = map[kernels.Tier]rate{
	kernels.Generic: {int8s: 1.5, floats: 2, bytes: 5},
	kernels.AVX2:    {int8s: 100, floats: 50, bytes: 30},
	kernels.AVXVNNI: {int8s: 200, floats: 50, bytes: 30},
	kernels.AVX512:  {int8s: 300, floats: 80, bytes: 40},
	kernels.NEON:    {int8s: 6, floats: 4, bytes: 2},
	kernels.DotProd: {int8s: 25, floats: 8, bytes: 4},
	kernels.I8MM:    {int8s: 50, floats: 8, bytes: 4},
}

const (
	// leastPart is the shortest part worth another thread, in nanoseconds. A
	// worker starts a part in 0.2 us while it polls, and in 10 to 70 us where
	// it had to be woken, so that what is left to one thread must not be much
	// either: over a few runs each on a busy machine, MobileNetV2 in int8 gained
	// 1.2 to 1.35 from two threads with parts of 20 us, 1.5 with 12, 1.3 to 1.7
	// with 8; "model bench --threads 2" on a quiet one shows 1.6.
	leastPart = 8_000

	// A worker that sleeps takes 10 us of the caller to wake, and helps only
	// 20 to 45 us later. Graphs shorter than leastPlan nanoseconds gain nothing;
	// those shorter than usualPlan little, for twice the CPU time.
	leastPlan = 100_000
	usualPlan = 400_000
)

// nanos returns about how long a kernel takes on one thread, for a call of it.
func nanos(c *call, k *kernel) float64 {
	r, ok := rates[k.tier]
	for t := k.tier; !ok; r, ok = rates[t] {
		t-- // a tier without figures is as fast as the one below it
	}
	products := r.floats
	if len(c.in) > 0 && c.in[0] != nil && (c.in[0].Type == model.I8 || c.in[0].Type == model.U8) {
		products = r.int8s
	}
	bytes := k.weights
	for _, list := range [][]*model.Value{c.in, c.out} {
		for _, v := range list {
			if v != nil && v.Const == nil {
				n, _ := v.Shape.Elements()
				bytes += n * v.Type.Size()
			}
		}
	}
	return float64(k.macs)/products + float64(bytes)/r.bytes
}

// threads returns how many threads a program of that many nanoseconds may
// use.
func (o Options) threads(nanos float64) int {
	n, least := runtime.GOMAXPROCS(0), float64(usualPlan)
	if o.Threads > 0 {
		n, least = min(n, o.Threads), leastPlan
	}
	if o.parts > 0 {
		return o.parts
	}
	if nanos < least || o.Observe != nil {
		return 1
	}
	return n
}

// cut cuts the steps that take long enough into parts. It runs when all
// steps are known and none has its memory.
func (l *lowering) cut() {
	total := 0.0
	for i, c := range l.calls {
		if c != nil && !l.p.steps[i].kernel.alias {
			total += nanos(c, l.p.steps[i].kernel)
		}
	}
	threads := l.c.options.threads(total)
	for i, c := range l.calls {
		s := &l.p.steps[i]
		if c == nil || s.kernel.alias || threads < 2 {
			continue
		}
		n := min(threads, int(nanos(c, s.kernel)/leastPart))
		if l.c.options.parts > 0 {
			n = l.c.options.parts
		}
		if n < 2 {
			continue
		}
		cutters := s.kernel.cutters
		if cutters == nil {
			cutters = byRule(c)
		}
		if s.parts = cutInto(cutters, n); s.parts == nil {
			continue
		}
		l.p.threads = max(l.p.threads, len(s.parts))
		if need := scratchOf(s.parts); need > 0 {
			if s.scratch == nil {
				s.scratch = &buffer{born: i, dies: i}
				l.buffers = append(l.buffers, s.scratch)
			}
			s.scratch.bytes = max(s.scratch.bytes, need)
		}
	}
}
