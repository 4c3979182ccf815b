package update

import (
	"fmt"
	"time"

	"dunlin/sync/wire"
)

// Rules say when a version on trial is confirmed.
type Rules struct {
	Healthy time.Duration // it must live so long without a fault, from its start or its last one
	Grace   time.Duration // it must have reached the hub so long after its start
	Hub     bool          // there is a hub to be reached
}

// Seen is what is known of a version on trial, since its start.
type Seen struct {
	Age     time.Duration // since the start
	Healthy time.Duration // since the start, or since it was last not healthy
	Heard   bool          // the hub itself answered
	// Examined: the model that it found passed its exam, or there is none.
	Examined bool
}

// Judge confirms a version (ReasonNone and done), or sends it back. The grace
// counts from the start of each process: the hub sent the offer, so it was
// there, and a device that cannot tell a hub that is away from a version that
// does not find it is better off with the one that found it.
func (r Rules) Judge(s Seen) (done bool, why wire.Reason, cause error) {
	switch {
	case r.Hub && !s.Heard && s.Age >= r.Grace:
		return true, wire.ReasonNoHub, fmt.Errorf("the hub did not answer within %v of the start; if it was away itself, roll the version out again", r.Grace)
	case s.Healthy >= r.Healthy && s.Examined && (s.Heard || !r.Hub):
		return true, wire.ReasonNone, nil
	case s.Age >= r.Grace+2*r.Healthy && !s.Examined:
		return true, wire.ReasonExam, fmt.Errorf("the exam of the model did not end in %v", s.Age.Round(time.Second))
	case s.Age >= r.Grace+2*r.Healthy:
		return true, wire.ReasonErrors, fmt.Errorf("it was not healthy for %v at a stretch in %v", r.Healthy, s.Age.Round(time.Second))
	}
	return false, wire.ReasonNone, nil
}
