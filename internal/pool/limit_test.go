//go:build linux

package pool

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// threads notes the threads on which parts ran.
type threads struct {
	count
	mu  sync.Mutex
	ids map[int]bool
}

func (j *threads) Run(part int) {
	j.count.Run(part)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ids[unix.Gettid()] = true
}

// A limit holds from the next Run on, and is lifted again; each part runs once
// all the same.
func TestLimit(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p := withWorkers(t, 4, tuning{poll: usual.poll, stall: usual.stall}) // without rests
	used := func() int {
		j := &threads{count: count{hits: make([]int32, 8), work: 100 * time.Microsecond}, ids: map[int]bool{}}
		p.Run(8, j)
		j.check(t)
		return len(j.ids)
	}
	for _, limit := range []int{1, 2, 0, 3, 1} {
		p.Limit(limit)
		used() // a worker may have been about to take a part
		most, tries := 0, 0
		for deadline := time.Now().Add(time.Minute); most < 2; {
			n := used()
			if most = max(most, n); limit > 0 && n > limit {
				t.Fatalf("%d threads, at most %d", n, limit)
			}
			if tries++; limit == 1 && tries > 200 {
				break // with the others, helpers must be seen
			}
			if time.Now().After(deadline) {
				t.Fatalf("limit %d: nobody helps", limit)
			}
		}
	}
}

// The limit changes while callers are at work.
func TestLimitChanges(t *testing.T) {
	p := withWorkers(t, 4, usual)
	done := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
				p.Limit(i % 5)
			}
		}
	})
	for range 3000 {
		c := &count{hits: make([]int32, 6), work: time.Microsecond}
		p.Run(6, c)
		c.check(t)
	}
	close(done)
	all.Wait()
}
