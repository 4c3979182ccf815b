package source

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
)

// yuyv is an uncompressed picture as USB cameras give it: two pixels in four
// bytes, Y0 U Y1 V.
type yuyv struct {
	width, height int  // width is even
	stride        int  // bytes of a row
	full          bool // Y, U and V go from 0 to 255; else Y from 16 to 235, as in television
}

// encode returns the picture as a PNG that is not compressed: it is decoded
// a moment later.
func (f yuyv) encode(data []byte) ([]byte, error) {
	img, err := f.decode(data)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = (&png.Encoder{CompressionLevel: png.NoCompression}).Encode(&b, img)
	return b.Bytes(), err
}

// decode returns the picture in RGB (ITU-R BT.601).
func (f yuyv) decode(data []byte) (*image.RGBA, error) {
	if f.width < 2 || f.width%2 != 0 || f.height < 1 || f.stride < 2*f.width || len(data) < f.stride*(f.height-1)+2*f.width {
		return nil, fmt.Errorf("a YUYV picture of %d x %d in rows of %d bytes: %d bytes came", f.width, f.height, f.stride, len(data))
	}
	rgb := limited
	if f.full {
		rgb = color.YCbCrToRGB
	}
	img := image.NewRGBA(image.Rect(0, 0, f.width, f.height))
	for y := range f.height {
		row, out := data[y*f.stride:][:2*f.width], img.Pix[y*img.Stride:]
		for ; len(row) >= 4; row, out = row[4:], out[8:] {
			u, v := row[1], row[3]
			out[0], out[1], out[2] = rgb(row[0], u, v)
			out[4], out[5], out[6] = rgb(row[2], u, v)
			out[3], out[7] = 255, 255
		}
	}
	return img, nil
}

// limited turns a pixel of limited range into RGB: BT.601 with its factors in
// units of 1/256.
func limited(y, u, v uint8) (r, g, b uint8) {
	c, d, e := 298*(int(y)-16)+128, int(u)-128, int(v)-128
	clamp := func(x int) uint8 { return uint8(min(max(x>>8, 0), 255)) }
	return clamp(c + 409*e), clamp(c - 100*d - 208*e), clamp(c + 516*d)
}
