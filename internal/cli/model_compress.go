package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"dunlin/engine"
	"dunlin/model/pack"
	"dunlin/quant"
)

// compressOptions are what a person says about a model to be packed.
type compressOptions struct {
	To        string // "int8", "fp16" or "float32"
	Name      string
	Version   int64
	Calibrate string // samples
	Samples   int    // how many of them to use at most
	Prep      string
	Examples  int // cases of the exam
	Engine    engine.Options
	Rewrite   rewriteOptions
	Ports     portOptions
}

// packReport is the report that a pack carries.
type packReport struct {
	Quant    *quant.Report `json:"quant,omitempty"`
	Bytes    sizes         `json:"bytes"`
	Accuracy []accuracy    `json:"accuracy,omitempty"`

	Certificate *certificate `json:"certificate,omitempty"` // with --data

	Rewrite *rewriteReport `json:"rewrite,omitempty"` // before it was quantised

	Small *smallReport `json:"small,omitempty"` // nil: it has no small form
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
		keep   = certifyOptions{MaxDrop: 0.01, Confidence: 0.95}
		flags  compileFlags
		out    string
		eval   string
		small  string
		page   string
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "compress MODEL {--data PATH | --calibrate PATH} -o PACK",
		Short: "Make a small model of a float one, with a bound on what it loses, and pack it",
		Long: `Compress folds batch normalisation, measures the range of every activation, lowers
the precision of weights and activations, and writes a packed model: an OCI image
layout with the graph, the weights, the preprocessing, labels, entities, a report of
what each layer lost, and an exam that every device sits before the model may answer.

With --data it keeps a promise. The samples are parted by --seed: some calibrate, the
others are answered by the float model and by one candidate after the other, from the
least compressed to the most, through the kernels that a device runs. The smallest (or
fastest) is packed of which it is certain, with --confidence, that its accuracy on data
like these is at most --max-drop below the float model's. Where none is, nothing is
packed, and the exit status is 3. Samples without labels certify agreement: at most so
many answers differ from the float model's. docs/COMPRESSION.md explains it.

With --calibrate alone the whole model becomes what --to says, and nothing is promised;
a model that computes in int8 already is packed as it is.
With --data-free there are no samples: ranges come from the statistics of batch
normalisation, and the exam is made-up pictures.

` + dataHelp + ` Calibration needs no labels.

With --small the pack carries a second network for the same samples, taken from a pack
that was made before: a smaller one, which answers while the board is too hot or short
of memory. It sits an exam of its own; what it loses is for --eval to say.

Preprocessing, labels and entities are read from prep.toml beside MODEL, or --prep.`,
		Example: `  dunlin model compress garments.onnx --data /usr/share/datasets/fashion-mnist -o garments-small
  dunlin model compress net.onnx --data pics --max-drop 0.5% --confidence 99% --target latency --report net.html -o net-small
  dunlin model compress garments.onnx --calibrate calibration -o garments-int8
  dunlin model compress net.onnx --calibrate pics --to fp16 --eval test -o net-fp16
  dunlin model compress net.onnx --data pics --small net-tiny-int8 --eval test -o net-small`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case out == "" || o.Calibrate == "" && keep.Data == "" && !o.Rewrite.DataFree:
				return usagef("say where the samples are and where the pack goes: --data PATH or --calibrate PATH, -o PACK")
			case keep.Data != "" && c.Flags().Changed("to"):
				return usagef("--to goes with --calibrate alone: with --data the precision of each layer is searched")
			}
			var err error
			if o.Engine, err = flags.options(); err != nil {
				return err
			}
			if err := keep.check(); err != nil {
				return err
			}
			if err := o.Rewrite.check(keep, o.Calibrate); err != nil {
				return err
			}
			if err := o.Ports.check(o.Rewrite, eval); err != nil {
				return err
			}
			m, err := load(args[0])
			if err != nil {
				return err
			}
			defer m.close()
			defer sparing(m, out)()
			start := func(what string, n int) bar { return newBar(c.ErrOrStderr(), what, n) }
			r := compressing{m: m, o: o, keep: keep, start: start, out: c.ErrOrStderr(), page: page, json: asJSON, keepFloat: eval != ""}
			p, err := r.pack(c.Context())
			if err != nil {
				return err
			}
			if small != "" {
				free, err := attachSmall(p, small)
				if err != nil {
					return err
				}
				defer free() // an error of unmapping says nothing of the pack
			}
			var evals []string
			if eval != "" {
				evals = []string{eval}
			}
			if err := measureLoss(c.Context(), m, p, evals, map[string]evalResult{}, start); err != nil {
				return err
			}
			if small != "" && eval != "" {
				if err := measureSmall(c.Context(), p, eval, start); err != nil {
					return err
				}
			}
			digest, err := writePack(out, p)
			if err != nil {
				return err
			}
			return printCompressed(c, out, digest, p, asJSON)
		},
	}
	f := c.Flags()
	f.StringVar(&keep.Data, "data", "", "samples like those the model will see, labelled or not: certify what is lost on them")
	f.Var(&keep.MaxDrop, "max-drop", "accuracy that may be lost, in points of all answers")
	f.Var(&keep.Confidence, "confidence", "how certain it must be that no more is lost")
	f.StringVar(&keep.Target, "target", "size", "what to choose among the certified: size (the smallest) or latency (the fastest on this machine)")
	f.StringVar(&keep.Bound, "bound", "bernstein", "what decides: bernstein, or exact, which certifies the same with fewer samples; both are reported")
	f.BoolVar(&keep.Uncertified, "uncertified", false, "pack the best by what was lost on the samples where nothing can be certified")
	f.Uint64Var(&keep.Seed, "seed", 1, "of the split into calibration and certification samples")
	f.IntVar(&keep.LabelOffset, "label-offset", -1, "added to each label; -1: class_offset of prep.toml")
	f.Float64Var(&keep.Tolerance, "tolerance", 0.05, "how far values may differ and count as one answer, where the output is values")
	f.Float64Var(&keep.Seconds, "seconds", 0.3, "how long to time each candidate")
	f.IntVar(&keep.Epochs, "qat-epochs", 20, "train for int8 with the calibration samples for at most so many epochs, where nothing else as small keeps the promise; 0: never")
	f.StringVar(&page, "report", "", "write a page of HTML that shows all that was measured to `FILE`")
	f.StringVar(&o.To, "to", "int8", "with --calibrate alone: int8, fp16 (weights only) or float32 (pack as it is)")
	f.StringVarP(&out, "output", "o", "", "folder of the packed model")
	f.StringVar(&o.Calibrate, "calibrate", "", "samples that are like those the model will see; labels are not needed")
	f.IntVar(&o.Samples, "samples", 512, "calibrate with at most so many of them")
	f.StringVar(&o.Prep, "prep", "", "file that says how a sample becomes the input")
	f.StringVar(&o.Name, "name", "", "name of the model (default: of the file)")
	f.Int64Var(&o.Version, "version", 1, "version; a device refuses one below that it has had")
	f.IntVar(&o.Examples, "exam", 4, "cases of the exam")
	f.StringVar(&small, "small", "", "packed model that answers in place of this one while the board is too hot or short of memory")
	o.Rewrite.register(c)
	o.Ports.register(c)
	flags.registerLimits(c)
	f.StringVar(&eval, "eval", "", "labelled samples: measure the accuracy before and after, and keep it in the report")
	jsonFlag(c, &asJSON)
	for flag, values := range map[string][]string{"target": {"size", "latency"}, "bound": {"bernstein", "exact"}, "to": {"int8", "fp16", "float32"}} {
		_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	return c
}

