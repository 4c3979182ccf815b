package engine

import (
	"slices"

	"dunlin/model"
)

// fuseDynamic makes one integer product with float results of what exporters
// write for a layer whose input is quantised in the run:
//
//	DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul
//	    scale, zero point    constant weights         scales of input and weights
//
// becomes dunlin.DynamicQuantize -> dunlin.DynamicGemm. The integers are int8
// then, 128 less each, and the result is the same bits. All that reads the
// integers must be such a product; several share one quantisation.
func fuseDynamic(_ *compiler, g *model.Graph) (*model.Graph, error) {
	e := editing(g)
	products := map[*model.Node]dynamicProduct{}
	gone := map[*model.Node]bool{}
	for _, n := range e.Nodes {
		if n.Op != "DynamicQuantizeLinear" || len(n.Out) < 3 || n.Out[0] == "" || n.Out[2] == "" {
			continue
		}
		list, ok := e.dynamicProducts(n)
		if !ok {
			continue
		}
		n.Op = "dunlin.DynamicQuantize"
		for _, p := range list {
			products[p.times] = p
			gone[p.product], gone[p.cast] = true, true
		}
	}
	for _, n := range e.Nodes {
		if p, ok := products[n]; ok {
			in := append(slices.Clone(p.product.In[:3]), p.scale, p.product.Input(3))
			e.keep(&model.Node{Op: "dunlin.DynamicGemm", Name: p.product.Name, In: in, Out: n.Out})
		} else if !gone[n] {
			e.keep(n)
		}
	}
	return e.done(), nil
}

// dynamicProduct is the nodes that become one, and the value of the scales.
type dynamicProduct struct {
	product, cast, times *model.Node
	scale                string
}

// dynamicProducts returns the products of q's integers; ok is false where
// something else reads these or their zero point.
func (e *edit) dynamicProducts(q *model.Node) (list []dynamicProduct, ok bool) {
	for _, n := range slices.Concat(e.read[q.Out[0]], e.read[q.Out[2]]) {
		if slices.ContainsFunc(list, func(p dynamicProduct) bool { return p.product == n }) {
			continue
		}
		p, ok := e.dynamicProduct(n, q)
		if !ok {
			return nil, false
		}
		list = append(list, p)
	}
	return list, len(list) > 0 && !slices.Contains(e.Outputs, q.Out[0]) && !slices.Contains(e.Outputs, q.Out[2])
}

func (e *edit) dynamicProduct(n, q *model.Node) (p dynamicProduct, ok bool) {
	if n.Op != "MatMulInteger" || n.In[0] != q.Out[0] || n.Input(2) != q.Out[2] {
		return p, false
	}
	w := e.Const(n.In[1])
	if w == nil || len(w.Shape) != 2 || w.Shape[0] > maxDepth || (n.Input(3) != "" && e.Const(n.Input(3)) == nil) {
		return p, false
	}
	cast := e.only(n.Out[0])
	if cast == nil || cast.Op != "Cast" || e.Value(cast.Out[0]).Type != model.F32 {
		return p, false
	}
	times := e.only(cast.Out[0])
	if times == nil || times.Op != "Mul" {
		return p, false
	}
	p = dynamicProduct{product: n, cast: cast, times: times, scale: times.In[0]}
	if p.scale == cast.Out[0] {
		p.scale = times.In[1]
	}
	if times.In[0] == times.In[1] || !e.Value(times.Out[0]).Shape.Equal(e.Value(cast.Out[0]).Shape) {
		return p, false // a scale of more axes gives the result its own
	}
	s := e.Value(p.scale).Shape
	count, err := s.Elements()
	return p, err == nil && (count == 1 || count == w.Shape[1] && s[len(s)-1] == count)
}
