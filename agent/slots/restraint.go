package slots

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"dunlin/engine"
	"dunlin/model"
	"dunlin/model/pack"
	"dunlin/sync/wire"
)

// restraint is how the device holds itself back, for all models.
type restraint struct {
	slower atomic.Int32
	small  atomic.Bool
}

// HoldBack says that a run may take so many times as long as usual from now
// on, at least 1: the device computes with fewer threads, or its clock is held
// down. A model on trial is judged by that. With small, models that have a
// small form answer by it: not while they are on trial, which is about the
// first one, and not tensors that a client handed in (Job.Foreign), who cannot
// be told.
func (s *Slots) HoldBack(slower int, small bool) {
	s.hold.slower.Store(int32(slower))
	s.hold.small.Store(small)
}

func (r *restraint) times() int { return max(1, int(r.slower.Load())) }

// HasSmall reports whether the model that answers has a small form.
func (s *Slots) HasSmall() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now != nil && s.now.small != nil
}

// smallForm is the small form of a loaded model, with a session of its own:
// it takes its memory beside the first one, so that a device short of memory
// need compile nothing to be helped.
type smallForm struct {
	session *engine.Session
	exam    *pack.Exam // nil: none
}

// loadSmall compiles the small form, where the pack has one, in what memory
// the first one leaves.
func (m *Model) loadSmall(f *pack.Form, o engine.Options, first engine.Memory) error {
	if f == nil {
		return nil
	}
	if o.MaxMemory > 0 {
		o.MaxMemory = max(1, o.MaxMemory-int64(first.Arena+first.Weights))
	}
	p, err := engine.Compile(f.Graph, o)
	if err != nil {
		return err
	}
	for _, list := range [][2][]engine.Port{{p.Inputs(), m.inputs}, {p.Outputs(), m.outputs}} {
		for i, port := range list[0] {
			first := list[1][i] // as many, and in the same order: pack.Open looked
			if port.Type != first.Type || !port.Shape.Equal(first.Shape) {
				return fmt.Errorf("%q is %v %v, the first form's %v %v", port.Name, port.Type, port.Shape, first.Type, first.Shape)
			}
		}
	}
	m.small = &smallForm{p.NewSession(), f.Exam}
	return nil
}

// form says which form a job is for.
type form int

const (
	either   form = iota // the one that answers now
	theFirst             // whatever is held back
	theSmall
)

// restrained reports whether the small form stands in for the first.
func (m *Model) restrained() bool { return m.small != nil && m.hold.small.Load() && !m.onTrial.Load() }

// choose returns the session that a job runs on. It is called in the model's
// turn.
func (m *Model) choose(j Job) (*engine.Session, error) {
	if j.form == theSmall || j.form == either && !j.Foreign && m.restrained() {
		return m.small.session, nil
	}
	if m.session == nil {
		if err := m.takeOut(); err != nil {
			return nil, err
		}
	}
	return m.session, nil
}

// PutAway gives the memory of the first form back, where the small one stands
// in for it. The first job that needs it compiles it again.
func (s *Slots) PutAway(ctx context.Context) error {
	m, err := s.Acquire()
	if errors.Is(err, ErrNoModel) {
		return nil
	}
	defer m.Release()
	if err := m.take(ctx); err != nil {
		return err
	}
	defer m.give()
	if m.restrained() {
		m.session = nil
		debug.FreeOSMemory()
	}
	return nil
}

// takeOut compiles the first form again, from the graph that was loaded. It is
// called in the model's turn.
func (m *Model) takeOut() (err error) {
	m.compile.Store(true)
	defer func() {
		m.held.Store(turnClock()) // before: Held must never count the compiling as an inference
		m.compile.Store(false)
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil { // a card that cannot be read any more
			err = fmt.Errorf("compile %s again: %v", m.Name, r)
		}
	}()
	p, err := engine.Compile(m.graph, m.engine)
	if err != nil {
		return fmt.Errorf("compile %s again: %w", m.Name, err)
	}
	m.session = p.NewSession()
	return nil
}

func (m *Model) isSmall(s *engine.Session) bool { return m.small != nil && s == m.small.session }

// Answered names the model as Running does, and the form whose session it was
// that answered. A head that was learned here is the first form's.
func (m *Model) Answered(s *engine.Session) wire.Running {
	r := m.Running()
	if m.isSmall(s) {
		r.Form, r.Learned = wire.FormSmall, 0
	}
	return r
}

// examineSmall has the small form answer its exam. Errors are as examine's.
func (m *Model) examineSmall(ctx context.Context) error {
	if m.small == nil || m.small.exam == nil {
		return nil
	}
	err := m.small.exam.Check(func(inputs []*model.Tensor) ([]*model.Tensor, error) { return m.ask(ctx, inputs, theSmall) })
	return examError(ctx, "small form", err)
}

// errSmall says which form cannot be compiled.
func errSmall(err error) error {
	if unsupported, ok := errors.AsType[*engine.UnsupportedError](err); ok {
		return refuse(wire.ReasonUnsupported, fmt.Errorf("small form: %w", unsupported))
	}
	return refuse(wire.ReasonBroken, fmt.Errorf("small form: %w", err))
}