// compressing is one run of the command, up to the pack.
type compressing struct {
	m     *loaded
	o     compressOptions
	keep  certifyOptions
	start func(what string, n int) bar
	out   io.Writer // for people
	page  string    // file for the report, or ""
	json  bool

	keepFloat bool // the float graph is wanted afterwards
}

// pack makes the pack, and the page where one is wanted: that also where
// nothing can be certified, for it says why.
func (r compressing) pack(ctx context.Context) (*pack.Pack, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(loadGC))
	if r.keep.Data == "" {
		b := r.start("calibrating", 1)
		p, err := compress(ctx, r.m, r.o, b.set)
		b.done()
		if err != nil || r.page == "" {
			return p, err
		}
		w, err := r.m.material(ctx, r.o)
		if err != nil {
			return nil, err
		}
		var rep packReport
		if err := json.Unmarshal(p.Report, &rep); err != nil {
			return nil, err
		}
		return p, r.writePage(rep, w)
	}
	return r.certified(ctx)
}

// certified searches, and packs what was chosen.
func (r compressing) certified(ctx context.Context) (*pack.Pack, error) {
	before := weightBytes(r.m.graph)
	w, err := r.m.material(ctx, r.o)
	if err != nil {
		return nil, err
	}
	if err := r.m.foldOnce(w, r.o.Rewrite); err != nil {
		return nil, err
	}
	s, err := newSearch(ctx, w, r.o.Samples, r.keep)
	if err != nil {
		return nil, err
	}
	s.start, s.rewrite = r.start, r.o.Rewrite
	failed := s.run()
	if failed != nil && !errors.As(failed, new(uncertifiedError)) {
		return nil, failed
	}
	if !r.json && len(s.cert.Front) > 0 {
		printFront(r.out, s.cert)
	}
	rep := packReport{Certificate: s.cert, Bytes: sizes{before, 0}, Rewrite: s.rewritten}
	if failed != nil {
		if r.page != "" && len(s.cert.Front) > 0 {
			failed = errors.Join(failed, r.writePage(rep, w))
		}
		return nil, failed
	}
	small, qr, bytes, err := s.apply(s.chosen)
	if err != nil {
		return nil, err
	}
	if s.chosen.graph != nil { // its weights are others than those that were rounded
		for i := range qr.Layers {
			qr.Layers[i].WeightError = nil
		}
	}
	float := s.graph
	s.graph, s.ranges, w.graph = nil, nil, nil // Measure is the last to want the float graph, and lets go of it
	if !r.keepFloat {
		r.m.letGo()
	}
	debug.FreeOSMemory()
	if err := qr.Measure(float, small, w.calib.next, min(measured, len(w.calib.at)), quant.Options{Rest: w.shelf.rest}); err != nil {
		return nil, err
	}
	debug.FreeOSMemory()
	qr.To = s.chosen.name
	rep.Quant, rep.Bytes.After = qr, bytes
	if c := s.cert; c.FloatAccuracy != nil {
		rep.Accuracy = []accuracy{{c.Data, c.Samples, *c.FloatAccuracy, *c.Front[c.Chosen].Accuracy}}
	}
	p, err := packOf(r.m, r.o, w, small, s.chosen.name)
	if err != nil {
		return nil, err
	}
	if r.page != "" {
		if err := r.writePage(rep, w); err != nil {
			return nil, err
		}
	}
	return p, setReport(p, rep)
}

