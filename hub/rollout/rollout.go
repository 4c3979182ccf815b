// Package rollout decides how a new model, or agent, spreads over a fleet: first to a
// few canaries, then to all, and back again when it turns out bad. Start with
// New, Next and Rules.
//
// Its promise: Next is a pure function of its arguments. The same state,
// events and times give the same commands on every machine, a model is never
// given to a device outside the wave that is open, and every rollout ends or
// waits for a person: whatever is undecided at its deadline is paused, never
// passed.
//
// It knows no clock, no network and no disk. The hub feeds it what devices
// say and carries out its commands; State survives a restart as JSON.
//
//	draft --start--> canary --pass--> all --pass--> done
//	                   |  \___________/ |
//	                   |    deadline    |          resume: back to the phase
//	                   |       v        |          that the pause interrupted,
//	                   |    paused -----+--------  with a new deadline
//	                   v                v
//	       fail, or a person's abort (from any phase but done)
//	                       aborting --all are back, or deadline--> rolled_back
//
// gate.go holds the table of what passes, fails and holds a wave.
package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"dunlin/sync/wire"
)

// Phase is where a rollout is.
type Phase string

// The phases; Done and RolledBack end a rollout.
const (
	Draft      Phase = "draft"
	Canary     Phase = "canary"
	All        Phase = "all"
	Done       Phase = "done"
	Paused     Phase = "paused"
	Aborting   Phase = "aborting"
	RolledBack Phase = "rolled_back"
)

// Ended reports whether nothing more will happen in phase p.
func (p Phase) Ended() bool { return p == Done || p == RolledBack }

// open reports whether devices are being given the new model in phase p.
func (p Phase) open() bool { return p == Canary || p == All }

// Target names a model as a device sees it. The zero Target is "none": the
// device had no model before.
type Target struct {
	Name    string `json:"name,omitempty"`
	Version int64  `json:"version,omitempty"`
	Digest  string `json:"digest,omitempty"` // of the manifest
}

// Stage is how one device does with the new model.
type Stage string

// The stages.
const (
	Waiting  Stage = "waiting"  // its wave is not open
	Assigned Stage = "assigned" // its desired document names the new model
	Trial    Stage = "trial"    // it answers, or runs, on trial
	Passed   Stage = "passed"   // active, the trial is over
	Failed   Stage = "failed"   // refused or reverted, and the model is to blame
	Stuck    Stage = "stuck"    // refused or reverted for want of space, network or by a person's word
	Back     Stage = "back"     // rolled back: the old model answers again, or none where there was none
)

// Figures are sums over the answers of one device with one model.
type Figures struct {
	Runs   int64   `json:"runs"`
	Errors int64   `json:"errors"`
	Micros int64   `json:"micros"` // of the inferences without error
	Score  float64 `json:"score"`  // of the first label
}

func (f *Figures) add(g Figures) {
	f.Runs += g.Runs
	f.Errors += g.Errors
	f.Micros += g.Micros
	f.Score += g.Score
}

// minus returns f - g, where g is an earlier state of the same sums.
func (f Figures) minus(g Figures) Figures {
	return Figures{f.Runs - g.Runs, f.Errors - g.Errors, f.Micros - g.Micros, f.Score - g.Score}
}

// Device is one device of a rollout.
type Device struct {
	Name   string      `json:"name"`   // "tenant/device"
	Canary bool        `json:"canary"` // wave 1; the others are wave 2
	Old    Target      `json:"old"`    // to which a rollback goes
	Stage  Stage       `json:"stage"`
	Reason wire.Reason `json:"reason,omitempty"`
	Error  string      `json:"error,omitempty"`
	Online bool        `json:"online"`
	Before Figures     `json:"before"` // with Old
	After  Figures     `json:"after"`  // with the new model
	Base   Figures     `json:"base"`   // what After was when the model was assigned, from an earlier try
}

// given reports whether the device was told to run the new model and was not
// told to go back.
func (d *Device) given() bool { return d.Stage != Waiting && d.Stage != Back }

// Rules are the limits of the health gate; see the table in gate.go.
type Rules struct {
	DeadlineS    int     `json:"deadline_s"`     // a wave undecided after it is paused
	SoakS        int     `json:"soak_s"`         // a wave is open at least so long
	MinRuns      int64   `json:"min_runs"`       // answers of a wave that must be seen before it passes; of an agent 0
	MaxFailed    float64 `json:"max_failed"`     // share of wave 2 that may fail; of the canaries none may
	MaxErrors    float64 `json:"max_errors"`     // share of errors above that of the control
	MaxSlowdown  float64 `json:"max_slowdown"`   // mean latency over that of the control; 0: not judged
	MaxScoreDrop float64 `json:"max_score_drop"` // mean first score below that of the control; 0: not judged
	JudgeRuns    int64   `json:"judge_runs"`     // answers below which figures are not judged
}

