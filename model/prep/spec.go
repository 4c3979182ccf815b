// Package prep turns a picture, a sound or a line of numbers into a network's
// input, and a network's outputs into labels, boxes, text or named values. The
// same code runs when a model is calibrated, when it is evaluated and on the
// device, so that the three cannot drift apart. Start with Spec; then Decode,
// Input.Picture and Output.Classes, DecodeSound and Input.Sound, or
// Input.Numbers. Preset has the Spec of some well-known networks.
//
// Its promise: the same bytes of a picture or a sound and the same Spec give
// the same bits of a tensor on every CPU. Resizing is integer arithmetic, each
// channel is normalised through a table of 256 values, and what a sound needs
// of sines and logarithms is in elementary.go, in plain float64 whose products
// are never fused with sums.
//
// It runs nothing: engine does.
package prep

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/BurntSushi/toml"
)

// Spec says how a network's inputs are made and its outputs read. It stands
// in a file prep.toml beside a model, and as pipeline.json in a pack.
type Spec struct {
	Inputs  []Input  `toml:"input" json:"inputs"`
	Outputs []Output `toml:"output" json:"outputs"`
}

// Input says how a picture, a sound or a line of numbers becomes one input. The
// fields from Color to Resize belong to pictures, the table Rules to sounds,
// Fields to numbers.
type Input struct {
	Name   string      `toml:"name" json:"name"`                         // of the graph's input
	Kind   string      `toml:"kind" json:"kind"`                         // "picture", "sound" or "values"
	Color  string      `toml:"color" json:"color,omitempty"`             // "gray", "rgb" or "bgr"
	Width  int         `toml:"width" json:"width,omitempty"`             // pixels
	Height int         `toml:"height" json:"height,omitempty"`           // pixels
	Fit    string      `toml:"fit" json:"fit,omitempty"`                 // "stretch", "crop" or "letterbox"
	Keep   float64     `toml:"keep" json:"keep,omitempty"`               // crop: how much of the largest centred part is kept, 1: all
	Pad    int         `toml:"pad" json:"pad,omitempty"`                 // letterbox: value of the border, 0 to 255
	Resize string      `toml:"resize" json:"resize,omitempty"`           // "bilinear", "nearest" or "area"
	Layout string      `toml:"layout" json:"layout"`                     // "nchw" or "nhwc"; of a sound also "ntf", "nft" or "flat", see Shape
	Scale  float64     `toml:"scale" json:"scale"`                       // value = (x*scale - mean) / std, x a pixel or a feature
	Mean   []float64   `toml:"mean" json:"mean"`                         // one for each channel, in the order of Color; of a sound one, or one for each feature
	Std    []float64   `toml:"std" json:"std"`                           // as Mean
	Rules  *SoundRules `toml:"sound,omitempty" json:"sound,omitempty"`   // kind "sound"
	Fields []string    `toml:"fields,omitempty" json:"fields,omitempty"` // kind "values": names of the numbers, in order
}

// Output says how one output is read, or, for boxes, several.
type Output struct {
	Name     string     `toml:"name" json:"name"`                                     // of the graph's output; of boxes, any word
	Kind     string     `toml:"kind" json:"kind"`                                     // "classes", "boxes", "text" or "values"
	Softmax  bool       `toml:"softmax" json:"softmax"`                               // classes, text: the network ends in logits
	Top      int        `toml:"top" json:"top"`                                       // how many labels, boxes or values an answer has at most
	Labels   string     `toml:"labels,omitempty" json:"labels,omitempty"`             // file beside prep.toml, a label a line; a pack holds the labels itself
	Names    []string   `toml:"names,omitempty" json:"names,omitempty"`               // the labels themselves, where there are few and no file
	Entities string     `toml:"entities,omitempty" json:"entities,omitempty"`         // file beside prep.toml: label,IRI
	Offset   int        `toml:"class_offset,omitempty" json:"class_offset,omitempty"` // class 0 of the labelled data is this index of the output
	Box      *BoxRules  `toml:"boxes,omitempty" json:"boxes,omitempty"`               // kind "boxes"
	CTC      *TextRules `toml:"text,omitempty" json:"text,omitempty"`                 // kind "text"
}

// Limits of a Spec, which may come with a model from anywhere.
const (
	maxSide  = 8192
	maxPorts = 64
)

// ParseTOML reads the text of a prep.toml. Unknown fields are errors.
func ParseTOML(text []byte) (Spec, error) {
	var s Spec
	meta, err := toml.Decode(string(text), &s)
	if err != nil {
		return Spec{}, fmt.Errorf("prep: %w", err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return Spec{}, fmt.Errorf("prep: field %q is unknown", unknown[0].String())
	}
	s.setDefaults()
	return s, s.Check()
}

// ParseJSON reads the form that a pack holds. Unknown fields are errors.
func ParseJSON(text []byte) (Spec, error) {
	var s Spec
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return Spec{}, fmt.Errorf("prep: %w", err)
	}
	s.setDefaults()
	return s, s.Check()
}

