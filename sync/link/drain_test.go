package link

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"dunlin/sync/outbox"
	"dunlin/sync/wire"
)

var device = wire.Device{Tenant: "acme", Name: "pi-7"}

// testHub stores what a device sends by the rule of docs/WIRE.md, and
// acknowledges some of it.
type testHub struct {
	t    *testing.T
	link *Link
	stop func()
	lazy func() bool // whether to forget an acknowledgement

	mu     sync.Mutex
	mark   int64
	bodies []string // of records, in the order they were stored
	copies int      // batches that brought nothing new
}

func startHub(t *testing.T, b broker, lazy func() bool) *testHub {
	h := &testHub{t: t, mark: 1, lazy: lazy}
	ready := make(chan struct{})
	l, stop := run(t, Options{
		URL: b.url(), ClientID: "hub", User: "hub", Password: "pw",
		Subscribe: []Sub{{wire.AllTopics(wire.UpResult), 1}},
		Handle:    func(m Message) { <-ready; h.take(m) },
	})
	h.link, h.stop = l, stop
	close(ready)
	return h
}

func (h *testHub) take(m Message) {
	from, kind, err := wire.ParseTopic(m.Topic)
	if err != nil || kind != wire.UpResult {
		h.t.Errorf("message on %s: %v", m.Topic, err)
		return
	}
	batch, records, err := wire.DecodeBatch(m.Payload)
	if err != nil {
		h.t.Error(err)
		return
	}
	h.mu.Lock()
	fresh, next, err := wire.Unseen(records, h.mark)
	if err != nil {
		h.t.Error(err)
	}
	if len(fresh) == 0 {
		h.copies++
	}
	for _, r := range fresh {
		h.bodies = append(h.bodies, string(r.Body))
	}
	h.mark = next
	h.mu.Unlock()
	if h.lazy() {
		return
	}
	ack, err := wire.Encode(wire.Ack{Epoch: batch.Epoch, Upto: next, HubTime: time.Now()})
	if err != nil {
		h.t.Error(err)
		return
	}
	// Where it fails the device sends again, and is told again.
	_ = h.link.Publish(context.Background(), Message{Topic: wire.Topic(from, wire.DownAck), Payload: ack})
}

func (h *testHub) stored() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.bodies)
}

// startDevice connects an outbox with the broker.
func startDevice(t *testing.T, b broker, box *outbox.Outbox, o DrainOptions) (stop func()) {
	var l *Link
	known := make(chan struct{})
	drain := NewDrain(box, device, func(ctx context.Context, m Message) error { <-known; return l.Publish(ctx, m) }, o)
	l, stopLink := run(t, Options{
		URL: b.url(), ClientID: device.ClientID(),
		Subscribe: []Sub{{wire.Topic(device, wire.DownAck), 0}},
		OnConnect: func(context.Context) { drain.Connected() },
		Handle: func(m Message) {
			a, err := wire.Decode[wire.Ack](m.Payload)
			if err != nil {
				t.Error(err)
				return
			}
			drain.Ack(a)
		},
	})
	close(known)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- drain.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		stopLink()
	})
	t.Cleanup(stop)
	return stop
}

func openBox(t *testing.T) *outbox.Outbox {
	t.Helper()
	box, err := outbox.Open(filepath.Join(t.TempDir(), "outbox"), outbox.Options{FlushDelay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Close(); err != nil {
			t.Error(err)
		}
	})
	return box
}

