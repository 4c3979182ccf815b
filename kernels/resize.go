package kernels

import "math"

// Interpolation is how Resize makes a value between others, in ONNX's words:
// https://onnx.ai/onnx/operators/onnx__Resize.html.
type Interpolation struct {
	Mode           string // "nearest", "linear", "cubic"
	Coordinates    string // coordinate_transformation_mode
	Nearest        string // nearest_mode
	CubicA         float32
	ExcludeOutside bool
	Antialias      bool
}

// ResizeAxis says how one axis is resized: Scale is the ratio that coordinates
// are divided by; From and To bound the region for "tf_crop_and_resize", as
// fractions.
type ResizeAxis struct {
	In, Out         int
	Scale, From, To float32
}

// source returns where element x of the result lies among the elements of the
// input, in float32 as ONNX Runtime computes it.
func (a ResizeAxis) source(mode string, x int) float32 {
	v, n := float32(x), float32(a.In)
	switch mode {
	case "asymmetric":
		return v / a.Scale
	case "align_corners":
		if a.Out == 1 {
			return 0
		}
		return float32(v*(n-1)) / float32(a.Out-1)
	case "pytorch_half_pixel":
		if a.Out == 1 {
			return 0
		}
	case "tf_half_pixel_for_nn":
		return (v + 0.5) / a.Scale
	case "half_pixel_symmetric":
		ratio := float32(a.Out) / float32(a.Scale*n)
		offset := float32(n / 2 * (1 - ratio))
		return offset + (v+0.5)/a.Scale - 0.5
	case "tf_crop_and_resize":
		if a.Out == 1 {
			return float32(float32(0.5*(a.From+a.To)) * (n - 1))
		}
		return float32(a.From*(n-1)) + float32(float32(v*(a.To-a.From))*(n-1))/float32(a.Out-1)
	}
	return (v+0.5)/a.Scale - 0.5
}

// Taps are the weights of one axis of a Resize: element i of the result is
// Σ weight[k] * in[index[k]], k from at[i] to at[i+1].
type Taps struct {
	in, out int
	at      []int
	index   []int
	weight  []float32
	outside []bool // elements that lie outside of the input: nil where none may
}

// NewTaps returns the weights of an axis.
func NewTaps(a ResizeAxis, p Interpolation) *Taps {
	t := &Taps{in: a.In, out: a.Out, at: make([]int, 1, a.Out+1)}
	crop := p.Coordinates == "tf_crop_and_resize"
	if crop {
		t.outside = make([]bool, a.Out)
	}
	for i := range a.Out {
		x := a.source(p.Coordinates, i)
		if crop {
			t.outside[i] = !(x >= 0 && x <= float32(a.In-1))
		}
		switch {
		case p.Mode == "nearest":
			t.add(nearest(p.Nearest, x), 1)
		case p.Antialias && a.Scale < 1:
			t.filter(x, a.Scale, p)
		case p.Mode == "linear":
			x = min(max(x, 0), float32(a.In-1))
			low := float32(math.Floor(float64(x)))
			t.add(int(low), 1-(x-low))
			if x > low {
				t.add(int(low)+1, x-low)
			}
		default:
			t.cubic(x, p)
		}
		t.at = append(t.at, len(t.index))
	}
	return t
}

func (t *Taps) add(index int, weight float32) {
	t.index = append(t.index, min(max(index, 0), t.in-1))
	t.weight = append(t.weight, weight)
}

// nearest rounds a coordinate.
func nearest(mode string, x float32) int {
	v := float64(x)
	switch mode {
	case "floor":
		return int(math.Floor(v))
	case "ceil":
		return int(math.Ceil(v))
	case "round_prefer_ceil":
		return int(math.Floor(v + 0.5))
	}
	return int(math.Ceil(v - 0.5)) // round_prefer_floor
}

