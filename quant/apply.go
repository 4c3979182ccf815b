package quant

import (
	"fmt"

	"dunlin/model"
)

// write writes the prepared graph g at the levels of o. A value that becomes
// int8 keeps its name: it is the output of the DequantizeLinear, and what its
// node makes gets a new one.
//
//	node -> v/float -> QuantizeLinear -> v/int8 -> DequantizeLinear -> v
func write(g *model.Graph, r *Ranges, o Options) (*model.Graph, *Report, error) {
	if o.memo == nil {
		o.memo = newMemo()
	}
	p := newPlan(g, r, o)
	w := &writer{
		p: p, g: model.New(g.Name), names: newNamer(g), grids: p.grids(), steps: map[string][2]string{},
		weights: map[string]*packed{}, input: map[string]string{}, halves: newHalves(g, o),
	}
	w.g.Inputs, w.g.Outputs = g.Inputs, g.Outputs
	for name, v := range g.Values {
		w.g.Values[name] = v
	}
	rep := &Report{Model: g.Name, To: string(o.to()), Samples: r.Samples}
	for _, name := range g.Inputs {
		if p.wanted(name) {
			w.input[name] = w.names.fresh(name + "/dequantized")
			w.quantise(name, name, w.input[name])
		}
	}
	for _, n := range g.Nodes {
		l, err := w.node(n)
		if err != nil {
			return nil, nil, fmt.Errorf("node %s (%s): %w", n.Name, n.Op, err)
		}
		rep.Layers = append(rep.Layers, l)
		o.rest(g, n)
	}
	return w.g, rep, nil
}

// writer builds the quantised graph node by node.
type writer struct {
	p       *plan
	g       *model.Graph
	names   namer
	grids   map[string]Grid      // by class
	steps   map[string][2]string // constants with a class's scale and zero point
	weights map[string]*packed
	input   map[string]string // what integer nodes read in place of a graph input
	halves  *halves
}

// packed is a layer's weights as they stand in the graph.
type packed struct {
	int8Weights
	value string // the output of their DequantizeLinear
}

// node writes n with all that belongs to it.
func (w *writer) node(n *model.Node) (Layer, error) {
	d := w.p.nodes[n]
	m := *n
	m.In, m.Out = append([]string{}, n.In...), append([]string{}, n.Out...)
	l := Layer{Name: n.Name, Op: n.Op, Precision: string(Float32), Why: d.why}
	if d.int8 {
		l.Precision = string(Int8)
		for i, in := range m.In {
			if dq := w.input[in]; dq != "" {
				m.In[i] = dq
			}
		}
	}
	l.Before = w.p.ownBytes(n)
	l.After = l.Before
	if d.layer != nil {
		if err := w.layer(&m, d.layer, &l); err != nil {
			return l, err
		}
	}
	if w.p.activation(n) && w.p.isFused(n) {
		l.Precision, l.Why = string(Int8), ""
	}
	if l.Precision == string(Float32) && w.p.o.level(n) == FP16 {
		w.half(&m, &l)
	}
	var q []string
	for i, out := range n.Out {
		if out != "" && w.p.wanted(out) {
			m.Out[i] = w.names.fresh(out + "/float")
			q = append(q, m.Out[i], out)
		}
	}
	w.g.Nodes = append(w.g.Nodes, &m)
	for i := 0; i < len(q); i += 2 {
		w.quantise(q[i+1], q[i], q[i+1])
	}
	l.Output = d.out
	if d.out != "" && w.p.wanted(d.out) {
		l.Range = w.grids[w.p.root(d.out)].bounds()
	}
	return l, nil
}

// quantise writes from -> QuantizeLinear -> DequantizeLinear -> to with the
// steps of value's class.
func (w *writer) quantise(value, from, to string) {
	s := w.step(value)
	q := w.names.fresh(value + "/int8")
	w.add("QuantizeLinear", value+"/quantize", []string{from, s[0], s[1]}, q, nil)
	w.add("DequantizeLinear", value+"/dequantize", []string{q, s[0], s[1]}, to, nil)
}

// step returns the names of the constants with the scale and the zero point
// of value's class.
func (w *writer) step(value string) [2]string {
	root := w.p.root(value)
	if s, ok := w.steps[root]; ok {
		return s
	}
	g := w.grids[root]
	s := [2]string{w.names.fresh(root + "/scale"), w.names.fresh(root + "/zero")}
	w.g.AddConst(s[0], model.Of(model.F32, []float32{g.Scale}))
	w.g.AddConst(s[1], model.Of(model.I8, []int8{g.Zero}))
	w.steps[root] = s
	return s
}

func (w *writer) add(op, name string, in []string, out string, attrs map[string]model.Attr) {
	w.g.Nodes = append(w.g.Nodes, &model.Node{Op: op, Name: w.names.fresh(name), In: in, Out: []string{out}, Attrs: attrs})
}

