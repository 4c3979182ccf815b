package agent

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/physic"

	"dunlin/boards/sensors"
	"dunlin/facts"
)

// adc is a bus with an ADS1115 at 0x48, as its datasheet has it: what its
// input is at, and whether anything is there at all, can be changed.
type adc struct {
	mu     sync.Mutex
	mv     float64
	gone   error
	config uint16
	ready  time.Time // when the conversion ends; read before, its bit is 0
	opened int
}

func (b *adc) set(mv float64, gone error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mv, b.gone = mv, gone
}

func (b *adc) I2C(path string) (sensors.Bus, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opened++
	if path != "/dev/i2c-1" {
		return nil, syscall.ENOENT
	}
	return b, nil
}

func (b *adc) SPI(string, int) (sensors.Wire, error) { return nil, syscall.ENOENT }
func (b *adc) String() string                        { return "adc" }
func (b *adc) SetSpeed(physic.Frequency) error       { return nil }
func (b *adc) Close() error                          { return nil }

func (b *adc) Tx(addr uint16, w, r []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone != nil {
		return b.gone
	}
	if addr != 0x48 {
		return syscall.EREMOTEIO
	}
	switch {
	case len(w) == 3:
		b.config = binary.BigEndian.Uint16(w[1:])
		b.ready = time.Now().Add(time.Second / 128)
	case w[0] == 1 && time.Now().Before(b.ready):
		binary.BigEndian.PutUint16(r, b.config&^0x8000)
	case w[0] == 1:
		binary.BigEndian.PutUint16(r, b.config|0x8000)
	default:
		channel := float64(b.config >> 12 & 3) // its inputs are 1 V apart
		binary.BigEndian.PutUint16(r, uint16(int16((b.mv+1000*channel)/4096*32768)))
	}
	return nil
}

// tank is a sensor on that bus: 1 mV is 1 cm.
func tank(every int) SensorConfig {
	return SensorConfig{Name: "tank", Kind: "ads1115", Bus: "i2c-1", EveryMS: every, Scale: 1000, Quantity: "level", Unit: "cm"}
}

// sensing is an agent's sensors alone, as Run has them.
func sensing(t *testing.T, b sensors.Buses, c Config) (a *Agent, log *bytes.Buffer, stop func()) {
	t.Helper()
	if field, err := c.check(); err != nil {
		t.Fatalf("%s: %v", field, err)
	}
	log = &bytes.Buffer{}
	a = &Agent{c: c, count: newCounters(), p: &pipeline{}, log: slog.New(slog.NewTextHandler(log, nil))}
	for _, open := range []func() error{a.openSensors, a.openStreams, a.openTriggers} {
		if err := open(); err != nil {
			t.Fatal(err)
		}
	}
	a.UseBuses(b)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	a.runSensors(ctx, &all)
	return a, log, func() { cancel(); all.Wait() }
}

func shown(all []facts.Answer) string {
	var b strings.Builder
	for _, f := range all {
		fmt.Fprintf(&b, "%s %s %s, %d ms; ", f.Subject, f.Label, f.Object, f.Measured.AgeMS)
	}
	return b.String()
}

