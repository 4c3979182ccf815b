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

	"github.com/spf13/cobra"

	"dunlin/engine"
	"dunlin/internal/oci"
	"dunlin/model"
	"dunlin/model/pack"
	"dunlin/model/prep"
	"dunlin/model/samples"
	"dunlin/quant"
)

// compressOptions are what a person says about a model to be packed.
type compressOptions struct {
	To        string // "int8", "fp16" or "float32"
	Name      string
	Version   int64
	Calibrate string // pictures
	Samples   int    // how many of them to use at most
	Prep      string
	Examples  int // cases of the exam
	Engine    engine.Options
}

// packReport is the report that a pack carries.
type packReport struct {
	Quant    *quant.Report `json:"quant,omitempty"`
	Bytes    sizes         `json:"bytes"`
	Accuracy []accuracy    `json:"accuracy,omitempty"`
}

// sizes are of the weights alone, in bytes.
type sizes struct {
	Before int64 `json:"before"`
	After  int64 `json:"after"`
}

// accuracy is a measurement on one set before and after.
type accuracy struct {
	Data    string  `json:"data"`
	Samples int     `json:"samples"`
	Before  float64 `json:"before"` // top-1, 0 to 1
	After   float64 `json:"after"`
}

func modelCompressCommand() *cobra.Command {
	var (
		o      = compressOptions{}
		flags  compileFlags
		out    string
		eval   string
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "compress MODEL --calibrate PATH -o PACK",
		Short: "Make a small model of a float one, and pack it",
		Long: `Compress folds batch normalisation, measures the range of every activation on the
pictures of --calibrate, turns weights and activations into int8 (or weights into
fp16), and writes a packed model: an OCI image layout with the graph, the weights, the
preprocessing, labels, entities, a report of what each layer lost, and an exam that
every device sits before the model may answer.

Preprocessing, labels and entities are read from prep.toml beside MODEL, or --prep.`,
		Example: `  dunlin model compress garments.onnx --calibrate calibration -o garments-int8
  dunlin model compress net.onnx --calibrate pics --require int8 -o net-int8
  dunlin model compress net.onnx --calibrate pics --to fp16 --eval test -o net-fp16`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if out == "" || o.Calibrate == "" {
				return usagef("say where the pictures are and where the pack goes: --calibrate PATH -o PACK")
			}
			var err error
			if o.Engine, err = flags.options(); err != nil {
				return err
			}
			m, err := load(args[0])
			if err != nil {
				return err
			}
			defer m.close()
			b := newBar(c.ErrOrStderr(), "calibrating", 1)
			p, err := compress(c.Context(), m, o, b.set)
			b.done()
			if err != nil {
				return err
			}
			var evals []string
			if eval != "" {
				evals = []string{eval}
			}
			if err := measureLoss(c.Context(), m, p, evals, map[string]evalResult{}, func(what string, n int) bar { return newBar(c.ErrOrStderr(), what, n) }); err != nil {
				return err
			}
			digest, err := writePack(out, p)
			if err != nil {
				return err
			}
			return printCompressed(c, out, digest, p, asJSON)
		},
	}
	f := c.Flags()
	f.StringVar(&o.To, "to", "int8", "int8, fp16 (weights only) or float32 (pack as it is)")
	f.StringVarP(&out, "output", "o", "", "folder of the packed model")
	f.StringVar(&o.Calibrate, "calibrate", "", "pictures that are like those the model will see; labels are not needed")
	f.IntVar(&o.Samples, "samples", 512, "use at most so many of them, spread evenly")
	f.StringVar(&o.Prep, "prep", "", "file that says how a picture becomes the input")
	f.StringVar(&o.Name, "name", "", "name of the model (default: of the file)")
	f.Int64Var(&o.Version, "version", 1, "version; a device refuses one below that it has had")
	f.IntVar(&o.Examples, "exam", 4, "cases of the exam")
	flags.registerLimits(c)
	f.StringVar(&eval, "eval", "", "labelled pictures: measure the accuracy before and after, and keep it in the report")
	jsonFlag(c, &asJSON)
	return c
}

// compress makes a pack of m; progress is called with samples done and in all.
func compress(ctx context.Context, m *loaded, o compressOptions, progress func(done, total int)) (*pack.Pack, error) {
	spec, dir, err := m.spec(o.Prep)
	if err != nil {
		return nil, err
	}
	set, err := samples.Open(o.Calibrate, samples.Options{})
	if err != nil {
		return nil, err
	}
	feed := &feeder{ctx: ctx, set: set, in: spec.Inputs[0], at: samples.Spread(o.Samples, set.Len())}
	g, err := fixInputs(m.graph, spec)
	if err != nil {
		return nil, err
	}
	small, qr, err := quantise(g, feed, o.To, progress)
	if err != nil {
		return nil, err
	}
	p := &pack.Pack{
		Name: cmp.Or(o.Name, strings.TrimSuffix(filepath.Base(m.path), filepath.Ext(m.path))), Version: o.Version, Graph: small,
	}
	if p.Pipeline, err = json.Marshal(spec); err != nil {
		return nil, err
	}
	if err := readNames(p, spec, dir, m); err != nil {
		return nil, err
	}
	if p.Exam, err = makeExam(small, feed, o.Examples, o.Engine); err != nil {
		return nil, err
	}
	p.Quant, err = json.Marshal(map[string]any{"to": o.To, "rounding": "dunlin v1: float32 multiply, round half to even"})
	if err != nil {
		return nil, err
	}
	sum, err := m.sum()
	if err != nil {
		return nil, err
	}
	p.Provenance, err = json.Marshal(map[string]any{
		"source": filepath.Base(m.path), "source_sha256": sum, "calibration_samples": len(feed.at),
	})
	if err != nil {
		return nil, err
	}
	return p, setReport(p, packReport{Quant: qr, Bytes: sizes{weightBytes(m.graph), weightBytes(small)}})
}

