package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"dunlin/engine"
	"dunlin/facts"
	"dunlin/facts/cache"
	"dunlin/hub/broker"
	"dunlin/internal/freeport"
	"dunlin/internal/oci"
	"dunlin/internal/sign"
	"dunlin/model"
	"dunlin/model/pack"
	"dunlin/sync/link"
	"dunlin/sync/wire"
)

// testHub is as little of a hub as an agent needs: a real broker, a link, the
// blobs over HTTP, and every record stored once. It can be stopped and
// started again at the same addresses.
type testHub struct {
	t       testing.TB
	dir     string
	key     sign.PrivateKey
	release sign.PrivateKey
	device  wire.Device
	secret  string
	store   *oci.Layout
	web     *httptest.Server
	addr    string // of the broker

	mu       sync.Mutex
	marks    map[string]int64 // epoch -> watermark
	results  []wire.Result
	reports  []wire.Report
	twice    int // records that came again
	acks     map[string]wire.CmdAck
	hellos   []wire.Hello
	reported wire.Reported
	gen      int64
	desired  []byte
	mute     bool // does not acknowledge

	stop func()
	l    *link.Link
}

func newTestHub(t testing.TB) *testHub {
	t.Helper()
	h := &testHub{
		t: t, dir: t.TempDir(), addr: freeport.Addr(t), device: wire.Device{Tenant: "shore", Name: "pi-1"}, secret: "0123456789abcdef0123",
		marks: map[string]int64{}, acks: map[string]wire.CmdAck{},
	}
	var err error
	for _, k := range []*sign.PrivateKey{&h.key, &h.release} {
		if *k, err = sign.Generate(); err != nil {
			t.Fatal(err)
		}
	}
	if h.store, err = oci.Create(filepath.Join(h.dir, "store")); err != nil {
		t.Fatal(err)
	}
	h.web = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		digest := oci.Digest(strings.TrimPrefix(r.URL.Path, "/v1/blob/"))
		path, err := h.store.Path(digest)
		if err != nil || r.Header.Get("Authorization") != "Bearer "+h.secret {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		http.ServeFile(w, r, path)
	}))
	t.Cleanup(h.web.Close)
	h.start()
	t.Cleanup(func() { h.halt() })
	return h
}

func (h *testHub) token() string {
	h.t.Helper()
	line, err := wire.Token{
		MQTT: "tcp://" + h.addr, HTTP: h.web.URL, Tenant: h.device.Tenant, Device: h.device.Name,
		Secret: h.secret, HubKey: h.key.Public(), ReleaseKeys: sign.Trust{h.release.Public()},
	}.Encode()
	if err != nil {
		h.t.Fatal(err)
	}
	return line
}

func (h *testHub) broker() (*broker.Broker, error) {
	return broker.New(broker.Options{
		Dir: filepath.Join(h.dir, "nats"), Addr: h.addr,
		Auth: func(user, password, clientID string) (broker.Permissions, error) {
			if password != h.secret {
				return broker.Permissions{}, fmt.Errorf("wrong password")
			}
			top := "dunlin/v1/" + h.device.String()
			return broker.Permissions{Publish: []string{top + "/up/+"}, Subscribe: []string{top + "/down/+"}}, nil
		},
	})
}

