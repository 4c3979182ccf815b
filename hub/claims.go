package hub

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dunlin/hub/api"
	"dunlin/sync/wire"
)

// Bounds of claims.
const (
	claimTTL     = time.Hour           // where none is asked for
	maxClaimTTL  = 90 * 24 * time.Hour // cards are made long before they are used
	maxClaims    = 1000                // that are open
	maxClaimUses = 1000
	keepClaims   = 7 * 24 * time.Hour // after they ended, for who asks what became of them
	refusedEvery = 10 * time.Second   // the refusals of one claim are stored, logged and shown
	unknownEvery = time.Minute        // the refusals of claims that nobody knows are logged
)

// claim is the stored form of a claim. The secret itself is known to whoever
// has the line.
type claim struct {
	api.Claim
	Hash []byte              `json:"hash"` // SHA-256 of its secret
	Uses map[string]claimUse `json:"uses"` // by the SHA-256 of the nonce, in hex

	noted time.Time // when refusals were stored last
	newer bool      // there were more of them since
}

// unknown are refusals of claims that nobody knows.
type unknown struct {
	times int    // since they were logged last
	from  string // the newest
	noted time.Time
}

// claimUse is one device that took a token.
type claimUse struct {
	Tenant, Name string
	At           time.Time
}

// MakeClaim makes a claim and returns its line, which the hub cannot show
// again.
func (h *Hub) MakeClaim(r api.ClaimRequest) (string, api.Claim, error) {
	r.TTL, r.Count = cmp.Or(r.TTL, int(claimTTL/time.Second)), cmp.Or(r.Count, 1)
	if err := checkClaim(r); err != nil {
		return "", api.Claim{}, fmt.Errorf("%w: claim: %w", api.ErrInvalid, err)
	}
	now := time.Now()
	if now.Before(wire.ClockFloor) {
		return "", api.Claim{}, &api.HintError{
			Err:  fmt.Errorf("claim: %w: the hub's clock says %s", api.ErrConflict, now.UTC().Format(time.RFC3339)),
			Hint: "set the hub's clock first, timedatectl says how it stands: a claim carries the hub's time, and ends by it",
		}
	}
	line := wire.NewClaim(h.HTTPURL(), h.pin, now, time.Duration(r.TTL)*time.Second)
	text, err := line.Encode()
	if err != nil {
		return "", api.Claim{}, fmt.Errorf("%w: %w", api.ErrInvalid, err)
	}
	hash := sha256.Sum256(line.Secret[:])
	c := &claim{Hash: hash[:], Uses: map[string]claimUse{}, Claim: api.Claim{
		ID: line.ID(), Tenant: r.Tenant, Name: r.Name, Renew: r.Renew, Count: r.Count, Made: line.Made, NotAfter: line.NotAfter,
	}}
	h.mu.Lock()
	defer h.mu.Unlock()
	if open := h.openClaims(line.Made); open >= maxClaims {
		return "", api.Claim{}, &api.HintError{
			Err:  fmt.Errorf("claim: %w: %d of them are open", api.ErrConflict, open),
			Hint: "one claim can be good for many devices: give a count; dunlin fleet claims lists and revokes them",
		}
	}
	if r.Name != "" {
		id := wire.Device{Tenant: r.Tenant, Name: r.Name}
		other := h.state.clients[id.ClientID()]
		switch {
		case r.Renew && (other == nil || other.id() != id):
			return "", api.Claim{}, notFound("device", id.String())
		case !r.Renew && other != nil:
			return "", api.Claim{}, &api.HintError{
				Err:  fmt.Errorf("claim of %s: %w: %s has this MQTT client id", id, api.ErrConflict, other.id()),
				Hint: "take another name, or let the claim replace its token: dunlin fleet enrol --claim --renew",
			}
		}
	}
	if err := h.putClaim(c); err != nil {
		return "", api.Claim{}, err
	}
	return text, c.Claim, nil
}

