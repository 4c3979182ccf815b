package engine

import (
	"slices"
	"sync"
	"testing"
)

// A limit that changes in the middle of runs changes no bit of what comes out.
func TestLimitedThreadsGiveTheSameBits(t *testing.T) {
	threaded(t)
	defer LimitThreads(0)
	g := productNet(true)
	want := runOnce(t, compiled(t, g, Options{Threads: 1}), 1)
	done := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
				LimitThreads(i % 4)
			}
		}
	})
	p := compiled(t, g, Options{parts: 4})
	for range 30 {
		if got := runOnce(t, p, 1); !slices.Equal(got[0].Data, want[0].Data) {
			t.Fatal("the outputs differ")
		}
	}
	close(done)
	all.Wait()
}
