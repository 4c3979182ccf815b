package prep

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"math"
)

// palette colours boxes by class: light colours, on which black text stands
// out.
var palette = []color.RGBA{
	{0x3d, 0xdc, 0x84, 255},
	{0xff, 0xb0, 0x00, 255},
	{0x64, 0xb5, 0xff, 255},
	{0xff, 0x7a, 0x7a, 255},
	{0xe0, 0x9c, 0xff, 255},
	{0xf5, 0xe6, 0x4a, 255},
	{0x5c, 0xe1, 0xe6, 255},
	{0xff, 0xa0, 0xd0, 255},
}

// Draw returns a copy of img with each box, its points, and its label and
// score above it or, where there is no room, inside it. Lines and letters
// grow with the picture. Characters beyond ASCII are drawn as hollow boxes.
func Draw(img image.Image, boxes []Box) image.Image {
	r := img.Bounds().Sub(img.Bounds().Min)
	c := canvas{image.NewRGBA(r), max(1, min(r.Dx(), r.Dy())/250)}
	draw.Draw(c.img, r, img, img.Bounds().Min, draw.Src)
	for i := len(boxes) - 1; i >= 0; i-- { // the best last, so that it lies on top
		c.box(boxes[i])
	}
	return c.img
}

// canvas draws with lines of unit pixels.
type canvas struct {
	img  *image.RGBA
	unit int
}

func (c canvas) fill(x0, y0, x1, y1 int, in color.RGBA) {
	draw.Draw(c.img, image.Rect(x0, y0, x1, y1), image.NewUniform(in), image.Point{}, draw.Src)
}

func (c canvas) box(b Box) {
	in := palette[max(0, b.Index)%len(palette)]
	x0, y0, x1, y1 := pixel(b.X0), pixel(b.Y0), pixel(b.X1), pixel(b.Y1)
	u := c.unit
	c.fill(x0, y0, x1, y0+u, in)
	c.fill(x0, y1-u, x1, y1, in)
	c.fill(x0, y0, x0+u, y1, in)
	c.fill(x1-u, y0, x1, y1, in)
	for _, p := range b.Points {
		x, y := pixel(p.X), pixel(p.Y)
		c.fill(x-u, y-u, x+u+1, y+u+1, in)
	}
	c.label(fmt.Sprintf("%s %.2f", b.Label, b.Score), x0, y0, in)
}

// pixel rounds v to a pixel near the picture.
func pixel(v float32) int {
	if v != v {
		return 0
	}
	return int(math.Round(float64(min(max(v, -1<<16), 1<<16))))
}

// label writes text in black on a plate of one colour, whose lower left
// corner is at x, y where the picture has room for that.
func (c canvas) label(text string, x, y int, in color.RGBA) {
	runes := []rune(text)
	w, h := (len(runes)*(glyphWidth+1)+1)*c.unit, (glyphHeight+2)*c.unit
	bounds := c.img.Bounds()
	x = max(0, min(x, bounds.Dx()-w))
	y -= h
	if y < 0 {
		y = max(0, min(y+h, bounds.Dy()-h))
	}
	c.fill(x, y, x+w, y+h, in)
	for i, letter := range runes {
		left := x + (i*(glyphWidth+1)+1)*c.unit
		if left >= bounds.Dx() {
			return
		}
		for col, bits := range []byte(glyph(letter)) {
			for row := range glyphHeight {
				if bits>>row&1 == 1 {
					px, py := left+col*c.unit, y+(row+1)*c.unit
					c.fill(px, py, px+c.unit, py+c.unit, color.RGBA{A: 255})
				}
			}
		}
	}
}
