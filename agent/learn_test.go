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
	"io"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"dunlin/agent/probe"
	"dunlin/engine"
	"dunlin/model"
	"dunlin/model/onnx"
	"dunlin/model/pack"
	"dunlin/model/prep"
	"dunlin/model/samples"
	"dunlin/quant"
	"dunlin/sync/wire"
	"dunlin/train/head"
)

var garments = filepath.Join("..", "examples", "garments")

// demo is the demo's network in int8, and what belongs into its pack.
type demo struct {
	graph  *model.Graph
	spec   prep.Spec
	labels []string
}

var makeDemo = sync.OnceValues(func() (*demo, error) {
	data, err := os.ReadFile(filepath.Join(garments, "garments.onnx"))
	if err != nil {
		return nil, err
	}
	g, err := onnx.Import(data)
	if err != nil {
		return nil, err
	}
	d := &demo{}
	if data, err = os.ReadFile(filepath.Join(garments, "prep.toml")); err != nil {
		return nil, err
	}
	if d.spec, err = prep.ParseTOML(data); err != nil {
		return nil, err
	}
	if data, err = os.ReadFile(filepath.Join(garments, "labels.txt")); err != nil {
		return nil, err
	}
	if d.labels, err = prep.ParseLabels(bytes.NewReader(data)); err != nil {
		return nil, err
	}
	set, err := samples.Open(filepath.Join(garments, "calibration"), samples.Options{Limit: 48})
	if err != nil {
		return nil, err
	}
	ranges, err := quant.Calibrate(g, func(i int) ([]*model.Tensor, error) { return d.inputs(set, i) }, set.Len(), quant.Options{})
	if err != nil {
		return nil, err
	}
	d.graph, _, err = quant.Apply(g, ranges, quant.Options{})
	return d, err
})

func (d *demo) inputs(set *samples.Set, i int) ([]*model.Tensor, error) {
	s, err := set.At(i)
	if err != nil {
		return nil, err
	}
	t, err := model.NewTensor(model.F32, d.spec.Inputs[0].Shape()...)
	if err != nil {
		return nil, err
	}
	return []*model.Tensor{t}, d.spec.Inputs[0].Picture(s.Picture, t)
}

