package kernels

import (
	"fmt"
	"testing"

	"dunlin/internal/guard"
)

// cuts calls f for the parts of all strips of g cut into two at each multiple
// of step.
func cuts(g *Geometry, step int, f func(from, to int)) {
	for at := step; at < g.Strips(); at += step {
		f(0, at)
		f(at, g.Strips())
	}
}

// strip checks that run, for a part of g with its own input and output on
// guarded memory, writes what stands there in the whole output.
func strip[T comparable](t *testing.T, g, part Geometry, from, at int, whole, in []T, run func(out, in []T)) {
	t.Helper()
	out := guard.Of[T](t, part.N*part.OH*part.OW*part.OC, true)
	run(out, guard.Copy(t, in[from:from+part.N*part.H*part.W*part.C], true))
	same(t, fmt.Sprintf("%+v of %+v", part, g), out, whole[at:at+len(out)])
}

func TestStripsOfConvInt8(t *testing.T) {
	forVariants(t, convInt8Variants, func(t *testing.T, target Target) {
		for i, g := range geometries() {
			r := seeded(uint64(i))
			k, err := PackConvInt8(target, g, randomWeights(t, r, g))
			if err != nil {
				t.Fatal(err)
			}
			in, whole := randomInt8(t, r, g.N*g.H*g.W*g.C, true), make([]int8, g.N*g.OH*g.OW*g.OC)
			k.Run(whole, in, guard.Of[byte](t, k.Scratch(), true))
			cuts(&g, 1, func(from, to int) {
				p, a, b := k.Strip(from, to)
				strip(t, g, p.Geometry, a, b, whole, in, func(out, in []int8) { p.Run(out, in, guard.Of[byte](t, p.Scratch(), true)) })
			})
		}
	})
}

func TestStripsOfConvF32(t *testing.T) {
	forVariants(t, convF32Variants, func(t *testing.T, target Target) {
		for i, g := range geometries() {
			r := seeded(uint64(i))
			w := WeightsF32{W: randomF32(t, r, g.OC*g.KH*g.KW*(g.C/g.Groups), true), Clamp: NoClamp}
			k, err := PackConvF32(target, g, w)
			if err != nil {
				t.Fatal(err)
			}
			in, whole := randomF32(t, r, g.N*g.H*g.W*g.C, true), make([]float32, g.N*g.OH*g.OW*g.OC)
			k.Run(whole, in, guard.Of[byte](t, k.Scratch(), true))
			cuts(&g, k.Step(), func(from, to int) {
				p, a, b := k.Strip(from, to)
				strip(t, g, p.Geometry, a, b, whole, in, func(out, in []float32) { p.Run(out, in, guard.Of[byte](t, p.Scratch(), true)) })
			})
		}
	})
}

func TestStripsOfDepthwiseInt8(t *testing.T) {
	forVariants(t, depthwiseInt8Variants, func(t *testing.T, target Target) {
		for i, g := range depthwises() {
			r := seeded(uint64(i))
			g.N = 1 + i%2
			k, err := PackDepthwiseInt8(target, g, randomWeights(t, r, g))
			if err != nil {
				t.Fatal(err)
			}
			in, whole := randomInt8(t, r, g.N*g.H*g.W*g.C, true), make([]int8, g.N*g.OH*g.OW*g.OC)
			k.Run(whole, in, guard.Of[byte](t, k.Scratch(), true))
			cuts(&g, 1, func(from, to int) {
				p, a, b := k.Strip(from, to)
				strip(t, g, p.Geometry, a, b, whole, in, func(out, in []int8) { p.Run(out, in, guard.Of[byte](t, p.Scratch(), true)) })
			})
		}
	})
}

func TestStripsOfDepthwiseF32(t *testing.T) {
	forVariants(t, depthwiseF32Variants, func(t *testing.T, target Target) {
		for i, g := range depthwises() {
			r := seeded(uint64(i))
			k, err := PackDepthwiseF32(target, g, WeightsF32{W: randomF32(t, r, g.C*g.KH*g.KW, true), Clamp: NoClamp})
			if err != nil {
				t.Fatal(err)
			}
			in, whole := randomF32(t, r, g.N*g.H*g.W*g.C, true), make([]float32, g.N*g.OH*g.OW*g.OC)
			k.Run(whole, in, guard.Of[byte](t, k.Scratch(), true))
			cuts(&g, 1, func(from, to int) {
				p, a, b := k.Strip(from, to)
				strip(t, g, p.Geometry, a, b, whole, in, func(out, in []float32) { p.Run(out, in, guard.Of[byte](t, p.Scratch(), true)) })
			})
		}
	})
}

