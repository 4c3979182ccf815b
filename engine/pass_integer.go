package engine

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"dunlin/kernels"
	"dunlin/model"
)

// whyFloat is the attribute that says why a node of a quantised graph
// computes in float: inspect shows it.
const whyFloat = "why"

// toInteger makes integer operators of float ones that stand between
// DequantizeLinear and QuantizeLinear:
//
//	DequantizeLinear -> Conv -> Relu -> QuantizeLinear
//	                     ^ DequantizeLinear of constant weights and bias
//
// becomes dunlin.QConv, whose output bounds are the Relu. A node of which
// some part does not fit stays as it is, and so runs in float in the exact
// order; its attribute "why" then says what did not fit.
func toInteger(c *compiler, g *model.Graph) (*model.Graph, error) {
	if !c.target.Exact {
		return g.Clone(), nil
	}
	e := &integers8{edit: editing(g), gone: map[*model.Node]bool{}}
	for _, n := range e.Nodes {
		if e.gone[n] {
			continue
		}
		match := e.rule(n)
		if match == nil {
			e.keep(n)
			continue
		}
		if why := match(n); why != "" {
			if n.Attrs == nil {
				n.Attrs = map[string]model.Attr{}
			}
			n.Attrs[whyFloat] = why
			e.keep(n)
		}
	}
	return e.done(), nil
}

// integers8 is the edit of toInteger.
type integers8 struct {
	*edit
	gone map[*model.Node]bool // activations and QuantizeLinears taken into the operator before them
}

// rule returns the function that tries to replace a node, nil for operators
// that compute nothing. It returns "" where it replaced the node, and why not
// otherwise.
func (e *integers8) rule(n *model.Node) func(*model.Node) string {
	switch n.Op {
	case "Conv":
		return e.conv
	case "Gemm":
		return e.gemm
	case "MatMul":
		return e.matMul
	case "Add":
		return e.sum
	case "Mul":
		return e.times
	case "AveragePool", "GlobalAveragePool":
		return e.average
	case "Relu", "Clip", "QuantizeLinear":
		return e.rescale
	case "Concat":
		return e.concat
	case "DequantizeLinear", "Shape", "Cast", "Dropout", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger":
		return nil
	}
	if slices.Contains(movesOnly, n.Op) || strings.HasPrefix(n.Op, ownDomain) {
		return nil
	}
	return func(n *model.Node) string { return "there is no integer kernel for " + n.Op }
}

// input returns the int8 value behind the DequantizeLinear that makes value.
func (e *integers8) input(value string) (name string, q quantisation, why string) {
	d := e.dequantizes(value)
	if d == nil || e.Value(d.In[0]).Type != model.I8 {
		return "", q, fmt.Sprintf("its input %s is not int8 with one scale", value)
	}
	q, _ = perTensor(e.Graph, d)
	return d.In[0], q, ""
}

// tail is what follows an operator up to the integers it ends in.
type tail struct {
	bias  string        // value of a constant added, "" for none
	act   kernels.Clamp // activations
	out   string        // the int8 value
	q     quantisation
	nodes []*model.Node // all that it replaces
}

// tail follows the readers of value through a constant added (where takeBias
// is set) and activations to a QuantizeLinear. Each must be the only reader.
func (e *integers8) tail(value string, takeBias bool) (t tail, why string) {
	t.act = kernels.NoClamp
	for {
		n := e.only(value)
		if n == nil {
			return t, fmt.Sprintf("its result %s is read as float", value)
		}
		switch n.Op {
		case "Relu", "Clip":
			b, ok := e.bounds(n)
			if !ok {
				return t, fmt.Sprintf("the bounds of %s are not constants", n.Name)
			}
			t.act = compose(t.act, b)
		case "Add":
			other := n.In[0]
			if other == value {
				other = n.In[1]
			}
			if !takeBias || t.bias != "" || t.act != kernels.NoClamp || !e.constantFloat(other) {
				return t, fmt.Sprintf("its result %s is read as float by %s (%s)", value, n.Name, n.Op)
			}
			t.bias = other
		case "QuantizeLinear":
			q, ok := perTensor(e.Graph, n)
			if !ok || e.Value(n.Out[0]).Type != model.I8 {
				return t, fmt.Sprintf("its result is not quantised to int8 with one scale by %s", n.Name)
			}
			t.q, t.out, t.nodes = q, n.Out[0], append(t.nodes, n)
			return t, ""
		default:
			return t, fmt.Sprintf("its result %s is read as float by %s (%s)", value, n.Name, n.Op)
		}
		t.nodes = append(t.nodes, n)
		value = n.Out[0]
	}
}

func (e *integers8) take(t tail) {
	for _, n := range t.nodes {
		e.gone[n] = true
	}
}

// constantFloat reports whether value is a float constant, or a constant
// behind DequantizeLinear.
func (e *integers8) constantFloat(value string) bool {
	if e.Const(value) != nil {
		return true
	}
	d := e.made[value]
	return d != nil && d.Op == "DequantizeLinear" && e.Const(d.In[0]) != nil
}

// bounds returns those of a Relu or Clip node.
func (e *edit) bounds(n *model.Node) (kernels.Clamp, bool) {
	if n.Op == "Relu" {
		return kernels.Clamp{Min: 0, Max: kernels.NoClamp.Max}, true
	}
	a := &call{node: n, in: make([]*model.Value, len(n.In))}
	for i, name := range n.In {
		if name != "" {
			a.in[i] = e.Value(name)
		}
	}
	b, err := clipBounds(a)
	return b, err == nil
}

