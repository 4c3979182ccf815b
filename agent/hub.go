package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"dunlin/engine"
	"dunlin/internal/sign"
	"dunlin/sync/link"
	"dunlin/sync/wire"
)

// hub is the agent's side of the conversation with its hub.
type hub struct {
	a      *Agent
	id     wire.Device
	trust  sign.Trust
	link   *link.Link
	drain  *link.Drain
	online link.Message

	gen     atomic.Int64  // newest Desired seen
	heard   atomic.Bool   // the hub itself answered since the start
	changed chan struct{} // of one place: Reported is out of date
	cmds    chan wire.Cmd

	rolling sync.Mutex // held over a rollback
	telling sync.Mutex // held over a Reported, from what it says to its sending: the newest comes last
	mu      sync.Mutex // guards what follows; may be taken with either
	reports map[wire.OfferKind]wire.Report
	busy    map[string]bool // commands under way
}

// maxCmds is how many commands may wait; the hub sends one that is dropped
// again.
const maxCmds = 16

func (a *Agent) openHub() error {
	if a.token == nil {
		if c := a.enrolment.claim; c != nil {
			a.log.Info("no token yet: results stay in the outbox until the claim is taken", "hub", c.HTTP)
			return nil
		}
		a.log.Warn("there is no hub: results stay in the outbox")
		return nil
	}
	h := &hub{
		a: a, id: a.token.ID(), trust: sign.Trust{a.token.HubKey}, changed: make(chan struct{}, 1),
		cmds: make(chan wire.Cmd, maxCmds), reports: map[wire.OfferKind]wire.Report{}, busy: map[string]bool{},
	}
	for _, l := range []*lane{a.models, a.graphs, a.updates.lane} {
		if r := l.last(); r != nil {
			h.reports[r.Kind] = *r
		}
	}
	if r := a.slots.Last(); r != nil { // it may have been made while opening
		h.reports[r.Kind] = *r
	}
	var d wire.Desired
	if err := a.journal.get("desired", &d); err != nil {
		return err
	}
	h.gen.Store(d.Gen)
	l, err := a.newLink(h)
	if err != nil {
		return err
	}
	h.link = l
	h.drain = link.NewDrain(a.box, h.id, l.Publish, link.DrainOptions{Log: a.log})
	a.hub = h
	return nil
}

// newLink is how the agent reaches its hub.
func (a *Agent) newLink(h *hub) (*link.Link, error) {
	config, err := a.tls()
	if err != nil {
		return nil, err
	}
	d := a.token.ID()
	online, offline, err := h.status()
	if err != nil {
		return nil, err
	}
	h.online = online
	return link.New(link.Options{
		URL: a.token.MQTT, ClientID: d.ClientID(), User: d.ClientID(), Password: a.token.Secret, TLS: config,
		Will: &offline, Goodbye: &offline, OnConnect: h.connected, Handle: h.handle, Log: a.log,
		Subscribe: []link.Sub{
			{Topic: wire.Topic(d, wire.DownWanted)}, {Topic: wire.Topic(d, wire.DownCmd)}, {Topic: wire.Topic(d, wire.DownAck)},
		},
	})
}

func (h *hub) run(ctx context.Context, all *sync.WaitGroup) {
	all.Go(func() {
		if err := h.link.Run(ctx); err != nil {
			h.a.fail(err)
		}
	})
	all.Go(func() {
		if err := h.drain.Run(ctx); err != nil && ctx.Err() == nil {
			h.a.reopen(err)
		}
	})
	all.Go(func() { h.tell(ctx) })
	for range 4 { // an activate waits for its trial, a status must not wait for that
		all.Go(func() {
			for {
				select {
				case c := <-h.cmds:
					h.command(ctx, c)
				case <-ctx.Done():
					return
				}
			}
		})
	}
}

