package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"dunlin/boards/pins"
	"dunlin/sync/wire"
)

// RuleConfig drives a line when a result has a label.
type RuleConfig struct {
	Label     string  `toml:"label"`
	MinScore  float64 `toml:"min_score"`
	Line      string  `toml:"line"`
	Millis    int     `toml:"millis"`
	ActiveLow bool    `toml:"active_low"`
}

// maxRules bounds what every result is compared with.
const maxRules = 100

// ruleCheck returns the first field of the rules that breaks one.
func ruleCheck(rules []RuleConfig) fieldError {
	if len(rules) > maxRules {
		return fieldError{"rule", fmt.Errorf("%d of them: want at most %d", len(rules), maxRules)}
	}
	first := map[string]int{}
	for i, r := range rules {
		at := func(field string, err error) fieldError {
			return fieldError{fmt.Sprintf("rule %d: %s", i+1, field), err}
		}
		if err := notEmpty(r.Label); err != nil {
			return at("label", err)
		}
		if !(r.MinScore > 0 && r.MinScore <= 1) { // so written for NaN
			return at("min_score", fmt.Errorf("%v: want more than 0, at most 1", r.MinScore))
		}
		if err := pins.CheckName(r.Line); err != nil {
			return at("line", err)
		}
		if r.Millis < 1 || r.Millis > 3600_000 {
			return at("millis", fmt.Errorf("%d: want 1 to 3600000", r.Millis))
		}
		if j, ok := first[r.Line]; !ok {
			first[r.Line] = i
		} else if rules[j].ActiveLow != r.ActiveLow {
			return at("active_low", fmt.Errorf("rule %d has the same line, %s, with the other level", j+1, r.Line))
		}
	}
	return fieldError{}
}

// Lines is where rules find what they drive. The board's are boards/pins'.
type Lines interface {
	// Check reports whether a line can be had; it drives nothing.
	Check(name string) error
	// Output takes a line and makes it inactive.
	Output(name string, activeLow bool) (Line, error)
}

// Line is one line, had by this program.
type Line interface {
	Set(active bool) error
	Close() error // makes it inactive and lets it go
}

// errOurs is a line that cannot be had because an agent that runs has it.
var errOurs = errors.New("the running agent has it")

// checkLines tries each line of the rules.
func checkLines(rules []RuleConfig, path string, lines Lines, stdout io.Writer) error {
	seen := map[string]bool{}
	for i, r := range rules {
		if seen[r.Line] {
			continue
		}
		seen[r.Line] = true
		switch err := lines.Check(r.Line); {
		case errors.Is(err, errOurs):
			fmt.Fprintf(stdout, "line %s: %v\n", r.Line, err)
		case err != nil:
			return &ConfigError{File: path, Field: fmt.Sprintf("rule %d", i+1), Err: err, Hint: lineHint(err)}
		default:
			fmt.Fprintf(stdout, "line %s: can be driven\n", r.Line)
		}
	}
	return nil
}

// rules is the last step of the pipeline: it compares, and leaves the driving
// to one goroutine for each line, so that no result waits for a pin.
type rules struct {
	all     []RuleConfig
	drivers map[string]*driver // by Line
}

// UseLines opens what the rules drive. Call it between New and Run. A line
// that cannot be opened is a warning and a metric: the results of a device
// are worth more than its lamp, and it is tried again when a rule wants it.
func (a *Agent) UseLines(lines Lines) {
	if len(a.c.Rules) == 0 {
		return
	}
	a.rules = &rules{all: a.c.Rules, drivers: map[string]*driver{}}
	for _, c := range a.c.Rules {
		if a.rules.drivers[c.Line] == nil {
			d := newDriver(c, lines, a.count.set, a.log)
			a.rules.drivers[c.Line] = d
			d.open()
		}
	}
	a.p.rules = a.rules
}

func (a *Agent) runRules(ctx context.Context, all *sync.WaitGroup) {
	if a.rules == nil {
		if len(a.c.Rules) > 0 {
			a.log.Warn("rules drive nothing: the agent was given no lines")
		}
		return
	}
	for _, d := range a.rules.drivers {
		d.running = true
		all.Go(func() { d.run(ctx) })
	}
}

