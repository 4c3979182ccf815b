package agent

import (
	"context"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"dunlin/agent/policy"
	"dunlin/boards"
	"dunlin/engine"
	"dunlin/sync/wire"
)

// governor holds the device back while it is too hot or short of memory:
//
//	boards.Strain -> policy.Machine -> pace of the sources, threads of the
//	engine, form of the model, caches; log, status, metrics, the hub's page
//
// What somebody waits for (the local HTTP, a command) is answered as always,
// on fewer threads.
type governor struct {
	a       *Agent
	every   time.Duration // from one reading to the next
	machine *policy.Machine
	threads int // that an inference may use when nothing is held back

	mu      sync.Mutex // guards what follows
	level   policy.Level
	held    *wire.Throttle // nil at level 0
	since   time.Time
	changes int64
	sheds   int64
}

func newGovernor(a *Agent) *governor {
	n := runtime.GOMAXPROCS(0)
	if t := a.c.Model.Threads; t > 0 {
		n = min(n, t)
	}
	return &governor{a: a, every: 5 * time.Second, machine: policy.New(policy.Usual), threads: n, since: time.Now()}
}

// run reads and acts until ctx ends, and then lets go.
func (g *governor) run(ctx context.Context) {
	b := g.a.bounds
	if all := known(b); len(all) > 0 {
		g.a.log.Info("limits", all...)
	} else {
		g.a.log.Info("nobody says how hot this board may get", "field", "limits.soft_celsius")
	}
	defer g.apply(0)
	tick := time.NewTicker(g.every)
	defer tick.Stop()
	start := time.Now() // with its monotonic clock: nobody sets that
	for {
		v := boards.Strain(g.a.root)
		r := reading(b, v)
		if b.MemoryFrom == byConfiguration { // no group counts that
			r.Memory = append(r.Memory, policy.Memory{Left: max(0, *b.Memory-anonymousBytes()), Of: *b.Memory, From: b.MemoryFrom})
		}
		if c, ok := g.machine.Step(r, time.Since(start)); ok {
			g.change(ctx, c, v)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// known returns what is known of how hot the board may get, for the log.
func known(b boards.Bounds) (all []any) {
	for _, limit := range []struct {
		key string
		c   *float64
	}{{"soft_c", b.SoftC}, {"hard_c", b.HardC}} {
		if limit.c != nil {
			all = append(all, limit.key, *limit.c)
		}
	}
	if len(all) > 0 {
		all = append(all, "from", b.TempsFrom)
	}
	if n := len(b.Zones); n > 0 {
		all = append(all, "zones", n)
	}
	return all
}

// reading is what the policy looks at.
func reading(b boards.Bounds, v boards.Vitals) (r policy.Reading) {
	if t, soft, hard, ok := b.Closest(v.Temps); ok {
		slowed := v.Throttled != nil && *v.Throttled && (v.LowVolt == nil || !*v.LowVolt)
		r.Heat = &policy.Heat{Sensor: t.Name, C: t.C, Soft: soft, Hard: hard, Slowed: slowed}
	}
	if v.MemFree != nil && v.MemTotal != nil {
		r.Memory = append(r.Memory, policy.Memory{Left: *v.MemFree, Of: *v.MemTotal, From: "RAM"})
	}
	m := v.Memory
	if m == nil {
		return r
	}
	if m.Limit != nil && m.Used != nil {
		left := *m.Limit - *m.Used
		if m.Idle != nil { // pages of files are given back before anything fails
			left += min(*m.Idle, *m.Used)
		}
		r.Memory = append(r.Memory, policy.Memory{Left: max(0, left), Of: *m.Limit, From: m.LimitFrom})
	}
	r.Stalled = m.Some10
	if m.Own10 != nil && (r.Stalled == nil || *m.Own10 > *r.Stalled) {
		r.Stalled = m.Own10
	}
	return r
}

// change does what a change asks for, and tells of it.
func (g *governor) change(ctx context.Context, c policy.Change, v boards.Vitals) {
	if c.Shed {
		g.shed()
	}
	small := g.a.slots.HasSmall()
	if c.From != c.To {
		g.apply(c.To)
	}
	if c.Shed && c.To.Small() {
		g.putAway(ctx)
	}
	if c.Again {
		g.mu.Lock()
		g.sheds++
		g.mu.Unlock()
		return
	}
	log, message := g.a.log.Warn, "device holds itself back"
	if c.To < c.From {
		log, message = g.a.log.Info, "device holds back less"
	}
	log(message, "level", int(c.To), "was", int(c.From), "does", c.To.Text(g.threads, small), "caches_dropped", c.Shed, "why", c.Why)
	g.mu.Lock()
	if c.Shed {
		g.sheds++
	}
	if c.From != c.To {
		g.changes++
		g.level, g.since, g.held = c.To, time.Now(), g.throttle(c, v, small)
	}
	g.mu.Unlock()
	if l := g.a.learner; l != nil && c.To == 0 {
		l.kick() // what waited for this
	}
	if h := g.a.hub; h != nil {
		select {
		case h.changed <- struct{}{}:
		default:
		}
	}
}

// awayWait bounds how long the first form is waited for: temperatures are not
// read meanwhile. Tests shorten it.
var awayWait = 3 * time.Second

// putAway has the first form put away. Where an inference takes longer that is
// tried again when caches are dropped the next time.
func (g *governor) putAway(ctx context.Context) {
	within, cancel := context.WithTimeout(ctx, awayWait)
	defer cancel()
	if err := g.a.slots.PutAway(within); err != nil && ctx.Err() == nil {
		g.a.log.Debug("model is not put away", keyError, err)
	}
}

// throttle is what the hub is told, nil at level 0.
func (g *governor) throttle(c policy.Change, v boards.Vitals, small bool) *wire.Throttle {
	if c.To == 0 {
		return nil
	}
	t := &wire.Throttle{Level: int(c.To), Frames: c.To.Frames(), Small: small && c.To.Small(), Why: c.Why}
	if n := c.To.Threads(g.threads); n < g.threads {
		t.Threads = n
	}
	if v.TempC != nil {
		t.TempC = *v.TempC
	}
	return t
}

// apply has everything work as the level says.
func (g *governor) apply(l policy.Level) {
	g.a.pace.Set(l.Frames())
	threads, slower := 0, 1
	if l > 0 {
		threads = l.Threads(g.threads)
		// Twice as long for a clock that is held down, and for threads that lack.
		slower = 2 * (g.threads + threads - 1) / threads
	}
	engine.LimitThreads(threads)
	g.a.slots.HoldBack(slower, l.Small())
}

// shed drops what is only there to save time.
func (g *governor) shed() {
	g.a.explainer.forget()
	g.a.p.newest.Store(nil)
	if l := g.a.learner; l != nil {
		l.shed()
	}
	debug.FreeOSMemory()
}

// back reports how far the device is held back, and why.
func (g *governor) back() (policy.Level, string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held == nil {
		return 0, ""
	}
	return g.level, g.held.Why
}

// throttled is what the hub is told.
func (g *governor) throttled() *wire.Throttle {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held
}

// LimitsStatus says how the device keeps within its limits.
type LimitsStatus struct {
	Enabled  bool           `json:"enabled"`
	Throttle *wire.Throttle `json:"throttle,omitempty"` // nil: nothing is held back
	SinceS   int64          `json:"since_s"`            // how long it has been so
	Changes  int64          `json:"changes"`            // of the level, since the start
	Sheds    int64          `json:"sheds"`              // how often caches were dropped for memory
	Bounds   boards.Bounds  `json:"bounds"`
	GoMemory int64          `json:"go_memory,omitempty"` // bytes at which Go's collector works harder
}

func (g *governor) status() LimitsStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	return LimitsStatus{
		Enabled: g.a.c.Limits.Enabled, Throttle: g.held, SinceS: int64(time.Since(g.since).Seconds()), Changes: g.changes, Sheds: g.sheds,
		Bounds: g.a.bounds, GoMemory: goMemoryLimit(),
	}
}
