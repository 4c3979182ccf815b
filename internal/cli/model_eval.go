package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/spf13/cobra"

	"dunlin/engine"
	"dunlin/model"
	"dunlin/model/prep"
	"dunlin/model/samples"
)

// evalResult is what eval prints, and what a pack's report keeps.
type evalResult struct {
	Model   string  `json:"model,omitempty"`
	Data    string  `json:"data"`
	Samples int     `json:"samples"`
	Top1    float64 `json:"top1"` // share of samples, 0 to 1
	Top5    float64 `json:"top5"`
	Exact   bool    `json:"exact"` // the same bits on every CPU
}

// dataHelp says what a folder of samples can be.
const dataHelp = `PATH is a folder of PNG, JPEG or WAV files with a labels.csv (two columns: file, class
index), a folder with a subfolder of such files for each class, an IDX file or its
folder (MNIST and its like, gzipped or not), CIFAR-10's binary form, or a table in CSV
with a heading and a column "class". Of a sound the first window counts.`

func modelEvalCommand() *cobra.Command {
	var (
		data, prepFile string
		o              samples.Options
		threads        int
		kernels        string
		form           formFlag
		asJSON         bool
	)
	c := &cobra.Command{
		Use:   "eval MODEL --data PATH",
		Short: "Measure a model's accuracy on labelled samples",
		Long: `Eval runs MODEL on every sample of PATH and counts how often the class is right.

` + dataHelp + `

How a sample becomes the input is read from the packed model, else from prep.toml
beside the model, else from --prep.`,
		Example: `  dunlin model eval garments.onnx --data samples
  dunlin model eval PACK --data /usr/share/datasets/fashion-mnist --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if data == "" {
				return usagef("say where the samples are: --data PATH")
			}
			m, err := load(args[0])
			if err != nil {
				return err
			}
			defer m.close()
			if err := form.choose(m); err != nil {
				return err
			}
			spec, _, err := m.specOrPreset(prepFile)
			if err != nil {
				return err
			}
			set, err := samples.Open(data, o)
			if err != nil {
				return err
			}
			bar := newBar(c.ErrOrStderr(), "measuring "+args[0], set.Len())
			r, err := evaluate(c.Context(), m.graph, spec, set, engine.Options{Threads: threads, Kernels: kernels}, bar.add)
			bar.done()
			if err != nil {
				return err
			}
			r.Model, r.Data = args[0], data
			if asJSON {
				return printJSON(c.OutOrStdout(), r)
			}
			return printEval(c.OutOrStdout(), r)
		},
	}
	c.Flags().StringVar(&data, "data", "", "labelled samples")
	c.Flags().StringVar(&prepFile, "prep", "", "file that says how a sample becomes the input")
	c.Flags().IntVar(&o.LabelOffset, "label-offset", 0, "added to each label: 1 where the network has a background class before the others")
	c.Flags().IntVar(&o.Limit, "limit", 0, "use the first so many samples, 0: all")
	c.Flags().IntVar(&threads, "threads", 0, "threads to use, 0: as many as pay")
	form.register(c)
	c.Flags().StringVar(&kernels, "kernels", "", `"generic": the definitions in plain Go, "": the best for this CPU`)
	jsonFlag(c, &asJSON)
	return c
}

func printEval(w io.Writer, r evalResult) error {
	_, err := fmt.Fprintf(w, "%d samples: top-1 %.2f %%, top-5 %.2f %%\n", r.Samples, 100*r.Top1, 100*r.Top5)
	return err
}

// classifier is a network of one sample in and one list of scores out.
type classifier struct {
	in      prep.Input
	out     int // index of the output that spec reads
	program *engine.Program
}

// newClassifier compiles g for samples as spec makes them.
func newClassifier(g *model.Graph, spec prep.Spec, o engine.Options) (*classifier, error) {
	if len(g.Inputs) != 1 || len(spec.Inputs) != 1 {
		return nil, fmt.Errorf("model has %d inputs, its preprocessing describes %d: want one", len(g.Inputs), len(spec.Inputs))
	}
	in := spec.Inputs[0]
	if in.Name != "" && in.Name != g.Inputs[0] {
		return nil, fmt.Errorf("preprocessing describes an input %q, the model's is %q", in.Name, g.Inputs[0])
	}
	o.Shapes = map[string]model.Shape{g.Inputs[0]: in.Shape()}
	p, err := engine.Compile(g, o)
	if err != nil {
		return nil, err
	}
	out := 0
	if len(spec.Outputs) > 0 && spec.Outputs[0].Name != "" {
		if out = slices.Index(g.Outputs, spec.Outputs[0].Name); out < 0 {
			return nil, fmt.Errorf("preprocessing describes an output %q, the model has %q", spec.Outputs[0].Name, g.Outputs)
		}
	}
	if t := p.Outputs()[out].Type; t != model.F32 {
		return nil, fmt.Errorf("output %q is %v: want float32 scores", g.Outputs[out], t)
	}
	return &classifier{in, out, p}, nil
}

// rank runs the network on s, and returns how many classes it puts before the
// right one.
func (c *classifier) rank(run *engine.Session, s samples.Sample) (int, error) {
	if err := s.Fill(c.in, run.Input(0)); err != nil {
		return 0, err
	}
	if err := run.Run(); err != nil {
		return 0, fmt.Errorf("%s: %w", s.Name, err)
	}
	scores := run.Output(c.out).F32()
	if s.Class >= len(scores) {
		return 0, fmt.Errorf("%s has class %d, the network has %d", s.Name, s.Class, len(scores))
	}
	return rankOf(scores, s.Class), nil
}

// evaluate counts right answers, on as many samples at once as there are
// CPUs; add is called after each sample.
func evaluate(ctx context.Context, g *model.Graph, spec prep.Spec, set *samples.Set, o engine.Options, add func(int)) (evalResult, error) {
	if !set.Labelled() {
		return evalResult{}, withHint(errors.New("the samples have no classes"), "put a labels.csv with the columns file,class beside them, or a folder for each class")
	}
	c, err := newClassifier(g, spec, o)
	if err != nil {
		return evalResult{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next, top1, top5 atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		run := c.program.NewSession()
		workers.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= set.Len() {
					return
				}
				s, err := set.At(i)
				rank := 0
				if err == nil {
					rank, err = c.rank(run, s)
				}
				if err != nil {
					cancel(err)
					return
				}
				top1.Add(b2i(rank < 1))
				top5.Add(b2i(rank < 5))
				add(1)
			}
		})
	}
	workers.Wait()
	if err := context.Cause(ctx); err != nil {
		return evalResult{}, err
	}
	n := float64(set.Len())
	return evalResult{Samples: set.Len(), Top1: float64(top1.Load()) / n, Top5: float64(top5.Load()) / n, Exact: c.program.Exact()}, nil
}

// rankOf returns how many classes stand before class: those with a higher
// score, and those with the same one and a lower index.
func rankOf(scores []float32, class int) int {
	rank := 0
	for i, v := range scores {
		if v > scores[class] || v == scores[class] && i < class {
			rank++
		}
	}
	return rank
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
