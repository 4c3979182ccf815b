package slots

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dunlin/engine"
	"dunlin/internal/durable"
	"dunlin/internal/oci"
	"dunlin/internal/sign"
	"dunlin/model"
	"dunlin/model/pack"
	"dunlin/sync/fetch"
	"dunlin/sync/wire"
)

// shop is where the models of a test are made and signed, and the device that
// takes them.
type shop struct {
	t      *testing.T
	key    sign.PrivateKey
	store  *oci.Layout // the hub's
	layout *oci.Layout // the device's
	fsys   durable.FS
	dir    string

	mu      sync.Mutex
	reports []wire.Report
	fetches int
	// stubborn devices do not learn.
	stubborn bool
	standsIn bool                   // Config.StandsIn
	fetch    func(wire.Offer) error // before the copy; nil: nothing
	last     oci.Digest             // written
	errno    syscall.Errno          // of a card that sicken made
}

func newShop(t *testing.T) *shop {
	t.Helper()
	shorten(t)
	key, err := sign.Generate()
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{t: t, key: key, fsys: durable.OS, dir: t.TempDir()}
	for _, l := range []struct {
		to   **oci.Layout
		name string
	}{{&s.store, "hub"}, {&s.layout, "device"}} {
		if *l.to, err = oci.Create(filepath.Join(s.dir, l.name)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// recipe says how a test model differs from a good one.
type recipe struct {
	name    string
	version int64
	wrong   bool   // the exam promises another answer
	op      string // of its last node, "Softmax" where empty
	dense   bool   // a Gemm with a bias follows
	wide    bool   // a matrix follows that is too large for the graph's own file

	small func(*pack.Pack) // gives it a small form
}

// graph is y = op(x W), x float32 [1,4], and a table row that the integer
// input "row" chooses: a row that is not there makes a run fail.
func graph(r recipe) *model.Graph {
	g := model.New("tiny")
	g.Inputs, g.Outputs = []string{"x", "row"}, []string{"y"}
	g.Values["x"] = &model.Value{Type: model.F32, Shape: model.Shape{1, 4}}
	g.Values["row"] = &model.Value{Type: model.I64, Shape: model.Shape{1}}
	w := make([]float32, 12)
	for i := range w {
		w[i] = float32(i%5) - 2 + float32(r.version)/8
	}
	g.AddConst("w", model.Of(model.F32, w, 4, 3))
	g.AddConst("table", model.Of(model.F32, []float32{0, 0, 0, 1, 2, 3}, 2, 3))
	op := r.op
	if op == "" {
		op = "Relu"
	}
	g.Nodes = []*model.Node{
		{Op: "MatMul", Name: "matmul", In: []string{"x", "w"}, Out: []string{"h"}},
		{Op: "Gather", Name: "gather", In: []string{"table", "row"}, Out: []string{"bias"}},
		{Op: "Add", Name: "add", In: []string{"h", "bias"}, Out: []string{"sum"}},
		{Op: op, Name: "last", In: []string{"sum"}, Out: []string{"y"}},
	}
	if r.dense {
		g.Nodes[3].Out[0] = "feature"
		g.AddConst("w2", model.Of(model.F32, []float32{1, 0, 0, 0, 1, 0, 0, 0, 1}, 3, 3))
		g.AddConst("b2", model.Of(model.F32, []float32{1, 1, 1}, 3))
		g.Nodes = append(g.Nodes, &model.Node{Op: "Gemm", Name: "dense", In: []string{"feature", "w2", "b2"}, Out: []string{"y"}})
	}
	if r.wide {
		g.Nodes[3].Out[0] = "feature"
		w := make([]float32, 3*8)
		for i := range w {
			w[i] = float32(i%7) - 3 + float32(r.version)/8
		}
		g.AddConst("wide", model.Of(model.F32, w, 3, 8))
		g.Nodes = append(g.Nodes, &model.Node{Op: "MatMul", Name: "wide", In: []string{"feature", "wide"}, Out: []string{"y"}})
	}
	return g
}

// offer writes a model to the hub's store and signs it.
func (s *shop) offer(r recipe) wire.Offer {
	s.t.Helper()
	if r.name == "" {
		r.name = "tiny"
	}
	p := &pack.Pack{Name: r.name, Version: r.version, Graph: graph(r), Exam: &pack.Exam{Tolerance: 1e-4}}
	x, row := model.Of(model.F32, []float32{1, 2, 3, float32(r.version)}, 1, 4), model.Of(model.I64, []int64{1}, 1)
	answer := model.Of(model.F32, []float32{0, 0, 0}, 1, 3)
	if r.op == "" {
		program, err := engine.Compile(p.Graph, engine.Options{})
		if err != nil {
			s.t.Fatal(err)
		}
		session := program.NewSession()
		copy(session.Input(0).Data, x.Data)
		copy(session.Input(1).Data, row.Data)
		if err := session.Run(); err != nil {
			s.t.Fatal(err)
		}
		answer = session.Output(0).Clone()
	}
	if r.wrong {
		answer.F32()[1] += 1
	}
	p.Exam.Cases = []pack.Case{{Inputs: []*model.Tensor{x, row}, Outputs: []*model.Tensor{answer}}}
	if r.small != nil {
		r.small(p)
	}
	d, err := pack.Write(s.store, p)
	if err != nil {
		s.t.Fatal(err)
	}
	s.last = d.Digest
	return wire.Offer{
		Kind: wire.OfferModel, Name: r.name, Version: r.version, Manifest: string(d.Digest),
		Sig:   s.key.Sign(wire.OfferModel.Purpose(), []byte(d.Digest)),
		Trial: wire.TrialRules{MinRuns: 5, MaxMillis: 60_000},
	}
}

// copy brings an offer's blobs over, hashing each as sync/fetch does.
func (s *shop) copy(_ context.Context, o wire.Offer, progress func(done, total int64)) error {
	s.mu.Lock()
	s.fetches++
	before := s.fetch
	s.mu.Unlock()
	if before != nil {
		if err := before(o); err != nil {
			return err
		}
	}
	m, err := s.store.Manifest(oci.Digest(o.Manifest))
	if err != nil {
		return err
	}
	for i, b := range append(oci.Blobs(m), oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: oci.Digest(o.Manifest)}) {
		if s.layout.Has(b.Digest) {
			continue
		}
		data, err := s.store.ReadBlob(b.Digest, 1<<20)
		if err != nil {
			return err
		}
		if _, err := s.layout.PutBytes(b.MediaType, data); err != nil {
			return err
		}
		progress(int64(i), 0)
	}
	return nil
}

func (s *shop) open() *Slots {
	s.t.Helper()
	slots, err := s.tryOpen()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := slots.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return slots
}

func (s *shop) tryOpen() (*Slots, error) {
	return Open(Config{
		Dir: s.dir, FS: s.fsys, Layout: s.layout, Trust: sign.Trust{s.key.Public()}, Fetch: s.copy, Learn: !s.stubborn, StandsIn: s.standsIn,
		Report: func(r wire.Report) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.reports = append(s.reports, r)
		},
	})
}

func (s *shop) states() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, r := range s.reports {
		word := string(r.State)
		if r.Reason != "" {
			word += ":" + string(r.Reason)
		}
		out = append(out, word)
	}
	return strings.Join(out, " ")
}

