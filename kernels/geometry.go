package kernels

import "fmt"

// Geometry is the shape of a convolution or pool over NHWC activations:
//
//	in   [N, H, W, C]
//	out  [N, OH, OW, OC]
//
// Output pixel (y, x) reads input rows y*StrideH + i*DilationH - PadTop for
// i < KH, and columns likewise; what lies outside is padding. Padding below
// and to the right follows from OH and OW.
type Geometry struct {
	N, H, W, C           int
	OH, OW, OC           int
	KH, KW               int
	StrideH, StrideW     int
	DilationH, DilationW int
	PadTop, PadLeft      int
	Groups               int // C and OC are multiples of it
}

// maxAxis bounds each number of a Geometry, so that sums and products of two
// of them fit an int64; the sizes of tensors are the caller's to bound.
const maxAxis = 1 << 30

// maxWindow bounds the entries of a window.
const maxWindow = 1 << 22

// Check fails where a number is out of its range. That N*H*W*C and the like
// fit an int is the caller's to know: it holds such slices.
func (g *Geometry) Check() error {
	for _, v := range []struct {
		name string
		n    int
	}{
		{"batch", g.N},
		{"height", g.H},
		{"width", g.W},
		{"channels", g.C},
		{"output height", g.OH},
		{"output width", g.OW},
		{"output channels", g.OC},
		{"kernel height", g.KH},
		{"kernel width", g.KW},
		{"stride", g.StrideH},
		{"stride", g.StrideW},
		{"dilation", g.DilationH},
		{"dilation", g.DilationW},
		{"groups", g.Groups},
	} {
		if v.n < 1 || v.n > maxAxis {
			return fmt.Errorf("convolution: %s is %d", v.name, v.n)
		}
	}
	if g.PadTop < 0 || g.PadLeft < 0 || g.PadTop > maxAxis || g.PadLeft > maxAxis {
		return fmt.Errorf("convolution: padding %d,%d", g.PadTop, g.PadLeft)
	}
	if int64(g.OH)*int64(g.KH)+int64(g.OW)*int64(g.KW) > maxWindow {
		return fmt.Errorf("convolution: kernel %dx%d for %dx%d pixels is too large", g.KH, g.KW, g.OH, g.OW)
	}
	if g.C%g.Groups != 0 || g.OC%g.Groups != 0 {
		return fmt.Errorf("convolution: %d and %d channels do not split into %d groups", g.C, g.OC, g.Groups)
	}
	return nil
}

// Depthwise reports whether each output channel reads the input channel of
// its own number and no other.
func (g *Geometry) Depthwise() bool { return g.Groups == g.C && g.OC == g.C && g.C > 1 }

// Pointwise reports whether the convolution is a matrix product of the pixels
// with the weights.
func (g *Geometry) Pointwise() bool {
	return g.KH == 1 && g.KW == 1 && g.StrideH == 1 && g.StrideW == 1 && g.PadTop == 0 && g.PadLeft == 0 &&
		g.OH == g.H && g.OW == g.W && g.Groups == 1
}

// unpadded reports whether no window reaches beyond the picture.
func (g *Geometry) unpadded() bool {
	return g.PadTop == 0 && g.PadLeft == 0 &&
		(g.OH-1)*g.StrideH+(g.KH-1)*g.DilationH < g.H && (g.OW-1)*g.StrideW+(g.KW-1)*g.DilationW < g.W
}

// taps is how many input pixels an output pixel reads.
func (g *Geometry) taps() int { return g.KH * g.KW }

// segments returns how many runs of neighbours in a row of the input the
// window of an output pixel has, and how many values each holds: rows of the
// kernel where they are one run, single taps otherwise.
func (g *Geometry) segments() (count, length int) {
	if g.DilationW == 1 && g.Groups == 1 {
		return g.KH, g.KW * g.C
	}
	return g.taps(), g.C / g.Groups
}

// window is the indirection: for each kernel row of each output row the input
// row, and for each kernel column of each output column the input column,
// both as offsets of elements, -1 where there is padding. One output pixel's
// taps are the sums of a few of rows and a few of cols, so nothing is copied
// and no buffer is as large as the picture.
type window struct {
	rows []int // [OH][KH], in units of elements: row * W * C
	cols []int // [OW][KW]: column * C
}

func (g *Geometry) window() window {
	w := window{rows: make([]int, g.OH*g.KH), cols: make([]int, g.OW*g.KW)}
	fill(w.rows, g.KH, g.StrideH, g.DilationH, g.PadTop, g.H, g.W*g.C)
	fill(w.cols, g.KW, g.StrideW, g.DilationW, g.PadLeft, g.W, g.C)
	return w
}

func fill(offsets []int, kernel, stride, dilation, pad, length, unit int) {
	for i := range offsets {
		at := i/kernel*stride + i%kernel*dilation - pad
		offsets[i] = -1
		if at >= 0 && at < length {
			offsets[i] = at * unit
		}
	}
}

// at returns the offset of tap (ky, kx) of output pixel (oy, ox), -1 for
// padding.
func (w *window) at(g *Geometry, oy, ox, ky, kx int) int {
	r, c := w.rows[oy*g.KH+ky], w.cols[ox*g.KW+kx]
	if r < 0 || c < 0 {
		return -1
	}
	return r + c
}

// bytes returns the memory of the two tables.
func (w *window) bytes() int { return 8 * (len(w.rows) + len(w.cols)) }
