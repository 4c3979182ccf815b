package engine

import (
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// joinPlanes makes one operator of QuantizeLinear and the Transpose behind it
// that brings the few channels of a picture to the end: each float is read
// once, and no plane of bytes is written that nobody else reads.
func joinPlanes(_ *compiler, g *model.Graph) (*model.Graph, error) {
	e := editing(g)
	gone := map[*model.Node]bool{}
	for _, q := range e.Nodes {
		if t := e.planesBehind(q); t != nil {
			e.keep(&model.Node{Op: "dunlin.QuantizePlanes", Name: q.Name, In: q.In, Out: t.Out})
			gone[t] = true
		} else if !gone[q] {
			e.keep(q)
		}
	}
	return e.done(), nil
}

// planesBehind returns the Transpose that is the only reader of what n
// quantises, where a kernel can do both.
func (e *edit) planesBehind(n *model.Node) *model.Node {
	if n.Op != "QuantizeLinear" || e.Value(n.Out[0]).Type != model.I8 {
		return nil
	}
	shape, t := e.Value(n.Out[0]).Shape, e.only(n.Out[0])
	if t == nil || t.Op != "Transpose" || !spatialRank(shape) || !slices.Equal(t.Ints("perm"), toLast(len(shape))) ||
		shape[1] < 2 || shape[1] > kernels.MaxPlanes {
		return nil
	}
	if _, ok := perTensor(e.Graph, n); !ok {
		return nil
	}
	return t
}
