package kernels

import (
	"fmt"
	"testing"

	"dunlin/internal/guard"
)

// lengths are tails around the widths of vector registers.
var lengths = []int{1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65}

// productShape is a matrix product as a convolution of m pixels.
func productShape(m, n, k int) Geometry {
	return Geometry{
		N: 1, H: 1, W: m, C: k, OH: 1, OW: m, OC: n, KH: 1, KW: 1, StrideH: 1, StrideW: 1,
		DilationH: 1, DilationW: 1, Groups: 1,
	}
}

func checkGEMMInt8(t *testing.T, target Target) {
	r := seeded(3)
	for i, k := range lengths {
		for _, n := range lengths {
			m, end := 1+r.IntN(6), i%2 == 0
			g := productShape(m, n, k)
			w, a := randomWeights(t, r, g), randomInt8(t, r, m*k, end)
			kernel, err := PackGEMMInt8(target, n, k, w)
			if err != nil {
				t.Fatal(err)
			}
			what := fmt.Sprintf("%dx%dx%d", m, n, k)
			scratch := guard.Of[byte](t, kernel.Scratch(), true)
			out := guard.Of[int8](t, m*n, end)
			kernel.Run(out, a, m, scratch)
			same(t, what, out, naiveInt8(g, a, w))

			sums := guard.Of[int32](t, m*n, end)
			kernel.RunInt32(sums, a, m, scratch)
			for j, sum := range sums {
				if got := literal(sum, w.Out.Scale[j%n%len(w.Out.Scale)], w.Out); got != out[j] {
					t.Fatalf("%s: sum %d requantises to %d, not %d", what, sum, got, out[j])
				}
			}
			scale := randomF32(t, r, roundUp(n, 16), end)
			reals := guard.Of[float32](t, m*n, end)
			kernel.RunF32(reals, a, m, scale, scratch)
			for j, v := range reals {
				if want := float32(float32(sums[j]) * scale[j%n]); v != want {
					t.Fatalf("%s: real %v, want %v", what, v, want)
				}
			}
		}
	}
}

// A zero point that comes with the rows gives what a packed one does.
func TestGEMMInt8Dynamic(t *testing.T) {
	forVariants(t, gemmInt8Variants, func(t *testing.T, target Target) {
		r := seeded(5)
		for i, k := range lengths {
			for _, n := range lengths {
				m, end := 1+r.IntN(6), i%2 == 0
				w, a := randomWeights(t, r, productShape(m, n, k)), randomInt8(t, r, m*k, end)
				scale := randomF32(t, r, roundUp(n, 16), end)
				var out [2][]float32
				for j, zero := range []int8{w.InZero, int8(r.IntN(256) - 128)} {
					v := w
					v.InZero = zero
					kernel, err := PackGEMMInt8(target, n, k, v)
					if err != nil {
						t.Fatal(err)
					}
					out[j] = guard.Of[float32](t, m*n, end)
					if j == 0 {
						kernel.RunF32(out[j], a, m, scale, guard.Of[byte](t, kernel.Scratch(), true))
					} else {
						kernel.RunDynamic(out[j], a, m, w.InZero, scale, guard.Of[byte](t, kernel.DynamicScratch(), true))
					}
				}
				same(t, fmt.Sprintf("%dx%dx%d", m, n, k), out[1], out[0])
			}
		}
	})
}

// More rows than are computed at once, and panels of every width.
func TestGEMMInt8Large(t *testing.T) {
	forVariants(t, gemmInt8Variants, func(t *testing.T, target Target) {
		r := seeded(8)
		for _, s := range [][3]int{{1601, 5, 3}, {61, 130, 4099}, {100, 176, 31}} {
			m, n, k := s[0], s[1], s[2]
			g := productShape(m, n, k)
			w, a := randomWeights(t, r, g), randomInt8(t, r, m*k, true)
			out, want := guard.Of[int8](t, m*n, true), make([]int8, m*n)
			for _, c := range []struct {
				t   Target
				out []int8
			}{{target, out}, {Target{Tier: Generic}, want}} {
				kernel, err := PackGEMMInt8(c.t, n, k, w)
				if err != nil {
					t.Fatal(err)
				}
				kernel.Run(c.out, a, m, guard.Of[byte](t, kernel.Scratch(), true))
			}
			same(t, fmt.Sprint(s), out, want)
		}
	})
}

func checkGEMMF32(t *testing.T, target Target) {
	r := seeded(4)
	for i, k := range lengths {
		for _, n := range lengths {
			m, end := 1+r.IntN(48), i%2 == 0
			w := WeightsF32{W: randomF32(t, r, n*k, end), Bias: randomF32(t, r, n, end), Clamp: Clamp{0, 6}}
			a, out := randomF32(t, r, m*k, end), guard.Of[float32](t, m*n, end)
			kernel, err := PackGEMMF32(target, n, k, w)
			if err != nil {
				t.Fatal(err)
			}
			what, shape := fmt.Sprintf("%dx%dx%d", m, n, k), productShape(m, n, k)
			scratch := guard.Of[byte](t, kernel.Scratch(), true)
			kernel.Run(out, a, m, scratch)
			sameF32(t, target, what, shape, a, nil, w, out)
			more := randomF32(t, r, m*n, end)
			copy(out, more)
			kernel.RunAdd(out, a, out, m, scratch)
			sameF32(t, target, what+", more in place", shape, a, more, w, out)
		}
	}
}