func checkClaim(r api.ClaimRequest) error {
	if err := wire.CheckName("tenant", r.Tenant); err != nil {
		return err
	}
	if r.Name != "" {
		if err := wire.CheckName("device", r.Name); err != nil {
			return err
		}
	}
	if most := int(maxClaimTTL / time.Second); r.TTL < 1 || r.TTL > most {
		return fmt.Errorf("ttl_s %d: want 1 to %d", r.TTL, most)
	}
	if r.Count < 1 || r.Count > maxClaimUses {
		return fmt.Errorf("count %d: want 1 to %d", r.Count, maxClaimUses)
	}
	if r.Name != "" && r.Count > 1 {
		return fmt.Errorf("count %d for one name: leave the name to the devices", r.Count)
	}
	if r.Renew && r.Name == "" {
		return errors.New("renew without a name")
	}
	return nil
}

// openClaims counts the claims that somebody can still use; h.mu is held.
func (h *Hub) openClaims(now time.Time) (n int) {
	for _, c := range h.state.claims {
		if now.Before(c.NotAfter) && len(c.Uses) < c.Count {
			n++
		}
	}
	return n
}

// putClaim stores a claim and tells the page; h.mu is held.
func (h *Hub) putClaim(c *claim) error {
	var ch change
	ch.put(bucketClaim, c.ID, c)
	if err := h.commit(&ch); err != nil {
		return err
	}
	h.state.claims[c.ID] = c
	h.events.Publish(api.EventClaim, c.Claim)
	return nil
}

// Claims lists the claims, the newest first.
func (h *Hub) Claims() []api.Claim {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]api.Claim, 0, len(h.state.claims))
	for _, c := range h.state.claims {
		all = append(all, c.Claim)
	}
	slices.SortFunc(all, func(a, b api.Claim) int { return cmp.Or(b.Made.Compare(a.Made), cmp.Compare(a.ID, b.ID)) })
	return all
}

// RevokeClaim ends a claim. Tokens that it gave stay good.
func (h *Hub) RevokeClaim(id string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.state.claims[id]
	if c == nil {
		return notFound("claim", id)
	}
	return h.dropClaims([]*claim{c})
}

// dropClaims forgets claims; h.mu is held.
func (h *Hub) dropClaims(old []*claim) error {
	var ch change
	for _, c := range old {
		ch.put(bucketClaim, c.ID, nil)
	}
	if err := h.commit(&ch); err != nil {
		return err
	}
	for _, c := range old {
		delete(h.state.claims, c.ID)
	}
	return nil
}

// sweepClaims forgets claims that ended long ago, and stores and logs what
// noteRefused and noteUnknown put off; h.mu is held.
func (h *Hub) sweepClaims(now time.Time) {
	h.logUnknown(now)
	var old []*claim
	for _, c := range h.state.claims {
		if c.newer {
			h.storeRefused(c, now)
		}
		if now.Sub(c.NotAfter) > keepClaims {
			old = append(old, c)
		}
	}
	if err := h.dropClaims(old); err != nil {
		h.log.Warn("old claims not removed", "error", err)
	}
}

// TakeClaim gives a device its token for a claim. A device that did not get
// the answer asks again with its nonce, and gets the same token, as long as
// the claim lives: the device's secret follows from the claim's and the nonce.
func (h *Hub) TakeClaim(r wire.ClaimRequest, from string) (wire.ClaimAnswer, error) {
	secret, err1 := hex.DecodeString(r.Secret)
	nonce, err2 := hex.DecodeString(r.Nonce)
	if err1 != nil || err2 != nil || len(nonce) != wire.NonceSize {
		return wire.ClaimAnswer{}, fmt.Errorf("%w: claim: secret and nonce: want hex, and a nonce of %d bytes", api.ErrInvalid, wire.NonceSize)
	}
	hash := sha256.Sum256(secret)
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.state.claims[wire.ClaimID(secret)]
	if c == nil || subtle.ConstantTimeCompare(hash[:], c.Hash) != 1 {
		h.noteUnknown(from, now)
		return wire.ClaimAnswer{}, refusedClaim("there is no such claim: it was revoked, or ended long ago")
	}
	id, err := h.grant(c, nonce, r, now)
	if err != nil {
		if errors.Is(err, api.ErrRefused) {
			h.noteRefused(c, from, err, now)
		}
		return wire.ClaimAnswer{}, err
	}
	token, err := h.token(id, deviceSecret(secret, nonce, id)).Encode()
	if err != nil {
		return wire.ClaimAnswer{}, err
	}
	h.log.Info("claim taken", "claim", c.ID, "device", id.String(), "from", from)
	return wire.ClaimAnswer{Token: token, HubTime: now.UTC()}, nil
}

