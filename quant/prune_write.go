package quant

import (
	"cmp"
	"slices"

	"dunlin/model"
)

// write cuts what is marked from p.g.
func (p *pruner) write() {
	names := newNamer(p.g)
	set := func(n *model.Node, i int, t *model.Tensor) {
		for len(n.In) <= i {
			n.In = append(n.In, "")
		}
		name := names.fresh(cmp.Or(n.In[i], n.Name+"/bias") + "/pruned")
		p.g.AddConst(name, t)
		n.In[i] = name
	}
	for _, m := range p.makers {
		p.writeLayer(m, set)
	}
	for _, q := range p.params {
		if keep := p.kept(q.ids); len(keep) < len(q.ids) {
			set(q.node, q.input, take(p.g.Const(q.node.In[q.input]), q.axis, keep))
		}
	}
	for _, n := range p.g.Nodes {
		ids := p.of[n.Out[0]]
		if n.Op != "Reshape" || ids == nil {
			continue
		}
		to := p.g.Const(n.In[1])
		if keep := p.kept(ids); len(keep) < len(ids) && to.I64()[1] > 0 {
			t := to.Clone()
			t.I64()[1] = int64(len(keep))
			set(n, 1, t)
		}
	}
	for name, v := range p.g.Values { // the engine knows the new shapes
		if v.Const == nil && !slices.Contains(p.g.Inputs, name) && !slices.Contains(p.g.Outputs, name) {
			delete(p.g.Values, name)
		}
	}
}

// writeLayer cuts the outputs and the inputs of a layer, and adds to its bias
// the mean of what the inputs that are cut gave it.
func (p *pruner) writeLayer(m port, set func(*model.Node, int, *model.Tensor)) {
	outs, l := p.kept(m.ids), m.layer
	w, bias := l.weight, l.bias
	if len(outs) < l.channels {
		w = take(w, l.axis, outs)
	}
	if ids := p.into[l.node]; ids != nil {
		if ins := p.kept(ids); len(ins) < len(ids) {
			w = take(w, 1-l.axis, ins)
			bias = p.withMeans(l, ids)
		}
	} else if l.node.Op == "Conv" && l.node.Int("group", 1) != 1 && len(outs) < l.channels {
		groups := l.node.Int("group", 1)
		l.node.Attrs["group"] = int64(len(outs)) / (int64(l.channels) / groups)
	}
	if w != l.weight {
		set(l.node, 1, w)
	}
	if bias == nil {
		return
	}
	if l.node.Op == "MatMul" { // of two axes: followChannels asks for that
		l.node.Op, l.node.Attrs = "Gemm", nil
	}
	kept := make([]float32, len(outs))
	for i, c := range outs {
		kept[i] = bias[c]
	}
	if !slices.Equal(kept, l.bias) {
		set(l.node, 2, model.Of(model.F32, kept, len(kept)))
	}
}

// withMeans returns l's bias with what the channels that are cut give it on
// average; nil where there is no bias and they give nothing.
func (p *pruner) withMeans(l *layer, ids []int) []float32 {
	mean := p.r.mean(l.node.In[0])
	if len(mean) != len(ids) {
		return l.bias
	}
	add, some := make([]float64, l.channels), false
	input, _ := l.inputChannel()
	l.eachWeight(func(c, i int) {
		if k := input(c, i); p.cut[p.root(ids[k])] && mean[k] != 0 {
			add[c] += float64(float64(l.weight.F32()[i]) * mean[k])
			some = true
		}
	})
	if !some {
		return l.bias
	}
	bias := make([]float32, l.channels)
	copy(bias, l.bias)
	for c := range bias {
		bias[c] = float32(float64(bias[c]) + add[c])
	}
	return bias
}

// kept returns the places among ids that are not cut.
func (p *pruner) kept(ids []int) []int {
	var keep []int
	for i, id := range ids {
		if !p.cut[p.root(id)] {
			keep = append(keep, i)
		}
	}
	return keep
}

// take returns the parts of t that stand at the places keep along axis.
func take(t *model.Tensor, axis int, keep []int) *model.Tensor {
	outer, inner := 1, t.Type.Size()
	for a, d := range t.Shape {
		if a < axis {
			outer *= d
		} else if a > axis {
			inner *= d
		}
	}
	shape := slices.Clone(t.Shape)
	shape[axis] = len(keep)
	data := model.Aligned(outer * len(keep) * inner)[:0]
	for o := range outer {
		for _, k := range keep {
			at := (o*t.Shape[axis] + k) * inner
			data = append(data, t.Data[at:at+inner]...)
		}
	}
	return &model.Tensor{Type: t.Type, Shape: shape, Data: data}
}