func TestStripsOfPools(t *testing.T) {
	host, err := Host("")
	if err != nil {
		t.Fatal(err)
	}
	for i, g := range pools() {
		r := seeded(uint64(i))
		in, reals := randomInt8(t, r, g.N*g.H*g.W*g.C, true), randomF32(t, r, g.N*g.H*g.W*g.C, true)
		whole, realWhole := make([]int8, g.N*g.OH*g.OW*g.C), make([]float32, g.N*g.OH*g.OW*g.C)
		most, err := NewMaxPool(g)
		if err != nil {
			t.Fatal(err)
		}
		most.Use(host)
		most.Int8(whole, in)
		most.F32(realWhole, reals)
		cuts(&g, 1, func(from, to int) {
			p, a, b := most.Strip(from, to)
			strip(t, g, p.Geometry, a, b, whole, in, p.Int8)
			strip(t, g, p.Geometry, a, b, realWhole, reals, p.F32)
		})
		for _, countPad := range []bool{false, true} {
			mean, err := NewAveragePool(g, countPad, g.PadTop, g.PadLeft)
			if err != nil {
				t.Fatal(err)
			}
			if err := mean.Quantise(0.5, 3, 0.25, Requant{Zero: -4, Min: -100, Max: 100}); err != nil {
				t.Fatal(err)
			}
			mean.Use(host)
			scratch := guard.Of[byte](t, mean.Scratch(), true)
			mean.Int8(whole, in, scratch)
			mean.F32(realWhole, reals)
			cuts(&g, 1, func(from, to int) {
				p, a, b := mean.Strip(from, to)
				strip(t, g, p.Geometry, a, b, whole, in, func(out, in []int8) { p.Int8(out, in, scratch) })
				strip(t, g, p.Geometry, a, b, realWhole, reals, p.F32)
			})
		}
	}
}

func TestStripsOfTranspose(t *testing.T) {
	for _, c := range []struct{ shape, perm []int }{
		{[]int{5, 7}, []int{1, 0}},
		{[]int{1, 3, 9, 4}, []int{0, 2, 3, 1}},
		{[]int{2, 5, 4, 3}, []int{0, 3, 1, 2}},
		{[]int{6, 2, 3, 4}, []int{2, 0, 3, 1}},
		{[]int{4, 3}, []int{0, 1}},
	} {
		for _, size := range []int{1, 2, 4, 8} {
			tr, err := NewTranspose(size, c.shape, c.perm)
			if err != nil {
				t.Fatal(err)
			}
			in := guard.Of[byte](t, tr.total*size, true)
			for i := range in {
				in[i] = byte(i * 7)
			}
			whole := make([]byte, len(in))
			tr.Run(whole, in)
			for at := 1; at < tr.Strips(); at++ {
				for _, part := range [][2]int{{0, at}, {at, tr.Strips()}} {
					p, from, to := tr.Strip(part[0], part[1])
					out := guard.Of[byte](t, p.total*size, true)
					p.Run(out, in[from*size:])
					same(t, fmt.Sprint(c, size, part), out, whole[to*size:to*size+len(out)])
				}
			}
		}
	}
}

// columns checks a product or convolution cut into two at a panel: both parts
// together write what the whole does, and nothing else.
func columns[T comparable](t *testing.T, n, panel int, whole []T, run func(from, to int, out []T)) {
	t.Helper()
	for at := panel; at < n; at += panel {
		out := guard.Of[T](t, len(whole), true)
		run(0, at, out)
		run(at, n, out[at:])
		same(t, fmt.Sprintf("%d columns cut at %d", n, at), out, whole)
	}
}

func TestColumnsOfGEMM(t *testing.T) {
	forVariants(t, gemmInt8Variants, func(t *testing.T, target Target) {
		r := seeded(1)
		for _, n := range []int{130, 193, 64, 33, 6} {
			m, k := 1+r.IntN(9), 1+r.IntN(70)
			g, err := PackGEMMInt8(target, n, k, randomWeights(t, r, productShape(m, n, k)))
			if err != nil {
				t.Fatal(err)
			}
			a, whole := randomInt8(t, r, m*k, true), make([]int8, m*n)
			scratch := guard.Of[byte](t, g.Scratch(), true)
			g.Run(whole, a, m, scratch)
			columns(t, n, g.Panel(), whole, func(from, to int, out []int8) { g.Columns(from, to).Run(out, a, m, scratch) })
			sums := make([]int32, m*n)
			g.RunInt32(sums, a, m, scratch)
			columns(t, n, g.Panel(), sums, func(from, to int, out []int32) { g.Columns(from, to).RunInt32(out, a, m, scratch) })
			scale, reals := randomF32(t, r, roundUp(n, 16), true), make([]float32, m*n)
			g.RunF32(reals, a, m, scale, scratch)
			columns(t, n, g.Panel(), reals, func(from, to int, out []float32) {
				g.Columns(from, to).RunF32(out, a, m, scale[from:], scratch)
			})
			more := guard.Of[byte](t, g.DynamicScratch(), true)
			g.RunDynamic(reals, a, m, -7, scale, more)
			columns(t, n, g.Panel(), reals, func(from, to int, out []float32) {
				g.Columns(from, to).RunDynamic(out, a, m, -7, scale[from:], more)
			})
		}
	})
}

