package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"dunlin/agent/probe"
	"dunlin/agent/slots"
	"dunlin/agent/source"
	"dunlin/boards"
	"dunlin/engine"
	"dunlin/model"
	"dunlin/sync/outbox"
	"dunlin/sync/wire"
)

// node shows the agent to the local HTTP.
type node struct{ a *Agent }

var _ probe.Node = node{}

func (n node) Live() error { return n.a.p.live() }

func (n node) Ready() []probe.Check {
	checks := []probe.Check{{Name: "model", OK: true}, {Name: "pipeline", OK: true}}
	if r := n.a.slots.Running(); r == nil {
		checks[0].OK, checks[0].Note = false, "no model is active yet"
	} else {
		checks[0].Note = r.Name + "@" + strconv.FormatInt(r.Version, 10)
	}
	if err := n.a.p.live(); err != nil {
		checks[1].OK, checks[1].Note = false, err.Error()
	}
	if err := n.a.cardError(); err != nil {
		checks = append(checks, probe.Check{Name: "card", Note: err.Error()})
	}
	// A hub that is gone is no reason to send pictures elsewhere: this is for
	// people who look.
	if n.a.hub != nil {
		note := "connected"
		if err := n.a.hub.link.Err(); err != nil {
			note = err.Error()
		}
		checks = append(checks, probe.Check{Name: "hub", OK: true, Note: note})
	}
	return checks
}

func (n node) Status(context.Context) any { return n.a.Status() }

func (n node) Facts() probe.Facts {
	if n.a.facts.Version().Graph == "" {
		return nil
	}
	return n.a.facts
}

func (n node) Model(name, version string) (probe.Model, error) {
	m, err := n.a.slots.Acquire()
	if err != nil {
		return probe.Model{}, fmt.Errorf("%w: %w", probe.ErrNotReady, err)
	}
	defer m.Release()
	if m.Name != name || version != "" && version != strconv.FormatInt(m.Version, 10) {
		return probe.Model{}, fmt.Errorf("model %.80q version %.20q: %w; %s version %d is active", name, version, probe.ErrUnknownModel, m.Name, m.Version)
	}
	ports := func(all []engine.Port) []probe.Port {
		out := make([]probe.Port, len(all))
		for i, p := range all {
			out[i] = probe.Port{Name: p.Name, Type: p.Type, Shape: p.Shape}
		}
		return out
	}
	return probe.Model{Running: m.Running(), Inputs: ports(m.Inputs()), Outputs: ports(m.Outputs())}, nil
}

func (n node) Infer(ctx context.Context, from string, picture []byte) (wire.Result, error) {
	r, err := n.a.p.process(ctx, source.New(from, picture), nil)
	if err != nil {
		n.a.giveUpOn(err)
		if errors.Is(err, outbox.ErrBroken) && n.a.cardError() != nil {
			err = fmt.Errorf("%w: %w", errCard, err)
		}
	}
	return r, err
}

func (n node) Tensors(ctx context.Context, want wire.Running, inputs []*model.Tensor) ([]*model.Tensor, error) {
	m, err := n.a.slots.Acquire()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", probe.ErrNotReady, err)
	}
	defer m.Release()
	if m.Digest != want.Digest || m.Learned != want.Learned {
		return nil, probe.ErrSuperseded
	}
	var outputs []*model.Tensor
	_, err = m.Do(ctx, slots.Job{
		Fill: func(s *engine.Session) error {
			for i, t := range inputs {
				copy(s.Input(i).Data, t.Data)
			}
			return nil
		},
		Read: func(s *engine.Session) error {
			for i := range m.Outputs() {
				outputs = append(outputs, s.Output(i).Clone())
			}
			return nil
		},
		Foreign: true,
	})
	if _, failed := errors.AsType[*slots.RunError](err); failed {
		return nil, fmt.Errorf("%w: %w", probe.ErrInput, err) // a run fails on what its inputs say
	}
	return outputs, err
}

// taught returns the learner, or an error that wraps probe.ErrOff.
func (n node) taught() (*learner, error) {
	if n.a.learner == nil {
		return nil, fmt.Errorf("%w: enabled in [learn] of its configuration turns it on", probe.ErrOff)
	}
	return n.a.learner, nil
}

func (n node) Learn(ctx context.Context, model string, next func() (probe.Lesson, error)) (any, error) {
	l, err := n.taught()
	if err != nil {
		return nil, err
	}
	return l.teach(ctx, model, next)
}

