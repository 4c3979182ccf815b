package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"dunlin/internal/guard"
)

// blockLengths are lengths around the blocks of the loops: 32 and 64 values.
var blockLengths = []int{0, 1, 31, 32, 33, 63, 64, 65, 100, 128, 200, 257}

func checkAddInt8(t *testing.T, target Target) {
	for i, n := range blockLengths {
		r, end := seeded(uint64(n)), i%2 == 0
		q := Requant{Zero: int32(r.IntN(256) - 128), Min: int8(r.IntN(128) - 128), Max: int8(r.IntN(128))}
		a, b := randomInt8(t, r, n, end), randomInt8(t, r, n, !end)
		ma, za, mb, zb := r.Float32()*2, int8(r.IntN(256)-128), r.Float32()*2, int8(r.IntN(256)-128)
		out := [2][]int8{guard.Of[int8](t, n, end), make([]int8, n)}
		for j, to := range []Target{target, {}} {
			k, err := PackAddInt8(to, ma, za, mb, zb, q)
			if err != nil {
				t.Fatal(err)
			}
			k.Run(out[j], a, b)
		}
		same(t, fmt.Sprint(n), out[0], out[1])
	}
}

// wildF32 are values of every kind: ties, huge ones, infinities, NaN.
func wildF32(t testing.TB, r *rand.Rand, n int, end bool) []float32 {
	s := randomF32(t, r, n, end)
	for i := range s {
		switch r.IntN(8) {
		case 0:
			s[i] = math.Float32frombits(r.Uint32())
		case 1:
			s[i] = float32(r.IntN(40)) + 0.5
		case 2:
			s[i] *= 1e12
		}
	}
	return s
}

func checkQuantize[T int8 | uint8](t *testing.T, target Target) {
	for i, n := range blockLengths {
		r, end := seeded(uint64(n)), i%2 == 0
		in, scale, zero := wildF32(t, r, n, end), r.Float32()+0.01, T(r.Uint32())
		out, want := guard.Of[T](t, n, end), make([]T, n)
		tier, quantize := Quantizer[T](target)
		if tier != target.Tier {
			t.Fatalf("tier %v", tier)
		}
		quantize(out, in, scale, zero)
		Quantize(want, in, scale, zero)
		same(t, fmt.Sprint(n), out, want)
	}
}

func checkQuantizePlanes(t *testing.T, target Target) {
	for channels := 1; channels <= MaxPlanes+1; channels++ {
		for i, pixels := range append([]int{7, 8, 9, 15, 16, 17, 47, 48, 600}, blockLengths...) {
			r, end, n := seeded(uint64(pixels)), i%2 == 0, pixels*channels
			in, scale, zero := wildF32(t, r, n, end), r.Float32()+0.01, int8(r.Uint32())
			out, line, want := guard.Of[int8](t, n, end), make([]int8, n), make([]int8, n)
			tier, quantize := QuantizePlanes(target)
			if tier != target.Tier {
				t.Fatalf("tier %v", tier)
			}
			quantize(out, in, channels, scale, zero)
			Quantize(line, in, scale, zero)
			for j, v := range line {
				want[j%pixels*channels+j/pixels] = v
			}
			same(t, fmt.Sprintf("%d planes of %d", channels, pixels), out, want)
		}
	}
}

func checkDequantize[T int8 | uint8 | int32](t *testing.T, target Target) {
	for i, n := range blockLengths {
		r, end := seeded(uint64(n)), i%2 == 0
		in := guard.Of[T](t, n, end)
		for j := range in {
			in[j] = T(int32(r.Uint32()) >> r.IntN(31))
		}
		scale, zero := r.Float32(), T(r.Uint32())
		out, want := guard.Of[float32](t, n, !end), make([]float32, n)
		tier, dequantize := Dequantizer[T](target)
		if tier != target.Tier {
			t.Fatalf("tier %v", tier)
		}
		dequantize(out, in, scale, zero)
		Dequantize(want, in, scale, zero)
		same(t, fmt.Sprint(n), out, want)
	}
}

// paddedPool has windows of padding alone.
var paddedPool = Geometry{
	N: 2, H: 3, W: 3, C: 67, OC: 67, KH: 2, KW: 2, PadTop: 4, PadLeft: 4, OH: 8, OW: 8, StrideH: 1, StrideW: 1, DilationH: 1, DilationW: 1, Groups: 1,
}

func checkMaxPoolInt8(t *testing.T, target Target) {
	for i, g := range append(pools(), paddedPool) {
		p, err := NewMaxPool(g)
		if err != nil {
			t.Fatal(err)
		}
		r, end := seeded(uint64(i)), i%2 == 0
		in, out, want := randomInt8(t, r, g.N*g.H*g.W*g.C, end), guard.Of[int8](t, g.N*g.OH*g.OW*g.C, end), make([]int8, g.N*g.OH*g.OW*g.C)
		p.Int8(want, in)
		p.Use(target)
		if p.Tier() != target.Tier {
			t.Fatalf("tier %v", p.Tier())
		}
		p.Int8(out, in)
		same(t, fmt.Sprintf("%+v", g), out, want)
	}
}

