package train

import (
	"fmt"
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// Quantised is an int8 network made ready for quantisation-aware training: a
// float graph that computes in steps what the int8 graph computes in integers,
// rounded by the engine's rules, with float weights behind that are trained.
//
//	q, err := NewQuantised(float, int8)   int8 is what quant.Apply made of float
//	net, err := NewNet(q.Graph(), ...)    train it as any other
//	small, err := q.Int8(net.Graph())     the int8 graph of the trained weights
//
// Scales and zero points stay those that calibration chose; what is trained is
// where the weights and biases come to lie on their grids. What the engine
// computes in float inside a quantised graph is computed in float here too.
type Quantised struct {
	int8    *model.Graph
	graph   *model.Graph
	masters []master
}

// master is a trained constant and the integers that stand for it.
type master struct {
	name     string // of the constant of graph
	integers string // of the constant of int8
	scales   []float32
	axis     int
	limit    float64
}

// Graph returns the network to train.
func (q *Quantised) Graph() *model.Graph { return q.graph }

// Int8 returns the int8 graph with the weights of trained, a graph that a Net
// of Graph returned.
func (q *Quantised) Int8(trained *model.Graph) (*model.Graph, error) {
	g := q.int8.Clone()
	for _, m := range q.masters {
		from, to := trained.Const(m.name), g.Const(m.integers)
		if from == nil || from.Type != model.F32 || from.Elements() != to.Elements() {
			return nil, fmt.Errorf("graph %s: it has no weights %s for %s: it was not made of the graph that was trained", trained.Name, m.name, m.integers)
		}
		t := to.Clone()
		inner, err := t.Shape[m.axis+1:].Elements()
		if err != nil {
			return nil, err
		}
		for i, v := range from.F32() {
			r := kernels.WeightStep(v, m.scales[i/inner%len(m.scales)], m.limit)
			if t.Type == model.I8 {
				t.I8()[i] = int8(r)
			} else {
				t.I32()[i] = int32(r)
			}
		}
		g.AddConst(m.integers, t)
	}
	return g, g.Check()
}

// NewQuantised returns the network that int8 is to be trained as. float is the
// graph that quant.Prepare makes of what quant.Apply was given: its weights are
// where training begins. It fails where int8 was not made of float.
func NewQuantised(float, int8 *model.Graph) (*Quantised, error) {
	q := &Quantised{int8: int8, graph: model.New(int8.Name)}
	s := &simulator{
		Quantised: q, float: map[string]*model.Node{}, weights: float, made: int8.Producers(), reads: int8.Consumers(),
		steps: map[string]grid{}, real: map[string]bool{}, gone: map[*model.Node]bool{}, known: map[string]bool{},
	}
	for _, n := range float.Nodes {
		s.float[n.Name] = n
	}
	q.graph.Inputs, q.graph.Outputs = slices.Clone(int8.Inputs), slices.Clone(int8.Outputs)
	for _, name := range int8.Inputs {
		q.graph.Values[name] = int8.Value(name)
	}
	for _, n := range int8.Nodes {
		if s.gone[n] {
			continue
		}
		if err := s.node(n); err != nil {
			return nil, &model.Error{Graph: int8.Name, Part: "node " + n.Name + " (" + n.Op + ")", Err: err}
		}
	}
	for _, name := range q.graph.Outputs {
		s.asReal(name)
	}
	q.graph.Prune()
	return q, q.graph.Check()
}

// grid is what the steps of a value stand for.
type grid struct {
	value string // that holds the steps
	scale float32
	zero  int32
}

// simulator writes the graph of a Quantised node by node.
type simulator struct {
	*Quantised
	float   map[string]*model.Node // of the float graph, by name
	weights *model.Graph           // the float graph
	made    map[string]*model.Node // of the int8 graph
	reads   map[string][]*model.Node
	steps   map[string]grid      // by the value that a DequantizeLinear makes
	real    map[string]bool      // of those, what the graph has as real numbers too
	gone    map[*model.Node]bool // taken into the node before them
	known   map[string]bool      // names of masters
}

func (s *simulator) add(op, name string, in []string, out string, attrs map[string]model.Attr) {
	s.graph.Nodes = append(s.graph.Nodes, &model.Node{Op: op, Name: name, In: in, Out: []string{out}, Attrs: attrs})
}

// node writes what n becomes: an operator of steps where the engine has an
// integer one, and n itself where it has not.
func (s *simulator) node(n *model.Node) error {
	switch n.Op {
	case "DequantizeLinear":
		return s.dequantize(n)
	case "QuantizeLinear":
		return s.quantize(n)
	case "Conv", "Gemm", "MatMul":
		if ok, err := s.layer(n); ok || err != nil {
			return err
		}
	case "Add", "GlobalAveragePool", "AveragePool", "Concat", "Relu", "Clip":
		if s.follower(n) {
			return nil
		}
	default:
		if s.move(n) {
			return nil
		}
	}
	m := *n
	m.In = slices.Clone(n.In)
	for i, name := range m.In {
		if name == "" {
			continue
		}
		if err := s.constantReal(name); err != nil {
			return err
		}
		s.asReal(m.In[i])
	}
	s.graph.Nodes = append(s.graph.Nodes, &m)
	return nil
}

// dequantize notes what the steps of n's input stand for.
func (s *simulator) dequantize(n *model.Node) error {
	if s.int8.Const(n.In[0]) != nil {
		return nil // weights: who reads them looks behind n
	}
	g, ok := s.grid(n)
	if !ok {
		return fmt.Errorf("its scale is not one constant for the whole tensor")
	}
	g.value = n.In[0]
	if as, ok := s.steps[g.value]; ok { // steps that are another value's
		g.value = as.value
	}
	s.steps[n.Out[0]] = g
	return nil
}

// grid returns the one scale and zero point of a quantising node.
func (s *simulator) grid(n *model.Node) (grid, bool) {
	scale, zero := s.int8.Const(n.Input(1)), s.int8.Const(n.Input(2))
	if scale == nil || scale.Type != model.F32 || scale.Elements() != 1 || (zero != nil && (zero.Type != model.I8 || zero.Elements() != 1)) {
		return grid{}, false
	}
	g := grid{scale: scale.F32()[0]}
	if zero != nil {
		g.zero = int32(zero.I8()[0])
	}
	return g, g.scale > 0
}

// attrs returns the bounds of steps of g behind activations that bound the
// real value, as the engine finds them.
func (g grid) attrs(act kernels.Clamp) map[string]model.Attr {
	var b [2]int8
	kernels.Quantize(b[:], []float32{act.Min, act.Max}, g.scale, int8(g.zero))
	return map[string]model.Attr{"lo": float32(int32(b[0]) - g.zero), "hi": float32(int32(b[1]) - g.zero)}
}

// quantize writes a change of scale, or the border from real numbers to steps.
func (s *simulator) quantize(n *model.Node) error {
	to, ok := s.grid(n)
	if !ok {
		return fmt.Errorf("its scale is not one constant for the whole tensor")
	}
	from, ok := s.steps[n.In[0]]
	switch {
	case ok && from.scale == to.scale && from.zero == to.zero:
		s.steps[n.Out[0]] = from
	case ok:
		to.value = n.Out[0]
		s.requantize(n.Name, from.value, []float32{kernels.Multiplier(from.scale, 1, to.scale)}, tail{kernels.NoClamp, to})
	default:
		attrs := to.attrs(kernels.NoClamp)
		attrs["scale"] = to.scale
		s.add(opQuantize, n.Name, []string{n.In[0]}, n.Out[0], attrs)
	}
	return nil
}

func (s *simulator) requantize(name, from string, times []float32, t tail) {
	constant := name + "/multipliers"
	s.graph.AddConst(constant, model.Of(model.F32, times, len(times)))
	s.add(opRequantize, name, []string{from, constant}, t.to.value, t.to.attrs(t.act))
}

// asReal writes the real numbers that steps stand for, once.
func (s *simulator) asReal(name string) {
	g, ok := s.steps[name]
	if !ok || s.real[name] {
		return
	}
	s.real[name] = true
	s.dequantized(name+"/real", g.value, name, []float32{g.scale})
}

func (s *simulator) dequantized(name, from, out string, scales []float32) {
	constant := name + "/scales"
	s.graph.AddConst(constant, model.Of(model.F32, scales, len(scales)))
	s.add(opDequantize, name, []string{from, constant}, out, nil)
}

// constantReal writes a constant that a float operator reads: as it is, or
// what its integers stand for.
func (s *simulator) constantReal(name string) error {
	if t := s.int8.Const(name); t != nil {
		s.graph.AddConst(name, t)
		return nil
	}
	d := s.made[name]
	if d == nil || d.Op != "DequantizeLinear" || s.int8.Const(d.In[0]) == nil {
		return nil
	}
	scales, values := s.int8.Const(d.In[1]), s.int8.Const(d.In[0])
	real, err := realOf(values, scales.F32(), int(d.Int("axis", 1)))
	if err != nil {
		return err
	}
	s.graph.AddConst(name, real)
	return nil
}

// realOf returns symmetric integers as the real numbers that they stand for.
func realOf(t *model.Tensor, scales []float32, axis int) (*model.Tensor, error) {
	inner := 1
	if len(scales) > 1 {
		if axis < 0 || axis >= len(t.Shape) || t.Shape[axis] != len(scales) {
			return nil, fmt.Errorf("%d scales for axis %d of %v", len(scales), axis, t.Shape)
		}
		var err error
		if inner, err = t.Shape[axis+1:].Elements(); err != nil {
			return nil, err
		}
	}
	values := make([]float32, t.Elements())
	for i := range values {
		v := float64(0)
		switch t.Type {
		case model.I8:
			v = float64(t.I8()[i])
		case model.I32:
			v = float64(t.I32()[i])
		default:
			return nil, fmt.Errorf("integers of %v", t.Type)
		}
		values[i] = float32(v * float64(scales[i/inner%len(scales)]))
	}
	return model.Of(model.F32, values, t.Shape...), nil
}
