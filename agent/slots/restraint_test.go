package slots

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dunlin/engine"
	"dunlin/model"
	"dunlin/model/pack"
	"dunlin/sync/wire"
)

// alwaysSix gives a pack a small form, which answers 4, 5, 6 plus the row.
func alwaysSix(p *pack.Pack) {
	g := model.New("small")
	g.Inputs, g.Outputs = []string{"x", "row"}, []string{"y"}
	g.Values["x"] = &model.Value{Type: model.F32, Shape: model.Shape{1, 4}}
	g.Values["row"] = &model.Value{Type: model.I64, Shape: model.Shape{1}}
	g.AddConst("w", model.Of(model.F32, make([]float32, 12), 4, 3))
	g.AddConst("table", model.Of(model.F32, []float32{3, 3, 3, 4, 5, 6}, 2, 3))
	g.Nodes = []*model.Node{
		{Op: "MatMul", Name: "matmul", In: []string{"x", "w"}, Out: []string{"h"}},
		{Op: "Gather", Name: "gather", In: []string{"table", "row"}, Out: []string{"bias"}},
		{Op: "Add", Name: "add", In: []string{"h", "bias"}, Out: []string{"y"}},
	}
	p.Small = &pack.Form{Graph: g, Exam: &pack.Exam{Tolerance: 1e-4, Cases: []pack.Case{{
		Inputs: p.Exam.Cases[0].Inputs, Outputs: []*model.Tensor{model.Of(model.F32, []float32{4, 5, 6}, 1, 3)},
	}}}}
}

// asks has the model answer a question and returns what it says, and as what.
func asks(t *testing.T, s *Slots, foreign bool) (answer []float32, as wire.Running) {
	t.Helper()
	m, err := s.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	j := Job{Foreign: foreign, Fill: func(s *engine.Session) error {
		copy(s.Input(0).F32(), []float32{1, 2, 3, 4})
		s.Input(1).I64()[0] = 1
		return nil
	}, Read: func(s *engine.Session) error {
		answer, as = slices.Clone(s.Output(0).F32()), m.Answered(s)
		return nil
	}}
	if _, err := m.Do(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	return answer, as
}

var six = []float32{4, 5, 6}

// The small form answers while the device holds itself back that far, and
// says so; a client's tensors are answered by the first one.
func TestSmallAnswers(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	if r := take(t, slots, s.offer(recipe{version: 1, dense: true, small: alwaysSix})); r.State != wire.StateActive || !slots.HasSmall() {
		t.Fatalf("%+v, a small form: %v", r, slots.HasSmall())
	}
	first, as := asks(t, slots, false)
	if slices.Equal(first, six) || as.Form != "" {
		t.Fatalf("nothing is held back, and %+v says %v", as, first)
	}
	slots.HoldBack(2, true)
	if got, as := asks(t, slots, false); !slices.Equal(got, six) || as.Form != wire.FormSmall || as.Version != 1 {
		t.Errorf("held back, %+v says %v", as, got)
	}
	if got, as := asks(t, slots, true); !slices.Equal(got, first) || as.Form != "" {
		t.Errorf("a client's tensors: %+v says %v", as, got)
	}
	m, err := slots.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	before, _, p95 := m.Runs()
	asks(t, slots, false)
	if after, failed, now := m.Runs(); after != before+1 || failed != 0 || now != p95 {
		t.Errorf("%d runs, then %d; p95 %v, then %v", before, after, p95, now)
	}
	m.Release()
	// What was learned is the first form's.
	if r := learn(t, slots, biased(m.Digest, 1, 2, 3)); r.State != wire.StateActive {
		t.Fatalf("%+v", r)
	}
	if got, as := asks(t, slots, false); !slices.Equal(got, six) || as.Form != wire.FormSmall || as.Learned != 0 {
		t.Errorf("held back, with a learned head, %+v says %v", as, got)
	}
	slots.HoldBack(1, false)
	if got, as := asks(t, slots, false); slices.Equal(got, six) || as.Form != "" || as.Learned != 1 {
		t.Errorf("after, %+v says %v", as, got)
	}
	again := s.open() // as after a restart
	again.HoldBack(1, true)
	if got, _ := asks(t, again, false); !slices.Equal(got, six) {
		t.Errorf("after a restart, held back, it says %v", got)
	}
	if r := take(t, slots, s.offer(recipe{version: 2})); r.State != wire.StateActive || slots.HasSmall() {
		t.Errorf("%+v, a small form: %v", r, slots.HasSmall())
	}
	slots.HoldBack(1, true)
	if got, as := asks(t, slots, false); slices.Equal(got, six) || as.Form != "" {
		t.Errorf("a model without a small form: %+v says %v", as, got)
	}
}

// A trial is about the first form, whatever is held back: a small form that is
// right does not hide a first one that is not.
func TestTrialIsOfTheFirstForm(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	slots.HoldBack(1, true)
	o := s.offer(recipe{version: 1, small: alwaysSix})
	o.Trial.Seconds = 3600
	ctx, abort := context.WithCancelCause(t.Context())
	done := make(chan wire.Report, 1)
	go func() {
		r, err := slots.Try(ctx, o)
		if !errors.Is(err, ErrSuperseded) {
			t.Error(err)
		}
		done <- r
	}()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(s.states(), "trial"); {
		if time.Now().After(deadline) {
			t.Fatal("no trial")
		}
		<-time.After(time.Millisecond)
	}
	if got, as := asks(t, slots, false); slices.Equal(got, six) || as.Form != "" {
		t.Errorf("on trial, %+v says %v", as, got)
	}
	abort(ErrSuperseded)
	ended(t, done)
	if r := take(t, slots, s.offer(recipe{version: 2, small: alwaysSix})); r.State != wire.StateActive {
		t.Fatalf("%+v", r)
	}
	if got, _ := asks(t, slots, false); !slices.Equal(got, six) {
		t.Errorf("after the trial it says %v", got)
	}
}

// A small form that cannot answer, or not as its exam says, refuses the whole
// pack: it is what is signed.
func TestBadSmallForms(t *testing.T) {
	for want, small := range map[string]func(p *pack.Pack){
		"exam_failed small form: exam case 0, output 0": func(p *pack.Pack) {
			alwaysSix(p)
			p.Small.Exam.Cases[0].Outputs[0] = model.Of(model.F32, []float32{4, 5, 7}, 1, 3)
		},
		`broken_artefact small form: "y" is float32 [1 2], the first form's float32 [1 3]`: func(p *pack.Pack) {
			alwaysSix(p)
			p.Small.Graph.AddConst("w", model.Of(model.F32, make([]float32, 8), 4, 2))
			p.Small.Graph.AddConst("table", model.Of(model.F32, make([]float32, 4), 2, 2))
		},
		"unsupported_model small form: ": func(p *pack.Pack) {
			alwaysSix(p)
			p.Small.Graph.Nodes[2].Op = "NoSuchOperator"
		},
	} {
		s := newShop(t)
		slots := s.open()
		r := take(t, slots, s.offer(recipe{version: 1, small: small}))
		if got := string(r.Reason) + " " + r.Error; r.State != wire.StateRefused || !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %q", r.State, got, want)
		}
	}
}

