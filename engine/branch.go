package engine

import (
	"fmt"
	"maps"
	"slices"

	"dunlin/model"
)

// capturedAttr is how many inputs capture has added to a node.
const capturedAttr = "captured"

// capture makes the values that the subgraphs of g's nodes read from g into
// inputs of the nodes and of the subgraphs, behind those that they have. What
// renames, moves or drops values then need not look into subgraphs. It works
// on g itself.
func capture(g *model.Graph) {
	for _, n := range g.Nodes {
		subs := subgraphs(n)
		if subs == nil {
			continue
		}
		var names []string
		for _, sub := range subs {
			for _, name := range outside(sub) {
				if !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
		if n.Op == "Loop" {
			for len(n.In) < 2 { // the count and the condition may be left out
				n.In = append(n.In, "")
			}
		}
		n.In = append(n.In, names...)
		n.Attrs[capturedAttr] = n.Int(capturedAttr, 0) + int64(len(names))
		for _, sub := range subs {
			sub.Inputs = append(sub.Inputs, names...)
			for _, name := range names {
				sub.Values[name] = &model.Value{}
			}
		}
	}
}

// subgraphs returns the graphs among n's attributes, in the order of the
// attributes' names.
func subgraphs(n *model.Node) []*model.Graph {
	var list []*model.Graph
	for _, key := range slices.Sorted(maps.Keys(n.Attrs)) {
		if sub, ok := n.Attrs[key].(*model.Graph); ok {
			list = append(list, sub)
		}
	}
	return list
}

// outside returns the values that g reads and does not make, in order of
// reading.
func outside(g *model.Graph) []string {
	own := map[string]bool{"": true}
	for _, name := range g.Inputs {
		own[name] = true
	}
	for name, v := range g.Values {
		if v.Const != nil {
			own[name] = true
		}
	}
	var names []string
	read := func(name string) {
		if !own[name] {
			own[name] = true
			names = append(names, name)
		}
	}
	for _, n := range g.Nodes {
		for _, name := range n.In {
			read(name)
		}
		for _, sub := range subgraphs(n) {
			for _, name := range outside(sub) {
				read(name)
			}
		}
		for _, o := range n.Out {
			own[o] = true
		}
	}
	for _, o := range g.Outputs {
		read(o)
	}
	return names
}

// branch returns the branch that an If node takes on its condition.
func branch(n *model.Node, condition *model.Tensor) (*model.Graph, error) {
	if condition.Type != model.Bool || condition.Elements() != 1 {
		return nil, fmt.Errorf("its condition is %v %v, not a bool", condition.Type, condition.Shape)
	}
	key := "else_branch"
	if condition.Bools()[0] != 0 {
		key = "then_branch"
	}
	sub, ok := n.Attrs[key].(*model.Graph)
	if !ok {
		return nil, fmt.Errorf("it has no %s", key)
	}
	if len(sub.Outputs) < len(n.Out) {
		return nil, fmt.Errorf("its %s has %d outputs, %d are wanted", key, len(sub.Outputs), len(n.Out))
	}
	return sub, nil
}

// inline returns the nodes of sub, which stands in node n of e, as nodes of
// e: its inputs become n.In[from:], its outputs n.Out, and everything else
// gets names of its own.
func (e *edit) inline(n *model.Node, sub *model.Graph, from int) ([]*model.Node, error) {
	if len(sub.Inputs) != len(n.In)-from {
		return nil, fmt.Errorf("a graph of %d inputs is given %d values", len(sub.Inputs), len(n.In)-from)
	}
	sub = sub.Clone()
	capture(sub)
	names := map[string]string{"": ""}
	for i, name := range sub.Inputs {
		names[name] = n.In[from+i]
	}
	for _, name := range slices.Sorted(maps.Keys(sub.Values)) {
		if c := sub.Values[name].Const; c != nil {
			names[name] = e.constant(n.Name, name, c)
		}
	}
	made := sub.Producers()
	var last []*model.Node // what copies a value to an output that cannot be made under its name
	for i, out := range n.Out {
		from := sub.Outputs[i]
		if out == "" {
			continue
		}
		if made[from] != nil && names[from] == "" {
			names[from] = out
			continue
		}
		last = append(last, &model.Node{Op: "Identity", Name: n.Name + internalMark + out, In: []string{from}, Out: []string{out}})
	}
	for _, inner := range sub.Nodes {
		inner.Name = n.Name + internalMark + inner.Name
		for i, name := range inner.In {
			inner.In[i] = names[name]
		}
		for i, name := range inner.Out {
			if name != "" && names[name] == "" {
				names[name] = e.value(n.Name, name)
			}
			inner.Out[i] = names[name]
		}
	}
	for _, copies := range last {
		copies.In[0] = names[copies.In[0]]
	}
	return append(sub.Nodes, last...), nil
}
