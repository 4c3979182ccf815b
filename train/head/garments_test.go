package head

import (
	"image"
	"image/color"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"dunlin/engine"
	"dunlin/model"
	"dunlin/model/onnx"
	"dunlin/model/prep"
	"dunlin/model/samples"
	"dunlin/quant"
)

// example is the demo's network in int8, and its pictures.
type example struct {
	graph *model.Graph
	spec  prep.Spec
}

var makeExample = sync.OnceValues(func() (*example, error) {
	data, err := os.ReadFile(filepath.Join(garments, "garments.onnx"))
	if err != nil {
		return nil, err
	}
	g, err := onnx.Import(data)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(garments, "prep.toml"))
	if err != nil {
		return nil, err
	}
	e := &example{}
	if e.spec, err = prep.ParseTOML(text); err != nil {
		return nil, err
	}
	set, err := samples.Open(filepath.Join(garments, "calibration"), samples.Options{Limit: 64})
	if err != nil {
		return nil, err
	}
	ranges, err := quant.Calibrate(g, func(i int) ([]*model.Tensor, error) {
		s, err := set.At(i)
		if err != nil {
			return nil, err
		}
		t, err := e.tensor(s.Picture)
		return []*model.Tensor{t}, err
	}, set.Len(), quant.Options{})
	if err != nil {
		return nil, err
	}
	e.graph, _, err = quant.Apply(g, ranges, quant.Options{})
	return e, err
})

var garments = filepath.Join("..", "..", "examples", "garments")

func theExample(t testing.TB) *example {
	t.Helper()
	e, err := makeExample()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *example) tensor(p image.Image) (*model.Tensor, error) {
	in := e.spec.Inputs[0]
	t, err := model.NewTensor(model.F32, in.Shape()...)
	if err != nil {
		return nil, err
	}
	return t, in.Picture(p, t)
}

// negative is another domain: dark pieces on white.
func negative(p image.Image) image.Image {
	n := image.NewGray(p.Bounds())
	for y := n.Rect.Min.Y; y < n.Rect.Max.Y; y++ {
		for x := n.Rect.Min.X; x < n.Rect.Max.X; x++ {
			n.SetGray(x, y, color.Gray{255 - color.GrayModel.Convert(p.At(x, y)).(color.Gray).Y})
		}
	}
	return n
}

// session compiles g for one picture at a time.
func session(t testing.TB, g *model.Graph, kernels string) *engine.Session {
	t.Helper()
	p, err := engine.Compile(g, engine.Options{Symbolic1: true, Threads: 1, Kernels: kernels})
	if err != nil {
		t.Fatal(err)
	}
	return p.NewSession()
}

// features runs the pictures of a set, changed, through the backbone of h.
func (e *example) features(t testing.TB, h *Head, set *samples.Set, change func(image.Image) image.Image) (all []Sample) {
	t.Helper()
	s := session(t, h.Backbone(), "")
	for i := range set.Len() {
		sample, err := set.At(i)
		if err != nil {
			t.Fatal(err)
		}
		e.run(t, s, change(sample.Picture))
		all = append(all, Sample{Class: sample.Class, Feature: append([]byte(nil), s.Output(0).Data...)})
	}
	return all
}

func (e *example) run(t testing.TB, s *engine.Session, p image.Image) {
	t.Helper()
	in, err := e.tensor(p)
	if err != nil {
		t.Fatal(err)
	}
	copy(s.Input(0).Data, in.Data)
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
}

func set(t testing.TB, path string, limit int) *samples.Set {
	t.Helper()
	s, err := samples.Open(path, samples.Options{Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func same(p image.Image) image.Image { return p }

// right returns the fraction of samples that n answers rightly.
func (h *Head) right(t testing.TB, n *net, all []Sample) float64 {
	t.Helper()
	answers, err := h.answers(n, all, noRest)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for i, c := range answers {
		if c == all[i].Class {
			sum++
		}
	}
	return float64(sum) / float64(len(all))
}

func noRest() error { return nil }
