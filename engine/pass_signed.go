package engine

import (
	"slices"

	"dunlin/model"
)

// makeSigned turns quantised uint8 values into int8: each is 128 less, and so
// is its zero point, so that it stands for the same number. It changes
// values that only QuantizeLinear makes and only DequantizeLinear reads, and
// constants; at an input or output of the graph a dunlin.FlipSign stands
// between. Other uint8 values stay.
func makeSigned(_ *compiler, g *model.Graph) (*model.Graph, error) {
	e := editing(g)
	for _, name := range e.Inputs {
		if e.signable(name) {
			e.keepFlip(name)
		}
	}
	for _, n := range e.Nodes {
		if n.Op == "DequantizeLinear" && e.signable(n.In[0]) {
			if t := e.Const(n.In[0]); t != nil {
				n.In[0] = e.constant(n.In[0], "signed", flipped(t))
				e.signZero(n)
			}
		}
		if n.Op != "QuantizeLinear" || !e.signable(n.Out[0]) {
			e.keep(n)
			continue
		}
		e.signZero(n)
		out := n.Out[0]
		if slices.Contains(e.Outputs, out) {
			n.Out[0] = e.value(out, "signed")
			e.keep(n)
			e.add("dunlin.FlipSign", n, []string{n.Out[0]}, []string{out}, nil)
		} else {
			e.keep(n)
		}
		for _, d := range e.read[out] {
			d.In[0] = n.Out[0]
			e.signZero(d)
		}
	}
	return e.done(), nil
}

// signable reports whether a value is uint8 and read by DequantizeLinear
// nodes alone, as their first input, all with constant zero points.
func (e *edit) signable(name string) bool {
	if e.Value(name).Type != model.U8 {
		return false
	}
	if m := e.made[name]; m != nil && m.Input(2) != "" && e.Const(m.Input(2)) == nil {
		return false
	}
	for _, d := range e.read[name] {
		if d.Op != "DequantizeLinear" || d.In[0] != name || (d.Input(2) != "" && e.Const(d.Input(2)) == nil) {
			return false
		}
	}
	return len(e.read[name]) > 0 || e.made[name] != nil
}

// keepFlip puts a dunlin.FlipSign behind an input of the graph.
func (e *edit) keepFlip(name string) {
	signed := e.value(name, "signed")
	e.add("dunlin.FlipSign", &model.Node{Name: name + internalMark + "signed"}, []string{name}, []string{signed}, nil)
	for _, d := range e.read[name] {
		d.In[0] = signed
		e.signZero(d)
	}
}

// signZero takes 128 from the zero point of a quantising node; without one it
// was 0.
func (e *edit) signZero(n *model.Node) {
	zero := e.Const(n.Input(2))
	if zero == nil {
		scale := e.Value(n.In[1])
		count, _ := scale.Shape.Elements()
		zero = model.Of(model.U8, make([]uint8, count), scale.Shape...)
		for len(n.In) < 3 {
			n.In = append(n.In, "")
		}
	}
	if zero.Type == model.U8 {
		n.In[2] = e.constant(n.In[1], "zero", flipped(zero))
	}
}

// flipped returns the int8 tensor that is t - 128.
func flipped(t *model.Tensor) *model.Tensor {
	s := &model.Tensor{Type: model.I8, Shape: t.Shape, Data: model.Aligned(len(t.Data))}
	for i, v := range t.Data {
		s.Data[i] = v ^ 0x80
	}
	return s
}
