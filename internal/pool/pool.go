// Package pool splits one short piece of work (5 to 500 us) over a few
// threads.
//
// Start with Shared, the pool of the process, and Pool.Run. The promise: Run
// allocates nothing, and a worker that is asleep, late or without a CPU costs
// the caller next to nothing, since the caller always works too and takes
// every part that nobody has begun. It waits only for parts that a worker has
// really started.
//
// Workers poll for a bounded time after each part and then sleep in the kernel.
// Where they keep losing their CPU in the middle of a part (the machine has
// other work) the pool rests: for a while callers run alone, for longer each
// time that it happens again.
//
// It knows no tensors and no order between parts, and it is no queue: one job
// at a time, and who comes second runs alone.
package pool

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Job is work in parts. Run is called once for each part, from several
// goroutines, and must not panic on a worker: that ends the program, as in
// any goroutine.
type Job = interface{ Run(part int) }

// tuning is the limits of time.
type tuning struct {
	poll    time.Duration // a worker polls so long after its last part, then sleeps
	stall   time.Duration // the caller polls so long, or twice its own time, for the last part
	restMin time.Duration // the first pause after a stall too many; 0: never rest
	restMax time.Duration // the longest
}

// usual suits parts of 5 to 500 us.
var usual = tuning{poll: 50 * time.Microsecond, stall: 100 * time.Microsecond, restMin: 50 * time.Millisecond, restMax: 2 * time.Second}

// A stall costs price runs of credit.
const (
	price     = 500
	maxCredit = 2 * price
)

// cacheLine keeps counters that different threads write apart.
const cacheLine = 64

// Pool is a set of workers.
type Pool struct {
	mu      sync.Mutex // held by the run that uses the workers
	tune    tuning
	workers []*worker
	closed  atomic.Bool
	exited  sync.WaitGroup
	done    chan struct{} // wakes a caller that stopped polling

	job Job // written only while left is 0, read only after a claim
	_   [cacheLine]byte

	left atomic.Int32 // parts that nobody has claimed
	_    [cacheLine]byte

	pending atomic.Int32 // parts that are not finished
	blocked atomic.Bool  // the caller waits on done
	_       [cacheLine]byte

	limit atomic.Int32 // threads of a Run, its caller among them; 0: as many as there are
	_     [cacheLine]byte

	// The rest belongs to the holder of mu.
	credit    int   // grows with each run, shrinks by price with each stall
	restUntil int64 // runs before this time are the caller's alone
	rest      int64 // length of the latest pause
	rests     int   // number of pauses
}

// shared is the pool that Shared returns.
var shared = create(usual)

// Shared returns the pool of the process, with workers enough for that many
// threads, the caller's among them, but no more than Go runs at once. It is
// one for all since CPUs are: two pools would take them from each other. Its
// workers sleep while there is nothing to do, and end with the process.
func Shared(threads int) *Pool {
	shared.grow(threads)
	return shared
}

// create returns a pool without workers.
func create(tune tuning) *Pool {
	return &Pool{tune: tune, done: make(chan struct{}, 1), credit: price}
}

// grow starts the workers that are missing for that many threads.
func (p *Pool) grow(threads int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.workers) < min(threads, runtime.GOMAXPROCS(0))-1 {
		w := &worker{pool: p, index: len(p.workers)}
		w.init()
		p.workers = append(p.workers, w)
		p.exited.Add(1)
		go w.loop()
	}
}

// Limit bounds the threads of every Run from the next one on, the caller's
// among them: a board that gets too hot computes with fewer. 0 lifts it. It
// may be called at any time.
func (p *Pool) Limit(threads int) { p.limit.Store(int32(max(0, threads))) }

// helpers returns how many workers may run parts.
func (p *Pool) helpers() int {
	if n := int(p.limit.Load()); n > 0 {
		return n - 1
	}
	return len(p.workers)
}

// close ends the workers. No Run may be under way or follow.
func (p *Pool) close() {
	p.closed.Store(true)
	for _, w := range p.workers {
		w.wake()
	}
	p.exited.Wait()
}

