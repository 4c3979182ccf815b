package engine

import (
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// pointwise are float operators that see one element at a time, with single
// constants beside it.
var pointwise = []string{
	"Abs", "Add", "Ceil", "Celu", "Clip", "Cos", "Div", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish",
	"LeakyRelu", "Log", "Max", "Min", "Mish", "Mul", "Neg", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Shrink",
	"Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Tanh", "ThresholdedRelu",
}

// maxChain bounds the operators of one table.
const maxChain = 16

// makeTables replaces DequantizeLinear -> functions of one element ->
// QuantizeLinear by a table: an int8 input has 256 values, so the whole chain
// (Sigmoid; x times HardSigmoid of x; ...) has 256 answers. They are computed
// here with the same kernels and in the same order, so that the table gives
// the bits that the chain would.
func makeTables(c *compiler, g *model.Graph) (*model.Graph, error) {
	e := editing(g)
	for _, n := range e.Nodes {
		if n.Op != "QuantizeLinear" || !c.target.Exact {
			e.keep(n)
			continue
		}
		t := chain{edit: e, seen: map[*model.Node]bool{}}
		q, ok := perTensor(g, n)
		if !ok || e.Value(n.Out[0]).Type != model.I8 || !t.follow(n.In[0]) || !t.worth() ||
			!e.Value(t.source.In[0]).Shape.Equal(e.Value(n.Out[0]).Shape) {
			e.keep(n)
			continue
		}
		table, err := t.table(c, n.In[0], q)
		if err != nil {
			e.keep(n) // what the chain's operators refuse, they refuse as they stand
			continue
		}
		from, _ := perTensor(g, t.source)
		attrs := map[string]model.Attr{}
		quantAttrs{xScale: from.scale, xZero: from.zero, yScale: q.scale, yZero: q.zero, lo: -128, hi: 127}.put(attrs)
		last := t.nodes[len(t.nodes)-1]
		in := []string{t.source.In[0], e.constant(n.Out[0], "table", table)}
		e.keep(&model.Node{Op: "dunlin.Table", Name: last.Name + internalMark + "table", In: in, Out: n.Out, Attrs: attrs})
	}
	return e.done(), nil
}

// chain is the operators between one DequantizeLinear and a value.
type chain struct {
	*edit
	source *model.Node
	nodes  []*model.Node // in order
	seen   map[*model.Node]bool
}

// follow adds what makes value, and reports whether all of it begins at one
// DequantizeLinear.
func (t *chain) follow(value string) bool {
	if d := t.dequantizes(value); d != nil && t.Value(d.In[0]).Type == model.I8 {
		ok := t.source == nil || t.source.In[0] == d.In[0]
		t.source = d
		return ok
	}
	n := t.made[value]
	if n == nil || !slices.Contains(pointwise, n.Op) || len(t.nodes) >= maxChain {
		return false
	}
	if t.seen[n] {
		return true
	}
	for _, name := range n.In {
		if name == "" {
			continue
		}
		if c := t.Const(name); c != nil && c.Type == model.F32 && c.Elements() == 1 {
			continue
		}
		if !t.follow(name) {
			return false
		}
	}
	t.seen[n] = true
	t.nodes = append(t.nodes, n)
	return t.source != nil
}

// worth reports whether there is more than activations, which the pass
// "integer" takes into the operator before them or into a change of scale.
func (t *chain) worth() bool {
	return slices.ContainsFunc(t.nodes, func(n *model.Node) bool { return n.Op != "Relu" && n.Op != "Clip" })
}

// table runs the chain up to value on every int8 number.
func (t *chain) table(c *compiler, value string, q quantisation) (*model.Tensor, error) {
	from, _ := perTensor(t.Graph, t.source)
	var all [256]int8
	for i := range all {
		all[i] = int8(i)
	}
	real := model.Of(model.F32, make([]float32, len(all)), len(all))
	kernels.Dequantize(real.F32(), all[:], from.scale, int8(from.zero))
	g := model.New(t.Name)
	for _, n := range t.nodes {
		for _, name := range n.In {
			if k := t.Const(name); k != nil {
				g.AddConst(name, &model.Tensor{Type: k.Type, Shape: model.Shape{}, Data: k.Data})
			} else if d := t.dequantizes(name); d != nil {
				g.AddConst(name, real)
			}
		}
		a, err := c.inferNode(g, n)
		if err != nil {
			return nil, err
		}
		made, err := c.evaluate(a)
		if err != nil {
			return nil, err
		}
		g.AddConst(n.Out[0], made[0])
	}
	table := model.Of(model.I8, all[:], len(all))
	kernels.Quantize(table.I8(), g.Const(value).F32(), q.scale, int8(q.zero))
	return table, nil
}

func inferTable(c *call) error {
	if err := c.want(0, model.I8); err != nil {
		return err
	}
	return inferSame(c)
}

func lowerTable(c *call) (*kernel, error) {
	table := c.constant(1)
	if table == nil || table.Type != model.I8 || table.Elements() != 256 {
		return nil, notYet("its table is no constant of 256 values")
	}
	k := named("table-int8")
	all := (*[256]int8)(table.I8())
	k.bind = int8s(func(out, in []int8, _ []byte) { kernels.Lookup(out, in, all) })
	return k, nil
}
