package hub

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"dunlin/hub/api"
	"dunlin/hub/registry"
	"dunlin/hub/rollout"
	"dunlin/internal/sign"
	"dunlin/sync/wire"
)

// AddModel makes a version of an uploaded pack; see registry.Add.
func (h *Hub) AddModel(manifest string, sig sign.Signature) (registry.Version, error) {
	v, err := h.registry.Add(manifest, sig)
	if err == nil {
		h.log.Info("model added", "model", v.Name, "version", v.Version, "manifest", v.Manifest)
		h.publishSummary()
	}
	return v, err
}

// Models lists the versions that may be rolled out.
func (h *Hub) Models() []registry.Version { return h.registry.List() }

// StartRollout makes a rollout and, unless it is to be a draft, starts it. A
// device can be part of one rollout at a time.
func (h *Hub) StartRollout(r api.RolloutRequest) (rollout.State, error) {
	v, err := h.registry.Get(r.Model, r.Version)
	if err != nil {
		return rollout.State{}, fmt.Errorf("rollout: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	plan := rollout.Plan{
		ID: ulid.Make().String(), Kind: v.Kind, New: targetOf(v), Rules: r.Rules, Trial: r.Trial, Fetch: r.Fetch,
		Created: time.Now().UTC(), Old: map[string]rollout.Target{},
	}
	if len(r.Devices) == 0 {
		plan.Scope = cmp.Or(r.Tenant, rollout.EveryTenant)
	}
	if plan.Canary, plan.Rest, err = h.waves(plan.ID, r); err != nil {
		return rollout.State{}, fmt.Errorf("rollout of %s@%d: %w", v.Name, v.Version, err)
	}
	for _, name := range slices.Concat(plan.Canary, plan.Rest) {
		plan.Old[name] = h.present(h.byName(name), v.OfferKind())
	}
	s, err := rollout.New(plan)
	if err != nil {
		return s, fmt.Errorf("%w: %w", api.ErrInvalid, err)
	}
	if s, err = h.seed(s); err != nil {
		return s, err
	}
	if r.Draft {
		c := &change{}
		c.put(bucketRollout, s.ID, s)
		if err := h.commit(c); err != nil {
			return s, err
		}
		h.state.rollouts[s.ID] = s
		h.events.Publish(api.EventRollout, s)
		return s, nil
	}
	return h.stepRollout(s, rollout.Event{Kind: rollout.Start})
}

func targetOf(v registry.Version) rollout.Target {
	return rollout.Target{Name: v.Name, Version: v.Version, Digest: v.Manifest}
}

func (h *Hub) byName(name string) *device {
	id, err := wire.ParseDevice(name)
	if err != nil {
		return nil
	}
	return h.state.devices[id]
}

// waves divides the devices of a request: those that it names as canaries, or
// as many as it says, online ones first, in an order that differs from rollout
// to rollout; h.mu is held.
func (h *Hub) waves(id string, r api.RolloutRequest) (canary, rest []string, err error) {
	all := slices.Clone(r.Devices)
	if len(all) == 0 {
		for _, d := range h.state.devices {
			if r.Tenant == "" || d.Tenant == r.Tenant {
				all = append(all, d.id().String())
			}
		}
	}
	count := 1
	if text := bytes.TrimSpace(r.Canary); len(text) > 0 && string(text) != "null" {
		if json.Unmarshal(text, &canary) != nil {
			if err := json.Unmarshal(text, &count); err != nil || count < 1 {
				return nil, nil, fmt.Errorf("canary %.80s: %w: want a number above 0 or a list of devices", text, api.ErrInvalid)
			}
		}
	}
	if err := errors.Join(h.fullNames(all), h.fullNames(canary)); err != nil {
		return nil, nil, err
	}
	for _, name := range canary {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	for _, name := range all {
		if err := h.free(name); err != nil {
			return nil, nil, err
		}
	}
	if canary == nil {
		h.order(all, id)
		count = min(count, len(all))
		return all[:count], all[count:], nil
	}
	rest = slices.DeleteFunc(all, func(name string) bool { return slices.Contains(canary, name) })
	return canary, rest, nil
}

// fullNames puts the tenant before names that have none, where one device
// alone has that name; h.mu is held.
func (h *Hub) fullNames(names []string) error {
	for i, name := range names {
		if strings.Contains(name, "/") {
			continue
		}
		for id := range h.state.devices {
			if id.Name != name {
				continue
			}
			if names[i] != name {
				return fmt.Errorf("%w: device %s: more than one tenant has one, say TENANT/%s", api.ErrInvalid, name, name)
			}
			names[i] = id.String()
		}
	}
	return nil
}

// free fails where a device is unknown or part of another rollout.
func (h *Hub) free(name string) error {
	if h.byName(name) == nil {
		return notFound("device", name)
	}
	for _, s := range h.state.rollouts {
		if s.Active(name) {
			return &api.HintError{
				Err:  fmt.Errorf("%w: %s is part of rollout %s, which is %s", api.ErrConflict, name, s.ID, s.Phase),
				Hint: "wait for it, or abort it",
			}
		}
	}
	return nil
}

// order sorts devices: online first, then by a hash of the device and the
// rollout.
func (h *Hub) order(names []string, id string) {
	rank := func(name string) uint64 {
		f := fnv.New64a()
		f.Write([]byte(id + " " + name))
		return f.Sum64()
	}
	slices.SortFunc(names, func(a, b string) int {
		x, y := h.byName(a).Online, h.byName(b).Online
		if x != y {
			if x {
				return -1
			}
			return 1
		}
		return cmp.Compare(rank(a), rank(b))
	})
}

// present is the model, or agent, that a device should have now, or else has:
// where a rollback goes. One that the registry does not know cannot be offered
// again, so it counts as none.
func (h *Hub) present(d *device, kind wire.OfferKind) rollout.Target {
	digest := ""
	if d != nil {
		if o := d.wanted(kind); o != nil {
			digest = o.Manifest
		} else if r := d.runs(kind); r != nil {
			digest = r.Digest
		}
	}
	if v, err := h.registry.ByDigest(digest); err == nil {
		return targetOf(v)
	}
	return rollout.Target{}
}

// seed tells a new rollout what is known of its devices; h.mu is held.
func (h *Hub) seed(s rollout.State) (rollout.State, error) {
	for _, rd := range s.Devices {
		d := h.byName(rd.Name)
		s, _ = rollout.Next(s, runningEvent(d, s.OfferKind()), s.Created)
		_, models, err := h.results.Device(d.id())
		if err != nil {
			return s, err
		}
		for digest, f := range models {
			s, _ = rollout.Next(s, figuresEvent(d.id(), digest, f), s.Created)
		}
	}
	return s, nil
}

// stepRollout carries out one event: the new state and the desired documents
// that follow from it are one transaction; h.mu is held.
func (h *Hub) stepRollout(s rollout.State, e rollout.Event) (rollout.State, error) {
	next, commands := rollout.Next(s, e, time.Now().UTC())
	if old, known := h.state.rollouts[s.ID]; known && len(commands) == 0 && reflect.DeepEqual(old, next) {
		return next, nil
	}
	c := &change{}
	for _, cmd := range commands {
		d := h.byName(cmd.Device)
		if d == nil {
			continue
		}
		offer, err := h.offer(next, cmd)
		if err != nil {
			return s, err
		}
		c.desire(d, 0, func(w *wire.Desired) { want(w, next.OfferKind(), offer) })
	}
	c.put(bucketRollout, next.ID, next)
	if err := h.commit(c); err != nil {
		return s, err
	}
	h.state.rollouts[next.ID] = next
	if next.Phase != s.Phase {
		h.log.Info("rollout", "id", next.ID, "name", next.New.Name, "version", next.New.Version, "phase", next.Phase, "why", next.Why)
	}
	h.events.Publish(api.EventRollout, next)
	h.wakeSpeaker()
	return next, nil
}

// want sets what a document asks for; nil is "none".
func want(w *wire.Desired, kind wire.OfferKind, o *wire.Offer) {
	if kind == wire.OfferAgent {
		w.Agent = o
		return
	}
	w.Model = o
}

// offerNewest gives a device that joined after a rollout to all what that
// rollout brought, model and agent: the newest counts; h.mu is held.
func (h *Hub) offerNewest(d *device) {
	for _, kind := range rolledOut {
		h.offerNewestOf(d, kind)
	}
}

// rolledOut are the kinds that rollouts bring.
var rolledOut = []wire.OfferKind{wire.OfferModel, wire.OfferAgent}

func (h *Hub) offerNewestOf(d *device, kind wire.OfferKind) {
	if d.wanted(kind) != nil || d.runs(kind) != nil || h.inRollout(d.id().String()) {
		return
	}
	var newest rollout.State
	for id, s := range h.state.rollouts {
		if s.OfferKind() == kind && s.Covers(d.Tenant) && id > newest.ID { // ids are in the order of their making
			newest = s
		}
	}
	if newest.ID == "" || kind == wire.OfferAgent && !d.olderAgent(newest.New.Version) {
		return
	}
	offer, err := h.offer(newest, rollout.Command{Target: newest.New})
	if err == nil {
		c := &change{}
		c.desire(d, 0, func(w *wire.Desired) { want(w, kind, offer) })
		err = h.commit(c)
	}
	if err != nil {
		h.log.Error("not offered", "device", d.id().String(), "kind", kind, "name", newest.New.Name, "error", err)
	}
}

// offer makes the offer of a command; nil is "no model".
func (h *Hub) offer(s rollout.State, cmd rollout.Command) (*wire.Offer, error) {
	if cmd.Target.Digest == "" {
		return nil, nil
	}
	v, err := h.registry.ByDigest(cmd.Target.Digest)
	if err != nil {
		return nil, fmt.Errorf("rollout %s: %w", s.ID, err)
	}
	o := v.Offer()
	if !cmd.Back {
		o.Trial, o.Fetch = s.Trial, s.Fetch
	}
	return &o, nil
}

// rolloutEvent gives an event to every rollout that it concerns; h.mu is held.
func (h *Hub) rolloutEvent(e rollout.Event) {
	for id, s := range h.state.rollouts {
		if s.Phase.Ended() || e.Device != "" && s.Device(e.Device) == nil || e.Of != "" && e.Of != s.OfferKind() {
			continue
		}
		if _, err := h.stepRollout(s, e); err != nil {
			h.log.Error("rollout not stepped", "id", id, "event", e.Kind, "error", err)
		}
	}
}

// inRollout reports whether a device is part of a rollout that goes on; h.mu
// is held.
func (h *Hub) inRollout(name string) bool {
	for _, s := range h.state.rollouts {
		if s.Active(name) {
			return true
		}
	}
	return false
}

// Rollouts lists all rollouts, the oldest first.
func (h *Hub) Rollouts() []rollout.State {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]rollout.State, 0, len(h.state.rollouts))
	for _, s := range h.state.rollouts {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b rollout.State) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Rollout returns one rollout.
func (h *Hub) Rollout(id string) (rollout.State, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.state.rollouts[id]
	if !ok {
		return s, notFound("rollout", id)
	}
	return s, nil
}

// ControlRollout is a person's word: start, pause, resume or abort.
func (h *Hub) ControlRollout(id string, kind rollout.EventKind) (rollout.State, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.state.rollouts[id]
	if !ok {
		return s, notFound("rollout", id)
	}
	next, err := h.stepRollout(s, rollout.Event{Kind: kind, Why: "a person said so"})
	if err == nil && next.Phase == s.Phase {
		return s, fmt.Errorf("%w: rollout %s is %s, so it cannot %s", api.ErrConflict, id, s.Phase, kind)
	}
	return next, err
}
