package engine

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"dunlin/model"
)

// bindInputs returns g with the shapes of its inputs filled in from the
// options, and without what the exporter said of other values: that is often
// stale, and infer finds it again.
func bindInputs(g *model.Graph, o Options) (*model.Graph, error) {
	g = g.Clone()
	maps.DeleteFunc(g.Values, func(name string, v *model.Value) bool {
		return v.Const == nil && !slices.Contains(g.Inputs, name)
	})
	for name := range o.Shapes {
		if !slices.Contains(g.Inputs, name) {
			return nil, &model.Error{Graph: g.Name, Part: "input " + name, Err: errors.New("there is no such input to give a shape to")}
		}
	}
	if err := bindValues(g, o.Values); err != nil {
		return nil, err
	}
	for _, name := range g.Inputs {
		v := g.Values[name]
		if v == nil || !v.Type.Valid() {
			return nil, &model.Error{Graph: g.Name, Part: "input " + name, Err: errors.New("its type is not known")}
		}
		if err := bindInput(v, o.Shapes[name], o.Symbolic1, o.inner); err != nil {
			return nil, &model.Error{Graph: g.Name, Part: "input " + name, Err: err}
		}
	}
	return g, nil
}

// bindValues makes constants of the inputs whose values are given.
func bindValues(g *model.Graph, values map[string]*model.Tensor) error {
	for name, t := range values {
		err := t.Check()
		v := g.Value(name)
		switch {
		case !slices.Contains(g.Inputs, name):
			err = errors.New("there is no such input to give a value to")
		case err == nil && v.Type.Valid() && v.Type != t.Type:
			err = fmt.Errorf("a value of %v was given, the graph says %v", t.Type, v.Type)
		}
		if err != nil {
			return &model.Error{Graph: g.Name, Part: "input " + name, Err: err}
		}
		g.AddConst(name, t)
	}
	g.Inputs = slices.DeleteFunc(g.Inputs, func(name string) bool { return values[name] != nil })
	return nil
}

func bindInput(v *model.Value, given model.Shape, symbolic1, empty bool) error {
	if v.Shape == nil && given == nil {
		return errors.New("its shape is not known; give one")
	}
	if v.Shape == nil {
		v.Shape = slices.Clone(given)
	}
	if given != nil && len(given) != len(v.Shape) {
		return fmt.Errorf("shape %v was given, the graph says %v", given, v.Shape)
	}
	for i, d := range v.Shape {
		switch {
		case given != nil && d != model.Unknown && given[i] != model.Unknown && given[i] != d:
			return fmt.Errorf("shape %v was given, the graph says %v", given, v.Shape)
		case d == model.Unknown && given != nil && given[i] != model.Unknown:
			v.Shape[i] = given[i]
		case d == model.Unknown && symbolic1:
			v.Shape[i] = 1
		case d == model.Unknown:
			return fmt.Errorf("the length of axis %d in %v is not known; give a shape", i, v.Shape)
		}
	}
	n, err := v.Shape.Elements()
	if err == nil && n == 0 && !empty {
		err = fmt.Errorf("shape %v holds nothing", v.Shape)
	}
	return err
}

// infer sets the type and shape of every value of g, whose nodes are in
// order. It fails, with the node's name, where an operator's inputs do not
// fit it: it is the consistency check after each pass, together with
// model.Graph.Check.
func (c *compiler) infer(g *model.Graph) error {
	for _, n := range g.Nodes {
		call, err := c.inferNode(g, n)
		if err != nil {
			return nodeError(g, n, err)
		}
		for i, o := range n.Out {
			if o != "" {
				g.Values[o] = call.out[i]
			}
		}
	}
	return nil
}

// inferNode returns the call of n, its outputs' types and shapes found.
func (c *compiler) inferNode(g *model.Graph, n *model.Node) (*call, error) {
	op, ok := operators[n.Op]
	if !ok {
		return nil, notYet("no such operator")
	}
	a := &call{node: n, in: make([]*model.Value, len(n.In)), out: make([]*model.Value, len(n.Out)), target: c.target, halves: c.halves}
	for i, name := range n.In {
		if name == "" {
			if i < op.minIn {
				return nil, fmt.Errorf("input %d is left out", i)
			}
			continue
		}
		v := g.Values[name]
		if v == nil || !v.Shape.Known() || !v.Type.Valid() {
			return nil, fmt.Errorf("input %s has no shape", name)
		}
		a.in[i] = v
	}
	if len(n.In) < op.minIn {
		return nil, fmt.Errorf("%d inputs, %d are needed", len(n.In), op.minIn)
	}
	for i := range a.out {
		a.out[i] = &model.Value{}
	}
	if err := a.infer(op); err != nil {
		return nil, err
	}
	return a, nil
}

func nodeError(g *model.Graph, n *model.Node, err error) error {
	return &model.Error{Graph: g.Name, Part: "node " + n.Name + " (" + n.Op + ")", Err: err}
}