// writePage writes the report that a person reads.
func (r compressing) writePage(rep packReport, w *material) error {
	p, err := newReportPage(modelName(r.m, r.o), rep, w.spec, someOf(w.calib))
	if err != nil {
		return err
	}
	return p.write(r.page)
}

// measured is how many calibration samples the error of each layer's output
// is measured on.
const measured = 32

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
	if t := r.Certificate; t != nil {
		fmt.Fprintln(w, promise(t))
	}
	for _, a := range r.Accuracy {
		fmt.Fprintf(w, "accuracy on %s (%d samples): %.2f %% -> %.2f %%\n", a.Data, a.Samples, 100*a.Before, 100*a.After)
	}
	if s := r.Small; s != nil {
		fmt.Fprintf(w, "small form: %s version %d, %s of weights\n", s.Name, s.Version, bytesText(s.Bytes))
		for _, a := range s.Accuracy {
			fmt.Fprintf(w, "accuracy of the small form on %s (%d samples): %.2f %%\n", a.Data, a.Samples, 100*a.After)
		}
	}
	return nil
}

// promise says in a sentence what a certificate says.
func promise(c *certificate) string {
	p := c.Front[c.Chosen]
	lost := "of the accuracy on data like " + c.Data
	if c.Measure == "agreement" {
		lost = "of the answers on data like " + c.Data + " differ from the float model's"
	}
	if !c.Certified {
		return fmt.Sprintf("NOT CERTIFIED: %s points were lost on %d samples, and it may be %s; at most %s were wanted", points(p.Drop), c.Samples, points(p.bound(c.Bound)), points(c.MaxDrop))
	}
	return fmt.Sprintf("Certified with %s confidence: at most %s points %s (%s lost on %d samples; %s)",
		strings.TrimSpace(percent(c.Confidence)), points(p.bound(c.Bound)), lost, points(p.Drop), c.Samples, boundText(c.Bound))
}
