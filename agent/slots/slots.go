// Package slots holds the model that answers and the one before it, and takes
// a new one in: checked, examined, tried, and taken back by itself where it
// does not do. Start with Open, Slots.Acquire and Slots.Try.
//
// Its promise: once a model was committed, some model that was committed
// answers, whatever is offered and whenever the power goes; and no model
// answers that is not signed by a trusted key, whole to the byte, runnable
// here, and right about its own exam. The one exception is a head that this
// device learned on top of such a model: it is the state file that vouches for
// it (learned.go). A model is taken back with the hub or
// without it: too slow, failing, or taking the process down three times.
//
// The package fetches nothing itself (Config.Fetch does) and talks to nobody
// but by Config.Report.
package slots

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"sync"

	"dunlin/engine"
	"dunlin/internal/durable"
	"dunlin/internal/oci"
	"dunlin/internal/sign"
	"dunlin/sync/wire"
)

// StateFile is the name of the state file in Config.Dir.
const StateFile = "slots.json"

// Config says what slots work with.
type Config struct {
	Dir    string // of the state file
	FS     durable.FS
	Layout *oci.Layout // of the models' blobs; nobody else may sweep it
	Trust  sign.Trust  // keys that may release models
	Engine engine.Options
	// Learn is set where a head that was learned here may answer. Without it
	// Open forgets one that does.
	Learn bool
	// Strict has Open fail where a model cannot be loaded, and give up nothing: an
	// agent that is itself on trial may be what is wrong.
	Strict bool
	// StandsIn is set for an agent that runs in place of another until the board
	// starts again, and may be too old for the other's models: what it cannot load
	// is kept, as what the card cannot read is, and a state that it cannot read
	// is an error.
	StandsIn bool
	// Fetch brings an offer's manifest and blobs into Layout.
	Fetch func(ctx context.Context, o wire.Offer, progress func(done, total int64)) error
	// Report is told of each change, in order, from one goroutine at a time.
	Report func(wire.Report)
	Clock  func() wire.Clock
	Log    *slog.Logger
}

// Slots is the two slots. Its methods may be called from many goroutines.
type Slots struct {
	c    Config
	path string
	hold restraint

	// trying is held over all of Try and Resume, work by whoever changes the
	// slots (a Try that is fetching does not). They are taken in this order.
	trying, work sync.Mutex
	unreadable   unreadable // guarded by work

	mu sync.Mutex // guards what follows; who holds work may read st without it
	st state
	// now answers; before is the committed model while now is on trial. Each
	// is counted as used once by being here.
	now, before *Model
	abort       chan wire.Reason // of the trial under way, nil for none
	local       bool             // that trial is one of a learned head
	unread      error            // why the card did not give the active model at the start
}

// ErrNoModel is returned where no model is active.
var ErrNoModel = errors.New("no model is active")

// ErrNoPrevious is returned by Rollback where there is nothing to go back to.
var ErrNoPrevious = errors.New("there is no model to go back to")

// ErrSuperseded is the cause with which the context of a Try is cancelled
// where the hub wants another model meanwhile: a trial is then given up,
// rather than kept for the next start.
var ErrSuperseded = errors.New("another model is wanted")