// setDefaults fills what was left out with what most networks want.
func (s *Spec) setDefaults() {
	or := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	for i := range s.Inputs {
		in := &s.Inputs[i]
		or(&in.Kind, "picture")
		if in.Kind == "values" {
			or(&in.Layout, "flat")
			if in.Scale == 0 {
				in.Scale = 1
			}
			continue
		}
		or(&in.Layout, "nchw")
		if in.Kind == "sound" {
			in.soundDefaults()
			continue
		}
		or(&in.Color, "rgb")
		or(&in.Fit, "stretch")
		or(&in.Resize, "bilinear")
		if in.Scale == 0 {
			in.Scale = 1.0 / 255
		}
		if in.Keep == 0 {
			in.Keep = 1
		}
	}
	for i := range s.Outputs {
		or(&s.Outputs[i].Kind, "classes")
		s.Outputs[i].setDefaults()
	}
}

// Check fails where a field has a value that means nothing, and names it.
func (s Spec) Check() error {
	if len(s.Inputs) == 0 || len(s.Inputs) > maxPorts || len(s.Outputs) > maxPorts {
		return fmt.Errorf("prep: %d inputs and %d outputs: want 1 to %d inputs", len(s.Inputs), len(s.Outputs), maxPorts)
	}
	for i, in := range s.Inputs {
		if err := in.check(); err != nil {
			return fmt.Errorf("prep: input %d (%q): %w", i, in.Name, err)
		}
	}
	for i, out := range s.Outputs {
		if err := out.check(); err != nil {
			return fmt.Errorf("prep: output %d (%q): %w", i, out.Name, err)
		}
	}
	return nil
}

func (in Input) check() error {
	switch in.Kind {
	case "picture":
		if err := in.checkPicture(); err != nil {
			return err
		}
	case "sound":
		if err := in.checkSound(); err != nil {
			return err
		}
	case "values":
		if err := in.checkNumbers(); err != nil {
			return err
		}
	default:
		return fmt.Errorf("kind %q: want one of picture sound values", in.Kind)
	}
	return in.checkScale()
}

func (in Input) checkPicture() error {
	for _, f := range []struct{ field, value, want1, want2, want3 string }{
		{"color", in.Color, "gray", "rgb", "bgr"},
		{"fit", in.Fit, "stretch", "crop", "letterbox"},
		{"resize", in.Resize, "bilinear", "nearest", "area"},
		{"layout", in.Layout, "nchw", "nhwc", ""},
	} {
		if f.value == "" || f.value != f.want1 && f.value != f.want2 && f.value != f.want3 {
			return fmt.Errorf("%s %q: want one of %s %s %s", f.field, f.value, f.want1, f.want2, f.want3)
		}
	}
	if in.Width < 1 || in.Height < 1 || in.Width > maxSide || in.Height > maxSide {
		return fmt.Errorf("%d x %d pixels: want 1 to %d on each side", in.Width, in.Height, maxSide)
	}
	if in.Pad < 0 || in.Pad > 255 {
		return fmt.Errorf("pad %d: want 0 to 255", in.Pad)
	}
	if !(in.Keep > 0 && in.Keep <= 1) {
		return fmt.Errorf("keep %v: want more than 0, at most 1", in.Keep)
	}
	if in.Rules != nil || in.Fields != nil {
		return errors.New("a picture has a table sound, or fields")
	}
	if c := in.Channels(); in.Mean != nil && len(in.Mean) != c || in.Std != nil && len(in.Std) != c {
		return fmt.Errorf("%d means and %d stds for %d channels", len(in.Mean), len(in.Std), c)
	}
	return nil
}

func (in Input) checkScale() error {
	for _, v := range append(append([]float64{in.Scale}, in.Mean...), in.Std...) {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return errors.New("scale, mean and std must be finite")
		}
	}
	for _, v := range in.Std {
		if v == 0 {
			return errors.New("a std is 0")
		}
	}
	return nil
}

// Channels returns 1 for gray and for sounds, 3 otherwise.
func (in Input) Channels() int {
	if in.Color == "gray" || in.Kind == "sound" {
		return 1
	}
	return 3
}

// Shape returns the shape of the tensor that Picture, Sound or Numbers fills.
//
//	picture  nchw [1, C, H, W]; nhwc [1, H, W, C]
//	sound    nchw [1, 1, T, F]; nhwc [1, T, F, 1]; ntf [1, T, F];
//	         nft [1, F, T]; flat [1, T*F]
//	values   flat [1, number of Fields]
//
// T is Rules.Frames, F is Rules.Width.
func (in Input) Shape() []int {
	if in.Kind == "values" {
		return []int{1, len(in.Fields)}
	}
	if in.Kind == "sound" && in.Rules != nil {
		return in.soundShape()
	}
	if in.Layout == "nhwc" {
		return []int{1, in.Height, in.Width, in.Channels()}
	}
	return []int{1, in.Channels(), in.Height, in.Width}
}
