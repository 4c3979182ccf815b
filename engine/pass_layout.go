package engine

import (
	"maps"
	"slices"
	"strings"

	"dunlin/model"
)

// channelsLast chooses the layout once. Convolutions and pools read and write
// NHWC; operators that see one element at a time follow their inputs; all
// others keep NCHW. A Transpose is put only where a value is there in one
// layout and wanted in the other, and never twice for one value, so that
// those of neighbours cancel by not being made. A Transpose of the graph
// itself between the two layouts goes the same way.
func channelsLast(_ *compiler, g *model.Graph) (*model.Graph, error) { return relayout(g, true) }

// channelsLastEach makes each value in the layout that the graph gives it:
// convolutions and pools have a Transpose before and one behind them.
func channelsLastEach(_ *compiler, g *model.Graph) (*model.Graph, error) { return relayout(g, false) }

// toLast returns the order that brings the channels, axis 1, to the end.
func toLast(rank int) []int64 {
	perm := []int64{0}
	for i := 2; i < rank; i++ {
		perm = append(perm, int64(i))
	}
	return append(perm, 1)
}

// toSecond returns the order that brings them back.
func toSecond(rank int) []int64 {
	perm := []int64{0, int64(rank) - 1}
	for i := 1; i < rank-1; i++ {
		perm = append(perm, int64(i))
	}
	return perm
}

// spatialRank reports whether a value of that shape can have its channels
// last: it has one to three axes beside batch and channels.
func spatialRank(s model.Shape) bool { return len(s) >= 3 && len(s) <= 5 }

// layouts is the edit of the pass: for each value of 3 to 5 axes, the names it has
// in each layout, "" where it has none yet.
type layouts struct {
	*edit
	nhwc   map[string]string
	absent map[string]bool // values that are there in NHWC only
	follow bool

	constants map[turnedName]string // so that many readers of a constant share one more
}

// turnedName is a constant as one of so many axes.
type turnedName struct {
	name string
	rank int
}

func relayout(g *model.Graph, follow bool) (*model.Graph, error) {
	l := &layouts{edit: editing(g), nhwc: map[string]string{}, absent: map[string]bool{}, follow: follow, constants: map[turnedName]string{}}
	for _, n := range l.Nodes {
		switch {
		case wantsNHWC(n) && spatialRank(l.Value(n.In[0]).Shape):
			l.turn(n, n.In[:1])
		case follow && n.Op == "Transpose" && spatialRank(l.Value(n.In[0]).Shape) && l.relabel(n):
		case follow && l.follows(n):
			l.turn(n, n.In)
		default:
			for _, name := range n.In {
				l.nchw(name, n)
			}
			l.keep(n)
		}
	}
	for _, name := range l.Outputs {
		l.nchw(name, &model.Node{Name: "output " + name})
	}
	return l.done(), nil
}

func wantsNHWC(n *model.Node) bool {
	return strings.HasSuffix(n.Op, "Conv") || strings.HasSuffix(n.Op, "Pool") || n.Op == "ConvTranspose" || n.Op == "ConvInteger"
}

// elementwise are the operators that give the same answer in any layout.
var elementwise = []string{
	"Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Exp", "Sqrt", "Neg", "Abs",
	"Add", "Sub", "Mul", "Div", "Cast", "Identity", "dunlin.QAdd", "dunlin.QMul", "dunlin.Table", "dunlin.Requant", "dunlin.FlipSign",
	"QuantizeLinear", "DequantizeLinear", "BatchNormalization", "Concat", "Resize", "Gather", "Softmax", "Pad", "Slice", "Split",
	"Squeeze", "Unsqueeze",
	"Max", "Min", "PRelu",
	"Log", "Reciprocal", "Erf", "Gelu", "Elu", "Selu", "Celu", "Softplus", "Softsign", "ThresholdedRelu", "Mish", "Floor", "Ceil", "Round",
}

// ofTwo are those of elementwise whose operands are broadcast.
var ofTwo = []string{"Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu"}

// follows reports whether n can run in NHWC, and one of its inputs is there
// in NHWC only.
func (l *layouts) follows(n *model.Node) bool {
	if (len(n.Out) > 1 && n.Op != "Split") || !slices.Contains(elementwise, n.Op) || !slices.ContainsFunc(n.In, func(name string) bool { return l.absent[name] }) {
		return false
	}
	switch n.Op {
	case "Squeeze", "Unsqueeze":
		return l.spatialAxes(n)
	case "Gather":
		return len(l.Value(n.In[1]).Shape) == 1
	case "Pad":
		pads := l.Const(n.In[1])
		return pads != nil && pads.Type == model.I64 && n.Input(3) == ""
	case "Slice":
		for i := range n.In[1:] {
			if c := l.Const(n.In[i+1]); n.In[i+1] != "" && (c == nil || (c.Type != model.I64 && c.Type != model.I32)) {
				return false
			}
		}
		return true
	case "Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu", "dunlin.QMul":
		rank := len(l.Value(n.Out[0]).Shape)
		for _, name := range n.In {
			if s := l.Value(name).Shape; len(s) != rank && (l.Const(name) == nil || len(s) > rank) {
				return false
			}
		}
	case "QuantizeLinear", "DequantizeLinear":
		s := l.Value(n.In[1]).Shape
		count, err := s.Elements()
		return err == nil && count == 1
	}
	return true
}

// spatialAxes reports whether a Squeeze or Unsqueeze takes away or adds axes
// behind the channels only, and leaves an activation.
func (l *layouts) spatialAxes(n *model.Node) bool {
	axes := l.Const(n.Input(1))
	return axes != nil && axes.Type == model.I64 && spatialRank(l.Value(n.Out[0]).Shape) &&
		!slices.ContainsFunc(axes.I64(), func(a int64) bool { return a < 2 })
}