// take tries an offer and returns how it ended.
func take(t *testing.T, s *Slots, o wire.Offer) wire.Report {
	t.Helper()
	r, err := s.Try(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// answers returns the version that answers, after it really did; 0 for none.
func answers(t *testing.T, s *Slots) int64 {
	t.Helper()
	m, err := s.Acquire()
	if errors.Is(err, ErrNoModel) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	if _, err := m.Run(t.Context(), func(e *engine.Session) error { return nil }, func(*engine.Session) error { return nil }); err != nil {
		t.Fatal(err)
	}
	return m.Version
}

func TestTheGoodWay(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	if answers(t, slots) != 0 || slots.Running() != nil {
		t.Fatal("a model answers before there is one")
	}
	r := take(t, slots, s.offer(recipe{version: 1}))
	if r.State != wire.StateActive || r.P95MS <= 0 || answers(t, slots) != 1 {
		t.Fatalf("ended %+v", r)
	}
	if got := s.states(); got != "fetching examining trial active" {
		t.Errorf("reports %q", got)
	}
	take(t, slots, s.offer(recipe{version: 2}))
	run := slots.Running()
	if run == nil || run.Version != 2 || run.Previous == "" {
		t.Fatalf("running %+v", run)
	}
	// The same after a restart, and the same offer again costs nothing.
	before := s.fetches
	slots = s.open()
	if v := answers(t, slots); v != 2 {
		t.Fatalf("after a restart %d answers", v)
	}
	o := s.offer(recipe{version: 2})
	if r := take(t, slots, o); r.State != wire.StateActive || s.fetches != before {
		t.Errorf("again: %+v, %d fetches", r, s.fetches-before)
	}
}

// Each bad offer has its own reason, and the old model goes on answering.
func TestRefusals(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	take(t, slots, s.offer(recipe{version: 5}))
	stranger, err := sign.Generate()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what  string
		offer func() wire.Offer
		want  wire.Reason
	}{
		{"unknown key", func() wire.Offer {
			o := s.offer(recipe{version: 6})
			o.Sig = stranger.Sign(wire.OfferModel.Purpose(), []byte(o.Manifest))
			return o
		}, wire.ReasonUnknownKey},
		{"signature over something else", func() wire.Offer {
			o := s.offer(recipe{version: 6})
			o.Sig = s.key.Sign(wire.OfferModel.Purpose(), []byte("sha256:0"))
			return o
		}, wire.ReasonSignature},
		{"signature for facts", func() wire.Offer {
			o := s.offer(recipe{version: 6})
			o.Sig = s.key.Sign(wire.OfferFacts.Purpose(), []byte(o.Manifest))
			return o
		}, wire.ReasonSignature},
		{"false exam", func() wire.Offer { return s.offer(recipe{version: 6, wrong: true}) }, wire.ReasonExam},
		{"older", func() wire.Offer { return s.offer(recipe{version: 4}) }, wire.ReasonOlder},
		{"older, called newer", func() wire.Offer {
			o := s.offer(recipe{version: 4})
			o.Version = 9
			return o
		}, wire.ReasonOlder},
		{"another name than its own", func() wire.Offer {
			o := s.offer(recipe{version: 7, name: "other"})
			o.Name, o.Version = "tiny", 8
			return o
		}, wire.ReasonBroken},
		{"an operator nobody has", func() wire.Offer { return s.offer(recipe{version: 6, op: "Nonesuch"}) }, wire.ReasonUnsupported},
		{"facts", func() wire.Offer { o := s.offer(recipe{version: 6}); o.Kind = wire.OfferFacts; return o }, wire.ReasonBroken},
		{"no digest", func() wire.Offer { o := s.offer(recipe{version: 6}); o.Manifest = "../../etc"; return o }, wire.ReasonBroken},
		{"a byte flipped on the way", func() wire.Offer {
			o := s.offer(recipe{version: 6})
			s.fetch = func(wire.Offer) error {
				return &fetch.Error{Digest: s.last, Err: &oci.DigestError{Want: s.last, Got: "sha256:other"}}
			}
			return o
		}, wire.ReasonDigest},
	} {
		o := c.offer()
		r := take(t, slots, o)
		s.fetch = nil
		if r.State != wire.StateRefused || r.Reason != c.want || r.Error == "" {
			t.Errorf("%s: %+v, want %s", c.what, r, c.want)
		}
		if v := answers(t, slots); v != 5 {
			t.Fatalf("%s: %d answers", c.what, v)
		}
		if last := slots.Last(); last == nil || last.Reason != c.want {
			t.Errorf("%s: last report %+v", c.what, last)
		}
	}
	// And a byte that flips on the device's own disk.
	o := s.offer(recipe{version: 6})
	s.fetch = func(o wire.Offer) error {
		m, err := s.store.Manifest(oci.Digest(o.Manifest))
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(s.dir, "flip"), []byte(m.Layers[1].Digest), 0o600)
	}
	slots.c.Fetch = func(ctx context.Context, o wire.Offer, p func(int64, int64)) error {
		if err := s.copy(ctx, o, p); err != nil {
			return err
		}
		digest, err := os.ReadFile(filepath.Join(s.dir, "flip"))
		if err != nil {
			return err
		}
		path, err := s.layout.Path(oci.Digest(digest))
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		data[len(data)-1] ^= 1
		return os.WriteFile(path, data, 0o600)
	}
	if r := take(t, slots, o); r.Reason != wire.ReasonDigest || answers(t, slots) != 5 {
		t.Errorf("flipped on the disk: %+v", r)
	}
}

