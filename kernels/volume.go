package kernels

import (
	"fmt"
	"math"
)

// Volume is the shape of a convolution or pool over three spatial axes, or
// over fewer, the first of them then being 1, with the channels last:
//
//	in   [N, In..., C]
//	out  [N, Out..., OC]
//
// Output position p reads input positions p*Stride + i*Dilation - Before for
// i < Kernel along each axis; what lies outside is padding.
//
// The operations of this file are general and slow: they are for what the
// kernels over Geometry do not do.
type Volume struct {
	N, C, OC, Groups                               int
	In, Out, Kernel, Stride, Dilation, Before, End [3]int // End: padding behind
}

// Check fails where a number is out of its range.
func (v *Volume) Check() error {
	list := []int{v.N, v.C, v.OC, v.Groups}
	for i := range 3 {
		list = append(list, v.In[i], v.Out[i], v.Kernel[i], v.Stride[i], v.Dilation[i])
		if v.Before[i] < 0 || v.Before[i] > maxAxis || v.End[i] < 0 || v.End[i] > maxAxis {
			return fmt.Errorf("window: padding %v and %v", v.Before, v.End)
		}
	}
	for _, n := range list {
		if n < 1 || n > maxAxis {
			return fmt.Errorf("window: one of %+v is %d", *v, n)
		}
	}
	if v.C%v.Groups != 0 || v.OC%v.Groups != 0 {
		return fmt.Errorf("window: %d and %d channels do not split into %d groups", v.C, v.OC, v.Groups)
	}
	return nil
}

// Taps returns how many positions the kernel has.
func (v *Volume) Taps() int { return v.Kernel[0] * v.Kernel[1] * v.Kernel[2] }

// InSize returns how many positions the input has.
func (v *Volume) InSize() int { return v.In[0] * v.In[1] * v.In[2] }

// OutSize returns how many positions the output has.
func (v *Volume) OutSize() int { return v.Out[0] * v.Out[1] * v.Out[2] }

// position is a place in three axes.
func position(i int, s [3]int) (p [3]int) {
	p[2] = i % s[2]
	i /= s[2]
	p[1] = i % s[1]
	p[0] = i / s[1]
	return p
}

// at returns the input position that tap k of output position o reads, -1
// for padding.
func (v *Volume) at(o, k [3]int) int {
	at := 0
	for i := range 3 {
		p := o[i]*v.Stride[i] + k[i]*v.Dilation[i] - v.Before[i]
		if p < 0 || p >= v.In[i] {
			return -1
		}
		at = at*v.In[i] + p
	}
	return at
}

// inside reports whether tap k of output position o lies in the input or in
// its padding: rounding up the output's size makes windows that reach beyond.
func (v *Volume) inside(o, k [3]int) bool {
	for i := range 3 {
		if o[i]*v.Stride[i]+k[i]*v.Dilation[i]-v.Before[i] >= v.In[i]+v.End[i] {
			return false
		}
	}
	return true
}

// ConvF32 writes the convolution of in with w [OC, C/Groups, taps], computed
// or constant, to out; bias [OC] may be nil. The exact order is that of
// kernels.ConvF32: the bias, then taps and channels ascending; padding adds
// nothing.
func (v *Volume) ConvF32(out, in, w, bias []float32, clamp Clamp) {
	cg, og, taps := v.C/v.Groups, v.OC/v.Groups, v.Taps()
	for i := range v.N * v.OutSize() {
		o := position(i%v.OutSize(), v.Out)
		picture := in[i/v.OutSize()*v.InSize()*v.C:]
		row := out[i*v.OC : (i+1)*v.OC]
		clear(row)
		copy(row, bias)
		for k := range taps {
			at := v.at(o, position(k, v.Kernel))
			if at < 0 {
				continue
			}
			for oc := range row {
				x := picture[at*v.C+oc/og*cg:][:cg]
				for c, a := range x {
					row[oc] += float32(a * w[(oc*cg+c)*taps+k])
				}
			}
		}
		for oc, sum := range row {
			row[oc] = clamp.of(sum)
		}
	}
}