func (n node) Learned(model string) (any, error) {
	l, err := n.taught()
	if err != nil {
		return nil, err
	}
	return l.learned(model)
}

func (n node) Forget(ctx context.Context, model string) (any, error) {
	l, err := n.taught()
	if err != nil {
		return nil, err
	}
	return l.forget(ctx, model)
}

// Metrics writes everything in the Prometheus text format.
func (n node) Metrics(w io.Writer) {
	n.a.count.set.WritePrometheus(w)
	metrics.WriteProcessMetrics(w)
}

// gauges registers what is read when somebody asks.
func (a *Agent) gauges() {
	gauge := func(name string, read func() float64) { a.count.set.NewGauge(name, read) }
	state := func(f func(wire.OutboxState) int64) func() float64 {
		return func() float64 { return float64(f(a.box.State())) }
	}
	gauge("dunlin_outbox_waiting", state(func(s wire.OutboxState) int64 { return s.Next - s.First }))
	gauge("dunlin_outbox_dropped", state(func(s wire.OutboxState) int64 { return s.Dropped }))
	gauge("dunlin_outbox_bytes", func() float64 { return float64(a.box.Bytes()) })
	gauge("dunlin_model_version", func() float64 {
		if r := a.slots.Running(); r != nil {
			return float64(r.Version)
		}
		return 0
	})
	gauge("dunlin_facts_version", func() float64 { return float64(a.facts.Version().Version) })
	if a.folder != nil {
		gauge("dunlin_folder_done", func() float64 { return float64(a.folder.Counters().Done) })
		gauge("dunlin_folder_rejected", func() float64 { return float64(a.folder.Counters().Rejected) })
		gauge("dunlin_folder_dropped", func() float64 { return float64(a.folder.Counters().Dropped) })
	}
	if l := a.learner; l != nil {
		gauge("dunlin_learned_head", func() float64 { _, n, _ := a.slots.Committed(); return float64(n) })
		gauge("dunlin_lessons", func() float64 { l.mu.Lock(); defer l.mu.Unlock(); return float64(len(l.store.class)) })
	}
	gauge("dunlin_throttle_level", func() float64 { l, _ := a.governor.back(); return float64(l) })
	gauge("dunlin_go_memory_limit_bytes", func() float64 { return float64(goMemoryLimit()) })
	a.streamGauges()
	if h := a.hub; h != nil {
		gauge("dunlin_hub_connected", func() float64 {
			if h.link.Connected() {
				return 1
			}
			return 0
		})
		gauge("dunlin_hub_messages_dropped", func() float64 { return float64(h.link.Drops()) })
	}
}

// figures are what is sent to the hub now and then.
func (a *Agent) figures() map[string]float64 {
	s := a.box.State()
	v := map[string]float64{
		"outbox_waiting": float64(s.Next - s.First), "outbox_dropped": float64(s.Dropped),
		"uptime_s": time.Since(a.started).Seconds(), "rss_bytes": float64(residentBytes()),
	}
	if a.cardStatus() != "" {
		v["card_broken"] = 1
	}
	if l, _ := a.governor.back(); l > 0 {
		v["throttle_level"] = float64(l)
	}
	vitals := boards.Strain(a.root)
	if vitals.TempC != nil {
		v["temp_c"] = *vitals.TempC
	}
	if vitals.MemFree != nil {
		v["mem_available_bytes"] = float64(*vitals.MemFree)
	}
	if vitals.Throttled != nil && *vitals.Throttled {
		v["throttled"] = 1
	}
	if m, err := a.slots.Acquire(); err == nil {
		ok, failed, p95 := m.Runs()
		v["inferences"], v["inferences_failed"], v["inference_p95_ms"] = float64(ok), float64(failed), p95
		m.Release()
	}
	if a.folder != nil {
		c := a.folder.Counters()
		v["folder_done"], v["folder_rejected"], v["folder_dropped"] = float64(c.Done), float64(c.Rejected), float64(c.Dropped)
	}
	a.streamFigures(v)
	a.sensorFigures(v)
	return v
}

// residentBytes is what the process has in memory, 0 where nothing says so.
func residentBytes() int64 { return statm(1) }

// anonymousBytes is residentBytes without what files hold, which the kernel
// can drop.
func anonymousBytes() int64 { return max(0, statm(1)-statm(2)) }

