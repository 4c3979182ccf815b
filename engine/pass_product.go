package engine

import (
	"maps"

	"dunlin/model"
)

// foldTransposes takes the transposes before and behind a float product of two
// computed tensors into it: a product finds rows by their addresses, and lays
// its second operand out anyway.
//
//	Transpose -> MatMul -> Transpose     becomes dunlin.MatMul
//	Transpose ----^
//
// A transpose that moves the last axis of the result stays, for the columns of
// a product lie side by side.
func foldTransposes(_ *compiler, g *model.Graph) (*model.Graph, error) {
	e := editing(g)
	gone := map[*model.Node]bool{}
	for _, n := range e.Nodes {
		if gone[n] {
			continue
		}
		e.keep(n)
		if n.Op != "MatMul" || e.Value(n.Out[0]).Type != model.F32 || e.Const(n.In[1]) != nil {
			continue
		}
		turns := map[string]model.Attr{}
		for i, name := range []string{turnA, turnB} {
			if t := e.made[n.In[i]]; t != nil && t.Op == "Transpose" {
				turns[name], n.In[i] = e.turn(t), t.In[0]
			}
		}
		if t := e.only(n.Out[0]); t != nil && t.Op == "Transpose" && len(e.Value(n.In[0]).Shape) > 1 && len(e.Value(n.In[1]).Shape) > 1 {
			if perm := e.turn(t); perm[len(perm)-1] == int64(len(perm)-1) {
				turns[turnOut], n.Out, gone[t] = perm, t.Out, true
			}
		}
		if len(turns) > 0 {
			n.Op, n.Attrs = "dunlin.MatMul", maps.Clone(n.Attrs)
			if n.Attrs == nil {
				n.Attrs = turns
			} else {
				maps.Copy(n.Attrs, turns)
			}
		}
	}
	return e.done(), nil
}

// turn returns the order of axes that a Transpose gives its input.
func (e *edit) turn(t *model.Node) []int64 {
	rank := len(e.Value(t.In[0]).Shape)
	perm, _ := permutation(t, rank) // the node has been inferred: it is one
	list := make([]int64, len(perm))
	for i, p := range perm {
		list[i] = int64(p)
	}
	return list
}
