package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"dunlin/engine"
	"dunlin/engine/lockstep"
	"dunlin/model"
	"dunlin/model/prep"
)

// compareResult is what compare prints as JSON.
type compareResult struct {
	A       string `json:"a"`
	B       string `json:"b"`
	Differs bool   `json:"differs"`
	*lockstep.Report
}

func modelCompareCommand() *cobra.Command {
	var (
		in                 inputFlags
		picture, prepFile  string
		kernelsA, kernelsB string
		limit              float64
		asJSON, onlyBeyond bool
		threads            int
		exceeded           = errors.New("the two differ")
	)
	c := &cobra.Command{
		Use:   "compare [flags] MODEL_A MODEL_B",
		Short: "Run two forms of a network side by side, and name the first node that differs",
		Long: `Compare runs MODEL_A and MODEL_B (float and int8, a file and its packed form, or
one model twice with --kernels-a and --kernels-b) once on the same inputs, and prints
a row for each value that both compute: the largest difference, that difference as a
part of the value's range, the ratio of signal to difference in dB, and for integers of
one scale how many elements differ and by how many steps.

The programs are those that really run, fused as they are. Values belong together by
their names, else by their order, shape and kernel. The exit status is
1 where a row is beyond its bound, and the error names the first.

The bound is --limit, a part of the range. Without it: integers of one scale must be
equal, and so must floats where both models have integers; float models may be off by
1e-4, with fp16 weights by 1e-2, and a float model and its int8 form by 0.25.

Inputs are those of MODEL_A: raw tensors of --input, a --picture as its preprocessing
makes it one, or else pseudo-random numbers. MODEL_B gets the same, quantised where it
wants integers.`,
		Example: `  dunlin model compare net.onnx net-int8
  dunlin model compare net.onnx net-int8 --picture team.jpg --beyond
  dunlin model compare net-int8 net-int8 --kernels-a generic --limit 0
  dunlin model compare net.onnx net.tflite --input 0=picture.bin --json`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if picture != "" && in.files != nil {
				return usagef("say --input or --picture, not both")
			}
			r, err := compareModels(args[0], args[1], in, picture, prepFile, engine.Options{Threads: threads, Kernels: kernelsA}, engine.Options{Threads: threads, Kernels: kernelsB}, limit)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(c.OutOrStdout(), r)
			} else {
				printCompared(c.OutOrStdout(), r, onlyBeyond)
			}
			if err == nil && r.Differs {
				first := r.Rows[r.First]
				err = fmt.Errorf("%w: node %s (%s) of %s is the first: %s", exceeded, nodeOf(first.A), first.A.Kernel, r.A, excess(first))
			}
			return err
		},
	}
	in.register(c)
	c.Flags().StringVar(&picture, "picture", "", "PNG or JPEG for the input of MODEL_A, in place of raw tensors")
	c.Flags().StringVar(&prepFile, "prep", "", "with --picture: file that says how it becomes the input")
	c.Flags().StringVar(&kernelsA, "kernels-a", "", "for MODEL_A: "+kernelsHelp)
	c.Flags().StringVar(&kernelsB, "kernels-b", "", "for MODEL_B: likewise")
	c.Flags().IntVar(&threads, "threads", 0, "threads to use, 0: as many as pay")
	c.Flags().Float64Var(&limit, "limit", -1, "largest difference allowed, as a part of a value's range; below 0: what fits the two")
	c.Flags().BoolVar(&onlyBeyond, "beyond", false, "print the rows that are beyond their bound, no others")
	jsonFlag(c, &asJSON)
	return c
}

// compareModels loads both models, makes the inputs and compares.
func compareModels(pathA, pathB string, in inputFlags, picture, prepFile string, oa, ob engine.Options, limit float64) (compareResult, error) {
	r := compareResult{A: filepath.Base(pathA), B: filepath.Base(pathB)}
	a, err := load(pathA)
	if err != nil {
		return r, err
	}
	defer a.close()
	b, err := load(pathB)
	if err != nil {
		return r, err
	}
	defer b.close()
	inputs, err := compareInputs(a, in, picture, prepFile)
	if err != nil {
		return r, err
	}
	oa.Shapes = map[string]model.Shape{}
	for i, name := range a.graph.Inputs {
		oa.Shapes[name] = inputs[i].Shape
	}
	ob.Shapes = otherShapes(a.graph, b.graph, inputs)
	r.Report, err = lockstep.Compare(lockstep.Side{Graph: a.graph, Options: oa}, lockstep.Side{Graph: b.graph, Options: ob}, inputs, limit)
	if err != nil {
		return r, explain(err)
	}
	r.Differs = r.Report.Differs()
	return r, nil
}