// A reading is on results as long as it means something. A chip that is gone
// is opened again, more and more seldom, and its reading is absent, never 0.
func TestSensor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &adc{mv: 500}
		c := defaults()
		c.Sensors = []SensorConfig{tank(2000)}
		a, log, stop := sensing(t, b, c)
		defer stop()
		start := time.Now()
		at := func(d time.Duration, want string) {
			t.Helper()
			<-time.After(time.Until(start.Add(d)))
			synctest.Wait()
			if got := shown(a.p.readings.facts(time.Now())); got != want {
				t.Errorf("at %v: %q, want %q", d, got, want)
			}
		}
		at(time.Second, "urn:dunlin:sensor/tank level 500 cm, 990 ms; ")
		b.set(3, nil)
		at(3*time.Second, "urn:dunlin:sensor/tank level 3 cm, 990 ms; ")
		b.set(0, nil) // a zero that was measured is one
		at(5*time.Second, "urn:dunlin:sensor/tank level 0 cm, 990 ms; ")
		b.set(0, syscall.EREMOTEIO)
		at(6500*time.Millisecond, "")
		if s := a.sensorStatus()[0]; s.Reads != 3 || !strings.Contains(s.Error, "ads1115 at 0x48: nothing answers") || len(s.Readings) != 0 {
			t.Errorf("%+v", s)
		}
		v := map[string]float64{}
		if a.sensorFigures(v); v["sensors_lost"] != 1 {
			t.Error(v)
		}
		at(60*time.Second, "")
		if b.opened != 6 { // after 1, 2, 4, 8, 16 and 32 s; the first time it was open
			t.Errorf("opened %d times", b.opened)
		}
		b.set(7, nil)
		<-time.After(10 * time.Second)
		if v, err := a.readings.value("tank.level", time.Now()); v != 7 {
			t.Errorf("after it came back: %v, %v", v, err)
		}
		if got := strings.Count(log.String(), "WARN"); got != 1 || !strings.Contains(log.String(), "0x48, 0x49, 0x4a or 0x4b") {
			t.Errorf("%d warnings:\n%s", got, log)
		}
		if _, err := a.readings.value("tank.level", time.Now().Add(time.Hour)); err == nil {
			t.Error("an hour later it still counts")
		}
	})
}

// The channels of one chip are read at the same times and do not disturb each
// other: each reading is of its own input.
func TestChannelsOfOneChip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := defaults()
		for i, bus := range []string{"i2c-1", "/dev/i2c-1", "i2c-1", "i2c-1"} {
			s := tank(500)
			s.Name, s.Bus, s.Channel = fmt.Sprintf("tank%d", i), bus, fmt.Sprint(i)
			if i == 2 {
				s.Address = 0x48 // as without one
			}
			c.Sensors = append(c.Sensors, s)
		}
		a, log, stop := sensing(t, &adc{mv: 500}, c)
		defer stop()
		<-time.After(30*time.Second - 250*time.Millisecond)
		synctest.Wait()
		for i, s := range a.sensorStatus() {
			if s.Error != "" || s.Reads != 60 || len(s.Readings) != 1 || s.Readings[0].Value != float64(500+1000*i) {
				t.Errorf("channel %d: %+v", i, s)
			}
		}
		if log.Len() > 0 {
			t.Error(log)
		}
	})
}

// A bus that is not there is tried again too, and said with advice.
func TestNoBus(t *testing.T) {
	c := tank(1000)
	c.Bus = "i2c-9"
	err := checkSensors(t.Context(), []SensorConfig{c}, "x.toml", boardBuses{}, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "x.toml: sensor 1: /dev/i2c-9") || !strings.Contains(hintOf(err), "do_i2c 0") {
		t.Errorf("%v, hint %s", err, hintOf(err))
	}
	var out bytes.Buffer
	if err := checkSensors(t.Context(), []SensorConfig{tank(1000)}, "x.toml", &adc{mv: 12}, &out); err != nil || out.String() != "sensor tank: level 12 cm\n" {
		t.Errorf("%v: %s", err, out.String())
	}
}

// A level that is passed is a hit, once until it was left by more than the
// hysteresis; where there is no reading nothing happens.
func TestLevels(t *testing.T) {
	ten, five := 10.0, 5.0
	for name, c := range map[string]struct {
		t    TriggerConfig
		want []int
	}{
		"above": {TriggerConfig{Above: &ten, Hysteresis: 2}, []int{1, 6}},
		"below": {TriggerConfig{Below: &five}, []int{5, 8}},
	} {
		tr := &trigger{c: c.t, hits: newCounters().set.NewCounter("x")}
		var hits []int
		for i, v := range []float64{10, 11, 9, 12, 8, 4, 10.5, -1, 4, 5, 9} {
			before := tr.hits.Get()
			tr.heard(v, v >= 0, time.Now())
			if tr.hits.Get() > before {
				hits = append(hits, i)
			}
		}
		if !slices.Equal(hits, c.want) {
			t.Errorf("%s: hits at %v, want %v", name, hits, c.want)
		}
	}
}

