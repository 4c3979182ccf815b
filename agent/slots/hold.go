package slots

import (
	"context"
	"time"
)

// Hold waits until no model is on trial, nor on its way to one, and keeps any
// from it until release is called. An agent that changes itself needs that:
// when the process dies during a trial, there must be one culprit. The error
// is the cause of ctx's end.
func (s *Slots) Hold(ctx context.Context) (release func(), err error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if s.trying.TryLock() {
			if !s.OnTrial() {
				return s.trying.Unlock, nil
			}
			s.trying.Unlock()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Examine has the model that answers take its exam again; it is no error where
// none answers. An error wraps what the exam said.
func (s *Slots) Examine(ctx context.Context) error {
	m, err := s.Acquire()
	if err != nil {
		return nil
	}
	defer m.Release()
	return m.examine(ctx)
}
