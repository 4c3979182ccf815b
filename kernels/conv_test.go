package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"dunlin/internal/guard"
)

// geometries are shapes with odd tails everywhere: channels, pixels, pads.
func geometries() []Geometry {
	list := []Geometry{
		{N: 1, H: 1, W: 1, C: 1, OC: 1, KH: 1, KW: 1},
		{N: 1, H: 5, W: 7, C: 3, OC: 5, KH: 3, KW: 3, PadTop: 1, PadLeft: 1, OH: 5, OW: 7},
		{N: 2, H: 6, W: 5, C: 4, OC: 9, KH: 3, KW: 2, StrideH: 2, StrideW: 1, PadTop: 1, OH: 3, OW: 4},
		{N: 1, H: 9, W: 9, C: 2, OC: 3, KH: 3, KW: 3, DilationH: 2, DilationW: 3, OH: 5, OW: 3},
		{N: 1, H: 8, W: 8, C: 6, OC: 4, KH: 3, KW: 3, Groups: 2, StrideH: 2, StrideW: 2, OH: 4, OW: 4, PadTop: 1, PadLeft: 1},
		{N: 1, H: 4, W: 4, C: 5, OC: 10, KH: 3, KW: 3, Groups: 5, OH: 2, OW: 2},
		{N: 1, H: 3, W: 3, C: 8, OC: 16, KH: 5, KW: 5, PadTop: 2, PadLeft: 2, OH: 3, OW: 3},
		{N: 1, H: 2, W: 3, C: 70, OC: 33, KH: 1, KW: 1, OH: 2, OW: 3},
		{N: 1, H: 3, W: 3, C: 2, OC: 2, KH: 2, KW: 2, PadTop: 4, PadLeft: 4, OH: 8, OW: 8},     // windows of padding alone
		{N: 2, H: 23, W: 21, C: 3, OC: 7, KH: 3, KW: 3, PadTop: 1, PadLeft: 1, OH: 23, OW: 21}, // more pixels than are computed at once
		{N: 1, H: 41, W: 9, C: 6, OC: 20, KH: 5, KW: 3, StrideH: 2, StrideW: 3, DilationH: 3, PadTop: 7, PadLeft: 1, OH: 22, OW: 3},
	}
	for _, c := range [][3]int{{8, 8, 2}, {32, 32, 8}, {20, 20, 5}, {64, 32, 16}, {12, 24, 6}, {24, 24, 3}, {64, 64, 4}, {36, 18, 9}} { // narrow groups, that are joined
		list = append(list, square(9, c[0], c[1], 3, 1, c[2]), square(12, c[0], c[1], 3, 2, c[2]))
	}
	for i := range list {
		g := &list[i]
		for _, v := range []*int{&g.OH, &g.OW, &g.StrideH, &g.StrideW, &g.DilationH, &g.DilationW, &g.Groups} {
			*v = max(*v, 1)
		}
	}
	return list
}

// depthwises are shapes for depthwise convolutions.
func depthwises() []Geometry {
	var list []Geometry
	for _, c := range []int{1, 2, 3, 7, 8, 15, 16, 17, 33} {
		for _, stride := range []int{1, 2} {
			for _, k := range []int{1, 3, 5} {
				g := Geometry{
					N: 1, H: 7, W: 6, C: c, OC: c, KH: k, KW: k, Groups: c, StrideH: stride, StrideW: stride,
					DilationH: 1, DilationW: 1, PadTop: k / 2, PadLeft: k / 2,
				}
				g.OH, g.OW = (7-1)/stride+1, (6-1)/stride+1
				list = append(list, g)
			}
		}
	}
	for _, c := range []int{40, 64, 65, 130} { // more than a block of channels, more rows than are computed at once
		list = append(list, square(19, c, c, 3, 1, c), square(19, c, c, 5, 2, c), square(9, c, c, 3, 2, c))
	}
	for _, c := range []int{1, 8, 13, 16, 30, 32} { // a block has room for the channels of 2, 4 or 8 pixels
		g := square(16, c, c, 3, 1, c)
		g.N, g.H, g.OH = 2, 9, 9
		list = append(list, g, square(12, c, c, 3, 1, c), square(10, c, c, 5, 1, c))
	}
	return list
}

