package cli

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"slices"
	"strings"

	"dunlin/model"
	"dunlin/model/prep"
)

// seenInput is one sample as the network sees it: what is left of it after
// the preprocessing, turned back into something to look at.
type seenInput struct {
	Name    string
	Picture string // a PNG, "" for numbers
	Numbers []string
	Least   float32 // of the values that go into the network
	Mean    float32
	Most    float32
}

// seenPictures is how many samples a report shows.
const seenPictures = 10

// seeInput turns a network's input back. One that the preprocessing does not
// make, as a pack's exam may hold, is an error.
func seeInput(in prep.Input, name string, t *model.Tensor) (seenInput, error) {
	if t.Type != model.F32 || !t.Shape.Equal(in.Shape()) {
		return seenInput{}, fmt.Errorf("%s: its input is %v%v, the preprocessing makes %v%v", name, t.Type, t.Shape, model.F32, in.Shape())
	}
	v := t.F32()
	s := seenInput{Name: name, Least: slices.Min(v), Most: slices.Max(v)}
	sum := 0.0
	for _, x := range v {
		sum += float64(x)
	}
	s.Mean = float32(sum / float64(len(v)))
	var img image.Image
	switch in.Kind {
	case "values":
		for i, field := range in.Fields {
			s.Numbers = append(s.Numbers, fmt.Sprintf("%s %.4g", field, v[i]))
		}
		return s, nil
	case "sound":
		img = soundPicture(in, v)
	default:
		img = pixelsOf(in, v)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return s, err
	}
	s.Picture = ("data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes()))
	return s, nil
}

// pixelsOf undoes scale, mean, std, colour order and layout.
func pixelsOf(in prep.Input, v []float32) image.Image {
	img := image.NewRGBA(image.Rect(0, 0, in.Width, in.Height))
	channels, area := in.Channels(), in.Width*in.Height
	for i := range area {
		var rgb [3]uint8
		for c := range channels {
			at := c*area + i
			if in.Layout == "nhwc" {
				at = i*channels + c
			}
			mean, std := 0.0, 1.0
			if in.Mean != nil {
				mean = in.Mean[c]
			}
			if in.Std != nil {
				std = in.Std[c]
			}
			p := uint8(min(max(math.Round((float64(v[at])*std+mean)/in.Scale), 0), 255))
			switch {
			case channels == 1:
				rgb = [3]uint8{p, p, p}
			case in.Color == "bgr":
				rgb[2-c] = p
			default:
				rgb[c] = p
			}
		}
		img.SetRGBA(i%in.Width, i/in.Width, color.RGBA{rgb[0], rgb[1], rgb[2], 255})
	}
	return img
}

// The size of a sound's picture.
const (
	soundWidth  = 320
	soundHeight = 120
)

// soundPicture draws features as a spectrogram, low ones below, and samples as
// a wave.
func soundPicture(in prep.Input, v []float32) image.Image {
	img := image.NewGray(image.Rect(0, 0, soundWidth, soundHeight))
	least, most := slices.Min(v), slices.Max(v)
	span := max(most-least, 1e-9)
	frames, features := in.Rules.Frames, in.Rules.Width()
	for x := range soundWidth {
		if in.Rules.Features == "samples" {
			part := v[x*len(v)/soundWidth : max((x+1)*len(v)/soundWidth, x*len(v)/soundWidth+1)]
			place := func(s float32) int { return int((most - s) / span * (soundHeight - 1)) }
			for y := place(slices.Max(part)); y <= place(slices.Min(part)); y++ {
				img.SetGray(x, y, color.Gray{Y: 255})
			}
			continue
		}
		t := x * frames / soundWidth
		for y := range soundHeight {
			f := (soundHeight - 1 - y) * features / soundHeight
			at := t*features + f
			if in.Layout == "nft" {
				at = f*frames + t
			}
			img.SetGray(x, y, color.Gray{Y: uint8(255 * (v[at] - least) / span)})
		}
	}
	return img
}

// prepWords says in sentences how a sample becomes the input.
func prepWords(in prep.Input) []string {
	norm := "Then value = x"
	if in.Scale != 1 {
		norm = fmt.Sprintf("Then value = x * %.6g", in.Scale)
	}
	if in.Mean != nil {
		norm += fmt.Sprintf(", minus %s", listOf(in.Mean))
	}
	if in.Std != nil {
		norm += fmt.Sprintf(", divided by %s", listOf(in.Std))
	}
	layout := fmt.Sprintf("The network takes %v (%s).", in.Shape(), in.Layout)
	switch in.Kind {
	case "values":
		return []string{fmt.Sprintf("%d numbers in this order: %s.", len(in.Fields), strings.Join(in.Fields, ", ")), norm + ".", layout}
	case "sound":
		r := in.Rules
		return []string{
			fmt.Sprintf("Sound at %d samples a second, resampled where it has another rate.", r.Rate),
			fmt.Sprintf("%d frames of %d features (%s), a window every %d frames.", r.Frames, r.Width(), r.Features, r.Step),
			norm + ".", layout,
		}
	}
	fit := map[string]string{
		"stretch":   "stretched to %d x %d pixels, whatever its shape",
		"crop":      "its middle cut out and resized to %d x %d pixels",
		"letterbox": "resized to fit into %d x %d pixels, with a border",
	}[in.Fit]
	text := fmt.Sprintf("The picture is "+fit+" (%s)", in.Width, in.Height, in.Resize)
	if in.Fit == "crop" && in.Keep != 1 {
		text += fmt.Sprintf(", %.4g of the largest middle part", in.Keep)
	}
	order := map[string]string{"gray": "Its pixels become grey.", "rgb": "Its channels are red, green, blue.", "bgr": "Its channels are blue, green, red."}[in.Color]
	return []string{text + ".", order, norm + ", x from 0 to 255.", layout}
}

func listOf(v []float64) string {
	words := make([]string, len(v))
	for i, x := range v {
		words[i] = fmt.Sprintf("%.6g", x)
	}
	if len(words) > 8 {
		return fmt.Sprintf("%d values of their own", len(words))
	}
	return strings.Join(words, ", ")
}
