package slots

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"dunlin/internal/oci"
	"dunlin/sync/wire"
)

// ErrAgain is returned by Try, wrapped, where the offer could not be fetched now
// and may be later.
var ErrAgain = errors.New("try again later")

// Try takes an offer through signature, fetch, digests, compilation, exam and
// trial, and returns how it ended: active, reverted or refused. It blocks as
// long as that takes, the trial's time included. A model that is active
// already is so at once; one that the other slot holds is examined and
// exchanged, without fetch and trial.
//
// err is set where nothing was decided: it wraps ErrAgain, the cause of ctx's
// end, or what the disk said. What is on trial when ctx ends goes on at the
// next Open and Resume, unless the cause is ErrSuperseded.
func (s *Slots) Try(ctx context.Context, o wire.Offer) (wire.Report, error) {
	s.endLearned(wire.ReasonDesired) // what is offered goes before what was learned
	s.trying.Lock()
	defer s.trying.Unlock()
	if r, ended, err := s.consider(o); ended || err != nil {
		return r, err
	}
	if s.held() != o.Manifest {
		// A rollback can be asked for meanwhile: it sweeps nothing.
		if err := s.fetch(ctx, o); err != nil {
			s.work.Lock()
			defer s.work.Unlock()
			return s.refused(o, err)
		}
	}
	s.work.Lock()
	defer s.work.Unlock()
	if to := s.st.previous(); to.Digest == o.Manifest {
		return s.exchange(ctx, o, to)
	}
	if s.isUnread(o.Manifest) {
		return s.readAgain(o)
	}
	m, err := s.prepare(ctx, o)
	if err != nil {
		return s.refused(o, err)
	}
	next := s.st.clone()
	next.begin(o, wire.StateTrial)
	if err := s.put(next); err != nil {
		m.close()
		return wire.Report{}, err
	}
	s.activate(m, s.now)
	return s.trial(ctx, o, m)
}

// consider ends what can be ended without a fetch.
func (s *Slots) consider(o wire.Offer) (r wire.Report, ended bool, err error) {
	s.work.Lock()
	defer s.work.Unlock()
	if c := s.st.Candidate; c != nil && c.Learned != nil { // it may have the digest that is offered
		if err := s.abandon(o); err != nil {
			return wire.Report{}, true, err
		}
	}
	if a := s.st.active(); a.Digest == o.Manifest && s.st.Candidate == nil && !s.isUnread(a.Digest) {
		return s.report(o, wire.StateActive, wire.ReasonNone, nil, a.P95MS), true, nil
	}
	if err := s.abandon(o); err != nil {
		return wire.Report{}, true, err
	}
	if err := s.acceptable(o); err != nil {
		r, err := s.refused(o, err)
		return r, true, err
	}
	return wire.Report{}, false, s.unreadable.wait(o.Manifest)
}

// held returns the digest in the other slot.
func (s *Slots) held() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.st.previous().Digest
}

// abandon gives up a candidate that is not the one offered.
func (s *Slots) abandon(o wire.Offer) error {
	c := s.st.Candidate
	if c == nil || c.Offer.Manifest == o.Manifest && c.Stage == wire.StateExamining {
		return nil
	}
	return s.end(c, wire.ReasonDesired)
}

// end gives up a candidate, whether it answers or not.
func (s *Slots) end(c *candidate, why wire.Reason) error {
	if s.answersOnTrial() {
		_, err := s.revert(c.Offer, why, nil)
		return err
	}
	next := s.st.clone()
	next.Candidate = nil
	return s.put(next)
}

// answersOnTrial reports whether it is the candidate that answers. Where its
// end could not be written, the committed model does, and a learned candidate
// has the digest of that one. It is called with work or mu held.
func (s *Slots) answersOnTrial() bool {
	c := s.st.Candidate
	if c == nil || c.Stage != wire.StateTrial || s.now == nil || s.now.Digest != c.Offer.Manifest {
		return false
	}
	if c.Learned == nil {
		return true // before is nil where the card does not give the committed model
	}
	return s.now.Learned == c.Learned.N && s.before != nil
}

// refused ends an offer that never answered, where err is a refusal; other
// errors decide nothing.
func (s *Slots) refused(o wire.Offer, err error) (wire.Report, error) {
	why, ok := errors.AsType[*refusal](err)
	if !ok {
		return wire.Report{}, err
	}
	r := s.report(o, wire.StateRefused, why.why, why.err, 0)
	if s.st.Candidate != nil {
		next := s.st.clone()
		next.Candidate = nil
		if err := s.put(next); err != nil {
			return r, err
		}
	}
	s.sweep()
	return r, nil
}

