package slots

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"dunlin/internal/durable"
	"dunlin/sync/wire"
)

// Power goes at every operation of the disk that a sequence of offers makes.
// After each, some model that was committed before answers, the state file is
// one of those that were written, and what was offered can be taken again.
func TestPowerCutAtEveryOperation(t *testing.T) {
	s := newShop(t)
	forever := durable.NewForgetful()
	if err := durable.Mkdir(forever, s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	quick := func(o wire.Offer) wire.Offer {
		o.Trial = wire.TrialRules{MinRuns: 1, MaxMillis: 60_000}
		return o
	}
	one, two := quick(s.offer(recipe{version: 1})), quick(s.offer(recipe{version: 2}))
	wrong, three := quick(s.offer(recipe{version: 3, wrong: true})), quick(s.offer(recipe{version: 3}))
	slow := quick(s.offer(recipe{version: 4}))
	slow.Trial.MaxMillis = 1e-6

	// story runs until the power goes; it returns the versions committed.
	story := func(fsys durable.FS) (committed []int64) {
		s.fsys = fsys
		slots, err := s.tryOpen()
		if err != nil {
			return nil
		}
		defer func() {
			if err := slots.Close(); err != nil {
				t.Error(err)
			}
		}()
		for _, o := range []wire.Offer{one, two, wrong, slow, three} {
			r, err := slots.Try(t.Context(), o)
			if err != nil {
				return committed
			}
			if r.State == wire.StateActive {
				committed = append(committed, r.Version)
			}
		}
		if _, err := slots.Rollback(t.Context(), three.Manifest); err != nil {
			return committed
		}
		return append(committed, 2)
	}
	before := forever.Ops()
	if got := story(forever); len(got) != 4 {
		t.Fatalf("without a cut: committed %v", got)
	}
	ops := forever.Ops() - before
	t.Logf("%d operations", ops)
	if ops < 20 {
		t.Fatalf("only %d operations", ops)
	}
	for cut := range ops {
		for seed := range uint64(2) {
			fsys := durable.NewForgetful()
			if err := durable.Mkdir(fsys, s.dir, 0o755); err != nil {
				t.Fatal(err)
			}
			fsys.CutAt(cut)
			committed := story(fsys)
			if seed == 0 {
				fsys.Crash()
			} else {
				fsys.CrashSome(rand.New(rand.NewPCG(uint64(cut), 7)))
			}
			s.fsys = fsys
			again, err := s.tryOpen()
			if err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			v := answers(t, again)
			if len(committed) > 0 && v == 0 {
				t.Fatalf("cut at %d: %v were committed and none answers", cut, committed)
			}
			if v == 3 && !contains(committed, 3) && !onTrialOrCommitted(again, 3) || v == 4 && !again.OnTrial() {
				t.Fatalf("cut at %d: version %d answers, committed %v", cut, v, committed)
			}
			if _, _, err := again.Resume(t.Context()); err != nil {
				t.Fatalf("cut at %d: resume: %v", cut, err)
			}
			if r, err := again.Try(t.Context(), three); err != nil || r.State != wire.StateActive && r.Reason != wire.ReasonOlder {
				t.Fatalf("cut at %d: offered again: %+v, %v", cut, r, err)
			}
			if err := again.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func contains(all []int64, v int64) bool {
	for _, a := range all {
		if a == v {
			return true
		}
	}
	return false
}

// onTrialOrCommitted: the commit may have reached the disk in the operation
// that was cut after it.
func onTrialOrCommitted(s *Slots, v int64) bool { return s.OnTrial() || s.st.active().Version == v }

// A disk that is full at any operation leaves the slots answering.
func TestFullDiskAtEveryOperation(t *testing.T) {
	s := newShop(t)
	one, two := s.offer(recipe{version: 1}), s.offer(recipe{version: 2})
	for fail := 0; ; fail++ {
		fsys := durable.NewForgetful()
		if err := durable.Mkdir(fsys, s.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		s.fsys = fsys
		slots, err := s.tryOpen()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := slots.Try(t.Context(), one); err != nil {
			t.Fatal(err)
		}
		before := fsys.Ops()
		full := errors.New("no space left")
		fsys.FailAt(fail, full)
		_, err = slots.Try(t.Context(), two)
		if err != nil && !errors.Is(err, full) {
			t.Fatalf("failed at %d: %v", fail, err)
		}
		if v := answers(t, slots); v != 1 && v != 2 {
			t.Fatalf("failed at %d: %d answers", fail, v)
		}
		done := fsys.Ops()-before <= fail
		if err := slots.Close(); err != nil {
			t.Fatal(err)
		}
		fsys.Crash()
		if slots, err = s.tryOpen(); err != nil {
			t.Fatal(err)
		}
		if v := answers(t, slots); v != 1 && v != 2 {
			t.Fatalf("failed at %d, started again: %d answers", fail, v)
		}
		if err := slots.Close(); err != nil {
			t.Fatal(err)
		}
		if done {
			return
		}
	}
}

func FuzzParseState(f *testing.F) {
	f.Add([]byte(`{"v":1,"slots":[{"name":"a","version":1,"digest":"sha256:0"},{}],"active":0}`))
	f.Add([]byte(`{"v":1,"slots":[{},{}],"active":-1,"candidate":{"offer":{"manifest":"x"},"stage":"trial","attempt":2}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseState(data)
		if err != nil {
			return
		}
		s.active()
		s.previous()
		s.begin(wire.Offer{Manifest: "y"}, wire.StateTrial)
		s.commit(slot{Name: "n", Version: 1, Digest: "d"})
		if s.active().Digest != "d" || s.Candidate != nil {
			t.Fatal("a commit did not take")
		}
	})
}

// What drop makes of a state can be read again, whatever was on trial.
func TestDroppedStateIsOne(t *testing.T) {
	one, two := slot{Name: "a", Version: 1, Digest: "sha256:1"}, slot{Name: "a", Version: 2, Digest: "sha256:2"}
	head := &learned{N: 1, File: strings.Repeat("0", 64)}
	for _, slots := range [][2]slot{{one, two}, {one, {}}} {
		for _, c := range []*candidate{
			{Offer: wire.Offer{Kind: kindLearned, Manifest: one.Digest}, Stage: wire.StateTrial, Attempt: 1, Learned: head},
			{Offer: wire.Offer{Kind: wire.OfferModel, Manifest: "sha256:3"}, Stage: wire.StateTrial, Attempt: 1},
		} {
			s := state{Version: stateVersion, Slots: slots, Candidate: c, Local: 1}
			s.drop()
			text, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parseState(text); err != nil {
				t.Errorf("%s: %v", text, err)
			}
			if kept := s.Candidate != nil; kept != (c.Learned == nil) {
				t.Errorf("candidate of kind %q kept: %v", c.Offer.Kind, kept)
			}
		}
	}
}
