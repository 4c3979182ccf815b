package engine

import (
	"errors"
	"fmt"
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// checkIf wants both branches.
func checkIf(n *model.Node) string {
	for _, key := range []string{"then_branch", "else_branch"} {
		if _, ok := n.Attrs[key].(*model.Graph); !ok {
			return key + " is missing"
		}
	}
	return ""
}

// inferIf is asked only where the condition is no constant: see stage.go.
func inferIf(c *call) error { return waits{0, c.node.In[0]} }

// lowerNever is for operators that no lowered graph has.
func lowerNever(c *call) (*kernel, error) {
	return nil, notYet(c.node.Op + " is left where its shapes should be known")
}

// Bounds of Loop and Scan, beside the memory that Options allow.
const maxIterations = 1 << 20

// body is the graph that Loop or Scan run again and again: one session for
// each set of input shapes that comes up.
type body struct {
	c        *compiler
	graph    *model.Graph
	sessions recent[*Session]
	key      []byte
}

// newBody checks n, of whose inputs the first few may be left out.
func newBody(c *compiler, n *model.Node, optional int) (*body, error) {
	g, ok := n.Attrs["body"].(*model.Graph)
	if !ok {
		return nil, errors.New("it has no body")
	}
	if len(g.Inputs) != len(n.In) {
		return nil, fmt.Errorf("its body has %d inputs for %d values", len(g.Inputs), len(n.In))
	}
	for i, name := range n.In {
		if name == "" && i >= optional {
			return nil, fmt.Errorf("input %d is left out", i)
		}
	}
	return &body{c: c, graph: g.Clone(), sessions: recent[*Session]{limit: keptSessions}}, nil
}

// run runs the body on these inputs, and returns copies of its outputs.
func (b *body) run(in []*model.Tensor) ([]*model.Tensor, error) {
	b.key = b.key[:0]
	for _, t := range in {
		b.key = appendShape(append(b.key, byte(t.Type)), t.Shape)
	}
	s, ok := b.sessions.get(b.key)
	if !ok {
		p, err := b.compile(in)
		if err != nil {
			return nil, err
		}
		s = p.NewSession()
		b.sessions.put(b.key, s)
	}
	for i, t := range in {
		copy(s.Input(i).Data, t.Data)
	}
	if err := s.Run(); err != nil {
		return nil, err
	}
	out := make([]*model.Tensor, len(b.graph.Outputs))
	for i := range out {
		out[i] = s.Output(i).Clone()
	}
	return out, nil
}

func (b *body) compile(in []*model.Tensor) (*Program, error) {
	o := b.c.options
	o.Shapes, o.Values, o.Observe, o.inner = map[string]model.Shape{}, nil, nil, true
	for i, name := range b.graph.Inputs {
		b.graph.Values[name] = &model.Value{Type: in[i].Type}
		o.Shapes[name] = in[i].Shape
	}
	c := &compiler{options: o, target: b.c.target, budget: &budget{limit: b.c.budget.limit}}
	return c.program(b.graph)
}

// stack collects the slices of one output of Loop or Scan.
type stack struct {
	slices  []*model.Tensor
	reverse bool
}

// tensor returns the slices side by side along a new axis.
func (s *stack) tensor(axis int64, none *model.Value) (*model.Tensor, error) {
	if len(s.slices) == 0 {
		shape := model.Shape{0}
		for _, d := range none.Shape {
			shape = append(shape, max(d, 0))
		}
		t := none.Type
		if !t.Valid() {
			t = model.F32
		}
		return model.NewTensor(t, shape...)
	}
	first := s.slices[0]
	a, err := axisOf(axis, len(first.Shape)+1)
	if err != nil {
		return nil, err
	}
	out, err := model.NewTensor(first.Type, slices.Insert(slices.Clone(first.Shape), a, len(s.slices))...)
	if err != nil {
		return nil, err
	}
	outer, _ := first.Shape[:a].Elements()
	width := 0
	if outer > 0 {
		width = len(first.Data) / outer
	}
	if s.reverse {
		slices.Reverse(s.slices)
	}
	parts, widths := make([][]byte, len(s.slices)), repeat(width, len(s.slices))
	for i, t := range s.slices {
		if t.Type != first.Type || !t.Shape.Equal(first.Shape) {
			return nil, fmt.Errorf("slices of %v and %v in one output", first.Shape, t.Shape)
		}
		parts[i] = t.Data
	}
	_, rows := kernels.CopyRows(kernels.Target{})
	kernels.Concat(rows, out.Data, parts, widths, outer)
	return out, nil
}

// spend counts the bytes of slices against the memory that a program may use.
func spend(left *int64, list []*model.Tensor) error {
	for _, t := range list {
		if *left -= int64(len(t.Data)); *left < 0 {
			return fmt.Errorf("its outputs: %w", ErrMemory)
		}
	}
	return nil
}

func checkLoop(n *model.Node) string {
	sub, ok := n.Attrs["body"].(*model.Graph)
	switch {
	case !ok:
		return "body is missing"
	case len(sub.Inputs) < 2 || len(sub.Outputs) < 1:
		return "its body has no condition"
	}
	return ""
}

// eagerLoop: inputs are the count of iterations, the condition (each may be
// left out) and the carried values; the body gets the number of the iteration,
// the condition and the carried values, and returns the condition, the carried
// values and a slice of each scan output.
func eagerLoop(c *compiler, n *model.Node) (func([]*model.Tensor) ([]*model.Tensor, error), error) {
	b, err := newBody(c, n, 2)
	if err != nil {
		return nil, err
	}
	captured := int(n.Int(capturedAttr, 0)) // behind the carried values
	carried := len(n.In) - 2 - captured
	if carried < 0 || len(b.graph.Outputs) < 1+carried || len(n.Out) > len(b.graph.Outputs)-1 {
		return nil, fmt.Errorf("a body of %d outputs for %d carried values and %d outputs", len(b.graph.Outputs), carried, len(n.Out))
	}
	return func(in []*model.Tensor) ([]*model.Tensor, error) {
		limit, on := int64(-1), true
		if in[0] != nil {
			v, err := integers(in[0])
			if err != nil || len(v) != 1 {
				return nil, fmt.Errorf("a count of %v %v", in[0].Type, in[0].Shape)
			}
			limit = max(v[0], 0)
		}
		var err error
		if in[1] != nil {
			if on, err = truth(in[1]); err != nil {
				return nil, err
			}
		}
		number, condition := model.Of(model.I64, []int64{0}), model.Of(model.Bool, []uint8{1})
		values := append([]*model.Tensor{number, condition}, in[2:]...)
		stacks := make([]stack, len(b.graph.Outputs)-1-carried)
		left := c.budget.limit
		for i := int64(0); on && i != limit; i++ {
			if i == maxIterations {
				return nil, fmt.Errorf("more than %d iterations", maxIterations)
			}
			number.I64()[0] = i
			out, err := b.run(values)
			if err != nil {
				return nil, err
			}
			if on, err = truth(out[0]); err != nil {
				return nil, err
			}
			copy(values[2:], out[1:1+carried])
			if err := spend(&left, out[1+carried:]); err != nil {
				return nil, err
			}
			for j := range stacks {
				stacks[j].slices = append(stacks[j].slices, out[1+carried+j])
			}
		}
		result := slices.Clone(values[2 : 2+carried])
		for j := range stacks {
			t, err := stacks[j].tensor(0, b.graph.Value(b.graph.Outputs[1+carried+j]))
			if err != nil {
				return nil, err
			}
			result = append(result, t)
		}
		return result, nil
	}, nil
}

// truth returns a single bool.
func truth(t *model.Tensor) (bool, error) {
	if t.Type != model.Bool || t.Elements() != 1 {
		return false, fmt.Errorf("a condition of %v %v", t.Type, t.Shape)
	}
	return t.Bools()[0] != 0, nil
}

func checkScan(n *model.Node) string {
	sub, ok := n.Attrs["body"].(*model.Graph)
	count := n.Int("num_scan_inputs", 0)
	switch {
	case !ok:
		return "body is missing"
	case count < 1 || count > int64(len(sub.Inputs)):
		return fmt.Sprintf("num_scan_inputs is %d", count)
	}
	return ""
}

// eagerScan: inputs are the states and the scanned tensors, of which the body
// gets a slice each; it returns the states and a slice of each scan output.
func eagerScan(c *compiler, n *model.Node) (func([]*model.Tensor) ([]*model.Tensor, error), error) {
	b, err := newBody(c, n, 0)
	if err != nil {
		return nil, err
	}
	scanned := int(n.Int("num_scan_inputs", 0))
	states := len(n.In) - scanned - int(n.Int(capturedAttr, 0))
	if states < 0 || len(b.graph.Outputs) < states || len(n.Out) > len(b.graph.Outputs) {
		return nil, fmt.Errorf("a body of %d outputs for %d states", len(b.graph.Outputs), states)
	}
	setting := func(name string, i int) int64 {
		if list := n.Ints(name); i < len(list) {
			return list[i]
		}
		return 0
	}
	return func(in []*model.Tensor) ([]*model.Tensor, error) {
		steps := -1
		axes := make([]int, scanned)
		for i := range axes {
			t := in[states+i]
			var err error
			if axes[i], err = axisOf(setting("scan_input_axes", i), len(t.Shape)); err != nil {
				return nil, err
			}
			if d := t.Shape[axes[i]]; steps >= 0 && d != steps {
				return nil, fmt.Errorf("scanned tensors of %d and %d steps", steps, d)
			} else {
				steps = d
			}
		}
		if steps > maxIterations {
			return nil, fmt.Errorf("more than %d steps", maxIterations)
		}
		values := slices.Clone(in)
		stacks := make([]stack, len(b.graph.Outputs)-states)
		left := c.budget.limit
		for i := range steps {
			for j, axis := range axes {
				at := i
				if setting("scan_input_directions", j) == 1 {
					at = steps - 1 - i
				}
				values[states+j] = sliceAlong(in[states+j], axis, at)
			}
			out, err := b.run(values)
			if err != nil {
				return nil, err
			}
			copy(values, out[:states])
			if err := spend(&left, out[states:]); err != nil {
				return nil, err
			}
			for j := range stacks {
				stacks[j].slices = append(stacks[j].slices, out[states+j])
			}
		}
		result := slices.Clone(values[:states])
		for j := range stacks {
			stacks[j].reverse = setting("scan_output_directions", j) == 1
			t, err := stacks[j].tensor(setting("scan_output_axes", j), b.graph.Value(b.graph.Outputs[states+j]))
			if err != nil {
				return nil, err
			}
			result = append(result, t)
		}
		return result, nil
	}, nil
}

// sliceAlong returns a copy of slice i of t along axis, without that axis.
func sliceAlong(t *model.Tensor, axis, i int) *model.Tensor {
	outer, _ := t.Shape[:axis].Elements()
	block, _ := t.Shape[axis+1:].Elements()
	block *= t.Type.Size()
	out := &model.Tensor{Type: t.Type, Shape: slices.Delete(slices.Clone(t.Shape), axis, axis+1), Data: model.Aligned(outer * block)}
	kernels.Gather(out.Data, t.Data, []int64{int64(i)}, outer, t.Shape[axis], block)
	return out
}