// start starts the hub, on the same port each time, as soon as whoever has
// taken it in between lets go of it.
func (h *testHub) start() {
	h.t.Helper()
	var b *broker.Broker
	var err error
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if b, err = h.broker(); err == nil {
			err = b.Start()
		}
		if err == nil {
			break
		}
		if b != nil {
			b.Close()
		}
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(end) {
			h.t.Fatal(err)
		}
	}
	client, user, password := b.Credentials()
	var subs []link.Sub
	for _, k := range wire.UpKinds {
		subs = append(subs, link.Sub{Topic: wire.AllTopics(k)})
	}
	h.l, err = link.New(link.Options{
		URL: b.URL(), ClientID: client, User: user, Password: password, Subscribe: subs, Handle: h.handle, MinDelay: 50 * time.Millisecond,
		OnConnect: func(ctx context.Context) {
			h.mu.Lock()
			d := h.desired
			h.mu.Unlock()
			if d != nil {
				_ = h.l.Publish(ctx, link.Message{Topic: wire.Topic(h.device, wire.DownWanted), Payload: d, QoS: 1, Retain: true})
			}
		},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.l.Run(ctx) }()
	h.stop = func() {
		stop()
		if err := <-done; err != nil {
			h.t.Error(err)
		}
		b.Close()
	}
	// A device that says hello before the hub listens says it to nobody.
	for end := time.Now().Add(time.Minute); !h.l.Connected(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatal(h.l.Err())
		}
	}
}

// halt unplugs the hub.
func (h *testHub) halt() {
	if h.stop != nil {
		h.stop()
		h.stop = nil
	}
}

func (h *testHub) handle(m link.Message) {
	_, kind, err := wire.ParseTopic(m.Topic)
	if err != nil {
		h.t.Error(err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch kind {
	case wire.UpHello:
		hello, err := wire.Decode[wire.Hello](m.Payload)
		if err != nil {
			h.t.Error(err)
		}
		h.hellos = append(h.hellos, hello)
		if hello.Gen < h.gen { // as the real hub does: a retained message can cross a subscription
			_ = h.l.Publish(h.t.Context(), link.Message{Topic: wire.Topic(h.device, wire.DownWanted), Payload: h.desired, QoS: 1, Retain: true})
		}
	case wire.UpReported:
		if h.reported, err = wire.Decode[wire.Reported](m.Payload); err != nil {
			h.t.Error(err)
		}
	case wire.UpCmdAck:
		ack, err := wire.Decode[wire.CmdAck](m.Payload)
		if err != nil {
			h.t.Error(err)
		}
		h.acks[ack.ID+"/"+string(ack.Phase)] = ack
	case wire.UpResult:
		h.batch(m.Payload)
	}
}

func (h *testHub) batch(payload []byte) {
	b, records, err := wire.DecodeBatch(payload)
	if err != nil {
		h.t.Error(err)
		return
	}
	mark := max(h.marks[b.Epoch], 1)
	fresh, next, err := wire.Unseen(records, mark)
	if err != nil {
		h.t.Error(err)
		return
	}
	h.twice += len(records) - len(fresh)
	h.marks[b.Epoch] = next
	for _, r := range fresh {
		switch r.Kind {
		case wire.RecordResult:
			var res wire.Result
			if err := json.Unmarshal(r.Body, &res); err != nil {
				h.t.Error(err)
			}
			h.results = append(h.results, res)
		case wire.RecordReport:
			var rep wire.Report
			if err := json.Unmarshal(r.Body, &rep); err != nil {
				h.t.Error(err)
			}
			h.reports = append(h.reports, rep)
		default:
			h.t.Errorf("record of kind %s", r.Kind)
		}
	}
	if h.mute {
		return
	}
	ack, err := wire.Encode(wire.Ack{Epoch: b.Epoch, Upto: next, HubTime: time.Now()})
	if err != nil {
		h.t.Error(err)
	}
	_ = h.l.Publish(context.Background(), link.Message{Topic: wire.Topic(h.device, wire.DownAck), Payload: ack})
}

// want publishes a new Desired.
func (h *testHub) want(model, facts *wire.Offer) {
	h.t.Helper()
	h.desire(wire.Desired{Model: model, Facts: facts})
}

func (h *testHub) desire(want wire.Desired) {
	h.t.Helper()
	h.mu.Lock()
	h.gen++
	want.Gen, want.At = h.gen, time.Now()
	d, err := wire.Seal(h.key, h.device, wire.DownWanted, want)
	if err != nil {
		h.t.Fatal(err)
	}
	h.desired = d
	h.mu.Unlock()
	h.publish(link.Message{Topic: wire.Topic(h.device, wire.DownWanted), Payload: d, QoS: 1, Retain: true})
}

// publish says m as soon as the hub's own link is up.
func (h *testHub) publish(m link.Message) {
	h.t.Helper()
	wait(h.t, "the hub's link", func() bool { return h.l.Publish(h.t.Context(), m) == nil })
}

// order sends a command and returns how it ended.
func (h *testHub) order(c wire.Cmd) wire.CmdAck {
	h.t.Helper()
	if c.ID == "" {
		c.ID = ulid.Make().String()
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Minute)
	}
	doc, err := wire.Seal(h.key, h.device, wire.DownCmd, c)
	if err != nil {
		h.t.Fatal(err)
	}
	h.publish(link.Message{Topic: wire.Topic(h.device, wire.DownCmd), Payload: doc, QoS: 1})
	var ack wire.CmdAck
	h.until("outcome of "+string(c.Name), func() bool {
		for _, p := range []wire.CmdPhase{wire.CmdDone, wire.CmdRejected, wire.CmdExpired} {
			if a, ok := h.acks[c.ID+"/"+string(p)]; ok {
				ack = a
				return true
			}
		}
		return false
	})
	return ack
}

// ended returns how a version of the model ended, "" where it did not yet.
func (h *testHub) ended(version int64) wire.State {
	for _, r := range h.reports {
		if r.Kind == wire.OfferModel && r.Version == version && r.State != wire.StateTrial {
			return r.State
		}
	}
	return ""
}

// until waits for a condition, which is asked with the lock held.
func (h *testHub) until(what string, ok func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; {
		h.mu.Lock()
		done := ok()
		h.mu.Unlock()
		if done {
			return
		}
		if time.Now().After(deadline) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.t.Fatalf("waited in vain for: %s (%d results, reports %+v, reported %+v)", what, len(h.results), h.reports, h.reported)
		}
		pause()
	}
}

