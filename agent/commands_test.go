package agent

import (
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"time"

	"dunlin/sync/wire"
)

// The agent is killed after a rollback was done and before that was
// remembered: the command that comes again must not go forward to the model
// that was left, nor may the next one.
func TestRollbackComesAgain(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	_, stop := run(t, c)
	for v := int64(1); v <= 2; v++ {
		h.want(h.offer(v, false), nil)
		h.until("the version", func() bool { return h.ended(v) == wire.StateActive })
	}
	stop()
	h.halt()
	cmd := wire.Cmd{ID: "01JROLLBACK000000000000000", Name: wire.CmdRollback}
	a, err := New(c, slog.New(slog.DiscardHandler), new(slog.LevelVar))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.hub.perform(t.Context(), cmd); err != nil { // and no keepOutcome
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	h.start()
	a, _ = run(t, c)
	wait(t, "the connection", func() bool { return a.hub.link.Connected() })
	ack := h.order(cmd)
	var r wire.Running
	if err := json.Unmarshal(ack.Result, &r); err != nil || ack.Phase != wire.CmdDone || r.Version != 1 {
		t.Errorf("the same command again: %+v", ack)
	}
	if ack := h.order(wire.Cmd{Name: wire.CmdRollback}); ack.Phase != wire.CmdRejected {
		t.Errorf("another one: %+v", ack)
	}
	if r := a.slots.Running(); r == nil || r.Version != 1 {
		t.Errorf("running %+v", r)
	}
}

// An activate of what cannot be fetched ends when its time does.
func TestActivateExpires(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	a, _ := run(t, c)
	h.want(h.offer(1, false), nil)
	h.until("version 1", func() bool { return h.ended(1) == wire.StateActive })
	wait(t, "the hub's time", func() bool { _, ok := a.clock.now(); return ok })
	h.web.Close()
	args, err := json.Marshal(h.offer(2, false))
	if err != nil {
		t.Fatal(err)
	}
	ack := h.order(wire.Cmd{Name: wire.CmdActivate, Args: args, NotAfter: time.Now().Add(2 * time.Second)})
	if ack.Phase != wire.CmdExpired {
		t.Errorf("%+v", ack)
	}
}

// What the agent reports when it connects and what it reports because
// something changed are told by two goroutines: the newer comes last.
func TestNewestReportIsTheLast(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	a, _ := run(t, c)
	h.until("hello", func() bool { return len(h.hellos) > 0 })
	for range 20 {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				a.hub.gen.Add(1)
				a.hub.publishReported(t.Context())
			})
		}
		all.Wait()
		h.order(wire.Cmd{Name: wire.CmdStatus}) // its answer comes after them
		h.mu.Lock()
		got := h.reported.Gen
		h.mu.Unlock()
		if want := a.hub.gen.Load(); got != want {
			t.Fatalf("the hub was told of generation %d last, want %d", got, want)
		}
	}
}
