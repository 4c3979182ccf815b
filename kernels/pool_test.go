package kernels

import (
	"fmt"
	"math"
	"testing"

	"dunlin/internal/guard"
)

// pools are depthwise shapes whose windows never lie in padding alone.
func pools() []Geometry {
	list := depthwises()
	return append(list, Geometry{
		N: 2, H: 5, W: 4, C: 3, OC: 3, KH: 5, KW: 4, OH: 1, OW: 1, StrideH: 1, StrideW: 1, DilationH: 1, DilationW: 1, Groups: 3,
	})
}

func TestMaxPool(t *testing.T) {
	for i, g := range pools() {
		r, end := seeded(uint64(i)), i%2 == 0
		p, err := NewMaxPool(g)
		if err != nil {
			t.Fatal(err)
		}
		in, out := randomInt8(t, r, g.N*g.H*g.W*g.C, end), guard.Of[int8](t, g.N*g.OH*g.OW*g.C, end)
		reals, realOut := make([]float32, len(in)), make([]float32, len(out))
		for j, v := range in {
			reals[j] = float32(v)
		}
		want, wantReal := make([]int8, len(out)), make([]float32, len(out))
		visitTaps(g, func(o, _ int, taps [][2]int) {
			most := int8(math.MinInt8)
			for _, tap := range taps {
				if tap[0] >= 0 {
					most = max(most, in[tap[0]])
				}
			}
			want[o], wantReal[o] = most, float32(most)
		})
		p.Int8(out, in)
		p.F32(realOut, reals)
		same(t, fmt.Sprintf("%+v", g), out, want)
		same(t, fmt.Sprintf("%+v", g), realOut, wantReal)
	}
}

func TestAveragePool(t *testing.T) {
	for i, g := range pools() {
		for _, countPad := range []bool{false, true} {
			testAveragePool(t, g, uint64(i), countPad)
		}
	}
}

func testAveragePool(t *testing.T, g Geometry, seed uint64, countPad bool) {
	r := seeded(seed)
	p, err := NewAveragePool(g, countPad, g.PadTop, g.PadLeft)
	if err != nil {
		t.Fatal(err)
	}
	out := Requant{Zero: int32(r.IntN(100) - 50), Min: -100, Max: 100}
	inZero := int8(r.IntN(256) - 128)
	if err := p.Quantise(0.5, inZero, 0.25, out); err != nil {
		t.Fatal(err)
	}
	in, got := randomInt8(t, r, g.N*g.H*g.W*g.C, true), guard.Of[int8](t, g.N*g.OH*g.OW*g.C, true)
	reals := randomF32(t, r, len(in), true)
	want, wantReal := make([]int8, len(got)), make([]float32, len(got))
	visitTaps(g, func(o, _ int, taps [][2]int) {
		n, sum, real := int32(0), int32(0), float32(0)
		for _, tap := range taps {
			if tap[0] >= 0 {
				sum += int32(in[tap[0]]) - int32(inZero)
				real += reals[tap[0]]
			}
			if tap[0] >= 0 || countPad {
				n++
			}
		}
		if countPad { // beyond the padding at the end nothing counts
			n = int32(p.count(o/g.C/g.OW%g.OH, o/g.C%g.OW))
		}
		want[o] = literal(sum, float32(0.5/(0.25*float64(n))), out)
		wantReal[o] = real / float32(n)
	})
	p.Int8(got, in, guard.Of[byte](t, p.Scratch(), true))
	same(t, fmt.Sprintf("%+v", g), got, want)
	gotReal := guard.Of[float32](t, len(got), true)
	p.F32(gotReal, reals)
	same(t, fmt.Sprintf("%+v", g), gotReal, wantReal)
}

// The windows of a 3x3 pool, padded by 1, over 2x2 values hold 4 values, or 9
// with the padding; with no padding at the end, 6 or 4 of the 9.
func TestAveragePoolCounts(t *testing.T) {
	g := Geometry{N: 1, H: 2, W: 2, C: 1, KH: 3, KW: 3, OH: 1, OW: 1, StrideH: 1, StrideW: 1, DilationH: 1, DilationW: 1, PadTop: 1, PadLeft: 1}
	for _, c := range []struct {
		countPad  bool
		endH, end int
		want      int
	}{{false, 0, 0, 4}, {true, 0, 0, 9}, {true, 1, 1, 9}} {
		p, err := NewAveragePool(g, c.countPad, c.endH, c.end)
		if err != nil {
			t.Fatal(err)
		}
		if n := p.count(0, 0); n != c.want {
			t.Errorf("%+v: %d values count", c, n)
		}
	}
	g.PadTop, g.PadLeft = 0, 0 // a window that sticks out because the size was rounded up
	p, err := NewAveragePool(g, true, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if n := p.count(0, 0); n != 4 {
		t.Errorf("%d values count, want 4", n)
	}
}