func TestTooSlowGoesBack(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	take(t, slots, s.offer(recipe{version: 1}))
	o := s.offer(recipe{version: 2})
	o.Trial.MaxMillis = 1e-6 // a nanosecond: no machine is that fast
	o.Trial.Seconds = 3600
	r := take(t, slots, o)
	if r.State != wire.StateReverted || r.Reason != wire.ReasonTooSlow || answers(t, slots) != 1 {
		t.Fatalf("%+v", r)
	}
	// With the first model ever there is nothing to go back to, and none answers.
	s = newShop(t)
	slots = s.open()
	o = s.offer(recipe{version: 2})
	o.Trial.MaxMillis = 1e-6
	if r := take(t, slots, o); r.Reason != wire.ReasonTooSlow || answers(t, slots) != 0 {
		t.Fatalf("%+v", r)
	}
}

// A model that fails on what the device sees goes back, although its exam
// was right.
func TestErrorsGoBack(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	take(t, slots, s.offer(recipe{version: 1}))
	o := s.offer(recipe{version: 2})
	o.Trial.Seconds = 3600
	ended := make(chan wire.Report, 1)
	go func() {
		r, err := slots.Try(context.Background(), o)
		if err != nil {
			r.Error = err.Error()
		}
		ended <- r
	}()
	deadline := time.After(time.Minute)
	for {
		if m, err := slots.Acquire(); err == nil && m.Version == 2 {
			_, err := m.Run(t.Context(), func(e *engine.Session) error {
				e.Input(1).I64()[0] = 7 // no such row
				return nil
			}, func(*engine.Session) error { return nil })
			m.Release()
			if _, ok := errors.AsType[*RunError](err); !ok {
				t.Fatalf("a row that is not there gave %v", err)
			}
		} else if err == nil {
			m.Release()
		}
		select {
		case r := <-ended:
			if r.State != wire.StateReverted || r.Reason != wire.ReasonErrors || answers(t, slots) != 1 {
				t.Fatalf("%+v", r)
			}
			return
		case <-deadline:
			t.Fatal("it never went back")
		default:
		}
	}
}

