package cli

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dunlin/engine"
	why "dunlin/explain"
	"dunlin/model"
	"dunlin/model/prep"
	"dunlin/train"
)

// explainFlags are those of model explain.
type explainFlags struct {
	picture         pictureFlags
	class, method   string
	float           string
	whyInt8, asJSON bool
	budget          time.Duration
	faithful        faithfulFlags
}

// explained is what model explain prints as JSON.
type explained struct {
	Method   string    `json:"method"`
	Class    int       `json:"class"`
	Label    string    `json:"label"`
	Score    float32   `json:"score"`
	Runs     int       `json:"runs"`
	Complete bool      `json:"complete"`
	Millis   float64   `json:"ms"`
	Width    int       `json:"width"` // of the map, over the network's whole input
	Height   int       `json:"height"`
	Values   []float32 `json:"values"` // row-major, positive: speaks for the class
	File     string    `json:"file,omitempty"`
}

func modelExplainCommand() *cobra.Command {
	var f explainFlags
	c := &cobra.Command{
		Use:   "explain MODEL {--picture FILE [-o HEAT.png | --why-int8 --float ORIGINAL] | --faithful --data PATH}",
		Short: "Show which part of a picture an answer rests on, or what int8 did to it",
		Long: `Explain runs MODEL (.onnx, .tflite or a packed model) on a picture and says which part
of it speaks for a class: the one that the model puts first, or --class. -o writes the
picture with the map over it, from violet to yellow, a white line where it begins to
speak for the class; without -o the map is printed in characters.

  cam        class activation map: one run, exact, for networks that end in pooling
             and a linear layer, int8 ones too
  occlusion  covers parts of the picture, coarse to fine, until --budget ends: for
             any classifier
  gradients  integrated gradients: for networks in float; of a packed int8 model
             say --float ORIGINAL
  auto       cam where the network allows it, else occlusion

With --why-int8 it runs --float ORIGINAL and MODEL, its int8 form, side by side on this
very picture: the first classes of both, the signal-to-noise ratio behind each layer,
and which layer loses most.

With --faithful it measures the maps on the pictures of --data against a random order,
by deletion and insertion (arXiv:1806.07421), with intervals of 95 % of the paired
differences. docs/EXPLAIN.md says what the methods mean, and what they do not.`,
		Example: `  dunlin model explain garments.onnx --picture boot.png -o heat.png
  dunlin model explain PACK --picture boot.png --class Sneaker --method occlusion -o heat.png
  dunlin model explain PACK --picture boot.png --float garments.onnx --why-int8
  dunlin model explain PACK --float garments.onnx --faithful --data samples`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			switch {
			case f.faithful.on:
				return f.runFaithful(c, args[0])
			case f.whyInt8:
				return f.runWhyInt8(c, args[0])
			}
			return f.run(c, args[0])
		},
	}
	f.register(c)
	return c
}

func (f *explainFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.picture.in, "picture", "", "PNG or JPEG to look at")
	c.Flags().StringVarP(&f.picture.out, "output", "o", "", "write the picture with the map over it to this PNG")
	c.Flags().StringVar(&f.picture.prep, "prep", "", "file that says how the picture becomes the input")
	c.Flags().StringVar(&f.class, "class", "", "`NAME|N`: class to explain, by label or number (default: the one the model puts first)")
	c.Flags().StringVar(&f.method, "method", why.Auto, "auto, cam, occlusion or gradients")
	c.Flags().DurationVar(&f.budget, "budget", 30*time.Second, "time for occlusion, which gives what it has by then")
	c.Flags().StringVar(&f.float, "float", "", "the same model in float: for gradients and --why-int8")
	c.Flags().BoolVar(&f.whyInt8, "why-int8", false, "compare --float and MODEL on this picture, layer by layer")
	f.faithful.register(c)
	jsonFlag(c, &f.asJSON)
	_ = c.RegisterFlagCompletionFunc("method", cobra.FixedCompletions(explainMethods, cobra.ShellCompDirectiveNoFileComp))
}

var explainMethods = []string{why.Auto, why.CAM, why.Occlusion, why.Gradients}

// check refuses flags that do not go together.
func (f *explainFlags) check() error {
	switch {
	case !slices.Contains(explainMethods, f.method):
		return usagef("--method %q: want one of %s", f.method, strings.Join(explainMethods, ", "))
	case f.faithful.on && (f.faithful.data == "" || f.picture.in != "" || f.whyInt8):
		return usagef("--faithful wants --data PATH, and neither --picture nor --why-int8")
	case !f.faithful.on && f.picture.in == "":
		return usagef("say which picture: --picture FILE")
	case f.whyInt8 && f.float == "":
		return usagef("--why-int8 wants the model in float: --float ORIGINAL")
	}
	return nil
}

// subject is a model that is explained, and its words.
type subject struct {
	*loaded
	spec   prep.Spec
	labels []string
	float  *loaded // of --float; nil: none
}

func (s *subject) close() {
	s.loaded.close()
	if s.float != nil {
		s.float.close()
	}
}