// turn keeps a copy of n that reads these inputs, and writes, in NHWC.
func (l *layouts) turn(n *model.Node, inputs []string) {
	turned := &model.Node{Op: n.Op, Name: n.Name, In: slices.Clone(n.In), Attrs: maps.Clone(n.Attrs)}
	if turned.Attrs == nil {
		turned.Attrs = map[string]model.Attr{}
	}
	turned.Attrs[channelsLastAttr] = int64(1)
	for i, name := range inputs {
		turned.In[i] = l.last(name, n)
	}
	if more := n.Input(3); n.Op == "dunlin.Conv" && more != "" {
		turned.In[3] = l.last(more, n)
	}
	l.turnAxes(turned, len(l.Value(n.In[0]).Shape))
	for _, o := range n.Out {
		if o == "" {
			turned.Out = append(turned.Out, "")
			continue
		}
		twin := l.value(o, "nhwc")
		turned.Out = append(turned.Out, twin)
		l.nhwc[o], l.absent[o] = twin, true
	}
	l.keep(turned)
	if !l.follow {
		l.nchw(n.Out[0], n)
	}
}

// alongAxis are the operators that work along an axis, and which one where
// the attribute is absent.
var alongAxis = map[string]int64{"Concat": 0, "Gather": 0, "Split": 0, "Softmax": -1}

// turnAxes rewrites what n says of the axes of its input for NHWC.
func (l *layouts) turnAxes(n *model.Node, rank int) {
	order := toLast(rank)
	place := func(axis int64) int64 { return int64(slices.Index(order, (axis+int64(rank))%int64(rank))) }
	if or, ok := alongAxis[n.Op]; ok {
		n.Attrs["axis"] = place(n.Int("axis", or))
	}
	switch n.Op {
	case "Squeeze", "Unsqueeze": // of spatial axes: see follows
		axes := slices.Clone(l.Const(n.In[1]).I64())
		for i := range axes {
			axes[i]--
		}
		n.In[1] = l.constant(n.In[1], "nhwc", model.Of(model.I64, axes, len(axes)))
	case "Pad":
		pads := l.Const(n.In[1]).I64()
		turned := make([]int64, len(pads))
		for i, from := range order {
			turned[i], turned[rank+i] = pads[from], pads[rank+int(from)]
		}
		n.In[1] = l.constant(n.In[1], "nhwc", model.Of(model.I64, turned, len(turned)))
	case "Slice":
		axes := make([]int64, l.Const(n.In[1]).Elements())
		for i := range axes {
			axes[i] = int64(i)
		}
		for len(n.In) < 4 {
			n.In = append(n.In, "")
		}
		if n.In[3] != "" {
			given, _ := integers(l.Const(n.In[3])) // follows has seen that they are
			copy(axes, given)
		}
		for i, a := range axes {
			axes[i] = place(a)
		}
		n.In[3] = l.constant(n.In[1], "axes", model.Of(model.I64, axes, len(axes)))
	}
}

// last returns the name of a value in NHWC, and makes it where there is none.
// Values of other ranks have no layout, constants of fewer axes than the
// result are broadcast, and get their axes in the new order.
func (l *layouts) last(name string, n *model.Node) string {
	v, rank := l.Value(name), len(l.Value(n.Out[0]).Shape)
	if c := v.Const; c != nil && len(c.Shape) <= rank && slices.Contains(ofTwo, n.Op) {
		key := turnedName{name, rank}
		if l.constants[key] == "" {
			l.constants[key] = l.constant(name, "nhwc", turnedConstant(c, rank))
		}
		return l.constants[key]
	}
	if !spatialRank(v.Shape) {
		return name
	}
	if l.nhwc[name] == "" {
		l.nhwc[name] = l.value(name, "nhwc")
		l.add("Transpose", n, []string{name}, []string{l.nhwc[name]}, map[string]model.Attr{"perm": toLast(len(v.Shape))})
	}
	return l.nhwc[name]
}

// nchw makes a value in NCHW where it is there in NHWC only.
func (l *layouts) nchw(name string, n *model.Node) {
	if l.absent[name] {
		l.absent[name] = false
		l.add("Transpose", n, []string{l.nhwc[name]}, []string{name}, map[string]model.Attr{"perm": toSecond(len(l.Value(name).Shape))})
	}
}

// relabel does what Transpose n does by names alone, where it goes from one
// layout to the other and the value in NHWC is there.
func (l *layouts) relabel(n *model.Node) bool {
	in, out, perm := n.In[0], n.Out[0], n.Ints("perm")
	switch {
	case slices.Equal(perm, toLast(len(perm))) && l.nhwc[in] != "" && !slices.Contains(l.Outputs, out):
		l.rename(out, l.nhwc[in])
		l.Values[l.nhwc[in]].Shape = l.Value(out).Shape
		return true
	case slices.Equal(perm, toSecond(len(perm))) && !slices.Contains(l.Outputs, out):
		l.nchw(in, n) // in is in the graph's order, which is NHWC for its reader
		l.nhwc[out], l.absent[out] = in, true
		return true
	}
	return false
}

// turnedConstant returns a constant, seen with so many axes as NCHW, in NHWC.
func turnedConstant(c *model.Tensor, rank int) *model.Tensor {
	if c.Elements() == 1 {
		return c
	}
	s := model.Shape(repeat(1, rank))
	copy(s[rank-len(c.Shape):], c.Shape)
	out, err := transposeTensor(c, s, toLast(rank))
	if err != nil {
		return c // not reached: the shape and the order are good
	}
	return out
}
