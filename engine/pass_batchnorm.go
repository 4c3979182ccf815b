package engine

import (
	"slices"

	"dunlin/model"
)

// foldBatchNorm multiplies what scales and shifts the channels of a
// convolution into the convolution before it, where nothing else reads the
// convolution and its weights are constants: batch normalisation, and
// arithmetic with a constant, one value for all or one a channel. Others run
// as they are, and so does what would make weights infinite. A graph with
// integers then rounds as the convolution does, the same way on every CPU.
func foldBatchNorm(_ *compiler, g *model.Graph) (*model.Graph, error) {
	e := editing(g)
	for _, n := range e.Nodes {
		if !e.foldNorm(n) {
			e.keep(n)
		}
	}
	return e.done(), nil
}

// foldNorm folds norm into the convolution that makes its input, which then
// makes its output. It reports whether it could.
func (e *edit) foldNorm(norm *model.Node) bool {
	if len(norm.In) < 2 || len(norm.Out) != 1 {
		return false
	}
	for i, name := range norm.In[:2] {
		conv := e.made[name]
		if conv == nil || e.only(name) != norm {
			continue
		}
		if channels := e.foldsInto(conv); channels > 0 {
			if scale, shift, ok := e.affine(norm, i, channels); ok && e.scaleChannels(conv, scale, shift) {
				conv.Out = norm.Out
				e.made[norm.Out[0]] = conv
				return true
			}
		}
	}
	return false
}

// foldsInto returns how many channels a convolution makes, 0 where its weights
// cannot be changed.
func (e *edit) foldsInto(conv *model.Node) int {
	if conv.Op != "Conv" && (conv.Op != "ConvTranspose" || conv.Int("group", 1) != 1) {
		return 0
	}
	w, b := e.Const(conv.In[1]), e.Const(conv.Input(2))
	if w == nil || w.Type != model.F32 || (conv.Input(2) != "" && b == nil) || len(w.Shape) < 3 {
		return 0
	}
	return w.Shape[channelAxis(conv)]
}

// channelAxis is the axis of a convolution's weights that counts the channels
// of its result.
func channelAxis(conv *model.Node) int {
	if conv.Op == "ConvTranspose" {
		return 1
	}
	return 0
}

// affine returns what n multiplies input i with, and then adds to it, one value
// a channel; a nil scale is 1.
func (e *edit) affine(n *model.Node, i, channels int) (scale, shift []float32, ok bool) {
	shift = make([]float32, channels)
	if n.Op == "BatchNormalization" {
		if i != 0 {
			return nil, nil, false
		}
		scale, shift, err := batchNorm(n, func(i int) *model.Tensor { return e.Const(n.In[i]) })
		return scale, shift, err == nil && len(scale) == channels
	}
	if !slices.Contains([]string{"Add", "Sub", "Mul", "Div"}, n.Op) || (i != 0 && (n.Op == "Sub" || n.Op == "Div")) {
		return nil, nil, false
	}
	values := e.eachChannel(n.In[1-i], len(e.Value(n.Out[0]).Shape), channels)
	if values == nil {
		return nil, nil, false
	}
	switch n.Op {
	case "Add":
		return nil, values, true
	case "Sub":
		for c, v := range values {
			shift[c] = -v
		}
		return nil, shift, true
	case "Div":
		for c, v := range values {
			values[c] = 1 / v
		}
	}
	return values, shift, true
}

// eachChannel returns a constant float32 operand as one value a channel of an
// activation in NCHW of that rank, nil where it is something else.
func (e *edit) eachChannel(name string, rank, channels int) []float32 {
	t := e.Const(name)
	if t == nil || t.Type != model.F32 || len(t.Shape) > rank {
		return nil
	}
	axis := len(t.Shape) - rank + 1 // where the channels are
	switch n := t.Elements(); {
	case n == 1:
		return slices.Repeat(t.F32(), channels)
	case n == channels && axis >= 0 && t.Shape[axis] == channels:
		return slices.Clone(t.F32())
	}
	return nil
}

// scaleChannels makes conv give what it gave times scale plus shift. It
// leaves conv as it is, and reports so, where a weight would not be finite:
// times a zero of the input that is NaN, and not what the arithmetic gave; and
// where others read the weights, which would have to be there once for each.
func (e *edit) scaleChannels(conv *model.Node, scale, shift []float32) bool {
	w, bias := e.Const(conv.In[1]), model.Of(model.F32, shift, len(shift))
	b := e.Const(conv.Input(2))
	weights := conv.In[1]
	if scale != nil {
		if len(e.read[conv.In[1]]) > 1 {
			return false
		}
		scaled := w.Clone()
		axis := channelAxis(conv)
		inner, _ := w.Shape[axis+1:].Elements()
		for i := range scaled.F32() {
			scaled.F32()[i] *= scale[i/inner%len(scale)]
		}
		if !finite(scale) || !finite(scaled.F32()) {
			return false
		}
		weights = e.constant(conv.In[1], "normed", scaled)
	}
	if b != nil {
		for c := range shift {
			s := float32(1)
			if scale != nil {
				s = scale[c]
			}
			bias.F32()[c] += float32(b.F32()[c] * s)
		}
	}
	conv.In = []string{conv.In[0], weights, e.constant(conv.In[1], "shifted", bias)}
	return true
}

// finite reports whether list has neither infinities nor NaN.
func finite(list []float32) bool {
	return !slices.ContainsFunc(list, func(v float32) bool { return v-v != 0 })
}
