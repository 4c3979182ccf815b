package engine

import (
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// fuseResiduals takes the Add of a value of the same shape, and the bounds
// behind it, into the convolution or product that makes its other operand:
// input 3. Such a node stands where the Add stood, so that the value is there.
func fuseResiduals(_ *compiler, g *model.Graph) (*model.Graph, error) {
	e := editing(g)
	sums := map[*model.Node]*model.Node{} // by the Add that each takes in
	place := map[*model.Node]int{}
	for i, n := range e.Nodes {
		place[n] = i
		if n.Op != "Add" {
			continue
		}
		for side, name := range n.In {
			// Of two that could take the Add in, the one made last.
			if m := e.made[name]; e.addable(m, n, n.In[1-side]) && (sums[n] == nil || place[m] > place[sums[n]]) {
				sums[n] = m
			}
		}
	}
	moved := map[*model.Node]bool{}
	for _, m := range sums {
		moved[m] = true
	}
	gone := map[*model.Node]bool{}
	for _, n := range e.Nodes {
		switch m := sums[n]; {
		case gone[n] || moved[n]:
		case m != nil:
			more := n.In[slices.IndexFunc(n.In, func(name string) bool { return name != m.Out[0] })]
			m.In = append(slices.Clone(m.In), "", "")[:3:3]
			m.In, m.Out = append(m.In, more), n.Out
			e.fuseClamp(m, gone)
			e.keep(m)
		default:
			e.keep(n)
		}
	}
	return e.done(), nil
}

// addable reports whether m, which makes an operand of sum, can add the other.
func (e *edit) addable(m, sum *model.Node, other string) bool {
	if m == nil || e.only(m.Out[0]) != sum || m.Out[0] == other || m.Input(3) != "" || clamp(m) != kernels.NoClamp {
		return false
	}
	v, more := e.Value(m.Out[0]), e.Value(other)
	w, bias := e.Const(m.Input(1)), e.Const(m.Input(2))
	if more.Const != nil || more.Type != model.F32 || !more.Shape.Equal(v.Shape) || w == nil || (m.Input(2) != "" && bias == nil) {
		return false
	}
	switch m.Op {
	case "dunlin.Conv":
		// Depthwise kernels and those of three axes do not add.
		return len(v.Shape) <= 4 && (w.Shape[1] > 1 || m.Int("group", 1) == 1)
	case "dunlin.Gemm":
		ok := true
		if bias != nil {
			_, ok = perColumn(bias, v.Shape[len(v.Shape)-1])
		}
		return ok && m.Int("transA", 0) == 0
	}
	return false
}