// acceptable refuses what can be refused before a byte of it is fetched.
func (s *Slots) acceptable(o wire.Offer) error {
	if o.Kind != wire.OfferModel {
		return refuse(wire.ReasonBroken, fmt.Errorf("offer of kind %q, want %q", o.Kind, wire.OfferModel))
	}
	if _, err := oci.ParseDigest(o.Manifest); err != nil {
		return refuse(wire.ReasonBroken, err)
	}
	if err := s.c.Trust.Verify(wire.OfferModel.Purpose(), []byte(o.Manifest), o.Sig); err != nil {
		return refuse(SignatureReason(err), err)
	}
	if o.Manifest == s.st.previous().Digest || o.Manifest == s.st.active().Digest { // the card may not give the active one
		return nil
	}
	return s.notOlder(o.Name, o.Version)
}

// prepare does what comes between fetch and trial.
func (s *Slots) prepare(ctx context.Context, o wire.Offer) (*Model, error) {
	next := s.st.clone()
	if ok := next.begin(o, wire.StateExamining); !ok {
		return nil, refuse(wire.ReasonCrashed, fmt.Errorf("the agent died %d times examining it", MaxAttempts))
	}
	if err := s.put(next); err != nil {
		return nil, err
	}
	s.report(o, wire.StateExamining, wire.ReasonNone, nil, 0)
	m, err := s.examined(ctx, o)
	if err != nil && !errors.As(err, new(*refusal)) {
		s.undecided(o, err)
	}
	return m, err
}

// undecided ends an exam without a verdict. That counts as no attempt; those
// before it do where the exam was stopped. What lies in a bad place of the card
// is removed, to be fetched to another; at last it stays, and keeps that place
// taken.
func (s *Slots) undecided(o wire.Offer, why error) {
	if cardFailed(why) {
		s.report(o, wire.StateExamining, wire.ReasonBroken, s.unreadable.again(o.Manifest, why), 0)
	}
	next := s.st.clone()
	if s.noVerdict(why) || errors.Is(why, ErrSuperseded) {
		next.Candidate = nil
	} else {
		next.takeBack()
	}
	if err := s.put(next); err != nil {
		s.c.Log.Error("end of an attempt is not kept", keyModel, o.Name, keyVersion, o.Version, "error", err)
		return
	}
	if badPlace(why) && s.unreadable.fetches < mostFetches {
		s.sweep()
	}
}

// readAgain has a committed model answer that the card could not read before.
func (s *Slots) readAgain(o wire.Offer) (wire.Report, error) {
	a := s.st.active()
	m, err := s.load(a.Digest, a.Learned)
	if err != nil && s.noVerdict(err) {
		s.report(o, wire.StateExamining, wire.ReasonBroken, s.unreadable.again(o.Manifest, err), 0)
		return wire.Report{}, err
	}
	if err != nil { // there is nothing to be kept of it
		next := s.st.clone()
		next.drop()
		if err := s.put(next); err != nil {
			return wire.Report{}, err
		}
		return s.refused(o, err)
	}
	s.activate(m, nil)
	return s.report(o, wire.StateActive, wire.ReasonNone, nil, a.P95MS), nil
}

// examined loads a fetched model and has it answer its exam.
func (s *Slots) examined(ctx context.Context, o wire.Offer) (*Model, error) {
	m, err := s.load(o.Manifest, nil)
	if err != nil {
		return nil, err
	}
	// The manifest is what is signed; the offer only says what is in it.
	if err := s.notOlder(m.Name, m.Version); err != nil {
		m.close()
		return nil, err
	}
	if m.Name != o.Name || m.Version != o.Version {
		m.close()
		return nil, refuse(wire.ReasonBroken, fmt.Errorf("offered as %s version %d, its manifest says %s version %d", o.Name, o.Version, m.Name, m.Version))
	}
	if err := m.examine(ctx); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

// notOlder refuses a version below the highest that was ever committed under
// this name.
func (s *Slots) notOlder(name string, version int64) error {
	if newest := s.st.Newest[name]; version < newest {
		return refuse(wire.ReasonOlder, fmt.Errorf("%s version %d: version %d was active here, and an older one is taken only where the other slot holds it", name, version, newest))
	}
	return nil
}

// fetch brings the blobs, and says where that is.
func (s *Slots) fetch(ctx context.Context, o wire.Offer) error {
	s.report(o, wire.StateFetching, wire.ReasonNone, nil, 0)
	told, last := time.Now(), int64(0)
	progress := func(done, _ int64) {
		if done != last && time.Since(told) > 2*time.Second {
			told, last = time.Now(), done
			r := wire.Report{
				Kind: wire.OfferModel, Name: o.Name, Version: o.Version, Digest: o.Manifest,
				State: wire.StateFetching, Bytes: done, At: s.c.Clock(),
			}
			s.c.Report(r)
		}
	}
	err := s.c.Fetch(ctx, o, progress)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("fetch %s: %w", o.Name, context.Cause(ctx))
	}
	why, again := FetchReason(err)
	if !again {
		return refuse(why, err)
	}
	s.report(o, wire.StateFetching, why, err, 0)
	return fmt.Errorf("fetch %s: %w: %w", o.Name, ErrAgain, err)
}