// pause gives the processor away for a moment of a poll.
func pause() { <-time.After(5 * time.Millisecond) }

// offer packs a model that tells dark pictures from bright ones, 4 x 4 gray.
func (h *testHub) offer(version int64, wrong bool) *wire.Offer {
	h.t.Helper()
	g := model.New("shade")
	g.Inputs, g.Outputs = []string{"image"}, []string{"scores"}
	g.Values["image"] = &model.Value{Type: model.F32, Shape: model.Shape{1, 1, 4, 4}}
	w := make([]float32, 32)
	for i := range w {
		w[i] = float32(i%2)*2/16 - 1.0/16 // dark: -mean, bright: +mean
	}
	g.AddConst("w", model.Of(model.F32, w, 16, 2))
	g.AddConst("b", model.Of(model.F32, []float32{0.5, -0.5}, 2))
	g.Nodes = []*model.Node{
		{Op: "Flatten", Name: "flatten", In: []string{"image"}, Out: []string{"flat"}, Attrs: map[string]model.Attr{"axis": int64(1)}},
		{Op: "MatMul", Name: "matmul", In: []string{"flat", "w"}, Out: []string{"h"}},
		{Op: "Add", Name: "add", In: []string{"h", "b"}, Out: []string{"scores"}},
	}
	program, err := engine.Compile(g, engine.Options{})
	if err != nil {
		h.t.Fatal(err)
	}
	s := program.NewSession()
	for i := range s.Input(0).F32() {
		s.Input(0).F32()[i] = float32(i) / 16
	}
	question := s.Input(0).Clone()
	if err := s.Run(); err != nil {
		h.t.Fatal(err)
	}
	answer := s.Output(0).Clone()
	if wrong {
		answer.F32()[0]++
	}
	d, err := pack.Write(h.store, &pack.Pack{
		Name: "shade", Version: version, Graph: g, Labels: []string{"dark", "bright"},
		Entities:   map[string]string{"bright": "http://example.org/Bright"},
		Pipeline:   json.RawMessage(`{"inputs":[{"name":"image","color":"gray","width":4,"height":4}],"outputs":[{"name":"scores","top":2}]}`),
		Provenance: json.RawMessage(fmt.Sprintf(`{"made":%d}`, version)),
		Exam:       &pack.Exam{Tolerance: 1e-4, Cases: []pack.Case{{Inputs: []*model.Tensor{question}, Outputs: []*model.Tensor{answer}}}},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return &wire.Offer{
		Kind: wire.OfferModel, Name: "shade", Version: version, Manifest: string(d.Digest),
		Sig:   h.release.Sign(wire.OfferModel.Purpose(), []byte(d.Digest)),
		Trial: wire.TrialRules{Seconds: 1, MinRuns: 3, MaxMillis: 60_000},
	}
}

// graph packs facts about bright things.
func (h *testHub) graph(version int64) *wire.Offer {
	h.t.Helper()
	path := filepath.Join(h.dir, fmt.Sprintf("base-%d", version))
	err := cache.Build(path, "shades", version, func(yield func(facts.Fact, error) bool) {
		yield(facts.Fact{
			S: facts.Resource("http://example.org/Bright"), P: facts.Resource("http://example.org/hazard"),
			O: facts.Text(fmt.Sprintf("glare %d", version)),
		}, nil)
	})
	if err != nil {
		h.t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		h.t.Fatal(err)
	}
	layer, err := h.store.PutBytes(cache.MediaTypeBase, data)
	if err != nil {
		h.t.Fatal(err)
	}
	config, err := h.store.PutBytes("application/vnd.oci.empty.v1+json", []byte("{}"))
	if err != nil {
		h.t.Fatal(err)
	}
	d, err := h.store.PutManifest(&oci.Manifest{
		ArtifactType: "application/vnd.dunlin.facts.v1", Config: config, Layers: []oci.Descriptor{layer},
		Annotations: map[string]string{oci.AnnotationTitle: "shades", oci.AnnotationVersion: fmt.Sprint(version)},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return &wire.Offer{
		Kind: wire.OfferFacts, Name: "shades", Version: version, Manifest: string(d.Digest),
		Sig: h.key.Sign(wire.OfferFacts.Purpose(), []byte(d.Digest)),
	}
}

// picture returns a PNG of one shade; n makes its bytes its own.
func picture(t testing.TB, shade uint8, n int) []byte {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, 8, 8))
	for i := range img.Pix {
		img.Pix[i] = shade
	}
	for i := range 4 { // a few low bits of a few pixels
		img.SetGray(i, 0, color.Gray{Y: shade ^ uint8(n>>(4*i)&15)})
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// config writes a configuration for a device of the hub, and reads it.
func (h *testHub) config(t testing.TB) (Config, string) {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf("state_dir = %q\nmetrics_every_s = 1\n[hub]\ntoken = %q\n[folder]\ndir = %q\npoll_ms = 200\n"+
		"[http]\nlisten = \"127.0.0.1:0\"\n[outbox]\nflush_ms = 20\n[limits]\nenabled = false\n[log]\nlevel = \"debug\"\n",
		filepath.Join(dir, "state"), h.token(), filepath.Join(dir, "inbox"))
	path := filepath.Join(dir, "agent.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := ReadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	return c, path
}

// run starts an agent in this process, to which use gives what New does not
// open; stop ends it and is safe to repeat.
func run(t testing.TB, c Config, use ...func(*Agent)) (a *Agent, stop func()) {
	t.Helper()
	level := new(slog.LevelVar)
	a, err := New(c, slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelDebug})), level)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range use {
		f(a)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("agent: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return a, stop
}

// testLog shows the agent's log where the test failed.
type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// addSignature stores the offer's signature in the hub's layout, as "dunlin
// model sign" does.
func addSignature(h *testHub, o *wire.Offer) error {
	return pack.AddSignature(h.store, o.Manifest, o.Sig)
}
