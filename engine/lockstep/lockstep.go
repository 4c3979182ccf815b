// Package lockstep runs two forms of one network on the same inputs and says
// where they part: float and int8, a foreign file and its packed form, the
// kernels of one tier and those of another.
//
// Start with Compare. It compares the programs that really run, fused as they
// are, value by value. Which belong together is known by their order, their
// shapes and kernels, and by names: a value and its integers are one, whatever
// their names.
//
// The promise: every number of a Report is of the two values that its Row
// names, and a Row for which Beyond is false is within its bound. It holds
// every value of both runs in memory at once.
package lockstep

import (
	"fmt"

	"dunlin/engine"
	"dunlin/model"
)

// Side is one of the two forms, and how to compile it. Options.Trace is
// Compare's own.
type Side struct {
	Graph   *model.Graph
	Options engine.Options
}

// Bounds of Compare, as a part of the range of the first side's value.
const (
	FloatBound = 1e-4 // float32 beside float32: sums in another order
	HalfBound  = 1e-2 // one of them has float16 weights
	SmallBound = 0.25 // one of them has integers that the other has not, or other ones
)

// Report is what Compare found.
type Report struct {
	Rows  []Row `json:"rows"`  // in the order in which the first side makes the values
	First int   `json:"first"` // index of the first row that is beyond its bound, -1 where none is

	// Values for which the other side has none, because it has fused or folded
	// what makes them.
	AloneA []string `json:"alone_a,omitempty"`
	AloneB []string `json:"alone_b,omitempty"`
}

// Differs reports whether a row is beyond its bound.
func (r *Report) Differs() bool { return r.First >= 0 }

// Place is where a value stands in one side.
type Place struct {
	Value     string `json:"value"`
	Node      string `json:"node,omitempty"` // "" for an input
	Kernel    string `json:"kernel"`
	Precision string `json:"precision"`
}

// Compare runs a and b once on inputs, which are a's in the order of its
// graph, and compares what they compute. b gets the same inputs, by name or
// else by index, quantised, dequantised or with its channels moved where it
// wants them so. limit is the bound of each row; below 0 each pair has one
// that fits it: nothing at all for integers of one scale and for float
// values of two programs that are exact, else one of the constants.
//
// It fails where one side does not compile or run, or the inputs do not fit.
func Compare(a, b Side, inputs []*model.Tensor, limit float64) (*Report, error) {
	first, err := record(a, func(in []engine.Port) ([]*model.Tensor, error) { return inputs, nil })
	if err != nil {
		return nil, err
	}
	second, err := record(b, func(in []engine.Port) ([]*model.Tensor, error) {
		return convert(first, a.Graph.Inputs, in, inputs)
	})
	if err != nil {
		return nil, err
	}
	pairs := match(first, second)
	r := &Report{First: -1}
	usual := bound(a.Graph, b.Graph, first, second, pairs)
	paired := map[*value]bool{}
	for _, p := range pairs {
		row, err := measure(p)
		if err != nil {
			return nil, err
		}
		row.Bound = usual
		if limit >= 0 {
			row.Bound = limit
		}
		row.Beyond = row.beyond()
		if row.Beyond && r.First < 0 {
			r.First = len(r.Rows)
		}
		r.Rows = append(r.Rows, row)
		paired[p.a], paired[p.b] = true, true
	}
	r.AloneA, r.AloneB = alone(first, paired), alone(second, paired)
	return r, nil
}

// value is a copy of what a step made.
type value struct {
	engine.Traced
	order int
}

func (v *value) place() Place {
	p := Place{Value: v.Value, Node: v.Step.Name, Kernel: v.Step.Kernel, Precision: v.Step.Precision}
	if p.Precision == "" {
		p.Precision = v.Tensor.Type.String()
	}
	return p
}

// recording is a run.
type recording struct {
	graph   *model.Graph
	exact   bool
	values  []*value
	outputs []string
}

// record runs s on the inputs that feed returns for its ports.
func record(s Side, feed func([]engine.Port) ([]*model.Tensor, error)) (*recording, error) {
	r := &recording{graph: s.Graph, outputs: s.Graph.Outputs}
	o := s.Options
	o.Trace = func(v *engine.Traced) {
		if v.Step.Kernel == "alias" {
			return // the same bytes once more
		}
		c := &value{*v, len(r.values)}
		c.Tensor = v.Tensor.Clone()
		r.values = append(r.values, c)
	}
	p, err := engine.Compile(s.Graph, o)
	if err != nil {
		return nil, err
	}
	r.exact = p.Exact()
	in, err := feed(p.Inputs())
	if err != nil {
		return nil, err
	}
	run := p.NewSession()
	if len(in) != len(p.Inputs()) {
		return nil, fmt.Errorf("%d inputs for the %d of graph %s", len(in), len(p.Inputs()), s.Graph.Name)
	}
	for i, t := range in {
		to := run.Input(i)
		if t.Type != to.Type || len(t.Data) != len(to.Data) {
			return nil, fmt.Errorf("input %q of graph %s is %v %v, given is %v %v", p.Inputs()[i].Name, s.Graph.Name, to.Type, to.Shape, t.Type, t.Shape)
		}
		copy(to.Data, t.Data)
	}
	return r, run.Run()
}

// bound returns the bound that fits the two.
func bound(ga, gb *model.Graph, a, b *recording, pairs []pair) float64 {
	if a.exact && b.exact {
		for _, p := range pairs {
			if !p.a.sameGrid(p.b) {
				return SmallBound
			}
		}
		return 0
	}
	switch {
	case a.exact || b.exact:
		return SmallBound
	case half(ga) != half(gb):
		return HalfBound
	}
	return FloatBound
}

// half reports whether a graph has float16 constants.
func half(g *model.Graph) bool {
	for _, v := range g.Values {
		if v.Const != nil && v.Const.Type == model.F16 {
			return true
		}
	}
	return false
}

// sameGrid reports whether two values are of one kind: both integers that
// stand for the same numbers, or neither such integers.
func (v *value) sameGrid(w *value) bool {
	return v.Quantised == w.Quantised && (!v.Quantised || v.Scale == w.Scale && v.zero() == w.zero())
}

// zero is the zero point as one of int8.
func (v *value) zero() int32 {
	if v.Tensor.Type == model.U8 {
		return v.Zero - 128
	}
	return v.Zero
}

func alone(r *recording, paired map[*value]bool) []string {
	var names []string
	for _, v := range r.values {
		if !paired[v] {
			names = append(names, v.Value)
		}
	}
	return names
}
