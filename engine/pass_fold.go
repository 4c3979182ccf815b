package engine

import (
	"slices"

	"dunlin/model"
)

// foldShapes replaces nodes that read only constants, or only the shape of a
// value, by the constant that they make. DequantizeLinear stays, for the pass
// "integer" to find the integers behind it.
func foldShapes(c *compiler, g *model.Graph) (*model.Graph, error) {
	return fold(c, g, foldsEarly)
}

func foldsEarly(n *model.Node) bool { return n.Op != "DequantizeLinear" && n.Op != "QuantizeLinear" }

// foldWeights replaces every node that reads only constants. Constants that
// nothing else reads are dropped from g too, which is no graph then: the passes
// have done with it.
func foldWeights(c *compiler, g *model.Graph) (*model.Graph, error) {
	return fold(c, g, func(*model.Node) bool { return true })
}

func fold(c *compiler, g *model.Graph, may func(*model.Node) bool) (*model.Graph, error) {
	e := editing(g)
	reads := map[string]int{}
	for _, name := range slices.Concat(inputsOf(g), g.Outputs) {
		reads[name]++
	}
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
		made, err := c.evaluate(a)
		if err != nil {
			return nil, unsupportedFrom(g, nodeError(g, n, err))
		}
		for i, t := range made {
			if t != nil {
				e.AddConst(n.Out[i], t)
			}
		}
		// What was only there for this goes at once: weights that all turn
		// would be there twice.
		for _, name := range n.In {
			if v := g.Values[name]; name != "" && reads[name] == 1 && v != nil && v.Const != nil {
				delete(e.Values, name)
				delete(g.Values, name)
			}
		}
	}
	return e.done(), nil
}

// shapesOnly are the operators that read the shape of their inputs and not
// what is in them.
var shapesOnly = map[string]bool{"Shape": true, "Size": true, "EyeLike": true}

// foldable reports whether a call's result is known before the run.
func foldable(a *call) bool {
	if shapesOnly[a.node.Op] {
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
// program would use. Outputs that nobody wants are nil.
func (c *compiler) evaluate(a *call) ([]*model.Tensor, error) {
	out := make([]*model.Tensor, len(a.out))
	for i, v := range a.out {
		if a.node.Out[i] == "" {
			continue
		}
		n, err := v.Shape.Elements()
		if err != nil {
			return nil, err
		}
		if err := c.budget.take(int64(n)*int64(v.Type.Size()), "a folded constant"); err != nil {
			return nil, err
		}
		if out[i], err = model.NewTensor(v.Type, v.Shape...); err != nil {
			return nil, err
		}
	}
	k, err := a.kernel()
	if err != nil {
		return nil, err
	}
	if k.alias {
		out[0].Data = a.in[0].Const.Data
		return out, nil
	}
	in := make([]*model.Tensor, len(a.in))
	for i := range a.in {
		in[i] = a.constant(i)
	}
	if err := c.budget.take(int64(k.scratch), "folding a constant"); err != nil {
		return nil, err
	}
	err = k.bind(in, out, model.Aligned(k.scratch))()
	c.budget.used -= int64(k.scratch)
	return out, err
}
