package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"dunlin/sync/wire"
)

// EventKind says what happened.
type EventKind string

// The kinds of events, and the fields of Event that each reads.
const (
	Start   EventKind = "start"   // a person opens the draft
	Pause   EventKind = "pause"   // Why
	Resume  EventKind = "resume"  //
	Abort   EventKind = "abort"   // Why
	Tick    EventKind = "tick"    // time passed
	Report  EventKind = "report"  // Device, Report: what it says of a model
	Running EventKind = "running" // Device, Of, Digest, Nothing, Online: what answers, or runs, there now
	Results EventKind = "results" // Device, Digest, Figures: totals, not differences
	Gone    EventKind = "gone"    // Device: it was struck off
)

// Event is one thing that happened. Events may come twice and in any order.
type Event struct {
	Kind    EventKind      `json:"kind"`
	Device  string         `json:"device,omitempty"`
	Of      wire.OfferKind `json:"of,omitempty"` // of Running: whether Digest and Nothing are about models or agents; "": models
	Digest  string         `json:"digest,omitempty"`
	Nothing bool           `json:"nothing,omitempty"` // no model answers; Digest "" alone says that it is not known
	Online  bool           `json:"online,omitempty"`
	Report  wire.Report    `json:"report,omitzero"`
	Figures Figures        `json:"figures,omitzero"`
	Why     string         `json:"why,omitempty"`
}

// Command tells the hub which model a device should have from now on.
type Command struct {
	Device string `json:"device"`
	Target Target `json:"target"` // zero: none
	Back   bool   `json:"back"`   // a rollback
}

// Next returns the state after event e at time now, and what is to be done.
// It does not change s. An event that means nothing in a phase is ignored.
func Next(s State, e Event, now time.Time) (State, []Command) {
	s.Devices = slices.Clone(s.Devices)
	if s.Phase.Ended() {
		s.observe(e)
		return s, nil
	}
	switch e.Kind {
	case Start:
		if s.Phase == Draft {
			return s, s.open(Canary, now)
		}
	case Pause:
		if s.Phase.open() {
			s.hold(e.Why, now)
		}
	case Resume:
		if s.Phase == Paused {
			return s, s.open(s.Held, now)
		}
	case Abort:
		if s.Phase != Aborting {
			return s, s.abort(e.Why, now)
		}
	default:
		s.observe(e)
	}
	return s, s.judge(now)
}

// observe notes what an event says of a device; it decides nothing.
func (s *State) observe(e Event) {
	if e.Kind == Gone {
		s.Devices = slices.DeleteFunc(s.Devices, func(d Device) bool { return d.Name == e.Device })
		return
	}
	d := s.Device(e.Device)
	if d == nil {
		return
	}
	switch e.Kind {
	case Report:
		s.observeReport(d, e.Report)
	case Running:
		d.Online = e.Online
		about := cmp.Or(e.Of, wire.OfferModel) == s.OfferKind()
		if (s.Phase == Aborting || s.Phase == RolledBack) && about && d.given() && d.isBack(e) {
			d.Stage = Back
		}
	case Results:
		switch e.Digest {
		case "":
		case s.New.Digest:
			d.After = e.Figures
		case d.Old.Digest:
			d.Before = e.Figures
		}
	}
}

// isBack reports whether a device answers with its old model again, or with
// none where it had none.
func (d *Device) isBack(e Event) bool {
	if d.Old.Digest == "" {
		return e.Nothing
	}
	return e.Digest == d.Old.Digest
}

// observeReport moves a device between stages. A report about another model,
// or from a device that was not given the new one, says nothing.
func (s *State) observeReport(d *Device, r wire.Report) {
	if r.Kind != s.OfferKind() || !d.given() {
		return
	}
	if s.Phase == Aborting || s.Phase == RolledBack {
		if r.Digest == d.Old.Digest && r.State == wire.StateActive {
			d.Stage = Back
		}
		return
	}
	if r.Digest != s.New.Digest {
		return
	}
	switch r.State {
	case wire.StateFetching, wire.StateExamining:
		d.Stage = Assigned
		if r.Kind == wire.OfferAgent && r.State == wire.StateExamining { // it restarts next
			d.Stage = Trial
		}
	case wire.StateTrial:
		d.Stage = Trial
	case wire.StateActive:
		d.Stage = Passed
	case wire.StateRefused, wire.StateReverted:
		d.Stage = Failed
		if !blamesModel(r.Reason) {
			d.Stage = Stuck
		}
	default:
		return
	}
	d.Reason, d.Error = r.Reason, r.Error
}

// blamesModel reports whether a reason says something about the model, and
// not about the device's disk, its network or a person's wish.
func blamesModel(r wire.Reason) bool {
	switch r {
	case wire.ReasonNoSpace, wire.ReasonFetch, wire.ReasonCommand, wire.ReasonDesired, wire.ReasonDisabled:
		return false
	}
	return true
}

// open begins a phase in which devices get the new model. After a pause the
// same phase opens again: a device that has the model already is not told
// twice, one that got stuck is.
func (s *State) open(p Phase, now time.Time) []Command {
	s.Phase, s.Held, s.Why, s.Since = p, "", "", now
	var out []Command
	for i := range s.Devices {
		d := &s.Devices[i]
		if !s.inOpenWave(d) || d.Stage != Waiting && d.Stage != Stuck {
			continue
		}
		d.Stage, d.Reason, d.Error, d.Base = Assigned, "", "", d.After
		out = append(out, Command{Device: d.Name, Target: s.New})
	}
	return out
}

// inOpenWave reports whether d may have the new model in the present phase.
func (s *State) inOpenWave(d *Device) bool {
	return s.Phase == All || s.Phase == Canary && d.Canary
}

func (s *State) hold(why string, now time.Time) {
	s.Held, s.Phase, s.Why, s.Since = s.Phase, Paused, why, now
}

// abort sends every device that was given the new model back to its old one.
func (s *State) abort(why string, now time.Time) []Command {
	s.Phase, s.Held, s.Why, s.Since = Aborting, "", why, now
	var out []Command
	for i := range s.Devices {
		d := &s.Devices[i]
		if !d.given() {
			continue
		}
		out = append(out, Command{Device: d.Name, Target: d.Old, Back: true})
		if d.Stage == Failed || d.Stage == Stuck {
			d.Stage = Back // it went back by itself
		}
	}
	return append(out, s.judge(now)...)
}

// judge lets the gate of the present phase decide.
func (s *State) judge(now time.Time) []Command {
	late := now.Sub(s.Since) >= time.Duration(s.Rules.DeadlineS)*time.Second
	switch s.Phase {
	case Canary, All, Paused:
		verdict, why := s.gate(now)
		switch {
		case verdict == Fail:
			return s.abort(why, now)
		case s.Phase == Paused:
		case verdict == Pass && s.Phase == Canary:
			return append(s.open(All, now), s.judge(now)...)
		case verdict == Pass:
			s.Phase, s.Why, s.Since = Done, why, now
		case late:
			s.hold("undecided at the deadline: "+why, now)
		}
	case Aborting:
		left := 0
		for i := range s.Devices {
			if s.Devices[i].given() {
				left++
			}
		}
		if left == 0 || late {
			s.Phase, s.Since = RolledBack, now
		}
		if left > 0 && late {
			s.Why = fmt.Sprintf("%s; %d devices have not said yet that they are back, and may still answer with the model", s.Why, left)
		}
	}
	return nil
}
