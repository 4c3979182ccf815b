package slots

import "sync/atomic"

// restraint is how the device holds itself back, for all models.
type restraint struct{ slower atomic.Int32 }

// HoldBack says that a run may take so many times as long as usual from now
// on, at least 1: the device computes with fewer threads, or its clock is held
// down. A model on trial is judged by that.
func (s *Slots) HoldBack(slower int, small bool) { s.hold.slower.Store(int32(slower)) }

// HasSmall reports whether the model that answers has a small form.
func (s *Slots) HasSmall() bool { return false }

func (r *restraint) times() int { return max(1, int(r.slower.Load())) }