// garments packs the demo's network with an exam of two pictures.
func (h *testHub) garments(version int64) *wire.Offer {
	h.t.Helper()
	d, err := makeDemo()
	if err != nil {
		h.t.Fatal(err)
	}
	p, err := engine.Compile(d.graph, engine.Options{Kernels: "generic", Symbolic1: true})
	if err != nil {
		h.t.Fatal(err)
	}
	set, err := samples.Open(filepath.Join(garments, "samples"), samples.Options{Limit: 2})
	if err != nil {
		h.t.Fatal(err)
	}
	exam, s := &pack.Exam{Exact: true}, p.NewSession()
	for i := range set.Len() {
		in, err := d.inputs(set, i)
		if err != nil {
			h.t.Fatal(err)
		}
		copy(s.Input(0).Data, in[0].Data)
		if err := s.Run(); err != nil {
			h.t.Fatal(err)
		}
		exam.Cases = append(exam.Cases, pack.Case{Inputs: in, Outputs: []*model.Tensor{s.Output(0).Clone()}})
	}
	pipeline, err := json.Marshal(d.spec)
	if err != nil {
		h.t.Fatal(err)
	}
	desc, err := pack.Write(h.store, &pack.Pack{
		Name: "garments", Version: version, Graph: d.graph, Labels: d.labels, Pipeline: pipeline, Exam: exam,
		Provenance: json.RawMessage(fmt.Sprintf(`{"made":%d}`, version)),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return &wire.Offer{
		Kind: wire.OfferModel, Name: "garments", Version: version, Manifest: string(desc.Digest),
		Sig:   h.release.Sign(wire.OfferModel.Purpose(), []byte(desc.Digest)),
		Trial: wire.TrialRules{Seconds: 1, MinRuns: 3, MaxMillis: 60_000},
	}
}

// lesson is a picture's file and its class.
type lesson struct {
	class int
	png   []byte
}

// negatives are pictures of the example as negatives: dark pieces on white,
// which the network was not trained on.
func negatives(t testing.TB, folder string) (all []lesson) {
	t.Helper()
	set, err := samples.Open(filepath.Join(garments, folder), samples.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range set.Len() {
		s, err := set.At(i)
		if err != nil {
			t.Fatal(err)
		}
		n := image.NewGray(s.Picture.Bounds())
		for y := n.Rect.Min.Y; y < n.Rect.Max.Y; y++ {
			for x := n.Rect.Min.X; x < n.Rect.Max.X; x++ {
				n.SetGray(x, y, color.Gray{Y: 255 - color.GrayModel.Convert(s.Picture.At(x, y)).(color.Gray).Y})
			}
		}
		var b bytes.Buffer
		if err := png.Encode(&b, n); err != nil {
			t.Fatal(err)
		}
		all = append(all, lesson{s.Class, b.Bytes()})
	}
	return all
}

// form writes lessons as curl -F does.
func form(t testing.TB, labels []string, all []lesson) (body *bytes.Buffer, kind string) {
	t.Helper()
	body = new(bytes.Buffer)
	w := multipart.NewWriter(body)
	for i, l := range all {
		f, err := w.CreateFormFile(labels[l.class], fmt.Sprintf("%d.png", i))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(l.png); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return body, w.FormDataContentType()
}

// local talks to an agent over its socket.
type local struct {
	t      testing.TB
	client *http.Client
}

func dial(t testing.TB, c Config) local {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", c.HTTP.Socket)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return local{t, &http.Client{Transport: transport}}
}

// ask returns the status and the body; 0 where the agent is gone.
func (l local) ask(method, path, kind string, body io.Reader) (int, []byte) {
	l.t.Helper()
	req, err := http.NewRequest(method, "http://localhost"+path, body)
	if err != nil {
		l.t.Fatal(err)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	res, err := l.client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, nil
	}
	return res.StatusCode, text
}

const learnPath = "/v1/models/garments/learn"

// state returns the document of learning.
func (l local) state() (d Learned) {
	l.t.Helper()
	status, text := l.ask("GET", learnPath, "", nil)
	if status != http.StatusOK {
		return Learned{State: fmt.Sprintf("%d %s", status, text)}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		l.t.Fatalf("%s: %v", text, err)
	}
	return d
}

func (l local) teach(labels []string, all []lesson) {
	l.t.Helper()
	body, kind := form(l.t, labels, all)
	if status, text := l.ask("POST", learnPath, kind, body); status != http.StatusOK {
		l.t.Fatalf("teach: %d %s", status, text)
	}
}

// scores returns what the model that answers makes of pictures, and how many
// are right.
func scores(t testing.TB, a *Agent, all []lesson) (bits []byte, right int) {
	t.Helper()
	m, err := a.slots.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	for _, l := range all {
		fill := func(s *engine.Session) error { return a.p.fill(t.Context(), m, l.png, s) }
		_, err := m.Run(t.Context(), fill, func(s *engine.Session) error {
			out := s.Output(0)
			bits = append(bits, out.Data...)
			if slices.Index(out.F32(), slices.Max(out.F32())) == l.class {
				right++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return bits, right
}

// learnConfig is a configuration of an agent that learns.
func (h *testHub) learnConfig(t testing.TB) (Config, string) {
	t.Helper()
	_, path := h.config(t)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, "[learn]\nenabled = true\ntrial_s = 1\n"...)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := ReadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	return c, path
}

// A device is taught pictures of another kind: it is right about more of
// those that it did not see, says so in its results, keeps it over a restart,
// and answers as it was signed, bit for bit, when it is to forget; a new model
// ends it too.
func TestLearn(t *testing.T) {
	t.Parallel()
	h := newTestHub(t)
	c, _ := h.learnConfig(t)
	a, stop := run(t, c)
	h.want(h.garments(1), nil)
	h.until("version 1", func() bool { return h.ended(1) == wire.StateActive })
	l, labels := dial(t, c), a.labels(t)
	taught, test := negatives(t, "calibration"), negatives(t, "samples")
	signed, before := scores(t, a, test)
	l.teach(labels, taught)
	wait(t, "the head", func() bool { d := l.state(); return d.Last != nil && d.Last.Ended != "" })
	d := l.state()
	if d.Head != 1 || d.Last.Ended != "active" || d.Kept != len(taught) || d.Last.After <= d.Last.Before || d.Needs == "" {
		t.Fatalf("learned: %+v, last %+v", d, d.Last)
	}
	learned, after := scores(t, a, test)
	t.Logf("%v; other pictures: %d of %d right, then %d", d.Last.Outcome, before, len(test), after)
	if after < before+len(test)/5 {
		t.Errorf("%d of %d right, then %d", before, len(test), after)
	}
	status, text := l.ask("POST", "/v1/infer", "image/png", bytes.NewReader(test[0].png))
	var r wire.Result
	if err := json.Unmarshal(text, &r); err != nil || r.Model.Learned != 1 {
		t.Errorf("result: %d %s", status, text)
	}
	status, text = l.ask("POST", "/v2/models/garments/infer", "image/png", bytes.NewReader(test[0].png))
	if !strings.Contains(string(text), `"1+learned.1"`) {
		t.Errorf("open inference protocol: %d %s", status, text)
	}
	h.until("the result at the hub", func() bool { return len(h.results) > 0 && h.results[0].Model.Learned == 1 })

	stop()
	a, stop = run(t, c)
	if again, _ := scores(t, a, test); !bytes.Equal(again, learned) {
		t.Error("after a restart it answers otherwise")
	}
	if status, text := l.ask("DELETE", learnPath, "", nil); status != http.StatusOK {
		t.Fatalf("forget: %d %s", status, text)
	}
	if again, _ := scores(t, a, test); !bytes.Equal(again, signed) {
		t.Error("after it forgot it does not answer as it was signed")
	}
	if d := l.state(); d.Head != 0 || d.Kept != 0 || d.Seen != 0 || d.Last != nil {
		t.Errorf("forgotten: %+v", d)
	}

	l.teach(labels, taught)
	wait(t, "the head again", func() bool { return l.state().Head == 2 })
	if again, _ := scores(t, a, test); !bytes.Equal(again, learned) {
		t.Error("the same lessons made another head")
	}
	h.want(h.garments(2), nil)
	h.until("version 2", func() bool { return h.ended(2) == wire.StateActive })
	if d := l.state(); d.Version != 2 || d.Head != 0 || d.Kept != 0 {
		t.Errorf("after a new model: %+v", d)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.reports {
		if r.Kind != wire.OfferModel || r.State == wire.StateReverted {
			t.Errorf("the hub was told of %+v", r)
		}
	}
	stop()
}

// labels returns the labels of the model that answers.
func (a *Agent) labels(t testing.TB) []string {
	t.Helper()
	m, err := a.slots.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	return slices.Clone(m.Labels())
}

// What cannot be used is refused, each with its status, and none of a request
// is kept then. Lessons that teach nothing change nothing.
func TestLearnRefuses(t *testing.T) {
	t.Parallel()
	h := newTestHub(t)
	c, _ := h.learnConfig(t)
	c.Learn.MaxPerMinute, c.Learn.MaxSamples = 600, 50
	a, stop := run(t, c)
	l := dial(t, c)
	if status, _ := l.ask("GET", learnPath, "", nil); status != http.StatusServiceUnavailable {
		t.Errorf("without a model: %d", status)
	}
	h.want(h.garments(1), nil)
	h.until("version 1", func() bool { return h.ended(1) == wire.StateActive })
	labels, all := a.labels(t), negatives(t, "calibration")
	mixed := append(slices.Clone(all[:5]), lesson{0, []byte("no picture")})
	mixedBody, mixedKind := form(t, labels, mixed)
	many := make([]lesson, 257)
	for i := range many {
		many[i] = all[0]
	}
	manyBody, manyKind := form(t, labels, many)
	empty, emptyKind := form(t, labels, nil)
	good := string(all[0].png)
	for _, q := range []struct {
		what, path, kind, body string
		want                   int
	}{
		{"no label", learnPath, "image/png", good, 400},
		{"an unknown label", learnPath + "?label=Zebra", "image/png", good, 400},
		{"no picture", learnPath + "?label=Coat", "image/png", "no picture", 400},
		{"nothing", learnPath + "?label=Coat", "image/png", "", 400},
		{"a cut picture", learnPath + "?label=Coat", "image/png", good[:len(good)/2], 400},
		{"another model", "/v1/models/zebras/learn?label=Coat", "image/png", good, 404},
		{"one bad of six", learnPath, mixedKind, mixedBody.String(), 400},
		{"an empty form", learnPath, emptyKind, empty.String(), 400},
		{"a form without an end", learnPath, mixedKind, mixedBody.String()[:900], 400},
		{"a form without a boundary", learnPath, "multipart/form-data", good, 400},
		{"a long label", learnPath + "?label=" + strings.Repeat("x", 2000), "image/png", good, 400},
		{"too large", learnPath + "?label=Coat", "image/png", strings.Repeat("x", 33<<20), 413},
		{"too many", learnPath, manyKind, manyBody.String(), 413},
	} {
		if status, text := l.ask("POST", q.path, q.kind, strings.NewReader(q.body)); status != q.want || !strings.Contains(string(text), "error") {
			t.Errorf("%s: %d %s, want %d", q.what, status, text, q.want)
		}
	}
	if d := l.state(); d.Kept != 0 || d.Seen != 0 {
		t.Errorf("kept of refused requests: %+v", d)
	}
	l.teach(labels, all[:40])
	l.teach(labels, all[:40]) // what is there already is not kept twice
	l.teach(labels, all[40:120])
	d := l.state()
	if d.Kept != 50 || d.Seen != 120 || d.Room != 50 {
		t.Errorf("room for 50: %+v", d)
	}
	for label, n := range d.Samples {
		if n < 3 || n > 8 {
			t.Errorf("%s has %d of 50 samples: %v", label, n, d.Samples)
		}
	}
	for i := 0; ; i++ { // the tokens of a minute come to an end
		status, text := l.ask("POST", learnPath+"?label=Coat", "image/png", strings.NewReader(good))
		if status == http.StatusTooManyRequests {
			break
		}
		if status != http.StatusOK || i > 600 {
			t.Fatalf("sample %d: %d %s", i, status, text)
		}
	}
	stop()
	c.Learn.MaxPerMinute = 100
	a, stop = run(t, c)
	tokens := func(add float64) float64 {
		a.learner.mu.Lock()
		defer a.learner.mu.Unlock()
		a.learner.tokens += add
		return a.learner.tokens
	}
	body, kind := form(t, labels, all[:101])
	if status, text := l.ask("POST", learnPath, kind, body); status != http.StatusRequestEntityTooLarge || tokens(0) != 100 {
		t.Errorf("more than a minute's: %d %s, %v tokens", status, text, tokens(0))
	}
	tokens(-50)
	body, kind = form(t, labels, all[:100])
	if status, text := l.ask("POST", learnPath, kind, body); status != http.StatusTooManyRequests || tokens(0) < 50 {
		t.Errorf("too often: %d %s, %v tokens are left", status, text, tokens(0))
	}
	stop()
	c.Learn.Enabled = false
	a, _ = run(t, c)
	for _, method := range []string{"GET", "POST", "DELETE"} {
		if status, text := l.ask(method, learnPath+"?label=Coat", "image/png", strings.NewReader(good)); status != http.StatusForbidden {
			t.Errorf("learning is off: %s %d %s", method, status, text)
		}
	}
	if r := a.slots.Running(); r == nil || r.Learned != 0 {
		t.Errorf("learning is off: %+v", r)
	}
}

// A sample that comes while the agent stops leaves no model held.
func TestLearnLetsGo(t *testing.T) {
	t.Parallel()
	h := newTestHub(t)
	c, _ := h.learnConfig(t)
	a, stop := run(t, c)
	h.want(h.garments(1), nil)
	h.until("version 1", func() bool { return h.ended(1) == wire.StateActive })
	defer stop()
	m, err := a.learner.signed("")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	good := probe.Lesson{Label: a.labels(t)[0], Data: negatives(t, "calibration")[0].png}
	if _, err := a.learner.sample(t.Context(), m, good); err != nil || a.learner.student == nil {
		t.Fatalf("a sample: %v", err)
	}
	if err := a.learner.close(); err != nil {
		t.Error(err)
	}
	if _, err := a.learner.sample(t.Context(), m, good); !errors.Is(err, probe.ErrNotReady) || a.learner.student != nil {
		t.Errorf("a sample while the agent stops: %v, held: %v", err, a.learner.student != nil)
	}
}

// The agent is killed at any moment while it is taught, trains and tries a
// head: what it said it has it has, a head is whole or not there, and in the
// end it has learned.
func TestKilledWhileItLearns(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("skipped: it kills processes")
	}
	t.Parallel()
	h := newTestHub(t)
	c, path := h.learnConfig(t)
	// When it is killed, in milliseconds after the first lesson: amid the
	// lessons, when training may begin, in a trial, after it.
	kills := []int{1150, 20, 2500, 1600, 1120}
	if testing.Short() {
		kills = kills[1:4]
	}
	start := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0], "run", "-config", path)
		cmd.Env = append(os.Environ(), "DUNLIN_TEST_MAIN=1")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	h.want(h.garments(1), nil)
	agent := start()
	h.until("version 1", func() bool { return h.ended(1) == wire.StateActive })
	d, err := makeDemo()
	if err != nil {
		t.Fatal(err)
	}
	l, all := dial(t, c), negatives(t, "calibration")
	// Pictures that were sent, and those that were acknowledged, by index.
	head := int64(0)
	next, heads, sent, known := 0, 0, map[int]bool{}, map[int]bool{}
	for k, moment := range kills {
		ready := func() bool { return l.state().Digest != "" }
		wait(t, "the agent to answer", ready)
		s := l.state()
		if s.Kept < len(known) || s.Kept > len(sent) || s.Kept != int(s.Seen) {
			t.Fatalf("after %d kills: %+v; %d were acknowledged, %d sent", k, s, len(known), len(sent))
		}
		if s.Head < head {
			t.Errorf("after %d kills head %d answers, before it was %d", k, s.Head, head)
		}
		if head = s.Head; head > 0 {
			heads++
		}
		after := time.After(ms(moment))
		killed := make(chan error, 1)
		go func() { <-after; killed <- agent.Process.Kill() }()
		for range 6 {
			body, kind := form(t, d.labels, all[next:next+10])
			mark := func(m map[int]bool) {
				for i := range 10 {
					m[next+i] = true
				}
			}
			mark(sent)
			status, _ := l.ask("POST", learnPath, kind, body)
			if status == http.StatusOK {
				mark(known)
			}
			if next = (next + 10) % len(all); status != http.StatusOK {
				break
			}
		}
		if err := <-killed; err != nil {
			t.Fatal(err)
		}
		_ = agent.Wait() // it was killed: that is its error
		agent = start()
	}
	wait(t, "the agent to answer", func() bool { return l.state().Digest != "" })
	more, kind := form(t, d.labels, all) // whatever was learned by now, there is a last training
	if status, text := l.ask("POST", learnPath, kind, more); status != http.StatusOK {
		t.Fatalf("the last lesson: %d %s", status, text)
	}
	wait(t, "a head", func() bool {
		s := l.state()
		return s.State == "collecting" && s.Last != nil && s.Last.Ended != "" && s.Last.Seen == s.Seen
	})
	s := l.state()
	if s.Head == 0 || s.Last.Ended != "active" {
		t.Errorf("in the end: %+v, last %+v", s, s.Last)
	}
	t.Logf("%d kills, %d samples; a head answered after %d of them; last: head %d, %v", len(kills), s.Seen, heads, s.Head, s.Last.Outcome)
	if files, err := filepath.Glob(filepath.Join(c.StateDir, "learned-*")); err != nil || len(files) != 1 {
		t.Errorf("files %v, %v", files, err)
	}
	if err := agent.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := agent.Wait(); err != nil {
		t.Errorf("clean stop: %v", err)
	}
}

// A model in float learns too: to call dark what it called bright.
func TestLearnFloat(t *testing.T) {
	t.Parallel()
	h := newTestHub(t)
	c, _ := h.learnConfig(t)
	a, _ := run(t, c)
	h.want(h.offer(1, false), nil)
	h.until("version 1", func() bool { return h.ended(1) == wire.StateActive })
	l, labels := dial(t, c), a.labels(t)
	var all []lesson
	for i := range 30 {
		shade := 8 * i
		bright := 0
		if shade > 127 {
			bright = 1
		}
		all = append(all, lesson{1 - bright, picture(t, uint8(shade), i)})
	}
	body, kind := form(t, labels, all)
	if status, text := l.ask("POST", "/v1/models/shade/learn", kind, body); status != http.StatusOK {
		t.Fatalf("teach: %d %s", status, text)
	}
	wait(t, "the head", func() bool { r := a.slots.Running(); return r != nil && r.Learned == 1 && !a.slots.OnTrial() })
	if _, right := scores(t, a, all); right < 27 {
		t.Errorf("%d of %d right", right, len(all))
	}
}

// A training that took the agent down three times is not begun again until
// there is more to learn from.
func TestTrainingThatCrashes(t *testing.T) {
	store, err := openLessons(filepath.Join(t.TempDir(), "lessons.db"), 100, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.close(); err != nil {
			t.Error(err)
		}
	}()
	l := &learner{store: store, c: LearnConfig{MinPerClass: 5}}
	add := func(from, to int) {
		for i := from; i < to; i++ {
			if err := store.add([]head.Sample{{Class: i % 2, Feature: []byte{byte(i)}}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := store.of("d", 1); err != nil {
		t.Fatal(err)
	}
	add(0, 10)
	for tries := range 5 {
		if err := store.ended(&Training{Seen: 10, Tries: tries}); err != nil {
			t.Fatal(err)
		}
		if due := l.needs() == ""; due != (tries < 3) {
			t.Errorf("begun %d times: it needs %q", tries, l.needs())
		}
	}
	add(10, 15)
	if l.needs() != "" {
		t.Errorf("with more samples it needs %q", l.needs())
	}
}

// The reservoir keeps classes equal and, within a class that was full, all
// that came equally likely; and the same lessons leave the same samples.
func TestReservoir(t *testing.T) {
	fill := func() []int {
		a, class := about{}, []int(nil)
		a.fill()
		for i := range 3000 {
			c := 0
			switch {
			case i%10 == 1:
				c = 1
			case i%100 == 2:
				c = 2
			}
			_, class = a.place(class, c, 60)
		}
		return class
	}
	class := fill()
	n := map[int]int{}
	for _, c := range class {
		n[c]++
	}
	if len(class) != 60 || n[2] < 15 || n[1] < 15 || n[0] < 15 {
		t.Errorf("of 60: %v", n)
	}
	if !slices.Equal(class, fill()) {
		t.Error("the same lessons left other samples")
	}
	// Which of 400 samples of one class are kept in 20 places: early and late ones.
	a, at, early := about{}, []int(nil), 0
	a.fill()
	place := make([]int, 20)
	for i := range 400 {
		var p int
		if p, at = a.place(at, 0, 20); p >= 0 {
			place[p] = i
		}
	}
	for _, i := range place {
		if i < 200 {
			early++
		}
	}
	if early < 4 || early > 16 {
		t.Errorf("%d of 20 are of the first half", early)
	}
}

// A sample is kept once, with its newest label.
func TestSameLesson(t *testing.T) {
	l, err := openLessons(filepath.Join(t.TempDir(), "lessons.db"), 100, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.close(); err != nil {
			t.Error(err)
		}
	}()
	one, two := head.Sample{Class: 1, Feature: []byte{1, 2}}, head.Sample{Class: 2, Feature: []byte{3, 4}}
	again := one
	again.Class = 3
	if err := errors.Join(l.of("d", 2), l.add([]head.Sample{one, two, one}), l.add([]head.Sample{two, again})); err != nil {
		t.Fatal(err)
	}
	all, err := l.all()
	if err != nil || len(all) != 2 || all[0].Class != 3 || all[1].Class != 2 || l.about.Seen != 3 {
		t.Errorf("%+v, %v; %d seen", all, err, l.about.Seen)
	}
}

// A file of lessons that is torn is moved aside, and one with samples of
// another length gives them up.
func TestTornLessons(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.learnConfig(t)
	path := filepath.Join(c.StateDir, "lessons.db")
	if err := errors.Join(os.MkdirAll(c.StateDir, 0o700), os.WriteFile(path, bytes.Repeat([]byte("torn"), 4096), 0o600)); err != nil {
		t.Fatal(err)
	}
	_, stop := run(t, c)
	stop()
	if _, err := os.Stat(path + ".bad"); err != nil {
		t.Error(err)
	}
}

// Lessons that cannot be read are moved aside, and the device starts without
// them: what is no JSON, and a data page that is torn.
func TestUnreadableLessons(t *testing.T) {
	for name, spoil := range map[string]func(l *lessons, path string) error{
		"no JSON": func(l *lessons, _ string) error {
			err := l.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketAbout).Put(keyAbout, []byte("{")) })
			return errors.Join(err, l.close())
		},
		"a torn page": func(l *lessons, path string) error {
			var page int64
			err := l.db.View(func(tx *bolt.Tx) error {
				page = int64(tx.Bucket(bucketSamples).Root())
				return nil
			})
			size := int64(l.db.Info().PageSize)
			if err := errors.Join(err, l.close()); err != nil {
				return err
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(bytes.Repeat([]byte{0xff}, int(size)), page*size)
			return errors.Join(err, f.Close())
		},
	} {
		path := filepath.Join(t.TempDir(), "lessons.db")
		log := slog.New(slog.DiscardHandler)
		l, err := openLessons(path, 100, log)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.of("sha256:0", 512); err != nil {
			t.Fatal(err)
		}
		var all []head.Sample
		for i := range 50 { // more than what stands in the page of its bucket
			all = append(all, head.Sample{Class: i % 2, Feature: bytes.Repeat([]byte{byte(i)}, 512)})
		}
		if err := errors.Join(l.add(all), spoil(l, path)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if l, err = openLessons(path, 100, log); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(l.class) != 0 || l.about.Seen != 0 {
			t.Errorf("%s: %d samples, %+v", name, len(l.class), l.about)
		}
		if _, err := os.Stat(path + ".bad"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := errors.Join(l.of("sha256:0", 512), l.add(all), l.close()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