func TestRollback(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	one, two := s.offer(recipe{version: 1}), s.offer(recipe{version: 2})
	if _, err := slots.Rollback(t.Context(), one.Manifest); !errors.Is(err, ErrNoModel) {
		t.Fatalf("without a model: %v", err)
	}
	take(t, slots, one)
	if _, err := slots.Rollback(t.Context(), one.Manifest); !errors.Is(err, ErrNoPrevious) {
		t.Fatalf("without a model before: %v", err)
	}
	take(t, slots, two)
	before := s.fetches
	for range 2 { // the same order twice is one
		r, err := slots.Rollback(t.Context(), two.Manifest)
		if err != nil || r.Version != 1 || answers(t, slots) != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	// Nor does another one go forward again, after a restart neither.
	slots = s.open()
	if r, err := slots.Rollback(t.Context(), one.Manifest); !errors.Is(err, ErrNoPrevious) || answers(t, slots) != 1 {
		t.Fatalf("back to what was left: %+v, %v", r, err)
	}
	// Each may be asked for by name, since the other slot holds it; then it is
	// one to go back to again.
	for _, o := range []wire.Offer{two, one} {
		if r := take(t, slots, o); r.State != wire.StateActive || answers(t, slots) != o.Version {
			t.Fatalf("%+v", r)
		}
	}
	if r, err := slots.Rollback(t.Context(), one.Manifest); err != nil || r.Version != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	if s.fetches != before {
		t.Errorf("%d fetches for what was here", s.fetches-before)
	}
}

func TestRollbackEndsATrial(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	take(t, slots, s.offer(recipe{version: 1}))
	o := s.offer(recipe{version: 2})
	o.Trial.Seconds = 3600
	ended := make(chan wire.Report, 1)
	go func() {
		r, err := slots.Try(context.Background(), o)
		if err != nil {
			r.Error = err.Error()
		}
		ended <- r
	}()
	for deadline := time.Now().Add(time.Minute); !slots.OnTrial() || !strings.HasSuffix(s.states(), "trial"); {
		if time.Now().After(deadline) {
			t.Fatal("no trial")
		}
	}
	r, err := slots.Rollback(t.Context(), o.Manifest)
	if err != nil || r.Version != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if end := <-ended; end.State != wire.StateReverted || end.Reason != wire.ReasonCommand {
		t.Fatalf("the trial ended %+v", end)
	}
}

// Three times a process may die with a model on trial; the fourth start goes
// back.
func TestCrashedThreeTimes(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	take(t, slots, s.offer(recipe{version: 1}))
	o := s.offer(recipe{version: 2})
	o.Trial.Seconds = 3600
	st := slots.st.clone()
	if err := s.copy(t.Context(), o, func(int64, int64) {}); err != nil {
		t.Fatal(err)
	}
	st.begin(o, wire.StateTrial)
	if err := slots.put(st); err != nil {
		t.Fatal(err)
	}
	for start := 1; start <= 3; start++ {
		again, err := s.tryOpen() // never closed: it is killed
		if err != nil {
			t.Fatal(err)
		}
		want := int64(2)
		if start == MaxAttempts {
			want = 1
		}
		if v := answers(t, again); v != want {
			t.Fatalf("start %d: %d answers, want %d", start, v, want)
		}
		if start == MaxAttempts {
			if last := again.Last(); last == nil || last.Reason != wire.ReasonCrashed || last.State != wire.StateReverted {
				t.Errorf("last report %+v", last)
			}
			return
		}
	}
}

// A clean stop during an exam is no crash, and makes none undone: the exam that
// takes the process down each time is refused in the end.
func TestStopDuringAnExam(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	o := s.offer(recipe{version: 1})
	begin := func() {
		t.Helper()
		st := slots.st.clone()
		st.begin(o, wire.StateExamining)
		if err := slots.put(st); err != nil {
			t.Fatal(err)
		}
	}
	for range MaxAttempts {
		begin()
		slots.undecided(o, context.Canceled)
		if slots.st.Candidate != nil {
			t.Fatalf("a stop is counted: %+v", slots.st.Candidate)
		}
	}
	for range MaxAttempts { // it dies each time but for the last
		begin()
	}
	slots.undecided(o, context.Canceled)
	begin()
	slots = s.open()
	if r := take(t, slots, o); r.State != wire.StateRefused || r.Reason != wire.ReasonCrashed {
		t.Errorf("%+v", r)
	}
}

// A clean stop during a trial is no crash, and the trial goes on.
func TestStopDuringATrial(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	take(t, slots, s.offer(recipe{version: 1}))
	o := s.offer(recipe{version: 2})
	o.Trial = wire.TrialRules{Seconds: 3600, MinRuns: 5, MaxMillis: 60_000}
	for range 5 {
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			var err error
			if slots.OnTrial() {
				_, _, err = slots.Resume(ctx)
			} else {
				_, err = slots.Try(ctx, o)
			}
			ended <- err
		}()
		for deadline := time.Now().Add(time.Minute); !strings.HasSuffix(s.states(), "trial"); {
			if time.Now().After(deadline) {
				t.Fatal("no trial")
			}
		}
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Fatalf("stopped with %v", err)
		}
		s.mu.Lock()
		s.reports = nil
		s.mu.Unlock()
		if err := slots.Close(); err != nil {
			t.Fatal(err)
		}
		slots = s.open()
		if v := answers(t, slots); v != 2 {
			t.Fatalf("after a clean stop %d answers", v)
		}
	}
	ctx, stop := context.WithCancelCause(t.Context())
	stop(ErrSuperseded)
	if _, _, err := slots.Resume(ctx); !errors.Is(err, ErrSuperseded) || answers(t, slots) != 1 {
		t.Errorf("superseded: %v, %d answers", err, answers(t, slots))
	}
}

