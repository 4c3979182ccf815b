package onnx

import (
	"fmt"
	"strings"

	"dunlin/model"
)

// The canonical form is that of opset 13, and of the first opset that has
// the operator for those that came later. What other opsets write becomes:
//
//	operator                 form in the file              canonical form
//	Constant                 a node                        a constant of the graph
//	ReduceSum, -Mean, -Max   axes attribute (< 13, < 18)   axes as input 1 (the form of opset 18 for all of them);
//	 and all other Reduce-                                 none: all axes, unless noop_with_empty_axes is 1
//	Squeeze, Unsqueeze       axes attribute (< 13)         axes as input 1
//	Split                    split attribute (< 13)        split as input 1; without it len(Out) parts of
//	                         num_outputs (18)              ceil(length/len(Out)), the last may be shorter
//	Slice                    starts, ends, axes (< 10)     inputs 1, 2, 3
//	TopK                     k attribute (< 10)            input 1
//	Clip                     min, max attributes (< 11)    inputs 1 and 2, where they were there
//	Pad                      pads, value (< 11)            inputs 1 and 2; the axes of opset 18 stay input 3
//	Upsample                 the operator (< 10)           Resize, coordinate_transformation_mode "asymmetric"
//	Resize                   X, scales (10)                X, "", scales, with "asymmetric"; sizes are input 3.
//	                         empty roi, scales, sizes      "" in their place. nearest_mode is "floor", or "ceil"
//	                                                       where all scales shrink, as ONNX Runtime has it.
//	                                                       axes, antialias and keep_aspect_ratio_policy of 18 stay
//	Softmax, LogSoftmax,     one axis that flattens (< 13) axis -1; else Flatten -> Softmax with axis -1 ->
//	 Hardmax                                               Reshape to the Shape of the input
//	Dropout                  ratio attribute (< 12)        Identity; where the mask is read or training_mode is no
//	                                                       constant false: Dropout(data, ratio, training_mode)
//	BatchNormalization       spatial 0 (< 9)               Sub, Div by Sqrt of Add, Mul, Add
//	                         is_test, momentum             dropped, with outputs that nobody reads
//	Add, Sub, Mul, Div, Pow, broadcast and axis (6)        Unsqueeze of the second input
//	 And, Or, Xor, Equal, Greater, Less, PRelu
//	Cast                     to as a name (< 6)            to as a number
//	Scatter                  the operator (9, 10)          ScatterElements
//	DFT                      axis attribute (< 20)         axis as input 2
//	GridSample               bilinear, bicubic (< 20)      linear, cubic
//	RoiAlign                 no transformation mode (< 16) coordinate_transformation_mode "output_half_pixel"
//	GroupNormalization       num_groups scales (< 21)      as in the file: as many scales as groups or as channels
//	QuantizeLinear           output_dtype (21)             a zero point of that type
//	INT4, UINT4 tensors                                    int8, uint8
//
// Trailing inputs that are left out are dropped from In. Everything else
// that changed between 6 and 21 only added types, or attributes whose
// default is the older meaning. Scan before opset 9 is refused, as is what
// QuantizeLinear rounds to 4 bits.
//
// A rule is applied to the nodes of its operator in files with an opset
// below its own; in the order of the table.
type rule struct {
	below int
	do    func(*edit) error
}

var rules = map[string][]rule{
	"Add": broadcastRule, "Sub": broadcastRule, "Mul": broadcastRule, "Div": broadcastRule,
	"Pow": broadcastRule, "And": broadcastRule, "Or": broadcastRule, "Xor": broadcastRule,
	"Equal": broadcastRule, "Greater": broadcastRule, "Less": broadcastRule,
	"PRelu":              {{7, prelu}},
	"BatchNormalization": {{14, batchNorm}},
	"Cast":               {{9, castName}},
	"Clip":               {{11, clip}},
	"DFT":                {{20, dft}},
	"Dropout":            {{always, dropout}},
	"Gemm":               {{7, drop("broadcast")}},
	"GridSample":         {{20, gridSample}},
	"Hardmax":            softmaxRule,
	"LSTM":               {{7, drop("output_sequence")}},
	"LogSoftmax":         softmaxRule,
	"GRU":                {{7, drop("output_sequence")}},
	"Pad":                {{11, pad}},
	"QuantizeLinear":     {{always, outputType}},
	"ReduceL1":           reduceRule, "ReduceL2": reduceRule, "ReduceLogSum": reduceRule,
	"ReduceLogSumExp": reduceRule, "ReduceMax": reduceRule, "ReduceMean": reduceRule,
	"ReduceMin": reduceRule, "ReduceProd": reduceRule, "ReduceSumSquare": reduceRule,
	"ReduceSum": {{13, axesInput}},
	"Resize":    {{11, resize10}, {always, resizeEmpty}},
	"RoiAlign":  {{16, roiAlign}},
	"Scan":      {{9, refuse("the form that Scan had before opset 9")}},
	"Scatter":   {{11, rename("ScatterElements")}},
	"Slice":     {{10, slice}},
	"Softmax":   softmaxRule,
	"Split":     {{13, intsInput("split")}, {always, splitOutputs}},
	"Squeeze":   {{13, axesInput}},
	"TopK":      {{10, topK}},
	"Unsqueeze": {{13, axesInput}},
	"Upsample":  {{10, upsample}},
}

