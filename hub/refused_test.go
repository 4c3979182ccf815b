package hub

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"dunlin/hub/api"
	"dunlin/sync/wire"
)

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
	for range times {
		_, err := h.TakeClaim(wire.ClaimRequest{Secret: hex.EncodeToString(c.Secret[:]), Nonce: strings.Repeat("01", wire.NonceSize)}, "10.0.0.9")
		if !errors.Is(err, api.ErrRefused) {
			t.Fatal(err)
		}
	}
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
