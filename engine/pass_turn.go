package engine

import (
	"maps"
	"slices"

	"dunlin/model"
)

// turnBack takes away the two Transposes around operators that can work along
// another axis, or see one element at a time: Transpose, Softmax, and the
// Transpose back become one Softmax along the axis that stood there. Two
// Transposes behind each other become one.
func turnBack(_ *compiler, g *model.Graph) (*model.Graph, error) {
	e := editing(g)
	for _, n := range e.Nodes {
		if n.Op == "Transpose" && e.turnedBack(n) {
			continue
		}
		e.keep(n)
	}
	return e.done(), nil
}

// turnedBack replaces Transpose n, where what stands before it allows it.
func (e *edit) turnedBack(n *model.Node) bool {
	perm := n.Ints("perm")
	inner := e.made[n.In[0]]
	if perm == nil || inner == nil {
		return false
	}
	if first := inner.Ints("perm"); inner.Op == "Transpose" && len(first) == len(perm) {
		both := make([]int64, len(perm))
		for i, p := range perm {
			both[i] = first[p]
		}
		e.made[n.Out[0]] = e.add("Transpose", n, inner.In[:1], n.Out, map[string]model.Attr{"perm": both})
		return true
	}
	if !turnable(inner) || e.only(inner.Out[0]) != n {
		return false
	}
	before := e.made[inner.In[0]]
	if before == nil || before.Op != "Transpose" {
		return false
	}
	first := before.Ints("perm")
	if len(first) != len(perm) {
		return false
	}
	for i, p := range perm {
		if first[p] != int64(i) {
			return false
		}
	}
	attrs := maps.Clone(inner.Attrs)
	if inner.Op == "Softmax" {
		axis, err := axisOf(inner.Int("axis", -1), len(perm))
		if err != nil {
			return false
		}
		if attrs == nil {
			attrs = map[string]model.Attr{}
		}
		attrs["axis"] = first[axis]
	}
	in := append([]string{before.In[0]}, inner.In[1:]...)
	e.made[n.Out[0]] = e.add(inner.Op, inner, in, n.Out, attrs)
	return true
}

// turnable reports whether n gives the same numbers whatever the order of
// axes, its own axis moved along.
func turnable(n *model.Node) bool {
	switch n.Op {
	case "Softmax", "Clip":
		return true
	}
	return len(n.In) == 1 && len(n.Out) == 1 && slices.Contains(elementwise, n.Op) && n.Op != "Concat"
}
