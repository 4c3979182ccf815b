package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dunlin/engine"
	"dunlin/model"
	"dunlin/model/onnx"
)

// conformanceResult is what conformance prints for each test.
type conformanceResult struct {
	Test   string `json:"test"`
	Status string `json:"status"` // pass, fail or unsupported
	Reason string `json:"reason,omitempty"`
}

// The statuses of a conformanceResult.
const (
	conformancePass        = "pass"
	conformanceFail        = "fail"
	conformanceUnsupported = "unsupported"
)

func modelConformanceCommand() *cobra.Command {
	var (
		asJSON, operators bool
		only              string
	)
	c := &cobra.Command{
		Use:   "conformance DIR…",
		Short: "Run the backend tests of ONNX",
		Long: `Runs every test below the folders: a test is a folder with model.onnx and with
test_data_set_N/input_K.pb and output_K.pb. Floats may differ by 1e-3 of their
value plus 1e-7, integers not at all, but for those of quantised operators: by
one step. What this engine does not have is unsupported, which is no failure.`,
		Example: `  dunlin model conformance onnx/backend/test/data/node
  dunlin model conformance data --json --only test_add,test_relu
  dunlin model conformance data --only core-tests.json`,
		Args: func(c *cobra.Command, args []string) error {
			if operators {
				return cobra.NoArgs(c, args)
			}
			return cobra.MinimumNArgs(1)(c, args)
		},
		RunE: func(c *cobra.Command, dirs []string) error {
			if operators {
				return engine.WriteOperators(c.OutOrStdout())
			}
			names, err := conformanceNames(only)
			if err != nil {
				return err
			}
			tests, err := conformanceTests(dirs, names)
			if err != nil {
				return err
			}
			return conformanceRun(c, tests, asJSON)
		},
	}
	c.Flags().StringVar(&only, "only", "", "run these `TESTS`: names with commas between, a file with a name a line, or JSON lists of names")
	c.Flags().BoolVar(&operators, "operators", false, "print the table of operators, docs/OPERATORS.md")
	if err := c.Flags().MarkHidden("operators"); err != nil {
		panic(err) // the flag is the one above
	}
	jsonFlag(c, &asJSON)
	return c
}

// conformanceRun runs the tests and prints a line for each, then the counts.
func conformanceRun(c *cobra.Command, tests []conformanceTest, asJSON bool) error {
	lines := json.NewEncoder(c.OutOrStdout())
	lines.SetEscapeHTML(false)
	count := map[string]int{}
	for _, t := range tests {
		if err := c.Context().Err(); err != nil {
			return err
		}
		r := t.run()
		count[r.Status]++
		if asJSON {
			if err := lines.Encode(r); err != nil {
				return err
			}
		} else if r.Status != conformancePass {
			fmt.Fprintf(c.OutOrStdout(), "%-11s %s: %s\n", r.Status, r.Test, r.Reason)
		}
	}
	var summary io.Writer = c.OutOrStdout()
	if asJSON {
		summary = c.ErrOrStderr()
	}
	fmt.Fprintf(summary, "%d tests: %d pass, %d fail, %d unsupported\n",
		len(tests), count[conformancePass], count[conformanceFail], count[conformanceUnsupported])
	if n := count[conformanceFail]; n > 0 {
		return fmt.Errorf("%d of %d conformance tests fail", n, len(tests))
	}
	return nil
}

// conformanceNames reads the argument of --only: nil for all tests.
func conformanceNames(only string) ([]string, error) {
	if only == "" {
		return nil, nil
	}
	text, err := os.ReadFile(only)
	if errors.Is(err, os.ErrNotExist) {
		return strings.Split(only, ","), nil
	}
	if err != nil {
		return nil, err
	}
	var list []string
	if json.Unmarshal(text, &list) == nil {
		return list, nil
	}
	var lists map[string][]string
	if json.Unmarshal(text, &lists) == nil {
		for _, l := range lists {
			list = append(list, l...)
		}
		return list, nil
	}
	return strings.Fields(string(text)), nil
}

// conformanceTest is one folder with a model.onnx.
type conformanceTest struct{ name, dir string }

