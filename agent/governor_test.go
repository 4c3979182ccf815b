package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dunlin/agent/policy"
	"dunlin/agent/probe"
	"dunlin/agent/slots"
	"dunlin/agent/source"
	"dunlin/boards"
	"dunlin/engine"
	"dunlin/model"
	"dunlin/model/pack"
	"dunlin/sync/wire"
)

// board is a Raspberry Pi 4 in a folder, which a test heats and cools.
type board struct {
	t    testing.TB
	root string
}

func newBoard(t testing.TB) *board {
	b := &board{t, t.TempDir()}
	b.set("proc/device-tree/compatible", "raspberrypi,4-model-b\x00brcm,bcm2711\x00")
	b.set("proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 800000 kB\n")
	b.set("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
	b.temp(50)
	return b
}

// set replaces a file whole, so that no reading sees half of it.
func (b *board) set(name, text string) {
	b.t.Helper()
	path := filepath.Join(b.root, name)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path+".new", []byte(text), 0o644)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *board) temp(c float64) {
	b.t.Helper()
	b.set("sys/class/thermal/thermal_zone0/temp", strconv.Itoa(int(c*1000))+"\n")
}

// runOn is run on a board, whose policy is in a hurry.
func runOn(t testing.TB, b *board, c Config) *Agent {
	t.Helper()
	c.Limits.Enabled = true
	a, err := newAt(b.root, c, slog.New(slog.NewTextHandler(testLog{t}, nil)), new(slog.LevelVar))
	if err != nil {
		t.Fatal(err)
	}
	a.governor.every = 5 * time.Millisecond
	a.governor.machine = policy.New(policy.Rules{
		Step: 50 * time.Millisecond, Urgent: 20 * time.Millisecond, Calm: 50 * time.Millisecond, Patience: 100 * time.Millisecond, CalmC: 5,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("agent: %v", err)
		}
	})
	return a
}

func level(a *Agent) int {
	if t := a.Status().Limits.Throttle; t != nil {
		return t.Level
	}
	return 0
}

// heavyNet tells whether the mean of n*n numbers is large, by so much
// arithmetic that it is cut for several threads.
func heavyNet(n, channels int) *model.Graph {
	g := model.New("heavy")
	g.Inputs, g.Outputs = []string{"x"}, []string{"scores"}
	g.Values["x"] = &model.Value{Type: model.F32, Shape: model.Shape{1, n * n}}
	fill := func(v float32, shape ...int) *model.Tensor {
		count, _ := model.Shape(shape).Elements()
		w := make([]float32, count)
		for i := range w {
			w[i] = v
		}
		return model.Of(model.F32, w, shape...)
	}
	g.AddConst("shape", model.Of(model.I64, []int64{1, 1, int64(n), int64(n)}, 4))
	g.AddConst("w1", fill(1, channels, 1, 1, 1))
	g.AddConst("w2", fill(1/float32(channels), channels, channels, 1, 1))
	w := fill(1, channels, 2)
	for i := range w.F32() {
		w.F32()[i] = float32(i%2)*2 - 1
	}
	g.AddConst("w3", w)
	node := func(op, out string, in ...string) {
		g.Nodes = append(g.Nodes, &model.Node{Op: op, Name: out, In: in, Out: []string{out}})
	}
	node("Reshape", "image", "x", "shape")
	node("Conv", "c1", "image", "w1")
	node("Conv", "c2", "c1", "w2")
	node("GlobalAveragePool", "pooled", "c2")
	node("Flatten", "flat", "pooled")
	node("MatMul", "scores", "flat", "w3")
	return g
}