// compareInputs makes the inputs of m.
func compareInputs(m *loaded, in inputFlags, picture, prepFile string) ([]*model.Tensor, error) {
	if picture != "" {
		t, err := pictureInput(m, picture, prepFile)
		return []*model.Tensor{t}, err
	}
	shapes, data, err := in.resolve(m.graph, true)
	if err != nil {
		return nil, err
	}
	var inputs []*model.Tensor
	for _, name := range m.graph.Inputs {
		t, err := model.NewTensor(m.graph.Value(name).Type, shapes[name]...)
		if err != nil {
			return nil, fmt.Errorf("input %q: %w", name, err)
		}
		switch given := data[name]; {
		case given == nil:
			pseudoRandom(t)
		case len(given) != len(t.Data):
			return nil, fmt.Errorf("input %q: %d bytes given, %v %v has %d", name, len(given), t.Type, t.Shape, len(t.Data))
		default:
			copy(t.Data, given)
		}
		inputs = append(inputs, t)
	}
	return inputs, nil
}

// pictureInput returns the picture as m's preprocessing makes it an input.
func pictureInput(m *loaded, picture, prepFile string) (*model.Tensor, error) {
	spec, err := m.pictureSpec(prepFile)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(picture)
	if err != nil {
		return nil, err
	}
	img, err := prep.Decode(data, prep.Limits{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", picture, err)
	}
	if len(m.graph.Inputs) != 1 || len(spec.Inputs) != 1 {
		return nil, fmt.Errorf("model has %d inputs, its preprocessing describes %d: want one picture", len(m.graph.Inputs), len(spec.Inputs))
	}
	t, err := model.NewTensor(m.graph.Value(m.graph.Inputs[0]).Type, spec.Inputs[0].Shape()...)
	if err != nil {
		return nil, err
	}
	return t, spec.Inputs[0].Picture(img, t)
}

// otherShapes returns the shapes of b's inputs that b leaves open: those of
// a's of the same name, else of the same index.
func otherShapes(a, b *model.Graph, inputs []*model.Tensor) map[string]model.Shape {
	shapes := map[string]model.Shape{}
	for i, name := range b.Inputs {
		at := i
		for j, other := range a.Inputs {
			if other == name {
				at = j
			}
		}
		if at < len(inputs) && agrees(b.Value(name).Shape, inputs[at].Shape) {
			shapes[name] = inputs[at].Shape
		}
	}
	return shapes
}

func printCompared(w io.Writer, r compareResult, onlyBeyond bool) {
	rows := [][]string{{"", "NODE", "A", "B", "SHAPE", "MAX DIFF", "OF RANGE", "SQNR", "DIFFER", "STEPS", "BY"}}
	beyond := 0
	for _, x := range r.Rows {
		mark := ""
		if x.Beyond {
			mark = "!"
			beyond++
		} else if onlyBeyond {
			continue
		}
		sqnr, steps := "", ""
		if x.Differ > 0 {
			sqnr = fmt.Sprintf("%.1f dB", x.SQNR)
		}
		if x.Steps != nil {
			steps = fmt.Sprint(*x.Steps)
		}
		rows = append(rows, []string{
			mark, nodeOf(x.A), x.A.Kernel, x.B.Kernel, fmt.Sprint(x.Shape), fmt.Sprintf("%.3g", x.MaxAbs), fmt.Sprintf("%.2g", x.Relative),
			sqnr, fmt.Sprintf("%d of %d", x.Differ, x.Elements), steps, x.Matched,
		})
	}
	table(w, rows)
	fmt.Fprintf(w, "%d values compared, %d beyond the bound; %d of %s and %d of %s have no counterpart\n",
		len(r.Rows), beyond, len(r.AloneA), r.A, len(r.AloneB), r.B)
}

// nodeOf names what makes a value.
func nodeOf(p lockstep.Place) string {
	if p.Node == "" {
		return "input " + p.Value
	}
	return p.Node
}

// excess says by how much a row is beyond its bound.
func excess(r lockstep.Row) string {
	if r.Bound == 0 {
		return fmt.Sprintf("%d of %d elements differ, by up to %.3g", r.Differ, r.Elements, r.MaxAbs)
	}
	return fmt.Sprintf("off by %.3g of its range, %.3g allowed", r.Relative, r.Bound)
}