// conformanceTests finds the tests below the folders, those of names alone
// where that is not nil. A test's name is its path below the folder.
func conformanceTests(dirs, names []string) ([]conformanceTest, error) {
	var tests []conformanceTest
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err != nil || e.Name() != "model.onnx" {
				return err
			}
			t := conformanceTest{dir: filepath.Dir(path)}
			if t.name, err = filepath.Rel(dir, t.dir); err != nil {
				return err
			}
			if t.name == "." {
				t.name = filepath.Base(t.dir)
			}
			full := filepath.ToSlash(t.dir)
			if names == nil || slices.ContainsFunc(names, func(n string) bool { return n != "" && strings.HasSuffix(full, "/"+n) }) {
				tests = append(tests, t)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if tests == nil {
		return nil, withHint(fmt.Errorf("no tests in %s", strings.Join(dirs, ", ")), "a test is a folder with model.onnx and test_data_set_0")
	}
	return tests, nil
}

// run runs one test over all of its data sets.
func (t conformanceTest) run() conformanceResult {
	r := conformanceResult{Test: t.name, Status: conformancePass}
	data, err := os.ReadFile(filepath.Join(t.dir, "model.onnx"))
	var g *model.Graph
	if err == nil {
		g, err = onnx.Import(data)
	}
	var sets []string
	if err == nil {
		sets, err = filepath.Glob(filepath.Join(t.dir, "test_data_set_*"))
	}
	for _, set := range sets {
		if err == nil {
			err = conformanceSet(g, set)
		}
	}
	if err != nil {
		r.Status, r.Reason = conformanceFail, err.Error()
		var missing *engine.UnsupportedError
		if errors.As(err, &missing) || errors.Is(err, onnx.ErrUnsupported) || errors.Is(err, onnx.ErrOpset) {
			r.Status = conformanceUnsupported
		}
	}
	return r
}

// conformanceSet runs g on one data set and compares.
func conformanceSet(g *model.Graph, dir string) error {
	in, err := conformanceTensors(dir, "input", len(g.Inputs))
	if err != nil {
		return err
	}
	want, err := conformanceTensors(dir, "output", len(g.Outputs))
	if err != nil {
		return err
	}
	s, err := conformanceSession(g, in)
	if err != nil {
		return err
	}
	if err := s.Run(); err != nil {
		return err
	}
	step := conformanceStep(g)
	for i, w := range want {
		asBfloat16(w, s.Output(i).Type)
		if err := sameTensor(s.Output(i), w, step); err != nil {
			return fmt.Errorf("output %s: %w", g.Outputs[i], err)
		}
	}
	return nil
}

// conformanceSession compiles g and writes its inputs. Those without elements
// are given when it is compiled: a program has no such inputs.
func conformanceSession(g *model.Graph, in []*model.Tensor) (*engine.Session, error) {
	o := engine.Options{Shapes: map[string]model.Shape{}, Values: map[string]*model.Tensor{}}
	for i, t := range in {
		name := g.Inputs[i]
		asBfloat16(t, g.Value(name).Type)
		if t.Elements() == 0 {
			o.Values[name] = t
		} else {
			o.Shapes[name] = t.Shape
		}
	}
	p, err := engine.Compile(g, o)
	if err != nil {
		return nil, err
	}
	s, at := p.NewSession(), 0
	for i, port := range p.Inputs() {
		for g.Inputs[at] != port.Name {
			at++
		}
		if s.Input(i).Type != in[at].Type {
			return nil, fmt.Errorf("input %s is %v, the test gives %v", port.Name, port.Type, in[at].Type)
		}
		copy(s.Input(i).Data, in[at].Data)
	}
	return s, nil
}

// conformanceTensors reads KIND_0.pb to KIND_N.pb.
func conformanceTensors(dir, kind string, n int) ([]*model.Tensor, error) {
	list := make([]*model.Tensor, n)
	for i := range list {
		file := fmt.Sprintf("%s_%d.pb", kind, i)
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return nil, err
		}
		if _, list[i], err = onnx.ParseTensor(data); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return list, nil
}

// asBfloat16 marks t as bfloat16 where that is wanted: ONNX's tests store such
// tensors as uint16.
func asBfloat16(t *model.Tensor, want model.DType) {
	if want == model.BF16 && t.Type == model.U16 {
		t.Type = want
	}
}

// conformanceStep is how far integers may differ: one step of what a graph
// quantised, which rounds in an order of its own.
func conformanceStep(g *model.Graph) float64 {
	for _, n := range g.Nodes {
		if strings.Contains(n.Op, "QLinear") || n.Op == "QuantizeLinear" || n.Op == "DynamicQuantizeLinear" {
			return 1
		}
	}
	return 0
}

// The tolerance for floats is that of ONNX's own test runner
// (onnx/backend/test/loader, 2022): |got - want| <= 1e-7 + 1e-3*|want|.
const (
	relativeTolerance = 1e-3
	absoluteTolerance = 1e-7
)

// sameTensor fails where got is not want: another type or shape, floats
// beyond the tolerance, integers more than step apart.
func sameTensor(got, want *model.Tensor, step float64) error {
	if got.Type != want.Type || !got.Shape.Equal(want.Shape) {
		return fmt.Errorf("%v %v, want %v %v", got.Type, got.Shape, want.Type, want.Shape)
	}
	a, b := engine.Numbers(got), engine.Numbers(want)
	relative := relativeTolerance
	switch want.Type {
	case model.F32, model.F64, model.F16:
		step = absoluteTolerance
	case model.BF16: // one unit in the last place: ONNX's files were cut off, not rounded
		step, relative = absoluteTolerance, 1.0/128
	default:
		relative = 0
	}
	for i, w := range b {
		g := a[i]
		if g == w || (g != g && w != w) {
			continue
		}
		if !(math.Abs(g-w) <= step+relative*math.Abs(w)) {
			return fmt.Errorf("element %d of %v is %v, want %v", i, want.Shape, g, w)
		}
	}
	return nil
}
