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

var (
	toNHWC = []int64{0, 2, 3, 1}
	toNCHW = []int64{0, 3, 1, 2}
)

// layouts is the edit of the pass: for each value of 4 axes, the names it has
// in each layout, "" where it has none yet.
type layouts struct {
	*edit
	nhwc   map[string]string
	absent map[string]bool // values that are there in NHWC only
	follow bool
}

func relayout(g *model.Graph, follow bool) (*model.Graph, error) {
	l := &layouts{edit: editing(g), nhwc: map[string]string{}, absent: map[string]bool{}, follow: follow}
	for _, n := range l.Nodes {
		switch {
		case wantsNHWC(n) && len(l.Value(n.In[0]).Shape) == 4:
			l.turn(n, n.In[:1])
		case follow && n.Op == "Transpose" && len(l.Value(n.In[0]).Shape) == 4 && l.relabel(n):
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
	return strings.HasSuffix(n.Op, "Conv") || strings.HasSuffix(n.Op, "Pool")
}

// elementwise are the operators that give the same answer in any layout.
var elementwise = []string{
	"Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Exp", "Sqrt", "Neg", "Abs",
	"Add", "Sub", "Mul", "Div", "Cast", "Identity", "dunlin.QAdd", "dunlin.Requant", "dunlin.FlipSign",
	"QuantizeLinear", "DequantizeLinear", "BatchNormalization", "Concat",
}

// follows reports whether n can run in NHWC, and one of its inputs is there
// in NHWC only.
func (l *layouts) follows(n *model.Node) bool {
	if !slices.Contains(elementwise, n.Op) || !slices.ContainsFunc(n.In, func(name string) bool { return l.absent[name] }) {
		return false
	}
	switch n.Op {
	case "Add", "Sub", "Mul", "Div":
		for _, name := range n.In {
			if s := l.Value(name).Shape; len(s) != 4 && (l.Const(name) == nil || len(s) > 4) {
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

// turn keeps a copy of n that reads these inputs, and writes, in NHWC.
func (l *layouts) turn(n *model.Node, inputs []string) {
	turned := &model.Node{Op: n.Op, Name: n.Name, In: slices.Clone(n.In), Attrs: maps.Clone(n.Attrs)}
	if turned.Attrs == nil {
		turned.Attrs = map[string]model.Attr{}
	}
	turned.Attrs[channelsLastAttr] = int64(1)
	if axis, ok := turned.Attrs["axis"].(int64); ok && n.Op == "Concat" {
		turned.Attrs["axis"] = int64(slices.Index(toNHWC, (axis+4)%4))
	}
	for i, name := range inputs {
		turned.In[i] = l.last(name, n)
	}
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

// last returns the name of a value in NHWC, and makes it where there is none.
// Values of other ranks have no layout, constants of fewer axes than 4 are
// broadcast, and get their axes in the new order.
func (l *layouts) last(name string, n *model.Node) string {
	v := l.Value(name)
	if c := v.Const; c != nil && len(c.Shape) <= 4 && slices.Contains([]string{"Add", "Sub", "Mul", "Div"}, n.Op) {
		return l.constant(name, "nhwc", turnedConstant(c))
	}
	if len(v.Shape) != 4 {
		return name
	}
	if l.nhwc[name] == "" {
		l.nhwc[name] = l.value(name, "nhwc")
		l.add("Transpose", n, []string{name}, []string{l.nhwc[name]}, map[string]model.Attr{"perm": toNHWC})
	}
	return l.nhwc[name]
}

// nchw makes a value in NCHW where it is there in NHWC only.
func (l *layouts) nchw(name string, n *model.Node) {
	if l.absent[name] {
		l.absent[name] = false
		l.add("Transpose", n, []string{l.nhwc[name]}, []string{name}, map[string]model.Attr{"perm": toNCHW})
	}
}

// relabel does what Transpose n does by names alone, where it goes from one
// layout to the other and the value in NHWC is there.
func (l *layouts) relabel(n *model.Node) bool {
	in, out, perm := n.In[0], n.Out[0], n.Ints("perm")
	switch {
	case slices.Equal(perm, toNCHW) && !slices.Contains(l.Outputs, out):
		l.nchw(in, n) // in is in the graph's order, which is NHWC for its reader
		l.nhwc[out], l.absent[out] = in, true
		return true
	case slices.Equal(perm, toNHWC) && l.nhwc[in] != "" && !slices.Contains(l.Outputs, out):
		l.rename(out, l.nhwc[in])
		l.Values[l.nhwc[in]].Shape = l.Value(out).Shape
		return true
	}
	return false
}

// turnedConstant returns a constant of up to 4 axes, seen as NCHW, in NHWC.
func turnedConstant(c *model.Tensor) *model.Tensor {
	if c.Elements() == 1 {
		return c
	}
	s := model.Shape{1, 1, 1, 1}
	copy(s[4-len(c.Shape):], c.Shape)
	out, err := transposeTensor(c, s, toNHWC)
	if err != nil {
		return c // not reached: the shape and the order are good
	}
	return out
}