// Run runs parts 0 to n-1 of job and returns when all are finished. While
// another goroutine is inside Run, the parts run on this one.
func (p *Pool) Run(n int, job Job) {
	if n < 2 || !p.mu.TryLock() {
		alone(n, job)
		return
	}
	defer p.mu.Unlock()
	start, helpers := now(), min(n-1, len(p.workers), p.helpers())
	if helpers == 0 || start < p.restUntil {
		alone(n, job)
		return
	}
	p.job = job
	p.pending.Store(int32(n))
	p.left.Store(int32(n - 1)) // from here on workers may claim; the last part is the caller's own
	for _, w := range p.workers[:helpers] {
		w.wake()
	}
	defer p.join(start) // also where a part panics on the caller
	for part := n - 1; part >= 0; part = p.claim() {
		p.part(part)
	}
}

func alone(n int, job Job) {
	for part := range n {
		job.Run(part)
	}
}

// claim takes a part, -1 where there is none. A claim is always one of the
// current job, however old the worker's view is: left is positive only inside
// Run, which does not return before the claimed part is finished.
func (p *Pool) claim() int {
	for {
		v := p.left.Load()
		if v <= 0 {
			return -1
		}
		if p.left.CompareAndSwap(v, v-1) {
			return int(v - 1)
		}
	}
}

func (p *Pool) part(part int) {
	defer p.finish()
	p.job.Run(part)
}

func (p *Pool) finish() {
	if p.pending.Add(-1) == 0 && p.blocked.Load() && p.blocked.CompareAndSwap(true, false) {
		p.done <- struct{}{}
	}
}

// join waits for the parts that workers have begun: first it polls, then it
// sleeps.
func (p *Pool) join(start int64) {
	if p.left.Load() > 0 { // a part panicked: drop those that nobody began
		p.pending.Add(-p.left.Swap(0))
	}
	defer func() { p.job = nil }()
	p.credit = min(p.credit+1, maxCredit)
	if p.pending.Load() == 0 {
		return
	}
	t := now()
	limit := t + max(2*(t-start), int64(p.tune.stall))
	for p.pending.Load() != 0 {
		spin(4)
		if now() > limit {
			p.stalled() // the worker lost its CPU inside a part
			p.block()
			return
		}
	}
}

// block sleeps until pending is 0. A worker left over from an earlier run may
// wake it too early, hence the loop; each change of blocked from true to false
// by a worker is answered by one receive.
func (p *Pool) block() {
	for p.pending.Load() != 0 {
		p.blocked.Store(true)
		if p.pending.Load() == 0 && p.blocked.CompareAndSwap(true, false) {
			return
		}
		<-p.done
	}
}

// stalled notes that the caller had to wait for a worker without a CPU. One
// stall in price runs is let pass; beyond that the pool rests. The pause
// doubles where it did not help, that is, where the next stall comes soon.
func (p *Pool) stalled() {
	p.credit -= price
	if p.credit >= 0 || p.tune.restMin <= 0 {
		return
	}
	t, rest := now(), int64(p.tune.restMin)
	if t < p.restUntil+10*p.rest {
		rest = min(2*p.rest, int64(p.tune.restMax))
	}
	p.credit = 0 // the next stall counts at once
	p.rest, p.restUntil = rest, t+rest
	p.rests++
}

// worker is one thread beside the callers'.
type worker struct {
	pool  *Pool
	index int
	parker
	_ [cacheLine]byte
}

func (w *worker) loop() {
	defer w.pool.exited.Done()
	w.setup()
	for !w.pool.closed.Load() {
		w.park()
		w.poll()
	}
}

// allowed reports whether the worker is within the pool's limit.
func (w *worker) allowed() bool {
	n := int(w.pool.limit.Load())
	return n == 0 || w.index < n-1
}

// poll runs parts until none has come for a while.
func (w *worker) poll() {
	p := w.pool
	for last := now(); now()-last < int64(p.tune.poll) && w.allowed(); {
		if part := p.claim(); part >= 0 {
			p.part(part)
			last = now()
			continue
		}
		spin(4)
	}
}

// park sleeps until wake, unless there are parts already.
func (w *worker) park() {
	w.prepare()
	if (w.pool.left.Load() > 0 && w.allowed() || w.pool.closed.Load()) && w.cancel() {
		return
	}
	w.sleep()
}

var epoch = time.Now()

func now() int64 { return int64(time.Since(epoch)) }
