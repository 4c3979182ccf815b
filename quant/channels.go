package quant

import (
	"slices"

	"dunlin/model"
)

// channels follows the channels of a float graph, axis 1 of its activations,
// from the layers that make them to the layers that read them.
//
// Each channel of each value has a number. Two channels have one number where
// they must be treated alike: those that an Add joins, those that a Relu
// passes on, the H*W columns that a Flatten makes of one. What is done to a
// number, cutting it or multiplying it by a factor, is done to all that make
// it and all that read it, and the graph computes what it did.
//
//	Conv -> Relu -> Conv    the output channels of the first are the inputs of the second
//	a, b -> Add             a's i-th, b's i-th and the sum's i-th are one
//	a, b -> Concat          a's channels, then b's
//
// A number is fixed where nothing may be done to it: a caller gives or wants
// the value, or an operator reads it whose channels are not followed.
type channels struct {
	g      *model.Graph
	shapes map[string]model.Shape
	scale  bool // followed so that a channel may be multiplied; else so that it may be cut
	of     map[string][]int
	parent []int
	fixed  []bool
	makers []port
	reads  []port
	params []param
}

// port is one side of a layer: ids has the number of each output channel of a
// maker, and of each input channel of a reader.
type port struct {
	*layer
	ids []int
}

// param is a constant with an element for each channel of an activation,
// along axis.
type param struct {
	node  *model.Node
	input int
	axis  int
	ids   []int
}

// homogeneous operators work on each channel alone, and f(s*x) = s*f(x) for
// each s > 0.
var homogeneous = []string{
	"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity", "Dropout",
}

// pointwise operators work on each element alone.
var pointwise = []string{
	"Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu", "Selu", "Celu", "Softplus", "Softsign", "Gelu", "Mish", "Erf", "Exp",
	"Sqrt", "Abs", "Neg",
}

// followChannels follows the channels of g. It runs g once, on zeros, to
// learn the shapes.
func followChannels(g *model.Graph, scale bool) (*channels, error) {
	shapes, err := shapesOf(g, Options{})
	if err != nil {
		return nil, err
	}
	c := &channels{g: g, shapes: shapes, scale: scale, of: map[string][]int{}}
	for _, n := range g.Nodes {
		c.node(n)
		for _, a := range n.Attrs {
			if sub, ok := a.(*model.Graph); ok {
				c.fixInside(sub)
			}
		}
	}
	c.fix(g.Inputs...)
	c.fix(g.Outputs...)
	return c, nil
}

// shapesOf returns the shape of each float value of g that is no constant,
// with 1 for each axis that is not known.
func shapesOf(g *model.Graph, o Options) (map[string]model.Shape, error) {
	shapes := map[string]model.Shape{}
	r := newRunner(g, o, func(value string, t *model.Tensor) {
		if t.Type == model.F32 {
			shapes[value] = slices.Clone(t.Shape)
		}
	})
	in, err := zeros(g)
	if err == nil {
		err = r.run(in)
	}
	return shapes, err
}