// always is the below of a rule for all opsets.
const always = MaxOpset + 1

var (
	broadcastRule = []rule{{7, broadcast}}
	reduceRule    = []rule{{18, axesInput}}
	softmaxRule   = []rule{{13, softmax}}
	axesInput     = intsInput("axes")
)

// canon makes the graphs of one file canonical, in place.
type canon struct {
	opset  int
	budget *budget
	taken  map[string]bool // value names of the whole file
	scopes []*scope        // the graph in work and those around it, innermost last

	fourBits map[*model.Tensor]bool // constants that had elements of 4 bits
}

// scope is what canon knows of one graph while it goes through its nodes.
type scope struct {
	g     *model.Graph
	rank  map[string]int  // of values whose rank is known
	reads map[string]bool // values that something reads, in the graph or below it
	names map[string]bool // node names
}

// edit is one node being made canonical: the rules change n, and put what
// must come before or after it into nodes.
type edit struct {
	c     *canon
	s     *scope
	n     *model.Node
	nodes []*model.Node // in their final order; n is among them
}

// graph makes g and its subgraphs canonical. It leaves g in an order in
// which each node comes after those it reads from.
func (c *canon) graph(g *model.Graph, outer *scope) error {
	s := &scope{g: g, rank: map[string]int{}, reads: map[string]bool{}, names: map[string]bool{}}
	if err := c.constants(g); err != nil {
		return err
	}
	if err := c.name(s); err != nil {
		return err
	}
	if err := c.order(g); err != nil {
		return err
	}
	if err := c.reads(g, s.reads); err != nil {
		return err
	}
	for name, v := range g.Values {
		if v.Shape != nil {
			s.rank[name] = len(v.Shape)
		}
	}
	c.scopes = append(c.scopes, s)
	defer func() { c.scopes = c.scopes[:len(c.scopes)-1] }()
	var nodes []*model.Node
	for _, n := range g.Nodes {
		made, err := c.node(s, n)
		if err != nil {
			return err
		}
		for _, m := range made {
			c.inferRank(m)
		}
		nodes = append(nodes, made...)
	}
	g.Nodes = nodes
	return nil
}

// node returns what n becomes.
func (c *canon) node(s *scope, n *model.Node) ([]*model.Node, error) {
	for _, a := range n.Attrs {
		if sub, ok := a.(*model.Graph); ok {
			if err := c.graph(sub, s); err != nil {
				return nil, err
			}
		}
	}
	e := &edit{c: c, s: s, n: n, nodes: []*model.Node{n}}
	for _, r := range rules[n.Op] {
		if c.opset >= r.below {
			continue
		}
		if err := c.budget.take(4096); err != nil {
			return nil, err
		}
		if err := r.do(e); err != nil {
			return nil, err
		}
	}
	return e.nodes, nil
}

// constants turns the Constant nodes of g into constants.
func (c *canon) constants(g *model.Graph) error {
	kept := g.Nodes[:0]
	for _, n := range g.Nodes {
		if n.Op != "Constant" {
			kept = append(kept, n)
			continue
		}
		t, err := constant(n)
		if err != nil {
			return err
		}
		if len(n.Out) != 1 || n.Out[0] == "" || g.Const(n.Out[0]) != nil {
			return fail(ErrMalformed, part(n), "a Constant must have one output of its own")
		}
		if err := c.budget.take(400); err != nil {
			return err
		}
		g.AddConst(n.Out[0], t)
	}
	g.Nodes = kept
	return nil
}

// constant returns the value of a Constant node.
func constant(n *model.Node) (*model.Tensor, error) {
	for key, a := range n.Attrs {
		switch v := a.(type) {
		case *model.Tensor:
			return v, nil
		case float32:
			return model.Of(model.F32, []float32{v}), nil
		case []float32:
			return model.Of(model.F32, v, len(v)), nil
		case int64:
			return model.Of(model.I64, []int64{v}), nil
		case []int64:
			return model.Of(model.I64, v, len(v)), nil
		default:
			return nil, fail(ErrUnsupported, part(n), "a constant of attribute %s (%T)", key, a)
		}
	}
	return nil, fail(ErrMalformed, part(n), "a Constant without a value")
}

