package hub

import (
	"time"

	"dunlin/hub/api"
	"dunlin/hub/rollout"
	"dunlin/sync/link"
	"dunlin/sync/wire"
)

// incoming is a batch as it came from the broker.
type incoming struct {
	device  wire.Device
	payload []byte
}

// handle takes each message of every device, one after the other. It answers
// nothing by itself: the speaker does.
func (h *Hub) handle(m link.Message) {
	id, kind, err := wire.ParseTopic(m.Topic)
	if err != nil {
		h.malformed(m.Topic, err)
		return
	}
	if len(m.Payload) == 0 {
		return // a retained message that was cleared
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopping {
		return // the device says it again to the next hub
	}
	d := h.state.devices[id]
	if d == nil {
		h.counts.unknown.Add(1)
		return
	}
	if !m.Retain {
		h.seen(d)
	}
	switch kind {
	case wire.UpResult:
		select {
		case h.batches <- incoming{id, m.Payload}:
		default:
			h.counts.crowded.Add(1)
		}
	case wire.UpHello:
		read(h, m, wire.Decode[wire.Hello], func(v wire.Hello) { h.hello(d, v) })
	case wire.UpStatus:
		read(h, m, wire.Decode[wire.Status], func(v wire.Status) { h.status(d, v, m.Retain) })
	case wire.UpReported:
		read(h, m, wire.Decode[wire.Reported], func(v wire.Reported) { h.reported(d, v) })
	case wire.UpCmdAck:
		read(h, m, wire.Decode[wire.CmdAck], func(v wire.CmdAck) { h.cmdAck(d, v) })
	case wire.UpMetric:
		read(h, m, wire.Decode[wire.Metric], func(v wire.Metric) { h.counts.metric(id, v.Values) })
	}
}

// read decodes one message and hands it on, or counts it as malformed.
func read[M any](h *Hub, m link.Message, decode func([]byte) (M, error), use func(M)) {
	v, err := decode(m.Payload)
	if err != nil {
		h.malformed(m.Topic, err)
		return
	}
	use(v)
}

func (h *Hub) malformed(topic string, err error) {
	h.counts.malformed.Add(1)
	h.log.Warn("message is not readable", "topic", topic, "error", err)
}

// hello is said after each connect: the device then gets whatever it missed.
func (h *Hub) hello(d *device, v wire.Hello) {
	d.Hello, d.dirty = &v, true
	h.skipForgotten(d, v)
	if v.Gen != d.Gen {
		d.published = 0
	}
	// A device that has seen more than this hub remembers was told so by a
	// hub whose state is lost; what it is told now must be newer.
	if v.Gen > d.Gen && d.Desired != nil {
		c := &change{}
		c.desire(d, v.Gen+1, func(*wire.Desired) {})
		if err := h.commit(c); err != nil {
			h.log.Error("desired document not stored", "device", d.id().String(), "error", err)
		}
	}
	h.offerNewest(d)
	h.offerFacts(d, false)
	for _, cmd := range h.state.commands {
		if cmd.Device == d.id().String() {
			cmd.due = time.Time{}
		}
	}
	h.events.Publish(api.EventDevice, h.view(d))
	h.rolloutRunning(d)
	h.wakeSpeaker()
}

// skipForgotten moves the watermark past records that the device no longer
// has, and tells it where the watermark is.
func (h *Hub) skipForgotten(d *device, v wire.Hello) {
	if wire.CheckEpoch(v.Epoch) != nil {
		return
	}
	upto, skipped, err := h.results.SkipTo(d.id(), v.Epoch, v.Outbox.First)
	if err != nil {
		h.log.Error("watermark not moved", "device", d.id().String(), "error", err)
		return
	}
	if skipped > 0 {
		h.log.Warn("records that this hub never saw are gone from the device", "device", d.id().String(), "epoch", v.Epoch, "records", skipped)
	}
	h.acks[d.id()] = ack{d.id(), v.Epoch, upto}
}

func (h *Hub) status(d *device, v wire.Status, retained bool) {
	// A retained "online" may be from before the broker was killed.
	if v.Online == d.Online || v.Online && retained {
		return
	}
	h.setOnline(d, v.Online)
}

func (h *Hub) reported(d *device, v wire.Reported) {
	d.Reported, d.dirty = &v, true
	h.events.Publish(api.EventDevice, h.view(d))
	// Before it has seen the newest document, what it reports is about an
	// older one, which may have named the same model.
	if v.Gen >= d.Gen {
		for _, r := range v.Reports {
			h.report(d, r)
		}
	}
	h.rolloutRunning(d)
}

// report is what became of one artefact; it may come more than once.
func (h *Hub) report(d *device, r wire.Report) {
	switch r.Kind {
	case wire.OfferModel, wire.OfferAgent:
		h.rolloutEvent(rollout.Event{Kind: rollout.Report, Device: d.id().String(), Report: r})
	case wire.OfferFacts:
		if r.State == wire.StateRefused && r.Reason == wire.ReasonWrongBase {
			h.offerBase(d, r.Digest)
		}
	}
}
