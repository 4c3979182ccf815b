package quant

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

// checkAgainst counts values without a histogram, and compares.
func checkAgainst(t *testing.T, name string, h *Histogram, values []float32) {
	t.Helper()
	lo, hi, zeros := float32(math.Inf(1)), float32(math.Inf(-1)), uint64(0)
	want := map[int64]uint64{}
	for _, v := range values {
		if v == 0 {
			zeros++
			continue
		}
		lo, hi = min(lo, v), max(hi, v)
		want[int64(math.Floor(float64(v)/h.Width()))]++
	}
	if h.Zeros != zeros || h.Total() != uint64(len(values)) {
		t.Errorf("%s: %d zeros of %d values, want %d of %d", name, h.Zeros, h.Total(), zeros, len(values))
	}
	if len(want) > 0 && (h.Min != lo || h.Max != hi) {
		t.Errorf("%s: %g..%g, want %g..%g", name, h.Min, h.Max, lo, hi)
	}
	for i, c := range h.Counts {
		if w := want[h.base+int64(i)]; w != c {
			t.Fatalf("%s: bin from %g has %d, want %d", name, float64(h.base+int64(i))*h.Width(), c, w)
		}
	}
}

func TestHistogramExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	kinds := map[string]func(i int) float32{
		"normal":      func(int) float32 { return float32(r.NormFloat64()) },
		"relu":        func(int) float32 { return max(0, float32(r.NormFloat64())) },
		"growing":     func(i int) float32 { return float32(math.Pow(1.01, float64(i)) * r.NormFloat64()) },
		"shrinking":   func(i int) float32 { return float32(math.Pow(1.01, -float64(i)) * r.NormFloat64()) },
		"far away":    func(int) float32 { return 1e6 + float32(r.Float64()) },
		"far below":   func(int) float32 { return -1e6 - float32(r.Float64()) },
		"constant":    func(int) float32 { return .1 },
		"all zero":    func(int) float32 { return 0 },
		"subnormal":   func(int) float32 { return math.Float32frombits(r.Uint32N(1 << 23)) },
		"all floats":  func(int) float32 { return math.Float32frombits(r.Uint32() &^ (1 << 30)) },
		"outlier":     func(i int) float32 { return [2]float32{float32(r.Float64()), -3e38}[i/2999] },
		"both limits": func(i int) float32 { return [2]float32{-math.MaxFloat32, math.MaxFloat32}[i%2] },
		"tiny, huge":  func(i int) float32 { return [2]float32{1e-45, math.MaxFloat32}[i/1500] },
	}
	for name, kind := range kinds {
		h, values := &Histogram{}, []float32{}
		for i := 0; i < 3000; {
			part := make([]float32, min(3000-i, 1+r.IntN(100)))
			for j := range part {
				part[j] = kind(i)
				i++
			}
			if err := h.Add(part); err != nil {
				t.Fatal(err)
			}
			values = append(values, part...)
		}
		checkAgainst(t, name, h, values)

		// The same values the other way round, and in two halves.
		back := &Histogram{}
		slices.Reverse(values)
		_ = back.Add(values[:1000])
		other := &Histogram{}
		_ = other.Add(values[1000:])
		back.merge(other)
		checkAgainst(t, name+", merged", back, values)
		other.merge(&Histogram{})
		checkAgainst(t, name+", merged with nothing", other, values[1000:])
	}
}

func TestHistogramRefuses(t *testing.T) {
	h := &Histogram{}
	if err := h.Add([]float32{1, 2}); err != nil {
		t.Fatal(err)
	}
	before := *h
	for _, v := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		if err := h.Add([]float32{5, v}); !errors.Is(err, ErrRange) || *h != before {
			t.Errorf("%g: %v", v, err)
		}
	}
}

// TestHistogramSize: the promise of 16 KiB a value.
func TestHistogramSize(t *testing.T) {
	if n := unsafe.Sizeof(Histogram{}); n > bins*8+128 {
		t.Errorf("a histogram is %d bytes", n)
	}
}