// offerValues packs a network of one row of n numbers and two classes, and its
// small form.
func (h *testHub) offerValues(g, small *model.Graph, n int) *wire.Offer {
	h.t.Helper()
	fields := make([]string, n)
	for i := range fields {
		fields[i] = "f" + strconv.Itoa(i)
	}
	pipeline, err := json.Marshal(map[string]any{
		"inputs":  []any{map[string]any{"name": "x", "kind": "values", "fields": fields}},
		"outputs": []any{map[string]any{"name": "scores", "top": 2}},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	d, err := pack.Write(h.store, &pack.Pack{
		Name: g.Name, Version: 1, Graph: g, Labels: []string{"small", "large"}, Pipeline: pipeline, Exam: h.exam(g),
		Small: &pack.Form{Graph: small, Exam: h.exam(small)},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return &wire.Offer{
		Kind: wire.OfferModel, Name: g.Name, Version: 1, Manifest: string(d.Digest),
		Sig:   h.release.Sign(wire.OfferModel.Purpose(), []byte(d.Digest)),
		Trial: wire.TrialRules{Seconds: 1, MinRuns: 3, MaxMillis: 60_000},
	}
}

// exam asks a network once, what it answers to zeros.
func (h *testHub) exam(g *model.Graph) *pack.Exam {
	h.t.Helper()
	p, err := engine.Compile(g, engine.Options{Threads: 1, Kernels: "generic"})
	if err != nil {
		h.t.Fatal(err)
	}
	s := p.NewSession()
	if err := s.Run(); err != nil {
		h.t.Fatal(err)
	}
	return &pack.Exam{Tolerance: 1e-3, Cases: []pack.Case{{
		Inputs: []*model.Tensor{s.Input(0).Clone()}, Outputs: []*model.Tensor{s.Output(0).Clone()},
	}}}
}

// poolTime is the processor time of the engine's helping threads, by their
// name.
func poolTime(t testing.TB) (nanos int64) {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/comm")
	if err != nil || len(tasks) == 0 {
		t.Fatalf("no threads: %v", err)
	}
	for _, task := range tasks {
		if name, err := os.ReadFile(task); err != nil || string(name) != "dunlin-pool\n" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(filepath.Dir(task), "schedstat"))
		if err != nil {
			t.Skipf("the kernel does not count the time of threads: %v", err)
		}
		n, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		nanos += n
	}
	return nanos
}

// A board gets hot: of a sensor's lines fewer are looked at, the engine's
// other threads rest, and the hub is told why; it cools down, and all of it
// comes back.
func TestHotBoard(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	h, b := newTestHub(t), newBoard(t)
	c, _ := h.config(t)
	c.Sources = []SourceConfig{{Name: "bme", Kind: kindLines, Device: fifo}}
	c.Model.Threads = 2
	a := runOn(t, b, c)
	const side = 32
	h.want(h.offerValues(heavyNet(side, 128), heavyNet(side, 2), side*side), nil)
	h.until("the model", func() bool { return h.ended(1) == wire.StateActive })
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	line := strings.Repeat("1;", side*side-1) + "1\n"
	// looked writes lines one after the other and returns how many were looked
	// at, each before the next comes.
	looked := func(lines int) int64 {
		before := a.Status().Sources[0]
		for range lines {
			now := a.Status().Sources[0]
			if _, err := w.WriteString(line); err != nil {
				t.Fatal(err)
			}
			wait(t, "the line", func() bool {
				s := a.Status().Sources[0]
				return s.Frames == now.Frames+1 && s.Taken+s.Dropped == s.Frames
			})
		}
		return a.Status().Sources[0].Taken - before.Taken
	}
	// form is that of the newest result.
	form := func() string {
		want := a.Status().Sources[0].Taken
		h.until("the results", func() bool { return int64(len(h.seen("lines:bme"))) >= want })
		h.mu.Lock()
		defer h.mu.Unlock()
		return slices.MaxFunc(h.seen("lines:bme"), func(a, b wire.Result) int { return strings.Compare(a.ID, b.ID) }).Model.Form
	}
	helped := func() int64 { // over 20 runs, whose frames are all done with
		wait(t, "quiet", func() bool { return !a.p.busy() })
		before := poolTime(t)
		for range 20 { // as a client with tensors, by the first form
			m, err := a.slots.Acquire()
			if err != nil {
				t.Fatal(err)
			}
			none := func(*engine.Session) error { return nil }
			if _, err := m.Do(t.Context(), slots.Job{Fill: none, Read: none, Foreign: true}); err != nil {
				t.Fatal(err)
			}
			m.Release()
		}
		return poolTime(t) - before
	}
	if n := looked(8); n != 8 || level(a) != 0 || form() != "" {
		t.Fatalf("cool: %d of 8 lines are looked at, at level %d, by form %q", n, level(a), form())
	}
	// The pool rests for a while where the machine has other work.
	wait(t, "another thread to help", func() bool { return helped() > 0 })

	b.temp(82.1)
	wait(t, "the highest level", func() bool { return level(a) == 3 })
	looked(4) // where the count stands is not known
	if n := looked(16); n != 4 {
		t.Errorf("hot: %d of 16 lines are looked at, want 4", n)
	}
	if f := form(); f != wire.FormSmall {
		t.Errorf("hot: form %q answers", f)
	}
	helped() // one may have been about to help
	if n := helped(); n != 0 {
		t.Errorf("hot: other threads worked for %v", time.Duration(n))
	}
	h.until("the hub to be told", func() bool { return h.reported.Throttle != nil && h.reported.Throttle.Level == 3 })
	h.mu.Lock()
	got := *h.reported.Throttle
	h.mu.Unlock()
	want := wire.Throttle{Level: 3, Frames: 4, Threads: 1, Small: true, TempC: 82.1, Why: "cpu is at 82.1 °C, its soft limit is 80 °C"}
	if got != want {
		t.Errorf("the hub was told %+v, want %+v", got, want)
	}
	var text bytes.Buffer
	node{a}.Metrics(&text)
	if !strings.Contains(text.String(), "dunlin_throttle_level 3\n") || a.figures()["throttle_level"] != 3 {
		t.Error("the metrics do not have the level")
	}
	text.Reset()
	printStatus(&text, a.Status())
	if !strings.Contains(text.String(), "level 3: cpu is at 82.1 °C, its soft limit is 80 °C") {
		t.Errorf("status:\n%s", text.String())
	}

	b.temp(70)
	wait(t, "level 0", func() bool { return level(a) == 0 })
	if n := looked(8); n != 8 {
		t.Errorf("cool again: %d of 8 lines are looked at", n)
	}
	if f := form(); f != "" {
		t.Errorf("cool again: form %q answers", f)
	}
	wait(t, "another thread to help again", func() bool { return helped() > 0 })
	h.until("the hub to be told", func() bool { return h.reported.Throttle == nil })
	if s := a.Status().Limits; s.Changes < 6 || !s.Enabled || *s.Bounds.SoftC != 80 {
		t.Errorf("%+v", s)
	}
}

// A sensor that fails on a hot board changes nothing at once; when it stays
// away the board is not held back for ever.
func TestSensorGoes(t *testing.T) {
	h, b := newTestHub(t), newBoard(t)
	c, _ := h.config(t)
	a := runOn(t, b, c)
	b.temp(90)
	wait(t, "the highest level", func() bool { return level(a) == 3 })
	b.set("sys/class/thermal/thermal_zone0/temp", "-256000\n")
	wait(t, "level 0", func() bool { return level(a) == 0 })
	b.temp(90)
	wait(t, "the highest level again", func() bool { return level(a) == 3 })
}

// Files in the folder of a hot board are all answered.
func TestFolderOfHotBoard(t *testing.T) {
	h, b := newTestHub(t), newBoard(t)
	c, _ := h.config(t)
	a := runOn(t, b, c)
	h.want(h.offer(1, false), nil)
	h.until("the model", func() bool { return h.ended(1) == wire.StateActive })
	b.temp(83)
	wait(t, "the highest level", func() bool { return level(a) == 3 })
	for i := range 6 {
		drop(t, c, fmt.Sprintf("%d.png", i), picture(t, 252, i))
	}
	h.until("six results", func() bool { return len(h.results) == 6 })
}

// Short of memory, a device drops what it can make again before it looks at
// fewer frames.
func TestShortOfMemory(t *testing.T) {
	h, b := newTestHub(t), newBoard(t)
	b.set("proc/self/cgroup", "0::/agent\n")
	b.set("sys/fs/cgroup/agent/memory.max", "134217728\n")
	b.set("sys/fs/cgroup/agent/memory.current", "130000000\n")
	b.set("sys/fs/cgroup/agent/memory.stat", "anon 1\ninactive_file 60000000\n") // pages of files: nothing is short
	c, _ := h.config(t)
	a := runOn(t, b, c)
	h.want(h.offer(1, false), nil)
	h.until("the model", func() bool { return h.ended(1) == wire.StateActive })
	if _, err := (node{a}).Infer(t.Context(), "http", picture(t, 252, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := (node{a}).Explain(t.Context(), probe.Question{Method: "auto", Budget: time.Second}); err != nil {
		t.Fatal(err)
	}
	held := func() bool {
		a.explainer.mu.Lock()
		defer a.explainer.mu.Unlock()
		return a.explainer.network != nil
	}
	if !held() || level(a) != 0 {
		t.Fatalf("level %d, explanation kept: %v", level(a), held())
	}
	if s := a.Status().Limits.Bounds; s.Memory == nil || *s.Memory != 128<<20 || s.MemoryFrom != "memory.max of agent" {
		t.Errorf("%+v", s)
	}
	b.set("sys/fs/cgroup/agent/memory.stat", "anon 1\ninactive_file 5000000\n")
	wait(t, "the caches to go", func() bool { return a.Status().Limits.Sheds > 0 && !held() && a.p.newest.Load() == nil })
	wait(t, "the highest level", func() bool { return level(a) == 3 })
	if why := a.Status().Limits.Throttle.Why; why != "8 MB are left of 128 MB (memory.max of agent)" {
		t.Errorf("because %q", why)
	}
	b.set("sys/fs/cgroup/agent/memory.current", "30000000\n")
	wait(t, "level 0", func() bool { return level(a) == 0 })
}

func TestReading(t *testing.T) {
	p := func(v float64) *float64 { return &v }
	n := func(v int64) *int64 { return &v }
	yes := true
	b := boards.Bounds{SoftC: p(80), HardC: p(85)}
	for _, c := range []struct {
		what string
		v    boards.Vitals
		want policy.Reading
	}{
		{"nothing", boards.Vitals{}, policy.Reading{}},
		{"slowed for heat", boards.Vitals{Temps: []boards.Temp{{Name: "cpu", C: 79}}, Throttled: &yes}, policy.Reading{
			Heat: &policy.Heat{Sensor: "cpu", C: 79, Soft: 80, Hard: 85, Slowed: true},
		}},
		{"slowed for want of voltage", boards.Vitals{Temps: []boards.Temp{{Name: "cpu", C: 79}}, Throttled: &yes, LowVolt: &yes}, policy.Reading{
			Heat: &policy.Heat{Sensor: "cpu", C: 79, Soft: 80, Hard: 85},
		}},
		{"more idle than used", boards.Vitals{Memory: &boards.Memory{Limit: n(100), LimitFrom: "x", Used: n(90), Idle: n(95)}}, policy.Reading{
			Memory: []policy.Memory{{Left: 100, Of: 100, From: "x"}},
		}},
		{"above its limit", boards.Vitals{Memory: &boards.Memory{Limit: n(100), LimitFrom: "x", Used: n(120)}}, policy.Reading{
			Memory: []policy.Memory{{Left: 0, Of: 100, From: "x"}},
		}},
		{"the worse of two", boards.Vitals{MemFree: n(5), MemTotal: n(9), Memory: &boards.Memory{Some10: p(3), Own10: p(7)}}, policy.Reading{
			Memory: []policy.Memory{{Left: 5, Of: 9, From: "RAM"}}, Stalled: p(7),
		}},
	} {
		got := reading(b, c.v)
		same := (got.Heat == nil) == (c.want.Heat == nil) && (got.Heat == nil || *got.Heat == *c.want.Heat) &&
			slices.Equal(got.Memory, c.want.Memory) && (got.Stalled == nil) == (c.want.Stalled == nil) && (got.Stalled == nil || *got.Stalled == *c.want.Stalled)
		if !same {
			t.Errorf("%s: %+v", c.what, got)
		}
	}
}

// A hot board takes what it is taught, and trains when it is cool.
func TestHotBoardLearnsLater(t *testing.T) {
	if testing.Short() {
		t.Skip("a training takes seconds")
	}
	h, b := newTestHub(t), newBoard(t)
	c, _ := h.learnConfig(t)
	a := runOn(t, b, c)
	h.want(h.garments(1), nil)
	h.until("version 1", func() bool { return h.ended(1) == wire.StateActive })
	b.temp(86)
	wait(t, "the highest level", func() bool { return level(a) == 3 })
	l := dial(t, c)
	l.teach(a.labels(t), negatives(t, "calibration"))
	if d := l.state(); d.Needs != "a device that does not hold itself back: cpu is at 86.0 °C, its hard limit is 85 °C" {
		t.Errorf("it needs %q", d.Needs)
	}
	a.learner.lesson(t.Context()) // as when nothing has come for a while
	if d := l.state(); d.Last != nil || d.State != "collecting" {
		t.Errorf("hot, and it trains: %+v", d)
	}
	b.temp(50)
	wait(t, "the head", func() bool { d := l.state(); return d.Last != nil && d.Last.Ended != "" })
}

// What the configuration gives is counted in this process, which no group does.
func TestShortOfWhatTheConfigurationGives(t *testing.T) {
	h, b := newTestHub(t), newBoard(t)
	c, _ := h.config(t)
	hold := make([]byte, 64<<20)
	for i := 0; i < len(hold); i += 1 << 12 {
		hold[i] = 1 // resident
	}
	c.Limits.MemoryMB = 32
	a := runOn(t, b, c)
	wait(t, "the highest level", func() bool { return level(a) == 3 })
	if why := a.Status().Limits.Throttle.Why; why != "0 MB are left of 32 MB (the configuration)" {
		t.Errorf("because %q", why)
	}
	runtime.KeepAlive(hold)
}

// An inference that takes its time does not keep the governor from its sensors.
func TestPutAwayDoesNotWaitForLong(t *testing.T) {
	defer func(d time.Duration) { awayWait = d }(awayWait)
	awayWait = 10 * time.Millisecond
	h := newTestHub(t)
	c, _ := h.config(t)
	a, stop := run(t, c)
	defer stop()
	h.want(h.offer(1, false), nil)
	h.until("version 1", func() bool { return h.ended(1) == wire.StateActive })
	release := hold(t, a)
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		a.governor.change(t.Context(), policy.Change{From: 2, To: policy.Top, Shed: true, Why: "1 MB is left"}, boards.Vitals{})
	}()
	ended(t, "the change", changed)
	if l := level(a); l != 3 {
		t.Errorf("level %d", l)
	}
	release()
}

// Short of memory for long, the first form makes room for the small one, and
// is there again for a client's tensors, and when there is memory.
func TestShortOfMemoryBySmallForm(t *testing.T) {
	h, b := newTestHub(t), newBoard(t)
	c, _ := h.config(t)
	a := runOn(t, b, c)
	const side = 16
	h.want(h.offerValues(heavyNet(side, 16), heavyNet(side, 2), side*side), nil)
	h.until("the model", func() bool { return h.ended(1) == wire.StateActive })
	line := []byte(strings.Repeat("1;", side*side-1) + "1")
	answered := func(want string) {
		t.Helper()
		r, err := a.p.process(t.Context(), source.New("http", line), nil)
		if err != nil || r.Model.Form != want || len(r.Labels) == 0 || r.Labels[0].Label != "large" {
			t.Errorf("form %q, want %q: %+v, %v", r.Model.Form, want, r.Labels, err)
		}
	}
	answered("")
	b.set("proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 20000 kB\n")
	wait(t, "the highest level", func() bool { return level(a) == 3 })
	answered(wire.FormSmall)
	m, err := a.slots.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	running := m.Running()
	m.Release()
	x, err := model.NewTensor(model.F32, 1, side*side)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := (node{a}).Tensors(t.Context(), running, []*model.Tensor{x}); err != nil || len(out) != 1 {
		t.Errorf("a client's tensors: %v, %v", out, err)
	}
	answered(wire.FormSmall)
	sheds := a.Status().Limits.Sheds
	wait(t, "caches to be dropped again", func() bool { return a.Status().Limits.Sheds > sheds+2 })
	b.set("proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 800000 kB\n")
	wait(t, "level 0", func() bool { return level(a) == 0 })
	answered("")
}

// The log says what is known of a board's limits, and nothing of the rest.
func TestKnownLimits(t *testing.T) {
	soft, hard := 80.0, 85.0
	for _, c := range []struct {
		b    boards.Bounds
		want string
	}{
		{boards.Bounds{}, "[]"},
		{boards.Bounds{SoftC: &soft, HardC: &hard, TempsFrom: "a Pi"}, "[soft_c 80 hard_c 85 from a Pi]"},
		{boards.Bounds{HardC: &hard, TempsFrom: "a Pi", Zones: make([]boards.ZoneBounds, 2)}, "[hard_c 85 from a Pi zones 2]"},
		{boards.Bounds{Zones: make([]boards.ZoneBounds, 1)}, "[zones 1]"},
	} {
		if got := fmt.Sprint(known(c.b)); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}
