package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"dunlin/agent/source"
	"dunlin/boards/pins"
)

// TriggerConfig has sources give a frame when something happens: an edge of a
// line, or a reading that passes a level.
type TriggerConfig struct {
	Sources    []string `toml:"sources"`
	Line       string   `toml:"line"`
	Edge       string   `toml:"edge"`
	Pull       string   `toml:"pull"`
	DebounceMS int      `toml:"debounce_ms"`
	Reading    string   `toml:"reading"`
	Above      *float64 `toml:"above"`
	Below      *float64 `toml:"below"`
	Hysteresis float64  `toml:"hysteresis"`
}

// maxTriggers bounds what is watched at once.
const maxTriggers = 32

var (
	edges = map[string]pins.Edge{"": pins.Rising, "rising": pins.Rising, "falling": pins.Falling, "both": pins.BothEdges}
	pulls = map[string]pins.Pull{"": pins.PullAsIs, "up": pins.PullUp, "down": pins.PullDown}
)

// name is how the trigger is called in metrics and in the log.
func (c TriggerConfig) name() string { return c.Line + c.Reading } // one of them is empty

// triggerCheck returns the first field of the triggers that breaks a rule.
func (c *Config) triggerCheck() fieldError {
	if len(c.Triggers) > maxTriggers {
		return fieldError{"trigger", fmt.Errorf("%d of them: want at most %d", len(c.Triggers), maxTriggers)}
	}
	lines := map[string]string{}
	for i, r := range c.Rules {
		lines[r.Line] = fmt.Sprintf("rule %d drives it", i+1)
	}
	for i, t := range c.Triggers {
		field, err := t.check(c)
		if err == nil && t.Line != "" {
			if whose := lines[t.Line]; whose != "" {
				field, err = "line", fmt.Errorf("%s: %s", t.Line, whose)
			}
			lines[t.Line] = fmt.Sprintf("trigger %d has it; its sources can be several", i+1)
		}
		if err != nil {
			return fieldError{fmt.Sprintf("trigger %d: %s", i+1, field), err}
		}
	}
	return fieldError{}
}

// check returns the first field that breaks a rule.
func (t TriggerConfig) check(c *Config) (field string, err error) {
	if len(t.Sources) == 0 {
		return "sources", errors.New("want the name of a source")
	}
	for _, name := range t.Sources {
		if !slices.ContainsFunc(c.Sources, func(s SourceConfig) bool { return s.Name == name }) {
			return "sources", fmt.Errorf("there is no source %.40q", name)
		}
	}
	byLine := t.Line != ""
	if byLine {
		if err := pins.CheckName(t.Line); err != nil {
			return "line", err
		}
	}
	_, edge := edges[t.Edge]
	_, pull := pulls[t.Pull]
	_, sensor := sensorOf(c.Sensors, t.Reading)
	for _, r := range []struct {
		field string
		wrong bool
		want  string
	}{
		{"reading", byLine == (t.Reading != ""), "a line or a reading, and not both"},
		{"edge", !edge || !byLine && t.Edge != "", "rising, falling or both, of a line"},
		{"pull", !pull || !byLine && t.Pull != "", "up or down, of a line"},
		{"debounce_ms", t.DebounceMS < 0 || t.DebounceMS > 10_000 || !byLine && t.DebounceMS != 0, "0 to 10000, of a line"},
		{"reading", !byLine && !sensor, "sensor and quantity, as hall.temperature, of a [[sensor]]"},
		{"above", byLine && t.Above != nil, "none for a line"},
		{"below", byLine && t.Below != nil, "none for a line"},
		{"above", !byLine && (t.Above != nil) == (t.Below != nil), "a number for above or for below, and not both"},
		{"above", t.Above != nil && !isLevel(*t.Above), "a number of at most 1e9"},
		{"below", t.Below != nil && !isLevel(*t.Below), "a number of at most 1e9"},
		{"hysteresis", t.Hysteresis != 0 && byLine || !(t.Hysteresis >= 0 && t.Hysteresis <= 1e9), "0 or more, of a reading"},
	} {
		if r.wrong {
			return r.field, errors.New("want " + r.want)
		}
	}
	return "", nil
}

func isLevel(x float64) bool { return math.Abs(x) <= 1e9 } // not NaN

// triggered reports whether a source waits for a trigger.
func (c *Config) triggered(name string) bool {
	return slices.ContainsFunc(c.Triggers, func(t TriggerConfig) bool { return slices.Contains(t.Sources, name) })
}

// Edges is where triggers find their lines. The board's are boards/pins'.
type Edges interface {
	// Watch calls hit for each edge until ctx ends, or fails.
	Watch(ctx context.Context, t pins.Trigger, hit func(at time.Time)) error
}

