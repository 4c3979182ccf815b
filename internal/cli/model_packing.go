package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dunlin/engine"
	"dunlin/internal/oci"
	"dunlin/model"
	"dunlin/model/pack"
	"dunlin/model/prep"
	"dunlin/model/samples"
	"dunlin/quant"
)

// material is what a model is made smaller with.
type material struct {
	graph *model.Graph // its inputs as the preprocessing makes them
	spec  prep.Spec
	dir   string  // where the files are that spec names, "" for a pack
	calib *feeder // calibration samples

	states []carried // of the network
	shelf  *shelf    // where the weights of graph are, or nil
}

// material reads the preprocessing and opens the calibration samples, of which
// it uses those that o says.
func (m *loaded) material(ctx context.Context, o compressOptions) (*material, error) {
	w := &material{shelf: m.shelf}
	var err error
	if w.spec, w.dir, err = m.specOrPreset(o.Prep); err != nil {
		return nil, err
	}
	if w.graph, w.states, err = o.Ports.fix(m.graph, w.spec); err != nil {
		return nil, err
	}
	if o.Rewrite.DataFree {
		b, err := boundsOf(w.spec.Inputs[0])
		if err != nil {
			return nil, err
		}
		w.calib = &feeder{ctx: ctx, in: w.spec.Inputs[0], at: samples.Spread(o.Examples, o.Examples), made: madeUp(w.graph, b)}
	}
	if o.Calibrate == "" {
		return w, nil
	}
	set, err := samples.Open(o.Calibrate, samples.Options{})
	if err != nil {
		return nil, err
	}
	w.calib = &feeder{ctx: ctx, shelf: w.shelf}
	return w, w.calibrator(set, samples.Spread(o.Samples, set.Len()), o.Samples)
}

// specOrPreset is spec, or the preset for a well-known file that has none
// beside it.
func (m *loaded) specOrPreset(file string) (prep.Spec, string, error) {
	s, dir, err := m.spec(file)
	if err == nil || file != "" || !errors.Is(err, os.ErrNotExist) {
		return s, dir, err
	}
	if p, ok := prep.Preset(strings.TrimSuffix(filepath.Base(m.path), filepath.Ext(m.path))); ok {
		return p, filepath.Dir(m.path), nil
	}
	return s, dir, err
}

// compress makes a pack of m; progress is called with samples done and in all.
func compress(ctx context.Context, m *loaded, o compressOptions, progress func(done, total int)) (*pack.Pack, error) {
	w, err := m.material(ctx, o)
	if err != nil {
		return nil, err
	}
	g, rewritten, err := w.rewrite(o.Rewrite, progress)
	if err != nil {
		return nil, err
	}
	small, qr, err := w.quantise(g, o, &rewritten, progress)
	if err != nil {
		return nil, err
	}
	p, err := packOf(m, o, w, small, o.To)
	if err != nil {
		return nil, err
	}
	return p, setReport(p, packReport{Quant: qr, Bytes: sizes{weightBytes(m.graph), weightBytes(small)}, Rewrite: rewritten})
}

func modelName(m *loaded, o compressOptions) string {
	return cmp.Or(o.Name, strings.TrimSuffix(filepath.Base(m.path), filepath.Ext(m.path)))
}

// packOf puts small, which was made of m, into a pack with all but a report;
// to says how its weights are kept.
func packOf(m *loaded, o compressOptions, w *material, small *model.Graph, to string) (*pack.Pack, error) {
	p := &pack.Pack{Name: modelName(m, o), Version: o.Version, Graph: small}
	var err error
	if len(w.states) == 0 { // a pipeline makes all inputs, and no state: who runs this one gives it tensors
		if p.Pipeline, err = json.Marshal(w.spec); err != nil {
			return nil, err
		}
	}
	if err := readNames(p, w.spec, w.dir, m); err != nil {
		return nil, err
	}
	o.Engine.Packed = w.shelf.rest
	if p.Exam, err = makeExam(small, w.calib, o.Examples, o.Engine); err != nil {
		return nil, err
	}
	p.Quant, err = json.Marshal(map[string]any{"to": to, "rounding": "dunlin v1: float32 multiply, round half to even"})
	if err != nil {
		return nil, err
	}
	sum, err := m.sum()
	if err != nil {
		return nil, err
	}
	calibrated := len(w.calib.at)
	if w.calib.made != nil {
		calibrated = 0
	}
	p.Provenance, err = json.Marshal(map[string]any{
		"source": filepath.Base(m.path), "source_sha256": sum, "calibration_samples": calibrated,
	})
	return p, err
}

