package explain

import (
	"image"
	"image/color"
	"math"
	"slices"

	"dunlin/model/prep"
)

// Sides of what Overlay draws, in pixels: large enough for a person to see a
// picture of 28 x 28, small enough that a device encodes it in a moment.
const (
	leastSide = 256
	mostSide  = 640
)

// viridis is the colour map of matplotlib 2 (S. van der Walt and N. Smith,
// CC0) at ten equal steps: its brightness rises evenly, and people who are
// colour-blind read it too.
var viridis = [...]color.RGBA{
	{0x44, 0x01, 0x54, 255},
	{0x48, 0x28, 0x78, 255},
	{0x3e, 0x4a, 0x89, 255},
	{0x31, 0x68, 0x8e, 255},
	{0x26, 0x82, 0x8e, 255},
	{0x1f, 0x9e, 0x89, 255},
	{0x35, 0xb7, 0x79, 255},
	{0x6e, 0xce, 0x58, 255},
	{0xb5, 0xde, 0x2b, 255},
	{0xfd, 0xe7, 0x25, 255},
}

// heat returns the colour of v, from 0 to 1.
func heat(v float64) (r, g, b float64) {
	at := min(max(v, 0), 1) * float64(len(viridis)-1)
	i := min(int(at), len(viridis)-2)
	f := at - float64(i)
	mix := func(a, b uint8) float64 { return float64(a)*(1-f) + float64(b)*f }
	low, high := viridis[i], viridis[i+1]
	return mix(low.R, high.R), mix(low.G, high.G), mix(low.B, high.B)
}

// Backdrop returns a picture in grey, in the size in which Overlay draws on
// it: its longer side has from 256 to 640 pixels. It is all that is needed of a
// picture once the network's input is made of it.
func Backdrop(img image.Image) *image.Gray {
	b := img.Bounds()
	long := max(b.Dx(), b.Dy())
	to := min(max(long, leastSide), mostSide)
	w, h := max(1, (b.Dx()*to+long/2)/long), max(1, (b.Dy()*to+long/2)/long)
	out := image.NewGray(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			out.Pix[y*out.Stride+x] = greyAt(img, x, y, w, h)
		}
	}
	return out
}

// Overlay draws a map over the picture that it explains: darker grey where the
// map is not above 0 or the network does not look, and where it is above in
// colours, from violet to yellow at the map's highest value. A white line runs
// along 0, where the picture begins to speak for the class. A map that is
// nowhere above 0 leaves the picture without colour.
//
// Of gradients the attributions of single pixels cancel each other from one to
// the next: they are shown under a Gaussian of a fortieth of the longer side.
//
// in is how the picture became the network's input.
func Overlay(back *image.Gray, in prep.Input, m *Map) *image.RGBA {
	size := back.Bounds().Size()
	if m.Method == Gradients {
		m = m.smoothed(float64(max(m.Width, m.Height)) / 40)
	}
	values, most := m.over(size, in)
	out := image.NewRGBA(image.Rectangle{Max: size})
	for y := range size.Y {
		for x := range size.X {
			v, grey := values[y*size.X+x], float64(back.GrayAt(x, y).Y)
			c := color.RGBA{A: 255}
			switch {
			case v > 0 && edge(values, x, y, size.X, size.Y):
				c = color.RGBA{255, 255, 255, 255}
			case v > 0:
				r, g, b := heat(v / most)
				alpha := 0.35 + 0.35*v/most
				blend := func(c float64) uint8 { return uint8(grey*(1-alpha) + c*alpha + 0.5) }
				c.R, c.G, c.B = blend(r), blend(g), blend(b)
			default:
				c.R = uint8(0.55*grey + 0.5)
				c.G, c.B = c.R, c.R
			}
			out.SetRGBA(x, y, c)
		}
	}
	return out
}

// smoothed returns the map under a Gaussian, in cells.
func (m *Map) smoothed(sigma float64) *Map {
	c, kernel := *m, gaussian(sigma)
	c.Values = slices.Clone(m.Values)
	smooth(c.Values, c.Width, c.Height, 1, c.Width, kernel)
	smooth(c.Values, c.Height, c.Width, c.Width, 1, kernel)
	return &c
}

// over returns the map's value at each pixel of a picture and the highest; -1
// where the network does not look, and where its arithmetic left the finite
// numbers: a NaN has no colour, and beside an infinity nothing else has one.
func (m *Map) over(size image.Point, in prep.Input) (values []float64, most float64) {
	values = make([]float64, size.X*size.Y)
	place := in.Place(size.X, size.Y)
	for i := range values {
		x, y := place.Input(float64(i%size.X)+0.5, float64(i/size.X)+0.5)
		values[i] = -1
		if x > 0 && y > 0 && x < float64(in.Width) && y < float64(in.Height) {
			if v := m.At(x/float64(in.Width), y/float64(in.Height)); !math.IsNaN(v) && !math.IsInf(v, 0) {
				values[i] = v
			}
		}
		most = max(most, values[i])
	}
	return values, most
}

// edge reports whether a place above 0 has a neighbour that is not.
func edge(values []float64, x, y, w, h int) bool {
	for _, d := range [...][2]int{{-1, 0}, {1, 0}, {0, -1}, {0, 1}} {
		nx, ny := x+d[0], y+d[1]
		if nx >= 0 && ny >= 0 && nx < w && ny < h && !(values[ny*w+nx] > 0) {
			return true
		}
	}
	return false
}

// greyAt returns the brightness of what pixel x, y of w x h shows of img, from
// 0 to 255: the mean of 3 x 3 points of it, whatever its size.
func greyAt(img image.Image, x, y, w, h int) uint8 {
	const points = 3
	b := img.Bounds()
	at, fast := img.(image.RGBA64Image) // what PNG and JPEG decode to: no allocation
	sum := 0
	for i := range points * points {
		px := b.Min.X + (points*x+i%points)*b.Dx()/(points*w)
		py := b.Min.Y + (points*y+i/points)*b.Dy()/(points*h)
		if fast {
			c := at.RGBA64At(px, py)
			sum += (299*int(c.R) + 587*int(c.G) + 114*int(c.B)) / 1000
			continue
		}
		r, g, bl, _ := img.At(px, py).RGBA()
		sum += (299*int(r) + 587*int(g) + 114*int(bl)) / 1000
	}
	return uint8(sum / (points * points * 257))
}