func (f *explainFlags) load(path string) (*subject, error) {
	m, err := load(path)
	if err != nil {
		return nil, err
	}
	s := &subject{loaded: m}
	if s.spec, err = m.pictureSpec(f.picture.prep); err == nil {
		var n pictureNames
		n, err = m.names(s.spec, f.picture)
		s.labels = n.labels
	}
	if err == nil && len(s.labels) == 0 && len(s.spec.Outputs) > 0 {
		s.labels = s.spec.Outputs[0].Names
	}
	if err == nil && f.float != "" {
		s.float, err = load(f.float)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// run explains one picture.
func (f *explainFlags) run(c *cobra.Command, path string) error {
	s, err := f.load(path)
	if err != nil {
		return err
	}
	defer s.close()
	x, err := newExplainer(s, engine.Options{})
	if err != nil {
		return err
	}
	n := x.network
	img, err := readPicture(f.picture.in)
	if err != nil {
		return err
	}
	t, err := model.NewTensor(model.F32, n.Input().Shape()...)
	if err != nil {
		return err
	}
	if err := n.Input().Picture(img, t); err != nil {
		return err
	}
	start := time.Now()
	m, err := f.explain(c.Context(), x, t.F32())
	if err != nil {
		return err
	}
	r := explained{
		Method: m.Method, Class: m.Class, Label: why.ClassName(m.Class, s.labels), Score: m.Score, Runs: m.Runs, Complete: m.Complete,
		Millis: millis(time.Since(start)), Width: m.Width, Height: m.Height, Values: m.Values, File: f.picture.out,
	}
	if f.picture.out != "" {
		file, err := os.Create(f.picture.out)
		if err != nil {
			return err
		}
		if err := errors.Join(png.Encode(file, why.Overlay(why.Backdrop(img), n.Input(), m)), file.Close()); err != nil {
			return err
		}
	}
	if f.asJSON {
		return printJSON(c.OutOrStdout(), r)
	}
	printExplained(c.OutOrStdout(), r, m)
	return nil
}

// explainBatch is how many covered pictures run at once: more is not faster.
const explainBatch = 8

// explainer is a compiled subject, and what gradients need. It is for one
// goroutine.
type explainer struct {
	*subject
	network *why.Network
	net     *train.Net // nil: no gradients were asked for yet
	steps   int        // of their integral, at most
}

func newExplainer(s *subject, o engine.Options) (*explainer, error) {
	n, err := why.New(s.graph, s.spec, why.Options{Batch: explainBatch, Engine: o})
	if err != nil {
		return nil, explain(err)
	}
	return &explainer{subject: s, network: n, steps: gradientMost}, nil
}

// explain finds the class and makes its map.
func (f *explainFlags) explain(ctx context.Context, x *explainer, input []float32) (*why.Map, error) {
	a, err := x.network.Ask(input)
	if err != nil {
		return nil, err
	}
	class := a.Best()
	if f.class != "" {
		if class, err = why.FindClass(f.class, x.labels, x.network.Classes()); err != nil {
			return nil, err
		}
	}
	return x.explain(ctx, f.method, input, class, a.Scores[class], f.budget)
}

// explain makes the map of a class.
func (x *explainer) explain(ctx context.Context, method string, input []float32, class int, score float32, budget time.Duration) (*why.Map, error) {
	if method == why.Gradients {
		return x.gradients(ctx, input, class, score)
	}
	end := time.Now().Add(budget)
	m, err := x.network.Explain(ctx, method, input, class, why.Budget{Stop: func() bool { return time.Now().After(end) }})
	switch {
	case errors.Is(err, why.ErrMethod):
		err = withHint(err, "--method occlusion explains any classifier")
	case errors.Is(err, why.ErrBudget):
		err = withHint(err, "give it more time with --budget")
	}
	return m, err
}

// printExplained says what was found, and shows the map where no file does.
func printExplained(w io.Writer, r explained, m *why.Map) {
	fmt.Fprintf(w, "%s (%d), score %.4f\n", r.Label, r.Class, r.Score)
	note := ""
	if !r.Complete && r.Method == why.Occlusion {
		note = ", ended by the budget before the finest parts"
	}
	if !r.Complete && r.Method == why.Gradients {
		note = ", and the attributions do not yet sum to the score"
	}
	fmt.Fprintf(w, "%s: %s, %.1f ms%s\n", r.Method, runsText(r.Runs), r.Millis, note)
	if most := slices.Max(m.Values); !(most > 0) {
		fmt.Fprintln(w, "nothing in the picture speaks for this class")
	}
	if r.File != "" {
		fmt.Fprintln(w, r.File)
		return
	}
	printHeat(w, m)
}

// printHeat shows a map in characters, two for a cell: "." is 0 or less, "@"
// the most.
func printHeat(w io.Writer, m *why.Map) {
	const shades = ".:-=+*#%@"
	cells := min(16, max(m.Width, m.Height))
	most := math.Max(float64(slices.Max(m.Values)), math.SmallestNonzeroFloat32)
	for y := range cells {
		var line strings.Builder
		for x := range cells {
			v := m.At((float64(x)+0.5)/float64(cells), (float64(y)+0.5)/float64(cells)) / most
			at := 0
			if v > 0 {
				at = min(1+int(v*float64(len(shades)-1)), len(shades)-1)
			}
			line.WriteString(strings.Repeat(shades[at:at+1], 2))
		}
		fmt.Fprintln(w, line.String())
	}
}

// single are the options for one of several runs at once.
var single = engine.Options{Threads: 1}

func runsText(n int) string {
	if n == 1 {
		return "1 run"
	}
	return fmt.Sprintf("%d runs", n)
}

func readPicture(file string) (image.Image, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	img, err := prep.Decode(data, prep.Limits{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return img, nil
}