func refusedClaim(format string, a ...any) error {
	return &api.HintError{
		Err: fmt.Errorf("claim: %w: %w", api.ErrRefused, fmt.Errorf(format, a...)), Hint: "make a new one: dunlin fleet enrol --claim",
	}
}

// noteRefused counts a refusal, for the operator to see. Anybody who has a
// claim's line can have it refused as often as he likes: it is counted here,
// and costs more once in refusedEvery only. h.mu is held.
func (h *Hub) noteRefused(c *claim, from string, why error, now time.Time) {
	c.Refused++
	c.RefusedAt, c.RefusedFrom, c.RefusedWhy = now.UTC(), from, why.Error()
	c.newer = true
	h.storeRefused(c, now)
}

// storeRefused stores a claim's refusals and tells the page, where that was
// not done a moment ago; sweepClaims and endClaims do it for those that are left.
// h.mu is held.
func (h *Hub) storeRefused(c *claim, now time.Time) {
	if within(c.noted, now, refusedEvery) {
		return
	}
	c.noted, c.newer = now, false
	h.log.Warn("claim refused", "claim", c.ID, "from", c.RefusedFrom, "why", c.RefusedWhy, "times", c.Refused)
	if err := h.putClaim(c); err != nil {
		c.newer = true
		h.log.Error("refusals of a claim not stored", "claim", c.ID, "error", err)
	}
}

// within tells whether then was less than d ago. A clock that was set back
// since keeps nothing waiting.
func within(then, now time.Time, d time.Duration) bool {
	ago := now.Sub(then)
	return ago >= 0 && ago < d
}

// noteUnknown counts a refusal of a claim that nobody knows, for the log alone:
// anybody can have as many as he likes. h.mu is held.
func (h *Hub) noteUnknown(from string, now time.Time) {
	h.state.unknown.times++
	h.state.unknown.from = from
	h.logUnknown(now)
}

// logUnknown logs them, once in unknownEvery; h.mu is held.
func (h *Hub) logUnknown(now time.Time) {
	u := &h.state.unknown
	if u.times == 0 || within(u.noted, now, unknownEvery) {
		return
	}
	h.log.Warn("claim refused", "from", u.from, "why", "there is no such claim", "times", u.times)
	*u = unknown{noted: now}
}

// endClaims stores and logs the refusals that are left when the hub ends.
func (h *Hub) endClaims() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.state.unknown.noted = time.Time{}
	h.logUnknown(time.Now())
	var ch change
	for _, c := range h.state.claims {
		if c.newer {
			ch.put(bucketClaim, c.ID, c)
		}
	}
	return h.commit(&ch)
}

// deviceSecret is the secret in a device's token. Nobody can compute it who
// lacks the nonce, which is random, or the claim.
func deviceSecret(secret, nonce []byte, id wire.Device) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "dunlin device secret v1\n%x\n%s", nonce, id)
	return hex.EncodeToString(mac.Sum(nil))
}

