package engine

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"dunlin/model"
)

// A graph whose shapes depend on values, not on shapes alone (a Reshape to a
// computed shape, an If on a computed condition, what follows a NonZero), is
// compiled in stages. The program of the first stage computes no more than
// the deciding values. What comes after them is compiled when a run has
// them: for each combination of values (the shape of a Reshape, the condition
// of an If) or of shapes (those of NonZero's output) one program, at its
// first use; those used last are kept. Inside every program all shapes are
// known, and the decided values are constants: an If has become the branch
// that was taken. A run that decides as an earlier one did compiles nothing,
// and allocates nothing but for the results of operators like NonZero.
//
// A graph without such nodes has one stage, which is the whole program.

// waits is what infer returns for a node whose output shapes depend on the
// value of an input that is no constant.
type waits struct {
	input int
	name  string
}

func (w waits) Error() string {
	return fmt.Sprintf("input %d (%s) must be a constant, or a shape that does not depend on the data", w.input, w.name)
}

// As makes of the error that a node is not supported, where nothing cuts the
// graph there.
func (w waits) As(target any) bool {
	why, ok := target.(*notYet)
	if ok {
		*why = notYet(w.Error())
	}
	return ok
}

// maxDecided bounds the elements of a deciding value: it becomes a constant
// of a program compiled for it alone.
const maxDecided = 1 << 16

// The stages and their sessions that are kept: of a program those of the
// decisions taken last, and likewise of a session.
const (
	keptPrograms = 16
	keptSessions = 8
)

// settle folds what only constants and shapes tell, puts the branch that is
// taken in place of each If whose condition is known, and returns the nodes
// that wait for values, with the inputs they wait for; for a node with an
// eager function that is all of them.
func (c *compiler) settle(g *model.Graph) (*model.Graph, map[*model.Node][]int, error) {
	s := settling{edit: editing(g), c: c, open: map[string]bool{}, lists: map[string][]string{}, waiting: map[*model.Node][]int{}}
	work := slices.Clone(s.Nodes) // the last is next
	slices.Reverse(work)
	for len(work) > 0 {
		n := work[len(work)-1]
		work = work[:len(work)-1]
		more, err := s.node(n)
		if err != nil {
			return nil, nil, unsupportedFrom(s.Graph, nodeError(g, n, err))
		}
		for _, m := range slices.Backward(more) {
			work = append(work, m)
		}
	}
	return s.done(), s.waiting, nil
}

type settling struct {
	*edit
	c       *compiler
	open    map[string]bool     // values whose shape is not known yet
	lists   map[string][]string // sequences: see sequence.go
	waiting map[*model.Node][]int
}