// TestChooseRange compares the chosen range with the best of a fine search
// over the values themselves.
func TestChooseRange(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for name, kind := range map[string]func() float64{
		"normal":  r.NormFloat64,
		"laplace": func() float64 { return r.ExpFloat64() * float64(1-2*r.IntN(2)) },
		"relu":    func() float64 { return max(0, r.NormFloat64()) },
		"one side": func() float64 {
			if r.IntN(100) == 0 {
				return -20 * r.Float64()
			}
			return r.Float64()
		},
	} {
		values := make([]float32, 20000)
		for i := range values {
			values[i] = float32(kind())
		}
		h := &Histogram{}
		_ = h.Add(values)
		exact := func(lo, hi float64) float64 {
			q := grid(lo, hi)
			sum := 0.0
			for _, v := range values {
				x := math.Max(-128, math.Min(127, math.RoundToEven(float64(v)/float64(q.Scale))+float64(q.Zero)))
				d := (x-float64(q.Zero))*float64(q.Scale) - float64(v)
				sum += d * d
			}
			return sum
		}
		lo, hi := h.choose(Options{})
		all := exact(math.Min(0, float64(h.Min)), float64(h.Max))
		best := all
		for a := 1.0; a > .2; a -= .04 {
			for b := 1.0; b > .2; b -= .04 {
				best = math.Min(best, exact(math.Min(0, float64(h.Min))*a, float64(h.Max)*b))
			}
		}
		if got := exact(lo, hi); got > 1.03*best || got > 1.001*all {
			t.Errorf("%s: %.3f..%.3f has error %g, the best %g, all that was seen %g", name, lo, hi, got, best, all)
		}
	}
}

func TestPercentile(t *testing.T) {
	h := &Histogram{}
	values := make([]float32, 0, 10001)
	for i := -5000; i <= 5000; i++ {
		values = append(values, float32(i)/1000)
	}
	_ = h.Add(values)
	for _, c := range []struct{ p, want float64 }{{100, 5}, {99, 4.95}, {50, 2.5}} {
		lo, hi := h.choose(Options{Range: "percentile", Percentile: c.p})
		if math.Abs(hi-c.want) > 2*h.Width() || math.Abs(lo+c.want) > 2*h.Width() {
			t.Errorf("%g %%: %g..%g, want %g either side", c.p, lo, hi, c.want)
		}
	}
	if lo, hi := h.choose(Options{Range: "minmax"}); lo != -5 || hi != 5 {
		t.Errorf("minmax: %g..%g", lo, hi)
	}
	_ = h.Add([]float32{-1e6})
	if lo, _ := h.choose(Options{Range: "percentile", Percentile: 99.9}); lo < -1e5 {
		t.Errorf("one outlier of 10,000 makes the range begin at %g", lo)
	}
}

// TestGrid: zero is exact, and the ends are covered to half a step.
func TestGrid(t *testing.T) {
	for _, c := range []struct{ lo, hi float64 }{
		{0, 6}, {-1, 1}, {-6, 0}, {-.3, 5.7}, {-1e-3, 1e3}, {-1e30, 1e-30}, {0, 3e38}, {-3e38, 3e38}, {0, 1e-9},
	} {
		g := grid(c.lo, c.hi)
		b := g.bounds()
		if half := float64(g.Scale) * .51; !(g.Scale > 0) || float64(b[0])-c.lo > half || c.hi-float64(b[1]) > half {
			t.Errorf("%g..%g: %+v covers %v", c.lo, c.hi, g, b)
		}
	}
	for _, c := range []struct {
		lo, hi float64
		zero   int8
	}{{0, 6, -128}, {-6, 0, 127}, {-127, 128, -1}, {0, 0, 0}, {0, 1e-20, 0}} {
		if g := grid(c.lo, c.hi); g.Zero != c.zero {
			t.Errorf("%g..%g: zero point %d, want %d", c.lo, c.hi, g.Zero, c.zero)
		}
	}
}
