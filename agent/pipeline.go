package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dunlin/agent/probe"
	"dunlin/agent/slots"
	"dunlin/agent/source"
	"dunlin/engine"
	"dunlin/facts"
	"dunlin/facts/cache"
	"dunlin/model/prep"
	"dunlin/sync/outbox"
	"dunlin/sync/wire"
)

// pipeline is the way of a frame to an answer.
type pipeline struct {
	slots     *slots.Slots
	facts     *cache.Cache
	box       *outbox.Outbox
	clock     *hubClock
	boot      string
	perResult int
	limits    prep.Limits
	log       *slog.Logger
	count     *counters
	rules     *rules // nil: none
	readings  *readings
	card      func() error // why nothing can be kept, nil where it can

	// acks is held for reading from before a result is put until its input is
	// settled (the file moved, the command's outcome stored), and for writing
	// while an acknowledgement of the hub is passed on. So whatever is
	// unsettled after a crash still has its result in the outbox, where the
	// next start finds it, and no input is answered for twice.
	acks  sync.RWMutex
	heart heart

	decoding chan struct{}          // of one place: whoever is in it may decode a picture
	newest   atomic.Pointer[[]byte] // file of the picture that was answered last, nil where it is large: to be explained
	tries    *tries
}

// errInput is wrapped by errors about the input itself.
var errInput = probe.ErrInput

// process takes a frame all the way: picture -> tensors -> inference ->
// labels -> facts -> result -> outbox -> settle -> rules -> answer. When it
// returns nil the result is on the disk. settle, where not nil, is told of the
// result right after that; then the rules see it, and do not hold it up.
//
// An input that cannot be used is an error that wraps errInput, and for a
// frame for which nobody waits (Frame.Alone) a result with Error set as well.
// So is, after three tries, an inference that fails.
func (p *pipeline) process(ctx context.Context, f source.Frame, settle func(wire.Result)) (wire.Result, error) {
	if err := p.card(); err != nil { // an inference that is for nothing
		return wire.Result{}, fmt.Errorf("%w: %w", errCard, err)
	}
	m, err := p.slots.Acquire()
	if err != nil {
		return wire.Result{}, fmt.Errorf("%w: %w", probe.ErrNotReady, err)
	}
	defer m.Release()
	r := wire.Result{
		ID: f.ID, Clock: p.clock.at(f.Taken), Boot: p.boot, Source: f.Source, Input: f.Input, Model: m.Running(),
		Facts: p.readings.facts(time.Now()),
	}
	if err := p.answer(ctx, m, f, &r); err != nil {
		_, failed := errors.AsType[*slots.RunError](err)
		final := errors.Is(err, errInput) && !f.Fresh || failed && f.Tries >= 2 && !p.slots.OnTrial()
		if !f.Alone || !final {
			return r, err
		}
		p.log.Warn("input cannot be used", "source", f.Source, keyError, err)
		r.Labels, r.Error = nil, clip(err.Error(), 1000)
	}
	if f.Looked != nil {
		f.Looked()
	}
	if err := p.keep(ctx, &r, settle); err != nil {
		return r, err
	}
	p.count.result(r)
	p.rules.apply(r.Labels)
	return r, nil
}

// answer fills in what the model and the facts say.
func (p *pipeline) answer(ctx context.Context, m *slots.Model, f source.Frame, r *wire.Result) error {
	if m.Spec == nil {
		return fmt.Errorf("model %s does not say how it reads pictures: %w", m.Name, errInput)
	}
	if f.Data == nil {
		return fmt.Errorf("larger than this device takes: %w", errInput)
	}
	key := tryKey(f)
	if n := p.tries.count(key); n >= slots.MaxAttempts {
		return fmt.Errorf("the agent died %d times while it looked at this: %w", n, errInput)
	}
	fill := func(s *engine.Session) error {
		// A model on trial that kills the process is judged by its own count.
		if !p.slots.OnTrial() {
			if err := p.tries.begin(key); err != nil {
				p.log.Warn("try is not remembered", "source", f.Source, keyError, err)
			}
		}
		return p.fill(ctx, m, f.Data, s)
	}
	end := func() { p.tries.end(key) }
	var best []prep.Label
	read := func(s *engine.Session) (err error) {
		r.Model = m.Answered(s)
		for _, out := range m.Spec.Outputs {
			for i, port := range m.Outputs() {
				if port.Name == out.Name {
					best, err = out.Classes(s.Output(i), m.Labels(), m.Entities(), best)
				}
				if err != nil {
					return &slots.RunError{Model: m.Name, Err: err}
				}
			}
		}
		return nil
	}
	took, err := m.Do(ctx, slots.Job{Fill: fill, Read: read, End: end})
	if err != nil {
		return err
	}
	p.remember(m, f.Data)
	p.count.inference.Update(took.Seconds())
	r.Micros = took.Microseconds()
	for _, l := range best {
		r.Labels = append(r.Labels, wire.Label{Index: l.Index, Label: l.Label, Score: l.Score, Entity: l.Entity})
	}
	p.enrich(r)
	return nil
}

