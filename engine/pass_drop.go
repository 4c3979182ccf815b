package engine

import (
	"slices"

	"dunlin/model"
)

// dropNothings takes out nodes that do nothing when a network runs: Identity
// and Dropout. One that makes an output of the graph stays where its input
// is an input or output itself, since both names must go on.
func dropNothings(_ *compiler, g *model.Graph) (*model.Graph, error) {
	e := editing(g)
	for _, n := range e.Nodes {
		if n.Op != "Identity" && (n.Op != "Dropout" || len(n.Out) > 1 || n.Input(2) != "") {
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
