package kernels

import (
	"fmt"
	"math"
	"testing"

	"dunlin/internal/guard"
)

// extremes are weights at the ends of their ranges, where sums of 16 bits and
// steps that saturate would show: -128 times -128 in neighbouring places, and
// results far outside int8.
func extremes(n, depth int) map[string]WeightsInt8 {
	all := func(v int8, count int) []int8 {
		s := make([]int8, count)
		for i := range s {
			s[i] = v
		}
		return s
	}
	mixed := all(-128, n*depth)
	for i := range mixed {
		if i%3 == 0 {
			mixed[i] = 127
		}
	}
	apart := all(5, n*depth)
	for i := 0; i < len(apart); i += 9 {
		apart[i] = -128
	}
	zeros := make([]int8, n)
	for i := range zeros {
		zeros[i] = int8(127 - 255*(i%2))
	}
	scale := func(v float32) Requant { return Requant{Scale: []float32{v}, Zero: -7, Min: -128, Max: 127} }
	return map[string]WeightsInt8{
		"least":              {W: all(-128, n*depth), Out: scale(1e-5)},
		"most":               {W: all(127, n*depth), Out: scale(1e-5)},
		"mixed":              {W: mixed, InZero: 127, Out: scale(1e-5)},
		"apart":              {W: apart, Out: scale(1e-4)},
		"infinite":           {W: mixed, InZero: -128, Out: scale(math.MaxFloat32)},
		"tiny":               {W: mixed, Out: scale(0)},
		"zero point":         {W: all(-128, n*depth), WZero: all(127, n), Out: scale(1e-5)},
		"zero points":        {W: mixed, WZero: zeros, Out: scale(1e-5)},
		"zero point, least":  {W: all(-128, n*depth), WZero: all(-128, n), Out: scale(1e-5)},
		"zero points, least": {W: all(-128, n*depth), WZero: zeros, InZero: -128, Out: scale(1e-5)},
	}
}

// inputs are activations at the ends of their range.
func inputs(n int) map[string][]int8 {
	least, most, mixed := make([]int8, n), make([]int8, n), make([]int8, n)
	for i := range n {
		least[i], most[i], mixed[i] = -128, 127, int8(127-255*(i/2%2))
	}
	return map[string][]int8{"least": least, "most": most, "mixed": mixed}
}

// testExtremes runs what pack returns over all of them.
func testExtremes(t *testing.T, g Geometry, pack func(w WeightsInt8) (func(out, in []int8, scratch []byte), int, error)) {
	t.Helper()
	for name, w := range extremes(g.OC, g.taps()*g.C/g.Groups) {
		run, scratch, err := pack(w)
		if err != nil {
			t.Fatal(err)
		}
		for of, in := range inputs(g.N * g.H * g.W * g.C) {
			out := guard.Of[int8](t, g.N*g.OH*g.OW*g.OC, true)
			run(out, guard.Copy(t, in, true), guard.Of[byte](t, scratch, true))
			same(t, fmt.Sprintf("weights %s, inputs %s", name, of), out, naiveInt8(g, in, w))
		}
	}
}

func TestGEMMInt8Extremes(t *testing.T) {
	forVariants(t, gemmInt8Variants, func(t *testing.T, target Target) {
		g := productShape(7, 25, 43)
		testExtremes(t, g, func(w WeightsInt8) (func(out, in []int8, scratch []byte), int, error) {
			k, err := PackGEMMInt8(target, g.OC, g.C, w)
			if err != nil {
				return nil, 0, err
			}
			return func(out, in []int8, scratch []byte) { k.Run(out, in, g.W, scratch) }, k.Scratch(), nil
		})
	})
}

func TestConvInt8Extremes(t *testing.T) {
	forVariants(t, convInt8Variants, func(t *testing.T, target Target) {
		g := square(5, 6, 9, 3, 1, 1)
		testExtremes(t, g, func(w WeightsInt8) (func(out, in []int8, scratch []byte), int, error) {
			k, err := PackConvInt8(target, g, w)
			if err != nil {
				return nil, 0, err
			}
			return k.Run, k.Scratch(), nil
		})
	})
}

func TestDepthwiseInt8Extremes(t *testing.T) {
	forVariants(t, depthwiseInt8Variants, func(t *testing.T, target Target) {
		for _, g := range []Geometry{square(5, 19, 19, 3, 1, 19), square(7, 19, 19, 5, 2, 19), square(4, 33, 33, 4, 1, 33)} {
			testExtremes(t, g, func(w WeightsInt8) (func(out, in []int8, scratch []byte), int, error) {
				k, err := PackDepthwiseInt8(target, g, w)
				if err != nil {
					return nil, 0, err
				}
				return k.Run, k.Scratch(), nil
			})
		}
	})
}