// mostNewest bounds the file of a picture that is kept in memory to be
// explained, in bytes: a camera's have a tenth of that.
const mostNewest = 4 << 20

// remember keeps the file of a picture for GET /v1/explain. No copy is made:
// the bytes are the frame's own.
func (p *pipeline) remember(m *slots.Model, data []byte) {
	if m.Spec.Inputs[0].Kind != "picture" {
		return
	}
	if len(data) > mostNewest {
		p.newest.Store(nil) // rather none than one that is not the newest
		return
	}
	p.newest.Store(&data)
}

// fill decodes a picture or a sound and makes the inputs of it. That is done in the
// model's turn, and for one picture at a time whatever models there are: what
// a small file becomes in memory is tens of megabytes.
func (p *pipeline) fill(ctx context.Context, m *slots.Model, data []byte, s *engine.Session) error {
	select {
	case p.decoding <- struct{}{}:
		defer func() { <-p.decoding }()
	case <-ctx.Done():
		return ctx.Err()
	}
	given := input{data: data, limits: p.limits}
	for i, port := range m.Inputs() {
		for _, in := range m.Spec.Inputs {
			if in.Name != port.Name {
				continue
			}
			if err := given.fill(in, s.Input(i)); err != nil {
				return fmt.Errorf("%w: %w", errInput, err)
			}
		}
	}
	return nil
}

// enrich adds the facts about the best label that stands for an entity. That
// there are none, or that they cannot be read, is no reason to hold an answer
// back.
func (p *pipeline) enrich(r *wire.Result) {
	v := p.facts.Version()
	if v.Graph == "" || len(r.Labels) == 0 || r.Labels[0].Entity == "" || p.perResult == 0 {
		return
	}
	found, err := p.facts.Enrich(r.Labels[0].Entity, p.perResult)
	if err != nil {
		p.count.factErrors.Inc()
		p.log.Warn("facts cannot be read", keyError, err)
		return
	}
	r.Facts, r.FactsAt = append(found, r.Facts...), &wire.FactsVersion{Graph: v.Graph, Version: v.Version}
}

// keep puts the result on the disk, then settles its input.
func (p *pipeline) keep(ctx context.Context, r *wire.Result, settle func(wire.Result)) error {
	body, err := json.Marshal(r)
	for n := graphFacts(r.Facts); err == nil && len(body) > wire.MaxBody && n > 0; n /= 2 {
		r.Facts = slices.Delete(r.Facts, n/2, n) // long facts: rather fewer than no result
		body, err = json.Marshal(r)
	}
	if err != nil {
		return fmt.Errorf("result %s: %w", r.ID, err)
	}
	p.acks.RLock()
	defer p.acks.RUnlock()
	p.heart.putting()
	_, err = p.box.Put(ctx, wire.RecordResult, body)
	p.heart.put()
	if err != nil {
		p.count.lost.Inc()
		return err
	}
	if settle != nil {
		settle(*r)
	}
	return nil
}

// graphFacts counts the facts of a result that the graph has: they stand before
// what was measured, which is short.
func graphFacts(all []facts.Answer) int {
	n := slices.IndexFunc(all, func(f facts.Answer) bool { return f.Measured != nil })
	if n < 0 {
		return len(all)
	}
	return n
}

// busy reports whether a frame is being looked at.
func (p *pipeline) busy() bool {
	m, err := p.slots.Acquire()
	if err != nil {
		return false
	}
	defer m.Release()
	return m.Busy()
}

// kept is what the outbox held at start of inputs that may not be settled.
type kept struct{ byFile, byCommand map[string]wire.Result }

// readKept looks through the outbox for the results of files and commands.
func readKept(box *outbox.Outbox) (kept, error) {
	k := kept{map[string]wire.Result{}, map[string]wire.Result{}}
	for from := box.State().First; ; {
		records, err := box.Next(from, 500, 1<<20)
		if err != nil || len(records) == 0 {
			return k, err
		}
		for _, rec := range records {
			if from, err = rec.Next(); err != nil {
				return k, err
			}
			var r wire.Result
			if rec.Kind != wire.RecordResult || json.Unmarshal(rec.Body, &r) != nil {
				continue
			}
			if id, ok := strings.CutPrefix(r.Source, commandSource); ok {
				k.byCommand[id] = r
			} else if name, ok := strings.CutPrefix(r.Source, "folder:"); ok {
				k.byFile[name] = wire.Result{ID: r.ID, Error: r.Error} // the newest: the file waits while it is answered
			}
		}
	}
}

// commandSource begins the Source of a result that a command asked for.
const commandSource = "mqtt:"

func clip(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}
