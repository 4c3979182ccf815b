package engine

import (
	"fmt"
	"time"

	"dunlin/internal/pool"
	"dunlin/model"
)

// Session runs a program, with an arena of its own. It is not safe for
// concurrent use.
type Session struct {
	program *Program
	tensors []*model.Tensor // by slot
	runs    []run
	sequel  *sequel // what follows, where shapes depend on values
}

// run is a step bound to the session's memory.
type run struct {
	f    func() error
	step *step
}

// NewSession returns a session. It is where the arena is allocated, and all
// else that a Run needs.
func (p *Program) NewSession() *Session { return p.session(model.Aligned(p.memory.Arena)) }

// NewSessionIn returns a session whose arena is the one given, for programs
// that run in turns: what a session leaves there is lost once another one is
// made there, which clears it. arena has the bytes that Memory says at least,
// and begins where model.Aligned does. A stage that is compiled later, where
// shapes depend on values, has an arena of its own.
func (p *Program) NewSessionIn(arena []byte) *Session {
	arena = arena[:p.memory.Arena]
	clear(arena)
	return p.session(arena)
}

// session returns one in an arena that holds zeros.
func (p *Program) session(arena []byte) *Session {
	s := &Session{program: p, tensors: make([]*model.Tensor, len(p.slots))}
	for i, slot := range p.slots {
		s.tensors[i] = slot.data
		if slot.buffer != nil {
			n, _ := slot.shape.Elements()
			from := slot.buffer.offset
			to := from + n*slot.dtype.Size()
			s.tensors[i] = &model.Tensor{Type: slot.dtype, Shape: slot.shape, Data: arena[from:to:to]}
		}
	}
	for i := range p.steps {
		step := &p.steps[i]
		if step.kernel.alias {
			s.runs = append(s.runs, run{step: step})
			continue
		}
		var scratch []byte
		if b := step.scratch; b != nil {
			scratch = arena[b.offset : b.offset+b.bytes]
		}
		r := run{step: step}
		if step.parts == nil {
			r.f = step.kernel.bind(s.pick(step.in), s.pick(step.out), scratch)
		} else {
			r.f = bindParts(step.parts, s.pick(step.in), s.pick(step.out), scratch, pool.Shared(p.threads))
		}
		s.runs = append(s.runs, r)
	}
	if p.then != nil {
		s.sequel = newSequel(s, p.then)
	}
	return s
}

func (s *Session) pick(slots []int) []*model.Tensor {
	list := make([]*model.Tensor, len(slots))
	for i, n := range slots {
		if n >= 0 {
			list[i] = s.tensors[n]
		}
	}
	return list
}

// Input returns input i, for the caller to write. It stays the same tensor as
// long as the session, and Run leaves it as it is.
func (s *Session) Input(i int) *model.Tensor { return s.tensors[s.program.inputs[i]] }

// Output returns output i, valid until the next Run. Where shapes depend on
// values it is nil before the first Run, and another tensor after each.
func (s *Session) Output(i int) *model.Tensor {
	if s.sequel != nil {
		if s.sequel.last == nil {
			return nil
		}
		return s.sequel.last.Output(i)
	}
	return s.tensors[s.program.outputs[i]]
}

// Run computes the outputs from the inputs. It fails only where the data make
// a node impossible, which the error names; outputs are then not to be used.
func (s *Session) Run() error {
	if err := s.stage(); err != nil || s.sequel == nil {
		return err
	}
	next, err := s.sequel.next(s)
	if err != nil {
		return err
	}
	return next.Run()
}

// stage runs the session's own program.
func (s *Session) stage() error {
	if s.program.observe != nil {
		return s.observed()
	}
	if s.program.trace != nil {
		return s.traced()
	}
	for i := range s.runs {
		if f := s.runs[i].f; f != nil {
			if err := f(); err != nil {
				return s.failed(i, err)
			}
		}
	}
	return nil
}

// observed runs with a call of Options.Observe for each float value that the
// graph names.
func (s *Session) observed() error {
	see := func(slot int) {
		t, name := s.tensors[slot], s.program.slots[slot].name
		if t.Type == model.F32 && s.program.observed[name] {
			s.program.observe(name, t)
		}
	}
	for _, i := range s.program.inputs {
		see(i)
	}
	for i := range s.runs {
		if f := s.runs[i].f; f != nil {
			if err := f(); err != nil {
				return s.failed(i, err)
			}
		}
		for _, o := range s.runs[i].step.out {
			if o >= 0 {
				see(o)
			}
		}
	}
	return nil
}

// RunProfiled is Run with a clock: it adds the time of step i to times[i], in
// the order of Program.Steps, and returns times, lengthened where there are
// more steps. What goes on between two stages is not in it.
func (s *Session) RunProfiled(times []time.Duration) ([]time.Duration, error) {
	for len(times) < len(s.runs) {
		times = append(times, 0)
	}
	for i := range s.runs {
		if f := s.runs[i].f; f != nil {
			start := time.Now()
			if err := f(); err != nil {
				return times, s.failed(i, err)
			}
			times[i] += time.Since(start)
		}
	}
	if s.sequel == nil {
		return times, nil
	}
	next, err := s.sequel.next(s)
	if err != nil {
		return times, err
	}
	rest, err := next.RunProfiled(times[len(s.runs):])
	return append(times[:len(s.runs)], rest...), err
}

func (s *Session) failed(i int, err error) error {
	n := s.runs[i].step.node
	return fmt.Errorf("run %s: node %s (%s): %w", s.program.name, n.Name, n.Op, err)
}
