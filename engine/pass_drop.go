package engine

import (
	"slices"

	"dunlin/model"
)

// dropNothings takes out nodes that do nothing when a network runs: Identity,
// Dropout, and moves that move nothing. One that makes an output of the graph stays where its input
// is an input or output itself, since both names must go on.
func dropNothings(_ *compiler, g *model.Graph) (*model.Graph, error) {
	e := editing(g)
	for _, n := range e.Nodes {
		if !e.nothing(n) {
			e.keep(n)
			continue
		}
		from, to := n.In[0], n.Out[0]
		if !slices.Contains(e.Outputs, to) {
			e.rename(to, from)
			continue
		}
		// The value before it takes the output's name.
		maker := e.made[from]
		if maker == nil || slices.Contains(e.Outputs, from) {
			e.keep(n)
			continue
		}
		for i, o := range maker.Out {
			if o == from {
				maker.Out[i] = to
			}
		}
		e.rename(from, to)
		e.made[to] = maker
	}
	return e.done(), nil
}

// nothing reports whether n's output is its input.
func (e *edit) nothing(n *model.Node) bool {
	switch n.Op {
	case "Identity":
		return true
	case "Dropout":
		return len(n.Out) == 1 && n.Input(2) == ""
	case "Reshape", "Expand", "Slice":
		in, out := e.Value(n.In[0]), e.Value(n.Out[0])
		if in == nil || out == nil || in.Shape == nil || !in.Shape.Known() || !in.Shape.Equal(out.Shape) {
			return false
		}
		if n.Op != "Slice" || n.Input(4) == "" {
			return true
		}
		steps := e.Const(n.In[4])
		if steps == nil {
			return false
		}
		list, err := integers(steps)
		return err == nil && !slices.ContainsFunc(list, func(s int64) bool { return s < 0 })
	}
	return false
}
