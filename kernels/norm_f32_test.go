package kernels

import (
	"fmt"
	"math"
	"testing"

	"dunlin/internal/guard"
)

// rowLengths are lengths of rows: all short ones, and some long ones.
func rowLengths() []int {
	var list []int
	for n := 1; n < 70; n++ {
		list = append(list, n)
	}
	return append(list, 127, 128, 197, 256, 1000, 1027)
}

func checkSoftmax(t *testing.T, target Target) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	tier, softmax := Softmaxer(target)
	if tier != target.Tier {
		t.Fatalf("tier %v", tier)
	}
	softmax(nil, nil, 5)
	for _, n := range rowLengths() {
		r, rows := seeded(uint64(n)), 1+n%3
		in := randomF32(t, r, rows*n, n%2 == 0)
		for i := range in {
			in[i] *= 20
			switch r.IntN(40 * n) {
			case 0:
				in[i] = -inf
			case 1:
				in[i] = nan
			case 2:
				in[i] = inf
			}
		}
		out, want := guard.Of[float32](t, rows*n, n%2 == 1), make([]float32, rows*n)
		Softmax(want, in, n)
		softmax(out, in, n)
		sameBits(t, fmt.Sprintf("%d rows of %d", rows, n), out, want)
		softmax(in, in, n)
		sameBits(t, fmt.Sprintf("%d rows of %d in place", rows, n), in, want)
	}
}

// Lanes are what the definition of a sum says: written out here with 16 sums.
func TestSumIsInLanes(t *testing.T) {
	r := seeded(3)
	for _, n := range rowLengths() {
		x := randomF32(t, r, n, true)
		var l [16]float32
		for i, v := range x {
			l[i%16] += v
		}
		eight := [8]float32{}
		for i := range eight {
			eight[i] = l[i] + l[i+8]
		}
		four := [4]float32{eight[0] + eight[4], eight[1] + eight[5], eight[2] + eight[6], eight[3] + eight[7]}
		want := (four[0] + four[2]) + (four[1] + four[3])
		sameBits(t, fmt.Sprint(n), []float32{Sum(x)}, []float32{want})
	}
}

// standardizeNaive is Standardize in float64.
func standardizeNaive(x, scale, shift []float32, each int, epsilon float64) []float64 {
	mean, variance, y := 0.0, 0.0, make([]float64, len(x))
	for _, v := range x {
		mean += float64(v) / float64(len(x))
	}
	for _, v := range x {
		variance += (float64(v) - mean) * (float64(v) - mean) / float64(len(x))
	}
	for i, v := range x {
		y[i] = (float64(v) - mean) / math.Sqrt(variance+epsilon)
		if scale != nil {
			y[i] *= float64(scale[i/each%len(scale)])
		}
		if shift != nil {
			y[i] += float64(shift[i/each%len(shift)])
		}
	}
	return y
}

func checkStandardize(t *testing.T, target Target) {
	tier, run := Standardizer(target)
	if tier != target.Tier {
		t.Fatalf("tier %v", tier)
	}
	for _, n := range rowLengths() {
		r := seeded(uint64(n))
		in := randomF32(t, r, n, n%2 == 0)
		for i := range in {
			in[i] = in[i]*3 + 7
		}
		for name, c := range map[string]struct{ each, scales, shifts int }{
			"plain": {1, 0, 0}, "layer": {1, n, n}, "no shift": {1, n, 0}, "no scale": {1, 0, n}, "plane": {n, 1, 1},
			"groups": {5, (n + 4) / 5, (n + 4) / 5}, "in turn": {3, 2, 2},
		} {
			var scale, shift []float32
			if c.scales > 0 {
				scale = randomF32(t, r, c.scales, n%2 == 1)
			}
			if c.shifts > 0 {
				shift = randomF32(t, r, c.shifts, n%2 == 1)
			}
			what := fmt.Sprintf("%s %d", name, n)
			out, want := guard.Of[float32](t, n, n%2 == 1), make([]float32, n)
			mean, inverse := Standardize(want, in, scale, shift, c.each, 1e-5)
			gotMean, gotInverse := run(out, in, scale, shift, c.each, 1e-5)
			sameBits(t, what, out, want)
			sameBits(t, what, []float32{gotMean, gotInverse}, []float32{mean, inverse})
			for i, w := range standardizeNaive(in, scale, shift, c.each, 1e-5) {
				// x - mean is off by a unit of the mean at most, 1e-6 of it; inverse*scale stretches that.
				slack := 1e-5 + 1e-6*float64(inverse)*10
				if n > 1 && !(math.Abs(float64(out[i])-w) < slack*(1+math.Abs(w))) {
					t.Fatalf("%s: element %d is %v, want %v", what, i, out[i], w)
				}
			}
			again := guard.Copy(t, in, true)
			run(again, again, scale, shift, c.each, 1e-5)
			sameBits(t, what+" in place", again, want)
		}
	}
}

// A long row of one value is 0 but for the rounding of its mean: without the
// correction of the mean it is not.
func TestStandardizeOfOneValue(t *testing.T) {
	for _, v := range []float32{0.1, 1.7, -133.3, 7e4} {
		x := make([]float32, 100_003)
		for i := range x {
			x[i] = v
		}
		out := make([]float32, len(x))
		Standardize(out, x, nil, nil, 1, 1e-5)
		limit := ulpOf(float64(v)) / math.Sqrt(1e-5)
		if d := math.Abs(float64(out[17])); !(d <= limit) {
			t.Errorf("%v becomes %v, beyond %v", v, d, limit)
		}
	}
}

func checkSpan(t *testing.T, target Target) {
	tier, quantize := DynamicQuantizer(target)
	if tier != target.Tier {
		t.Fatalf("tier %v", tier)
	}
	for _, n := range append(rowLengths(), 0) {
		r := seeded(uint64(n))
		in := randomF32(t, r, n, n%2 == 0)
		switch n % 5 {
		case 1: // all of one sign
			for i := range in {
				in[i] = max(in[i], -in[i])
			}
		case 2:
			for i := range in {
				in[i] = min(in[i], -in[i])
			}
		case 3:
			in[r.IntN(n)] = float32(math.NaN())
		}
		out, want := guard.Of[uint8](t, n, n%2 == 1), make([]uint8, n)
		scale, zero := quantize(out, in)
		wantScale, wantZero := DynamicQuantize(want, in)
		if scale != wantScale || zero != wantZero {
			t.Fatalf("%d: scale %v and zero point %d, want %v and %d", n, scale, zero, wantScale, wantZero)
		}
		same(t, fmt.Sprint(n), out, want)
	}
}

// What runs on rows allocates nothing, whatever the tier.
func TestRowsAllocateNothing(t *testing.T) {
	x, y, q := benchF32(333), make([]float32, 333), make([]uint8, 333)
	for _, tier := range hostTiers() {
		target := Target{Tier: tier}
		_, softmax := Softmaxer(target)
		_, standardize := Standardizer(target)
		_, quantize := DynamicQuantizer(target)
		if n := testing.AllocsPerRun(3, func() {
			for s := range smooths {
				_, f := s.For(target)
				f(y, x)
			}
			softmax(y, x, 111)
			standardize(y, x, x, x, 1, 1e-5)
			standardize(y, x, nil, nil, 1, 1e-5)
			quantize(q, x)
		}); n != 0 {
			t.Errorf("%v: %v allocations", tier, n)
		}
	}
}
