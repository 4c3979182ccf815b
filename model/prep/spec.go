// Package prep turns a picture into a network's input and a network's output
// into labels. The same code runs when a model is calibrated, when it is
// evaluated and on the device, so that the three cannot drift apart. Start
// with Spec, Decode, Input.Picture and Output.Classes.
//
// Its promise: the same bytes of a picture and the same Spec give the same
// bits of a tensor on every CPU. Resizing is integer arithmetic, and each
// channel is normalised through a table of 256 values.
//
// It draws nothing and runs nothing: engine does.
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

// Input says how a picture becomes one input.
type Input struct {
	Name   string    `toml:"name" json:"name"`     // of the graph's input
	Kind   string    `toml:"kind" json:"kind"`     // "picture"
	Color  string    `toml:"color" json:"color"`   // "gray", "rgb" or "bgr"
	Width  int       `toml:"width" json:"width"`   // pixels
	Height int       `toml:"height" json:"height"` // pixels
	Fit    string    `toml:"fit" json:"fit"`       // "stretch", "crop" or "letterbox"
	Keep   float64   `toml:"keep" json:"keep,omitempty"`
	Pad    int       `toml:"pad" json:"pad,omitempty"` // letterbox: value of the border, 0 to 255
	Resize string    `toml:"resize" json:"resize"`     // "bilinear", "nearest" or "area"
	Layout string    `toml:"layout" json:"layout"`     // "nchw" or "nhwc"
	Scale  float64   `toml:"scale" json:"scale"`       // value = (pixel*scale - mean) / std
	Mean   []float64 `toml:"mean" json:"mean"`         // one for each channel, in the order of Color
	Std    []float64 `toml:"std" json:"std"`
}

// Output says how one output is read.
type Output struct {
	Name     string `toml:"name" json:"name"`
	Kind     string `toml:"kind" json:"kind"`                                     // "classes"
	Softmax  bool   `toml:"softmax" json:"softmax"`                               // the network ends in logits
	Top      int    `toml:"top" json:"top"`                                       // how many labels an answer has
	Labels   string `toml:"labels,omitempty" json:"labels,omitempty"`             // file beside prep.toml, a label a line; a pack holds the labels itself
	Entities string `toml:"entities,omitempty" json:"entities,omitempty"`         // file beside prep.toml: label,IRI
	Offset   int    `toml:"class_offset,omitempty" json:"class_offset,omitempty"` // class 0 of the labelled data is this index of the output
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
		or(&in.Color, "rgb")
		or(&in.Fit, "stretch")
		or(&in.Resize, "bilinear")
		or(&in.Layout, "nchw")
		if in.Scale == 0 {
			in.Scale = 1.0 / 255
		}
		if in.Keep == 0 {
			in.Keep = 1
		}
	}
	for i := range s.Outputs {
		or(&s.Outputs[i].Kind, "classes")
		if s.Outputs[i].Top == 0 {
			s.Outputs[i].Top = 3
		}
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
		if out.Kind != "classes" {
			return fmt.Errorf("prep: output %d (%q): kind %q: want classes", i, out.Name, out.Kind)
		}
		if out.Top < 1 || out.Top > 1000 || out.Offset < 0 || out.Offset > 1<<20 {
			return fmt.Errorf("prep: output %d (%q): top %d, class_offset %d: want top from 1 to 1000", i, out.Name, out.Top, out.Offset)
		}
	}
	return nil
}

func (in Input) check() error {
	for _, f := range []struct{ field, value, want1, want2, want3 string }{
		{"kind", in.Kind, "picture", "", ""},
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
	c := in.Channels()
	if in.Mean != nil && len(in.Mean) != c || in.Std != nil && len(in.Std) != c {
		return fmt.Errorf("%d means and %d stds for %d channels", len(in.Mean), len(in.Std), c)
	}
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

// Channels returns 1 for gray, 3 otherwise.
func (in Input) Channels() int {
	if in.Color == "gray" {
		return 1
	}
	return 3
}

// Shape returns the shape of the tensor that Picture fills: [1, C, H, W] or
// [1, H, W, C].
func (in Input) Shape() []int {
	if in.Layout == "nhwc" {
		return []int{1, in.Height, in.Width, in.Channels()}
	}
	return []int{1, in.Channels(), in.Height, in.Width}
}