func checkAveragePoolInt8(t *testing.T, target Target) {
	for i, g := range append(pools(), paddedPool) {
		p, err := NewAveragePool(g, false, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		r, end := seeded(uint64(i)), i%2 == 0
		if err := p.Quantise(0.3, int8(r.IntN(256)-128), 0.2, Requant{Zero: int32(r.IntN(256) - 128), Min: int8(r.IntN(128) - 128), Max: int8(r.IntN(128))}); err != nil {
			t.Fatal(err)
		}
		in, out, want := randomInt8(t, r, g.N*g.H*g.W*g.C, end), guard.Of[int8](t, g.N*g.OH*g.OW*g.C, end), make([]int8, g.N*g.OH*g.OW*g.C)
		scratch := guard.Of[byte](t, p.Scratch(), true)
		p.Int8(want, in, scratch)
		p.Use(target)
		p.Int8(out, in, scratch)
		same(t, fmt.Sprintf("%+v", g), out, want)
	}
}

func checkMaxPoolF32(t *testing.T, target Target) {
	for i, g := range append(pools(), paddedPool) {
		p, err := NewMaxPool(g)
		if err != nil {
			t.Fatal(err)
		}
		r, end := seeded(uint64(i)), i%2 == 0
		in, out, want := oddF32(t, r, g.N*g.H*g.W*g.C, end), guard.Of[float32](t, g.N*g.OH*g.OW*g.C, end), make([]float32, g.N*g.OH*g.OW*g.C)
		p.F32(want, in)
		p.Use(target)
		p.F32(out, in)
		sameBits(t, fmt.Sprintf("%+v", g), out, want)
	}
}

func checkAveragePoolF32(t *testing.T, target Target) {
	for i, g := range append(pools(), paddedPool) {
		for _, countPad := range []bool{false, true} {
			p, err := NewAveragePool(g, countPad, g.PadTop, g.PadLeft)
			if err != nil {
				t.Fatal(err)
			}
			r, end := seeded(uint64(i)), i%2 == 0
			in, out, want := oddF32(t, r, g.N*g.H*g.W*g.C, end), guard.Of[float32](t, g.N*g.OH*g.OW*g.C, end), make([]float32, g.N*g.OH*g.OW*g.C)
			p.F32(want, in)
			p.Use(target)
			p.F32(out, in)
			sameBits(t, fmt.Sprintf("%+v", g), out, want)
		}
	}
}

// What the kernels keep per run is in the caller's scratch: nothing is
// allocated, whatever the tier.
func TestRunsAllocateNothing(t *testing.T) {
	for _, tier := range hostTiers() {
		target := Target{Tier: tier}
		r, g := seeded(1), square(9, 33, 33, 3, 1, 1)
		d := square(9, 33, 33, 3, 1, 33)
		in, out, reals, realOut := benchInt8(g.H*g.W*g.C), make([]int8, g.OH*g.OW*g.OC), benchF32(g.H*g.W*g.C), make([]float32, g.OH*g.OW*g.OC)
		conv, err := PackConvInt8(target, g, randomWeights(t, r, g))
		gemm, err1 := PackGEMMInt8(target, 33, 33, randomWeights(t, r, productShape(1, 33, 33)))
		depth, err2 := PackDepthwiseInt8(target, d, randomWeights(t, r, d))
		convF, err3 := PackConvF32(target, g, WeightsF32{W: benchF32(g.OC * g.taps() * g.C), Clamp: NoClamp})
		gemmF, err4 := PackGEMMF32(target, 33, 33, WeightsF32{W: benchF32(33 * 33), Clamp: NoClamp})
		depthF, err5 := PackDepthwiseF32(target, d, WeightsF32{W: benchF32(d.C * d.taps()), Clamp: NoClamp})
		add, err6 := PackAddInt8(target, 1, 0, 1, 0, Requant{Min: -128, Max: 127})
		pool, err7 := NewMaxPool(d)
		for _, err := range []error{err, err1, err2, err3, err4, err5, err6, err7} {
			if err != nil {
				t.Fatal(err)
			}
		}
		pool.Use(target)
		_, quantize := Quantizer[int8](target)
		rows, err := NewBroadcast([]int{3, 33}, []int{33})
		if err != nil {
			t.Fatal(err)
		}
		_, sum := BinaryF32(target, OpAdd, rows)
		_, relu := UnaryF32(target, OpClip, 0, 6)
		_, planes := QuantizePlanes(target)
		scratch := make([]byte, max(conv.Scratch(), gemm.Scratch(), depth.Scratch(), convF.Scratch(), gemmF.Scratch(), depthF.Scratch()))
		if n := testing.AllocsPerRun(3, func() {
			conv.Run(out, in, scratch)
			gemm.Run(out, in, g.H*g.W, scratch)
			depth.Run(out, in, scratch)
			convF.Run(realOut, reals, scratch)
			gemmF.Run(realOut, reals, g.H*g.W, scratch)
			depthF.Run(realOut, reals, scratch)
			add.Run(out, in, in)
			pool.Int8(out, in)
			pool.F32(realOut, reals)
			sum(realOut[:99], reals, reals)
			relu(realOut[:99], reals[:99])
			quantize(out, reals, 1, 0)
			planes(out, reals, 3, 1, 0)
		}); n != 0 {
			t.Errorf("%v: %v allocations", tier, n)
		}
	}
}

// A CPU with AVX-512 need not have AVX-VNNI: where there is a variant of the
// lower tier there is one of the higher, so that pick never falls back to it.
func TestTiersStandAlone(t *testing.T) {
	standAlone(t, "gemm", gemmInt8Variants)
	standAlone(t, "conv", convInt8Variants)
	standAlone(t, "depthwise", depthwiseInt8Variants)
	standAlone(t, "add", addInt8Variants)
}

func standAlone[F any](t *testing.T, name string, rows []variant[F]) {
	low, high := false, false
	for _, r := range rows {
		low, high = low || r.tier == AVXVNNI, high || r.tier == AVX512
	}
	if low && !high {
		t.Errorf("%s has avxvnni and no avx512", name)
	}
}