func TestFetchAgain(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	o := s.offer(recipe{version: 1})
	s.fetch = func(wire.Offer) error { return fmt.Errorf("unreachable") }
	if _, err := slots.Try(t.Context(), o); !errors.Is(err, ErrAgain) {
		t.Fatalf("%v", err)
	}
	if got := s.states(); got != "fetching fetching:fetch_failed" {
		t.Errorf("reports %q", got)
	}
	s.fetch = nil
	if r := take(t, slots, o); r.State != wire.StateActive {
		t.Errorf("%+v", r)
	}
}

// Only what the slots hold stays on the disk.
func TestSweep(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	var offers []wire.Offer
	for v := int64(1); v <= 4; v++ {
		offers = append(offers, s.offer(recipe{version: v}))
		take(t, slots, offers[len(offers)-1])
	}
	bad := s.offer(recipe{version: 9, wrong: true})
	take(t, slots, bad)
	for i, o := range append(offers, bad) {
		if has, want := s.layout.Has(oci.Digest(o.Manifest)), i == 2 || i == 3; has != want {
			t.Errorf("offer %d: on the disk %v, want %v", i, has, want)
		}
	}
}

// A run that hangs keeps the slots at work; that must not keep Close.
func TestCloseWhileARunHangs(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	take(t, slots, s.offer(recipe{version: 1}))
	slots.work.Lock()
	closed := make(chan error, 1)
	go func() { closed <- slots.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("it waits")
	}
	slots.work.Unlock()
}
