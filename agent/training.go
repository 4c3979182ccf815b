package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"dunlin/agent/slots"
	"dunlin/sync/wire"
	"dunlin/train/head"
)

const (
	// studentStays is how long a backbone stays compiled after it was used.
	studentStays = 30 * time.Second
	// quiet is how long no sample came before training begins, quietAtMost how
	// long that is waited for.
	quiet       = time.Second
	quietAtMost = 30 * time.Second
	// restAtMost bounds how long training waits for a frame to be done with,
	// so that a pipeline that is never idle holds it up, but not for ever.
	restAtMost = 250 * time.Millisecond
	restStep   = 2 * time.Millisecond
	workAtOnce = time.Millisecond
	// laterBy is how long a training is put off that could not be begun, or
	// whose head could not be taken because an offer was being fetched.
	laterBy = 5 * time.Minute
)

// run trains when there is enough that is new, until ctx ends.
func (l *learner) run(ctx context.Context) {
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.dismiss()
	}()
	l.kick() // what was there before a restart
	for ctx.Err() == nil {
		select {
		case <-l.wake:
			l.settle(ctx)
			l.lesson(ctx)
		case <-time.After(studentStays):
			l.mu.Lock()
			l.dismiss()
			l.mu.Unlock()
			l.lesson(ctx) // what could not be begun, or taken in, before
		case <-ctx.Done():
		}
	}
}

// settle waits until no sample came for a while.
func (l *learner) settle(ctx context.Context) {
	for end := time.Now().Add(quietAtMost); time.Now().Before(end); {
		select {
		case <-l.wake:
		case <-time.After(quiet):
			return
		case <-ctx.Done():
			return
		}
	}
}

// lesson trains once, where that is due, and takes what comes of it in.
func (l *learner) lesson(ctx context.Context) {
	l.training.Lock()
	defer l.training.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if !l.cancellable(cancel) {
		return
	}
	defer l.cancellable(nil)
	m, err := l.signed("")
	if err != nil {
		return // there is none yet, or one is on trial: it is tried again
	}
	defer m.Release()
	if _, _, onTrial := l.a.slots.Committed(); onTrial {
		return
	}
	if level, _ := l.a.governor.back(); level > 0 {
		return // it can wait until the board is cool, or has memory
	}
	if err := l.moved(m); err != nil {
		l.a.log.Error("lessons of another model are not dropped", keyError, err)
		return
	}
	c, err := l.begin(ctx, m)
	if err == nil && c != nil {
		err = l.train(ctx, m, c)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begun = false
	if c == nil && err == nil {
		return
	}
	switch {
	case err == nil:
	case errors.Is(context.Cause(ctx), slots.ErrSuperseded):
		return // it was forgotten
	case c == nil:
		l.a.log.Error("learning cannot begin", "model", m.Name, keyError, err)
		l.later = time.Now().Add(laterBy)
		return
	case ctx.Err() != nil:
		c.undo() // a stop is no crash
	case errors.Is(err, slots.ErrNoHead):
		l.a.log.Info("learning is put off", "model", m.Name, keyError, err)
		l.later = time.Now().Add(laterBy)
		c.undo()
	default:
		l.a.log.Error("learning failed", "model", m.Name, keyError, err)
		c.outcome.Ended, c.outcome.Why, c.outcome.Tries = "failed", clip(err.Error(), 1000), 0
	}
	if err := l.store.ended(c.outcome); err != nil {
		l.a.log.Error("outcome of a training is not kept", keyError, err)
	}
}

// cancellable has forget end what is under way with cancel, nil: nothing is. It
// returns false where a forget waits already.
func (l *learner) cancellable(cancel context.CancelCauseFunc) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cancel != nil && l.forgets > 0 {
		return false
	}
	l.cancel = cancel
	return true
}

// moved drops the lessons where they are of another model than the one that
// was committed.
func (l *learner) moved(m *slots.Model) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d := l.store.about.Digest; d == "" || d == m.Digest {
		return nil
	}
	return l.store.clear("", 0)
}

// course is what a training works on.
type course struct {
	h       *head.Head
	samples []head.Sample
	anchors [][]byte
	outcome *Training
	tries   int // before this one
}

