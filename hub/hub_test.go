package hub_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dunlin/hub"
	"dunlin/internal/sign"
	"dunlin/sync/link"
	"dunlin/sync/outbox"
	"dunlin/sync/wire"
)

// site is a running hub.
type site struct {
	t          *testing.T
	url, admin string
	hub        *hub.Hub // nil where it runs in a process of its own
	stop       func()
}

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// run opens and runs a hub until the test ends, or stop is called.
func run(t *testing.T, o hub.Options) *site {
	t.Helper()
	if o.HTTPAddr == "" {
		o.HTTPAddr = "127.0.0.1:0"
	}
	if o.MQTTAddr == "" {
		o.MQTTAddr = "127.0.0.1:0"
	}
	o.Log = testLog(t)
	h, err := hub.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	s := &site{t: t, hub: h, stop: sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("hub ended: %v", err)
		}
	})}
	t.Cleanup(s.stop)
	select {
	case <-h.Ready():
	case err := <-ended:
		ended <- err
		t.Fatalf("hub ended: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("hub is not ready")
	}
	s.url, s.admin = h.HTTPURL(), h.AdminToken()
	return s
}

// call sends a request with the admin token and reads the JSON answer into
// out. It returns the status.
func (s *site) call(method, path string, body, out any) int {
	s.t.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	case []byte:
		r = bytes.NewReader(b)
	default:
		data, err := json.Marshal(b)
		if err != nil {
			s.t.Fatal(err)
		}
		r = bytes.NewReader(data)
	}
	req, err := http.NewRequest(method, s.url+path, r)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.admin)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		s.t.Logf("%s %s: %d %s", method, path, resp.StatusCode, data)
	} else if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			s.t.Fatalf("%s %s: %v in %s", method, path, err, data)
		}
	}
	return resp.StatusCode
}

// must is call for requests that succeed.
func (s *site) must(method, path string, body, out any) {
	s.t.Helper()
	if status := s.call(method, path, body, out); status != http.StatusOK {
		s.t.Fatalf("%s %s: status %d", method, path, status)
	}
}

// eventually polls until ok, with a deadline.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		<-tick.C
	}
}

// board is a device: the parts of sync that an agent uses, and nothing else.
type board struct {
	t     *testing.T
	token wire.Token
	id    wire.Device
	box   *outbox.Outbox
	link  *link.Link
	drain *link.Drain
	stop  func()
	count int // results put so far

	mu       sync.Mutex // guards what follows
	hello    wire.Hello
	reported []byte             // what it reported last
	desired  wire.Desired       // the newest
	takes    func(wire.Desired) // what it does with a new one, in the link's goroutine
	obeys    func(wire.Cmd)     // what it does with a command, in the link's goroutine
}

// holdAcks returns a BeforeAck that waits for goOn, and a channel that is closed
// when the first results are committed.
func holdAcks() (before func(), committed <-chan struct{}, goOn func()) {
	first, held := make(chan struct{}), make(chan struct{})
	commit := sync.OnceFunc(func() { close(first) })
	return func() { commit(); <-held }, first, func() { close(held) }
}

// enrol makes a device known and returns its token.
func (s *site) enrol(name string) wire.Token {
	s.t.Helper()
	var out struct{ Token string }
	s.must("POST", "/v1/devices", map[string]string{"tenant": "acme", "name": name}, &out)
	token, err := wire.ParseToken(out.Token)
	if err != nil {
		s.t.Fatal(err)
	}
	return token
}

// start connects a board with the outbox in dir.
func start(t *testing.T, token wire.Token, dir string) *board {
	t.Helper()
	return startTLS(t, token, dir, nil)
}

func startTLS(t *testing.T, token wire.Token, dir string, config *tls.Config) *board {
	t.Helper()
	b := &board{t: t, token: token, id: token.ID()}
	var err error
	if b.box, err = outbox.Open(filepath.Join(dir, "outbox.db"), outbox.Options{}); err != nil {
		t.Fatal(err)
	}
	b.hello = wire.Hello{Epoch: b.box.Epoch(), Boot: "b1", Agent: "test", OS: "linux/amd64"}
	o := link.Options{
		URL: token.MQTT, ClientID: b.id.ClientID(), User: b.id.ClientID(), Password: token.Secret, TLS: config,
		Handle: b.handle, MinDelay: 20 * time.Millisecond, MaxDelay: 200 * time.Millisecond,
		OnConnect: func(ctx context.Context) {
			b.sayHello(ctx)
			b.drain.Connected()
		},
		Will: &link.Message{Topic: wire.Topic(b.id, wire.UpStatus), Payload: []byte(`{"t":"status","online":false}`), QoS: 1, Retain: true},
	}
	for _, k := range wire.DownKinds {
		o.Subscribe = append(o.Subscribe, link.Sub{Topic: wire.Topic(b.id, k)})
	}
	if b.link, err = link.New(o); err != nil {
		t.Fatal(err)
	}
	b.drain = link.NewDrain(b.box, b.id, b.link.Publish, link.DrainOptions{Timeout: 500 * time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = b.link.Run(ctx) })
	running.Go(func() { _ = b.drain.Run(ctx) })
	b.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if err := b.box.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(b.stop)
	return b
}

