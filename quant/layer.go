package quant

import (
	"fmt"
	"slices"

	"dunlin/model"
)

// layer is a node with constant weights: Conv, ConvTranspose, Gemm or MatMul.
type layer struct {
	node     *model.Node
	weight   *model.Tensor // F32
	bias     []float32     // one for each output channel, nil where there is none
	axis     int           // of weight: the output channels
	channels int

	perTensor bool // one scale for all weights
}

// layerOf returns n as a layer, nil where it is none that can be folded into
// or quantised. whyNot has the reason.
func layerOf(g *model.Graph, n *model.Node) *layer {
	l, _ := whyNot(g, n)
	return l
}

// whyNot returns n as a layer, or the reason why it is none.
func whyNot(g *model.Graph, n *model.Node) (*layer, string) {
	l := &layer{node: n}
	rank := 2
	switch n.Op {
	case "Conv":
	case "ConvTranspose":
		if l.axis = 1; n.Int("group", 1) != 1 {
			return nil, "a ConvTranspose in groups"
		}
	case "Gemm":
		if n.Int("transA", 0) != 0 || n.Float("alpha", 1) != 1 || n.Float("beta", 1) != 1 {
			return nil, "a Gemm with transA, alpha or beta"
		}
		l.axis = 1 - int(n.Int("transB", 0))
	case "MatMul":
		l.axis = 1
	default:
		return nil, "not a layer with weights"
	}
	l.weight = g.Const(n.Input(1))
	if l.weight == nil {
		return nil, "its weights are no constant"
	}
	if n.Op == "Conv" || n.Op == "ConvTranspose" {
		rank = max(len(l.weight.Shape), 3)
	}
	if l.weight.Type != model.F32 || len(l.weight.Shape) != rank || l.weight.Elements() == 0 {
		return nil, fmt.Sprintf("its weights are %v %v", l.weight.Type, l.weight.Shape)
	}
	if l.axis < 0 || l.axis > 1 || len(n.Out) != 1 {
		return nil, "a form that ONNX does not have"
	}
	l.channels = l.weight.Shape[l.axis]
	if name := n.Input(2); name != "" && n.Op != "MatMul" {
		b := g.Const(name)
		if b == nil || b.Type != model.F32 {
			return nil, "its bias is no constant"
		}
		if l.bias = spread(b, l.channels); l.bias == nil {
			return nil, fmt.Sprintf("its bias is %v for %d channels", b.Shape, l.channels)
		}
	}
	return l, ""
}

// spread returns a bias as one value a channel, nil where it is not one.
func spread(b *model.Tensor, channels int) []float32 {
	v := b.F32()
	switch {
	case len(v) == channels && (len(b.Shape) == 1 || (len(b.Shape) == 2 && b.Shape[0] == 1)):
		return v
	case len(v) == 1:
		all := make([]float32, channels)
		for i := range all {
			all[i] = v[0]
		}
		return all
	}
	return nil
}

// finite reports whether no weight and no bias is NaN or infinite.
func (l *layer) finite() bool {
	odd := func(v float32) bool { return v-v != 0 }
	return !slices.ContainsFunc(l.weight.F32(), odd) && !slices.ContainsFunc(l.bias, odd)
}

// eachWeight calls f with the output channel and the index of each weight,
// channel by channel.
func (l *layer) eachWeight(f func(channel, i int)) {
	inner, outer := l.strides()
	for c := range l.channels {
		for o := range outer {
			for i := range inner {
				f(c, (o*l.channels+c)*inner+i)
			}
		}
	}
}

// strides returns how many weights of a channel lie together, and how often.
func (l *layer) strides() (inner, outer int) {
	inner, outer = 1, 1
	for a, d := range l.weight.Shape {
		if a < l.axis {
			outer *= d
		} else if a > l.axis {
			inner *= d
		}
	}
	return inner, outer
}

// inputChannel returns the function that gives the input channel which the
// i-th weight, of output channel c, is multiplied with, and how many input
// channels there are.
func (l *layer) inputChannel() (of func(c, i int) int, channels int) {
	s := l.weight.Shape
	if l.node.Op != "Conv" {
		outs := s[1]
		if l.axis == 0 {
			return func(_, i int) int { return i % outs }, outs
		}
		return func(_, i int) int { return i / outs }, s[0]
	}
	groups := max(1, int(l.node.Int("group", 1)))
	taps := 1
	for _, d := range s[2:] {
		taps *= d
	}
	perGroup := max(1, l.channels/groups)
	return func(c, i int) int { return c/perGroup*s[1] + i/taps%s[1] }, groups * s[1]
}

// namer makes names that a graph does not have yet.
type namer map[string]bool

func newNamer(g *model.Graph) namer {
	m := namer{}
	m.add(g)
	return m
}

func (m namer) add(g *model.Graph) {
	for name := range g.Values {
		m[name] = true
	}
	for _, name := range g.Inputs {
		m[name] = true
	}
	for _, n := range g.Nodes {
		m[n.Name] = true
		for _, o := range n.Out {
			m[o] = true
		}
		for _, a := range n.Attrs {
			if sub, ok := a.(*model.Graph); ok {
				m.add(sub)
			}
		}
	}
}

// fresh returns name, or name with a number where it is taken, and takes it.
func (m namer) fresh(name string) string {
	free := name
	for i := 1; m[free]; i++ {
		free = fmt.Sprintf("%s_%d", name, i)
	}
	m[free] = true
	return free
}
