package prep

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	_ "image/jpeg" // decoded by Decode
	_ "image/png"  // decoded by Decode

	"dunlin/model"
)

// Limits bound what Decode takes: a small file can claim a huge picture.
type Limits struct {
	MaxBytes  int // of the file; 0: 32 MiB
	MaxPixels int // width times height; 0: 50 million (200 MB once decoded)
}

// ErrTooLarge is returned, wrapped, by Decode for a picture over its Limits.
var ErrTooLarge = errors.New("picture is too large")

// Decode reads a PNG or a JPEG. The size that its header claims is checked
// before a pixel is decoded.
func Decode(data []byte, lim Limits) (image.Image, error) {
	if lim.MaxBytes == 0 {
		lim.MaxBytes = 32 << 20
	}
	if lim.MaxPixels == 0 {
		lim.MaxPixels = 50_000_000
	}
	if len(data) > lim.MaxBytes {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrTooLarge, len(data), lim.MaxBytes)
	}
	cfg, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("picture: %w (want PNG or JPEG)", err)
	}
	if cfg.Width < 1 || cfg.Height < 1 || max(cfg.Width, cfg.Height) > maxPicture || cfg.Width > lim.MaxPixels/cfg.Height {
		return nil, fmt.Errorf("%w: %d x %d, limit %d pixels and %d a side", ErrTooLarge, cfg.Width, cfg.Height, lim.MaxPixels, maxPicture)
	}
	img, format, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("picture (%s, %d x %d): %w", format, cfg.Width, cfg.Height, err)
	}
	return img, nil
}

// Picture writes img, resized and normalised, to dst.
//
//	dst  float32, in.Shape(); value = (pixel*in.Scale - mean[c]) / std[c]
//
// Gray is (299 R + 587 G + 114 B + 500) / 1000 (ITU-R BT.601, in integers).
// What is transparent lies on black. 16-bit channels lose their low byte.
// It fails where dst has another type or shape.
func (in Input) Picture(img image.Image, dst *model.Tensor) error {
	if in.Kind == "sound" || in.Kind == "values" {
		return fmt.Errorf("prep: input %q: takes a %s, no picture", in.Name, in.Kind)
	}
	if dst.Type != model.F32 || !dst.Shape.Equal(in.Shape()) {
		return fmt.Errorf("prep: input %q: tensor is %v %v, want float32 %v", in.Name, dst.Type, dst.Shape, in.Shape())
	}
	if b := img.Bounds(); b.Empty() || max(b.Dx(), b.Dy()) > maxPicture {
		return fmt.Errorf("prep: input %q: picture of %d x %d pixels: want 1 to %d a side", in.Name, b.Dx(), b.Dy(), maxPicture)
	}
	src := in.pixels(img)
	in.normalise(in.fit(src), dst.F32())
	return nil
}

// raster is a picture of c interleaved 8-bit channels.
type raster struct {
	w, h, c int
	pix     []uint8 // [h, w, c]
}

func newRaster(w, h, c int) raster { return raster{w, h, c, make([]uint8, w*h*c)} }

// pixels returns img in the channels of in.Color.
func (in Input) pixels(img image.Image) raster {
	b := img.Bounds()
	r := newRaster(b.Dx(), b.Dy(), in.Channels())
	if g, ok := img.(*image.Gray); ok && r.c == 1 {
		for y := range r.h {
			copy(r.pix[y*r.w:(y+1)*r.w], g.Pix[y*g.Stride:])
		}
		return r
	}
	i := 0
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			red, green, blue := rgb(img, x, y)
			switch in.Color {
			case "gray":
				r.pix[i] = uint8((299*int(red) + 587*int(green) + 114*int(blue) + 500) / 1000)
			case "rgb":
				r.pix[i], r.pix[i+1], r.pix[i+2] = red, green, blue
			case "bgr":
				r.pix[i], r.pix[i+1], r.pix[i+2] = blue, green, red
			}
			i += r.c
		}
	}
	return r
}

// rgb reads one pixel, without an allocation for what JPEG and PNG decode to.
func rgb(img image.Image, x, y int) (r, g, b uint8) {
	switch p := img.(type) {
	case *image.YCbCr:
		c := p.YCbCrAt(x, y)
		return color.YCbCrToRGB(c.Y, c.Cb, c.Cr)
	case *image.RGBA:
		c := p.RGBAAt(x, y)
		return c.R, c.G, c.B
	case *image.Gray:
		v := p.GrayAt(x, y).Y
		return v, v, v
	}
	r16, g16, b16, _ := img.At(x, y).RGBA()
	return uint8(r16 >> 8), uint8(g16 >> 8), uint8(b16 >> 8)
}

// fit cuts or pads src to in.Width x in.Height.
func (in Input) fit(src raster) raster {
	p := in.Place(src.w, src.h)
	w, h := p.to.x1-p.to.x0, p.to.y1-p.to.y0
	inner := resize(src, p.from, w, h, in.Resize)
	if w == in.Width && h == in.Height {
		return inner
	}
	dst := newRaster(in.Width, in.Height, src.c)
	for i := range dst.pix {
		dst.pix[i] = uint8(in.Pad)
	}
	for y := range h {
		copy(dst.pix[((p.to.y0+y)*dst.w+p.to.x0)*dst.c:], inner.pix[y*w*dst.c:(y+1)*w*dst.c])
	}
	return dst
}

// normalise writes src to dst through one table for each channel. The
// explicit conversion keeps a compiler from fusing the multiplication with
// the subtraction, which rounds once instead of twice on some CPUs.
func (in Input) normalise(src raster, dst []float32) {
	area := src.w * src.h
	for c := range src.c {
		mean, std := 0.0, 1.0
		if in.Mean != nil {
			mean = in.Mean[c]
		}
		if in.Std != nil {
			std = in.Std[c]
		}
		var table [256]float32
		for p := range table {
			scaled := float64(float64(p) * in.Scale)
			table[p] = float32((scaled - mean) / std)
		}
		step, at := 1, c*area // NCHW: one plane a channel
		if in.Layout == "nhwc" {
			step, at = src.c, c
		}
		for i := range area {
			dst[at+i*step] = table[src.pix[i*src.c+c]]
		}
	}
}
