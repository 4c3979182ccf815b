package quant

import (
	"math"
	"slices"

	"dunlin/model"
)

// FoldBatchNorm returns a graph in which each BatchNormalization behind a
// Conv, ConvTranspose or Gemm with constant weights is part of them:
//
//	W' = W * g/sqrt(var+eps)    b' = beta + (b-mean) * g/sqrt(var+eps)
//
// for each output channel, computed in float64. A BatchNormalization behind
// anything else, or whose input something else reads too, stays. g is not
// changed.
func FoldBatchNorm(g *model.Graph) *model.Graph {
	f := newFolder(g)
	for _, n := range f.g.Nodes {
		if n.Op == "BatchNormalization" && n.Int("training_mode", 0) == 0 && len(n.In) == 5 {
			f.batchNorm(n)
		}
	}
	return f.done()
}

// foldReshapes returns a graph in which a constant behind a Reshape is a
// constant of that shape: some exporters store weights so.
func foldReshapes(g *model.Graph) *model.Graph {
	f := newFolder(g)
	for _, n := range f.g.Nodes {
		if n.Op != "Reshape" || len(n.In) != 2 || n.Int("allowzero", 0) != 0 || slices.Contains(g.Outputs, n.Out[0]) {
			continue
		}
		t, to := f.g.Const(n.In[0]), f.g.Const(n.In[1])
		if t == nil || to == nil || to.Type != model.I64 {
			continue
		}
		if shape := reshaped(t.Shape, to.I64()); shape != nil {
			f.g.AddConst(n.Out[0], &model.Tensor{Type: t.Type, Shape: shape, Data: t.Data})
			f.gone[n] = true
		}
	}
	return f.done()
}

// reshaped returns the shape that Reshape gives, nil where the request does
// not fit: 0 keeps an axis, one -1 takes what is left.
func reshaped(from model.Shape, to []int64) model.Shape {
	total, err := from.Elements()
	if err != nil || total == 0 {
		return nil
	}
	shape, left, free := make(model.Shape, len(to)), total, -1
	for i, d := range to {
		switch {
		case d == -1 && free < 0:
			free = i
			continue
		case d == 0 && i < len(from):
			d = int64(from[i])
		case d <= 0:
			return nil
		}
		if d > int64(left) || left%int(d) != 0 {
			return nil
		}
		shape[i], left = int(d), left/int(d)
	}
	if free >= 0 {
		shape[free], left = left, 1
	}
	if left != 1 {
		return nil
	}
	return shape
}

// foldBias returns a graph in which each Add of one constant a channel behind
// a Conv, or behind a MatMul of two axes, is its bias; the MatMul becomes a
// Gemm.
func foldBias(g *model.Graph) *model.Graph {
	f := newFolder(g)
	for _, n := range f.g.Nodes {
		if n.Op == "Add" && len(n.In) == 2 {
			f.bias(n)
		}
	}
	return f.done()
}

// folder folds nodes into the one before them.
type folder struct {
	g     *model.Graph
	made  map[string]*model.Node
	reads map[string][]*model.Node
	gone  map[*model.Node]bool
	names namer
}

func newFolder(g *model.Graph) *folder {
	c := g.Clone()
	return &folder{g: c, made: c.Producers(), reads: c.Consumers(), gone: map[*model.Node]bool{}, names: newNamer(c)}
}

func (f *folder) done() *model.Graph {
	f.g.Nodes = slices.DeleteFunc(f.g.Nodes, func(n *model.Node) bool { return f.gone[n] })
	f.g.Prune()
	return f.g
}

// before returns the layer that makes value, where a single node reads it and
// can be folded into the layer; else nil.
func (f *folder) before(value string) *layer {
	m := f.made[value]
	if m == nil || len(f.reads[value]) != 1 || slices.Contains(f.g.Outputs, value) || readInside(f.g, value) {
		return nil
	}
	return layerOf(f.g, m)
}

// readInside reports whether a subgraph may read value: Consumers does not
// look into them.
func readInside(g *model.Graph, value string) bool {
	for _, n := range g.Nodes {
		for _, a := range n.Attrs {
			if sub, ok := a.(*model.Graph); ok {
				if slices.Contains(sub.Outputs, value) || readInside(sub, value) {
					return true
				}
				for _, m := range sub.Nodes {
					if slices.Contains(m.In, value) {
						return true
					}
				}
			}
		}
	}
	return false
}

