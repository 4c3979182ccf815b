package hub

import (
	"context"
	"errors"
	"slices"
	"time"

	"dunlin/hub/api"
	"dunlin/hub/rollout"
	"dunlin/sync/link"
	"dunlin/sync/wire"
)

// The speaker is the goroutine that publishes: desired documents that changed
// and commands that are due. It also carries what happens with time. Only
// acknowledgements of results are sent by others, right after their commit.
const (
	tickEvery    = 500 * time.Millisecond
	flushEvery   = 2 * time.Second
	trimEvery    = 10 * time.Minute
	publishLimit = 5 * time.Second // for handing one message to the broker
)

// ack is a watermark to be sent.
type ack struct {
	device wire.Device
	epoch  string
	upto   int64
}

// wakeSpeaker makes the speaker look for work now.
func (h *Hub) wakeSpeaker() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// connected is called at each connect to the broker: what was published over
// an older connection may be lost with it.
func (h *Hub) connected(context.Context) {
	h.mu.Lock()
	for _, d := range h.state.devices {
		d.published = 0
	}
	for _, cmd := range h.state.commands {
		cmd.due = time.Time{}
	}
	h.mu.Unlock()
	h.setReady()
	h.wakeSpeaker()
}

// tick is the speaker.
func (h *Hub) tick(ctx context.Context) {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	var flushed, trimmed time.Time
	for {
		h.speak(ctx)
		select {
		case <-ctx.Done():
			h.mu.Lock()
			defer h.mu.Unlock()
			if err := h.flush(); err != nil {
				h.log.Error("state not stored", "error", err)
			}
			return
		case <-h.wake:
			continue
		case <-t.C:
		}
		now := time.Now()
		h.mu.Lock()
		h.checkHeartbeats(now)
		h.expireCommands(now)
		h.sweepClaims(now)
		h.rolloutEvent(rollout.Event{Kind: rollout.Tick})
		if now.Sub(flushed) >= flushEvery {
			flushed = now
			if err := h.flush(); err != nil {
				h.log.Error("state not stored", "error", err)
			}
		}
		h.mu.Unlock()
		h.publishSummary()
		if now.Sub(trimmed) >= trimEvery {
			trimmed = now
			if n, err := h.results.Trim(); err != nil {
				h.log.Error("old results not deleted", "error", err)
			} else if n > 0 {
				h.log.Info("old results deleted", "rows", n)
			}
		}
	}
}

// publishSummary refreshes the figures of the page.
func (h *Hub) publishSummary() {
	if !h.events.Watched() {
		return
	}
	if s, err := h.Summary(); err == nil {
		h.events.Publish(api.EventSummary, s)
	}
}

// speak publishes whatever is due. What cannot be published stays due.
func (h *Hub) speak(ctx context.Context) {
	if l := h.link.Load(); l == nil || !l.Connected() {
		return
	}
	for _, m := range h.due() {
		h.note(m.begin)
		if err := h.publish(ctx, m.Message); err != nil {
			if !errors.Is(err, link.ErrNotConnected) && ctx.Err() == nil {
				h.log.Warn("message not published", "error", err)
			}
			return
		}
		h.note(m.sent)
	}
}

func (h *Hub) note(what func()) {
	if what == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	what()
}

// outgoing is a message, and what is true before and after it was handed to
// the broker; both are called with h.mu held, or nil. What its answer changes
// is for begin: that may come before the broker says that it has the message.
type outgoing struct {
	link.Message
	begin, sent func()
}

// retained are the kinds of messages that a broker keeps of a device.
var retained = []wire.Kind{wire.DownWanted, wire.UpStatus, wire.UpReported}

// due collects what is to be published. It forgets nothing: what is not sent
// is due again.
func (h *Hub) due() []outgoing {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []outgoing
	for _, a := range h.acks {
		if m, err := ackMessage(a); err == nil {
			out = append(out, outgoing{Message: m, sent: func() {
				if h.acks[a.device] == a { // no newer one came since
					delete(h.acks, a.device)
				}
			}})
		}
	}
	for _, id := range h.gone {
		for _, k := range retained {
			out = append(out, outgoing{Message: link.Message{Topic: wire.Topic(id, k), QoS: 1, Retain: true}})
		}
		out[len(out)-1].sent = func() {
			if i := slices.Index(h.gone, id); i >= 0 {
				h.gone = slices.Delete(h.gone, i, i+1)
			}
		}
	}
	for _, d := range h.state.devices {
		if d.Desired == nil || d.published == d.Gen {
			continue
		}
		gen, hello := d.Gen, d.Hello
		payload, err := wire.Seal(h.key, d.id(), wire.DownWanted, *d.Desired)
		if err != nil {
			h.log.Error("desired document cannot be sent", "device", d.id().String(), "error", err)
			continue
		}
		out = append(out, outgoing{
			Message: link.Message{Topic: wire.Topic(d.id(), wire.DownWanted), Payload: payload, QoS: 1, Retain: true},
			sent: func() {
				if d.Hello == hello { // one that came meanwhile asks for it again
					d.published = gen
				}
			},
		})
	}
	return append(out, h.dueCommands(time.Now())...)
}

func ackMessage(a ack) (link.Message, error) {
	payload, err := wire.Encode(wire.Ack{Epoch: a.epoch, Upto: a.upto, HubTime: time.Now().UTC()})
	return link.Message{Topic: wire.Topic(a.device, wire.DownAck), Payload: payload}, err
}

func (h *Hub) publish(ctx context.Context, m link.Message) error {
	l := h.link.Load()
	if l == nil {
		return link.ErrNotConnected
	}
	ctx, cancel := context.WithTimeout(ctx, publishLimit)
	defer cancel()
	return l.Publish(ctx, m)
}

// desire changes what a device should have, in a new generation.
func (c *change) desire(d *device, gen int64, edit func(*wire.Desired)) {
	r := c.of(d)
	next := wire.Desired{}
	if r.Desired != nil {
		next = *r.Desired
	}
	edit(&next)
	r.Gen = max(gen, r.Gen+1)
	next.Gen, next.At = r.Gen, time.Now().UTC()
	r.Desired = &next
}
