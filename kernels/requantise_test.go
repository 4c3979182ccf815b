package kernels

import (
	"math"
	"testing"
)

// literal is the rule of Requant word by word.
func literal(sum int32, scale float32, q Requant) int8 {
	r := float32(float32(sum) * scale)
	v := math.RoundToEven(float64(r))
	v = min(max(v, math.MinInt32), math.MaxInt32)
	y := int64(v) + int64(q.Zero)
	return int8(min(max(y, int64(q.Min)), int64(q.Max)))
}

func TestRequantiseIsTheRule(t *testing.T) {
	r := seeded(1)
	for range 200_000 {
		q := randomRequant(r, 1, 1+r.IntN(500))
		sum := int32(r.Uint32())
		switch r.IntN(4) {
		case 0:
			sum >>= 20
		case 1:
			sum, q.Scale[0] = sum>>24, 0.5 // ties
		case 2:
			q.Scale[0] = math.Float32frombits(r.Uint32() % 0x7f800000)
		}
		lo, hi := q.bounds()
		if got, want := requantise(sum, q.Scale[0], lo, hi, q.Zero), literal(sum, q.Scale[0], q); got != want {
			t.Fatalf("%d * %v + %d in [%d, %d]: %d, want %d", sum, q.Scale[0], q.Zero, q.Min, q.Max, got, want)
		}
	}
}

func TestRequantiseRoundsHalfToEven(t *testing.T) {
	q := Requant{Scale: []float32{0.5}, Min: -128, Max: 127}
	lo, hi := q.bounds()
	for sum, want := range map[int32]int8{1: 0, 3: 2, 5: 2, -1: 0, -3: -2, -5: -2, 7: 4, 255: 127, -257: -128} {
		if got := requantise(sum, 0.5, lo, hi, 0); got != want {
			t.Errorf("%d/2 is %d, want %d", sum, got, want)
		}
	}
}

func TestRequantCheck(t *testing.T) {
	good := Requant{Scale: []float32{1}, Min: -128, Max: 127}
	if err := good.Check(8); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]Requant{
		"count":    {Scale: []float32{1, 1}, Max: 1},
		"negative": {Scale: []float32{-1}, Max: 1},
		"nan":      {Scale: []float32{float32(math.NaN())}, Max: 1},
		"infinite": {Scale: []float32{float32(math.Inf(1))}, Max: 1},
		"bounds":   {Scale: []float32{1}, Min: 1},
		"zero":     {Scale: []float32{1}, Max: 1, Zero: 200},
	} {
		if bad.Check(8) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRequantInt8(t *testing.T) {
	r := seeded(2)
	for range 50 {
		q := Requant{Scale: []float32{r.Float32() * 4}, Zero: int32(r.IntN(256) - 128), Min: -128, Max: 127}
		zero := int8(r.IntN(256) - 128)
		k, err := PackRequantInt8(zero, q)
		if err != nil {
			t.Fatal(err)
		}
		in := randomInt8(t, r, 100, true)
		want := make([]int8, len(in))
		for i, v := range in {
			want[i] = literal(int32(v)-int32(zero), q.Scale[0], q)
		}
		k.Run(in, in)
		same(t, "in place", in, want)
	}
}
