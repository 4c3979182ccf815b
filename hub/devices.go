package hub

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"time"

	"dunlin/hub/api"
	"dunlin/hub/broker"
	"dunlin/hub/rollout"
	"dunlin/internal/release"
	"dunlin/sync/wire"
)

// Enrol makes a device known and returns its token (wire.ParseToken), which
// the hub cannot show again.
func (h *Hub) Enrol(id wire.Device) (string, error) {
	if _, err := wire.ParseDevice(id.String()); err != nil {
		return "", fmt.Errorf("%w: %w", api.ErrInvalid, err)
	}
	line, hash, err := h.newToken(id)
	if err != nil {
		return "", fmt.Errorf("enrol %s: %w", id, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	// "a_b" + "c" and "a" + "b_c" have one MQTT client id.
	if other := h.state.clients[id.ClientID()]; other != nil {
		return "", &api.HintError{
			Err:  fmt.Errorf("enrol %s: %w: %s has this MQTT client id", id, api.ErrConflict, other.id()),
			Hint: "take another name, or remove the device first: its token then ends",
		}
	}
	d := &device{record: record{Tenant: id.Tenant, Name: id.Name, Hash: hash, Created: time.Now().UTC()}}
	c := &change{}
	c.of(d)
	if err := h.commit(c); err != nil {
		return "", err
	}
	h.state.add(d)
	h.events.Publish(api.EventDevice, h.view(d))
	return line, nil
}

// newToken makes a token with a new secret, and returns the secret's hash.
func (h *Hub) newToken(id wire.Device) (line string, hash []byte, err error) {
	secret := newSecret()
	if line, err = h.token(id, secret).Encode(); err != nil {
		return "", nil, err
	}
	sum := sha256.Sum256([]byte(secret))
	return line, sum[:], nil
}

// token is all that a device needs to know, with this secret.
func (h *Hub) token(id wire.Device, secret string) wire.Token {
	return wire.Token{
		MQTT: h.MQTTURL(), HTTP: h.HTTPURL(), Tenant: id.Tenant, Device: id.Name, Secret: secret,
		HubKey: h.key.Public(), ReleaseKeys: h.trust, CAPEM: h.caPEM,
	}
}

// ReplaceToken gives a device whose token is lost, or known to others, a new
// one, and returns it. The old one ends, and so does the connection that was
// made with it; everything else stays.
func (h *Hub) ReplaceToken(id wire.Device) (string, error) {
	line, hash, err := h.newToken(id)
	if err != nil {
		return "", fmt.Errorf("token of %s: %w", id, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.state.devices[id]
	if d == nil {
		return "", notFound("device", id.String())
	}
	old := d.key()
	c := &change{}
	c.of(d).Hash = hash
	if err := h.commit(c); err != nil {
		return "", err
	}
	delete(h.state.secrets, old)
	h.state.secrets[d.key()] = d
	h.broker.Kick(id.ClientID())
	h.log.Info("token replaced", "device", id.String())
	return line, nil
}

// RemoveDevice forgets a device: its token ends, its connection too, and its
// commands, so that another device of that name does not get them. What it
// reported stays.
func (h *Hub) RemoveDevice(id wire.Device) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.state.devices[id]
	if d == nil {
		return notFound("device", id.String())
	}
	c := &change{}
	c.put(bucketDevice, id.String(), nil)
	ended := h.endCommands(c, id)
	if err := h.commit(c); err != nil {
		return err
	}
	for cmd, next := range ended {
		h.setCommand(cmd, next)
	}
	h.state.remove(d)
	delete(h.lacking, id)
	delete(h.acks, id)
	h.gone = append(h.gone, id)
	h.counts.forget(id)
	h.broker.Kick(id.ClientID())
	h.rolloutEvent(rollout.Event{Kind: rollout.Gone, Device: id.String()})
	h.wakeSpeaker()
	return nil
}

func notFound(what, name string) error {
	return fmt.Errorf("%s %.80s: %w", what, name, api.ErrNotFound)
}

var (
	errWrongSecret = errors.New("unknown device or wrong password")
	errNotYet      = errors.New("the hub does not listen yet")
)

// authorize is the broker's question whether a device may come in. Before the
// hub itself hears what is said, none may: its hello would be lost.
func (h *Hub) authorize(user, password, _ string) (broker.Permissions, error) {
	if l := h.link.Load(); l == nil || !l.Connected() {
		return broker.Permissions{}, errNotYet
	}
	hash := sha256.Sum256([]byte(password))
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.state.clients[user]
	if d == nil || subtle.ConstantTimeCompare(hash[:], d.Hash) != 1 {
		return broker.Permissions{}, errWrongSecret
	}
	return broker.Permissions{
		Publish:   []string{wire.Topic(d.id(), "up/+")},
		Subscribe: []string{wire.Topic(d.id(), "down/+")},
	}, nil
}

// DeviceOf returns the device that has this secret.
func (h *Hub) DeviceOf(secret string) (wire.Device, bool) {
	if secret == "" {
		return wire.Device{}, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.state.secrets[sha256.Sum256([]byte(secret))]
	if d == nil {
		return wire.Device{}, false
	}
	return d.id(), true
}

// Devices lists all devices, by name.
func (h *Hub) Devices() []api.Device {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]api.Device, 0, len(h.state.devices))
	for _, d := range h.state.devices {
		all = append(all, h.view(d))
	}
	slices.SortFunc(all, func(a, b api.Device) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// Device returns one device, with the counts of its results.
func (h *Hub) Device(id wire.Device) (api.Device, error) {
	h.mu.Lock()
	d := h.state.devices[id]
	if d == nil {
		h.mu.Unlock()
		return api.Device{}, notFound("device", id.String())
	}
	v := h.view(d)
	h.mu.Unlock()
	counts, _, err := h.results.Device(id)
	v.Counts = &counts
	return v, err
}

// view is what the API shows of a device; h.mu is held. The documents it
// points to are replaced when they change, never written to.
func (h *Hub) view(d *device) api.Device {
	return api.Device{
		Tenant: d.Tenant, Name: d.Name, Created: d.Created, Online: d.Online, LastSeen: d.LastSeen,
		Gen: d.Gen, Wanted: d.Desired, Hello: d.Hello, Reported: d.Reported,
	}
}

// seen notes that a device is there; h.mu is held.
func (h *Hub) seen(d *device) {
	d.LastSeen, d.dirty = time.Now().UTC(), true
	if !d.Online {
		h.setOnline(d, true)
	}
}

// setOnline tells the page and the rollouts; h.mu is held.
func (h *Hub) setOnline(d *device, online bool) {
	d.Online, d.dirty = online, true
	h.events.Publish(api.EventDevice, h.view(d))
	h.rolloutRunning(d)
}

// rolloutRunning tells the rollouts what runs on a device; h.mu is held.
func (h *Hub) rolloutRunning(d *device) {
	for _, kind := range rolledOut {
		h.rolloutEvent(runningEvent(d, kind))
	}
}

// runningEvent says whether a device is there, and what answers on it, or which
// agent it is, where that was said after it saw its newest document.
func runningEvent(d *device, kind wire.OfferKind) rollout.Event {
	e := rollout.Event{Kind: rollout.Running, Device: d.id().String(), Of: kind, Online: d.Online}
	if kind == wire.OfferAgent {
		if d.Reported != nil && d.Reported.Gen >= d.Gen {
			if a := d.Reported.Agent; a != nil {
				e.Digest = a.Digest
			}
			e.Nothing = d.Reported.Agent == nil
		}
		return e
	}
	upToDate := d.Reported != nil && d.Reported.Gen >= d.Gen || d.Reported == nil && d.Hello != nil && d.Hello.Gen >= d.Gen
	if m := d.running(); m != nil && upToDate {
		e.Digest = m.Digest
	}
	e.Nothing = d.Reported != nil && d.Reported.Gen >= d.Gen && d.Reported.Model == nil
	return e
}

// runs returns the model, or the release of the agent, that a device named
// last; nil for none, or for the agent of its package.
func (d *device) runs(kind wire.OfferKind) *wire.Running {
	if kind != wire.OfferAgent {
		return d.running()
	}
	if d.Reported == nil {
		return nil
	}
	return d.Reported.Agent
}

// wanted returns the offer that a device was told to take last, nil for none.
func (d *device) wanted(kind wire.OfferKind) *wire.Offer {
	switch {
	case d.Desired == nil:
		return nil
	case kind == wire.OfferAgent:
		return d.Desired.Agent
	}
	return d.Desired.Model
}

// olderAgent tells whether a device said that it runs an agent below a version.
func (d *device) olderAgent(version int64) bool {
	if d.Hello == nil {
		return false
	}
	now, err := release.Number(d.Hello.Agent)
	return err == nil && now < version
}

// running returns the model that a device named last, nil where it said that
// it has none.
func (d *device) running() *wire.Running {
	if d.Reported != nil && (d.Reported.Model != nil || d.Hello == nil || d.Reported.Gen >= d.Hello.Gen) {
		return d.Reported.Model
	}
	if d.Hello != nil {
		return d.Hello.Model
	}
	return nil
}

// holds returns the facts that a device named last.
func (d *device) holds() *wire.FactsVersion {
	if d.Reported != nil && d.Reported.Facts != nil {
		return d.Reported.Facts
	}
	if d.Hello != nil {
		return d.Hello.Facts
	}
	return nil
}

// checkHeartbeats counts silent devices as offline; h.mu is held.
func (h *Hub) checkHeartbeats(now time.Time) {
	for _, d := range h.state.devices {
		if d.Online && now.Sub(d.LastSeen) > h.o.Heartbeat {
			h.setOnline(d, false)
		}
	}
}