// node settles n. It returns the nodes that stand in its place, nil where it
// stays or is a constant.
func (s *settling) node(n *model.Node) ([]*model.Node, error) {
	if f := sequences[n.Op]; f != nil {
		return s.sequence(f, n)
	}
	if slices.ContainsFunc(n.In, func(name string) bool { return s.open[name] }) {
		s.postpone(n)
		return nil, nil
	}
	op := operators[n.Op]
	if n.Op == "If" && s.Const(n.In[0]) != nil {
		sub, err := branch(n, s.Const(n.In[0]))
		if err != nil {
			return nil, err
		}
		return s.inline(n, sub, 1)
	}
	if op.expand != nil {
		return op.expand(s.edit, n)
	}
	if op.eager != nil {
		return nil, s.eagerly(n, op)
	}
	a, err := s.c.inferNode(s.Graph, n)
	if w := (waits{}); errors.As(err, &w) {
		s.postpone(n)
		s.waiting[n] = s.with(n, w.input)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !foldsEarly(n) || !foldable(a) {
		for i, o := range n.Out {
			if o != "" {
				s.Values[o] = a.out[i]
			}
		}
		s.keep(n)
		return nil, nil
	}
	made, err := s.c.evaluate(a)
	for i, t := range made {
		if t != nil && err == nil {
			s.AddConst(n.Out[i], t)
		}
	}
	return nil, err
}

// eagerly runs n, of an operator with an eager function, where all its inputs
// are constants, and postpones it otherwise.
func (s *settling) eagerly(n *model.Node, op operator) error {
	in := make([]*model.Tensor, len(n.In))
	for i, name := range n.In {
		if in[i] = s.Const(name); name != "" && in[i] == nil {
			s.postpone(n)
			s.waiting[n] = nil
			for i, name := range n.In {
				if name != "" {
					s.waiting[n] = append(s.waiting[n], i)
				}
			}
			return nil
		}
	}
	f, err := op.eager(s.c, n)
	if err != nil {
		return err
	}
	made, err := f(in)
	if err != nil {
		return err
	}
	for i, o := range n.Out {
		if o != "" {
			if err := s.c.budget.take(int64(len(made[i].Data)), "a folded constant"); err != nil {
				return err
			}
			s.AddConst(o, made[i])
		}
	}
	return nil
}

func (s *settling) postpone(n *model.Node) {
	s.keep(n)
	for _, o := range n.Out {
		s.open[o] = o != ""
	}
}

// with returns input i of n and those like it: Slice wants starts, ends and
// steps, and would else wait for one after the other.
func (s *settling) with(n *model.Node, i int) []int {
	list := []int{i}
	first := s.Value(n.In[i])
	for j, name := range n.In {
		v := s.Value(name)
		if j > 0 && j != i && name != "" && v.Const == nil && v.Type == first.Type && len(v.Shape) < 2 {
			list = append(list, j)
		}
	}
	return list
}

// staged compiles what the nodes in waiting wait for, and keeps the rest of g
// to be compiled in a run.
func (c *compiler) staged(g *model.Graph, waiting map[*model.Node][]int) (*Program, error) {
	made := g.Producers()
	head, rest := model.New(g.Name), model.New(g.Name)
	next := &continuation{compiler: c, rest: rest, programs: recent[*Program]{limit: keptPrograms}}
	first := map[*model.Node]bool{} // nodes of the first stage
	var decides, wanted []string
	var need func(name string)
	need = func(name string) {
		n := made[name]
		if n == nil || first[n] {
			return
		}
		first[n] = true
		for _, in := range n.In {
			need(in)
		}
	}
	want := func(list []string, name string) []string {
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
		return list
	}
	for _, n := range g.Nodes {
		list, ok := waiting[n]
		if !ok {
			continue
		}
		eager := operators[n.Op].eager != nil
		for _, i := range list {
			need(n.In[i])
			if eager {
				if g.Const(n.In[i]) == nil {
					wanted = want(wanted, n.In[i])
				}
				continue
			}
			if count, err := g.Value(n.In[i]).Shape.Elements(); err != nil || count > maxDecided {
				return nil, nodeError(g, n, fmt.Errorf("its shape depends on the %v of %s", g.Value(n.In[i]).Shape, n.In[i]))
			}
			decides = want(decides, n.In[i])
		}
		if eager {
			next.eager = append(next.eager, n)
		}
	}
	c.divide(g, head, rest, first, next.eager)
	rest.Outputs = g.Outputs
	for _, name := range slices.Concat(inputsOf(rest), rest.Outputs) {
		if v := g.Value(name); v.Const == nil && (made[name] == nil || first[made[name]]) && !slices.Contains(decides, name) {
			wanted = want(wanted, name)
			rest.Inputs = want(rest.Inputs, name)
		}
	}
	for _, name := range rest.Inputs {
		rest.Values[name] = &model.Value{Type: g.Value(name).Type, Shape: g.Value(name).Shape}
	}
	for _, name := range decides {
		rest.Values[name] = &model.Value{Type: g.Value(name).Type, Shape: g.Value(name).Shape}
	}
	next.feeds, next.decides = slices.Clone(rest.Inputs), decides
	rest.Inputs = append(rest.Inputs, decides...)
	for _, n := range next.eager {
		for _, o := range n.Out {
			if o != "" {
				rest.Inputs = append(rest.Inputs, o)
			}
		}
	}
	head.Inputs = g.Inputs
	for _, name := range slices.Concat(decides, wanted) {
		if made[name] != nil {
			head.Outputs = want(head.Outputs, name)
		}
	}
	lowered, err := c.passes(head)
	if err != nil {
		return nil, err
	}
	p, err := c.lower(lowered)
	if err != nil {
		return nil, err
	}
	p.continues(g, next)
	return p, nil
}

// divide puts the nodes of g into head and rest, with the constants that they
// read.
func (c *compiler) divide(g, head, rest *model.Graph, first map[*model.Node]bool, eager []*model.Node) {
	for _, n := range g.Nodes {
		switch {
		case first[n]:
			head.Nodes = append(head.Nodes, n)
		case !slices.Contains(eager, n):
			rest.Nodes = append(rest.Nodes, n)
		}
	}
	for name, v := range g.Values {
		switch {
		case v.Const != nil:
			head.Values[name], rest.Values[name] = v, v
		case slices.Contains(g.Inputs, name):
			head.Values[name] = v
		}
	}
}

// inputsOf returns what the nodes of g read.
func inputsOf(g *model.Graph) []string {
	var names []string
	for _, n := range g.Nodes {
		names = append(names, n.In...)
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}

// continuation is what follows the first stage of a program.
type continuation struct {
	compiler *compiler
	rest     *model.Graph
	decides  []string      // values that become constants of rest
	feeds    []string      // values that become inputs of rest, its first ones
	eager    []*model.Node // run between the stages; their outputs are inputs of rest
	slots    map[string]int

	mu       sync.Mutex
	programs recent[*Program]
	latest   *Program
}

// continues makes p the first stage of g.
func (p *Program) continues(g *model.Graph, next *continuation) {
	next.slots = map[string]int{}
	for i, s := range p.slots {
		next.slots[s.name] = i
	}
	for i, name := range p.in {
		next.slots[name.Name] = p.inputs[i]
	}
	for i, port := range p.out {
		next.slots[port.Name] = p.outputs[i]
	}
	constant := func(name string) {
		if t := g.Const(name); t != nil {
			if _, ok := next.slots[name]; !ok {
				next.slots[name] = len(p.slots)
				p.slots = append(p.slots, slot{name: name, dtype: t.Type, shape: t.Shape, data: t})
			}
		}
	}
	for _, n := range next.eager {
		for _, name := range n.In {
			constant(name)
		}
	}
	p.then, p.out = next, nil
	for _, name := range g.Outputs {
		p.out = append(p.out, Port{Name: name})
	}
}

// program returns the program for what has been decided. key stands for it.
func (k *continuation) program(key []byte, decided, made map[string]*model.Tensor) (*Program, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p, ok := k.programs.get(key); ok {
		return p, nil
	}
	o := k.compiler.options
	o.Shapes, o.Values, o.inner = nil, map[string]*model.Tensor{}, true
	for name, t := range decided {
		o.Values[name] = t.Clone()
	}
	g := k.rest.Clone()
	for name, t := range made {
		g.Values[name] = &model.Value{Type: t.Type, Shape: slices.Clone(t.Shape)}
	}
	c := &compiler{options: o, target: k.compiler.target, halves: k.compiler.halves, observed: k.compiler.observed, budget: &budget{limit: k.compiler.budget.limit}}
	p, err := c.program(g)
	if err != nil {
		return nil, err
	}
	k.programs.put(key, p)
	k.latest = p
	return p, nil
}

// last returns the program of the decisions compiled last, nil where there
// was none yet.
func (k *continuation) last() *Program {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.latest
}
