package kernels

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"dunlin/internal/guard"
)

// turnF16 is how many products a tier that computes in binary16 may add up in
// it: see tileHalf of arm64.
const turnF16 = 32

// boundF16 returns how far a product computed in binary16 may be from naiveF32:
// what boundF32 says, for the sums in float32; γ(turnF16+1)*Σ|terms| for one
// rounding of a value and up to turnF16 of sums, of unit 2^-11; and where
// numbers are subnormal, 2^-25 for each value and each sum, in units that a
// power of two makes of the greatest value and weight; naiveF32's own products
// may be subnormal, too.
func boundF16(g Geometry, in, more []float32, w WeightsF32) []float64 {
	bound := boundF32(g, in, more, w)
	most := 0.0
	for _, v := range w.W {
		most = max(most, math.Abs(float64(v)))
	}
	visitTaps(g, func(o, oc int, taps [][2]int) {
		sum, greatest := 0.0, 0.0
		for _, tap := range taps {
			x := math.Abs(float64(in[tap[0]]))
			sum, greatest = sum+x*math.Abs(float64(w.W[tap[1]])), max(greatest, x)
		}
		nu := (turnF16 + 1.0) / (1 << 11)
		// Scaled, the greatest value is at least 2^14, or 2^8 over the greatest weight.
		unit := greatest * max(1.0/(1<<14), most/(1<<8))
		bound[o] = 1.01*bound[o] + nu/(1-nu)*sum + float64(len(taps))*(unit*(1+most)/(1<<25)+math.SmallestNonzeroFloat32)
	})
	return bound
}

// closeF16 checks a product computed in binary16.
func closeF16(t testing.TB, what string, g Geometry, a, more []float32, w WeightsF32, got []float32) {
	t.Helper()
	want := naiveF32(g, a, more, w)
	for i, limit := range boundF16(g, a, more, w) {
		if d := math.Abs(float64(got[i]) - float64(want[i])); !(d <= limit) {
			t.Fatalf("%s: element %d of %d is %v, want %v within %g", what, i, len(want), got[i], want[i], limit)
		}
	}
}

// Rows of every magnitude: binary16 ends at 65504, products do not.
func TestGEMMF16Range(t *testing.T) {
	forVariants(t, gemmF16Variants, func(t *testing.T, target Target) {
		r := seeded(10)
		for _, weight := range []uint16{0x0001, 0x0400, 0x3c00, 0x5640, 0x7bff} { // 2^-24, 2^-14, 1, 100, 65504
			m, n, k := 9, 19, 83
			w := WeightsF32{Half: guard.Of[uint16](t, n*k, true), Clamp: NoClamp}
			for j := range w.Half {
				w.Half[j] = weight | uint16(r.IntN(2)<<15)
			}
			a, out := randomF32(t, r, m*k, true), guard.Of[float32](t, m*n, true)
			for i, scale := range []float32{1, 0, 1e4, 1e9, 1e25, 1e-6, 1e-12, 1e-25, 3e-38} {
				for j := range k {
					a[i*k+j] *= scale
				}
			}
			a[3*k+7], a[7*k+5] = 1e-9, 1 // one value far below, or above, all others of its row
			kernel, err := PackGEMMF32(target, n, k, w)
			if err != nil {
				t.Fatal(err)
			}
			kernel.Run(out, a, m, guard.Of[byte](t, kernel.Scratch(), true))
			closeF16(t, fmt.Sprintf("weights of %v", Float16(weight)), productShape(m, n, k), a, nil, w.widened(), out)
		}
	})
}

// What is infinite, or no number, stays so, in its row alone.
func TestGEMMF16Infinite(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	forVariants(t, gemmF16Variants, func(t *testing.T, target Target) {
		m, n, k := 7, 17, 40
		w := WeightsF32{Half: slices.Repeat([]uint16{0x3c00}, n*k), Clamp: NoClamp}
		w.Half[3*k+1], w.Half[4*k+1] = 0, 0xbc00 // columns 3 and 4 take 0 and -1 times the value
		kernel, err := PackGEMMF32(target, n, k, w)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range []float32{inf, -inf, nan, math.Float32frombits(0x7f800001)} {
			a, out := make([]float32, m*k), guard.Of[float32](t, m*n, true)
			for i := range a {
				a[i] = 1
			}
			a[2*k+1] = v
			kernel.Run(out, a, m, guard.Of[byte](t, kernel.Scratch(), true))
			for i, got := range out {
				want := float32(k)
				switch row, column := i/n, i%n; {
				case row == 2 && column == 3:
					want = nan
				case row == 2 && column == 4:
					want = -v
				case row == 2:
					want = v
				case column == 3:
					want--
				case column == 4:
					want -= 2
				}
				if got != want && (got == got || want == want) {
					t.Fatalf("%v: element %d, %d is %v, want %v", v, i/n, i%n, got, want)
				}
			}
		}
	})
}

// Random values and weights: the log has what tileHalf says of errors.
func TestGEMMF16Errors(t *testing.T) {
	forVariants(t, gemmF16Variants, func(t *testing.T, target Target) {
		r := seeded(12)
		m, n := 24, 64
		for _, k := range []int{32, 256, 1024} {
			w := WeightsF32{Half: make([]uint16, n*k), Clamp: NoClamp}
			for j := range w.Half {
				w.Half[j] = Float16Bits(float32(r.NormFloat64()))
			}
			a, out := randomF32(t, r, m*k, true), guard.Of[float32](t, m*n, true)
			kernel, err := PackGEMMF32(target, n, k, w)
			if err != nil {
				t.Fatal(err)
			}
			kernel.Run(out, a, m, guard.Of[byte](t, kernel.Scratch(), true))
			g, v := productShape(m, n, k), w.widened()
			closeF16(t, fmt.Sprint(k), g, a, nil, v, out)
			bound, most, errors, all := boundF16(g, a, nil, v), 0.0, 0.0, 0.0
			for i, want := range naiveF32(g, a, nil, v) {
				d := float64(out[i]) - float64(want)
				most = max(most, math.Abs(d)/bound[i])
				errors, all = errors+d*d, all+float64(want)*float64(want)
			}
			t.Logf("depth %d: off by %.3f of the bound at most, and by %.2g of the results in the mean of squares", k, most, math.Sqrt(errors/all))
		}
	})
}

// More rows than are staged at once give what they give one by one.
func TestGEMMF16Rows(t *testing.T) {
	forVariants(t, gemmF16Variants, func(t *testing.T, target Target) {
		r := seeded(11)
		m, n, k := 221, 19, 300
		w := WeightsF32{Half: make([]uint16, n*k), Clamp: Clamp{-3, 6}}
		for j := range w.Half {
			w.Half[j] = Float16Bits(float32(r.NormFloat64()))
		}
		a, out := randomF32(t, r, m*k, true), guard.Of[float32](t, m*n, true)
		kernel, err := PackGEMMF32(target, n, k, w)
		if err != nil {
			t.Fatal(err)
		}
		scratch := guard.Of[byte](t, kernel.Scratch(), true)
		kernel.Run(out, a, m, scratch)
		closeF16(t, "all", productShape(m, n, k), a, nil, w.widened(), out)
		more := randomF32(t, r, m*n, true)
		copy(out, more)
		kernel.RunAdd(out, a, out, m, scratch)
		closeF16(t, "all, more in place", productShape(m, n, k), a, more, w.widened(), out)
	})
}
