package engine

import (
	"slices"
	"strings"

	"dunlin/model"
)

// Traced is a value that a step of a program has just made, or an input.
type Traced struct {
	Slot  string // the program's name for it
	Value string // the name in the graph of the value that it stands for
	Step  Step   // what made it; of an input the Kernel is "input"

	// Tensor holds it, during the call only. ChannelsLast says that its axis 1
	// is the last one there.
	Tensor       *model.Tensor
	ChannelsLast bool

	// For integers that stand for real numbers, real = Scale * (integer - Zero).
	Quantised bool
	Scale     float32
	Zero      int32
}

// tracing is what a program tells Options.Trace of each of its slots.
type tracing struct {
	call   func(*Traced)
	inputs []Traced
	steps  [][]Traced // by step, one for each output that is wanted
	slots  [][]int
}

// trace prepares the calls for program p, made of g.
func (c *compiler) trace(p *Program, g *model.Graph) {
	if c.options.Trace == nil {
		return
	}
	made, read := g.Producers(), g.Consumers()
	t := &tracing{call: c.options.Trace}
	of := func(i int, s Step) Traced {
		name := p.slots[i].name
		v := Traced{Slot: name, Value: c.named(name), Step: s}
		v.ChannelsLast = strings.Contains(strings.TrimPrefix(name, v.Value), internalMark+"nhwc")
		if d := p.slots[i].dtype; d == model.I8 || d == model.U8 {
			port := scaleOf(g, name, made, read)
			v.Quantised, v.Scale, v.Zero = port.Quantised, port.Scale, port.Zero
		}
		return v
	}
	for _, i := range p.inputs {
		t.inputs = append(t.inputs, of(i, Step{Kernel: "input", Out: p.slots[i].shape}))
	}
	lines := p.ownSteps()
	for i, s := range p.steps {
		var values []Traced
		var slots []int
		for _, o := range s.out {
			if o >= 0 {
				values, slots = append(values, of(o, lines[i])), append(slots, o)
			}
		}
		t.steps, t.slots = append(t.steps, values), append(t.slots, slots)
	}
	p.trace = t
}

// named returns the graph's name for a value: its own where the graph has it,
// else what stands before the mark that passes put in the names they make.
func (c *compiler) named(name string) string {
	for base := name; ; {
		if c.observed[base] {
			return base
		}
		cut := strings.LastIndex(base, internalMark)
		if cut < 0 {
			return base
		}
		base = base[:cut]
	}
}

// scaleOf returns a port with what the graph says of the scale of value: the
// node that makes it, those that read it, or, of a value that is another one
// moved, what it says of that.
func scaleOf(g *model.Graph, value string, made map[string]*model.Node, read map[string][]*model.Node) (port Port) {
	for {
		madeScale(g, &port, value, made)
		if !port.Quantised {
			readScale(g, &port, value, read)
		}
		n := made[value]
		if port.Quantised || n == nil || len(n.In) == 0 || (n.Op != "Concat" && !slices.Contains(movesOnly, n.Op)) {
			return port
		}
		port, value = Port{}, n.In[0]
	}
}

// traced runs with a call of Options.Trace for each value.
func (s *Session) traced() error {
	t := s.program.trace
	see := func(v Traced, slot int) {
		v.Tensor = s.tensors[slot]
		t.call(&v)
	}
	for i, slot := range s.program.inputs {
		see(t.inputs[i], slot)
	}
	for i := range s.runs {
		if f := s.runs[i].f; f != nil {
			if err := f(); err != nil {
				return s.failed(i, err)
			}
		}
		for j, slot := range t.slots[i] {
			see(t.steps[i][j], slot)
		}
	}
	return nil
}