// visitTaps calls f for each output pixel and channel, with the indices of
// the input and weight of each tap; in is -1 for padding.
func visitTaps(g Geometry, f func(out, oc int, taps [][2]int)) {
	cg, og := g.C/g.Groups, g.OC/g.Groups
	for n := range g.N {
		for oy := range g.OH {
			for ox := range g.OW {
				for oc := range g.OC {
					var taps [][2]int
					for ky := range g.KH {
						for kx := range g.KW {
							y, x := oy*g.StrideH+ky*g.DilationH-g.PadTop, ox*g.StrideW+kx*g.DilationW-g.PadLeft
							for c := range cg {
								in := ((n*g.H+y)*g.W+x)*g.C + oc/og*cg + c
								if y < 0 || y >= g.H || x < 0 || x >= g.W {
									in = -1
								}
								taps = append(taps, [2]int{in, ((oc*g.KH+ky)*g.KW+kx)*cg + c})
							}
						}
					}
					f(((n*g.OH+oy)*g.OW+ox)*g.OC+oc, oc, taps)
				}
			}
		}
	}
}

// naiveInt8 is a convolution, a product or a depthwise convolution, as the
// comment of ConvInt8 says, with nothing clever.
func naiveInt8(g Geometry, in []int8, w WeightsInt8) []int8 {
	out := make([]int8, g.N*g.OH*g.OW*g.OC)
	visitTaps(g, func(o, oc int, taps [][2]int) {
		sum := int32(0)
		if w.Bias != nil {
			sum = w.Bias[oc]
		}
		for _, tap := range taps {
			zero := int32(0)
			if w.WZero != nil {
				zero = int32(w.WZero[oc])
			}
			if tap[0] >= 0 {
				sum += (int32(in[tap[0]]) - int32(w.InZero)) * (int32(w.W[tap[1]]) - zero)
			}
		}
		out[o] = literal(sum, w.Out.Scale[oc%len(w.Out.Scale)], w.Out)
	})
	return out
}

// naiveF32 adds more, where it is not nil, last.
func naiveF32(g Geometry, in, more []float32, w WeightsF32) []float32 {
	out := make([]float32, g.N*g.OH*g.OW*g.OC)
	visitTaps(g, func(o, oc int, taps [][2]int) {
		sum := float32(0)
		if w.Bias != nil {
			sum = w.Bias[oc]
		}
		for _, tap := range taps {
			x := float32(0)
			if tap[0] >= 0 {
				x = in[tap[0]]
			}
			sum += float32(x * w.W[tap[1]])
		}
		if more != nil {
			sum += more[o]
		}
		out[o] = min(max(sum, w.Min), w.Max)
	})
	return out
}

// boundF32 returns how far a sum that fuses and reorders may be from naiveF32:
// each of both is at most γ*Σ|terms| from the true sum, γ = n*u/(1-n*u) for n
// roundings of unit u = 2^-24 (Higham, Accuracy and Stability of Numerical
// Algorithms, 2nd ed., section 3.1). Bounding a result keeps differences small.
func boundF32(g Geometry, in, more []float32, w WeightsF32) []float64 {
	bound := make([]float64, g.N*g.OH*g.OW*g.OC)
	visitTaps(g, func(o, oc int, taps [][2]int) {
		sum := 0.0
		if w.Bias != nil {
			sum = math.Abs(float64(w.Bias[oc]))
		}
		for _, tap := range taps {
			if tap[0] >= 0 {
				sum += math.Abs(float64(in[tap[0]]) * float64(w.W[tap[1]]))
			}
		}
		if more != nil {
			sum += math.Abs(float64(more[o]))
		}
		nu := float64(len(taps)+2) / (1 << 24)
		bound[o] = 2 * nu / (1 - nu) * sum
	})
	return bound
}

