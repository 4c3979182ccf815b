package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dunlin/agent/slots"
	"dunlin/model/prep"
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
	m, err := l.signed("")
	if err != nil {
		return // there is none yet, or one is on trial: it is tried again
	}
	defer m.Release()
	if _, _, onTrial := l.a.slots.Committed(); onTrial {
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t, h, samples, err := l.begin(ctx, m, cancel)
	if err == nil && t != nil {
		err = l.train(ctx, m, h, t, samples)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel = nil
	if t == nil && err == nil {
		return
	}
	switch {
	case err == nil:
	case t == nil:
		l.a.log.Error("learning cannot begin", "model", m.Name, keyError, err)
		l.later = time.Now().Add(laterBy)
		return
	case errors.Is(context.Cause(ctx), slots.ErrSuperseded):
		return // it was forgotten
	case ctx.Err() != nil:
		t.Tries-- // a stop is no crash
	case errors.Is(err, slots.ErrNoHead):
		l.a.log.Info("learning is put off", "model", m.Name, keyError, err)
		l.later = time.Now().Add(laterBy)
		t.Tries--
	default:
		l.a.log.Error("learning failed", "model", m.Name, keyError, err)
		t.Ended, t.Why, t.Tries = "failed", clip(err.Error(), 1000), 0
	}
	if err := l.store.ended(t); err != nil {
		l.a.log.Error("outcome of a training is not kept", keyError, err)
	}
}

// begin takes the samples up and remembers that; t is nil where nothing is
// due.
func (l *learner) begin(ctx context.Context, m *slots.Model, cancel context.CancelCauseFunc) (t *Training, h *head.Head, samples []head.Sample, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.store.about.Digest != m.Digest || l.needs() != "" || time.Now().Before(l.later) {
		return nil, nil, nil, nil
	}
	s, err := l.ready(m)
	if err != nil {
		return nil, nil, nil, err
	}
	if samples, err = l.store.all(); err != nil {
		return nil, nil, nil, err
	}
	kept, err := s.kept(ctx, m, l.store.counts())
	if err != nil {
		return nil, nil, nil, err
	}
	t = &Training{At: l.a.clock.read().Wall, Seen: l.store.about.Seen, Tries: 1}
	if last := l.store.about.Last; last != nil && last.Ended == "" && last.Seen == t.Seen {
		t.Tries += last.Tries
	}
	if err := l.store.ended(t); err != nil {
		return nil, nil, nil, err
	}
	l.cancel = cancel
	return t, s.h, append(samples, kept...), nil
}

// kept returns what the head must hold on to: the questions of the pack's
// exam, where the signed answer is a class that was not taught.
func (s *student) kept(ctx context.Context, m *slots.Model, taught map[int]int) (all []head.Sample, err error) {
	if m.Exam() == nil {
		return nil, nil
	}
	at := slices.Index(m.Graph().Outputs, s.h.Output)
	for _, c := range m.Exam().Cases {
		best, err := prep.Output{Top: 1}.Classes(c.Outputs[at], nil, nil, nil)
		if err != nil || len(best) == 0 || taught[best[0].Index] > 0 || best[0].Index >= s.h.Classes {
			continue
		}
		feature, err := m.ExamFeature(ctx, s.backbone, c)
		if err != nil {
			return nil, err
		}
		all = append(all, head.Sample{Class: best[0].Index, Feature: feature, Kept: true})
	}
	return all, nil
}

// train fills in how the training went.
func (l *learner) train(ctx context.Context, m *slots.Model, h *head.Head, t *Training, samples []head.Sample) error {
	start := time.Now()
	outcome, err := h.Train(ctx, samples, head.Options{Seed: 1, Rest: l.rest(m)})
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
		Base: m.Digest, Output: h.Output, Layers: l.c.Layers, Delta: outcome.Delta,
	}, time.Duration(l.c.TrialS)*time.Second)
	if err != nil {
		return err
	}
	t.Ended, t.Why = string(r.State), strings.TrimSpace(string(r.Reason)+" "+r.Error)
	_, t.Head, _ = l.a.slots.Committed()
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