func setReport(p *pack.Pack, r packReport) (err error) {
	p.Report, err = json.Marshal(r)
	return err
}

// editReport changes the report of a pack.
func editReport(p *pack.Pack, edit func(*packReport)) error {
	var r packReport
	if err := json.Unmarshal(p.Report, &r); err != nil {
		return err
	}
	edit(&r)
	return setReport(p, r)
}

// quantise turns g into the precision asked for.
func (w *material) quantise(g *model.Graph, co compressOptions, rep **rewriteReport, progress func(done, total int)) (*model.Graph, *quant.Report, error) {
	o := quant.Options{To: co.To, Progress: progress, PerTensor: co.Rewrite.PerTensor}
	switch o.To {
	case "float32":
		return g, nil, nil
	case "fp16":
		return quant.Apply(g, nil, o)
	case "int8":
		if co.Rewrite.DataFree && *rep == nil {
			*rep = &rewriteReport{}
		}
		ranges, err := w.ranges(g, co.Rewrite, *rep, progress)
		if errors.Is(err, quant.ErrQuantised) { // trained so, or made so elsewhere: it is packed as it is
			return g, nil, nil
		}
		if err != nil {
			return nil, nil, err
		}
		return quant.Apply(g, ranges, o)
	}
	return nil, nil, usagef("--to %q: want int8, fp16 or float32", o.To)
}

// feeder gives calibration samples as tensors.
type feeder struct {
	ctx context.Context
	set *samples.Set
	in  prep.Input
	at  []int // which samples of set

	made    func(i int) ([]*model.Tensor, error) // makes samples up, where there is no set
	windows [][]*model.Tensor                    // of a network with a state: the inputs, of sample at[i] of set
	shelf   *shelf                               // told of what was read, or nil
}

func (f *feeder) next(i int) ([]*model.Tensor, error) {
	if err := f.ctx.Err(); err != nil {
		return nil, err
	}
	switch {
	case f.made != nil:
		return f.made(f.at[i])
	case f.windows != nil:
		return f.windows[i], nil
	}
	s, err := f.set.At(f.at[i])
	if err != nil {
		return nil, err
	}
	t, err := model.NewTensor(model.F32, f.in.Shape()...)
	if err != nil {
		return nil, err
	}
	f.shelf.seen(s, len(t.Data))
	return []*model.Tensor{t}, s.Fill(f.in, t)
}

// class returns the class of sample i, samples.Unlabelled where it has none.
func (f *feeder) class(i int) (int, error) {
	s, err := f.set.At(f.at[i])
	return s.Class, err
}

// fixInputs gives g's one input that a sample fills the shape that its
// preprocessing makes: a pack runs one sample at a time, and its devices need
// not ask. It stands first in g, which is changed.
func fixInputs(g *model.Graph, inputs []string, spec prep.Spec) error {
	if len(inputs) != 1 || len(spec.Inputs) != 1 {
		return withHint(fmt.Errorf("model has %d inputs, its preprocessing describes %d: want one", len(inputs), len(spec.Inputs)),
			"--set and --carry say what goes into inputs that no sample fills")
	}
	in, v := spec.Inputs[0], g.Value(inputs[0])
	if in.Name != "" && in.Name != inputs[0] {
		return fmt.Errorf("preprocessing describes an input %q, the model's is %q", in.Name, inputs[0])
	}
	if !agrees(v.Shape, in.Shape()) {
		return withHint(fmt.Errorf("preprocessing makes %v, the model's input %q is %v", in.Shape(), inputs[0], v.Shape),
			"set color, width, height and layout of a picture, frames and layout of a sound, or the fields, in prep.toml")
	}
	at := slices.Index(g.Inputs, inputs[0])
	g.Inputs = append([]string{inputs[0]}, slices.Delete(g.Inputs, at, at+1)...)
	g.Values[inputs[0]] = &model.Value{Type: v.Type, Shape: in.Shape()}
	return nil
}

// agrees reports whether a tensor of shape got can go where want is declared,
// whose open axes take any length.
func agrees(want model.Shape, got []int) bool {
	if want == nil {
		return true
	}
	return slices.EqualFunc(want, got, func(w, g int) bool { return w == g || w == model.Unknown })
}