// ConvInteger writes the sums of (in-inZero) * (w-wZero) to out: 8-bit
// integers in, int32 out, wrapping. w is [OC, C/Groups, taps]; wZero has one
// element or one for each output channel. Padding adds nothing.
func ConvInteger[A, B int8 | uint8](v *Volume, out []int32, in []A, w []B, inZero A, wZero []B) {
	cg, og, taps := v.C/v.Groups, v.OC/v.Groups, v.Taps()
	for i := range v.N * v.OutSize() {
		o := position(i%v.OutSize(), v.Out)
		picture := in[i/v.OutSize()*v.InSize()*v.C:]
		row := out[i*v.OC : (i+1)*v.OC]
		clear(row)
		for k := range taps {
			at := v.at(o, position(k, v.Kernel))
			if at < 0 {
				continue
			}
			for oc := range row {
				zero := int32(wZero[oc%len(wZero)])
				x := picture[at*v.C+oc/og*cg:][:cg]
				for c, a := range x {
					row[oc] += (int32(a) - int32(inZero)) * (int32(w[(oc*cg+c)*taps+k]) - zero)
				}
			}
		}
	}
}

// MaxPool writes the largest value under each window to out and, where index
// is not nil, where it is: the element's number in the input seen as [N, C,
// In...]. columns counts the last axes with the first of them innermost. Of
// equal values the first counts; NaN loses to every number.
func MaxPoolVolume[T int8 | uint8 | float32 | float64](v *Volume, out []T, index []int64, in []T, least T, columns bool) {
	for i := range v.N * v.OutSize() {
		o := position(i%v.OutSize(), v.Out)
		n := i / v.OutSize()
		picture := in[n*v.InSize()*v.C : (n+1)*v.InSize()*v.C]
		for c := range v.C {
			best, where := least, -1
			for k := range v.Taps() {
				at := v.at(o, position(k, v.Kernel))
				if at >= 0 && (where < 0 || picture[at*v.C+c] > best) {
					best, where = picture[at*v.C+c], at
				}
			}
			out[i*v.C+c] = best
			if index == nil {
				continue
			}
			if columns {
				p := position(max(where, 0), v.In)
				where = (p[2]*v.In[1]+p[1])*v.In[0] + p[0]
				if v.In[0] == 1 {
					where = p[2]*v.In[1] + p[1]
				}
			}
			index[i*v.C+c] = int64((n*v.C+c)*v.InSize() + max(where, 0))
		}
	}
}

// AveragePool writes the mean under each window to out, summed from 0 in
// order, with one division; countPad counts padding as zeros among the
// values.
func (v *Volume) AveragePool(out, in []float32, countPad bool) {
	v.fold(out, in, func(sum, x float32) float32 { return float32(sum + x) }, func(sum float32, taps, inside int) float32 {
		if countPad {
			taps = inside
		}
		return float32(sum / float32(max(taps, 1)))
	})
}

// LpPool writes (Σ |x|^p)^(1/p) under each window to out, in float64.
func (v *Volume) LpPool(out, in []float32, p int) {
	for i := range v.N * v.OutSize() {
		o := position(i%v.OutSize(), v.Out)
		picture := in[i/v.OutSize()*v.InSize()*v.C:]
		for c := range v.C {
			sum := 0.0
			for k := range v.Taps() {
				if at := v.at(o, position(k, v.Kernel)); at >= 0 {
					x := math.Abs(float64(picture[at*v.C+c]))
					power := 1.0
					for range p {
						power = float64(power * x)
					}
					sum += power
				}
			}
			out[i*v.C+c] = float32(root(sum, p))
		}
	}
}

func root(x float64, p int) float64 {
	switch p {
	case 1:
		return x
	case 2:
		return math.Sqrt(x)
	}
	return math.Pow(x, 1/float64(p))
}

// fold combines the values under each window with add, from 0, and gives done
// the result, how many values there were, and how many with padding.
func (v *Volume) fold(out, in []float32, add func(sum, x float32) float32, done func(sum float32, taps, inside int) float32) {
	for i := range v.N * v.OutSize() {
		o := position(i%v.OutSize(), v.Out)
		picture := in[i/v.OutSize()*v.InSize()*v.C:]
		for c := range v.C {
			sum, taps, inside := float32(0), 0, 0
			for k := range v.Taps() {
				tap := position(k, v.Kernel)
				if at := v.at(o, tap); at >= 0 {
					sum = add(sum, picture[at*v.C+c])
					taps++
				}
				if v.inside(o, tap) {
					inside++
				}
			}
			out[i*v.C+c] = done(sum, taps, inside)
		}
	}
}
