package source

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// TestTogether: those who ask during a sync share the next one, and none of
// them is answered before it.
func TestTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var syncs, answered atomic.Int32
		broken := errors.New("the disk is broken")
		gate := make(chan error)
		g := newTogether(func() error { syncs.Add(1); return <-gate })
		var all sync.WaitGroup
		ask := func(want error) {
			all.Go(func() {
				if err := g.last(); !errors.Is(err, want) {
					t.Errorf("%v, want %v", err, want)
				}
				answered.Add(1)
			})
			synctest.Wait()
		}
		ask(nil)
		for range 9 {
			ask(broken)
		}
		if syncs.Load() != 1 || answered.Load() != 0 {
			t.Fatalf("%d syncs began, %d were answered before one ended", syncs.Load(), answered.Load())
		}
		gate <- nil
		synctest.Wait()
		if syncs.Load() != 2 || answered.Load() != 1 {
			t.Fatalf("after the first: %d syncs, %d answered", syncs.Load(), answered.Load())
		}
		gate <- broken
		all.Wait()
		if syncs.Load() != 2 || answered.Load() != 10 {
			t.Fatalf("in the end: %d syncs, %d answered", syncs.Load(), answered.Load())
		}
	})
}