// compose returns the clamp that is first a, then b.
func compose(a, b kernels.Clamp) kernels.Clamp {
	bound := func(v float32) float32 { return min(max(v, b.Min), b.Max) }
	return kernels.Clamp{Min: bound(a.Min), Max: bound(a.Max)}
}

// attrs returns the attributes of an integer operator from x to t.
func (t tail) attrs(x quantisation) quantAttrs {
	q := quantAttrs{xScale: x.scale, xZero: x.zero, yScale: t.q.scale, yZero: t.q.zero}
	var bounds [2]int8
	kernels.Quantize(bounds[:], []float32{t.act.Min, t.act.Max}, t.q.scale, int8(t.q.zero))
	q.lo, q.hi = bounds[0], bounds[1]
	return q
}

// replace adds an integer operator in place of n and its tail. keep names
// attributes of n that it takes over.
func (e *integers8) replace(n *model.Node, op string, in []string, t tail, q quantAttrs, keep ...string) {
	attrs := map[string]model.Attr{}
	for _, k := range keep {
		if v, ok := n.Attrs[k]; ok {
			attrs[k] = v
		}
	}
	q.put(attrs)
	e.keep(&model.Node{Op: op, Name: n.Name, In: in, Out: []string{t.out}, Attrs: attrs})
	e.take(t)
}

// sum is the rule of Add.
func (e *integers8) sum(n *model.Node) string {
	a, qa, why := e.input(n.In[0])
	if why != "" {
		return why
	}
	b, qb, why := e.input(n.In[1])
	if why != "" {
		return why
	}
	if !e.Value(a).Shape.Equal(e.Value(b).Shape) {
		return fmt.Sprintf("its inputs %v and %v differ in shape", e.Value(a).Shape, e.Value(b).Shape)
	}
	t, why := e.tail(n.Out[0], false)
	if why != "" {
		return why
	}
	q := t.attrs(qa)
	q.bScale, q.bZero = qb.scale, qb.zero
	e.replace(n, "dunlin.QAdd", []string{a, b}, t, q)
	return ""
}

// times is the rule of Mul.
func (e *integers8) times(n *model.Node) string {
	a, qa, why := e.input(n.In[0])
	if why != "" {
		return why
	}
	b, qb, why := e.input(n.In[1])
	if why != "" {
		return why
	}
	t, why := e.tail(n.Out[0], false)
	if why != "" {
		return why
	}
	q := t.attrs(qa)
	q.bScale, q.bZero = qb.scale, qb.zero
	e.replace(n, "dunlin.QMul", []string{a, b}, t, q)
	return ""
}

// average is the rule of AveragePool and GlobalAveragePool.
func (e *integers8) average(n *model.Node) string {
	x, qx, why := e.input(n.In[0])
	if why != "" {
		return why
	}
	t, why := e.tail(n.Out[0], false)
	if why != "" {
		return why
	}
	e.replace(n, "dunlin.Q"+n.Op, []string{x}, t, t.attrs(qx),
		"kernel_shape", "strides", "pads", "dilations", "auto_pad", "ceil_mode", "count_include_pad")
	return ""
}

// rescale is the rule of an activation or a QuantizeLinear that comes right
// behind a DequantizeLinear.
func (e *integers8) rescale(n *model.Node) string {
	x, qx, why := e.input(n.In[0])
	if n.Op == "QuantizeLinear" {
		q, ok := perTensor(e.Graph, n)
		if why != "" || !ok || e.Value(n.Out[0]).Type != model.I8 {
			e.keep(n) // the border from float to integers, which is no fallback
			return ""
		}
		if q == qx && !slices.Contains(e.Outputs, n.Out[0]) {
			e.rename(n.Out[0], x)
			return ""
		}
		t := tail{act: kernels.NoClamp, out: n.Out[0], q: q}
		e.replace(n, "dunlin.Requant", []string{x}, t, t.attrs(qx))
		return ""
	}
	if why != "" {
		return why
	}
	b, ok := e.bounds(n)
	if !ok {
		return "its bounds are not constants"
	}
	t, why := e.tail(n.Out[0], false)
	if why != "" {
		return why
	}
	t.act = compose(b, t.act)
	e.replace(n, "dunlin.Requant", []string{x}, t, t.attrs(qx))
	return ""
}

// concat is the rule of Concat: each part is brought to the scale of the
// whole.
func (e *integers8) concat(n *model.Node) string {
	parts, scales := make([]string, len(n.In)), make([]quantisation, len(n.In))
	for i, name := range n.In {
		var why string
		if parts[i], scales[i], why = e.input(name); why != "" {
			return why
		}
	}
	t, why := e.tail(n.Out[0], false)
	if why != "" {
		return why
	}
	if t.act != kernels.NoClamp {
		return "an activation follows it"
	}
	for i, name := range parts {
		if scales[i] != t.q {
			parts[i] = e.value(name, "scaled")
			attrs := map[string]model.Attr{}
			t.attrs(scales[i]).put(attrs)
			e.add("dunlin.Requant", n, []string{name}, []string{parts[i]}, attrs)
		}
	}
	e.keep(&model.Node{Op: "Concat", Name: n.Name, In: parts, Out: []string{t.out}, Attrs: n.Attrs})
	e.take(t)
	return ""
}

// maxDepth bounds the products in one sum, so that no sum of int8 activations
// times int8 weights, zero points taken off both, leaves an int32.
const maxDepth = math.MaxInt32 / (255 * 255)