// sameF32 checks a result of float32: all bits of an exact variant's, the
// bound of a fast one's.
func sameF32(t testing.TB, target Target, what string, g Geometry, in, more []float32, w WeightsF32, got []float32) {
	t.Helper()
	want := naiveF32(g, in, more, w)
	if target.Exact {
		same(t, what, got, want)
		return
	}
	for i, limit := range boundF32(g, in, more, w) {
		if d := math.Abs(float64(got[i]) - float64(want[i])); !(d <= limit) {
			t.Fatalf("%s: element %d of %d is %v, want %v within %g", what, i, len(want), got[i], want[i], limit)
		}
	}
}

// randomWeights returns weights for g, with and without what is optional.
func randomWeights(t testing.TB, r *rand.Rand, g Geometry) WeightsInt8 {
	depth := g.KH * g.KW * (g.C / g.Groups)
	w := WeightsInt8{InZero: int8(r.IntN(256) - 128), W: randomInt8(t, r, g.OC*depth, true), Out: randomRequant(r, g.OC, 40*depth)}
	if r.IntN(2) == 0 {
		w.Bias = randomInt32(r, g.OC, 100_000)
	}
	switch r.IntN(4) {
	case 0:
		w.WZero = randomInt8(t, r, g.OC, true)
	case 1:
		w.WZero = slices.Repeat([]int8{int8(r.IntN(256) - 128)}, g.OC)
	}
	if r.IntN(3) == 0 {
		w.Out.Scale = w.Out.Scale[:1]
	}
	return w
}

func checkConvInt8(t *testing.T, target Target) {
	for i, g := range geometries() {
		for _, end := range []bool{false, true} {
			testConvInt8(t, target, seeded(uint64(i)), g, end)
		}
	}
}

func testConvInt8(t *testing.T, target Target, r *rand.Rand, g Geometry, end bool) {
	t.Helper()
	w, in := randomWeights(t, r, g), randomInt8(t, r, g.N*g.H*g.W*g.C, end)
	k, err := PackConvInt8(target, g, w)
	if err != nil {
		t.Fatal(err)
	}
	out := guard.Of[int8](t, g.N*g.OH*g.OW*g.OC, end)
	k.Run(out, in, guard.Of[byte](t, k.Scratch(), end))
	same(t, fmt.Sprintf("%+v", g), out, naiveInt8(g, in, w))
}

// FuzzConvInt8 tries shapes that nobody thought of.
func FuzzConvInt8(f *testing.F) {
	f.Add(uint64(1), []byte{5, 7, 3, 5, 3, 3, 1, 1, 1, 1, 1, 1})
	f.Add(uint64(2), []byte{9, 9, 4, 8, 2, 3, 2, 2, 2, 1, 0, 3})
	f.Fuzz(func(t *testing.T, seed uint64, b []byte) {
		if len(b) < 12 {
			return
		}
		at := func(i, limit int) int { return int(b[i])%limit + 1 }
		g := Geometry{
			N: 1, H: at(0, 12), W: at(1, 12), KH: at(4, 4), KW: at(5, 4), StrideH: at(6, 3), StrideW: at(7, 3),
			DilationH: at(8, 2), DilationW: at(9, 2), PadTop: at(10, 4) - 1, PadLeft: at(10, 4) - 1, Groups: at(11, 3),
		}
		g.C, g.OC = at(2, 9)*g.Groups, at(3, 9)*g.Groups
		g.OH, g.OW = at(0, 12), at(1, 12)
		host, err := Host("")
		if err != nil {
			t.Fatal(err)
		}
		testConvInt8(t, host, seeded(seed), g, seed%2 == 0)
	})
}

