package agent

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"dunlin/boards/sensors"
	"dunlin/facts"
)

// readings is what the sensors said last. It remembers nothing older.
type readings struct {
	all    []*quantity // in the order of the file
	byName map[string]*quantity

	mu sync.Mutex // guards what the quantities hold
}

// quantity is what one sensor says of one thing.
type quantity struct {
	name   string       // "hall.temperature"
	fact   facts.Answer // without what was measured
	shown  bool         // on results
	maxAge time.Duration

	at    time.Time // zero: there is no reading
	value float64
	unit  string
}

// What readings are called as facts: a sensor that is given no entity is one
// itself, and each quantity is a predicate.
const (
	sensorIRI   = "urn:dunlin:sensor/"
	quantityIRI = "urn:dunlin:quantity/"
)

// newReadings knows each quantity of the sensors; device is "" where no hub
// gave it a name.
func newReadings(all []SensorConfig, device string) *readings {
	r := &readings{byName: map[string]*quantity{}}
	for _, c := range all {
		subject := c.Entity
		if subject == "" {
			subject = sensorIRI + strings.TrimPrefix(device+"/"+c.Name, "/")
		}
		for i, name := range c.readings() {
			label := c.chip().Quantities()[i]
			p := &quantity{name: name, shown: !c.InputsOnly, maxAge: c.maxAge(), fact: facts.Answer{
				Subject: subject, Predicate: quantityIRI + label, Label: label, Source: "sensor " + c.Name + " (" + c.Kind + ")",
			}}
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

// facts returns what a result carries; r may be nil.
func (r *readings) facts(now time.Time) (out []facts.Answer) {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.all {
		if p.shown && p.fresh(now) {
			f, m := p.fact, p.measured(now)
			f.Object, f.Measured = measuredText(m), &m
			out = append(out, f)
		}
	}
	return out
}

func (p *quantity) measured(now time.Time) facts.Measured {
	return facts.Measured{Value: p.value, Unit: p.unit, AgeMS: now.Sub(p.at).Milliseconds()}
}

// Reading is what a sensor said last, in a status.
type Reading struct {
	Name string `json:"name"` // sensor and quantity: "hall.temperature"
	facts.Measured
}

// of returns the readings of one sensor.
func (r *readings) of(c SensorConfig, now time.Time) (out []Reading) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range c.readings() {
		if p := r.byName[name]; p.fresh(now) {
			out = append(out, Reading{p.name, p.measured(now)})
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

// readingsText is readings for a person: "hall.temperature 21.4 °C".
func readingsText(all []Reading) string {
	var texts []string
	for _, r := range all {
		texts = append(texts, r.Name+" "+measuredText(r.Measured))
	}
	return strings.Join(texts, ", ")
}

// measuredText is a number with its unit: "21.4 °C".
func measuredText(m facts.Measured) string {
	return strings.TrimSpace(fmt.Sprintf("%v %s", m.Value, m.Unit))
}
