// Package qr draws a line of text as a QR code, on a terminal, as a PNG or for
// a page: New, then Code.Terminal, Code.PNG or Code.Rows.
//
// Its promise: what it draws stands on white ground with the margin that the
// standard asks for (ISO/IEC 18004: 4 modules), so that a phone reads it from
// a dark terminal too. The code itself is made by boombuler/barcode.
package qr

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"strings"

	"github.com/boombuler/barcode/qr"
)

// margin is the white space on each side, in modules.
const margin = 4

// MaxText bounds what is drawn, in bytes: longer text gives a code that few
// cameras read from a screen.
const MaxText = 512

// Code is a QR code with its margin.
type Code struct {
	size int    // modules on a side
	dark []bool // row by row
}

// New makes the code of a text of ASCII, at error correction level M, which
// survives 15 % damage.
func New(text string) (Code, error) {
	if len(text) > MaxText {
		return Code{}, fmt.Errorf("qr code: %d bytes, at most %d", len(text), MaxText)
	}
	made, err := qr.Encode(text, qr.M, qr.Unicode)
	if err != nil {
		return Code{}, fmt.Errorf("qr code: %w", err)
	}
	n := made.Bounds().Dx()
	c := Code{size: n + 2*margin}
	c.dark = make([]bool, c.size*c.size)
	for y := range n {
		for x := range n {
			gray := color.GrayModel.Convert(made.At(x, y)).(color.Gray)
			c.dark[(y+margin)*c.size+x+margin] = gray.Y < 128
		}
	}
	return c, nil
}

// Size returns the modules on a side, margin included.
func (c Code) Size() int { return c.size }

func (c Code) at(x, y int) bool { return y < c.size && c.dark[y*c.size+x] }

// Rows returns the code row by row, '1' for a dark module.
func (c Code) Rows() []string {
	rows := make([]string, c.size)
	for y := range rows {
		var b strings.Builder
		for x := range c.size {
			if c.at(x, y) {
				b.WriteByte('1')
			} else {
				b.WriteByte('0')
			}
		}
		rows[y] = b.String()
	}
	return rows
}

// Terminal draws the code with half blocks, two rows of modules to a line of
// text. It sets black and white itself: whatever colours the terminal has, the
// ground is white.
func (c Code) Terminal(w io.Writer) error {
	const colors, plain = "\x1b[38;5;16;48;5;231m", "\x1b[0m" // black on white of the 256 colours, which no theme changes
	var b strings.Builder
	for y := 0; y < c.size; y += 2 {
		b.WriteString(colors)
		for x := range c.size {
			switch upper, lower := c.at(x, y), c.at(x, y+1); {
			case upper && lower:
				b.WriteRune('█')
			case upper:
				b.WriteRune('▀')
			case lower:
				b.WriteRune('▄')
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteString(plain + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// PNG returns a picture with scale pixels to a module.
func (c Code) PNG(scale int) ([]byte, error) {
	if scale < 1 || scale > 64 {
		return nil, fmt.Errorf("qr code: %d pixels for a module, want 1 to 64", scale)
	}
	side := c.size * scale
	m := image.NewPaletted(image.Rect(0, 0, side, side), color.Palette{color.White, color.Black})
	for y := range side {
		for x := range side {
			if c.at(x/scale, y/scale) {
				m.Pix[y*m.Stride+x] = 1
			}
		}
	}
	var b bytes.Buffer
	err := png.Encode(&b, m)
	return b.Bytes(), err
}
