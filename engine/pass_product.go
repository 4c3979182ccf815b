package engine

import (
	"maps"
	"slices"

	"dunlin/model"
)

// foldTransposes takes the transposes before and behind a float product of two
// computed tensors into it: a product finds rows by their addresses, and lays
// its second operand out anyway.
//
//	Transpose -> MatMul -> Transpose     becomes dunlin.MatMul
//	Transpose ----^
//
// So it takes in the repetition of heads before a transpose, where several
// heads of queries share one of keys:
//
//	Expand [.., heads, n, d] -> Reshape [.., heads*n, d] -> Transpose
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
				if x, repeats := e.repeats(t, turns[name].([]int64)); x != "" {
					turns[[]string{timesA, timesB}[i]], n.In[i] = repeats, x
				}
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

// repeats returns the value whose axis an Expand and a Reshape before a
// transpose t repeat, as a tensor without the axis that was expanded, and how
// often; "" where there is none, or where that axis is one of the matrices'.
func (e *edit) repeats(t *model.Node, perm []int64) (x string, times []int64) {
	r := e.made[t.In[0]]
	if r == nil || r.Op != "Reshape" {
		return "", nil
	}
	wide := e.made[r.In[0]]
	if wide == nil || wide.Op != "Expand" || e.Const(wide.In[0]) != nil {
		return "", nil
	}
	from, to, out := e.Value(wide.In[0]).Shape, e.Value(wide.Out[0]).Shape, e.Value(r.Out[0]).Shape
	if len(from) != len(to) || len(out) != len(to)-1 {
		return "", nil
	}
	for axis := 1; axis < len(from); axis++ {
		less := slices.Delete(slices.Clone(from), axis, axis+1)
		times = slices.Repeat([]int64{1}, len(less))
		times[axis-1] = int64(to[axis])
		one := slices.Clone(from)
		one[axis] = to[axis]
		if from[axis] != 1 || to[axis] == 1 || !one.Equal(to) || !repeated(less, times).Equal(out) {
			continue
		}
		if place := slices.Index(perm, int64(axis-1)); place >= len(perm)-2 {
			return "", nil
		}
		shape := make([]int64, len(less))
		for i, d := range less {
			shape[i] = int64(d)
		}
		x = e.value(wide.In[0], "heads")
		e.Values[x] = &model.Value{Type: model.F32, Shape: less}
		last := e.nodes[len(e.nodes)-1] // n, which comes behind what it reads
		e.nodes = e.nodes[:len(e.nodes)-1]
		e.add("Reshape", r, []string{wide.In[0], e.constant(x, "shape", model.Of(model.I64, shape, len(shape)))}, []string{x}, nil)
		e.keep(last)
		return x, times
	}
	return "", nil
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