func (f *folder) batchNorm(n *model.Node) {
	l := f.before(n.In[0])
	if l == nil {
		return
	}
	var p [4][]float32 // scale, bias, mean, variance
	for i := range p {
		t := f.g.Const(n.In[i+1])
		if t == nil || t.Type != model.F32 || t.Elements() != l.channels {
			return
		}
		p[i] = t.F32()
	}
	eps := float64(n.Float("epsilon", 1e-5))
	scale, shift := make([]float64, l.channels), make([]float64, l.channels)
	for c := range scale {
		s := float64(p[0][c]) / math.Sqrt(float64(p[3][c])+eps)
		scale[c], shift[c] = s, float64(p[1][c])-float64(float64(p[2][c])*s)
	}
	f.replace(n, l, scale, shift)
}

func (f *folder) bias(n *model.Node) {
	for i, other := range []string{n.In[1], n.In[0]} {
		t := f.g.Const(other)
		l := f.before(n.In[i])
		if t == nil || t.Type != model.F32 || l == nil || !f.isBias(t.Shape, l) {
			continue
		}
		if l.node.Op == "MatMul" {
			l.node.Op, l.node.Attrs = "Gemm", nil
		}
		shift := make([]float64, l.channels)
		for c, v := range t.F32() {
			shift[c] = float64(v)
		}
		f.replace(n, l, nil, shift)
		return
	}
}

// isBias reports whether adding a constant of that shape behind l can be l's
// bias.
func (f *folder) isBias(s model.Shape, l *layer) bool {
	switch l.node.Op {
	case "Conv":
		return perChannel(s, l)
	case "MatMul":
		row := len(s) == 1 || (len(s) == 2 && s[0] == 1)
		return row && s[len(s)-1] == l.channels && f.isMatrix(l.node.In[0])
	}
	return false
}

// isMatrix reports whether a value is known to have two axes.
func (f *folder) isMatrix(value string) bool {
	n := f.made[value]
	switch {
	case n == nil:
		return len(f.g.Value(value).Shape) == 2
	case n.Op == "Reshape":
		t := f.g.Const(n.Input(1))
		return t != nil && t.Elements() == 2
	}
	return n.Op == "Flatten" || n.Op == "Gemm"
}

// perChannel reports whether a constant of that shape adds one value to each
// channel of an activation [N, C, ...].
func perChannel(s model.Shape, l *layer) bool {
	spatial := len(l.weight.Shape) - 2
	at := len(s) - 1 - spatial // where C stands
	if at < 0 || at > 1 || s[at] != l.channels || (at == 1 && s[0] != 1) {
		return false
	}
	return !slices.ContainsFunc(s[at+1:], func(d int) bool { return d != 1 })
}

// replace makes l's output n's, with its weights multiplied by scale (nil: by
// one) and its bias by scale and then added to shift.
func (f *folder) replace(n *model.Node, l *layer, scale, shift []float64) {
	bias := make([]float32, l.channels)
	if l.bias != nil {
		copy(bias, l.bias)
	}
	for c := range bias {
		b := float64(bias[c])
		if scale != nil {
			b = float64(b * scale[c]) // rounded before the sum, on every CPU
		}
		bias[c] = float32(b + shift[c])
	}
	m := l.node
	for len(m.In) < 3 {
		m.In = append(m.In, "")
	}
	if scale != nil {
		w := l.weight.Clone()
		l.eachWeight(func(c, i int) { w.F32()[i] = float32(float64(w.F32()[i]) * scale[c]) })
		m.In[1] = f.names.fresh(m.In[1] + "/folded")
		f.g.AddConst(m.In[1], w)
	}
	m.In[2] = f.names.fresh(m.Name + "/bias")
	f.g.AddConst(m.In[2], model.Of(model.F32, bias, len(bias)))
	delete(f.made, m.Out[0])
	m.Out[0] = n.Out[0]
	f.made[m.Out[0]] = m
	f.gone[n] = true
}