// Every height of tile, what is left over after the tallest, and more rows than
// pass the weights at once.
func TestGEMMF32Rows(t *testing.T) {
	forVariants(t, gemmF32Variants, func(t *testing.T, target Target) {
		r := seeded(10)
		const n, k = 37, 9
		w := WeightsF32{W: randomF32(t, r, n*k, true), Bias: randomF32(t, r, n, true), Clamp: Clamp{-2, 2}}
		kernel, err := PackGEMMF32(target, n, k, w)
		if err != nil {
			t.Fatal(err)
		}
		scratch := guard.Of[byte](t, kernel.Scratch(), true)
		rows := []int{897, 1801}
		for m := range 45 {
			rows = append(rows, m+1)
		}
		for _, m := range rows {
			a, more, out := randomF32(t, r, m*k, true), randomF32(t, r, m*n, true), guard.Of[float32](t, m*n, true)
			kernel.RunAdd(out, a, more, m, scratch)
			sameF32(t, target, fmt.Sprint(m), productShape(m, n, k), a, more, w, out)
		}
	})
}

// A depth that is no multiple of any number of steps, and panels of every
// width.
func TestGEMMF32Large(t *testing.T) {
	forVariants(t, gemmF32Variants, func(t *testing.T, target Target) {
		r := seeded(11)
		for _, s := range [][3]int{{31, 130, 4099}, {100, 176, 31}} {
			m, n, k := s[0], s[1], s[2]
			if testing.Short() && k > 1000 {
				m = 7
			}
			w := WeightsF32{W: randomF32(t, r, n*k, true), Clamp: NoClamp}
			a, out := randomF32(t, r, m*k, true), guard.Of[float32](t, m*n, true)
			kernel, err := PackGEMMF32(target, n, k, w)
			if err != nil {
				t.Fatal(err)
			}
			kernel.Run(out, a, m, guard.Of[byte](t, kernel.Scratch(), true))
			sameF32(t, target, fmt.Sprint(s), productShape(m, n, k), a, nil, w, out)
		}
	})
}

// Weights in binary16 give what the float32 they stand for give.
func checkGEMMF16(t *testing.T, target Target) {
	r := seeded(9)
	for i, k := range lengths {
		for _, n := range lengths {
			m, end := 1+r.IntN(30), i%2 == 0
			w := WeightsF32{Half: guard.Of[uint16](t, n*k, end), Bias: randomF32(t, r, n, end), Clamp: NoClamp}
			for j := range w.Half {
				w.Half[j] = uint16(r.IntN(0x4400) | r.IntN(2)<<15) // up to 4, subnormal ones too
			}
			a, out := randomF32(t, r, m*k, end), guard.Of[float32](t, m*n, end)
			kernel, err := PackGEMMF32(target, n, k, w)
			if err != nil {
				t.Fatal(err)
			}
			kernel.Run(out, a, m, guard.Of[byte](t, kernel.Scratch(), true))
			what, g := fmt.Sprintf("%dx%dx%d", m, n, k), productShape(m, n, k)
			if target.Tier >= FP16 && !target.Exact {
				closeF16(t, what, g, a, nil, w.widened(), out)
			} else {
				sameF32(t, target, what, g, a, nil, w.widened(), out)
			}
		}
	}
}

// MatMulF32 sums in the order of GEMMF32.
func TestMatMulF32(t *testing.T) {
	r := seeded(5)
	for _, k := range lengths {
		m, n := 1+r.IntN(5), 1+r.IntN(9)
		a, w := randomF32(t, r, m*k, true), randomF32(t, r, n*k, true)
		b := make([]float32, k*n)
		for i := range n {
			for j := range k {
				b[j*n+i] = w[i*k+j]
			}
		}
		out := guard.Of[float32](t, m*n, true)
		MatMulF32(out, a, b, m, k, n)
		same(t, "product", out, naiveF32(productShape(m, n, k), a, nil, WeightsF32{W: w, Clamp: NoClamp}))
	}
}

func TestPackRefuses(t *testing.T) {
	q := Requant{Scale: []float32{1}, Min: -128, Max: 127}
	for name, err := range map[string]error{
		"weights": second(PackGEMMInt8(Target{}, 3, 4, WeightsInt8{W: make([]int8, 11), Out: q})),
		"bias":    second(PackGEMMInt8(Target{}, 3, 4, WeightsInt8{W: make([]int8, 12), Bias: make([]int32, 2), Out: q})),
		"zeros":   second(PackGEMMInt8(Target{}, 3, 4, WeightsInt8{W: make([]int8, 12), WZero: make([]int8, 2), Out: q})),
		"float":   second(PackGEMMF32(Target{}, 3, 4, WeightsF32{W: make([]float32, 11)})),
		"nothing": second(PackGEMMF32(Target{}, 0, 4, WeightsF32{})),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func second[T any](_ T, err error) error { return err }
