package pack

import (
	"fmt"
	"maps"
	"slices"

	"dunlin/model"
)

// decode reads graph.json. The graph it returns passed model.Graph.Check; it
// shares the tensors of d.refs.
func (d *graphReader) decode(data []byte) (*model.Graph, error) {
	j, err := parseGraphFile(data)
	if err != nil {
		return nil, err
	}
	d.unpacked = map[string]unpacked{}
	g, err := d.graph(j, 0)
	if err != nil {
		return nil, invalid("%w", err)
	}
	if err := g.Check(); err != nil {
		return nil, invalid("%w", err)
	}
	return g, nil
}

type graphReader struct {
	refs     map[string]*model.Tensor
	packed   bool                // version 2: tensors may be stored in fewer bytes
	unpacked map[string]unpacked // by packing and name
	nodes    int
	graphs   int
}

func (d *graphReader) graph(j *graphJSON, depth int) (*model.Graph, error) {
	if d.graphs++; depth > MaxDepth || d.graphs > MaxGraphs {
		return nil, fmt.Errorf("graph %q: more than %d graphs, or %d inside each other", clip(j.Name), MaxGraphs, MaxDepth)
	}
	if d.nodes += len(j.Nodes); d.nodes > MaxNodes {
		return nil, fmt.Errorf("more than %d nodes", MaxNodes)
	}
	g := &model.Graph{
		Name: j.Name, Inputs: j.Inputs, Outputs: j.Outputs,
		Values: make(map[string]*model.Value, len(j.Values)), Nodes: make([]*model.Node, len(j.Nodes)),
	}
	for _, name := range slices.Sorted(maps.Keys(j.Values)) { // in order, so that of two errors it is always the same one
		value, err := d.value(j.Values[name])
		if err != nil {
			return nil, fmt.Errorf("graph %q: value %q: %w", clip(j.Name), clip(name), err)
		}
		g.Values[name] = value
	}
	for i := range j.Nodes {
		n, err := d.node(&j.Nodes[i], depth)
		if err != nil {
			return nil, fmt.Errorf("graph %q: node %q (%s): %w", clip(j.Name), clip(j.Nodes[i].Name), clip(j.Nodes[i].Op), err)
		}
		g.Nodes[i] = n
	}
	return g, nil
}

func (d *graphReader) value(j *valueJSON) (*model.Value, error) {
	if j == nil {
		return nil, fmt.Errorf("it is null")
	}
	if j.Const != nil {
		if j.Type != "" || j.Shape != nil || j.Dims != nil {
			return nil, fmt.Errorf("type, shape or dims beside a constant")
		}
		t, err := d.tensor(j.Const)
		if err != nil {
			return nil, err
		}
		return &model.Value{Type: t.Type, Shape: t.Shape, Const: t}, nil
	}
	v := &model.Value{Shape: j.Shape, Dims: j.Dims}
	if j.Type != "" {
		t, err := model.ParseDType(j.Type)
		if err != nil {
			return nil, err
		}
		v.Type = t
	}
	if len(j.Dims) > MaxRank {
		return nil, fmt.Errorf("%d names of axes, at most %d", len(j.Dims), MaxRank)
	}
	return v, checkShape(j.Shape)
}

func checkShape(s []int) error {
	if len(s) > MaxRank {
		return fmt.Errorf("%d axes, at most %d", len(s), MaxRank)
	}
	for _, n := range s {
		if n < model.Unknown || int64(n) > model.MaxElements {
			return fmt.Errorf("axis of length %d", n)
		}
	}
	return nil
}

func (d *graphReader) tensor(j *tensorJSON) (*model.Tensor, error) {
	if j.Ref != "" {
		t := d.refs[j.Ref]
		if t == nil {
			return nil, fmt.Errorf("tensor %q is not in %s", clip(j.Ref), fileWeights)
		}
		if d.packed && j.Packing != "" {
			return d.unpack(j, t)
		}
		if j.Type != "" || j.Shape != nil || j.Data != nil || j.isPacked() {
			return nil, fmt.Errorf("tensor with ref %q and with data", clip(j.Ref))
		}
		return t, nil
	}
	if j.isPacked() {
		return nil, fmt.Errorf("tensor without ref, and with a packing")
	}
	if j.Shape == nil || j.Data == nil {
		return nil, fmt.Errorf("tensor without ref, and without shape or base64")
	}
	t, err := model.ParseDType(j.Type)
	if err != nil {
		return nil, err
	}
	if len(j.Data) > maxInline {
		return nil, fmt.Errorf("tensor of %d bytes in the JSON, at most %d", len(j.Data), maxInline)
	}
	if err := checkShape(j.Shape); err != nil {
		return nil, err
	}
	return view(t, j.Shape, j.Data)
}

func (d *graphReader) node(j *nodeJSON, depth int) (*model.Node, error) {
	n := &model.Node{Op: j.Op, Name: j.Name, In: j.In, Out: j.Out}
	if len(j.Attrs) > 0 {
		n.Attrs = make(map[string]model.Attr, len(j.Attrs))
	}
	for key, a := range j.Attrs {
		v, err := d.attr(a, depth)
		if err != nil {
			return nil, fmt.Errorf("attribute %q: %w", clip(key), err)
		}
		n.Attrs[key] = v
	}
	return n, nil
}

func (d *graphReader) attr(j attrJSON, depth int) (model.Attr, error) {
	if n := j.kinds(); n != 1 {
		return nil, fmt.Errorf("%d kinds of value, want 1", n)
	}
	switch {
	case j.Int != nil:
		return *j.Int, nil
	case j.Float != nil:
		return float32(*j.Float), nil
	case j.String != nil:
		return *j.String, nil
	case j.Ints != nil:
		return j.Ints, nil
	case j.Floats != nil:
		out := make([]float32, len(j.Floats))
		for i, f := range j.Floats {
			out[i] = float32(f)
		}
		return out, nil
	case j.Strings != nil:
		return j.Strings, nil
	case j.Tensor != nil:
		return d.tensor(j.Tensor)
	default:
		return d.graph(j.Graph, depth+1)
	}
}
