package kernels

import (
	"fmt"
	"math"
)

// Requant says how the 32-bit sum of an integer operator becomes an 8-bit
// value. It is the only such rule in dunlin:
//
//	r = float32(float32(sum) * Scale[c])     one multiplication, rounded once
//	q = round half to even(r), saturated to int32
//	y = clamp(q + Zero, Min, Max)
//
// Scale[c] is s_x*s_w[c]/s_y, computed in float64 and rounded to float32
// (Multiplier). real = scale * (int - zero): Jacob et al. 2018,
// arXiv:1712.05877, eq. 1. An activation such as Relu is Min and Max.
type Requant struct {
	Scale    []float32 // one for each output channel, or one for all
	Zero     int32     // zero point of the output
	Min, Max int8
}

// Multiplier returns float32(a*b/c), computed in float64: the scale of a
// product of scales a and b seen in units of c.
func Multiplier(a, b, c float32) float32 {
	return float32(float64(a) * float64(b) / float64(c))
}

// Check fails where a scale is not a finite positive number, where there are
// neither 1 nor channels of them, or where the bounds are crossed.
func (r *Requant) Check(channels int) error {
	if len(r.Scale) != 1 && len(r.Scale) != channels {
		return fmt.Errorf("requantise: %d scales for %d channels", len(r.Scale), channels)
	}
	for i, s := range r.Scale {
		if !(s >= 0) || math.IsInf(float64(s), 0) {
			return fmt.Errorf("requantise: scale %d is %v", i, s)
		}
	}
	if r.Min > r.Max {
		return fmt.Errorf("requantise: minimum %d above maximum %d", r.Min, r.Max)
	}
	if r.Zero < -128 || r.Zero > 127 {
		return fmt.Errorf("requantise: zero point %d does not fit int8", r.Zero)
	}
	return nil
}

// widened returns a copy of r with one scale for each of n channels, and more
// of them, 1 each, up to a multiple of lanes.
func (r Requant) widened(n, lanes int) Requant {
	s := make([]float32, roundUp(n, lanes))
	for i := range s {
		switch {
		case i >= n:
			s[i] = 1
		case len(r.Scale) == 1:
			s[i] = r.Scale[0]
		default:
			s[i] = r.Scale[i]
		}
	}
	r.Scale = s
	return r
}

// rounder is 1.5*2^23. Adding it to a float32 of magnitude below 2^22 leaves
// no bits after the point, and the addition itself rounds half to even.
const rounder float32 = 12582912

// requantise applies the rule of Requant to one sum. lo and hi are Min-Zero
// and Max-Zero: to clamp to whole numbers before rounding gives what clamping
// after it gives, and keeps r small enough for rounder.
func requantise(sum int32, scale, lo, hi float32, zero int32) int8 {
	r := float32(float32(sum) * scale)
	if r < lo {
		r = lo
	}
	if r > hi {
		r = hi
	}
	r = float32(r + rounder)
	return int8(int32(float32(r-rounder)) + zero)
}

// bounds returns the lo and hi of requantise.
func (r *Requant) bounds() (lo, hi float32) {
	return float32(int32(r.Min) - r.Zero), float32(int32(r.Max) - r.Zero)
}

// RequantInt8 is a change of scale: from int8 to int8.
type RequantInt8 struct {
	InZero int8
	Out    Requant // one scale, s_x/s_y
	table  [256]int8
}

// PackRequantInt8 returns the change of scale ready to run: 256 inputs have
// 256 answers, so it is a table.
func PackRequantInt8(inZero int8, out Requant) (*RequantInt8, error) {
	if err := out.Check(1); err != nil {
		return nil, err
	}
	q := &RequantInt8{InZero: inZero, Out: out}
	lo, hi := out.bounds()
	for i := range q.table {
		q.table[i] = requantise(int32(int8(i))-int32(inZero), out.Scale[0], lo, hi, out.Zero)
	}
	return q, nil
}

// Run writes to out, of the length of in, which may be out.
func (q *RequantInt8) Run(out, in []int8) {
	out = out[:len(in)]
	for i, v := range in {
		out[i] = q.table[uint8(v)]
	}
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }
