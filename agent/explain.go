package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/png"
	"runtime/debug"
	"sync"
	"time"

	"dunlin/agent/probe"
	"dunlin/agent/slots"
	"dunlin/engine"
	"dunlin/explain"
	"dunlin/model"
	"dunlin/model/prep"
)

// explainIdle is how long a compiled explanation is kept for the next request.
const explainIdle = time.Minute

// explainer explains what the model that answers says. It has a program and a
// session of its own, compiled at the first request and given up after a minute
// without one, or when another model answers: so normal runs pay nothing, and
// wait for nothing but the decoding of one picture. It runs on one thread,
// which leaves the others, and the pool, to the pipeline.
type explainer struct {
	p       *pipeline
	options engine.Options

	mu      sync.Mutex // held over an explanation
	closed  bool
	model   *slots.Model // acquired as long as network is compiled of it; nil: none
	network *explain.Network
	idle    *time.Timer
}

func newExplainer(p *pipeline, o engine.Options) *explainer {
	o.Threads, o.Symbolic1 = 1, true
	e := &explainer{p: p, options: o}
	e.idle = time.AfterFunc(explainIdle, e.drop)
	return e
}

// forget has the network given up soon: another model answers.
func (e *explainer) forget() { e.idle.Reset(0) }

// drop gives up the network, and with it the hold on its model.
func (e *explainer) drop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.release()
}

// release is drop for who has the lock.
func (e *explainer) release() {
	if e.model == nil {
		return
	}
	e.network = nil
	e.model.Release()
	e.model = nil
	debug.FreeOSMemory()
}

// close waits for what is under way; its context has ended by then.
func (e *explainer) close() {
	e.idle.Stop()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.release()
}

// Explain answers the local HTTP.
func (n node) Explain(ctx context.Context, q probe.Question) (probe.Explanation, error) {
	return n.a.explainer.explain(ctx, q)
}

// explain makes the map and, where it is asked for, the picture of it.
func (e *explainer) explain(ctx context.Context, q probe.Question) (x probe.Explanation, err error) {
	start := time.Now()
	m, err := e.p.slots.Acquire()
	if err != nil {
		return x, fmt.Errorf("%w: %w", probe.ErrNotReady, err)
	}
	defer m.Release()
	if q.Model != "" && q.Model != m.Name {
		return x, fmt.Errorf("model %.80q: %w; %s version %d is active", q.Model, probe.ErrUnknownModel, m.Name, m.Version)
	}
	if m.Spec == nil {
		return x, fmt.Errorf("model %s does not say how it reads pictures: %w", m.Name, errInput)
	}
	if q.Picture == nil {
		newest := e.p.newest.Load()
		if newest == nil {
			return x, fmt.Errorf("%w: none was answered since the start, or it has more than %d MB; POST one", probe.ErrNoPicture, mostNewest>>20)
		}
		q.Picture = *newest
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.idle.Reset(explainIdle)
	if err := e.compile(m); err != nil {
		return x, err
	}
	back, input, err := e.decode(ctx, q.Picture)
	if err != nil {
		return x, err
	}
	class, found, err := e.find(ctx, m, input, q)
	if err != nil {
		return x, err
	}
	sum := sha256.Sum256(q.Picture)
	x = probe.Explanation{
		Model: m.Running(), Input: "sha256:" + hex.EncodeToString(sum[:]), Method: found.Method,
		Class: class, Label: explain.ClassName(class, labelsOf(m)), Score: found.Score, Runs: found.Runs, Complete: found.Complete,
		Width: found.Width, Height: found.Height, Values: found.Values,
	}
	if q.Draw {
		var b bytes.Buffer
		if err := sheltered(func() error { return png.Encode(&b, explain.Overlay(back, e.network.Input(), found)) }); err != nil {
			return x, err
		}
		x.PNG = b.Bytes()
	}
	x.Micros = time.Since(start).Microseconds()
	return x, nil
}

// compile makes the network of m, unless it is there.
func (e *explainer) compile(m *slots.Model) error {
	if e.closed {
		return fmt.Errorf("%w: the agent stops", probe.ErrNotReady)
	}
	if e.model != nil && e.model.Running() == m.Running() {
		return nil
	}
	e.release()
	again, err := e.p.slots.Acquire() // held as long as the network
	if err != nil {
		return fmt.Errorf("%w: %w", probe.ErrNotReady, err)
	}
	if again.Running() != m.Running() {
		again.Release()
		return probe.ErrSuperseded
	}
	var n *explain.Network
	err = sheltered(func() (err error) {
		n, err = explain.New(again.Answering(), *again.Spec, explain.Options{Engine: e.options})
		return err
	})
	if err != nil {
		again.Release()
		return fmt.Errorf("%w: %w", errInput, err)
	}
	e.model, e.network = again, n
	return nil
}

// decode makes the network's input of a picture, and what a map is drawn on,
// when it is this one's turn to be in memory.
func (e *explainer) decode(ctx context.Context, data []byte) (*image.Gray, []float32, error) {
	select {
	case e.p.decoding <- struct{}{}:
		defer func() { <-e.p.decoding }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	img, err := prep.Decode(data, e.p.limits)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errInput, err)
	}
	in := e.network.Input()
	t, err := model.NewTensor(model.F32, in.Shape()...)
	if err == nil {
		err = in.Picture(img, t)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errInput, err)
	}
	return explain.Backdrop(img), t.F32(), nil
}

// find chooses the class and makes its map, within the budget. That begins here:
// what was waited for, compiled and decoded before is not of it.
func (e *explainer) find(ctx context.Context, m *slots.Model, input []float32, q probe.Question) (class int, found *explain.Map, err error) {
	start := time.Now()
	err = sheltered(func() error {
		if q.Class != "" {
			class, err = explain.FindClass(q.Class, labelsOf(m), e.network.Classes())
		} else {
			var a explain.Answer
			a, err = e.network.Ask(input)
			class = a.Best()
		}
		if err != nil {
			return err
		}
		b := explain.Budget{Stop: func() bool { return time.Since(start) > q.Budget }}
		found, err = e.network.Explain(ctx, q.Method, input, class, b)
		return err
	})
	for _, known := range []error{explain.ErrClass, explain.ErrMethod, explain.ErrBudget} {
		if errors.Is(err, known) {
			err = fmt.Errorf("%w: %w", errInput, err)
		}
	}
	return class, found, err
}

// labelsOf returns the labels of the classes of m, nil where it has none.
func labelsOf(m *slots.Model) []string {
	if l := m.Labels(); len(l) > 0 || len(m.Spec.Outputs) == 0 {
		return l
	}
	return m.Spec.Outputs[0].Names
}

// sheltered turns a panic, and a fault in weights that are mapped from a card
// that cannot be read any more, into an error.
func sheltered(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("explain: %v", r)
		}
	}()
	return f()
}
