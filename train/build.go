package train

import (
	"fmt"
	"slices"
	"strings"

	"dunlin/model"
)

// value is an edge of the graph in memory.
type value struct {
	name  string
	shape model.Shape // in the graph's own order
	last  bool        // channels lie last in memory, [N, ..., C], whatever shape says
	data  []float32
	grad  []float32 // nil where nothing behind it wants one
	wants bool      // whether it has a gradient
	reads int       // ports, and outputs of the graph
	fixed bool      // a constant or an input: no step makes it
}

// step is an operator that runs.
type step interface {
	forward(training bool)
	// backward sets dx of each port that has one, from the gradients of what
	// forward wrote.
	backward()
}

// port is a value as one step reads it.
type port struct {
	*value
	dx []float32 // where backward sets the gradient; nil where nobody wants it
}

// placed is a step among others.
type placed struct {
	step
	ports []*port
	gives bool    // some port wants a gradient
	sums  []*port // those whose dx is added to the gradient after backward, not set by it
}

// builder makes the steps of a net.
type builder struct {
	net     *Net
	g       *model.Graph // a pruned copy
	made    map[string]*model.Node
	trained map[string]role // by constant
	values  map[string]*value
	turned  map[*value]*value // the same in the other order of axes
	was     int               // the batch that the graph says, model.Unknown where it says none
	scratch int
	taken   int64 // bytes of values and their gradients, about
}

func newBuilder(n *Net) (*builder, error) {
	g := n.graph.Clone()
	outputs := g.Outputs
	b := &builder{net: n, g: g, made: g.Producers(), values: map[string]*value{}, turned: map[*value]*value{}, was: model.Unknown}
	if n.options.Logits {
		for i, name := range outputs {
			g.Outputs[i] = b.logits(name)
		}
	}
	g.Prune()
	if err := b.checkOperators(); err != nil {
		return nil, err
	}
	b.trained = roles(g, n.options.Freeze)
	return b, nil
}

// logits returns what goes into the Softmax that makes an output, through
// nodes that do nothing, or the output itself.
func (b *builder) logits(name string) string {
	at := name
	for n := b.made[at]; n != nil; n = b.made[at] {
		switch n.Op {
		case "Identity", "Dropout":
			at = n.Input(0)
			continue
		case "Softmax", "LogSoftmax":
			return n.Input(0)
		}
		break
	}
	return name
}

// checkOperators fails with the names of all nodes that have no gradient.
func (b *builder) checkOperators() error {
	var without []string
	for _, n := range b.g.Nodes {
		switch {
		case strings.Contains(n.Op, "QuantizeLinear") || strings.Contains(n.Op, "QLinear"):
			return &model.Error{Graph: b.g.Name, Part: "node " + n.Name + " (" + n.Op + ")", Err: errQuantised}
		case operators[n.Op].make == nil:
			without = append(without, n.Name+" ("+n.Op+")")
		}
	}
	if without != nil {
		return fmt.Errorf("graph %s: %d of its nodes have no gradient: %s; simplify the model so that shapes are constants, or train a part of it",
			b.g.Name, len(without), strings.Join(without, ", "))
	}
	return nil
}

// build lays all out: inputs, steps, outputs, and then where gradients go.
func (b *builder) build() error {
	n := b.net
	for _, name := range b.g.Inputs {
		v, err := b.input(name)
		if err != nil {
			return &model.Error{Graph: b.g.Name, Part: "input " + name, Err: err}
		}
		b.values[name] = v
		n.inputs = append(n.inputs, v)
	}
	for _, node := range b.g.Nodes {
		if err := b.node(node); err != nil {
			return &model.Error{Graph: b.g.Name, Part: "node " + node.Name + " (" + node.Op + ")", Err: err}
		}
	}
	for _, name := range b.g.Outputs {
		if err := b.output(name); err != nil {
			return &model.Error{Graph: b.g.Name, Part: "output " + name, Err: err}
		}
	}
	b.gradients()
	n.scratch = model.Aligned(b.scratch)
	return nil
}

// maxBytes bounds the values of a net: a network comes from a file, and one
// that takes more is not trained on one machine.
const maxBytes = 32 << 30

// take fails where so many more values, with their gradients, are too many.
func (b *builder) take(count int) error {
	limit := b.net.options.MaxBytes
	if limit <= 0 {
		limit = maxBytes
	}
	if b.taken += 8 * int64(count); b.taken > limit {
		return fmt.Errorf("%w: more than %d MiB for a batch of %d: use a smaller batch", ErrMemory, limit>>20, b.net.options.Batch)
	}
	return nil
}

func (b *builder) input(name string) (*value, error) {
	v := b.g.Value(name)
	if v.Type != model.F32 || len(v.Shape) == 0 {
		return nil, fmt.Errorf("%v of shape %v; train takes float32 with a batch as axis 0", v.Type, v.Shape)
	}
	shape := slices.Clone(v.Shape)
	if b.was == model.Unknown {
		b.was = shape[0]
	}
	shape[0] = b.net.options.Batch
	count, err := shape.Elements()
	if err != nil {
		return nil, fmt.Errorf("%w; only the batch may be open", err)
	}
	if count == 0 {
		return nil, fmt.Errorf("shape %v holds nothing", shape)
	}
	if err := b.take(count); err != nil {
		return nil, err
	}
	in := &value{name: name, shape: shape, data: floats(count), wants: b.net.options.InputGradients, fixed: true}
	if in.wants {
		in.grad = floats(count)
	}
	return in, nil
}