func checkConvF32(t *testing.T, target Target) {
	for i, g := range geometries() {
		r, end := seeded(uint64(i)), i%2 == 0
		depth := g.KH * g.KW * (g.C / g.Groups)
		in := randomF32(t, r, g.N*g.H*g.W*g.C, end)
		w := WeightsF32{W: randomF32(t, r, g.OC*depth, end), Bias: randomF32(t, r, g.OC, end), Clamp: Clamp{-3, 3}}
		if i%3 == 0 {
			w.Bias, w.Clamp = nil, NoClamp
		}
		k, err := PackConvF32(target, g, w)
		if err != nil {
			t.Fatal(err)
		}
		out := guard.Of[float32](t, g.N*g.OH*g.OW*g.OC, end)
		scratch := guard.Of[byte](t, k.Scratch(), end)
		k.Run(out, in, scratch)
		sameF32(t, target, fmt.Sprintf("%+v", g), g, in, nil, w, out)
		more := randomF32(t, r, len(out), end)
		k.RunAdd(out, in, more, scratch)
		sameF32(t, target, fmt.Sprintf("%+v, more", g), g, in, more, w, out)
		w.W, w.Bias = randomF32(t, r, g.OC*depth, end), randomF32(t, r, g.OC, end)
		k.Repack(w.W, w.Bias)
		k.Run(out, in, scratch)
		sameF32(t, target, fmt.Sprintf("%+v, other weights", g), g, in, nil, w, out)
		if n := testing.AllocsPerRun(1, func() { k.Repack(w.W, w.Bias) }); n != 0 {
			t.Fatalf("%v allocations to repack", n)
		}
	}
}

func checkDepthwiseInt8(t *testing.T, target Target) {
	for i, g := range depthwises() {
		r, end := seeded(uint64(i)), i%2 == 0
		w, in := randomWeights(t, r, g), randomInt8(t, r, g.N*g.H*g.W*g.C, end)
		k, err := PackDepthwiseInt8(target, g, w)
		if err != nil {
			t.Fatal(err)
		}
		out := guard.Of[int8](t, g.N*g.OH*g.OW*g.C, end)
		k.Run(out, in, guard.Of[byte](t, k.Scratch(), true))
		same(t, fmt.Sprintf("%+v", g), out, naiveInt8(g, in, w))
	}
}

func checkDepthwiseF32(t *testing.T, target Target) {
	for i, g := range depthwises() {
		r, end := seeded(uint64(i)), i%2 == 0
		in := randomF32(t, r, g.N*g.H*g.W*g.C, end)
		w := WeightsF32{W: randomF32(t, r, g.C*g.KH*g.KW, end), Bias: randomF32(t, r, g.C, end), Clamp: Clamp{0, 6}}
		k, err := PackDepthwiseF32(target, g, w)
		if err != nil {
			t.Fatal(err)
		}
		out := guard.Of[float32](t, g.N*g.OH*g.OW*g.C, end)
		k.Run(out, in, guard.Of[byte](t, k.Scratch(), true))
		sameF32(t, target, fmt.Sprintf("%+v", g), g, in, nil, w, out)
	}
}

// A geometry from a file can hold any number.
func TestGeometryCheck(t *testing.T) {
	good := geometries()[1]
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Geometry){
		"no batch":      func(g *Geometry) { g.N = 0 },
		"stride 0":      func(g *Geometry) { g.StrideH = 0 },
		"dilation":      func(g *Geometry) { g.DilationW = -1 },
		"padding":       func(g *Geometry) { g.PadTop = -1 },
		"groups":        func(g *Geometry) { g.Groups = 2 },
		"huge window":   func(g *Geometry) { g.OH, g.KH = 1<<20, 1<<20 },
		"huge channels": func(g *Geometry) { g.C = maxAxis + 1 },
	} {
		g := good
		spoil(&g)
		if g.Check() == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := PackConvInt8(Target{}, g, WeightsInt8{}); err == nil {
			t.Errorf("%s: packed", name)
		}
	}
}
