package agent

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"dunlin/sync/wire"
)

// The hub takes back the first model that it gave: nothing answers then, after
// a restart neither, and the hub may give it once more.
func TestWithdrawn(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	_, stop := run(t, c)
	first := h.offer(1, false)
	h.want(first, nil)
	h.until("version 1", func() bool { return h.ended(1) == wire.StateActive })
	h.want(nil, h.graph(1))
	h.until("no model", func() bool {
		last := h.reports[len(h.reports)-1]
		for _, r := range h.reports {
			if r.Kind == wire.OfferModel {
				last = r
			}
		}
		return h.reported.Model == nil && h.reported.Facts != nil && last.State == wire.StateReverted && last.Reason == wire.ReasonDesired
	})
	stop()
	a, stop := run(t, c)
	if r := a.slots.Running(); r != nil {
		t.Errorf("after a restart %+v answers", r)
	}
	h.want(first, nil)
	h.until("the model again", func() bool { return h.reported.Model != nil })

	// Taken back while the agent was away.
	wait(t, "the trial's end", func() bool { return !a.slots.OnTrial() })
	stop()
	h.want(nil, nil)
	a, _ = run(t, c)
	wait(t, "no model", func() bool { return a.slots.Running() == nil })
}

// A model on trial is taken back too.
func TestWithdrawnOnTrial(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	a, _ := run(t, c)
	o := h.offer(1, false)
	o.Trial.Seconds = 3600
	h.want(o, nil)
	wait(t, "the trial", a.slots.OnTrial)
	h.want(nil, nil)
	wait(t, "no model", func() bool { return a.slots.Running() == nil })
}

// What the hub did not give it does not take back: what a command activated,
// and the pack of the configuration.
func TestNotWithdrawn(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	a, stop := run(t, c)
	wait(t, "the connection", func() bool { return a.hub.link.Connected() })
	first := h.offer(1, false)
	args, err := json.Marshal(first)
	if err != nil {
		t.Fatal(err)
	}
	if ack := h.order(wire.Cmd{Name: wire.CmdActivate, Args: args}); ack.Phase != wire.CmdDone {
		t.Fatalf("%+v", ack)
	}
	h.want(nil, h.graph(1))
	h.until("facts", func() bool { return h.reported.Facts != nil })
	if r := a.slots.Running(); r == nil || r.Version != 1 {
		t.Errorf("running %+v", r)
	}
	// It comes back where the hub gives another one and takes that back.
	second := h.offer(2, false)
	h.want(second, nil)
	h.until("version 2", func() bool { return h.ended(2) == wire.StateActive })
	h.want(nil, nil)
	wait(t, "the model before", func() bool { r := a.slots.Running(); return r != nil && r.Version == 1 })
	h.want(second, nil)
	wait(t, "version 2 again", func() bool { r := a.slots.Running(); return r != nil && r.Version == 2 })
	stop()

	if err := addSignature(h, second); err != nil {
		t.Fatal(err)
	}
	c.Model.Pack = filepath.Join(h.dir, "store") // now both are the configuration's
	h.want(nil, h.graph(2))
	a, _ = run(t, c)
	h.until("facts", func() bool { return h.reported.Facts.Version == 2 })
	if r := a.slots.Running(); r == nil || r.Version != 2 {
		t.Errorf("running %+v", r)
	}
}
