package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"dunlin/agent/slots"
	"dunlin/agent/source"
	"dunlin/sync/wire"
)

// errRejected ends a command that makes no sense.
var errRejected = errors.New("command rejected")

// command does what the hub ordered, once: the outcome of an id that was done
// before is said again. It is answered twice, when it came and when it ended.
func (h *hub) command(ctx context.Context, c wire.Cmd) {
	if c.ID == "" || !h.begin(c.ID) {
		return // under way: its outcome will be said
	}
	defer h.end(c.ID)
	h.a.count.commands.Inc()
	known, err := h.a.journal.outcome(c.ID)
	if err != nil {
		h.a.log.Error("outcome of a command cannot be read", "id", c.ID, keyError, err)
	}
	if known != nil {
		h.answer(ctx, *known)
		return
	}
	h.answer(ctx, wire.CmdAck{ID: c.ID, Phase: wire.CmdReceived})
	ack := wire.CmdAck{ID: c.ID, Phase: wire.CmdDone}
	if why := h.expired(c); why != "" {
		ack.Phase, ack.Error = wire.CmdExpired, why
	} else if result, err := h.perform(ctx, c); err != nil {
		if ctx.Err() != nil {
			return // the agent stops; the hub asks again
		}
		ack.Phase, ack.Error = wire.CmdRejected, clip(err.Error(), 1000)
		if errors.Is(err, errLate) {
			ack.Phase = wire.CmdExpired
		}
	} else {
		ack.Result = result
	}
	h.a.log.Info("command", "id", c.ID, "name", c.Name, "phase", ack.Phase, keyError, ack.Error)
	if err := h.a.journal.keepOutcome(ack); err != nil {
		h.a.log.Error("outcome of a command is not kept", "id", c.ID, keyError, err)
	}
	h.answer(ctx, ack)
}

func (h *hub) answer(ctx context.Context, ack wire.CmdAck) {
	payload, err := wire.Encode(ack)
	h.say(ctx, wire.UpCmdAck, payload, err)
}

func (h *hub) begin(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.busy[id] {
		return false
	}
	h.busy[id] = true
	return true
}

func (h *hub) end(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.busy, id)
}

// expired says why a command is not to be done any more, "" where it is. A
// board that does not know the time takes it: it came just now.
func (h *hub) expired(c wire.Cmd) string {
	if c.Boot != "" && c.Boot != h.a.boot {
		return "it was for an earlier boot"
	}
	if now, ok := h.a.clock.now(); ok && !c.NotAfter.IsZero() && now.After(c.NotAfter) {
		return "it was not to be done after " + c.NotAfter.UTC().Format("2006-01-02T15:04:05Z")
	}
	return ""
}

// commandTime is how long a command is tried that has no end, or on a board
// that does not know the time.
const commandTime = time.Hour

// left returns what tells how much longer a command may be tried.
func (h *hub) left(c wire.Cmd) func() time.Duration {
	came := time.Now()
	return func() time.Duration {
		now, ok := h.a.clock.now()
		if !ok || c.NotAfter.IsZero() {
			return commandTime - time.Since(came)
		}
		return c.NotAfter.Sub(now)
	}
}

func (h *hub) perform(ctx context.Context, c wire.Cmd) (json.RawMessage, error) {
	switch c.Name {
	case wire.CmdInfer:
		return h.infer(ctx, c)
	case wire.CmdActivate:
		return h.activate(ctx, c)
	case wire.CmdRollback:
		return h.rollback(ctx, c)
	case wire.CmdStatus:
		return json.Marshal(h.a.Status())
	case wire.CmdLogLevel:
		return h.logLevel(c)
	}
	return nil, fmt.Errorf("%w: %q is none that this agent knows", errRejected, c.Name)
}

// rollback leaves the model that answers. Which one that was is on the disk
// before anything changes: a command that comes again after a crash leaves
// that one, and not the one that it went back to.
func (h *hub) rollback(ctx context.Context, c wire.Cmd) (json.RawMessage, error) {
	var leave struct {
		ID     string `json:"id"`
		Digest string `json:"digest"`
	}
	h.rolling.Lock() // one is remembered at a time
	defer h.rolling.Unlock()
	if err := h.a.journal.get("rollback", &leave); err != nil {
		return nil, err
	}
	if leave.ID != c.ID {
		r := h.a.slots.Running()
		if r == nil {
			return nil, slots.ErrNoModel
		}
		leave.ID, leave.Digest = c.ID, r.Digest
		if err := h.a.journal.put("rollback", leave); err != nil {
			return nil, err
		}
	}
	r, err := h.a.slots.Rollback(ctx, leave.Digest)
	if err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

// infer answers a picture that came with the command. A result of it that is
// in the outbox from before a crash is its answer too.
func (h *hub) infer(ctx context.Context, c wire.Cmd) (json.RawMessage, error) {
	if r, ok := h.a.kept.byCommand[c.ID]; ok {
		return json.Marshal(r)
	}
	var args struct {
		Input []byte `json:"input"`
	}
	if err := json.Unmarshal(c.Args, &args); err != nil {
		return nil, fmt.Errorf("%w: args: %w", errRejected, err)
	}
	r, err := h.a.p.process(ctx, source.New(commandSource+c.ID, args.Input), func(r wire.Result) {
		result, err := json.Marshal(r)
		if err == nil {
			err = h.a.journal.keepOutcome(wire.CmdAck{ID: c.ID, Phase: wire.CmdDone, Result: result})
		}
		if err != nil {
			h.a.log.Error("outcome of a command is not kept", "id", c.ID, keyError, err)
		}
	})
	if err != nil {
		h.a.giveUpOn(err)
		return nil, err
	}
	return json.Marshal(r)
}

// activate takes an offer down the road of Desired, and waits for its end.
func (h *hub) activate(ctx context.Context, c wire.Cmd) (json.RawMessage, error) {
	var o wire.Offer
	if err := json.Unmarshal(c.Args, &o); err != nil {
		return nil, fmt.Errorf("%w: args: %w", errRejected, err)
	}
	l := h.a.models
	switch o.Kind {
	case wire.OfferModel:
	case wire.OfferFacts:
		l = h.a.graphs
	default:
		return nil, fmt.Errorf("%w: offer of kind %q", errRejected, o.Kind)
	}
	type end struct {
		r   wire.Report
		err error
	}
	ended := make(chan end, 1)
	l.put(order{offer: o, done: func(r wire.Report, err error) { ended <- end{r, err} }, left: h.left(c)})
	select {
	case e := <-ended:
		if e.err != nil {
			return nil, e.err
		}
		if e.r.State != wire.StateActive {
			return nil, fmt.Errorf("%s: %s: %s", e.r.State, e.r.Reason, e.r.Error)
		}
		return json.RawMessage("{}"), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (h *hub) logLevel(c wire.Cmd) (json.RawMessage, error) {
	var args struct {
		Level string `json:"level"`
	}
	if err := json.Unmarshal(c.Args, &args); err != nil {
		return nil, fmt.Errorf("%w: args: %w", errRejected, err)
	}
	to, ok := levels[args.Level]
	if !ok {
		return nil, fmt.Errorf("%w: level %.20q: want debug, info, warn or error", errRejected, args.Level)
	}
	was := ""
	for name, l := range levels {
		if l == h.a.level.Level() {
			was = name
		}
	}
	h.a.level.Set(to)
	return json.Marshal(map[string]string{"was": was})
}
