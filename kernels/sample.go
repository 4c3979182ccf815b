package kernels

import "math"

// GridSample reads a picture at places between its pixels:
// https://onnx.ai/onnx/operators/onnx__GridSample.html.
type GridSample struct {
	Mode         string // "linear", "nearest", "cubic"
	Padding      string // "zeros", "border", "reflection"
	AlignCorners bool
	C, H, W      int // of the picture
	OH, OW       int // of the grid
}

// Run samples one picture [C, H, W] at the places of grid [OH, OW, 2], x then
// y, each from -1 to 1 over the picture, to out [C, OH, OW].
func (g GridSample) Run(out, in, grid []float32) {
	places := g.OH * g.OW
	for p := range places {
		x, y := g.pixel(grid[2*p], g.W), g.pixel(grid[2*p+1], g.H)
		for c := range g.C {
			out[c*places+p] = g.value(in[c*g.H*g.W:][:g.H*g.W], x, y)
		}
	}
}

// pixel turns a place from -1 to 1 into one among n pixels.
func (g GridSample) pixel(v float32, n int) float64 {
	if g.AlignCorners {
		return float64((float64(v) + 1) / 2 * float64(n-1))
	}
	return (float64((float64(v)+1)*float64(n)) - 1) / 2
}

// bounds moves a coordinate into the picture, as the padding has it.
func (g GridSample) bounds(v float64, n int) float64 {
	switch g.Padding {
	case "border":
		return min(max(v, 0), float64(n-1))
	case "reflection":
		low, high := -0.5, float64(n)-0.5
		if g.AlignCorners {
			low, high = 0, float64(n-1)
		}
		return reflect(v, low, high)
	}
	return v
}

// reflect mirrors v at low and at high until it lies between them.
func reflect(v, low, high float64) float64 {
	span := high - low
	if !(span > 0) || math.IsInf(v, 0) {
		return low
	}
	d := math.Abs(v - low)
	turns, rest := math.Floor(d/span), math.Mod(d, span)
	if math.Mod(turns, 2) == 1 {
		return high - rest
	}
	return low + rest
}

// at returns the pixel at whole coordinates, which may lie outside.
func (g GridSample) at(in []float32, x, y float64) float64 {
	x, y = g.bounds(x, g.W), g.bounds(y, g.H)
	if !(x >= 0 && y >= 0 && x <= float64(g.W-1) && y <= float64(g.H-1)) {
		return 0
	}
	return float64(in[int(y)*g.W+int(x)])
}

func (g GridSample) value(in []float32, x, y float64) float32 {
	if x != x || y != y {
		return 0
	}
	switch g.Mode {
	case "nearest":
		return float32(g.at(in, math.RoundToEven(g.bounds(x, g.W)), math.RoundToEven(g.bounds(y, g.H))))
	case "cubic":
		x0, y0 := math.Floor(x), math.Floor(y)
		sum := 0.0
		for j := -1.0; j <= 2; j++ {
			row := 0.0
			for i := -1.0; i <= 2; i++ {
				row += float64(float64(cubicWeight(float32(x-x0-i), -0.75)) * g.at(in, x0+i, y0+j))
			}
			sum += float64(row * float64(cubicWeight(float32(y-y0-j), -0.75)))
		}
		return float32(sum)
	}
	x, y = g.bounds(x, g.W), g.bounds(y, g.H)
	x0, y0 := math.Floor(x), math.Floor(y)
	dx, dy := x-x0, y-y0
	top := float64((1-dx)*g.at(in, x0, y0)) + float64(dx*g.at(in, x0+1, y0))
	bottom := float64((1-dx)*g.at(in, x0, y0+1)) + float64(dx*g.at(in, x0+1, y0+1))
	return float32(float64((1-dy)*top) + float64(dy*bottom))
}

// RoiAlign pools regions of a picture to one size, from samples between its
// pixels (He et al. 2017, arXiv:1703.06870, section 3).
type RoiAlign struct {
	C, H, W, OH, OW int
	Ratio           int // samples along each side of a bin; 0: as many as it has pixels
	Scale           float64
	HalfPixel, Max  bool
}