// undo makes the training one that was not begun.
func (c *course) undo() {
	*c.outcome = Training{At: c.outcome.At, Seen: c.outcome.Seen, Tries: c.tries}
}

// begin takes the samples up and remembers that; it returns nil where nothing
// is due.
func (l *learner) begin(ctx context.Context, m *slots.Model) (*course, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.store.about.Digest != m.Digest || l.needs() != "" || time.Now().Before(l.later) {
		return nil, nil
	}
	s, err := l.ready(m)
	if err != nil {
		return nil, err
	}
	c := &course{h: s.h, outcome: &Training{At: l.a.clock.read().Wall, Seen: l.store.about.Seen}}
	if c.samples, err = l.store.all(); err != nil {
		return nil, err
	}
	if c.anchors, err = s.anchors(ctx, m); err != nil {
		return nil, err
	}
	if last := l.store.about.Last; last != nil && last.Ended == "" && last.Seen == c.outcome.Seen {
		c.tries = last.Tries
	}
	c.outcome.Tries = c.tries + 1
	if err := l.store.ended(c.outcome); err != nil {
		return nil, err
	}
	l.begun = true
	return c, nil
}

// anchors returns the features of the questions of the pack's exam: inputs of
// the kind that the network was made for.
func (s *student) anchors(ctx context.Context, m *slots.Model) (all [][]byte, err error) {
	if m.Exam() == nil {
		return nil, nil
	}
	for _, c := range m.Exam().Cases {
		feature, err := m.ExamFeature(ctx, s.backbone, c)
		if err != nil {
			return nil, err
		}
		all = append(all, feature)
	}
	return all, nil
}

// train fills in how the training went.
func (l *learner) train(ctx context.Context, m *slots.Model, c *course) error {
	t := c.outcome
	start := time.Now()
	outcome, err := c.h.Train(ctx, c.samples, head.Options{Seed: 1, Anchors: c.anchors, Rest: l.rest(m)})
	if err != nil {
		return err
	}
	l.a.log.Info("learned", "model", m.Name, "took", time.Since(start), "outcome", outcome.String())
	t.Outcome, t.Tries = outcome, 0
	if !outcome.Better() {
		t.Ended, t.Why = "refused", fmt.Sprintf("it is not better than the signed head: %v; a chance of at most %g is wanted", outcome, head.Significant)
		// Nor does anything speak for a head of before any more.
		_, err := l.a.slots.Forget(ctx)
		return err
	}
	r, err := l.a.slots.Learn(ctx, slots.Head{
		Base: m.Digest, Output: c.h.Output, Layers: l.c.Layers, Delta: outcome.Delta,
	}, time.Duration(l.c.TrialS)*time.Second)
	if err == nil && r.Reason == wire.ReasonDesired {
		err = fmt.Errorf("%w: an offer came meanwhile", slots.ErrNoHead)
	}
	if err != nil {
		return err
	}
	t.Ended, t.Why = string(r.State), strings.TrimSpace(string(r.Reason)+" "+r.Error)
	if r.State == wire.StateActive {
		_, t.Head, _ = l.a.slots.Committed()
	}
	return nil
}

// rest returns what has the pipeline go first: after each millisecond or so of
// work, training waits until no frame is looked at, or for a while. It fails
// where the model that is taught answers no more.
func (l *learner) rest(m *slots.Model) func(context.Context) error {
	rested := time.Now()
	return func(ctx context.Context) error {
		if time.Since(rested) < workAtOnce {
			return ctx.Err()
		}
		if digest, _, _ := l.a.slots.Committed(); digest != m.Digest {
			return fmt.Errorf("%w: another model answers", slots.ErrNoHead)
		}
		if level, why := l.a.governor.back(); level > 0 {
			return fmt.Errorf("%w: the device holds itself back: %s", slots.ErrNoHead, why)
		}
		for waited := time.Duration(0); l.a.p.busy() && waited < restAtMost; waited += restStep {
			select {
			case <-time.After(restStep):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		rested = time.Now()
		return ctx.Err()
	}
}
