package engine

import (
	"errors"
	"fmt"
	"slices"

	"dunlin/model"
)

// slot is where a value of a program is: in the arena, or a constant.
type slot struct {
	name   string
	dtype  model.DType
	shape  model.Shape
	buffer *buffer       // nil for a constant
	data   *model.Tensor // the constant
}

// step is a kernel with the slots it reads and writes.
type step struct {
	node    *model.Node
	kernel  *kernel
	in, out []int // slot numbers, -1 for an input left out or an output nobody wants
	scratch *buffer

	fallback bool   // see fallbacks
	parts    []part // nil: in one piece
}

// lower makes a kernel of each node, and plans the memory. The nodes that no
// kernel fits are all in one *UnsupportedError.
func (c *compiler) lower(g *model.Graph) (*Program, error) {
	p := &Program{name: g.Name, exact: c.target.Exact, observe: c.options.Observe, observed: c.observed}
	l := &lowering{c: c, g: g, p: p, slots: map[string]int{}, placed: map[*buffer]bool{}}
	for _, name := range g.Inputs {
		v := g.Value(name)
		n, err := l.bytes(v)
		if err != nil {
			return nil, &model.Error{Graph: g.Name, Part: "input " + name, Err: err}
		}
		// An input lives as long as the run, and nothing else is put there:
		// a second Run on the same input then gives the same answer.
		i := l.slot(name, v, &buffer{bytes: n, born: -1, dies: len(g.Nodes)})
		p.inputs = append(p.inputs, i)
	}
	refused := &UnsupportedError{Graph: g.Name}
	for _, n := range g.Nodes {
		var why notYet
		switch err := l.node(n); {
		case errors.As(err, &why):
			refused.Nodes = append(refused.Nodes, Unsupported{n.Name, n.Op, string(why)})
			l.skip(n)
		case err != nil:
			return nil, nodeError(g, n, err)
		}
	}
	if refused.Nodes != nil {
		return nil, refused
	}
	if err := l.outputs(); err != nil {
		return nil, err
	}
	l.cut()
	if err := l.plan(); err != nil {
		return nil, err
	}
	p.ports(g)
	if err := c.fallbacks(p, g); err != nil {
		return nil, err
	}
	c.trace(p, g)
	return p, nil
}

type lowering struct {
	c       *compiler
	g       *model.Graph
	p       *Program
	slots   map[string]int // by value name
	buffers []*buffer
	placed  map[*buffer]bool // those of slots among them
	calls   []*call          // of the steps
	weights int
	reads   map[string]int // how often each value is read, once it is asked for
}

// bytes returns the size of a value. Beyond what the machine may use it
// fails, so that no later sum overflows.
func (l *lowering) bytes(v *model.Value) (int, error) {
	n, err := v.Shape.Elements()
	if err != nil {
		return 0, err
	}
	if int64(n) > l.c.budget.limit/int64(v.Type.Size()) {
		return 0, fmt.Errorf("%v %v: %w: %d bytes", v.Type, v.Shape, ErrMemory, l.c.budget.limit)
	}
	return n * v.Type.Size(), nil
}

func (l *lowering) slot(name string, v *model.Value, b *buffer) int {
	i := len(l.p.slots)
	l.p.slots = append(l.p.slots, slot{name: name, dtype: v.Type, shape: v.Shape, buffer: b, data: v.Const})
	l.slots[name] = i
	if b != nil && !l.placed[b] {
		l.placed[b] = true
		l.buffers = append(l.buffers, b)
	}
	return i
}

// use returns the slot of a value that step at reads.
func (l *lowering) use(name string, at int) int {
	if name == "" {
		return -1
	}
	i, ok := l.slots[name]
	if !ok { // a constant
		i = l.slot(name, l.g.Value(name), nil)
	}
	if b := l.p.slots[i].buffer; b != nil {
		b.dies = max(b.dies, at)
	}
	return i
}

// packs are the operators whose kernels hold constant weights, input 1, in a
// form of their own where they have any. The program then does without the
// graph's form of them, and frees it as soon as nobody else holds the graph.
var packs = map[string]bool{
	"Conv": true, "dunlin.Conv": true, "dunlin.QConv": true,
	"Gemm": true, "dunlin.Gemm": true, "dunlin.QGemm": true, "MatMul": true, "MatMulInteger": true,
}

// packed drops a constant whose one reader has packed it, so that it need not
// live until the others have packed theirs.
func (l *lowering) packed(name string) {
	if l.reads == nil {
		l.reads = map[string]int{}
		for _, n := range l.g.Nodes {
			for _, in := range n.In {
				l.reads[in]++
			}
			for _, sub := range subgraphs(n) {
				for _, in := range inputsOf(sub) {
					l.reads[in]++
				}
			}
		}
		for _, out := range l.g.Outputs {
			l.reads[out]++
		}
	}
	if l.reads[name] == 1 {
		v := l.g.Value(name)
		l.g.Values[name] = &model.Value{Type: v.Type, Shape: v.Shape}
	}
}