func (b *board) sayHello(ctx context.Context) {
	b.mu.Lock()
	v, reported := b.hello, b.reported
	b.mu.Unlock()
	v.Outbox = b.box.State()
	payload, err := wire.Encode(v)
	if err != nil {
		b.t.Error(err)
		return
	}
	b.say(ctx, wire.UpHello, payload)
	if reported != nil {
		b.say(ctx, wire.UpReported, reported)
	}
}

func (b *board) say(ctx context.Context, k wire.Kind, payload []byte) {
	if k == wire.UpReported {
		b.mu.Lock()
		b.reported = payload
		b.mu.Unlock()
	}
	// What is not said now is said at the next connect.
	_ = b.link.Publish(ctx, link.Message{Topic: wire.Topic(b.id, k), Payload: payload, QoS: 1, Retain: k == wire.UpReported})
}

func (b *board) handle(m link.Message) {
	_, kind, err := wire.ParseTopic(m.Topic)
	if err != nil {
		b.t.Error(err)
		return
	}
	switch kind {
	case wire.DownAck:
		a, err := wire.Decode[wire.Ack](m.Payload)
		if err != nil {
			b.t.Error(err)
			return
		}
		b.drain.Ack(a)
	case wire.DownWanted:
		var d wire.Desired
		if err := wire.Unseal(sign.Trust{b.token.HubKey}, b.id, kind, m.Payload, &d); err != nil {
			b.t.Error(err)
			return
		}
		b.mu.Lock()
		takes, isNew := b.takes, d.Gen > b.hello.Gen
		if isNew {
			b.desired, b.hello.Gen = d, d.Gen
		}
		b.mu.Unlock()
		if takes != nil && isNew {
			takes(d)
		}
	case wire.DownCmd:
		var c wire.Cmd
		if err := wire.Unseal(sign.Trust{b.token.HubKey}, b.id, kind, m.Payload, &c); err != nil {
			b.t.Error(err)
			return
		}
		b.mu.Lock()
		obeys := b.obeys
		b.mu.Unlock()
		if obeys != nil {
			obeys(c)
		}
	}
}

// newest returns the newest desired document.
func (b *board) newest() wire.Desired {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.desired
}

// says sets what the board does from now on.
func (b *board) says(takes func(wire.Desired), obeys func(wire.Cmd)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.takes, b.obeys = takes, obeys
}

// send encodes and publishes a message.
func send[M any](b *board, k wire.Kind, v M, encode func(M) ([]byte, error)) {
	payload, err := encode(v)
	if err != nil {
		b.t.Error(err)
		return
	}
	b.say(context.Background(), k, payload)
}

// reports says that a model got into a state, and which model answers.
func (b *board) reports(o *wire.Offer, s wire.State, why wire.Reason, runs *wire.Offer) {
	r := wire.Reported{Gen: b.newest().Gen, Reports: []wire.Report{{
		Kind: o.Kind, Name: o.Name, Version: o.Version, Digest: o.Manifest, State: s, Reason: why,
	}}}
	if runs != nil {
		r.Model = &wire.Running{Name: runs.Name, Version: runs.Version, Digest: runs.Manifest}
	}
	send(b, wire.UpReported, r, wire.Encode[wire.Reported])
}

// put stores n results, each with an input of its own. The outbox commits in
// groups, so they are put side by side.
func (b *board) put(n int) {
	b.t.Helper()
	var wg sync.WaitGroup
	for range n {
		b.count++
		body, err := json.Marshal(wire.Result{
			Input:  fmt.Sprintf("sha256:%s-%d", b.id.Name, b.count),
			Model:  wire.Running{Name: "m", Version: 1, Digest: "sha256:m"},
			Labels: []wire.Label{{Label: "bag", Score: 0.9}}, Micros: 100,
		})
		if err != nil {
			b.t.Fatal(err)
		}
		wg.Go(func() {
			if _, err := b.box.Put(context.Background(), wire.RecordResult, body); err != nil {
				b.t.Error(err)
			}
		})
	}
	wg.Wait()
}

// drained reports whether the hub has acknowledged everything.
func (b *board) drained() bool {
	s := b.box.State()
	return s.First == s.Next
}
