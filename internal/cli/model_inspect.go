package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dunlin/engine"
	"dunlin/model"
)

// modelInfo is what inspect prints.
type modelInfo struct {
	Name       string          `json:"name"`
	Version    int64           `json:"version,omitempty"`
	Digest     string          `json:"digest,omitempty"`
	Inputs     []portInfo      `json:"inputs"`
	Outputs    []portInfo      `json:"outputs"`
	Nodes      map[string]int  `json:"nodes"` // operator -> how many
	Parameters int64           `json:"parameters"`
	Bytes      int64           `json:"weight_bytes"`
	Labels     int             `json:"labels,omitempty"`
	Small      *smallInfo      `json:"small,omitempty"` // nil: it has no small form
	Report     json.RawMessage `json:"report,omitempty"`
	Plan       *planInfo       `json:"plan,omitempty"`
	Missing    string          `json:"cannot_run,omitempty"` // why this engine cannot run it
}

// smallInfo is a pack's small form.
type smallInfo struct {
	Graph string `json:"graph"` // its name
	Bytes int64  `json:"weight_bytes"`
}

type portInfo struct {
	Name  string   `json:"name"`
	Type  string   `json:"dtype"`
	Shape []int    `json:"shape"` // -1: open
	Dims  []string `json:"dims,omitempty"`
}

// planInfo is the compiled program.
type planInfo struct {
	MACs   int64         `json:"macs"`
	Arena  int           `json:"arena_bytes"`
	Weight int           `json:"weight_bytes"`
	Exact  bool          `json:"exact"`
	Steps  []engine.Step `json:"steps"`
}

func modelInspectCommand() *cobra.Command {
	var (
		in                      inputFlags
		flags                   compileFlags
		form                    formFlag
		plan, precision, passes bool
		asJSON                  bool
	)
	c := &cobra.Command{
		Use:   "inspect MODEL",
		Short: "Show what a model is: inputs, outputs, operators, precision, plan",
		Example: `  dunlin model inspect net.onnx
  dunlin model inspect garments-int8 --plan
  dunlin model inspect net.onnx --passes | less       # the graph before and after each pass
  dunlin model inspect garments-int8 --precision --require int8`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o, err := flags.options()
			if err != nil {
				return err
			}
			m, err := load(args[0])
			if err != nil {
				return err
			}
			defer m.close()
			if err := form.choose(m); err != nil {
				return err
			}
			if passes {
				o.Dump = c.OutOrStdout()
				_, err := planOf(m.graph, in, o)
				return err
			}
			info := describe(m)
			if err := engine.Check(m.graph); err != nil && !o.RequireInt8 {
				info.Missing = err.Error()
			} else if plan || precision || o.RequireInt8 {
				if info.Plan, err = planOf(m.graph, in, o); err != nil {
					return err
				}
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), info)
			}
			printInfo(c.OutOrStdout(), info)
			switch {
			case plan:
				printPlan(c.OutOrStdout(), info.Plan)
			case precision:
				printPrecision(c.OutOrStdout(), info.Plan)
			}
			return nil
		},
	}
	in.register(c)
	flags.registerLimits(c)
	form.register(c)
	c.Flags().BoolVar(&plan, "plan", false, "the compiled program: step, kernel, shape, arena offset, bytes")
	c.Flags().BoolVar(&precision, "precision", false, "the precision in which each step computes, and why")
	c.Flags().BoolVar(&passes, "passes", false, "the graph as it came, and after each pass that changed it")
	jsonFlag(c, &asJSON)
	c.MarkFlagsMutuallyExclusive("passes", "json")
	return c
}

func describe(m *loaded) modelInfo {
	g := m.graph
	info := modelInfo{Name: g.Name, Nodes: map[string]int{}, Bytes: weightBytes(g), Inputs: ports(g, g.Inputs), Outputs: ports(g, g.Outputs)}
	for _, n := range g.Nodes {
		info.Nodes[n.Op]++
	}
	for _, v := range g.Values {
		if v.Const != nil {
			info.Parameters += int64(v.Const.Elements())
		}
	}
	if p := m.pack; p != nil {
		info.Name, info.Version, info.Digest = p.Name, p.Version, p.Digest
		info.Labels, info.Report = len(p.Labels), p.Report
		if f := p.Small; f != nil {
			info.Small = &smallInfo{f.Graph.Name, weightBytes(f.Graph)}
		}
	}
	return info
}

func ports(g *model.Graph, names []string) []portInfo {
	out := make([]portInfo, len(names))
	for i, name := range names {
		v := g.Value(name)
		out[i] = portInfo{name, v.Type.String(), v.Shape, v.Dims}
	}
	return out
}

