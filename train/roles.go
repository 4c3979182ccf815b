package train

import (
	"slices"

	"dunlin/model"
)

// role is what a constant is trained as.
type role uint8

const (
	weight role = iota + 1 // decays
	offset                 // a bias, or what a norm scales with
)

// roles finds the constants that are trained.
func roles(g *model.Graph, freeze func(string) bool) map[string]role {
	r := map[string]role{}
	mark := func(name string, as role) {
		if name != "" && (r[name] == 0 || as == weight) {
			r[name] = as
		}
	}
	for _, n := range slices.Backward(g.Nodes) {
		op := operators[n.Op]
		for _, i := range op.weights {
			mark(n.Input(i), weight)
		}
		for _, i := range op.offsets {
			mark(n.Input(i), offset)
		}
		if op.moves && r[n.Out[0]] != 0 {
			mark(n.Input(0), r[n.Out[0]])
		}
		if op.applies {
			for i, name := range n.In {
				if learnable(g, n, 1-i) {
					mark(name, offset)
				}
			}
		}
	}
	for name := range r {
		t := g.Const(name)
		if t == nil || t.Type != model.F32 || (freeze != nil && freeze(name)) {
			delete(r, name)
		}
	}
	return r
}

// learnable reports whether a constant that n applies to its operand i is one
// to train: not a single number, which is part of a formula, unless it is the
// bias of a MatMul; and nothing that is applied to an input of the graph, which
// is preprocessing.
func learnable(g *model.Graph, n *model.Node, i int) bool {
	t := g.Const(n.In[1-i])
	if len(n.In) != 2 || t == nil || slices.Contains(g.Inputs, n.In[i]) {
		return false
	}
	made := g.Producers()[n.In[i]]
	return t.Elements() > 1 || (len(t.Shape) > 0 && n.Op == "Add" && made != nil && made.Op == "MatMul")
}
