package cli

import (
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dunlin/engine"
	"dunlin/model"
	"dunlin/model/prep"
)

// pictureFlags are what model run takes to look at a picture in place of raw
// tensors.
type pictureFlags struct{ in, out, prep, keys string }

// seen is what a network says of a picture, by the kinds of its outputs.
type seen struct {
	Labels []prep.Label `json:"labels,omitempty"`
	Boxes  []prep.Box   `json:"boxes,omitempty"` // in pixels of the picture
	Texts  []prep.Text  `json:"texts,omitempty"`
}

// runPicture runs m on a picture and, where f.out is set, draws what it found.
func runPicture(m *loaded, f pictureFlags, o engine.Options) (seen, error) {
	spec, err := m.pictureSpec(f.prep)
	if err != nil {
		return seen{}, err
	}
	names, err := m.names(spec, f)
	if err != nil {
		return seen{}, err
	}
	data, err := os.ReadFile(f.in)
	if err != nil {
		return seen{}, err
	}
	img, err := prep.Decode(data, prep.Limits{})
	if err != nil {
		return seen{}, fmt.Errorf("%s: %w", f.in, err)
	}
	outputs, err := m.look(img, spec, o)
	if err != nil {
		return seen{}, err
	}
	s, err := readOutputs(spec, outputs, img.Bounds(), names)
	if err != nil || f.out == "" {
		return s, err
	}
	file, err := os.Create(f.out)
	if err != nil {
		return s, err
	}
	return s, errors.Join(png.Encode(file, prep.Draw(img, s.Boxes)), file.Close())
}

// pictureSpec is spec, or the preset for a well-known file.
func (m *loaded) pictureSpec(file string) (prep.Spec, error) {
	s, _, err := m.spec(file)
	if err == nil || file != "" || !errors.Is(err, os.ErrNotExist) {
		return s, err
	}
	if p, ok := prep.Preset(strings.TrimSuffix(filepath.Base(m.path), filepath.Ext(m.path))); ok {
		return p, nil
	}
	return s, err
}

// pictureNames are the words for what a network finds.
type pictureNames struct {
	labels, keys []string
	entities     map[string]string
}

func (m *loaded) names(spec prep.Spec, f pictureFlags) (n pictureNames, err error) {
	if m.pack != nil {
		n.labels, n.entities = m.pack.Labels, m.pack.Entities
	}
	dir := filepath.Dir(m.path)
	if f.prep != "" {
		dir = filepath.Dir(f.prep)
	}
	for _, o := range spec.Outputs {
		if o.Labels != "" && m.pack == nil {
			if n.labels, err = readLines(filepath.Join(dir, o.Labels), prep.ParseLabels); err != nil {
				return n, err
			}
		}
	}
	if f.keys != "" {
		n.keys, err = readLines(f.keys, prep.ParseKeys)
	}
	return n, err
}

func readLines(file string, parse func(io.Reader) ([]string, error)) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parse(f)
}

// look runs the network on a picture and returns its outputs by name.
func (m *loaded) look(img image.Image, spec prep.Spec, o engine.Options) (map[string]*model.Tensor, error) {
	if len(m.graph.Inputs) != 1 || len(spec.Inputs) != 1 {
		return nil, fmt.Errorf("model has %d inputs, its preprocessing describes %d: want one picture", len(m.graph.Inputs), len(spec.Inputs))
	}
	in, name := spec.Inputs[0], m.graph.Inputs[0]
	p, s, err := m.session(map[string]model.Shape{name: in.Shape()}, nil, o)
	if err != nil {
		return nil, err
	}
	if err := in.Picture(img, s.Input(0)); err != nil {
		return nil, err
	}
	if err := s.Run(); err != nil {
		return nil, err
	}
	outputs := map[string]*model.Tensor{}
	for i, port := range p.Outputs() {
		outputs[port.Name] = s.Output(i)
	}
	return outputs, nil
}

// readOutputs reads the outputs as spec says.
func readOutputs(spec prep.Spec, outputs map[string]*model.Tensor, size image.Rectangle, names pictureNames) (s seen, err error) {
	for _, o := range spec.Outputs {
		switch o.Kind {
		case "boxes":
			var tensors []*model.Tensor
			for _, name := range o.Box.Tensors {
				if outputs[name] == nil {
					return s, fmt.Errorf("the model has no output %q, which its preprocessing names", name)
				}
				tensors = append(tensors, outputs[name])
			}
			s.Boxes, err = o.Boxes(tensors, spec.Inputs[0].Place(size.Dx(), size.Dy()), names.labels, names.entities, s.Boxes)
		case "text":
			if names.keys == nil {
				return s, withHint(errors.New("the model reads text, and its characters are not known"), "give the file of characters with --keys FILE")
			}
			var t prep.Text
			t, err = o.Text(outputs[o.Name], names.keys)
			s.Texts = append(s.Texts, t)
		case "classes":
			t := outputs[o.Name]
			if t == nil && len(outputs) == 1 {
				for _, t = range outputs {
				}
			}
			if t == nil {
				return s, fmt.Errorf("the model has no output %q, which its preprocessing names", o.Name)
			}
			s.Labels, err = o.Classes(t, names.labels, names.entities, s.Labels)
		}
		if err != nil {
			return s, err
		}
	}
	return s, nil
}

// printSeen prints what was found, the surest first.
func printSeen(w io.Writer, s seen) {
	rows := [][]string{}
	for _, l := range s.Labels {
		rows = append(rows, []string{fmt.Sprintf("%.4f", l.Score), l.Label, l.Entity})
	}
	for _, b := range s.Boxes {
		rows = append(rows, []string{fmt.Sprintf("%.4f", b.Score), b.Label, fmt.Sprintf("x %.0f to %.0f, y %.0f to %.0f", b.X0, b.X1, b.Y0, b.Y1)})
	}
	for _, t := range s.Texts {
		rows = append(rows, []string{fmt.Sprintf("%.4f", t.Score), t.String})
	}
	if len(rows) == 0 {
		fmt.Fprintln(w, "nothing found")
	}
	table(w, slices.Clip(rows))
}
