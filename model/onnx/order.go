package onnx

import "dunlin/model"

// reads adds the names of all values that g and its subgraphs read.
func (c *canon) reads(g *model.Graph, to map[string]bool) error {
	for _, n := range g.Nodes {
		if err := c.budget.take(int64(100 * len(n.In))); err != nil {
			return err
		}
		for _, name := range n.In {
			to[name] = true
		}
		for _, a := range n.Attrs {
			if sub, ok := a.(*model.Graph); ok {
				if err := c.reads(sub, to); err != nil {
					return err
				}
			}
		}
	}
	for _, name := range g.Outputs {
		to[name] = true
	}
	return nil
}

// order puts the nodes of g so that each comes after those it reads from.
// ONNX demands it, but files that break the rule occur. Nodes that are
// already in order keep it; a circle is left for Graph.Check to name.
func (c *canon) order(g *model.Graph) error {
	maker := map[string]int{}
	for i, n := range g.Nodes {
		for _, o := range n.Out {
			maker[o] = i
		}
	}
	delete(maker, "")
	needs := make([][]int, len(g.Nodes)) // nodes that a node waits for
	sorted := true
	for i, n := range g.Nodes {
		visit := func(name string) {
			if j, ok := maker[name]; ok {
				needs[i] = append(needs[i], j)
				sorted = sorted && j < i
			}
		}
		for _, name := range n.In {
			visit(name)
		}
		for _, a := range n.Attrs {
			if sub, ok := a.(*model.Graph); ok {
				inner := map[string]bool{}
				if err := c.reads(sub, inner); err != nil {
					return err
				}
				for name := range inner {
					visit(name)
				}
			}
		}
		if err := c.budget.take(int64(32 * (2 + len(needs[i])))); err != nil {
			return err
		}
	}
	if !sorted {
		g.Nodes = topological(g.Nodes, needs)
	}
	return nil
}

// topological is Kahn's algorithm. Nodes in a circle come last, as they were.
func topological(nodes []*model.Node, needs [][]int) []*model.Node {
	waits := make([]int, len(nodes))
	frees := make([][]int, len(nodes))
	for i, list := range needs {
		waits[i] = len(list)
		for _, j := range list {
			frees[j] = append(frees[j], i)
		}
	}
	var ready []int
	for i, w := range waits {
		if w == 0 {
			ready = append(ready, i)
		}
	}
	out := make([]*model.Node, 0, len(nodes))
	for len(ready) > 0 {
		i := ready[0]
		ready = ready[1:]
		out = append(out, nodes[i])
		for _, j := range frees[i] {
			if waits[j]--; waits[j] == 0 {
				ready = append(ready, j)
			}
		}
	}
	for i, n := range nodes {
		if waits[i] > 0 {
			out = append(out, n)
		}
	}
	return out
}