func planOf(g *model.Graph, in inputFlags, o engine.Options) (*planInfo, error) {
	shapes, _, err := in.resolve(g, true)
	if err != nil {
		return nil, err
	}
	p, _, err := session(g, shapes, o)
	if err != nil {
		return nil, err
	}
	info := &planInfo{Arena: p.Memory().Arena, Weight: p.Memory().Weights, Exact: p.Exact(), Steps: p.Steps()}
	for _, s := range info.Steps {
		info.MACs += s.MACs
	}
	return info, nil
}

func printInfo(w io.Writer, info modelInfo) {
	if info.Version > 0 {
		fmt.Fprintf(w, "%s version %d, %s\n", info.Name, info.Version, info.Digest)
	}
	rows := [][]string{}
	for _, p := range info.Inputs {
		rows = append(rows, []string{"input", p.Name, p.Type, shapeText(p)})
	}
	for _, p := range info.Outputs {
		rows = append(rows, []string{"output", p.Name, p.Type, shapeText(p)})
	}
	table(w, rows)
	var ops []string
	for _, op := range slices.SortedFunc(maps.Keys(info.Nodes), func(a, b string) int {
		return cmp.Or(cmp.Compare(info.Nodes[b], info.Nodes[a]), cmp.Compare(a, b))
	}) {
		ops = append(ops, fmt.Sprintf("%s %d", op, info.Nodes[op]))
	}
	fmt.Fprintf(w, "operators: %s\n", strings.Join(ops, ", "))
	fmt.Fprintf(w, "constants: %d values, %s\n", info.Parameters, bytesText(info.Bytes))
	if s := info.Small; s != nil {
		fmt.Fprintf(w, "small form: %s, %s\n", s.Graph, bytesText(s.Bytes))
	}
	if info.Missing != "" {
		fmt.Fprintf(w, "cannot run: %s\n", info.Missing)
	}
}

// shapeText writes open axes by their names.
func shapeText(p portInfo) string {
	if p.Shape == nil {
		return "unknown"
	}
	axes := make([]string, len(p.Shape))
	for i, d := range p.Shape {
		axes[i] = fmt.Sprint(d)
		if d == model.Unknown {
			axes[i] = "?"
			if i < len(p.Dims) && p.Dims[i] != "" {
				axes[i] = p.Dims[i]
			}
		}
	}
	return "[" + strings.Join(axes, ", ") + "]"
}

func printPlan(w io.Writer, p *planInfo) {
	rows := [][]string{{"STEP", "KERNEL", "PRECISION", "SHAPE", "OFFSET", "BYTES", "MACS", "PARTS"}}
	for _, s := range p.Steps {
		rows = append(rows, []string{s.Name, s.Kernel, s.Precision, fmt.Sprint(s.Out), fmt.Sprint(s.Offset), fmt.Sprint(s.Bytes), fmt.Sprint(s.MACs), fmt.Sprint(s.Parts)})
	}
	table(w, rows)
	same := "depends on the CPU in the last bits"
	if p.Exact {
		same = "the same bits on every CPU"
	}
	fmt.Fprintf(w, "%d multiply-accumulates, arena %s, weights %s, answer: %s\n", p.MACs, bytesText(int64(p.Arena)), bytesText(int64(p.Weight)), same)
}

func printPrecision(w io.Writer, p *planInfo) {
	rows := [][]string{{"STEP", "KERNEL", "PRECISION", "WHY"}}
	steps, macs, count, float := map[string]int{}, map[string]int64{}, 0, 0
	for _, s := range p.Steps {
		why := reason(s)
		if s.Fallback {
			why = "FALLBACK: " + why
			float++
		}
		rows = append(rows, []string{s.Name, s.Kernel, s.Precision, why})
		if s.Kernel != "alias" {
			count++
			steps[s.Precision]++
			macs[s.Precision] += s.MACs
		}
	}
	table(w, rows)
	var parts []string
	for _, t := range slices.Sorted(maps.Keys(steps)) {
		parts = append(parts, fmt.Sprintf("%s: %d steps, %.1f %% of the multiplications", t, steps[t], 100*float64(macs[t])/float64(max(p.MACs, 1))))
	}
	fmt.Fprintf(w, "%d steps compute. %s\n", count, strings.Join(parts, "; "))
	if p.Exact {
		fmt.Fprintf(w, "%d of them in float where the model has integers\n", float)
	}
}

// reason returns why a step computes in its precision.
func reason(s engine.Step) string {
	switch kind, _, _ := strings.Cut(s.Kernel, " "); {
	case s.Why != "":
		return s.Why
	case s.Kernel == "alias":
		return "the bytes stay where they are"
	case strings.HasPrefix(kind, "quantize"):
		return "the border from float to integers"
	case strings.HasPrefix(kind, "dequantize"):
		return "the border from integers to float"
	}
	return "its inputs are " + s.Precision
}
