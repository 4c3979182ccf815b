package slots

import (
	"slices"
	"testing"

	"dunlin/engine"
)

// The graph that answers has the learned head in it, and the signed one again
// when that is forgotten: who compiles it once more gets the same answers.
func TestAnswering(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	one := s.offer(recipe{version: 1, dense: true})
	take(t, slots, one)
	same := func(when string) {
		t.Helper()
		m, err := slots.Acquire()
		if err != nil {
			t.Fatal(err)
		}
		defer m.Release()
		p, err := engine.Compile(m.Answering(), engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		run := p.NewSession()
		copy(run.Input(0).F32(), []float32{1, 2, 3, 4})
		run.Input(1).I64()[0] = 1
		if err := run.Run(); err != nil {
			t.Fatal(err)
		}
		if want, _ := said(t, slots); !slices.Equal(run.Output(0).F32(), want) {
			t.Errorf("%s: compiled again %v, the model says %v", when, run.Output(0).F32(), want)
		}
	}
	same("as signed")
	learn(t, slots, biased(one.Manifest, 1, 2, 3))
	same("learned")
	if was, err := slots.Forget(t.Context()); !was || err != nil {
		t.Fatalf("forget: %v, %v", was, err)
	}
	same("forgotten")
}
