package slots

import (
	"errors"
	"testing"
	"time"

	"dunlin/engine"
	"dunlin/model"
	"dunlin/sync/wire"
)

// What a client sends may make a run fail; the model on trial is not to blame.
func TestForeignRunFails(t *testing.T) {
	s := newShop(t)
	slots := s.open()
	take(t, slots, s.offer(recipe{version: 1}))
	o := s.offer(recipe{version: 2})
	o.Trial.Seconds = 1
	done := make(chan wire.Report, 1)
	go func() {
		r, err := slots.Try(t.Context(), o)
		if err != nil {
			t.Error(err)
		}
		done <- r
	}()
	for deadline := time.Now().Add(time.Minute); !slots.OnTrial(); {
		if time.Now().After(deadline) {
			t.Fatal("the trial did not begin")
		}
		<-time.After(time.Millisecond)
	}
	m, err := slots.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	ended := false
	_, err = m.Do(t.Context(), Job{
		Fill: func(e *engine.Session) error {
			return m.fill(e, []*model.Tensor{model.Of(model.F32, []float32{0, 0, 0, 0}, 1, 4), model.Of(model.I64, []int64{99}, 1)})
		},
		Read:    func(*engine.Session) error { return nil },
		End:     func() { ended = true },
		Foreign: true,
	})
	m.Release()
	if !errors.As(err, new(*RunError)) || !ended {
		t.Errorf("a row that is not there: %v, ended %v", err, ended)
	}
	if r := <-done; r.State != wire.StateActive {
		t.Errorf("the model ended %s: %s: %s", r.State, r.Reason, r.Error)
	}
}
