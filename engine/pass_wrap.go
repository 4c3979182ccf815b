package engine

import (
	"slices"

	"dunlin/model"
)

// wrapMoves puts DequantizeLinear before and QuantizeLinear behind each move
// of quantised integers: QuantizeLinear -> MaxPool of uint8 becomes
// QuantizeLinear -> DequantizeLinear -> MaxPool -> QuantizeLinear, all of one
// scale. Files of quantised operators write the former. The passes behind this
// one then know one form only, and bring the move back to integers.
func wrapMoves(c *compiler, g *model.Graph) (*model.Graph, error) {
	e := editing(g)
	for _, n := range e.Nodes {
		q := e.quantises(n)
		if q == nil || !c.target.Exact {
			e.keep(n)
			continue
		}
		scale := slices.Clone(q.In[1:])
		in, out := e.value(n.In[0], "real"), e.value(n.Out[0], "real")
		e.add("DequantizeLinear", &model.Node{Name: n.Name + internalMark + "real"}, append([]string{n.In[0]}, scale...), []string{in}, nil)
		moved := &model.Node{Op: n.Op, Name: n.Name, In: slices.Clone(n.In), Out: []string{out}, Attrs: n.Attrs}
		moved.In[0] = in
		e.keep(moved)
		e.made[n.Out[0]] = e.add("QuantizeLinear", &model.Node{Name: n.Name + internalMark + "quantised"}, append([]string{out}, scale...), n.Out[:1], nil)
	}
	return e.done(), nil
}

// quantises returns the QuantizeLinear, of one scale for the tensor, whose
// integers n moves.
func (e *edit) quantises(n *model.Node) *model.Node {
	if !slices.Contains(movesOnly, n.Op) || n.Op == "Identity" {
		return nil
	}
	if len(n.Out) > 1 && slices.ContainsFunc(n.Out[1:], func(o string) bool { return o != "" }) {
		return nil
	}
	q := e.made[n.In[0]]
	if q == nil || q.Op != "QuantizeLinear" {
		return nil
	}
	if _, ok := perTensor(e.Graph, q); !ok {
		return nil
	}
	return q
}
