package engine

import (
	"strings"

	"dunlin/model"
)

// Program is a graph compiled for one CPU and one set of input shapes. It
// does not change, and many sessions may share it.
type Program struct {
	name            string
	exact           bool
	slots           []slot
	inputs, outputs []int // slot numbers
	steps           []step
	buffers         []*buffer
	memory          Memory
	in, out         []Port
	observe         func(string, *model.Tensor)
	observed        map[string]bool // values that the graph names
	trace           *tracing        // nil: nobody wants it
	threads         int             // that its steps are cut for, 0 where none is
	then            *continuation   // what is compiled in a run; nil: nothing
}

// Port is an input or output. For integers that stand for real numbers,
// Quantised is set, and real = Scale * (integer - Zero).
type Port struct {
	Name      string
	Type      model.DType
	Shape     model.Shape
	Quantised bool
	Scale     float32
	Zero      int32
}

// Step is one line of a plan.
type Step struct {
	Name      string      // the node's
	Kernel    string      // operation and tier: "conv-int8 generic"
	Tier      string      // the instructions it uses: see kernels.Tier
	Precision string      // "int8", "float32", ...: the type it computes in
	Why       string      // why it computes in float, "" where it does not
	Fallback  bool        // it computes in float where the graph has integers: see Options.RequireInt8
	Out       model.Shape // of the first output
	Offset    int         // of the first output in the arena
	Bytes     int         // of the first output
	MACs      int64       // multiplications with weights, or 0
	Parts     int         // that threads compute at once
}

// Memory is what a program takes, in bytes: each session one Arena, all of
// them together the Weights.
type Memory struct{ Arena, Weights int }

// Exact reports whether outputs are the same bits on every CPU.
func (p *Program) Exact() bool { return p.exact }

// Inputs returns the inputs, in the order of the graph.
func (p *Program) Inputs() []Port { return p.in }

// Outputs returns the outputs, in the order of the graph. Where shapes depend
// on values, only the names are known.
func (p *Program) Outputs() []Port { return p.out }

// Memory returns what the program takes; it is known before any run. Where
// shapes depend on values, it is that of the first stage, and of the program
// of the decisions compiled last.
func (p *Program) Memory() Memory {
	m := p.memory
	if p.then != nil && p.then.last() != nil {
		last := p.then.last().Memory()
		m.Arena, m.Weights = m.Arena+last.Arena, m.Weights+last.Weights
	}
	return m
}

// Steps returns the plan, in the order of the run. Where shapes depend on
// values, the steps that the decisions compiled last led to stand behind
// those of the first stage.
func (p *Program) Steps() []Step {
	list := p.ownSteps()
	if p.then != nil && p.then.last() != nil {
		list = append(list, p.then.last().Steps()...)
	}
	return list
}

// ownSteps returns the steps of p without those of later stages.
func (p *Program) ownSteps() []Step {
	list := make([]Step, 0, len(p.steps))
	for _, s := range p.steps {
		out := p.slots[s.first()]
		n, _ := out.shape.Elements()
		line := Step{
			Name: s.node.Name, Kernel: s.kernel.name + " " + s.kernel.tier.String(), Tier: s.kernel.tier.String(), Precision: p.precision(s),
			Fallback: s.fallback, Out: out.shape, Offset: out.buffer.offset, Bytes: n * out.dtype.Size(), MACs: s.kernel.macs, Parts: max(1, len(s.parts)),
		}
		if s.kernel.alias {
			line.Kernel = "alias"
		}
		line.Why = p.why(s, line.Precision)
		list = append(list, line)
	}
	return list
}

// first returns the slot of the first output that is wanted.
func (s step) first() int {
	for _, o := range s.out {
		if o >= 0 {
			return o
		}
	}
	return 0
}

// precision names the type that a step computes in: that of its first input,
// but for the borders between float and integers, where it is the integer. What
// runs on rows is float between such borders of its own.
func (p *Program) precision(s step) string {
	out := p.slots[s.first()].dtype
	if s.node.Op == "dunlin.Rows" {
		return model.F32.String()
	}
	if s.in == nil || s.in[0] < 0 {
		return out.String()
	}
	in := p.slots[s.in[0]].dtype
	if strings.HasSuffix(s.node.Op, "QuantizeLinear") || s.node.Op == "dunlin.QuantizePlanes" || in == model.Bool {
		return out.String()
	}
	return in.String()
}

// ports describes the inputs and outputs. A port is quantised where the graph
// has one DequantizeLinear behind it, or one QuantizeLinear before it.
func (p *Program) ports(g *model.Graph) {
	made, read := g.Producers(), g.Consumers()
	for i, name := range g.Inputs {
		s := p.slots[p.inputs[i]]
		port := Port{Name: name, Type: s.dtype, Shape: s.shape}
		if port.Type == model.I8 || port.Type == model.U8 {
			readScale(g, &port, name, read)
		}
		p.in = append(p.in, port)
	}
	for i, name := range g.Outputs {
		s := p.slots[p.outputs[i]]
		port := Port{Name: name, Type: s.dtype, Shape: s.shape}
		if port.Type == model.I8 || port.Type == model.U8 {
			madeScale(g, &port, name, made)
		}
		p.out = append(p.out, port)
	}
}

// flip is what dunlin.FlipSign adds to a zero point, seen from its uint8 side.
const flip = 128

// readScale fills in what the nodes that read value say of its scale.
func readScale(g *model.Graph, port *Port, value string, read map[string][]*model.Node) {
	for _, n := range read[value] {
		switch side := "x"; {
		case n.Op == "dunlin.FlipSign":
			readScale(g, port, n.Out[0], read)
			port.Zero += flip
		case n.Op == "dunlin.Rows":
			body := n.Attrs[bodyAttr].(*model.Graph)
			readScale(body, port, value, body.Consumers())
		case n.Op == "DequantizeLinear":
			port.dequantised(g, n)
		case n.Attrs["x_scale"] != nil:
			if n.In[0] != value {
				side = "b"
			}
			port.Scale, port.Zero, port.Quantised = n.Float(side+"_scale", 0), int32(n.Int(side+"_zero", 0)), true
		}
		if port.Quantised {
			return
		}
	}
}

// madeScale fills in what the node that makes a value says of its scale.
func madeScale(g *model.Graph, port *Port, value string, made map[string]*model.Node) {
	n := made[value]
	switch {
	case n == nil:
	case n.Op == "dunlin.FlipSign":
		madeScale(g, port, n.In[0], made)
		port.Zero += flip
	case n.Op == "dunlin.Rows":
		body := n.Attrs[bodyAttr].(*model.Graph)
		madeScale(body, port, value, body.Producers())
	case n.Op == "QuantizeLinear":
		port.dequantised(g, n)
	case n.Attrs["y_scale"] != nil:
		port.Scale, port.Zero, port.Quantised = n.Float("y_scale", 0), int32(n.Int("y_zero", 0)), true
	}
}

// dequantised fills in the scale of a QuantizeLinear or DequantizeLinear.
func (p *Port) dequantised(g *model.Graph, n *model.Node) {
	if q, ok := perTensor(g, n); ok {
		p.Scale, p.Zero, p.Quantised = q.scale, q.zero, true
	}
}
