package pool

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// count counts how often each part ran. Its counters are plain, so that the
// race detector finds a part that runs twice at once, or is not seen by the
// caller of Run.
type count struct {
	hits []int32
	work time.Duration // of each part
}

func (c *count) Run(part int) {
	c.hits[part]++
	for end := now() + int64(c.work); now() < end; {
	}
}

func (c *count) check(t *testing.T) {
	t.Helper()
	for part, n := range c.hits {
		if n != 1 {
			t.Fatalf("part %d of %d ran %d times", part, len(c.hits), n)
		}
	}
}

// withWorkers returns a pool of that many threads, however few CPUs there are.
func withWorkers(t testing.TB, threads int, tune tuning) *Pool {
	before := runtime.GOMAXPROCS(max(threads, runtime.GOMAXPROCS(0)))
	p := create(tune)
	p.grow(threads)
	t.Cleanup(func() {
		p.close()
		runtime.GOMAXPROCS(before)
	})
	return p
}

// hasty has limits so short that sleeping and blocking happen all the time.
var hasty = tuning{poll: 1, stall: 1}

func TestEachPartRunsOnce(t *testing.T) {
	steps := 10000
	if testing.Short() {
		steps = 1000
	}
	for name, tune := range map[string]tuning{"usual": usual, "hasty": hasty} {
		t.Run(name, func(t *testing.T) {
			p := withWorkers(t, 4, tune)
			for s := range steps {
				c := &count{hits: make([]int32, s%7+1), work: time.Duration(s%5) * time.Microsecond}
				p.Run(len(c.hits), c)
				c.check(t)
				if s%100 == 0 {
					time.Sleep(time.Duration(s%3) * 60 * time.Microsecond) // workers fall asleep
				}
			}
		})
	}
}

func TestMorePartsThanThreads(t *testing.T) {
	p := withWorkers(t, 8, hasty)
	for range 500 {
		c := &count{hits: make([]int32, 50), work: time.Microsecond}
		p.Run(len(c.hits), c)
		c.check(t)
	}
}

func TestNothingToDo(t *testing.T) {
	p := withWorkers(t, 2, usual)
	p.Run(0, nil)
	create(usual).Run(0, nil)
	c := &count{hits: make([]int32, 5)}
	create(usual).Run(5, c) // without workers
	c.check(t)
}

// Callers that come while the pool is at work run alone, and all end.
func TestManyCallers(t *testing.T) {
	p := withWorkers(t, 4, hasty)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for range 1000 {
				c := &count{hits: make([]int32, 3)}
				p.Run(3, c)
				for _, n := range c.hits {
					if n != 1 {
						t.Error("a part did not run once")
					}
				}
			}
		})
	}
	wg.Wait()
}

// The pool may grow while it is at work.
func TestGrowWhileAtWork(t *testing.T) {
	before := runtime.GOMAXPROCS(6)
	defer runtime.GOMAXPROCS(before)
	p := create(usual)
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			c := &count{hits: make([]int32, 6)}
			p.Run(6, c)
			c.check(t)
		}
	})
	for threads := range 7 {
		p.grow(threads)
		time.Sleep(100 * time.Microsecond)
	}
	stop.Store(true)
	wg.Wait()
	if n := len(p.workers); n != 5 {
		t.Errorf("%d workers beside the caller, want 5", n)
	}
	p.close()
}

// One CPU for Go: there is no worker, and the caller does it all.
func TestOneProcessor(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	p := create(usual)
	p.grow(4)
	if len(p.workers) != 0 {
		t.Errorf("%d workers", len(p.workers))
	}
	c := &count{hits: make([]int32, 4)}
	p.Run(4, c)
	c.check(t)
}

// Workers that were started for more CPUs than Go has now must not hang
// anybody.
func TestFewerProcessorsThanWorkers(t *testing.T) {
	p := withWorkers(t, 4, usual)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for range 200 {
		c := &count{hits: make([]int32, 4), work: time.Microsecond}
		p.Run(4, c)
		c.check(t)
	}
}

// allocates is a job that makes garbage.
type allocates struct{ out []*int }

func (a *allocates) Run(part int) {
	for range 50 {
		v := part
		a.out[part] = &v
	}
}

func TestDuringCollections(t *testing.T) {
	p := withWorkers(t, 4, usual)
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			runtime.GC()
		}
	})
	for range 500 {
		a := &allocates{out: make([]*int, 4)}
		p.Run(4, a)
		for i, v := range a.out {
			if *v != i {
				t.Fatal("a value is lost")
			}
		}
	}
	stop.Store(true)
	wg.Wait()
}

// The collector must not wait for threads that sleep.
func TestSleepersDoNotStopTheCollector(t *testing.T) {
	p := withWorkers(t, 4, usual)
	for _, w := range p.workers {
		for w.state.Load() != 1 {
			runtime.Gosched()
		}
	}
	runtime.GC()
	runtime.GC()
}

type panics struct{}

func (panics) Run(int) { panic("part") }

// A part that panics on the caller leaves the pool as it was. There is a
// worker, which is not told of the parts, so that the caller runs them all.
func TestPanicOnTheCaller(t *testing.T) {
	p := create(usual)
	deaf := &worker{pool: p}
	deaf.init()
	p.workers = []*worker{deaf}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is lost")
			}
		}()
		p.Run(3, panics{})
	}()
	c := &count{hits: make([]int32, 3)}
	p.Run(3, c)
	c.check(t)
}

// Stalls beyond what good runs have paid for make the pool rest, and longer
// where they return soon.
func TestRest(t *testing.T) {
	p := create(usual)
	p.stalled()
	if p.rests != 0 {
		t.Fatal("it rests after one stall")
	}
	p.stalled()
	first := p.rest
	p.stalled()
	if p.rests != 2 || p.rest != 2*first || p.restUntil < now() {
		t.Errorf("%d pauses, the last of %d after one of %d", p.rests, p.rest, first)
	}
	for range 20 {
		p.stalled()
	}
	if p.rest != int64(usual.restMax) {
		t.Errorf("the pause grew to %d", p.rest)
	}
	deaf := &worker{pool: p}
	deaf.init()
	deaf.prepare() // asleep: a wake would be seen
	p.workers = []*worker{deaf}
	c := &count{hits: make([]int32, 3)}
	p.Run(3, c)
	c.check(t)
	if deaf.state.Load() != 1 {
		t.Error("it wakes a worker while it rests")
	}
}

func TestRunAllocatesNothing(t *testing.T) {
	p := withWorkers(t, 2, hasty) // each run has to wake the worker
	c := &count{hits: make([]int32, 2)}
	if n := testing.AllocsPerRun(1000, func() { p.Run(2, c) }); n != 0 {
		t.Errorf("%v allocations a run", n)
	}
}

// busy is parts of equal work without any clock.
type busy struct {
	rounds int
	sums   [8][cacheLine]uint64
}

func (b *busy) Run(part int) {
	x := uint64(part)
	for range b.rounds {
		x = x*6364136223846793005 + 1442695040888963407
	}
	b.sums[part][0] = x
}

// BenchmarkRun compares two parts on one thread and on two. A round is a
// multiplication and a sum, about 1 ns.
func BenchmarkRun(b *testing.B) {
	for _, rounds := range []int{5000, 25000, 100000} {
		job := &busy{rounds: rounds}
		for name, threads := range map[string]int{"one": 1, "two": 2} {
			b.Run(fmt.Sprintf("%s/rounds=%d", name, rounds), func(b *testing.B) {
				p := withWorkers(b, threads, usual)
				for b.Loop() {
					p.Run(2, job)
				}
			})
		}
	}
}