// maxSamples bounds the samples along a side of a bin.
const maxSamples = 1 << 10

// Run pools the region roi [x1, y1, x2, y2] of in [C, H, W] to out [C, OH,
// OW].
func (r RoiAlign) Run(out, in, roi []float32) {
	shift := 0.0
	if r.HalfPixel {
		shift = 0.5
	}
	x0, y0 := float64(float64(roi[0])*r.Scale)-shift, float64(float64(roi[1])*r.Scale)-shift
	w, h := float64(float64(roi[2])*r.Scale)-shift-x0, float64(float64(roi[3])*r.Scale)-shift-y0
	if !r.HalfPixel {
		w, h = max(w, 1), max(h, 1)
	}
	bw, bh := w/float64(r.OW), h/float64(r.OH)
	nx, ny := r.samples(bw), r.samples(bh)
	for c := range r.C {
		plane := in[c*r.H*r.W:][:r.H*r.W]
		for oy := range r.OH {
			for ox := range r.OW {
				sum, most := 0.0, math.Inf(-1)
				for j := range ny {
					y := y0 + float64((float64(oy)+(float64(j)+0.5)/float64(ny))*bh)
					for i := range nx {
						x := x0 + float64((float64(ox)+(float64(i)+0.5)/float64(nx))*bw)
						s, m := r.sample(plane, x, y)
						sum, most = sum+s, max(most, m)
					}
				}
				v := sum / float64(max(nx*ny, 1))
				if r.Max {
					v = most
				}
				out[(c*r.OH+oy)*r.OW+ox] = float32(v)
			}
		}
	}
}

func (r RoiAlign) samples(bin float64) int {
	if r.Ratio > 0 {
		return min(r.Ratio, maxSamples)
	}
	return int(min(max(math.Ceil(bin), 0), maxSamples))
}

// sample returns the value between four pixels, and the largest of its four
// terms, which is what ONNX takes the maximum of.
func (r RoiAlign) sample(in []float32, x, y float64) (sum, most float64) {
	if !(x >= -1 && y >= -1 && x <= float64(r.W) && y <= float64(r.H)) {
		return 0, 0
	}
	x, y = max(x, 0), max(y, 0)
	x0, y0 := min(int(x), r.W-1), min(int(y), r.H-1)
	x1, y1 := min(x0+1, r.W-1), min(y0+1, r.H-1)
	dx, dy := x-float64(x0), y-float64(y0)
	if x0 == r.W-1 {
		dx = 0
	}
	if y0 == r.H-1 {
		dy = 0
	}
	most = math.Inf(-1)
	for _, t := range [...]struct {
		w float64
		v float32
	}{
		{(1 - dy) * (1 - dx), in[y0*r.W+x0]},
		{(1 - dy) * dx, in[y0*r.W+x1]},
		{dy * (1 - dx), in[y1*r.W+x0]},
		{dy * dx, in[y1*r.W+x1]},
	} {
		p := float64(t.w * float64(t.v))
		sum, most = sum+p, max(most, p)
	}
	return sum, most
}

// Det returns the determinant of a matrix [n, n], by elimination with the
// largest pivot; work has room for n*n numbers.
func Det[T float32 | float64](in []T, n int, work []float64) T {
	for i, v := range in[:n*n] {
		work[i] = float64(v)
	}
	det := 1.0
	for c := range n {
		pivot := c
		for r := c + 1; r < n; r++ {
			if math.Abs(work[r*n+c]) > math.Abs(work[pivot*n+c]) {
				pivot = r
			}
		}
		p := work[pivot*n+c]
		if p == 0 {
			return 0
		}
		if pivot != c {
			det = -det
			for k := range n {
				work[pivot*n+k], work[c*n+k] = work[c*n+k], work[pivot*n+k]
			}
		}
		det = float64(det * p)
		for r := c + 1; r < n; r++ {
			f := work[r*n+c] / p
			for k := c; k < n; k++ {
				work[r*n+k] -= float64(f * work[c*n+k])
			}
		}
	}
	return T(det)
}