// readNames fills labels and entities, from the files that spec names or
// from the pack that is compressed again.
func readNames(p *pack.Pack, spec prep.Spec, dir string, m *loaded) error {
	if dir == "" {
		p.Labels, p.Entities = m.pack.Labels, m.pack.Entities
		return nil
	}
	if len(spec.Outputs) == 0 {
		return nil
	}
	if name := spec.Outputs[0].Labels; name != "" {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		defer f.Close()
		if p.Labels, err = prep.ParseLabels(f); err != nil {
			return err
		}
	}
	if name := spec.Outputs[0].Entities; name != "" {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		defer f.Close()
		if p.Entities, err = prep.ParseEntities(f); err != nil {
			return err
		}
	}
	return nil
}

// examTolerance is how far a float answer may lie from the exam's, as a
// share of the output's range: kernels of different CPUs add in a different
// order.
const examTolerance = 1e-3

// makeExam runs the generic kernels, which define the right answer.
func makeExam(g *model.Graph, feed *feeder, cases int, o engine.Options) (*pack.Exam, error) {
	o.Kernels, o.Threads = "generic", 1
	p, err := engine.Compile(g, o)
	if err != nil {
		return nil, explain(err)
	}
	for _, out := range p.Outputs() { // with the inputs fixed, so are the outputs
		g.Values[out.Name] = &model.Value{Type: out.Type, Shape: out.Shape}
	}
	s := p.NewSession()
	exam := &pack.Exam{Exact: p.Exact()}
	if !exam.Exact {
		exam.Tolerance = examTolerance
	}
	for _, i := range samples.Spread(cases, len(feed.at)) {
		in, err := feed.next(i)
		if err != nil {
			return nil, err
		}
		for i, t := range in {
			copy(s.Input(i).Data, t.Data)
		}
		if err := s.Run(); err != nil {
			return nil, err
		}
		c := pack.Case{Inputs: in}
		for o := range p.Outputs() {
			c.Outputs = append(c.Outputs, s.Output(o).Clone())
		}
		exam.Cases = append(exam.Cases, c)
	}
	if len(exam.Cases) == 0 {
		return nil, errors.New("exam: no cases: a pack without an exam cannot be checked by a device")
	}
	return exam, nil
}

// weightBytes sums the constants of g and of the graphs in it.
func weightBytes(g *model.Graph) int64 {
	n := int64(0)
	for _, v := range g.Values {
		if v.Const != nil {
			n += int64(len(v.Const.Data))
		}
	}
	for _, node := range g.Nodes {
		for _, a := range node.Attrs {
			if sub, ok := a.(*model.Graph); ok {
				n += weightBytes(sub)
			}
		}
	}
	return n
}

// measureLoss evaluates m and p on each set and keeps what it finds in p's
// report. before keeps what m did, for another pack of it.
func measureLoss(ctx context.Context, m *loaded, p *pack.Pack, sets []string, before map[string]evalResult, start func(what string, n int) bar) error {
	if len(sets) == 0 {
		return nil
	}
	var r packReport
	if err := json.Unmarshal(p.Report, &r); err != nil {
		return err
	}
	spec, err := prep.ParseJSON(p.Pipeline)
	if err != nil {
		return err
	}
	for _, path := range sets {
		set, err := samples.Open(path, samples.Options{})
		if err != nil {
			return err
		}
		if _, known := before[path]; !known {
			b := start("measuring the float model", set.Len())
			before[path], err = evaluate(ctx, m.graph, spec, set, engine.Options{}, b.add)
			b.done()
			if err != nil {
				return err
			}
		}
		b := start("measuring the small model", set.Len())
		after, err := evaluate(ctx, p.Graph, spec, set, engine.Options{}, b.add)
		b.done()
		if err != nil {
			return err
		}
		r.Accuracy = append(r.Accuracy, accuracy{filepath.Base(path), set.Len(), before[path].Top1, after.Top1})
	}
	return setReport(p, r)
}

// writePack writes p into the layout at dir, which it makes, and returns the
// manifest's digest.
func writePack(dir string, p *pack.Pack) (string, error) {
	l, err := oci.Create(dir)
	if err != nil {
		return "", err
	}
	d, err := pack.Write(l, p)
	return d.Digest.String(), err
}