// zeros returns an input for each of g's, with 1 for each axis that is not
// known.
func zeros(g *model.Graph) ([]*model.Tensor, error) {
	var all []*model.Tensor
	for _, name := range g.Inputs {
		v := g.Value(name)
		s := slices.Clone(v.Shape)
		for i, d := range s {
			if d == model.Unknown {
				s[i] = 1
			}
		}
		t, err := model.NewTensor(v.Type, s...)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// root returns the number that stands for id and all joined with it.
func (c *channels) root(id int) int {
	for c.parent[id] != id {
		c.parent[id] = c.parent[c.parent[id]]
		id = c.parent[id]
	}
	return id
}

// join makes a and b one; the lower stands for both.
func (c *channels) join(a, b int) {
	a, b = c.root(a), c.root(b)
	if a > b {
		a, b = b, a
	}
	c.parent[b] = a
	c.fixed[a] = c.fixed[a] || c.fixed[b]
}

// fresh returns n new numbers.
func (c *channels) fresh(n int) []int {
	ids := make([]int, n)
	for i := range ids {
		ids[i] = len(c.parent)
		c.parent, c.fixed = append(c.parent, ids[i]), append(c.fixed, false)
	}
	return ids
}

// ids returns the numbers of a value's channels. One that nothing followed
// made has new ones, fixed; nil is for constants and for values that have no
// axis 1.
func (c *channels) ids(value string) []int {
	if ids, ok := c.of[value]; ok {
		return ids
	}
	s := c.shapes[value]
	if len(s) < 2 || c.g.Const(value) != nil {
		return nil
	}
	c.of[value] = c.fresh(s[1])
	c.fix(value)
	return c.of[value]
}

// fix forbids that anything is done to the channels of values.
func (c *channels) fix(values ...string) {
	for _, v := range values {
		for _, id := range c.ids(v) {
			c.fixed[c.root(id)] = true
		}
	}
}

// fixInside fixes what a subgraph reads.
func (c *channels) fixInside(g *model.Graph) {
	c.fix(g.Outputs...)
	for _, n := range g.Nodes {
		c.fix(n.In...)
		for _, a := range n.Attrs {
			if sub, ok := a.(*model.Graph); ok {
				c.fixInside(sub)
			}
		}
	}
}

// node gives the outputs of n their numbers, or fixes what n reads.
func (c *channels) node(n *model.Node) {
	done := false
	switch n.Op {
	case "Conv", "Gemm", "MatMul":
		done = c.layer(n)
	case "BatchNormalization":
		done = !c.scale && n.Int("training_mode", 0) == 0 && c.withParams(n, 1, 2, 3, 4)
	case "PRelu":
		done = c.withParams(n, 1)
	case "Add", "Sub", "Mul", "Div", "Max", "Min":
		// One factor for both sides of an Add would have to serve layers of
		// different ranges: it gains nothing and takes many more rounds.
		done = !c.scale && c.elementwise(n)
	case "Concat":
		done = c.concat(n)
	case "Flatten", "Reshape", "Squeeze", "Unsqueeze", "ReduceMean":
		done = c.regroup(n)
	case "Pad", "Resize":
		done = c.spatial(n)
	default:
		if slices.Contains(homogeneous, n.Op) || (!c.scale && slices.Contains(pointwise, n.Op)) {
			done = c.pass(n.In[0], n.Out[0], 1) && len(n.Out) == 1 && !c.dynamic(n)
		}
	}
	if !done {
		c.fix(n.In...)
		c.fix(n.Out...)
	}
}

// dynamic reports whether an input of n behind the first is no constant.
func (c *channels) dynamic(n *model.Node) bool {
	return slices.ContainsFunc(n.In[1:], func(v string) bool { return v != "" && c.g.Const(v) == nil })
}

// pass gives out the channels of in, each times times.
func (c *channels) pass(in, out string, times int) bool {
	from, s := c.ids(in), c.shapes[out]
	if from == nil || len(s) < 2 || s[1] != len(from)*times {
		return false
	}
	to := make([]int, 0, s[1])
	for _, id := range from {
		for range times {
			to = append(to, id)
		}
	}
	c.of[out] = to
	return true
}

// layer follows a layer with constant weights. Where channels are cut, the
// output channels of a depthwise convolution are its inputs; where they are
// multiplied, it has its own.
func (c *channels) layer(n *model.Node) bool {
	l, in := layerOf(c.g, n), c.ids(n.In[0])
	if l == nil || in == nil || !l.finite() || (n.Op != "Conv" && len(c.shapes[n.In[0]]) != 2) {
		return false
	}
	if _, inputs := l.inputChannel(); inputs != len(in) {
		return false
	}
	out := c.fresh(l.channels)
	c.of[n.Out[0]] = out
	c.makers = append(c.makers, port{l, out})
	if groups := int(n.Int("group", 1)); groups == 1 || c.scale {
		c.reads = append(c.reads, port{l, in})
		return true
	} else if groups != len(in) || l.channels%groups != 0 {
		return false
	}
	for i, id := range out {
		c.join(id, in[i/(l.channels/len(in))])
	}
	return true
}

// withParams follows an operator whose inputs at the given places have an
// element for each channel, or one for all.
func (c *channels) withParams(n *model.Node, at ...int) bool {
	if !c.pass(n.In[0], n.Out[0], 1) {
		return false
	}
	for _, i := range at {
		if !c.param(n, i, n.In[0]) {
			return false
		}
	}
	return true
}

// param notes the constant that is input i of n beside an activation.
func (c *channels) param(n *model.Node, i int, activation string) bool {
	t, ids, s := c.g.Const(n.Input(i)), c.ids(activation), c.shapes[activation]
	if t == nil || ids == nil {
		return false
	}
	axis := len(t.Shape) - len(s) + 1 // shapes are aligned at their ends
	if n.Op == "BatchNormalization" {
		axis = 0
	}
	if len(t.Shape) > len(s) {
		return false
	}
	if axis < 0 || t.Shape[axis] == 1 {
		return true // the same for all channels
	}
	if t.Type != model.F32 || t.Shape[axis] != len(ids) {
		return false
	}
	c.params = append(c.params, param{n, i, axis, ids})
	return true
}

// elementwise follows an operator over activations of one shape, or of one
// that is broadcast over all but the channels, and constants.
func (c *channels) elementwise(n *model.Node) bool {
	first := slices.IndexFunc(n.In, func(v string) bool { return c.ids(v) != nil })
	if first < 0 || !c.pass(n.In[first], n.Out[0], 1) {
		return false
	}
	a := n.In[first]
	for i, b := range n.In {
		switch ids := c.ids(b); {
		case i == first:
		case ids == nil:
			if !c.param(n, i, a) {
				return false
			}
		case len(ids) != len(c.of[a]) || len(c.shapes[a]) != len(c.shapes[b]):
			return false
		default:
			for j, id := range ids {
				c.join(id, c.of[a][j])
			}
		}
	}
	return true
}

func (c *channels) concat(n *model.Node) bool {
	s := c.shapes[n.Out[0]]
	axis := int(n.Int("axis", 0))
	if axis < 0 {
		axis += len(s)
	}
	var all []int
	for i, v := range n.In {
		ids := c.ids(v)
		switch {
		case ids == nil || len(s) < 2:
			return false
		case axis == 1 || i == 0:
			all = append(all, ids...)
		case len(ids) != len(all):
			return false
		default:
			for j, id := range ids {
				c.join(id, all[j])
			}
		}
	}
	if len(s) < 2 || len(all) != s[1] {
		return false
	}
	c.of[n.Out[0]] = all
	return true
}

// regroup follows operators that change the axes behind the channels: each
// channel stays, or becomes so many columns.
func (c *channels) regroup(n *model.Node) bool {
	in, out := c.shapes[n.In[0]], c.shapes[n.Out[0]]
	if len(in) < 2 || len(out) < 2 || in[0] != out[0] || in[1] == 0 || out[1]%in[1] != 0 || c.dynamic(n) {
		return false
	}
	times := out[1] / in[1]
	switch n.Op {
	case "Reshape":
		if t := c.g.Const(n.Input(1)); t == nil || t.Type != model.I64 || n.Int("allowzero", 0) != 0 {
			return false
		}
	case "Flatten":
		if n.Int("axis", 1) != 1 {
			return false
		}
	default:
		axes := n.Ints("axes")
		if t := c.g.Const(n.Input(1)); t != nil && t.Type == model.I64 {
			axes = t.I64()
		}
		rank := int64(max(len(in), len(out)))
		inside := func(a int64) bool { return (a < 0 && a+rank < 2) || a == 0 || a == 1 }
		if len(axes) == 0 || times != 1 || slices.ContainsFunc(axes, inside) {
			return false
		}
	}
	return c.pass(n.In[0], n.Out[0], times)
}

// spatial follows Pad and Resize, where they leave samples and channels alone
// and no constant of theirs says how many channels there are.
func (c *channels) spatial(n *model.Node) bool {
	if c.dynamic(n) {
		return false
	}
	if n.Op == "Resize" {
		return n.Input(3) == "" && c.pass(n.In[0], n.Out[0], 1)
	}
	pads, rank := c.g.Const(n.Input(1)), len(c.shapes[n.In[0]])
	if pads == nil || pads.Type != model.I64 || n.Input(3) != "" || pads.Elements() != 2*rank {
		return false
	}
	p := pads.I64()
	if value := c.g.Const(n.Input(2)); value != nil && (value.Type != model.F32 || slices.ContainsFunc(value.F32(), func(v float32) bool { return v != 0 })) {
		return false // cut channels must be those of a pad of nothing
	}
	return p[0] == 0 && p[1] == 0 && p[rank] == 0 && p[rank+1] == 0 && c.pass(n.In[0], n.Out[0], 1)
}

// sets returns the numbers that may be cut or multiplied, those together that
// the layers make together: in the order of the graph.
func (c *channels) sets() [][]int {
	owner := map[int]int{} // the set of a root
	var sets [][]int
	for _, m := range c.makers {
		at := -1
		for _, id := range m.ids {
			if s, ok := owner[c.root(id)]; ok && (at < 0 || s < at) {
				at = s
			}
		}
		if at < 0 {
			at = len(sets)
			sets = append(sets, nil)
		}
		for _, id := range m.ids {
			r := c.root(id)
			if c.fixed[r] {
				continue
			}
			if s, ok := owner[r]; !ok {
				owner[r] = at
				sets[at] = append(sets[at], r)
			} else if s != at {
				for _, moved := range sets[s] {
					owner[moved] = at
				}
				sets[at] = append(sets[at], sets[s]...)
				sets[s] = nil
			}
		}
	}
	sets = slices.DeleteFunc(sets, func(s []int) bool { return len(s) == 0 })
	for _, s := range sets {
		slices.Sort(s)
	}
	return sets
}
