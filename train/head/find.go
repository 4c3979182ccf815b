package head

import (
	"errors"
	"fmt"
	"slices"

	"dunlin/model"
)

// finder walks a graph from an output back to the feature.
type finder struct {
	g    *model.Graph
	made map[string]*model.Node
	read map[string][]*model.Node
	tail map[*model.Node]bool // nodes behind the feature
	head *Head
}

// passedOver are operators that leave a row of scores or features as it is.
var passedOver = []string{"Identity", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze"}

// walk finds the layers, the last one first.
func (f *finder) walk(output string, layers int) error {
	value, steps := output, []grid(nil)
	relu, walked := false, []*model.Node(nil)
	parameters := 0
	for {
		n := f.made[value]
		if n == nil {
			return f.end(value, "an input of the graph is there")
		}
		if len(f.read[value]) > 1 || value != output && slices.Contains(f.g.Outputs, value) {
			return f.end(value, "something else reads it too")
		}
		switch {
		case n.Op == "DequantizeLinear", n.Op == "QuantizeLinear":
			if n.Op == "QuantizeLinear" {
				g, err := f.grid(n)
				if err != nil {
					return f.end(value, err.Error())
				}
				steps = append([]grid{g}, steps...)
			}
		case slices.Contains(passedOver, n.Op):
		case (n.Op == "Softmax" || n.Op == "LogSoftmax") && len(f.head.layers) == 0:
			steps = nil // scores are compared before it
		case n.Op == "Relu" && len(f.head.layers) > 0 && !relu:
			relu = true
		case n.Op == "Gemm" || n.Op == "MatMul" || n.Op == "Add" || n.Op == "Conv":
			l, from, err := f.dense(n)
			if err != nil {
				return f.end(value, err.Error())
			}
			l.relu, l.grids = relu, steps
			if len(f.head.layers) > 0 && l.out != f.head.layers[0].in {
				return f.end(value, "its shape does not fit the next layer")
			}
			if parameters += len(l.w) + len(l.b); parameters > MaxParameters {
				return f.end(value, fmt.Sprintf("its weights and biases are too many, at most %d can be trained", MaxParameters))
			}
			f.head.layers = append([]*dense{l}, f.head.layers...)
			for _, n := range walked { // the way here is the head's, now that there is a layer before it
				f.tail[n] = true
			}
			f.head.Feature.read = from
			if len(f.head.layers) >= layers {
				return nil
			}
			relu, steps, walked, value = false, nil, nil, from
			continue
		default:
			return f.end(value, "its node is a "+n.Op)
		}
		walked = append(walked, n)
		value = n.In[0]
	}
}

// end is how a walk ends that found no further layer: an error, where it
// found none at all.
func (f *finder) end(value, why string) error {
	if len(f.head.layers) > 0 {
		return nil
	}
	return fmt.Errorf("no dense layer makes %s: %s", value, why)
}

// dense reads the layer that ends in n, and returns the value that it reads.
func (f *finder) dense(n *model.Node) (l *dense, from string, err error) {
	l = &dense{}
	bias := ""
	if n.Op == "Add" {
		at := slices.IndexFunc(n.In, func(in string) bool { return f.constant(in) })
		if at < 0 || len(n.In) != 2 || f.constant(n.In[1-at]) {
			return nil, "", errors.New("its Add is none of a bias")
		}
		bias = n.In[at]
		product := n.In[1-at]
		m := f.made[product]
		if m == nil || m.Op != "MatMul" && (m.Op != "Gemm" || m.Input(2) != "") || len(f.read[product]) != 1 {
			return nil, "", errors.New("what its Add reads is no dense layer")
		}
		f.tail[n], n = true, m
	}
	f.tail[n] = true
	if n.Int("transA", 0) != 0 || n.Float("alpha", 1) != 1 || n.Float("beta", 1) != 1 {
		return nil, "", fmt.Errorf("%s is transposed or scaled", n.Name)
	}
	// A convolution of one pixel is a dense layer; whether there is but one, the
	// size of the feature tells.
	l.pixel = n.Op == "Conv"
	if l.pixel && (n.Int("group", 1) != 1 || slices.ContainsFunc(n.Ints("pads"), func(p int64) bool { return p != 0 })) {
		return nil, "", fmt.Errorf("%s is in groups or padded", n.Name)
	}
	l.rows = l.pixel || n.Int("transB", 0) != 0
	if n.Op != "MatMul" && n.Input(2) != "" {
		bias = n.In[2]
	}
	if err := f.weights(l, n.In[1]); err != nil {
		return nil, "", fmt.Errorf("%s: %w", n.Name, err)
	}
	if bias != "" {
		if err := f.bias(l, bias); err != nil {
			return nil, "", fmt.Errorf("%s: %w", n.Name, err)
		}
	}
	return l, n.In[0], nil
}

// constant reports whether value is a constant, or one behind a
// DequantizeLinear.
func (f *finder) constant(value string) bool {
	if d := f.made[value]; d != nil && d.Op == "DequantizeLinear" {
		value = d.In[0]
	}
	return f.g.Const(value) != nil
}

// numbers returns a constant as floats, with axis its channels where it has a
// scale for each, and the names of what holds it.
func (f *finder) numbers(value string, axis int) (c constant, shape model.Shape, v []float32, err error) {
	if len(f.read[value]) != 1 {
		return c, nil, nil, fmt.Errorf("others read %s too", value)
	}
	d := f.made[value]
	if d == nil {
		t := f.g.Const(value)
		if t == nil || t.Type != model.F32 {
			return c, nil, nil, fmt.Errorf("%s is no constant of float32", value)
		}
		return constant{value: value}, t.Shape, t.F32(), nil
	}
	c = constant{d.In[0], d.Input(1)}
	t, s, z := f.g.Const(c.value), f.g.Const(c.scale), f.g.Const(d.Input(2))
	f.tail[d] = true
	switch {
	case d.Op != "DequantizeLinear" || t == nil || t.Type != model.I8 && t.Type != model.I32 || s == nil || s.Type != model.F32:
		return c, nil, nil, fmt.Errorf("%s is no constant of int8 or int32", value)
	case len(f.read[c.value]) != 1 || len(f.read[c.scale]) != 1:
		return c, nil, nil, fmt.Errorf("others read %s too", c.value)
	case z != nil && slices.ContainsFunc(z.Data, func(b byte) bool { return b != 0 }):
		return c, nil, nil, fmt.Errorf("%s has zero points", c.value)
	case axis >= len(t.Shape) || s.Elements() != 1 && s.Elements() != t.Shape[axis]:
		return c, nil, nil, fmt.Errorf("%s has %d scales for %v", c.value, s.Elements(), t.Shape)
	case s.Elements() > 1 && d.Int("axis", 1) != int64(axis) && d.Int("axis", 1) != int64(axis-len(t.Shape)):
		return c, nil, nil, fmt.Errorf("the scales of %s run along another axis than its channels", c.value)
	}
	inner := 1
	for _, n := range t.Shape[axis+1:] {
		inner *= n
	}
	v = make([]float32, t.Elements())
	for i := range v {
		q := float64(0)
		if t.Type == model.I8 {
			q = float64(t.I8()[i])
		} else {
			q = float64(t.I32()[i])
		}
		v[i] = float32(q * float64(s.F32()[i/inner%s.Elements()]))
	}
	return c, t.Shape, v, nil
}

func (f *finder) weights(l *dense, value string) error {
	axis := 1
	if l.rows {
		axis = 0
	}
	c, shape, v, err := f.numbers(value, axis)
	if err != nil {
		return err
	}
	if l.pixel && len(shape) == 4 && shape[2] == 1 && shape[3] == 1 {
		shape = shape[:2]
	}
	if len(shape) != 2 || shape[0] == 0 || shape[1] == 0 || len(v) > MaxParameters {
		return fmt.Errorf("its weights are %v: want two axes, and at most %d of them", shape, MaxParameters)
	}
	l.constant, l.out, l.in = c, shape[axis], shape[1-axis]
	l.perTensor = c.scale != "" && f.g.Const(c.scale).Elements() == 1 && l.out > 1
	if l.rows {
		l.w = slices.Clone(v)
		return finite(l.w)
	}
	l.w = make([]float32, len(v))
	for i, x := range v {
		l.w[i%l.out*l.in+i/l.out] = x
	}
	return finite(l.w)
}

func (f *finder) bias(l *dense, value string) error {
	// A bias is [out] or [1, out]: its channels are its last axis.
	axis := 0
	if d := f.made[value]; d != nil {
		axis = max(0, len(f.g.Value(d.In[0]).Shape)-1)
	}
	c, shape, v, err := f.numbers(value, axis)
	if err != nil {
		return err
	}
	if len(v) != l.out || len(shape) == 0 || shape[len(shape)-1] != l.out {
		return fmt.Errorf("its bias %v is not one a channel", shape)
	}
	if c.scale != "" && l.constant.scale == "" {
		return errors.New("its bias is of integers, its weights are not")
	}
	l.bias, l.b = c, slices.Clone(v)
	if c.scale != "" {
		l.units = f.g.Const(c.scale).Elements()
	}
	return finite(l.b)
}

func finite(v []float32) error {
	if i := slices.IndexFunc(v, func(x float32) bool { return x-x != 0 }); i >= 0 {
		return fmt.Errorf("element %d is %v", i, v[i])
	}
	return nil
}

// grid reads the steps of a QuantizeLinear.
func (f *finder) grid(n *model.Node) (grid, error) {
	g := grid{scaleName: n.Input(1), zeroName: n.Input(2)}
	s, z := f.g.Const(g.scaleName), f.g.Const(g.zeroName)
	if s == nil || s.Type != model.F32 || s.Elements() != 1 || z == nil || z.Elements() != 1 || !(s.F32()[0] > 0) {
		return g, fmt.Errorf("%s has no single scale", n.Name)
	}
	g.scale = s.F32()[0]
	switch z.Type {
	case model.I8:
		g.zero, g.least, g.most = int32(z.I8()[0]), -128, 127
	case model.U8:
		g.zero, g.least, g.most = int32(z.U8()[0]), 0, 255
	default:
		return g, fmt.Errorf("%s makes %v", n.Name, z.Type)
	}
	return g, nil
}

// owned marks the grids whose constants only the nodes behind one layer read.
// One that another part of the graph shares stays as it is, and what is beyond
// it saturates.
func (f *finder) owned() {
	layers := map[string]int{} // constant -> the only layer that has it, -1 for several
	for i, l := range f.head.layers {
		for _, g := range l.grids {
			for _, name := range []string{g.scaleName, g.zeroName} {
				if at, ok := layers[name]; ok && at != i {
					layers[name] = -1
				} else {
					layers[name] = i
				}
			}
		}
	}
	for i, l := range f.head.layers {
		for j := range l.grids {
			g := &l.grids[j]
			g.own = true
			for _, name := range []string{g.scaleName, g.zeroName} {
				g.own = g.own && layers[name] == i
				for _, n := range f.read[name] {
					g.own = g.own && f.tail[n]
				}
			}
		}
	}
}

// feature finds what is to be kept of a sample.
func (f *finder) feature() error {
	h := f.head
	if h.Classes = h.layers[len(h.layers)-1].out; h.Classes < 2 {
		return fmt.Errorf("%w: it has one score, want one for each class", ErrNoHead)
	}
	h.Feature.Value, h.Feature.Type, h.Feature.Size, h.Feature.scale = h.Feature.read, model.F32, h.layers[0].in, 1
	d := f.made[h.Feature.read]
	if d == nil || d.Op != "DequantizeLinear" {
		return nil
	}
	if f.g.Const(d.In[0]) != nil {
		return fmt.Errorf("%w: the first layer reads a constant", ErrNoHead)
	}
	q, err := f.grid(d)
	if err != nil {
		return nil // steps that are not one for all: as floats, then
	}
	h.Feature.Value, h.Feature.scale, h.Feature.zero = d.In[0], q.scale, q.zero
	h.Feature.Type = model.I8
	if q.least == 0 {
		h.Feature.Type = model.U8
	}
	return nil
}
