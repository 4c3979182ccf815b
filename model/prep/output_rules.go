package prep

import (
	"errors"
	"fmt"
)

// BoxRules say how a network's outputs become boxes on the picture. In
// prep.toml they are the table [output.boxes].
type BoxRules struct {
	// Decoder is the network's family, and says which Tensors there are:
	//
	//	fastestdet  1: [1, 5+C, H, W]
	//	ultraface   2: scores [1, N, C], boxes [1, N, 4]
	//	blazeface   4: scores [1, N, 1] of 16x16 and of 8x8, boxes [1, N, 16] likewise
	//	yunet       12: cls, obj, bbox and kps, each of strides 8, 16 and 32
	Decoder string   `toml:"decoder" json:"decoder"`
	Tensors []string `toml:"tensors" json:"tensors"` // names of the graph's outputs, in that order
	Score   float64  `toml:"score" json:"score"`     // boxes with less are dropped; default 0.5
	Overlap float64  `toml:"overlap" json:"overlap"` // of two boxes of a class that share more (intersection over union) the worse is dropped; default 0.45
	Across  bool     `toml:"across_classes" json:"across_classes,omitempty"`
}

// TextRules say how a network's steps become text: connectionist temporal
// classification (Graves et al. 2006), the best class of each step. The
// classes are the lines of the output's Labels, without the blank. In
// prep.toml they are the table [output.text].
type TextRules struct {
	Blank int  `toml:"blank" json:"blank"`           // index of the class that stands for nothing
	Space bool `toml:"space" json:"space,omitempty"` // a space follows the last line
}

func (o *Output) setDefaults() {
	if o.Top == 0 {
		o.Top = map[string]int{"boxes": 100, "values": maxTop, "text": 1}[o.Kind]
		if o.Top == 0 {
			o.Top = 3
		}
	}
	if o.Box != nil {
		rules := *o.Box // the caller's stays as it is
		o.Box = &rules
		if rules.Score == 0 {
			o.Box.Score = 0.5
		}
		if rules.Overlap == 0 {
			o.Box.Overlap = 0.45
		}
	}
	if o.Kind == "text" && o.CTC == nil {
		o.CTC = &TextRules{}
	}
}

const maxTop = 1000

func (o Output) check() error {
	if err := oneOf("kind", o.Kind, "classes", "boxes", "text", "values"); err != nil {
		return err
	}
	if o.Top < 1 || o.Top > maxTop || o.Offset < 0 || o.Offset > 1<<20 {
		return fmt.Errorf("top %d, class_offset %d: want top from 1 to %d", o.Top, o.Offset, maxTop)
	}
	if (o.Box != nil) != (o.Kind == "boxes") {
		return fmt.Errorf("kind %q: want a table [output.boxes] with kind \"boxes\", and with no other", o.Kind)
	}
	if (o.CTC != nil) != (o.Kind == "text") {
		return fmt.Errorf("kind %q: a table [output.text] belongs to kind \"text\"", o.Kind)
	}
	if o.Offset != 0 && o.Kind != "classes" || o.Softmax && (o.Kind == "boxes" || o.Kind == "values") {
		return fmt.Errorf("kind %q: has no class_offset or softmax", o.Kind)
	}
	if err := o.checkNames(); err != nil {
		return err
	}
	if o.Box != nil {
		return o.Box.check()
	}
	if o.CTC != nil && (o.CTC.Blank < 0 || o.CTC.Blank > maxLabels) {
		return fmt.Errorf("blank %d: want 0 to %d", o.CTC.Blank, maxLabels)
	}
	return nil
}

func (o Output) checkNames() error {
	if len(o.Names) > 0 && o.Labels != "" {
		return errors.New("labels and names: want one of the two")
	}
	if len(o.Names) > maxLabels {
		return fmt.Errorf("%d names: want at most %d", len(o.Names), maxLabels)
	}
	for i, name := range o.Names {
		if len(name) > maxLabelSize {
			return fmt.Errorf("name %d has %d bytes: want at most %d", i, len(name), maxLabelSize)
		}
	}
	return nil
}

func (r *BoxRules) check() error {
	d, known := decoders[r.Decoder]
	if !known {
		return oneOf("decoder", r.Decoder, "fastestdet", "ultraface", "blazeface", "yunet")
	}
	if len(r.Tensors) != d.tensors {
		return fmt.Errorf("decoder %s: %d tensors, want %d", r.Decoder, len(r.Tensors), d.tensors)
	}
	for i, name := range r.Tensors {
		if name == "" {
			return fmt.Errorf("decoder %s: tensor %d has no name", r.Decoder, i)
		}
	}
	if !(r.Score > 0 && r.Score < 1) || !(r.Overlap > 0 && r.Overlap <= 1) {
		return fmt.Errorf("score %v, overlap %v: want more than 0, at most 1, and a score below 1", r.Score, r.Overlap)
	}
	return nil
}