// node adds a step for n.
func (l *lowering) node(n *model.Node) error {
	call, err := l.c.inferNode(l.g, n)
	if err != nil {
		return err
	}
	size := make([]int, len(call.out))
	for i, v := range call.out {
		if n.Out[i] != "" {
			if size[i], err = l.bytes(v); err != nil {
				return err
			}
		}
	}
	k, err := call.kernel()
	if err != nil {
		return err
	}
	if err := l.c.budget.take(int64(k.weights), "packing weights"); err != nil {
		return err
	}
	l.weights += k.weights
	l.calls = append(l.calls, call)
	at := len(l.p.steps)
	s := step{node: n, kernel: k}
	for i, name := range n.In {
		if i == 1 && k.weights > 0 && !call.wide && packs[n.Op] && call.constant(1) != nil {
			s.in = append(s.in, -1)
			if l.c.options.Packed != nil {
				l.c.options.Packed(call.constant(1))
			}
			l.packed(name)
			call.in[i] = &model.Value{Type: call.in[i].Type, Shape: call.in[i].Shape} // calls live until all is cut
			continue
		}
		s.in = append(s.in, l.use(name, at))
	}
	if k.alias {
		first := &l.p.slots[s.in[0]]
		if first.buffer != nil && !l.aliasMustCopy(n) {
			s.out = []int{l.slot(n.Out[0], call.out[0], first.buffer)}
			l.p.steps = append(l.p.steps, s)
			return nil
		}
		s.kernel = copyKernel(k)
	}
	for i, v := range call.out {
		if n.Out[i] == "" {
			s.out = append(s.out, -1)
			continue
		}
		s.out = append(s.out, l.slot(n.Out[i], v, &buffer{bytes: size[i], born: at, dies: at}))
	}
	if k.scratch > 0 {
		s.scratch = &buffer{bytes: k.scratch, born: at, dies: at}
		l.buffers = append(l.buffers, s.scratch)
	}
	l.p.steps = append(l.p.steps, s)
	return nil
}

// aliasMustCopy reports whether n's output has to have bytes of its own
// though they equal its input's: an output of the graph must not change when
// a caller writes the next input.
func (l *lowering) aliasMustCopy(n *model.Node) bool {
	return slices.Contains(l.g.Outputs, n.Out[0]) && slices.ContainsFunc(l.p.inputs, func(i int) bool {
		return l.p.slots[i].buffer == l.p.slots[l.slots[n.In[0]]].buffer
	})
}

// skip gives the outputs of a node that has no kernel slots all the same, so
// that lowering can go on and find the others.
func (l *lowering) skip(n *model.Node) {
	for _, o := range n.Out {
		if o != "" {
			l.slot(o, l.g.Value(o), &buffer{})
		}
	}
}

// outputs makes the graph's outputs live to the end. An output that is an
// input or a constant is copied.
func (l *lowering) outputs() error {
	for _, name := range l.g.Outputs {
		i := l.use(name, len(l.g.Nodes))
		from := l.p.slots[i]
		if from.buffer == nil || slices.Contains(l.p.inputs, i) {
			n, err := l.bytes(&model.Value{Type: from.dtype, Shape: from.shape})
			if err != nil {
				return err
			}
			at := len(l.p.steps)
			node := &model.Node{Op: "Identity", Name: "output " + name, In: []string{name}, Out: []string{name}}
			to := len(l.p.slots)
			l.p.slots = append(l.p.slots, slot{name: name, dtype: from.dtype, shape: from.shape, buffer: &buffer{bytes: n, born: at, dies: at}})
			l.buffers = append(l.buffers, l.p.slots[to].buffer)
			l.p.steps = append(l.p.steps, step{node: node, kernel: copyKernel(&kernel{name: "copy"}), in: []int{i}, out: []int{to}})
			i = to
		}
		l.p.outputs = append(l.p.outputs, i)
	}
	for _, i := range l.p.outputs {
		l.p.slots[i].buffer.dies = len(l.p.steps)
	}
	for _, i := range l.p.inputs {
		l.p.slots[i].buffer.dies = len(l.p.steps)
	}
	return nil
}

// plan places all buffers.
func (l *lowering) plan() error {
	l.p.buffers = l.buffers
	for _, b := range l.buffers {
		if int64(b.bytes) > l.c.budget.limit {
			return fmt.Errorf("%w: %d bytes", ErrMemory, l.c.budget.limit)
		}
	}
	arena := place(l.buffers)
	if err := l.c.budget.take(int64(arena), "the arena"); err != nil {
		return fmt.Errorf("graph %s: %w", l.g.Name, err)
	}
	constants := 0
	for _, s := range l.p.slots {
		if s.data != nil {
			constants += len(s.data.Data)
		}
	}
	l.p.memory = Memory{Arena: arena, Weights: l.weights + constants}
	return nil
}

// copyKernel returns a kernel that copies its input's bytes.
func copyKernel(k *kernel) *kernel {
	c := *k
	c.alias, c.cutters = false, nil
	c.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		dst, src := out[0].Data, in[0].Data
		return func() error { copy(dst, src); return nil }
	}
	return &c
}