// Sensors as a model's inputs, as what a trigger waits for, and on results:
// nothing is looked at before the tank is full.
func TestSensorsAreAnswered(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	full := 1000.0
	c.Sensors = []SensorConfig{tank(200), tank(200)}
	c.Sensors[0].Entity = "https://example.org/cistern"
	c.Sensors[1].Name, c.Sensors[1].Scale, c.Sensors[1].InputsOnly = "volts", 1, true
	c.Sources = []SourceConfig{
		{Name: "flow", Kind: kindSensors, Readings: []string{"volts.level", "tank.level"}},
		{Name: "alarm", Kind: kindSensors, Readings: []string{"tank.level", "tank.level"}},
	}
	c.Triggers = []TriggerConfig{{Sources: []string{"alarm"}, Reading: "tank.level", Above: &full}}
	if field, err := c.check(); err != nil {
		t.Fatalf("%s: %v", field, err)
	}
	b := &adc{mv: 750}
	a, _ := run(t, c, func(a *Agent) { a.UseBuses(b) })
	h.want(h.offerSum(2, `"kind":"values","fields":["volts","level"]`), nil)
	h.until("a result of the source without a trigger", func() bool { return len(h.seen("sensors:flow")) > 1 })
	h.mu.Lock()
	r, early := h.seen("sensors:flow")[0], len(h.seen("sensors:alarm"))
	h.mu.Unlock()
	if early != 0 {
		t.Error("a source with a trigger gave a frame before it")
	}
	if r.Input != digestOf([]byte("0.75,750")) || r.Labels[0].Label != "large" || len(r.Facts) != 1 || r.FactsAt != nil {
		t.Fatalf("%+v", r)
	}
	m := r.Facts[0].Measured
	if m == nil || m.Value != 750 || m.Unit != "cm" || m.AgeMS < 0 || m.AgeMS > 600 {
		t.Errorf("measured: %+v", m)
	}
	if r.Facts[0].Measured = nil; r.Facts[0] != (facts.Answer{
		Subject: "https://example.org/cistern", Predicate: "urn:dunlin:quantity/level", Label: "level", Object: "750 cm", Source: "sensor tank (ads1115)",
	}) {
		t.Errorf("%+v", r.Facts[0])
	}
	b.set(1500, nil)
	h.until("the result of the trigger", func() bool { return len(h.seen("sensors:alarm")) > 0 })
	if s := a.Status(); s.Triggers[0].Hits != 1 || s.Triggers[0].On != "tank.level" || s.Sources[1].Triggers != 1 || s.Sources[1].Taken != 1 {
		t.Errorf("%+v, %+v", s.Triggers, s.Sources)
	}
	b.set(1500, syscall.EREMOTEIO)
	wait(t, "the source to say why it gives nothing", func() bool {
		s := a.Status()
		return strings.Contains(s.Sources[0].Error, "reading volts.level: its sensor gives none") && s.Sensors[0].Error != ""
	})
	var text bytes.Buffer
	node{a}.Metrics(&text)
	if !strings.Contains(text.String(), `dunlin_reading{name="tank.level"} NaN`) || !strings.Contains(text.String(), `dunlin_trigger_hits_total{trigger="1",on="tank.level"} 1`) {
		t.Errorf("metrics:\n%s", text.String())
	}
	text.Reset()
	printStatus(&text, a.Status())
	if !strings.Contains(text.String(), "sensor   tank: no reading; ads1115 at 0x48") || !strings.Contains(text.String(), "trigger  tank.level: 1 hits for alarm") ||
		!strings.Contains(text.String(), "sensors:alarm: 1 frames, 1 looked at, 0 dropped, 0 unusable; 1 triggers, 0 missed") {
		t.Errorf("status:\n%s", text.String())
	}
}
