package hub

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"dunlin/hub/api"
	"dunlin/sync/wire"
)

// refuse has a claim refused so many times.
func refuse(t *testing.T, h *Hub, secret []byte, times int) {
	t.Helper()
	for range times {
		_, err := h.TakeClaim(wire.ClaimRequest{Secret: hex.EncodeToString(secret), Nonce: strings.Repeat("01", wire.NonceSize)}, "10.0.0.9")
		if !errors.Is(err, api.ErrRefused) {
			t.Fatal(err)
		}
	}
}

// TestRefusalsOutliveTheHub: what was put off is stored when the hub ends.
func TestRefusalsOutliveTheHub(t *testing.T) {
	o := Options{Dir: t.TempDir(), HTTPAddr: "127.0.0.1:0", MQTTAddr: "127.0.0.1:0", PublicHTTP: "http://127.0.0.1:1", PublicMQTT: "tcp://127.0.0.1:1"}
	open := func() *Hub {
		h, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Close() })
		return h
	}
	h := open()
	line, made, err := h.MakeClaim(api.ClaimRequest{Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := wire.ParseClaim(line)
	if err != nil {
		t.Fatal(err)
	}
	h.state.claims[made.ID].NotAfter = time.Now().Add(-time.Minute)
	refuse(t, h, c.Secret[:], 7)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if all := open().Claims(); len(all) != 1 || all[0].Refused != 7 {
		t.Errorf("%+v", all)
	}
}

// TestUnknownClaimsAreLoggedOnceAMinute: whoever makes claims up does not fill
// the hub's log, and none of them is left out of the count.
func TestUnknownClaimsAreLoggedOnceAMinute(t *testing.T) {
	var out strings.Builder
	h := closedHub(t)
	h.log = slog.New(slog.NewTextHandler(&out, nil))
	lines := func(want ...string) {
		t.Helper()
		got := strings.Split(strings.TrimSpace(out.String()), "\n")
		out.Reset()
		if len(got) != len(want) {
			t.Fatalf("%d lines, want %d: %q", len(got), len(want), got)
		}
		for i, w := range want {
			if !strings.Contains(got[i], "from=10.0.0.9") || !strings.HasSuffix(got[i], w) {
				t.Errorf("%q, want %q", got[i], w)
			}
		}
	}
	refuse(t, h, make([]byte, 16), 500)
	lines("times=1")
	h.mu.Lock()
	for _, after := range []time.Duration{time.Second, unknownEvery + time.Second, unknownEvery + 2*time.Second} {
		h.sweepClaims(time.Now().Add(after))
	}
	h.mu.Unlock()
	lines("times=499")
	h.state.unknown.noted = time.Now()
	refuse(t, h, make([]byte, 16), 3)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	lines("times=3")
}

// TestRefusalsAreCheap: who has the line of a claim that is over, and asks
// with it again and again, does not keep the disk busy; the operator sees all
// of it, and a moment later it is stored.
func TestRefusalsAreCheap(t *testing.T) {
	h := closedHub(t)
	line, made, err := h.MakeClaim(api.ClaimRequest{Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := wire.ParseClaim(line)
	if err != nil {
		t.Fatal(err)
	}
	h.state.claims[made.ID].NotAfter = time.Now().Add(-time.Minute)
	commits := func() (id int) {
		if err := h.db.View(func(tx *bbolt.Tx) error { id = tx.ID(); return nil }); err != nil {
			t.Fatal(err)
		}
		return id
	}
	stored := func() (out claim) {
		err := h.db.View(func(tx *bbolt.Tx) error { return json.Unmarshal(tx.Bucket(bucketClaim).Get([]byte(made.ID)), &out) })
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	const times = 500
	before, start := commits(), time.Now()
	refuse(t, h, c.Secret[:], times)
	if n, most := commits()-before, 1+int(time.Since(start)/refusedEvery); n < 1 || n > most {
		t.Errorf("%d refusals made %d commits, want 1 to %d", times, n, most)
	}
	if all := h.Claims(); len(all) != 1 || all[0].Refused != times || all[0].RefusedFrom != "10.0.0.9" {
		t.Errorf("%+v", all)
	}
	if got := stored(); got.Refused < 1 || !strings.Contains(got.RefusedWhy, "it ended at") {
		t.Errorf("stored at once: %+v", got.Claim)
	}
	before = commits()
	for range 3 {
		h.mu.Lock()
		h.sweepClaims(time.Now().Add(refusedEvery + time.Second))
		h.mu.Unlock()
	}
	if got := stored(); got.Refused != times {
		t.Errorf("stored later: %+v", got.Claim)
	}
	if n := commits() - before; n != 1 {
		t.Errorf("%d commits to store it", n)
	}
}
