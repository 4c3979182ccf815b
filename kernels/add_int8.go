package kernels

import "fmt"

// AddInt8 is the sum of two int8 tensors of their own scales, ready to run:
//
//	p = float32(a-AZero) * s_a/s_y      each rounded to float32
//	q = float32(b-BZero) * s_b/s_y
//	out = clamp(round half to even(float32(p+q)) + Zero, Min, Max)
//
// 256 inputs have 256 products, so p and q come from tables.
type AddInt8 struct {
	p, q    [256]float32
	za, zb  int8
	out     Requant
	lo, hi  float32
	variant variant[addInt8Func]
}

type addInt8Func func(s *AddInt8, out, a, b []int8)

// addInt8Variants is the table of AddInt8.
var addInt8Variants = append(addInt8Native, variant[addInt8Func]{Generic, true, addInt8Generic})

// PackAddInt8 returns the sum of a, with multiplier ma = s_a/s_y and zero
// point za, and b. out.Scale is not looked at.
func PackAddInt8(t Target, ma float32, za int8, mb float32, zb int8, out Requant) (*AddInt8, error) {
	s := &AddInt8{za: za, zb: zb, out: out, variant: pick(t, addInt8Variants)}
	s.out.Scale = []float32{ma, mb}
	if err := s.out.Check(2); err != nil {
		return nil, fmt.Errorf("int8 sum: %w", err)
	}
	s.lo, s.hi = s.out.bounds()
	for i := range s.p {
		s.p[i] = float32(float32(int32(int8(i))-int32(za)) * ma)
		s.q[i] = float32(float32(int32(int8(i))-int32(zb)) * mb)
	}
	return s, nil
}

// Tier returns the tier that was chosen.
func (s *AddInt8) Tier() Tier { return s.variant.tier }

// Run writes the sum of a and b, of equal lengths, to out, which may be one
// of them.
func (s *AddInt8) Run(out, a, b []int8) { s.variant.run(s, out[:len(a)], a, b[:len(a)]) }

// addInt8Generic is the definition of AddInt8.
func addInt8Generic(s *AddInt8, out, a, b []int8) {
	for i, x := range a {
		r := float32(s.p[uint8(x)] + s.q[uint8(b[i])])
		if r < s.lo {
			r = s.lo
		}
		if r > s.hi {
			r = s.hi
		}
		r = float32(r + rounder)
		out[i] = int8(int32(float32(r-rounder)) + s.out.Zero)
	}
}