// apply has the lines driven whose rules match. It never waits.
func (r *rules) apply(labels []wire.Label) {
	if r == nil {
		return
	}
	for _, rule := range r.all {
		for _, l := range labels {
			if l.Label == rule.Label && l.Score >= float32(rule.MinScore) {
				r.drivers[rule.Line].pulse(ms(rule.Millis))
				break
			}
		}
	}
}

// close lets go of lines that Run did not.
func (r *rules) close() (err error) {
	if r == nil {
		return nil
	}
	for _, d := range r.drivers {
		if !d.running {
			err = errors.Join(err, d.close())
		}
	}
	return err
}

// LineStatus says what became of a line of the rules.
type LineStatus struct {
	Line    string `json:"line"`
	Pulses  uint64 `json:"pulses"`
	Dropped uint64 `json:"dropped"`
	Error   string `json:"error,omitempty"`
}

func (r *rules) status() (out []LineStatus) {
	if r == nil {
		return nil
	}
	seen := map[string]bool{}
	for _, rule := range r.all { // in the order of the file
		if d := r.drivers[rule.Line]; !seen[d.name] {
			seen[d.name] = true
			out = append(out, LineStatus{d.name, d.pulses.Get(), d.dropped.Get(), *d.trouble.Load()})
		}
	}
	return out
}

// driver drives one line. What is wanted of it waits in one place, where the
// newest takes the older one's.
type driver struct {
	name      string
	activeLow bool
	lines     Lines
	log       *slog.Logger

	mu   sync.Mutex         // held to put something into next
	next chan time.Duration // of one place

	// For run alone, once it runs.
	running bool
	line    Line // nil: it could not be opened
	tried   time.Time

	trouble         atomic.Pointer[string] // "": none
	pulses, dropped *metrics.Counter
	errors          *metrics.Counter
}

func newDriver(c RuleConfig, lines Lines, set *metrics.Set, log *slog.Logger) *driver {
	label := `{line="` + c.Line + `"}` // pins.CheckName lets no quotes through
	d := &driver{
		name: c.Line, activeLow: c.ActiveLow, lines: lines, log: log, next: make(chan time.Duration, 1),
		pulses:  set.NewCounter("dunlin_line_pulses_total" + label),
		dropped: set.NewCounter("dunlin_line_dropped_total" + label),
		errors:  set.NewCounter("dunlin_line_errors_total" + label),
	}
	d.trouble.Store(new(string))
	set.NewGauge("dunlin_line_ok"+label, func() float64 {
		if *d.trouble.Load() != "" {
			return 0
		}
		return 1
	})
	return d
}

// pulse asks for the line to be active from now on for a time.
func (d *driver) pulse(long time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.next:
		d.dropped.Inc()
	default:
	}
	d.next <- long // there is room: whoever puts something holds mu
}

// retry is how long a line that could not be opened, or made inactive, is left
// alone.
const retry = 10 * time.Second

// run drives the line until ctx ends, and leaves it inactive. A pulse that
// comes during another starts the time anew.
func (d *driver) run(ctx context.Context) {
	defer func() { d.report(d.close()) }()
	off := time.NewTimer(time.Hour)
	off.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case long := <-d.next:
			if d.line == nil && time.Since(d.tried) < retry {
				d.errors.Inc()
				continue
			}
			if d.line == nil && !d.open() {
				continue
			}
			d.report(d.line.Set(true))
			d.pulses.Inc()
			off.Reset(long) // after an error too: the level may have changed all the same
		case <-off.C:
			err := d.line.Set(false)
			d.report(err)
			if err != nil {
				off.Reset(retry / 10)
			}
		}
	}
}

// open takes the line.
func (d *driver) open() bool {
	d.tried = time.Now()
	line, err := d.lines.Output(d.name, d.activeLow)
	d.report(err)
	if err == nil {
		d.line = line
	}
	return err == nil
}

// close leaves the line inactive.
func (d *driver) close() error {
	if d.line == nil {
		return nil
	}
	err := d.line.Close()
	d.line = nil
	return err
}

// report counts an error, and logs it unless it is the one of before.
func (d *driver) report(err error) {
	text := ""
	if err != nil {
		text = err.Error()
		d.errors.Inc()
	}
	before := *d.trouble.Swap(&text)
	switch {
	case text == before:
	case err != nil:
		d.log.Warn("a rule cannot drive its line", "line", d.name, keyError, err)
	default:
		d.log.Info("a line can be driven again", "line", d.name)
	}
}