// status returns the two messages that say whether the device is there.
func (h *hub) status() (online, offline link.Message, err error) {
	topic := wire.Topic(h.id, wire.UpStatus)
	here, err := wire.Encode(wire.Status{Online: true, Boot: h.a.boot})
	if err != nil {
		return online, offline, err
	}
	gone, err := wire.Encode(wire.Status{Online: false, Boot: h.a.boot})
	if err != nil {
		return online, offline, err
	}
	return link.Message{Topic: topic, Payload: here, QoS: 1, Retain: true},
		link.Message{Topic: topic, Payload: gone, QoS: 1, Retain: true}, nil
}

// connected says who we are and what we have, then lets the outbox go.
func (h *hub) connected(ctx context.Context) {
	h.a.log.Info("connected to the hub", keyDevice, h.id.String())
	h.send(ctx, h.online)
	payload, err := wire.Encode(wire.Hello{
		Epoch: h.a.box.Epoch(), Boot: h.a.boot, Agent: Version, OS: runtime.GOOS + "/" + runtime.GOARCH,
		Board: h.a.board.Name, Features: h.a.board.Features, Kernels: h.a.tier(), Gen: h.gen.Load(),
		Model: h.a.slots.Running(), Facts: h.a.factsVersion(), Outbox: h.a.box.State(), Clock: h.a.clock.read(),
	})
	h.say(ctx, wire.UpHello, payload, err)
	h.publishReported(ctx)
	h.drain.Connected()
	h.a.models.kick() // what could not be fetched may be there now
	h.a.graphs.kick()
	h.a.updates.lane.kick()
}

// tier returns the kernels that this CPU gets.
func (a *Agent) tier() string {
	name, err := engine.HostKernels()
	if err != nil {
		a.log.Warn("kernels", keyError, err)
	}
	return name
}

func (a *Agent) factsVersion() *wire.FactsVersion {
	v := a.facts.Version()
	if v.Graph == "" {
		return nil
	}
	return &wire.FactsVersion{Graph: v.Graph, Version: v.Version}
}

// say publishes what wire.Encode made of a message that is of use only now:
// without a connection it is not sent, and said again at the next one.
func (h *hub) say(ctx context.Context, k wire.Kind, payload []byte, err error) {
	if err != nil {
		h.a.log.Error("message cannot be encoded", keyTopic, k, keyError, err)
		return
	}
	h.send(ctx, link.Message{Topic: wire.Topic(h.id, k), Payload: payload, QoS: 1, Retain: k == wire.UpReported})
}

func (h *hub) send(ctx context.Context, m link.Message) {
	if err := h.link.Publish(ctx, m); err != nil {
		h.a.log.Debug("message not sent", keyTopic, m.Topic, keyError, err)
	}
}

func (h *hub) publishReported(ctx context.Context) {
	h.telling.Lock()
	defer h.telling.Unlock()
	r := wire.Reported{
		Gen: h.gen.Load(), Model: h.a.slots.Running(), Facts: h.a.factsVersion(), Agent: h.a.updates.running(), Throttle: h.a.governor.throttled(),
	}
	h.mu.Lock()
	for _, k := range []wire.OfferKind{wire.OfferModel, wire.OfferFacts, wire.OfferAgent} {
		if rep, ok := h.reports[k]; ok {
			r.Reports = append(r.Reports, rep)
		}
	}
	h.mu.Unlock()
	payload, err := wire.Encode(r)
	h.say(ctx, wire.UpReported, payload, err)
}

// tell keeps the hub's half of the twin, and its figures, up to date.
func (h *hub) tell(ctx context.Context) {
	var tick <-chan time.Time
	if every := h.a.c.Metrics; every > 0 {
		t := time.NewTicker(time.Duration(every) * time.Second)
		defer t.Stop()
		tick = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.changed:
			if h.link.Connected() {
				h.publishReported(ctx)
			}
		case <-tick:
			if !h.link.Connected() {
				continue
			}
			payload, err := wire.Encode(wire.Metric{Clock: h.a.clock.read(), Values: h.a.figures()})
			if err != nil {
				h.a.log.Error("metrics cannot be encoded", keyError, err)
				continue
			}
			h.send(ctx, link.Message{Topic: wire.Topic(h.id, wire.UpMetric), Payload: payload})
		}
	}
}