// cubic adds the four weights of Keys's convolution (1981, eq. 15, with A for
// -1/2).
func (t *Taps) cubic(x float32, p Interpolation) {
	low := math.Floor(float64(x))
	first, sum := len(t.weight), float32(0)
	for k := -1; k <= 2; k++ {
		w := cubicWeight(float32(float64(x)-low)-float32(k), p.CubicA)
		i := int(low) + k
		if p.ExcludeOutside && (i < 0 || i >= t.in) {
			w = 0
		}
		t.add(i, w)
		sum += w
	}
	if p.ExcludeOutside {
		for i := range t.weight[first:] {
			t.weight[first+i] /= sum
		}
	}
}

func cubicWeight(d, a float32) float32 {
	x, b := math.Abs(float64(d)), float64(a)
	switch {
	case x <= 1:
		return float32(horner(x, 1, 0, -(b + 3), b+2))
	case x < 2:
		return float32(horner(x, -4*b, 8*b, -5*b, b))
	}
	return 0
}

// filter adds the weights of a filter as wide as the elements that one of the
// result stands for; outside of the input its last elements are repeated.
func (t *Taps) filter(x, scale float32, p Interpolation) {
	support := float64(1)
	if p.Mode == "cubic" {
		support = 2
	}
	support /= float64(scale)
	first, sum := len(t.weight), float32(0)
	n := float64(t.in)
	from, to := max(-n, math.Ceil(float64(x)-support)), min(2*n, math.Floor(float64(x)+support))
	if p.ExcludeOutside {
		from, to = max(from, 0), min(to, n-1)
	}
	for i := int(from); i <= int(to); i++ {
		d := float32(float64((float64(i) - float64(x)) * float64(scale)))
		w := cubicWeight(d, p.CubicA)
		if p.Mode == "linear" {
			w = max(0, 1-float32(math.Abs(float64(d))))
		}
		t.add(i, w)
		sum += w
	}
	for i := range t.weight[first:] {
		t.weight[first+i] /= sum
	}
}

// Run resizes the middle axis of in [outer, n, inner].
func (t *Taps) Run(out, in []float32, outer, inner int) {
	for o := range outer {
		src := in[o*t.in*inner:]
		for i := range t.out {
			row := out[(o*t.out+i)*inner:][:inner]
			clear(row)
			for k := t.at[i]; k < t.at[i+1]; k++ {
				w := t.weight[k]
				for j, v := range src[t.index[k]*inner:][:inner] {
					row[j] += float32(w * v)
				}
			}
		}
	}
}

// Nearest copies the nearest blocks of the middle axis of in [outer, n,
// block], bytes. Where each is repeated equally often, all blocks are copied
// with rows, once for each repetition.
func (t *Taps) Nearest(rows RowCopy, out, in []byte, outer, block int) {
	if times := t.repeats(); times > 0 && outer*block > 0 {
		for k := range times {
			rows(out[k*block:], times*block, in, block, outer*t.in, block)
		}
		return
	}
	for o := range outer {
		for i := range t.out {
			copy(out[(o*t.out+i)*block:][:block], in[(o*t.in+t.index[i])*block:])
		}
	}
}

// repeats returns how often each element stands in the result, side by side, 0
// where that differs.
func (t *Taps) repeats() int {
	if t.in == 0 || t.out%t.in != 0 {
		return 0
	}
	times := t.out / t.in
	for i, from := range t.index {
		if from != i/times {
			return 0
		}
	}
	return times
}

// Len returns the length of the axis in the result.
func (t *Taps) Len() int { return t.out }

// Outside writes value to the elements of out [outer, n, inner] that lie
// outside of the input along this axis.
func (t *Taps) Outside(out []float32, outer, inner int, value float32) {
	for i, outside := range t.outside {
		for o := range outer {
			if outside {
				row := out[(o*t.out+i)*inner:][:inner]
				for j := range row {
					row[j] = value
				}
			}
		}
	}
}