func setReport(p *pack.Pack, r packReport) (err error) {
	p.Report, err = json.Marshal(r)
	return err
}

// quantise turns g into the precision asked for.
func quantise(g *model.Graph, feed *feeder, to string, progress func(done, total int)) (*model.Graph, *quant.Report, error) {
	o := quant.Options{To: to, Progress: progress}
	switch to {
	case "float32":
		return g, nil, nil
	case "fp16":
		return quant.Apply(g, nil, o)
	case "int8":
		ranges, err := quant.Calibrate(g, feed.next, len(feed.at), o)
		if err != nil {
			return nil, nil, err
		}
		return quant.Apply(g, ranges, o)
	}
	return nil, nil, usagef("--to %q: want int8, fp16 or float32", to)
}

// feeder gives calibration samples as tensors.
type feeder struct {
	ctx context.Context
	set *samples.Set
	in  prep.Input
	at  []int // which samples of set
}

func (f *feeder) next(i int) ([]*model.Tensor, error) {
	if err := f.ctx.Err(); err != nil {
		return nil, err
	}
	s, err := f.set.At(f.at[i])
	if err != nil {
		return nil, err
	}
	t, err := model.NewTensor(model.F32, f.in.Shape()...)
	if err != nil {
		return nil, err
	}
	return []*model.Tensor{t}, f.in.Picture(s.Picture, t)
}

// fixInputs gives the graph's input the shape that its preprocessing makes: a
// pack runs one picture at a time, and its devices need not ask.
func fixInputs(g *model.Graph, spec prep.Spec) (*model.Graph, error) {
	if len(g.Inputs) != 1 || len(spec.Inputs) != 1 {
		return nil, fmt.Errorf("model has %d inputs, its preprocessing describes %d: want one picture", len(g.Inputs), len(spec.Inputs))
	}
	in, v := spec.Inputs[0], g.Value(g.Inputs[0])
	if in.Name != "" && in.Name != g.Inputs[0] {
		return nil, fmt.Errorf("preprocessing describes an input %q, the model's is %q", in.Name, g.Inputs[0])
	}
	if !agrees(v.Shape, in.Shape()) {
		return nil, withHint(fmt.Errorf("preprocessing makes %v, the model's input %q is %v", in.Shape(), g.Inputs[0], v.Shape),
			"set color, width, height and layout in prep.toml")
	}
	g = g.Clone()
	g.Values[g.Inputs[0]] = &model.Value{Type: v.Type, Shape: spec.Inputs[0].Shape()}
	return g, nil
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
		copy(s.Input(0).Data, in[0].Data)
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

// weightBytes sums the constants of g.
func weightBytes(g *model.Graph) int64 {
	n := int64(0)
	for _, v := range g.Values {
		if v.Const != nil {
			n += int64(len(v.Const.Data))
		}
	}
	return n
}

// measureLoss evaluates m and p on each set and keeps what it finds in p's
// report. before keeps what m did, for another pack of it.
func measureLoss(ctx context.Context, m *loaded, p *pack.Pack, sets []string, before map[string]evalResult, start func(what string, n int) bar) error {
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

func printCompressed(c *cobra.Command, out, digest string, p *pack.Pack, asJSON bool) error {
	var r packReport
	if err := json.Unmarshal(p.Report, &r); err != nil {
		return err
	}
	if asJSON {
		return printJSON(c.OutOrStdout(), struct {
			Pack    string     `json:"pack"`
			Name    string     `json:"name"`
			Version int64      `json:"version"`
			Digest  string     `json:"digest"`
			Report  packReport `json:"report"`
		}{out, p.Name, p.Version, digest, r})
	}
	w := c.OutOrStdout()
	fmt.Fprintf(w, "%s: %s version %d, %s\n", out, p.Name, p.Version, digest)
	fmt.Fprintf(w, "weights: %s -> %s (%.1f times smaller)\n", bytesText(r.Bytes.Before), bytesText(r.Bytes.After), float64(r.Bytes.Before)/float64(r.Bytes.After))
	for _, a := range r.Accuracy {
		fmt.Fprintf(w, "accuracy on %s (%d pictures): %.2f %% -> %.2f %%\n", a.Data, a.Samples, 100*a.Before, 100*a.After)
	}
	return nil
}