// The form changes while others ask.
func TestFormChanges(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	take(t, slots, s.offer(recipe{version: 1, small: alwaysSix}))
	first, _ := asks(t, slots, false)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for range 200 {
				got, as := asks(t, slots, false)
				if slices.Equal(got, six) != (as.Form == wire.FormSmall) || as.Form == "" && !slices.Equal(got, first) {
					t.Errorf("%+v says %v", as, got)
				}
			}
		})
	}
	for i := range 200 {
		slots.HoldBack(1, i%2 == 0)
		<-time.After(50 * time.Microsecond)
	}
	all.Wait()
}

// Short of memory, a device puts the first form away while the small one
// answers; whoever needs it gets the same answers as before, and it is not put
// away where nothing stands in for it.
func TestPutAway(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	if err := slots.PutAway(t.Context()); err != nil {
		t.Errorf("no model: %v", err)
	}
	take(t, slots, s.offer(recipe{version: 1, small: alwaysSix}))
	first, _ := asks(t, slots, false)
	m, err := slots.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	away := func(want bool) {
		t.Helper()
		if err := slots.PutAway(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := m.session == nil; got != want {
			t.Errorf("put away: %v, want %v", got, want)
		}
	}
	away(false)
	slots.HoldBack(2, true)
	away(true)
	if got, as := asks(t, slots, false); !slices.Equal(got, six) || as.Form != wire.FormSmall || m.session != nil {
		t.Errorf("put away, %+v says %v", as, got)
	}
	if got, as := asks(t, slots, true); !slices.Equal(got, first) || as.Form != "" || m.session == nil {
		t.Errorf("a client's tensors: %+v says %v, not %v", as, got, first)
	}
	away(true)
	slots.HoldBack(1, false)
	if got, as := asks(t, slots, false); !slices.Equal(got, first) || as.Form != "" {
		t.Errorf("after, %+v says %v, not %v", as, got, first)
	}
	slots.HoldBack(1, true)
	away(true)
	if err := m.examine(t.Context()); err != nil {
		t.Errorf("examined: %v", err)
	}
	// The time that compiling takes is no inference's.
	away(true)
	if err := m.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.held.Store(turnClock() - int64(time.Hour))
	if err := m.takeOut(); err != nil || m.Held() > time.Minute || m.Compiling() {
		t.Errorf("compiled with %v, the turn lasts %v, compiling: %v", err, m.Held(), m.Compiling())
	}
	m.give()
	// What cannot be compiled again is an error of the run, not of the process.
	away(true)
	m.engine.MaxMemory = 1
	slots.HoldBack(1, false)
	none := func(*engine.Session) error { return nil }
	if _, err := m.Run(t.Context(), none, none); !errors.Is(err, engine.ErrMemory) {
		t.Errorf("without memory: %v", err)
	}
	m.engine.MaxMemory = 0
	if got, _ := asks(t, slots, false); !slices.Equal(got, first) {
		t.Errorf("with memory again it says %v", got)
	}
}