// DefaultRules are used for the fields of a plan that are zero, except those
// for which zero has a meaning of its own.
var DefaultRules = Rules{
	DeadlineS: 3600, MaxFailed: 0.1, MaxErrors: 0.05, MaxSlowdown: 0, MaxScoreDrop: 0, JudgeRuns: 20,
}

// EveryTenant is the Scope of a rollout to the whole fleet.
const EveryTenant = "*"

// Covers reports whether a device that joins the tenant later should run what
// the rollout brought: it ended well and was for all devices.
func (s *State) Covers(tenant string) bool {
	return s.Phase == Done && (s.Scope == EveryTenant || s.Scope != "" && s.Scope == tenant)
}

// OfferKind returns the kind of what is rolled out, in full.
func (s *State) OfferKind() wire.OfferKind { return cmp.Or(s.Kind, wire.OfferModel) }

// Plan is what a person asks for.
type Plan struct {
	ID      string
	Kind    wire.OfferKind // "" is a model
	New     Target
	Scope   string            // "" for the devices named here, else a tenant or EveryTenant: devices that join later too
	Canary  []string          // names of devices, at least one
	Rest    []string          // the others
	Old     map[string]Target // what each runs now; absent: none
	Rules   Rules
	Trial   wire.TrialRules
	Fetch   wire.FetchRules
	Created time.Time
}

// State is everything about one rollout.
type State struct {
	ID      string          `json:"id"`
	Kind    wire.OfferKind  `json:"kind,omitempty"` // "": a model
	New     Target          `json:"new"`
	Scope   string          `json:"scope,omitempty"`
	Phase   Phase           `json:"phase"`
	Held    Phase           `json:"held,omitempty"` // the phase that a pause interrupted
	Why     string          `json:"why,omitempty"`  // of the phase, for a person
	Created time.Time       `json:"created"`
	Since   time.Time       `json:"since"` // when the phase began
	Rules   Rules           `json:"rules"`
	Trial   wire.TrialRules `json:"trial,omitzero"`
	Fetch   wire.FetchRules `json:"fetch,omitzero"`
	Devices []Device        `json:"devices"` // by name
}

// New makes the draft of a rollout. It fails where the plan names no model,
// no canary, or a device twice, or asks for answers of an agent.
func New(p Plan) (State, error) {
	if p.New.Digest == "" {
		return State{}, fmt.Errorf("rollout %s: no model", p.ID)
	}
	if len(p.Canary) == 0 {
		return State{}, fmt.Errorf("rollout %s of %s@%d: no canary: the first wave needs a device", p.ID, p.New.Name, p.New.Version)
	}
	if p.Kind == wire.OfferAgent && p.Rules.MinRuns > 0 {
		return State{}, fmt.Errorf("rollout %s of %s@%d: min_runs is %d: answers are counted by model, not by agent, so the wave would never pass; want 0, and soak_s for how long it is watched", p.ID, p.New.Name, p.New.Version, p.Rules.MinRuns)
	}
	s := State{ID: p.ID, Kind: p.Kind, New: p.New, Scope: p.Scope, Phase: Draft, Created: p.Created, Since: p.Created, Trial: p.Trial, Fetch: p.Fetch, Rules: p.Rules.withDefaults()}
	for i, wave := range [][]string{p.Canary, p.Rest} {
		for _, name := range wave {
			s.Devices = append(s.Devices, Device{Name: name, Canary: i == 0, Old: p.Old[name], Stage: Waiting})
		}
	}
	slices.SortFunc(s.Devices, func(a, b Device) int { return compare(a.Name, b.Name) })
	for i := 1; i < len(s.Devices); i++ {
		if s.Devices[i].Name == s.Devices[i-1].Name {
			return State{}, fmt.Errorf("rollout %s: device %s is named twice", p.ID, s.Devices[i].Name)
		}
	}
	return s, nil
}

func compare(a, b string) int {
	if a < b {
		return -1
	}
	if a > b {
		return 1
	}
	return 0
}

func (r Rules) withDefaults() Rules {
	if r.DeadlineS <= 0 {
		r.DeadlineS = DefaultRules.DeadlineS
	}
	if r.MaxFailed <= 0 {
		r.MaxFailed = DefaultRules.MaxFailed
	}
	if r.MaxErrors <= 0 {
		r.MaxErrors = DefaultRules.MaxErrors
	}
	if r.JudgeRuns <= 0 {
		r.JudgeRuns = DefaultRules.JudgeRuns
	}
	return r
}

// Device returns the device of that name, or nil.
func (s *State) Device(name string) *Device {
	i, ok := slices.BinarySearchFunc(s.Devices, name, func(d Device, name string) int { return compare(d.Name, name) })
	if !ok {
		return nil
	}
	return &s.Devices[i]
}

// Active reports whether the rollout still decides what device name should
// run: it was given the new model, or will be.
func (s *State) Active(name string) bool {
	return !s.Phase.Ended() && s.Phase != Aborting && s.Device(name) != nil
}
