package agent

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"dunlin/boards/sensors"
	"dunlin/sync/wire"
)

// readings is what the sensors said last. It remembers nothing older.
type readings struct {
	all    []*quantity // in the order of the file
	byName map[string]*quantity

	mu sync.Mutex // guards what the quantities hold
}

// quantity is what one sensor says of one thing.
type quantity struct {
	name   string // "hall.temperature"
	shown  bool   // on results
	maxAge time.Duration

	at    time.Time // zero: there is no reading
	value float64
	unit  string
}

// newReadings knows each quantity of the sensors.
func newReadings(all []SensorConfig) *readings {
	r := &readings{byName: map[string]*quantity{}}
	for _, c := range all {
		for _, name := range c.readings() {
			p := &quantity{name: name, shown: !c.InputsOnly, maxAge: c.maxAge()}
			r.all, r.byName[name] = append(r.all, p), p
		}
	}
	return r
}

// put takes what a sensor said, and forgets what it did not say any more.
func (r *readings) put(c SensorConfig, said []sensors.Reading, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range c.readings() {
		r.byName[name].at = time.Time{}
	}
	for _, s := range said {
		p := r.byName[c.Name+"."+s.Quantity]
		p.at, p.value, p.unit = at, s.Value, s.Unit
	}
}

// fresh reports whether it holds what still means something.
func (p *quantity) fresh(now time.Time) bool { return !p.at.IsZero() && now.Sub(p.at) <= p.maxAge }

// newest returns what a result carries; r may be nil.
func (r *readings) newest(now time.Time) (out []wire.Reading) {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.all {
		if p.shown && p.fresh(now) {
			out = append(out, p.reading(now))
		}
	}
	return out
}

func (p *quantity) reading(now time.Time) wire.Reading {
	return wire.Reading{Name: p.name, Value: p.value, Unit: p.unit, AgeMS: now.Sub(p.at).Milliseconds()}
}

// of returns the readings of one sensor.
func (r *readings) of(c SensorConfig, now time.Time) (out []wire.Reading) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range c.readings() {
		if p := r.byName[name]; p.fresh(now) {
			out = append(out, p.reading(now))
		}
	}
	return out
}

// value returns a reading by its name, or why there is none.
func (r *readings) value(name string, now time.Time) (float64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch p := r.byName[name]; {
	case p == nil:
		return 0, fmt.Errorf("there is no reading %s", name)
	case p.at.IsZero():
		return 0, fmt.Errorf("reading %s: its sensor gives none", name)
	case !p.fresh(now):
		return 0, fmt.Errorf("reading %s: the last one is older than %v", name, p.maxAge)
	default:
		return p.value, nil
	}
}

// readingsText is readings for a person: "temperature 21.4 °C".
func readingsText(all []wire.Reading) string {
	var texts []string
	for _, r := range all {
		texts = append(texts, strings.TrimSpace(fmt.Sprintf("%s %v %s", r.Name, r.Value, r.Unit)))
	}
	return strings.Join(texts, ", ")
}
