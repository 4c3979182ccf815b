package engine

import (
	"fmt"

	"dunlin/kernels"
	"dunlin/model"
)

// Specialise returns what is left of g where the shapes and the values that o
// gives are known: what they and the constants tell is a constant, and in the
// place of an If whose condition is one stands the branch that is taken. It
// computes what g computes for these shapes and values, in operators of package
// model, and has the inputs of o.Values no more. An If, Loop or Scan that
// depends on data stays. It reads Shapes, Values, Symbolic1, MaxMemory and
// Kernels of o, and fails as Compile does.
//
// It is for those who rewrite a graph and do not look into subgraphs.
func Specialise(g *model.Graph, o Options) (*model.Graph, error) {
	target, err := kernels.Host(o.Kernels)
	if err != nil {
		return nil, fmt.Errorf("specialise %s: %w", g.Name, err)
	}
	if err := g.Check(); err != nil {
		return nil, fmt.Errorf("specialise: %w", err)
	}
	if err := Check(g); err != nil {
		return nil, err
	}
	limit := o.MaxMemory
	if limit <= 0 {
		limit = machineMemory() / 2
	}
	c := &compiler{options: o, target: target, budget: &budget{limit: limit}}
	if g, err = bindInputs(g, o); err != nil {
		return nil, fmt.Errorf("specialise: %w", err)
	}
	capture(g)
	g.Prune()
	if g, _, err = c.settle(g); err != nil {
		return nil, fmt.Errorf("specialise: %w", err)
	}
	g.Prune()
	if g, err = dropNothings(c, g); err != nil {
		return nil, fmt.Errorf("specialise: %w", err)
	}
	g.Prune()
	release(g)
	if err := g.Check(); err != nil {
		return nil, fmt.Errorf("specialise: %w", err)
	}
	return g, nil
}

// release undoes capture, in g itself: the subgraphs that are left read from
// the graph around them again.
func release(g *model.Graph) {
	for _, n := range g.Nodes {
		captured := int(n.Int(capturedAttr, 0))
		delete(n.Attrs, capturedAttr)
		given := n.In[len(n.In)-captured:]
		n.In = n.In[:len(n.In)-captured]
		for _, sub := range subgraphs(n) {
			from := len(sub.Inputs) - captured
			names := map[string]string{}
			for i, name := range sub.Inputs[from:] {
				delete(sub.Values, name)
				names[name] = given[i]
			}
			sub.Inputs = sub.Inputs[:from]
			rename(sub, names)
			release(sub)
		}
	}
}

// rename makes g and its subgraphs read names[x] of the graph around it where
// they read x.
func rename(g *model.Graph, names map[string]string) {
	own := map[string]bool{}
	for _, name := range g.Inputs {
		own[name] = true
	}
	for name, v := range g.Values {
		own[name] = own[name] || v.Const != nil
	}
	for name := range g.Producers() {
		own[name] = true
	}
	swap := func(list []string) {
		for i, name := range list {
			if to, ok := names[name]; ok && !own[name] {
				list[i] = to
			}
		}
	}
	for _, n := range g.Nodes {
		swap(n.In)
		for _, sub := range subgraphs(n) {
			rename(sub, names)
		}
	}
	swap(g.Outputs)
}
