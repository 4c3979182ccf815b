package train

import (
	"fmt"
	"math"
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// tail is what follows an operator up to the steps it ends in.
type tail struct {
	act kernels.Clamp // activations
	to  grid          // of the steps, whose value is the name they get
}

// tail follows the one reader of value through activations to the
// QuantizeLinear behind them, as the engine does (engine/pass_integer.go), and
// takes them all. ok is false, and nothing taken, where it reads otherwise.
func (s *simulator) tail(value string) (t tail, ok bool) {
	t.act = kernels.NoClamp
	var taken []*model.Node
	for {
		if len(s.reads[value]) != 1 || slices.Contains(s.int8.Outputs, value) {
			return t, false
		}
		n := s.reads[value][0]
		taken = append(taken, n)
		value = n.Out[0]
		if n.Op == "QuantizeLinear" {
			t.to, ok = s.grid(n)
			t.to.value = value
			for _, m := range taken {
				s.gone[m] = ok
			}
			return t, ok
		}
		b, bounded := s.clamp(n)
		if !bounded {
			return t, false
		}
		t.act = compose(t.act, b)
	}
}

// compose returns the clamp that is first a, then b.
func compose(a, b kernels.Clamp) kernels.Clamp {
	bound := func(v float32) float32 { return min(max(v, b.Min), b.Max) }
	return kernels.Clamp{Min: bound(a.Min), Max: bound(a.Max)}
}

// clamp returns the bounds of a Relu, or of a Clip between constants.
func (s *simulator) clamp(n *model.Node) (kernels.Clamp, bool) {
	c := kernels.NoClamp
	switch n.Op {
	case "Relu":
		c.Min = 0
		return c, true
	case "Clip":
		for i, bound := range []*float32{&c.Min, &c.Max} {
			if name := n.Input(1 + i); name != "" {
				t := s.int8.Const(name)
				if t == nil || t.Type != model.F32 || t.Elements() != 1 {
					return c, false
				}
				*bound = t.F32()[0]
			}
		}
		return c, true
	}
	return c, false
}

// layer writes a Conv, Gemm or MatMul of steps with int8 weights; where its
// result is read as float, the sums become real numbers. ok is false where the
// engine computes it in float.
func (s *simulator) layer(n *model.Node) (ok bool, err error) {
	in, isSteps := s.steps[n.In[0]]
	w := s.made[n.In[1]]
	if !isSteps || w == nil || w.Op != "DequantizeLinear" || s.int8.Const(w.In[0]) == nil || s.int8.Const(w.In[0]).Type != model.I8 {
		return false, nil
	}
	source := s.float[n.Name]
	if source == nil {
		return false, fmt.Errorf("the float graph has no such node: it is not what the int8 graph was made of")
	}
	axis := 1
	if n.Op == "Conv" || n.Int("transB", 0) != 0 {
		axis = 0
	}
	scales, err := s.channelScales(w, axis)
	if err != nil {
		return false, err
	}
	m := *n
	m.In, m.Out = []string{in.value, n.Name + "/weights"}, []string{n.Name + "/sums"}
	if err := s.master(opQuantizeWeights, m.In[1], source.In[1], w.In[0], master{scales: scales, axis: axis, limit: 127}); err != nil {
		return false, err
	}
	t, quantised := s.tail(n.Out[0])
	units := make([]float32, len(scales))
	times := make([]float32, len(scales))
	for c, v := range scales {
		units[c] = float32(float64(in.scale) * float64(v))
		if quantised {
			times[c] = kernels.Multiplier(in.scale, v, t.to.scale)
		}
	}
	if n.Input(2) != "" {
		m.In = append(m.In, n.Name+"/bias")
		if err := s.bias(n, m.In[2], units); err != nil {
			return false, err
		}
	}
	s.graph.Nodes = append(s.graph.Nodes, &m)
	if quantised {
		s.requantize(n.Name+"/requantize", m.Out[0], times, t)
	} else {
		s.dequantized(n.Name+"/dequantize", m.Out[0], n.Out[0], units)
	}
	return true, nil
}

// channelScales returns one scale for each output channel.
func (s *simulator) channelScales(w *model.Node, axis int) ([]float32, error) {
	values, scales := s.int8.Const(w.In[0]), s.int8.Const(w.Input(1))
	if scales == nil || scales.Type != model.F32 || axis >= len(values.Shape) {
		return nil, fmt.Errorf("the scales of its weights are no constant")
	}
	channels := values.Shape[axis]
	switch list := scales.F32(); {
	case len(list) == channels:
		return list, nil
	case len(list) == 1:
		return slices.Repeat(list, channels), nil
	}
	return nil, fmt.Errorf("%d scales for %d channels", scales.Elements(), channels)
}

// bias writes the bias of n, which begins as what its integers stand for:
// quant has corrected it.
func (s *simulator) bias(n *model.Node, out string, units []float32) error {
	d := s.made[n.In[2]]
	if d == nil || d.Op != "DequantizeLinear" || s.int8.Const(d.In[0]) == nil {
		return fmt.Errorf("its bias %s is not of int32", n.In[2])
	}
	values, scales := s.int8.Const(d.In[0]), s.int8.Const(d.In[1])
	if values.Type != model.I32 || len(values.Shape) != 1 || values.Elements() != len(units) {
		return fmt.Errorf("its bias is %v %v", values.Type, values.Shape)
	}
	real, err := realOf(values, scales.F32(), 0)
	if err != nil {
		return err
	}
	name := n.Name + "/bias/real"
	s.graph.AddConst(name, real)
	return s.master(opQuantizeBias, out, name, d.In[0], master{scales: units, limit: math.MaxInt32})
}

// master writes the rounding of a trained constant.
func (s *simulator) master(op, out, name, integers string, m master) error {
	t := s.graph.Const(name)
	if t == nil {
		t = s.weights.Const(name)
	}
	if t == nil || t.Type != model.F32 || t.Elements() != s.int8.Const(integers).Elements() {
		return fmt.Errorf("the float graph has no weights %s for %s: it is not what the int8 graph was made of", name, integers)
	}
	s.graph.AddConst(name, t)
	s.graph.AddConst(out+"/scales", model.Of(model.F32, m.scales, len(m.scales)))
	s.add(op, out, []string{name, out + "/scales"}, out, map[string]model.Attr{"axis": int64(m.axis), "limit": float32(m.limit)})
	if m.name, m.integers = name, integers; !s.known[integers] {
		s.known[integers] = true
		s.masters = append(s.masters, m)
	}
	return nil
}

// follower writes an operator without weights as the engine's integer one.
func (s *simulator) follower(n *model.Node) bool {
	parts := make([]grid, len(n.In))
	for i, name := range n.In {
		g, ok := s.steps[name]
		if !ok {
			if i > 0 && (n.Op == "Clip" || name == "") {
				break // its bounds
			}
			return false
		}
		parts[i] = g
	}
	first := kernels.NoClamp
	if n.Op == "Relu" || n.Op == "Clip" {
		var ok bool
		if first, ok = s.clamp(n); !ok {
			return false
		}
	}
	t, ok := s.tail(n.Out[0])
	if !ok {
		return false
	}
	t.act = compose(first, t.act)
	s.follow(n, parts, t)
	return true
}

// follow writes what follower has found.
func (s *simulator) follow(n *model.Node, parts []grid, t tail) {
	in, to := parts[0], t.to
	switch n.Op {
	case "Add":
		attrs := to.attrs(t.act)
		attrs["a"], attrs["b"] = kernels.Multiplier(in.scale, 1, to.scale), kernels.Multiplier(parts[1].scale, 1, to.scale)
		s.add(opAddSteps, n.Name, []string{in.value, parts[1].value}, to.value, attrs)
	case "GlobalAveragePool":
		attrs := to.attrs(t.act)
		attrs["x_scale"], attrs["y_scale"] = in.scale, to.scale
		s.add(opAverageSteps, n.Name, []string{in.value}, to.value, attrs)
	case "AveragePool":
		// The mean is rounded once more here than by the engine, which
		// multiplies the sum: a step apart at most, and that hardly ever.
		s.add(n.Op, n.Name, []string{in.value}, n.Name+"/means", n.Attrs)
		s.requantize(n.Name+"/requantize", n.Name+"/means", []float32{kernels.Multiplier(in.scale, 1, to.scale)}, t)
	case "Concat":
		list := make([]string, len(parts))
		for i, p := range parts {
			list[i] = p.value
			if p.scale != to.scale || p.zero != to.zero {
				list[i] = fmt.Sprintf("%s/part%d", n.Name, i)
				part := tail{kernels.NoClamp, grid{list[i], to.scale, to.zero}}
				s.requantize(list[i], p.value, []float32{kernels.Multiplier(p.scale, 1, to.scale)}, part)
			}
		}
		s.add(n.Op, n.Name, list, to.value, n.Attrs)
	default:
		s.requantize(n.Name, in.value, []float32{kernels.Multiplier(in.scale, 1, to.scale)}, t)
	}
}

// movers choose or move elements and compute nothing: they do it to steps as
// well as to what these stand for.
var movers = []string{"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "MaxPool", "Slice", "Identity"}

// move writes a mover of steps, and says so of its result.
func (s *simulator) move(n *model.Node) bool {
	g, ok := s.steps[n.In[0]]
	if !ok || !slices.Contains(movers, n.Op) {
		return false
	}
	m := *n
	m.In = slices.Clone(n.In)
	m.In[0], m.Out = g.value, []string{n.Out[0] + "/steps"}
	for _, name := range m.In[1:] {
		if t := s.int8.Const(name); t != nil {
			s.graph.AddConst(name, t)
		}
	}
	s.graph.Nodes = append(s.graph.Nodes, &m)
	g.value = m.Out[0]
	s.steps[n.Out[0]] = g
	return true
}