// Open reads the state and loads the model that answers. A committed model
// that cannot be loaded any more is given up for the other slot; one that the
// card cannot read is not, but the other answers until it can. A model that
// was on trial answers again, until Resume has judged it, unless this is the
// fourth time that it is begun. Open fails only where the state cannot be
// read or written.
func Open(c Config) (*Slots, error) {
	if c.FS == nil {
		c.FS = durable.OS
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Report == nil {
		c.Report = func(wire.Report) {}
	}
	if c.Clock == nil {
		c.Clock = func() wire.Clock { return wire.ReadClock(wire.ClockNone) }
	}
	s := &Slots{c: c, path: filepath.Join(c.Dir, StateFile)}
	st, err := loadState(c.FS, s.path)
	if errors.Is(err, ErrState) && !c.StandsIn {
		// The file is replaced whole, so only a broken card makes this. The
		// blobs are still there; the hub says again what to run.
		c.Log.Error("state of the slots is lost, starting without a model", "error", err)
		st, err = emptyState(), nil
	}
	if err != nil {
		return nil, err
	}
	s.st = st
	if !c.Learn {
		if err := s.putUnlearned(); err != nil {
			return nil, err
		}
	}
	if err := s.loadCommitted(); err != nil {
		return nil, err
	}
	if err := s.loadCandidate(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// loadCommitted loads the active slot, or else the other one.
func (s *Slots) loadCommitted() error {
	for s.st.Active >= 0 {
		a := s.st.active()
		m, err := s.load(a.Digest, a.Learned)
		if err == nil {
			s.now = m
			m.acquire()
			return nil
		}
		if a.Learned != nil && !s.c.Strict && !s.noVerdict(err) {
			s.c.Log.Error("learned head cannot be loaded, the signed one answers", keyModel, a.Name, keyVersion, a.Version, "error", err)
			if err := s.putUnlearned(); err != nil {
				return err
			}
			continue
		}
		if s.c.Strict {
			return fmt.Errorf("model %s version %d: %w", a.Name, a.Version, err)
		}
		if s.noVerdict(err) {
			s.standIn(a, err)
			return nil
		}
		s.c.Log.Error("model cannot be loaded", keyModel, a.Name, keyVersion, a.Version, "error", err)
		next := s.st.clone()
		next.drop()
		if err := s.put(next); err != nil {
			return err
		}
		s.report(s.offerOf(a), wire.StateReverted, reasonOf(err), err, 0)
	}
	return nil
}

// standIn has the other slot answer, where it can, for a committed model that
// cannot be read now; for a learned head that cannot, the model as it was signed.
// Nothing of that is written: Try may be able to read it, or the next start,
// another card's, or the version's that this one stands in for.
func (s *Slots) standIn(a slot, why error) {
	s.c.Log.Error("model cannot be read, and is kept", keyModel, a.Name, keyVersion, a.Version, "error", why)
	s.unread = why
	if a.Learned != nil {
		if m, err := s.load(a.Digest, nil); err == nil {
			s.now = m
			m.acquire()
			return
		}
	}
	other := s.st.previous()
	if other.Digest == "" {
		return
	}
	m, err := s.load(other.Digest, nil)
	if err != nil {
		s.c.Log.Error("model before cannot answer for it", keyModel, other.Name, keyVersion, other.Version, "error", err)
		return
	}
	if other.Digest == s.st.Left {
		s.c.Log.Warn("model that a rollback left answers for it", keyModel, other.Name, keyVersion, other.Version)
	}
	s.now = m
	m.acquire()
}

// noVerdict reports whether err says nothing of a model that was committed here
// or on trial: see cardFailed and Config.StandsIn.
func (s *Slots) noVerdict(err error) bool { return s.c.StandsIn || cardFailed(err) }

// Unread returns the digest of the model that was committed and does not answer,
// since the card did not give it at the start, and how that failed; "" where
// there is none. Where it is offered again, Try may have more luck.
func (s *Slots) Unread() (digest string, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.st.active()
	if s.unread == nil || a.Digest == "" || s.st.Candidate != nil || s.now != nil && s.now.Digest == a.Digest {
		return "", nil
	}
	return a.Digest, s.unread
}

func (s *Slots) isUnread(digest string) bool {
	lost, _ := s.Unread()
	return lost != "" && lost == digest
}

// loadCandidate has a model that was on trial answer again.
func (s *Slots) loadCandidate() error {
	c := s.st.Candidate
	if c == nil || c.Stage != wire.StateTrial {
		return nil
	}
	next := s.st.clone()
	if ok := next.begin(c.Offer, wire.StateTrial); !ok {
		return s.giveUp(c.Offer, refuse(wire.ReasonCrashed, fmt.Errorf("the agent died %d times while it was on trial", MaxAttempts)))
	}
	if err := s.put(next); err != nil {
		return err
	}
	m, err := s.load(c.Offer.Manifest, c.Learned)
	if err != nil && s.noVerdict(err) { // whoever offers it may do so again
		s.c.Log.Error("model on trial cannot be loaded", keyModel, c.Offer.Name, keyVersion, c.Offer.Version, "error", err)
		s.undecided(c.Offer, err)
		return nil
	}
	if err != nil {
		return s.giveUp(c.Offer, err)
	}
	m.acquire()
	s.before, s.now = s.now, m
	return nil
}

// giveUp ends a candidate that is not in memory.
func (s *Slots) giveUp(o wire.Offer, why error) error {
	next := s.st.clone()
	next.Candidate = nil
	if err := s.put(next); err != nil {
		return err
	}
	s.report(o, wire.StateReverted, reasonOf(why), why, 0)
	s.sweep()
	return nil
}

// put makes a state last, and then the one in use.
func (s *Slots) put(next state) error {
	if err := next.save(s.c.FS, s.path); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.st = next
	return nil
}

// Keys of log entries.
const (
	keyModel   = "model"
	keyVersion = "version"
	keyReason  = "reason"
	keyState   = "state"
)

// report tells of a state; one that ends the matter is kept on disk too. That
// it cannot be written is no reason not to tell.
func (s *Slots) report(o wire.Offer, to wire.State, why wire.Reason, err error, p95 float64) wire.Report {
	r := wire.Report{
		Kind: wire.OfferModel, Name: o.Name, Version: o.Version, Digest: o.Manifest,
		State: to, Reason: why, P95MS: p95, At: s.c.Clock(),
	}
	if err != nil {
		r.Error = clip(err.Error())
	}
	s.mu.Lock()
	if c := s.st.Candidate; c != nil && c.Offer.Manifest == o.Manifest {
		r.Attempt = c.Attempt
	}
	next := s.st.clone()
	s.mu.Unlock()
	if o.Kind == kindLearned { // nothing that was offered: the hub knows no such version
		r.Kind = kindLearned
		s.c.Log.Info("learned head", keyModel, o.Name, keyVersion, o.Version, keyState, to, keyReason, why, "error", r.Error)
		return r
	}
	s.c.Log.Info("model", keyModel, o.Name, keyVersion, o.Version, keyState, to, keyReason, why, "error", r.Error)
	if final(to) {
		next.Last = &r
		if err := s.put(next); err != nil {
			s.c.Log.Error("report is not kept on disk", "error", err)
		}
	}
	s.c.Report(r)
	return r
}

func final(s wire.State) bool {
	return s == wire.StateActive || s == wire.StateReverted || s == wire.StateRefused
}

func (s *Slots) offerOf(m slot) wire.Offer {
	return wire.Offer{Kind: wire.OfferModel, Name: m.Name, Version: m.Version, Manifest: m.Digest}
}

// Acquire returns the model that answers now, or ErrNoModel. The caller
// releases it.
func (s *Slots) Acquire() (*Model, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil {
		return nil, ErrNoModel
	}
	s.now.acquire()
	return s.now, nil
}

// Running names the model that answers now and the one to which a rollback
// goes; nil where none answers.
func (s *Slots) Running() *wire.Running {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil {
		return nil
	}
	r := s.now.Running()
	r.Previous = s.st.previous().Digest
	if s.before != nil {
		r.Previous = s.before.Digest
	}
	if r.Previous == r.Digest { // it stands in for a model that the card does not give
		r.Previous = ""
	}
	return &r
}

// Last returns the newest report that ended an offer, nil where there is
// none; it outlives a restart.
func (s *Slots) Last() *wire.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.st.Last
}

// OnTrial reports whether the model that answers now is on trial.
func (s *Slots) OnTrial() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answersOnTrial()
}

// Rollback leaves the model of that digest, where it answers, for the one
// before: a trial under way is given up, a committed model is exchanged for
// the one in the other slot, without a download. Where another model answers,
// nothing is done: so the same order, given twice, does not undo itself. It
// returns what answers then.
//
// A model that was left this way is none to go back to (ErrNoPrevious): Try
// takes it, as it takes any that is asked for by name.
func (s *Slots) Rollback(ctx context.Context, leave string) (wire.Running, error) {
	s.mu.Lock()
	if s.abort != nil && s.now != nil && s.now.Digest == leave {
		select {
		case s.abort <- wire.ReasonCommand: // the trial ends, and gives up work
		default:
		}
	}
	s.mu.Unlock()
	s.work.Lock()
	defer s.work.Unlock()
	if s.now != nil && s.now.Digest == leave { // else the trial went back already
		if err := s.rollback(ctx); err != nil {
			return wire.Running{}, err
		}
	}
	if r := s.Running(); r != nil {
		return *r, nil
	}
	return wire.Running{}, ErrNoModel
}

func (s *Slots) rollback(ctx context.Context) error {
	if s.answersOnTrial() {
		_, err := s.revert(s.st.Candidate.Offer, wire.ReasonCommand, nil)
		return err
	}
	from, to := s.st.active(), s.st.previous()
	if to.Digest == "" || to.Digest == s.now.Digest { // which stands in for the active one
		return ErrNoPrevious
	}
	if to.Digest == s.st.Left {
		return fmt.Errorf("%w: %s version %d was itself left by a rollback; activate it by name", ErrNoPrevious, to.Name, to.Version)
	}
	if err := s.switchTo(ctx, to, (*state).leave); err != nil {
		return err
	}
	s.report(s.offerOf(from), wire.StateReverted, wire.ReasonCommand, nil, 0)
	return nil
}

// Withdraw takes back the model of that digest, where it answers: the hub says
// that the device is to have none. The model of the digest to answers then, if
// the other slot holds it and it can; else nothing does, and both slots are
// forgotten. ok is false where another model answers, or none.
func (s *Slots) Withdraw(ctx context.Context, digest, to string) (r wire.Report, ok bool, err error) {
	s.work.Lock()
	defer s.work.Unlock()
	if s.now == nil || s.now.Digest != digest {
		return wire.Report{}, false, nil
	}
	o := wire.Offer{Kind: wire.OfferModel, Name: s.now.Name, Version: s.now.Version, Manifest: digest}
	if p := s.st.previous(); p.Digest != "" && p.Digest == to && s.st.Candidate == nil {
		err := s.switchTo(ctx, p, (*state).leave)
		if err == nil {
			return s.report(o, wire.StateReverted, wire.ReasonDesired, nil, 0), true, nil
		}
		if !errors.As(err, new(*refusal)) {
			return wire.Report{}, false, err
		}
		s.c.Log.Error("model before cannot answer", keyModel, p.Name, keyVersion, p.Version, "error", err)
	}
	next := s.st.clone()
	next.Slots, next.Active, next.Candidate = [2]slot{}, -1, nil
	if err := s.put(next); err != nil {
		return wire.Report{}, false, err
	}
	s.activate(nil, nil)
	r = s.report(o, wire.StateReverted, wire.ReasonDesired, nil, 0)
	s.sweep()
	return r, true, nil
}

// switchTo loads, examines and activates what the other slot holds; swap is
// how the state changes.
func (s *Slots) switchTo(ctx context.Context, to slot, swap func(*state)) error {
	m, err := s.load(to.Digest, nil)
	if err != nil {
		return err
	}
	if err := m.examine(ctx); err != nil {
		m.close()
		return err
	}
	next := s.st.clone()
	swap(&next)
	if err := s.put(next); err != nil {
		m.close()
		return err
	}
	s.activate(m, nil)
	debug.FreeOSMemory()
	return nil
}

// activate has m answer. keep, where not nil, is the committed model that
// stays loaded until m's trial ends. Models that are neither are retired.
func (s *Slots) activate(m, keep *Model) {
	if m != nil && m != s.now && m != s.before {
		m.acquire()
	}
	s.mu.Lock()
	old := []*Model{s.now, s.before}
	s.now, s.before = m, keep
	s.mu.Unlock()
	for _, o := range old {
		if o != nil && o != m && o != keep {
			o.retire()
			o.Release()
		}
	}
}

// sweep removes blobs that neither slot nor a candidate needs. It is called
// with work held, when nothing is being fetched.
func (s *Slots) sweep() {
	s.mu.Lock()
	var keep []oci.Digest
	for _, m := range s.st.Slots {
		if m.Digest != "" {
			keep = append(keep, oci.Digest(m.Digest))
		}
	}
	if c := s.st.Candidate; c != nil && s.c.Layout.Has(oci.Digest(c.Offer.Manifest)) {
		keep = append(keep, oci.Digest(c.Offer.Manifest))
	}
	s.mu.Unlock()
	if freed, err := s.c.Layout.Sweep(keep...); err != nil {
		s.c.Log.Warn("old models are not swept", "error", err)
	} else if freed > 0 {
		s.c.Log.Debug("old models swept", "bytes", freed)
	}
	s.sweepHeads()
}

// Close releases what is loaded. Where a Try, Resume or Rollback is still
// under way, because a run of a model hangs, nothing is released: that can
// end with the process only.
func (s *Slots) Close() error {
	if !s.work.TryLock() {
		return nil
	}
	defer s.work.Unlock()
	s.activate(nil, nil)
	return nil
}

func clip(s string) string {
	if len(s) > 1000 {
		return s[:1000] + "…"
	}
	return s
}