// statm reads a field of /proc/self/statm, in pages: 1 is what is resident, 2
// what of that is shared.
func statm(field int) int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(text))
	if len(f) <= field {
		return 0
	}
	pages, err := strconv.ParseInt(f[field], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// Status is the document of /v1/status.
type Status struct {
	Device   string             `json:"device,omitempty"` // "tenant/name"
	Agent    string             `json:"agent"`
	Slot     *SlotStatus        `json:"slot,omitempty"` // nil: the agent of the package
	Boot     string             `json:"boot"`
	UptimeS  int64              `json:"uptime_s"`
	Board    boards.Board       `json:"board"`
	Vitals   boards.Vitals      `json:"vitals"`
	Limits   LimitsStatus       `json:"limits"`
	Kernels  string             `json:"kernels,omitempty"`
	Model    *wire.Running      `json:"model,omitempty"`
	OnTrial  bool               `json:"on_trial,omitempty"`
	Runs     *Runs              `json:"runs,omitempty"`
	Facts    *wire.FactsVersion `json:"facts,omitempty"`
	Outbox   wire.OutboxState   `json:"outbox"`
	Epoch    string             `json:"epoch"`
	Card     string             `json:"card,omitempty"` // what is wrong with it
	Hub      HubStatus          `json:"hub"`
	Folder   *FolderStatus      `json:"folder,omitempty"`
	Sources  []SourceStatus     `json:"sources,omitempty"`
	Lines    []LineStatus       `json:"lines,omitempty"`
	Sensors  []SensorStatus     `json:"sensors,omitempty"`
	Triggers []TriggerStatus    `json:"triggers,omitempty"`
	Reports  []wire.Report      `json:"reports,omitempty"`
	Clock    wire.Clock         `json:"clock"`
	RSSBytes int64              `json:"rss_bytes"`
}

// Runs says how the model that answers does.
type Runs struct {
	OK     int64   `json:"ok"`
	Failed int64   `json:"failed"`
	P95MS  float64 `json:"p95_ms"`
}

// HubStatus says how the hub is reached.
type HubStatus struct {
	URL       string `json:"url,omitempty"`
	Connected bool   `json:"connected"`
	Error     string `json:"error,omitempty"`
	Gen       int64  `json:"gen"`
}

// FolderStatus says what became of files.
type FolderStatus struct {
	Dir      string `json:"dir"`
	Done     int64  `json:"done"`
	Rejected int64  `json:"rejected"`
	Dropped  int64  `json:"dropped"`
	Failed   int64  `json:"failed"`
}

// Status returns how the agent is.
func (a *Agent) Status() Status {
	s := Status{
		Agent: Version, Slot: a.updates.status(), Boot: a.boot, UptimeS: int64(time.Since(a.started).Seconds()),
		Board: a.board, Vitals: boards.Health(a.root), Limits: a.governor.status(),
		Kernels: a.tier(), Model: a.slots.Running(), OnTrial: a.slots.OnTrial(), Facts: a.factsVersion(), Outbox: a.box.State(),
		Epoch: a.box.Epoch(), Card: a.cardStatus(), Clock: a.clock.read(), RSSBytes: residentBytes(),
	}
	if m, err := a.slots.Acquire(); err == nil {
		ok, failed, p95 := m.Runs()
		s.Runs = &Runs{ok, failed, p95}
		m.Release()
	}
	if h := a.hub; h != nil {
		s.Device = h.id.String()
		s.Hub = HubStatus{URL: a.token.MQTT, Connected: h.link.Connected(), Gen: h.gen.Load()}
		if err := h.link.Err(); err != nil {
			s.Hub.Error = err.Error()
		}
	}
	if c := a.enrolment.claim; c != nil && a.hub == nil {
		s.Hub = HubStatus{URL: c.HTTP, Error: a.claiming.status()}
	}
	if a.folder != nil {
		c := a.folder.Counters()
		s.Folder = &FolderStatus{a.c.Folder.Dir, c.Done, c.Rejected, c.Dropped, c.Failed}
	}
	s.Sources, s.Lines = a.streamStatus(), a.rules.status()
	s.Sensors, s.Triggers = a.sensorStatus(), a.triggerStatus()
	if r := a.slots.Last(); r != nil {
		s.Reports = append(s.Reports, *r)
	}
	for _, l := range []*lane{a.graphs, a.updates.lane} {
		if r := l.last(); r != nil {
			s.Reports = append(s.Reports, *r)
		}
	}
	return s
}

// buildInfo says from what the program was built.
func buildInfo() string {
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	out := b.GoVersion
	for _, s := range b.Settings {
		switch s.Key {
		case "GOOS", "GOARCH", "GOARM", "vcs.revision":
			out += " " + s.Value
		}
	}
	return out
}
