package kernels

import (
	"fmt"
	"math"
	"testing"

	"dunlin/internal/guard"
)

// transposes are volumes with overlapping windows, gaps, padding and groups,
// and those whose windows lie side by side.
func transposes() []Volume {
	one := [3]int{1, 1, 1}
	list := []Volume{
		{N: 2, C: 5, OC: 3, Groups: 1, In: [3]int{1, 4, 7}, Kernel: [3]int{1, 2, 2}, Stride: [3]int{1, 2, 2}, Dilation: one, Out: [3]int{1, 8, 14}},
		{N: 1, C: 33, OC: 40, Groups: 1, In: [3]int{2, 3, 17}, Kernel: [3]int{2, 3, 1}, Stride: [3]int{2, 3, 1}, Dilation: one, Out: [3]int{4, 9, 17}},
		{N: 1, C: 3, OC: 1, Groups: 1, In: [3]int{1, 1, 19}, Kernel: [3]int{1, 1, 4}, Stride: [3]int{1, 1, 4}, Dilation: one, Out: [3]int{1, 1, 76}},
		{N: 2, C: 4, OC: 6, Groups: 2, In: [3]int{1, 5, 5}, Kernel: [3]int{1, 2, 2}, Stride: [3]int{1, 2, 2}, Dilation: one, Out: [3]int{1, 10, 10}},
		{N: 1, C: 6, OC: 7, Groups: 1, In: [3]int{1, 5, 13}, Kernel: [3]int{1, 3, 4}, Stride: [3]int{1, 2, 2}, Dilation: one, Before: [3]int{0, 1, 1}, Out: [3]int{1, 10, 26}},
		{N: 1, C: 2, OC: 2, Groups: 1, In: [3]int{1, 3, 3}, Kernel: [3]int{1, 2, 2}, Stride: [3]int{1, 3, 3}, Dilation: one, Out: [3]int{1, 8, 8}},
		{N: 1, C: 2, OC: 3, Groups: 1, In: [3]int{1, 4, 4}, Kernel: [3]int{1, 2, 2}, Stride: [3]int{1, 2, 2}, Dilation: [3]int{1, 2, 1}, Out: [3]int{1, 9, 8}},
	}
	return list
}

// naiveTranspose follows the definition of ConvTranspose, and bounds how far
// sums that fuse products may be from it: see boundF32.
func naiveTranspose(v Volume, in, w, bias []float32, clamp Clamp) (out []float32, bound []float64) {
	cg, og, taps := v.C/v.Groups, v.OC/v.Groups, v.Taps()
	out, bound = make([]float32, v.N*v.OutSize()*v.OC), make([]float64, v.N*v.OutSize()*v.OC)
	for i := range out {
		if bias != nil {
			out[i] = bias[i%v.OC]
			bound[i] = math.Abs(float64(out[i]))
		}
	}
	for i := range v.N * v.InSize() {
		p := position(i%v.InSize(), v.In)
		for k := range taps {
			tap, at, inside := position(k, v.Kernel), i/v.InSize(), true
			for axis := range 3 {
				q := p[axis]*v.Stride[axis] + tap[axis]*v.Dilation[axis] - v.Before[axis]
				inside = inside && q >= 0 && q < v.Out[axis]
				at = at*v.Out[axis] + q
			}
			for oc := range v.OC {
				sum, g := float32(0), oc/og
				size := 0.0
				for ci := range cg {
					product := float32(in[i*v.C+g*cg+ci] * w[((g*cg+ci)*og+oc%og)*taps+k])
					sum += product
					size += math.Abs(float64(product))
				}
				if inside {
					out[at*v.OC+oc] += sum
					bound[at*v.OC+oc] += size
				}
			}
		}
	}
	nu := float64(taps*cg+taps+1) / (1 << 24)
	for i := range out {
		out[i] = clamp.of(out[i])
		bound[i] *= 2 * nu / (1 - nu)
	}
	return out, bound
}

func TestConvTranspose(t *testing.T) {
	forVariants(t, gemmF32Variants, func(t *testing.T, target Target) {
		for i, v := range transposes() {
			r, end := seeded(uint64(i)), i%2 == 0
			in := randomF32(t, r, v.N*v.InSize()*v.C, end)
			w := randomF32(t, r, v.C*v.OC/v.Groups*v.Taps(), end)
			for _, bias := range [][]float32{nil, randomF32(t, r, v.OC, end)} {
				clamp := Clamp{-2, 2}
				want, bound := naiveTranspose(v, in, w, bias, clamp)
				c, err := NewConvTranspose(v, bias, clamp)
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Pack(target, w); err != nil {
					t.Fatal(err)
				}
				out := guard.Of[float32](t, len(want), end)
				c.Run(out, in, nil, nil, guard.Of[byte](t, c.Scratch(), true))
				what := fmt.Sprintf("%+v", v)
				if target.Exact {
					same(t, what, out, want)
					continue
				}
				for j, limit := range bound {
					if d := math.Abs(float64(out[j]) - float64(want[j])); !(d <= limit) {
						t.Fatalf("%s: element %d is %v, want %v within %g", what, j, out[j], want[j], limit)
					}
				}
			}
		}
	})
}
