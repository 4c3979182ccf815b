package slots

import (
	"context"
	"errors"
	"fmt"
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
// need not compile anything.
type smallForm struct {
	session *engine.Session
	exam    *pack.Exam // nil: none
}

// loadSmall compiles the small form, where the pack has one, in what memory
// the first one leaves.
func (m *Model) loadSmall(f *pack.Form, o engine.Options) error {
	if f == nil {
		return nil
	}
	if o.MaxMemory > 0 {
		used := m.Program.Memory()
		o.MaxMemory = max(1, o.MaxMemory-int64(used.Arena+used.Weights))
	}
	p, err := engine.Compile(f.Graph, o)
	if err != nil {
		return err
	}
	for _, list := range [][2][]engine.Port{{p.Inputs(), m.Program.Inputs()}, {p.Outputs(), m.Program.Outputs()}} {
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

// choose returns the session that a job runs on. It is called in the model's
// turn.
func (m *Model) choose(j Job) *engine.Session {
	held := j.form == either && m.hold.small.Load() && !j.Foreign && !m.onTrial.Load()
	if m.small != nil && (held || j.form == theSmall) {
		return m.small.session
	}
	return m.session
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

// examineSmall has the small form answer its exam. Errors are *refusal.
func (m *Model) examineSmall(ctx context.Context) error {
	if m.small == nil || m.small.exam == nil {
		return nil
	}
	err := m.small.exam.Check(func(inputs []*model.Tensor) ([]*model.Tensor, error) { return m.ask(ctx, inputs, theSmall) })
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return refuse(wire.ReasonExam, fmt.Errorf("small form: %w", err))
	}
	return nil
}

// errSmall says which form cannot be compiled.
func errSmall(err error) error {
	if unsupported, ok := errors.AsType[*engine.UnsupportedError](err); ok {
		return refuse(wire.ReasonUnsupported, fmt.Errorf("small form: %w", unsupported))
	}
	return refuse(wire.ReasonBroken, fmt.Errorf("small form: %w", err))
}
