package engine

import (
	"dunlin/model"
)

// foldShapes replaces nodes that read only constants, or only the shape of a
// value, by the constant that they make. DequantizeLinear stays, for the pass
// "integer" to find the integers behind it.
func foldShapes(c *compiler, g *model.Graph) (*model.Graph, error) {
	return fold(c, g, func(n *model.Node) bool { return n.Op != "DequantizeLinear" && n.Op != "QuantizeLinear" })
}

// foldWeights replaces every node that reads only constants.
func foldWeights(c *compiler, g *model.Graph) (*model.Graph, error) {
	return fold(c, g, func(*model.Node) bool { return true })
}

func fold(c *compiler, g *model.Graph, may func(*model.Node) bool) (*model.Graph, error) {
	e := editing(g)
	for _, n := range e.Nodes {
		a, err := c.inferNode(e.Graph, n)
		if err != nil {
			return nil, unsupportedFrom(g, nodeError(g, n, err))
		}
		if !may(n) || !foldable(a) {
			for i, o := range n.Out {
				if o != "" {
					e.Values[o] = a.out[i]
				}
			}
			e.keep(n)
			continue
		}
		t, err := c.evaluate(a)
		if err != nil {
			return nil, unsupportedFrom(g, nodeError(g, n, err))
		}
		e.AddConst(n.Out[0], t)
	}
	return e.done(), nil
}

// foldable reports whether a call's result is known before the run.
func foldable(a *call) bool {
	if len(a.node.Out) > 1 {
		return false
	}
	if a.node.Op == "Shape" {
		return true
	}
	for _, v := range a.in {
		if v != nil && v.Const == nil {
			return false
		}
	}
	return true
}

// evaluate runs one node, whose inputs are constants, with the kernel that a
// program would use.
func (c *compiler) evaluate(a *call) (*model.Tensor, error) {
	v := a.out[0]
	if err := c.budget.take(int64(a.elements())*int64(v.Type.Size()), "a folded constant"); err != nil {
		return nil, err
	}
	k, err := operators[a.node.Op].lower(a)
	if err != nil {
		return nil, err
	}
	out, err := model.NewTensor(v.Type, v.Shape...)
	if err != nil {
		return nil, err
	}
	if k.alias {
		out.Data = a.in[0].Const.Data
		return out, nil
	}
	in := make([]*model.Tensor, len(a.in))
	for i := range a.in {
		in[i] = a.constant(i)
	}
	err = k.bind(in, []*model.Tensor{out}, model.Aligned(k.scratch))()
	return out, err
}