// TestNothingLostOverRestarts is the promise of the whole: records go in
// while the broker is killed and started again and acknowledgements get lost;
// each arrives at the hub once, in order, and the outbox is empty in the end.
func TestNothingLostOverRestarts(t *testing.T) {
	brokers(t, func(t *testing.T, b broker) {
		const n, restarts = 1500, 3
		box := openBox(t)
		var coin sync.Mutex
		r := rand.New(rand.NewPCG(1, 2))
		hub := startHub(t, b, func() bool {
			coin.Lock()
			defer coin.Unlock()
			return r.IntN(4) == 0
		})
		stop := startDevice(t, b, box, DrainOptions{Records: 10, Timeout: 100 * time.Millisecond, MaxTimeout: time.Second})

		body := func(i int) string { return fmt.Sprintf(`{"n":%d}`, i) }
		var producer sync.WaitGroup
		producer.Go(func() {
			for i := range n {
				if _, err := box.Put(context.Background(), wire.RecordResult, []byte(body(i))); err != nil {
					t.Error(err)
					return
				}
			}
		})
		defer producer.Wait()
		for i := range restarts {
			waitFor(t, "some arrived", func() bool { return hub.stored() > (2*i+1)*n/10 })
			b.stop(t)
			offline := box.State().Next
			waitFor(t, "more are made without a broker", func() bool { return box.State().Next > min(offline+50, n) })
			b.start(t)
		}
		producer.Wait()
		waitFor(t, "the outbox is empty", func() bool { s := box.State(); return s.First == s.Next })
		stop()
		hub.mu.Lock()
		defer hub.mu.Unlock()
		if len(hub.bodies) != n || hub.mark != n+1 {
			t.Fatalf("the hub has %d records and is at %d, want %d", len(hub.bodies), hub.mark, n)
		}
		for i, got := range hub.bodies {
			if got != body(i) {
				t.Fatalf("record %d is %s, want %s", i, got, body(i))
			}
		}
		t.Logf("%d records, %d batches came twice or too early", n, hub.copies)
	})
}

// TestDrainStops: nothing of a Drain or its link is left behind, also with
// records that nobody acknowledges.
func TestDrainStops(t *testing.T) {
	b := newNATS(t)
	box := openBox(t)
	hub := startHub(t, b, func() bool { return true })
	stop := startDevice(t, b, box, DrainOptions{Timeout: 100 * time.Millisecond})
	if _, err := box.Put(t.Context(), wire.RecordResult, []byte(`1`)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "it arrived", func() bool { return hub.stored() == 1 })
	stop()
	hub.stop()
	noneLeft(t)
	if s := box.State(); s.First != 1 || s.Next != 2 {
		t.Errorf("state %+v: gone without an acknowledgement", s)
	}
}

// TestDrainSendsGapsAndReports: a full outbox drops results while the hub is
// away; the numbers stay without a hole, and the hub knows what it lost.
func TestDrainSendsGapsAndReports(t *testing.T) {
	b := newNATS(t)
	box, err := outbox.Open(filepath.Join(t.TempDir(), "outbox"), outbox.Options{Each: true, MaxBytes: 2000})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	for i := range 30 {
		kind := wire.RecordResult
		if i == 5 {
			kind = wire.RecordReport
		}
		if _, err := box.Put(t.Context(), kind, fmt.Appendf(nil, `{"n":%d}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	hub := startHub(t, b, func() bool { return false })
	stop := startDevice(t, b, box, DrainOptions{Records: 4, Timeout: 100 * time.Millisecond})
	waitFor(t, "the outbox is empty", func() bool { s := box.State(); return s.First == s.Next })
	stop()
	hub.mu.Lock()
	defer hub.mu.Unlock()
	if hub.bodies[0] != `{"first":1,"count":5,"why":"quota"}` || hub.bodies[1] != `{"n":5}` || hub.mark != 31 {
		t.Errorf("the hub is at %d and has %v", hub.mark, hub.bodies)
	}
}

// TestOverACutLine breaks connections again and again in the middle of a
// stream, with both ends there all the time.
func TestOverACutLine(t *testing.T) {
	b := newNATS(t)
	url, cut := proxy(t, b)
	box := openBox(t)
	hub := startHub(t, b, func() bool { return false })
	stop := startDevice(t, wired{b, url}, box, DrainOptions{Records: 5, Timeout: 100 * time.Millisecond})
	const n = 600
	for i := range n {
		if _, err := box.Put(t.Context(), wire.RecordResult, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
		if i%100 == 99 {
			cut()
		}
	}
	waitFor(t, "the outbox is empty", func() bool { s := box.State(); return s.First == s.Next })
	stop()
	hub.mu.Lock()
	defer hub.mu.Unlock()
	if len(hub.bodies) != n || hub.bodies[n-1] != fmt.Sprint(n-1) {
		t.Errorf("the hub has %d records", len(hub.bodies))
	}
}

// wired is a broker behind a proxy.
type wired struct {
	broker
	address string
}

func (w wired) url() string { return w.address }