// layer writes the weights and the bias of l, which m is a copy of.
func (w *writer) layer(m *model.Node, l *layer, rep *Layer) error {
	in, ok := w.grids[w.p.root(l.node.In[0])]
	if !ok {
		return fmt.Errorf("no range for its input %s", l.node.In[0])
	}
	// Two layers may share a tensor; the limit that a bias sets is their own.
	level := w.p.o.level(l.node)
	key := fmt.Sprintf("%s\x00%d\x00%s", m.In[1], l.axis, level)
	if l.bias != nil {
		key += "\x00" + m.Name
	}
	pk := w.weights[key]
	if pk == nil {
		pk = &packed{int8Weights: w.quantised(l, in.Scale), value: w.names.fresh(m.In[1] + "/dequantized")}
		w.weights[key] = pk
		q, s, z := w.names.fresh(m.In[1]+"/int8"), w.names.fresh(m.In[1]+"/scale"), w.names.fresh(m.In[1]+"/zero")
		w.g.AddConst(q, pk.values)
		axis := w.scales(s, pk.scales, l, l.axis)
		w.g.AddConst(z, model.Of(model.I8, make([]int8, w.g.Const(s).Elements()), w.g.Const(s).Shape...))
		w.add("DequantizeLinear", m.In[1]+"/dequantize", []string{q, s, z}, pk.value, axis)
	}
	rep.Precision = string(level)
	rep.After = int64(len(pk.values.Data) + scaleBytes(pk.scales))
	if level == Int4 {
		rep.After = int64(model.Int4Size(pk.values.Shape, l.axis) + scaleBytes(pk.scales))
	}
	m.In[1] = pk.value
	if bias := w.bias(l, pk); bias != nil {
		values, units := int32Bias(bias, pk.scales, in.Scale)
		b, s, dq := w.names.fresh(m.Name+"/bias/int32"), w.names.fresh(m.Name+"/bias/scale"), w.names.fresh(m.Name+"/bias/dequantized")
		w.g.AddConst(b, model.Of(model.I32, values, l.channels))
		w.add("DequantizeLinear", m.Name+"/bias/dequantize", []string{b, s}, dq, w.scales(s, units, l, 0))
		m.In = append(m.In[:2], dq)
		rep.After += int64(4 * l.channels)
	}
	sqnr := pk.sqnr
	rep.WeightError = &sqnr
	return nil
}

// scaleBytes is what a pack needs for the scales of a layer; it derives the
// units of the bias from them.
func scaleBytes(scales []float32) int {
	for _, s := range scales {
		if s != upShort(s) {
			return 4 * len(scales)
		}
	}
	return 2 * len(scales)
}

// quantised returns the weights of l at its level.
func (w *writer) quantised(l *layer, inScale float32) int8Weights {
	key := weightsKey{l.node.Name, w.p.o.level(l.node), inScale}
	q, known := w.p.o.memo.weights[key]
	if !known {
		switch learned, ok := w.p.o.Rounding.of(l, inScale); {
		case key.level != Int4:
			q = l.quantise(inScale)
		case ok:
			q = learned
		default:
			q = l.quantise4(inScale)
		}
		w.p.o.memo.weights[key] = q
	}
	return q
}

// scales writes l's scales, one for each channel along axis or one for all,
// and returns the attributes of the DequantizeLinear that reads them.
func (w *writer) scales(name string, scales []float32, l *layer, axis int) map[string]model.Attr {
	if l.perTensor {
		w.g.AddConst(name, model.Of(model.F32, scales[:1]))
		return nil
	}
	w.g.AddConst(name, model.Of(model.F32, scales, l.channels))
	return map[string]model.Attr{"axis": int64(axis)}
}

// bias returns l's bias, corrected for the mean error of its weights; nil
// for a MatMul, which cannot have one.
func (w *writer) bias(l *layer, pk *packed) []float32 {
	if l.node.Op == "MatMul" {
		return nil
	}
	lost := pk.correction(l, w.p.ranges.mean(l.node.In[0]))
	if lost == nil {
		return l.bias
	}
	bias := make([]float32, l.channels)
	copy(bias, l.bias)
	for c := range bias {
		bias[c] = float32(float64(bias[c]) + lost[c])
	}
	return bias
}

// isFused reports whether activation n belongs to an int8 node before it.
func (p *plan) isFused(n *model.Node) bool {
	m := p.made[n.In[0]]
	return m != nil && p.nodes[m].int8 && p.nodes[m].out == n.Out[0] && p.wanted(n.Out[0])
}

// ownBytes returns the size of the float constants that n reads.
func (p *plan) ownBytes(n *model.Node) int64 {
	sum := int64(0)
	for _, in := range n.In {
		if t := p.g.Const(in); t != nil && t.Type == model.F32 {
			sum += int64(len(t.Data))
		}
	}
	return sum
}

// bounds returns the least and the greatest real number of the steps.
func (g Grid) bounds() []float32 {
	return []float32{float32(g.Scale * float32(-128-int32(g.Zero))), float32(g.Scale * float32(127-int32(g.Zero)))}
}