// grant returns the device that a nonce gets, and makes it known where this
// is the first time. h.mu is held.
func (h *Hub) grant(c *claim, nonce []byte, r wire.ClaimRequest, now time.Time) (wire.Device, error) {
	sum := sha256.Sum256(nonce)
	key := hex.EncodeToString(sum[:])
	secret, _ := hex.DecodeString(r.Secret) // TakeClaim has seen it
	if now.After(c.NotAfter) {
		return wire.Device{}, refusedClaim("it ended at %s", c.NotAfter.Format(time.RFC3339))
	}
	if u, again := c.Uses[key]; again {
		id := wire.Device{Tenant: u.Tenant, Name: u.Name}
		hash := sha256.Sum256([]byte(deviceSecret(secret, nonce, id)))
		if d := h.state.devices[id]; d == nil || subtle.ConstantTimeCompare(hash[:], d.Hash) != 1 {
			return id, refusedClaim("%s was removed, or has another token since", id)
		}
		return id, nil
	}
	if len(c.Uses) >= c.Count {
		return wire.Device{}, refusedClaim("it was used, by %s", strings.Join(c.Devices, ", "))
	}
	id, err := h.claimName(c, key, r)
	if err != nil {
		return id, err
	}
	d, known := h.state.devices[id], true
	if d == nil {
		d, known = &device{record: record{Tenant: id.Tenant, Name: id.Name, Created: now.UTC()}}, false
	}
	hash := sha256.Sum256([]byte(deviceSecret(secret, nonce, id)))
	old, next := d.key(), *c
	next.Uses = map[string]claimUse{key: {id.Tenant, id.Name, now.UTC()}}
	for k, u := range c.Uses {
		next.Uses[k] = u
	}
	next.Devices = append(slices.Clone(c.Devices), id.String())
	var ch change
	ch.of(d).Hash = hash[:]
	ch.put(bucketClaim, c.ID, next)
	if err := h.commit(&ch); err != nil { // device and claim in one transaction
		return id, err
	}
	h.state.claims[c.ID] = &next
	if known {
		delete(h.state.secrets, old)
		h.state.secrets[d.key()] = d
		h.broker.Kick(id.ClientID())
	} else {
		h.state.add(d)
	}
	h.events.Publish(api.EventDevice, h.view(d))
	h.events.Publish(api.EventClaim, next.Claim)
	return id, nil
}

// claimName returns the name that the device gets: the claim's, or one of its
// own that is free. h.mu is held.
func (h *Hub) claimName(c *claim, key string, r wire.ClaimRequest) (wire.Device, error) {
	id := wire.Device{Tenant: c.Tenant, Name: c.Name}
	if c.Name != "" {
		other := h.state.clients[id.ClientID()]
		switch {
		case c.Renew && (other == nil || other.id() != id):
			return id, refusedClaim("device %s was removed", id)
		case !c.Renew && other != nil:
			return id, refusedClaim("device %s was enrolled in another way meanwhile", id)
		}
		return id, nil
	}
	base := suggestedName(r, key)
	for _, name := range []string{base, base + "-" + key[:4], "device-" + key[:16]} {
		id.Name = name
		if h.state.clients[id.ClientID()] == nil {
			return id, nil
		}
	}
	return id, refusedClaim("every name for it is taken, %s too", id)
}

// suggestedName is what a device without a name is called: by its host's
// name, but where that is the one that every new card has, by its board's
// serial number.
func suggestedName(r wire.ClaimRequest, key string) string {
	const most = 48 // the longest name has 63: room for what makes it unique
	host, serial := asName(r.Hostname, most), strings.TrimLeft(asName(r.Serial, 32), "0-_")
	if serial != "" {
		serial = "board-" + serial[max(0, len(serial)-8):]
	}
	switch host {
	case "", "localhost", "raspberrypi", "debian", "ubuntu", "nvidia", "jetson":
		return cmp.Or(serial, "device-"+key[:8])
	}
	return host
}

// asName makes a name of what a device says of itself, "" where nothing of it
// can be part of one.
func asName(text string, most int) string {
	text, _, _ = strings.Cut(strings.ToLower(text), ".")
	text = strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_':
			return c
		}
		return -1
	}, text)
	text = strings.Trim(text, "-_")
	text = strings.TrimRight(text[:min(len(text), most)], "-_")
	if wire.CheckName("device", text) != nil {
		return ""
	}
	return text
}