// trigger has its sources give a frame.
type trigger struct {
	c       TriggerConfig
	streams []*source.Stream
	log     *slog.Logger
	hits    *metrics.Counter
	trouble atomic.Pointer[string] // "": none

	beyond bool // for readings: the level is passed, and was told
}

// openTriggers ties triggers to their streams and sensors.
func (a *Agent) openTriggers() error {
	for i, c := range a.c.Triggers {
		t := &trigger{c: c, log: a.log, hits: a.count.set.NewCounter(fmt.Sprintf(`dunlin_trigger_hits_total{trigger="%d",on=%q}`, i+1, c.name()))}
		t.trouble.Store(new(string))
		for j, s := range a.c.Sources {
			if slices.Contains(c.Sources, s.Name) {
				t.streams = append(t.streams, a.streams[j])
			}
		}
		for _, s := range a.sensors {
			if slices.Contains(s.c.readings(), c.Reading) {
				s.heard = append(s.heard, func(at time.Time) {
					v, err := a.readings.value(c.Reading, at)
					t.heard(v, err == nil, at)
				})
			}
		}
		a.triggers = append(a.triggers, t)
	}
	return nil
}

// UseEdges says where the lines of triggers are. Call it between New and Run.
func (a *Agent) UseEdges(e Edges) { a.edges = e }

// runTriggers watches the lines of triggers until ctx ends.
func (a *Agent) runTriggers(ctx context.Context, all *sync.WaitGroup) {
	for _, t := range a.triggers {
		if t.c.Line == "" {
			continue
		}
		if a.edges == nil {
			t.report(errors.New("the agent was given no lines"))
			continue
		}
		all.Go(func() { t.watch(ctx, a.edges) })
	}
}

// watch watches the line, again after a while where it cannot be.
func (t *trigger) watch(ctx context.Context, e Edges) {
	want := pins.Trigger{Line: t.c.Line, Pull: pulls[t.c.Pull], Edge: edges[t.c.Edge], Hold: ms(t.c.DebounceMS)}
	for ctx.Err() == nil {
		since := time.AfterFunc(retry, func() { t.report(nil) }) // it works if it did for so long
		err := e.Watch(ctx, want, func(at time.Time) {
			t.report(nil)
			t.hit(at)
		})
		since.Stop()
		if ctx.Err() != nil {
			return
		}
		t.report(err)
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

// heard is told a reading. One that passes the level is a hit, the first of
// all too; the next is one only when the level was left in between, by more
// than the hysteresis.
func (t *trigger) heard(v float64, ok bool, at time.Time) {
	if !ok {
		return
	}
	var beyond, within bool
	if t.c.Above != nil {
		beyond, within = v > *t.c.Above, v <= *t.c.Above-t.c.Hysteresis
	} else {
		beyond, within = v < *t.c.Below, v >= *t.c.Below+t.c.Hysteresis
	}
	switch {
	case beyond && !t.beyond:
		t.beyond = true
		t.hit(at)
	case within:
		t.beyond = false
	}
}

func (t *trigger) hit(at time.Time) {
	t.hits.Inc()
	for _, s := range t.streams {
		s.Trigger(at)
	}
}

// report logs why a line is not watched, unless it is the reason of before.
func (t *trigger) report(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	before := *t.trouble.Swap(&text)
	switch {
	case text == before:
	case err != nil:
		t.log.Warn("a trigger's line is not watched", append(complaint(err), "line", t.c.Line)...)
	default:
		t.log.Info("a trigger's line is watched again", "line", t.c.Line)
	}
}

// TriggerStatus says how often a trigger was hit.
type TriggerStatus struct {
	On      string   `json:"on"` // the line, or the reading
	Sources []string `json:"sources"`
	Hits    uint64   `json:"hits"`
	Error   string   `json:"error,omitempty"`
}

func (a *Agent) triggerStatus() (all []TriggerStatus) {
	for _, t := range a.triggers {
		all = append(all, TriggerStatus{t.c.name(), t.c.Sources, t.hits.Get(), *t.trouble.Load()})
	}
	return all
}

// checkTriggers tries the line of each trigger.
func checkTriggers(all []TriggerConfig, path string, lines Lines, stdout io.Writer) error {
	for i, t := range all {
		if t.Line == "" {
			continue
		}
		switch err := lines.Check(t.Line); {
		case errors.Is(err, errOurs):
			fmt.Fprintf(stdout, "line %s: %v\n", t.Line, err)
		case err != nil:
			return &ConfigError{File: path, Field: fmt.Sprintf("trigger %d: line", i+1), Err: err, Hint: lineHint(err)}
		default:
			fmt.Fprintf(stdout, "line %s: can be watched\n", t.Line)
		}
	}
	return nil
}