// report is told of each change of an artefact. What ends it, or begins its
// trial, is a record too, which reaches the hub however long that takes.
func (a *Agent) report(r wire.Report) {
	if h := a.hub; h != nil {
		h.mu.Lock()
		h.reports[r.Kind] = r
		h.mu.Unlock()
		select {
		case h.changed <- struct{}{}:
		default:
		}
	}
	switch r.State {
	case wire.StateTrial, wire.StateActive, wire.StateReverted, wire.StateRefused:
	default:
		return
	}
	if e := a.explainer; e != nil && r.Kind == wire.OfferModel { // nil: while the slots are being opened
		e.forget()
	}
	body, err := json.Marshal(r)
	if err == nil {
		_, err = a.box.Put(context.Background(), wire.RecordReport, body)
	}
	if err != nil {
		a.log.Error("report is not kept", keyError, err)
		a.giveUpOn(err)
	}
}

// handle takes what the hub sent. It must not wait long: the link has one
// queue for all.
func (h *hub) handle(m link.Message) {
	d, kind, err := wire.ParseTopic(m.Topic)
	if err == nil && d == h.id {
		switch kind {
		case wire.DownAck:
			err = h.acked(m.Payload)
		case wire.DownWanted:
			err = h.desired(m.Payload)
		case wire.DownCmd:
			err = h.ordered(m.Payload)
		}
	}
	if err != nil {
		h.a.count.desired.Inc()
		h.a.log.Warn("message of the hub is not used", keyTopic, m.Topic, keyError, err)
	}
}

func (h *hub) acked(payload []byte) error {
	if len(payload) == 0 {
		return nil
	}
	ack, err := wire.Decode[wire.Ack](payload)
	if err != nil {
		return err
	}
	h.a.clock.heard(ack.HubTime)
	h.heard.Store(true)
	h.a.p.acks.Lock() // see pipeline.acks
	defer h.a.p.acks.Unlock()
	if f := h.a.folder; f != nil {
		// The drain sends again what is not acknowledged, and so comes back to this.
		if err := f.Sync(); err != nil {
			return fmt.Errorf("acknowledgement: watched folder: %w", err)
		}
	}
	h.drain.Ack(ack)
	return nil
}

// desired takes a document of the hub's, if it is newer than what is known.
func (h *hub) desired(payload []byte) error {
	if len(payload) == 0 {
		return nil // a retained message that was cleared
	}
	var d wire.Desired
	if err := wire.Unseal(h.trust, h.id, wire.DownWanted, payload, &d); err != nil {
		return err
	}
	if d.Gen <= h.gen.Load() {
		return nil
	}
	var before wire.Desired
	if err := h.a.journal.get("desired", &before); err != nil {
		return err
	}
	if err := h.a.remember(before.Model, d.Model); err != nil {
		return err
	}
	// On the disk first: what was begun must be known after a restart.
	if err := h.a.journal.put("desired", d); err != nil {
		return err
	}
	h.gen.Store(d.Gen)
	// A model that is wanted after none was may be one that was taken back.
	fresh := before.Gen > 0 && before.Model == nil && d.Model != nil
	freshAgent := before.Gen > 0 && before.Agent == nil && d.Agent != nil
	same := sameOffer(before.Model, d.Model) && sameOffer(before.Facts, d.Facts) && sameOffer(before.Agent, d.Agent)
	h.a.pursue(d, fresh || same, freshAgent || same)
	select {
	case h.changed <- struct{}{}:
	default:
	}
	return nil
}

// sameOffer reports whether two documents ask for the same artefact. One that
// asks for nothing new asks for another try.
func sameOffer(a, b *wire.Offer) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Manifest == b.Manifest
}

func (h *hub) ordered(payload []byte) error {
	var c wire.Cmd
	if err := wire.Unseal(h.trust, h.id, wire.DownCmd, payload, &c); err != nil {
		return err
	}
	select {
	case h.cmds <- c:
	default:
		h.a.log.Warn("command dropped, too many wait", "id", c.ID)
	}
	return nil
}
