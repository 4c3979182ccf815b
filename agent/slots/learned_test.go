package slots

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"dunlin/engine"
	"dunlin/internal/durable"
	"dunlin/model"
	"dunlin/sync/wire"
	"dunlin/train/head"
)

// biased is a head that answers with these numbers whatever it sees.
func biased(base string, numbers ...float32) Head {
	return Head{Base: base, Output: "y", Layers: 1, Delta: &head.Delta{Constants: []head.Constant{
		{Name: "w2", Data: make([]byte, 36)},
		{Name: "b2", Data: model.Of(model.F32, numbers, 3).Data},
	}}}
}

// said returns what the model that answers says, and the number of its head.
func said(t *testing.T, s *Slots) (answer []float32, learned int64) {
	t.Helper()
	m, err := s.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	fill := func(s *engine.Session) error {
		copy(s.Input(0).F32(), []float32{1, 2, 3, 4})
		s.Input(1).I64()[0] = 1
		return nil
	}
	_, err = m.Run(t.Context(), fill, func(s *engine.Session) error {
		answer = slices.Clone(s.Output(0).F32())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return answer, m.Running().Learned
}

func wantSaid(t *testing.T, s *Slots, when string, learned int64, want ...float32) {
	t.Helper()
	if got, n := said(t, s); n != learned || !slices.Equal(got, want) {
		t.Errorf("%s: head %d says %v, want head %d to say %v", when, n, got, learned, want)
	}
}

func learn(t *testing.T, s *Slots, h Head) wire.Report {
	t.Helper()
	r, err := s.Learn(t.Context(), h, 0)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (s *shop) heads() (files []string) {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, headPrefix+"*"))
	if err != nil {
		s.t.Fatal(err)
	}
	return files
}

// A learned head answers after its exam and its trial, and after a restart;
// it goes when it is to be forgotten, and with the model that it belongs to.
func TestLearned(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	one := s.offer(recipe{version: 1, dense: true})
	if _, err := slots.Learn(t.Context(), biased(one.Manifest, 1, 2, 3), 0); !errors.Is(err, ErrNoHead) {
		t.Errorf("without a model: %v", err)
	}
	take(t, slots, one)
	signed, _ := said(t, slots)
	told := s.states()
	if r := learn(t, slots, biased(one.Manifest, 1, 2, 3)); r.State != wire.StateActive {
		t.Fatalf("ended %+v", r)
	}
	wantSaid(t, slots, "learned", 1, 1, 2, 3)
	if s.states() != told || slots.Last().Version != 1 || slots.Last().Kind != wire.OfferModel {
		t.Errorf("the hub was told of it: %s, %+v", s.states(), slots.Last())
	}
	if r := take(t, slots, one); r.State != wire.StateActive {
		t.Errorf("the same offer again: %+v", r)
	}
	slots = s.open()
	wantSaid(t, slots, "after a restart", 1, 1, 2, 3)
	learn(t, slots, biased(one.Manifest, 4, 5, 6))
	wantSaid(t, slots, "learned again", 2, 4, 5, 6)
	if n := s.heads(); len(n) != 1 {
		t.Errorf("files %v", n)
	}
	if was, err := slots.Forget(t.Context()); !was || err != nil {
		t.Errorf("forget: %v, %v", was, err)
	}
	wantSaid(t, slots, "forgotten", 0, signed...)
	if was, err := slots.Forget(t.Context()); was || err != nil || len(s.heads()) != 0 {
		t.Errorf("forget again: %v, %v, files %v", was, err, s.heads())
	}
	learn(t, slots, biased(one.Manifest, 7, 8, 9))
	take(t, slots, s.offer(recipe{version: 2, dense: true}))
	if _, n := said(t, slots); n != 0 || len(s.heads()) != 0 {
		t.Errorf("after a new model head %d answers, files %v", n, s.heads())
	}
	if _, err := slots.Learn(t.Context(), biased(one.Manifest, 1, 2, 3), 0); !errors.Is(err, ErrNoHead) {
		t.Errorf("a head of the model before: %v", err)
	}
	if _, err := slots.Rollback(t.Context(), slots.Running().Digest); err != nil {
		t.Fatal(err)
	}
	wantSaid(t, slots, "rolled back", 0, signed...)
}

// What is no head of this model is refused, and a file that changed is not
// used.
func TestLearnedRefusals(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	one := s.offer(recipe{version: 1, dense: true})
	take(t, slots, one)
	signed, _ := said(t, slots)
	backbone := biased(one.Manifest, 1, 2, 3)
	backbone.Delta.Constants[0] = head.Constant{Name: "w", Data: make([]byte, 48)}
	short, output := biased(one.Manifest, 1, 2, 3), biased(one.Manifest, 1, 2, 3)
	short.Delta.Constants[0].Data = make([]byte, 35)
	output.Output = "z"
	for name, h := range map[string]Head{"backbone": backbone, "short": short, "output": output} {
		if r := learn(t, slots, h); r.State != wire.StateRefused || r.Reason != wire.ReasonBroken {
			t.Errorf("%s: %+v", name, r)
		}
	}
	wantSaid(t, slots, "refused", 0, signed...)
	stopped, stop := context.WithCancelCause(t.Context())
	stop(ErrSuperseded)
	if r, err := slots.Learn(stopped, biased(one.Manifest, 1, 2, 3), 0); !errors.Is(err, ErrSuperseded) {
		t.Errorf("a stop is no refusal: %+v, %v", r, err)
	}
	learn(t, slots, biased(one.Manifest, 1, 2, 3))
	if err := os.WriteFile(s.heads()[0], []byte(`{"v":1,"n":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	slots = s.open()
	wantSaid(t, slots, "a changed file", 0, signed...)
	learn(t, slots, biased(one.Manifest, 1, 2, 3))
	s.stubborn = true
	slots = s.open()
	wantSaid(t, slots, "learning is off", 0, signed...)
	if len(s.heads()) != 0 {
		t.Errorf("files %v", s.heads())
	}
}

// A head that does badly while it is on trial goes back by itself; one that
// is on trial gives way to an offer, and to a person.
func TestLearnedTrial(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	one := s.offer(recipe{version: 1, dense: true})
	take(t, slots, one)
	signed, _ := said(t, slots)
	during := func(what string, do func()) wire.Report {
		t.Helper()
		ended := make(chan wire.Report, 1)
		go func() {
			r, err := slots.Learn(context.Background(), biased(one.Manifest, 1, 2, 3), 60e9)
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
			ended <- r
		}()
		for !slots.OnTrial() {
			runtime.Gosched()
		}
		do()
		return <-ended
	}
	fails := func() {
		for slots.OnTrial() { // the first ones may come before it answers
			m, err := slots.Acquire()
			if err != nil {
				t.Error(err)
				return
			}
			_, err = m.Run(t.Context(), func(s *engine.Session) error { s.Input(1).I64()[0] = 99; return nil }, func(*engine.Session) error { return nil })
			if !errors.As(err, new(*RunError)) {
				t.Errorf("row 99: %v", err)
			}
			m.Release()
		}
	}
	if r := during("a failure", fails); r.State != wire.StateReverted || r.Reason != wire.ReasonErrors {
		t.Errorf("a failure: %+v", r)
	}
	wantSaid(t, slots, "after a failure", 0, signed...)
	forget := func() {
		if was, err := slots.Forget(t.Context()); !was || err != nil {
			t.Errorf("forget: %v, %v", was, err)
		}
	}
	if r := during("forget", forget); r.State != wire.StateReverted || r.Reason != wire.ReasonCommand {
		t.Errorf("forget: %+v", r)
	}
	wantSaid(t, slots, "forgotten", 0, signed...)
	two := s.offer(recipe{version: 2, dense: true})
	if r := during("an offer", func() { take(t, slots, two) }); r.State != wire.StateReverted || r.Reason != wire.ReasonDesired {
		t.Errorf("an offer: %+v", r)
	}
	if v := answers(t, slots); v != 2 || len(s.heads()) != 0 {
		t.Errorf("version %d answers, files %v", v, s.heads())
	}
}

// Power goes at every operation of the disk while a device learns, forgets and
// takes a new model: there is always an answer, of a head that was whole, and
// what Learn or Forget returned stays.
func TestLearnedPowerCut(t *testing.T) {
	s := newShop(t)
	quick := func(o wire.Offer) wire.Offer {
		o.Trial = wire.TrialRules{MinRuns: 1, MaxMillis: 60_000}
		return o
	}
	one, two := quick(s.offer(recipe{version: 1, dense: true})), quick(s.offer(recipe{version: 2, dense: true}))
	plain := s.open()
	take(t, plain, one)
	of1, _ := said(t, plain)
	take(t, plain, two)
	of2, _ := said(t, plain)
	signed, second := of1[0], of2[0]
	now := func(s *Slots) float32 { // the first number of the answer, 0 for none
		m, err := s.Acquire()
		if errors.Is(err, ErrNoModel) {
			return 0
		}
		m.Release()
		answer, _ := said(t, s)
		return answer[0]
	}
	story := func(fsys durable.FS) (reached int) {
		s.fsys = fsys
		slots, err := s.tryOpen()
		if err != nil {
			return 0
		}
		defer func() {
			if err := slots.Close(); err != nil {
				t.Error(err)
			}
		}()
		for i, step := range []func() error{
			func() error { _, err := slots.Try(t.Context(), one); return err },
			func() error { _, err := slots.Learn(t.Context(), biased(one.Manifest, 10, 2, 3), 0); return err },
			func() error { _, err := slots.Learn(t.Context(), biased(one.Manifest, 20, 2, 3), 0); return err },
			func() error { _, err := slots.Forget(t.Context()); return err },
			func() error { _, err := slots.Learn(t.Context(), biased(one.Manifest, 30, 2, 3), 0); return err },
			func() error { _, err := slots.Try(t.Context(), two); return err },
		} {
			if err := step(); err != nil {
				return i
			}
		}
		return 6
	}
	fsys := durable.NewForgetful()
	if err := durable.Mkdir(fsys, s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	before := fsys.Ops()
	if n := story(fsys); n != 6 {
		t.Fatalf("without a cut: %d steps", n)
	}
	ops := fsys.Ops() - before
	t.Logf("%d operations", ops)
	every := 1
	if testing.Short() {
		every = 4
	}
	for cut := 0; cut < ops; cut += every {
		fsys := durable.NewForgetful()
		if err := durable.Mkdir(fsys, s.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		fsys.CutAt(cut)
		reached := story(fsys)
		if cut%2 == 0 {
			fsys.Crash()
		} else {
			fsys.CrashSome(rand.New(rand.NewPCG(uint64(cut), 7)))
		}
		s.fsys = fsys
		again, err := s.tryOpen()
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		// After each step, what may answer: the step before, on trial or not, or
		// the one that was cut off.
		may := [][]float32{{0, signed}, {signed, 10}, {10, 20}, {20, signed}, {signed, 30}, {30, second}, {second}}[reached]
		if v := now(again); !slices.Contains(may, v) {
			t.Fatalf("cut at %d, after %d steps: %v answers, want one of %v", cut, reached, v, may)
		}
		if _, _, err := again.Resume(t.Context()); err != nil {
			t.Fatalf("cut at %d: resume: %v", cut, err)
		}
		if v := now(again); !slices.Contains(may, v) {
			t.Fatalf("cut at %d, after %d steps: %v answers after its trial, want one of %v", cut, reached, v, may)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A disk that fails at any operation while a head is learned, and then does
// not, leaves a signed model answering whatever comes next.
func TestLearnedFullDisk(t *testing.T) {
	s := newShop(t)
	one, two := s.offer(recipe{version: 1, dense: true}), s.offer(recipe{version: 2, dense: true})
	for name, then := range map[string]func(*Slots) error{
		"forget":   func(s *Slots) error { _, err := s.Forget(t.Context()); return err },
		"an offer": func(s *Slots) error { _, err := s.Try(t.Context(), one); return err },
		"rollback": func(s *Slots) error { _, err := s.Rollback(t.Context(), two.Manifest); return err },
		"resume":   func(s *Slots) error { _, _, err := s.Resume(t.Context()); return err },
	} {
		for fail, done := 0, false; !done; fail++ {
			fsys := durable.NewForgetful()
			if err := durable.Mkdir(fsys, s.dir, 0o755); err != nil {
				t.Fatal(err)
			}
			s.fsys = fsys
			slots, err := s.tryOpen()
			if err != nil {
				t.Fatal(err)
			}
			take(t, slots, one)
			take(t, slots, two)
			before, full := fsys.Ops(), errors.New("no space left")
			fsys.FailAt(fail, full)
			_, err = slots.Learn(t.Context(), biased(two.Manifest, 1, 2, 3), 0)
			if err != nil && !errors.Is(err, full) {
				t.Fatalf("failed at %d: %v", fail, err)
			}
			done = fsys.Ops()-before <= fail
			fsys.FailAt(1<<30, nil)
			if _, n := said(t, slots); n != 0 && err != nil {
				t.Fatalf("failed at %d: head %d answers, which is not kept", fail, n)
			}
			if err := then(slots); err != nil {
				t.Fatalf("failed at %d, then %s: %v", fail, name, err)
			}
			_, n := said(t, slots)
			if name != "resume" && n != 0 || name == "resume" && (n != 0) != (err == nil) {
				t.Fatalf("failed at %d, then %s: head %d answers, learned: %v", fail, name, n, err)
			}
			if err := slots.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func FuzzParseHead(f *testing.F) {
	text, err := json.Marshal(local{V: headVersion, N: 1, Head: biased("sha256:0", 1, 2, 3), Exam: [][]byte{{1}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(bytes.Replace(text, []byte("w2"), []byte("w"), 1))
	f.Add(bytes.Replace(text, []byte("w2"), []byte("b2"), 1))
	g := graph(recipe{version: 1, dense: true})
	h, err := head.Find(g, "y", 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := parseHead(data)
		if err != nil || l.Delta.Of(h) != nil {
			return
		}
		changed, err := l.Delta.Apply(g)
		if err != nil {
			return
		}
		if w := changed.Const("w"); !bytes.Equal(w.Data, g.Const("w").Data) || strings.Contains(changed.Name, "\x00") {
			t.Fatal("a head changed the backbone")
		}
		if err := changed.Check(); err != nil {
			t.Fatal(err)
		}
		if _, err := engine.Compile(changed, engine.Options{Threads: 1}); err != nil {
			t.Fatal(err)
		}
	})
}