// node adds the steps of n.
func (b *builder) node(n *model.Node) error {
	c := &call{b: b, node: n}
	s, err := operators[n.Op].make(c)
	if err != nil {
		return err
	}
	if s != nil {
		b.place(s, c.ports)
	}
	return nil
}

func (b *builder) place(s step, ports []*port) {
	p := &placed{step: s, ports: ports}
	for _, in := range ports {
		in.reads++
		p.gives = p.gives || in.wants
	}
	b.net.steps = append(b.net.steps, p)
}

// output adds a buffer for the caller to an output of the graph: the value
// itself, where nothing else reads it.
func (b *builder) output(name string) error {
	v, err := b.value(name)
	if err != nil {
		return err
	}
	v = b.order(v, false)
	if v.reads > 0 || v.fixed || slices.Contains(b.net.outputs, v) {
		c := &call{b: b, node: &model.Node{In: []string{name}, Out: []string{""}}}
		s := &alias{x: c.port(v)}
		s.y = c.view(s.x, v.shape)
		b.place(s, c.ports)
		v = s.y
	}
	v.reads++
	if v.grad == nil { // nothing in the graph is trained
		v.grad = floats(len(v.data))
	}
	b.net.outputs = append(b.net.outputs, v)
	return nil
}

// value returns what a name stands for: what a step made, an input, or a
// constant, which gets its Parameter here.
func (b *builder) value(name string) (*value, error) {
	if v := b.values[name]; v != nil {
		return v, nil
	}
	t := b.g.Const(name)
	if t == nil {
		return nil, fmt.Errorf("nothing before it makes %s", name)
	}
	if t.Type != model.F32 {
		return nil, fmt.Errorf("constant %s is %v; train computes in float32", name, t.Type)
	}
	v := &value{name: name, shape: t.Shape, data: t.F32(), fixed: true}
	if r := b.trained[name]; r != 0 {
		p := b.constant(name, t)
		p.Decay = r == weight
		if p.Gradient == nil {
			p.Gradient = floats(len(p.Value))
		}
		b.net.parameters = append(b.net.parameters, p)
		v.data, v.grad, v.wants = p.Value, p.Gradient, true
	}
	b.values[name] = v
	return v, nil
}

// constant returns a constant that changes, with the values of the net that
// this one is a Resize of.
func (b *builder) constant(name string, t *model.Tensor) *Parameter {
	p := b.net.shared.constants[name]
	if p == nil {
		p = &Parameter{Name: name, Shape: slices.Clone(t.Shape), Value: floats(t.Elements())}
		copy(p.Value, t.F32())
		b.net.shared.constants[name] = p
	}
	return p
}

// statistic returns a constant that a norm updates.
func (b *builder) statistic(name string) (*Parameter, error) {
	t := b.g.Const(name)
	if t == nil || t.Type != model.F32 {
		return nil, fmt.Errorf("%s is no float32 constant", name)
	}
	p := b.constant(name, t)
	if !slices.Contains(b.net.statistics, p) {
		b.net.statistics = append(b.net.statistics, p)
	}
	return p, nil
}

// order returns v with its channels last in memory, or not, by a step that
// turns it where it must.
func (b *builder) order(v *value, last bool) *value {
	if v.is(last) {
		return v
	}
	if t := b.turned[v]; t != nil {
		return t
	}
	c := &call{b: b, node: &model.Node{}}
	s := newTurn(b.net.target, c.port(v), last)
	s.y = c.result(v.name, v.shape, last)
	b.place(s, c.ports)
	b.turned[v], b.turned[s.y] = s.y, v
	return s.y
}

// is reports whether the memory of v is in that order.
func (v *value) is(last bool) bool {
	if v.last == last || len(v.shape) < 3 || v.shape[1] == 1 {
		return true
	}
	space, _ := v.shape[2:].Elements()
	return space == 1
}

// gradients gives each port the place that backward writes to. The last step
// that reads a value sets its gradient, since it comes first in Backward; those
// before it write into scratch, of which the sum is taken.
func (b *builder) gradients() {
	set := map[*value]bool{}
	for _, v := range b.net.outputs {
		set[v] = true
	}
	most := 0
	for _, s := range slices.Backward(b.net.steps) {
		total := 0
		for _, p := range s.ports {
			switch {
			case !p.wants:
			case !set[p.value]:
				set[p.value] = true
				p.dx = p.grad
			default:
				s.sums = append(s.sums, p)
				total += roundUp(len(p.grad), lineFloats)
			}
		}
		most = max(most, total)
	}
	sum := floats(most)
	for _, s := range b.net.steps {
		at := 0
		for _, p := range s.sums {
			p.dx = sum[at:][:len(p.grad)]
			at += roundUp(len(p.grad), lineFloats)
		}
	}
}
