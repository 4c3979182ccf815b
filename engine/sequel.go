package engine

import (
	"fmt"

	"dunlin/model"
)

// sequel is what a session holds for what follows its program's first stage.
type sequel struct {
	what     *continuation
	key      []byte
	sessions recent[*Session]
	eager    []eagerRun
	last     *Session // of the latest run
}

// eagerRun is an operator that runs between stages.
type eagerRun struct {
	node *model.Node
	run  func(in []*model.Tensor) ([]*model.Tensor, error)
	in   []*model.Tensor
	out  []*model.Tensor
}

func newSequel(s *Session, next *continuation) *sequel {
	t := &sequel{what: next, sessions: recent[*Session]{limit: keptSessions}}
	for _, n := range next.eager {
		r := eagerRun{node: n, in: make([]*model.Tensor, len(n.In))}
		for i, name := range n.In {
			if name != "" {
				r.in[i] = s.tensors[next.slots[name]]
			}
		}
		var err error
		if r.run, err = operators[n.Op].eager(next.compiler, n); err != nil {
			r.run = func([]*model.Tensor) ([]*model.Tensor, error) { return nil, err }
		}
		t.eager = append(t.eager, r)
	}
	return t
}

// next returns the session that goes on where the first stage, which has run,
// ended, with its inputs written.
func (t *sequel) next(s *Session) (*Session, error) {
	k := t.what
	t.key = t.key[:0]
	for _, name := range k.decides {
		v := s.tensors[k.slots[name]]
		t.key = append(appendShape(t.key, v.Shape), v.Data...)
	}
	for i := range t.eager {
		r := &t.eager[i]
		var err error
		if r.out, err = r.run(r.in); err != nil {
			return nil, fmt.Errorf("run %s: node %s (%s): %w", s.program.name, r.node.Name, r.node.Op, err)
		}
		for j, o := range r.node.Out {
			if o != "" {
				t.key = appendShape(append(t.key, byte(r.out[j].Type)), r.out[j].Shape)
			}
		}
	}
	next, ok := t.sessions.get(t.key)
	if !ok {
		var err error
		if next, err = t.session(s); err != nil {
			return nil, fmt.Errorf("run %s: %w", s.program.name, err)
		}
		t.sessions.put(t.key, next)
	}
	for i, name := range k.feeds {
		copy(next.Input(i).Data, s.tensors[k.slots[name]].Data)
	}
	i := len(k.feeds)
	for _, r := range t.eager {
		for j, o := range r.node.Out {
			if o != "" {
				copy(next.Input(i).Data, r.out[j].Data)
				i++
			}
		}
	}
	t.last = next
	return next, nil
}

// session returns a new session for what the run has decided.
func (t *sequel) session(s *Session) (*Session, error) {
	decided, made := map[string]*model.Tensor{}, map[string]*model.Tensor{}
	for _, name := range t.what.decides {
		decided[name] = s.tensors[t.what.slots[name]]
	}
	for _, r := range t.eager {
		for j, o := range r.node.Out {
			if o != "" {
				made[o] = r.out[j]
			}
		}
	}
	p, err := t.what.program(t.key, decided, made)
	if err != nil {
		return nil, err
	}
	return p.NewSession(), nil
}