func TestColumnsOfGEMMF32(t *testing.T) {
	for name, rows := range map[string][]variant[gemmF32Tier]{"f32": gemmF32Variants, "f16": gemmF16Variants} {
		t.Run(name, func(t *testing.T) {
			forVariants(t, rows, func(t *testing.T, target Target) {
				r := seeded(2)
				for _, n := range []int{130, 193, 64, 33, 6} {
					m, k := 1+r.IntN(9), 1+r.IntN(70)
					w := WeightsF32{W: randomF32(t, r, n*k, true), Bias: randomF32(t, r, n, true), Clamp: Clamp{-2, 2}}
					if name == "f16" {
						w.W, w.Half = nil, make([]uint16, n*k)
						for i := range w.Half {
							w.Half[i] = uint16(r.IntN(0x4400))
						}
					}
					g, err := PackGEMMF32(target, n, k, w)
					if err != nil {
						t.Fatal(err)
					}
					a, whole := randomF32(t, r, m*k, true), make([]float32, m*n)
					scratch := guard.Of[byte](t, g.Scratch(), true)
					g.Run(whole, a, m, scratch)
					columns(t, n, g.Panel(), whole, func(from, to int, out []float32) { g.Columns(from, to).Run(out, a, m, scratch) })
				}
			})
		})
	}
}

// Rows that begin at a multiple of Step are the same bits alone.
func TestRowsOfGEMMF32(t *testing.T) {
	forVariants(t, gemmF32Variants, func(t *testing.T, target Target) { testRows(t, target, false, 7, 13, 24, 31, 45, 300, 901, 1000) })
}

func TestRowsOfGEMMF16(t *testing.T) {
	forVariants(t, gemmF16Variants, func(t *testing.T, target Target) { testRows(t, target, true, 7, 13, 31, 300) })
}

func testRows(t *testing.T, target Target, half bool, lengths ...int) {
	t.Helper()
	r := seeded(3)
	for _, m := range lengths {
		n, k := 1+r.IntN(99), 1+r.IntN(700)
		w := WeightsF32{W: randomF32(t, r, n*k, true), Clamp: NoClamp}
		if half {
			w.Half = make([]uint16, n*k)
			for i, v := range w.W {
				w.Half[i] = Float16Bits(v)
			}
			w.W = nil
		}
		g, err := PackGEMMF32(target, n, k, w)
		if err != nil {
			t.Fatal(err)
		}
		a, whole, out := randomF32(t, r, m*k, true), make([]float32, m*n), make([]float32, m*n)
		scratch := guard.Of[byte](t, g.Scratch(), true)
		g.Run(whole, a, m, scratch)
		step := g.Step(m)
		for at := step; at <= m-step; at += max(step, m/5/step*step) {
			g.Run(out, a, at, scratch)
			g.Run(out[at*n:], a[at*k:], m-at, scratch)
			same(t, fmt.Sprint(m, n, k, at), out, whole)
		}
	}
}

func TestColumnsOfConv(t *testing.T) {
	g := Geometry{N: 2, H: 9, W: 11, C: 5, OC: 150, KH: 3, KW: 3, OH: 9, OW: 11, StrideH: 1, StrideW: 1, DilationH: 1, DilationW: 1, PadTop: 1, PadLeft: 1, Groups: 1}
	forVariants(t, convInt8Variants, func(t *testing.T, target Target) {
		r := seeded(4)
		for range 4 {
			k, err := PackConvInt8(target, g, randomWeights(t, r, g))
			if err != nil {
				t.Fatal(err)
			}
			in, whole, scratch := randomInt8(t, r, g.N*g.H*g.W*g.C, true), make([]int8, g.N*g.OH*g.OW*g.OC), guard.Of[byte](t, k.Scratch(), true)
			k.Run(whole, in, scratch)
			columns(t, g.OC, k.Panel(), whole, func(from, to int, out []int8) { k.Columns(from, to).Run(out, in, scratch) })
		}
	})
	forVariants(t, convF32Variants, func(t *testing.T, target Target) {
		r := seeded(5)
		k, err := PackConvF32(target, g, WeightsF32{W: randomF32(t, r, g.OC*9*g.C, true), Bias: randomF32(t, r, g.OC, true), Clamp: NoClamp})
		if err != nil {
			t.Fatal(err)
		}
		in, whole, scratch := randomF32(t, r, g.N*g.H*g.W*g.C, true), make([]float32, g.N*g.OH*g.OW*g.OC), guard.Of[byte](t, k.Scratch(), true)
		k.Run(whole, in, scratch)
		columns(t, g.OC, k.Panel(), whole, func(from, to int, out []float32) { k.Columns(from, to).Run(out, in, scratch) })
	})
}