// name gives every node a name of its own: "Conv_12" is the thirteenth node
// of the file's graph, a Conv.
func (c *canon) name(s *scope) error {
	var again []int // nodes without a name, or with one that is taken
	for i, n := range s.g.Nodes {
		if err := c.budget.take(int64(2*len(n.Name)) + 256); err != nil {
			return err
		}
		if n.Name == "" || s.names[n.Name] {
			again = append(again, i)
		}
		s.names[n.Name] = true
	}
	next := map[string]int{}
	for _, i := range again {
		n := s.g.Nodes[i]
		base := n.Name
		if base == "" {
			base = fmt.Sprintf("%s_%d", n.Op[strings.LastIndexByte(n.Op, '.')+1:], i)
		}
		n.Name = unique(base, s.names, next)
	}
	return nil
}

// unique returns base, or base with a number, so that taken does not hold it
// yet, and adds it. next remembers where counting stopped for each base.
func unique(base string, taken map[string]bool, next map[string]int) string {
	name := base
	for taken[name] {
		next[base]++
		name = fmt.Sprintf("%s_%d", base, next[base])
	}
	taken[name] = true
	return name
}

// part names a node in a message.
func part(n *model.Node) string {
	if n.Name == "" {
		return "a node (" + n.Op + ")"
	}
	return "node " + n.Name + " (" + n.Op + ")"
}

// fresh returns a value name that nothing in the file has, for a value that
// belongs to the node.
func (e *edit) fresh(suffix string) string {
	return unique(e.n.Name+"/"+suffix, e.c.taken, map[string]int{})
}

// constant adds t to the graph and returns its name.
func (e *edit) constant(suffix string, t *model.Tensor) string {
	name := e.fresh(suffix)
	e.s.g.AddConst(name, t)
	e.s.rank[name] = len(t.Shape)
	return name
}

func (e *edit) ints(suffix string, v ...int64) string {
	return e.constant(suffix, model.Of(model.I64, v, len(v)))
}

// node makes a node beside the one being edited and returns it with one
// fresh output; the caller puts it where it belongs.
func (e *edit) node(op, suffix string, attrs map[string]model.Attr, in ...string) *model.Node {
	return &model.Node{
		Op: op, Name: unique(e.n.Name+"/"+suffix, e.s.names, map[string]int{}),
		In: in, Out: []string{e.fresh(suffix)}, Attrs: attrs,
	}
}

// before puts nodes in front of n.
func (e *edit) before(nodes ...*model.Node) { e.nodes = append(nodes, e.nodes...) }

// after puts nodes behind n.
func (e *edit) after(nodes ...*model.Node) { e.nodes = append(e.nodes, nodes...) }

// setInput makes value the i-th input, leaving out those in between.
func (e *edit) setInput(i int, value string) {
	for len(e.n.In) <= i {
		e.n.In = append(e.n.In, "")
	}
	e.n.In[i] = value
}

// take returns an attribute of type T and removes it.
func take[T any](e *edit, key string) (T, bool) {
	v, ok := e.n.Attrs[key].(T)
	delete(e.n.Attrs, key)
	return v, ok
}

// set gives the node an attribute.
func (e *edit) set(key string, v model.Attr) {
	if e.n.Attrs == nil {
		e.n.Attrs = map[string]model.Attr{}
	}
	e.n.Attrs[key] = v
}

// constOf returns the constant of that name, looking outwards; nil where it
// is none.
func (c *canon) constOf(name string) *model.Tensor {
	for i := len(c.scopes) - 1; i >= 0; i-- {
		if v := c.scopes[i].g.Values[name]; v != nil && v.Const != nil {
			return v.Const
		}
	}
	return nil
}

// typeOf returns the element type of a value, or where the file does not say,
// or.
func (c *canon) typeOf(name string, or model.DType) model.DType {
	for i := len(c.scopes) - 1; i >= 0; i-- {
		if v := c.scopes[i].g.Values[name]; v != nil && v.Type != 0 {
			return v.Type
		}
	}
	return or
}

// rankOf returns the rank of a value, -1 where it is not known.
func (c *canon) rankOf(name string) int {
	for i := len(c.scopes) - 1; i >= 0; i-- {
		if r, ok := c.scopes[i].rank[name]; ok {
			return r
		}
	}
	return -1
}