// exchange activates what the other slot holds: it was committed once.
func (s *Slots) exchange(ctx context.Context, o wire.Offer, to slot) (wire.Report, error) {
	if err := s.switchTo(ctx, to, (*state).swap); err != nil {
		return s.refused(o, err)
	}
	return s.report(o, wire.StateActive, wire.ReasonNone, nil, to.P95MS), nil
}

// Resume ends the trial that a restart interrupted; ok is false where there
// was none.
func (s *Slots) Resume(ctx context.Context) (r wire.Report, ok bool, err error) {
	s.trying.Lock()
	defer s.trying.Unlock()
	s.work.Lock()
	defer s.work.Unlock()
	if !s.answersOnTrial() {
		return wire.Report{}, false, nil
	}
	r, err = s.trial(ctx, s.st.Candidate.Offer, s.now)
	return r, true, err
}

// trial watches the model that answers until it is judged.
func (s *Slots) trial(ctx context.Context, o wire.Offer, m *Model) (wire.Report, error) {
	before := s.st.active().P95MS
	if s.before != nil {
		if p := s.before.tally.p95(); p > 0 {
			before = p
		}
	}
	rules := resolve(o.Trial, before)
	m.tally.begin(rules.limit)
	m.onTrial.Store(true)
	defer m.onTrial.Store(false)
	abort, done := s.abortable(o.Kind)
	defer done()
	s.report(o, wire.StateTrial, wire.ReasonNone, nil, 0)

	exercise, stop := context.WithCancel(ctx)
	defer stop() // a run that hangs keeps its goroutine: nothing can end it
	m.acquire()
	go func() {
		defer m.Release()
		m.exercise(exercise, rules.minRuns)
	}()
	why, err := s.watch(ctx, m, rules, abort)
	stop()
	switch {
	case err != nil:
		return s.interrupted(ctx, o, err)
	case why != wire.ReasonNone:
		return s.revert(o, why, trialError(why, rules, m))
	}
	return s.commit(o, m)
}

// watch returns the verdict, or the cause of ctx's end.
func (s *Slots) watch(ctx context.Context, m *Model, r rules, abort <-chan wire.Reason) (wire.Reason, error) {
	start := time.Now()
	ends := []<-chan time.Time{time.After(r.span), time.After(r.deadline)}
	for {
		if done, why := r.verdict(m.tally.count(), time.Since(start)); done {
			return why, nil
		}
		select {
		case <-m.tally.news:
		case <-ends[0]:
			ends[0] = nil
		case <-ends[1]:
			ends[1] = nil
		case why := <-abort:
			return why, nil
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

func trialError(why wire.Reason, r rules, m *Model) error {
	c := m.tally.count()
	switch why {
	case wire.ReasonTooSlow:
		return fmt.Errorf("%d of %d inferences took more than %v; p95 is %.3g ms", c.slow, c.runs, r.limit, m.tally.p95())
	case wire.ReasonErrors:
		return fmt.Errorf("%d inferences failed, at most %d may", c.errors, r.maxErrors)
	}
	return nil
}

// interrupted ends the watch without a verdict. A clean stop is no crash: the
// attempt is taken back.
func (s *Slots) interrupted(ctx context.Context, o wire.Offer, cause error) (wire.Report, error) {
	if errors.Is(context.Cause(ctx), ErrSuperseded) {
		if _, err := s.revert(o, wire.ReasonDesired, nil); err != nil {
			return wire.Report{}, err
		}
		return wire.Report{}, cause
	}
	next := s.st.clone()
	next.takeBack()
	return wire.Report{}, errors.Join(cause, s.put(next))
}

// commit makes the model on trial the active one for good.
func (s *Slots) commit(o wire.Offer, m *Model) (wire.Report, error) {
	p95 := m.tally.p95()
	next := s.st.clone()
	if o.Kind == kindLearned {
		next.keep(p95)
	} else {
		next.commit(slot{Name: m.Name, Version: m.Version, Digest: m.Digest, P95MS: p95})
	}
	if err := s.put(next); err != nil {
		// What cannot be kept must not answer either.
		s.activate(s.before, nil)
		return wire.Report{}, err
	}
	s.activate(m, nil)
	debug.FreeOSMemory() // compiling left twice the weights behind: give them back to the board
	r := s.report(o, wire.StateActive, wire.ReasonNone, nil, p95)
	s.sweep()
	return r, nil
}

// revert has the committed model answer again, or none where there was none.
func (s *Slots) revert(o wire.Offer, why wire.Reason, cause error) (wire.Report, error) {
	p95 := 0.0
	if s.now != nil {
		p95 = s.now.tally.p95()
	}
	next := s.st.clone()
	next.Candidate = nil
	err := s.put(next)
	s.activate(s.before, nil) // also where the disk is full: this model must not answer
	if err != nil {
		return wire.Report{}, err
	}
	r := s.report(o, wire.StateReverted, why, cause, p95)
	s.sweep()
	return r, nil
}
