package engine

import (
	"maps"

	"dunlin/kernels"
	"dunlin/model"
)

// fuseActivations takes a constant added and the activation behind a Conv,
// Gemm or MatMul into it: one pass over the result instead of three.
func fuseActivations(_ *compiler, g *model.Graph) (*model.Graph, error) {
	e := editing(g)
	gone := map[*model.Node]bool{}
	for _, n := range e.Nodes {
		if gone[n] {
			continue
		}
		e.keep(n)
		if n.Op == "MatMul" || n.Op == "Conv" {
			e.fuseBias(n, gone)
		}
		if n.Op != "Conv" && n.Op != "Gemm" {
			continue
		}
		n.Op, n.Attrs = "dunlin."+n.Op, maps.Clone(n.Attrs)
		if n.Attrs == nil {
			n.Attrs = map[string]model.Attr{}
		}
		e.fuseClamp(n, gone)
	}
	return e.done(), nil
}

// fuseClamp takes the bounds behind n into its attributes min and max.
func (e *edit) fuseClamp(n *model.Node, gone map[*model.Node]bool) {
	act := kernels.NoClamp
	for {
		next := e.only(n.Out[0])
		if next == nil || (next.Op != "Relu" && next.Op != "Clip") {
			break
		}
		b, ok := e.bounds(next)
		if !ok {
			break
		}
		act = compose(act, b)
		gone[next], n.Out = true, next.Out
	}
	n.Attrs["min"], n.Attrs["max"] = act.Min, act.Max
}

// fuseBias takes the Add of a constant, one value a channel, into n. A MatMul
// with constant weights then is a Gemm.
func (e *edit) fuseBias(n *model.Node, gone map[*model.Node]bool) {
	w, next := e.Const(n.In[1]), e.only(n.Out[0])
	if w == nil || w.Type != model.F32 || next == nil || next.Op != "Add" || n.Input(2) != "" {
		return
	}
	other := next.In[0]
	if other == n.Out[0] {
		other = next.In[1]
	}
	bias := e.Const(other)
	if bias == nil || bias.Type != model.F32 || len(w.Shape) < 2 {
		return
	}
	channels := w.Shape[0]
	if n.Op == "MatMul" {
		channels = w.Shape[1]
		if len(w.Shape) != 2 || len(e.Value(n.In[0]).Shape) < 2 {
			return
		}
	}
	rank := len(e.Value(n.Out[0]).Shape)
	if bias.Elements() != channels || len(bias.Shape) > rank || !alongChannels(n, bias.Shape, channels, len(w.Shape)-2) {
		return
	}
	n.In = append(n.In[:2:2], e.constant(other, "bias", model.Of(model.F32, bias.F32(), channels)))
	gone[next], n.Out = true, next.Out
	if n.Op == "MatMul" {
		n.Op = "Gemm"
	}
}
