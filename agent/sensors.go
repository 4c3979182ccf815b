package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/VictoriaMetrics/metrics"

	"dunlin/boards/pins"
	"dunlin/boards/sensors"
	"dunlin/sync/wire"
)

// SensorConfig is a chip on an I2C or SPI bus that is read now and then.
type SensorConfig struct {
	Name        string  `toml:"name"`
	Entity      string  `toml:"entity"`
	Kind        string  `toml:"kind"`
	Bus         string  `toml:"bus"`
	Address     int     `toml:"address"`
	EveryMS     int     `toml:"every_ms"`
	InputsOnly  bool    `toml:"inputs_only"`
	Channel     string  `toml:"channel"`
	RangeMV     int     `toml:"range_mv"`
	Rate        int     `toml:"rate"`
	ReferenceMV int     `toml:"reference_mv"`
	Scale       float64 `toml:"scale"`
	Offset      float64 `toml:"offset"`
	Quantity    string  `toml:"quantity"`
	Unit        string  `toml:"unit"`
}

// maxSensors bounds what runs at once.
const maxSensors = 32

func (c SensorConfig) chip() sensors.Config {
	return sensors.Config{
		Kind: c.Kind, Bus: c.Bus, Address: c.Address, Channel: c.Channel, RangeMV: c.RangeMV, Rate: c.Rate,
		ReferenceMV: c.ReferenceMV, Scale: c.Scale, Offset: c.Offset, Quantity: c.Quantity, Unit: c.Unit,
	}
}

// readings names what the sensor gives: "hall.temperature".
func (c SensorConfig) readings() []string {
	all := slices.Clone(c.chip().Quantities())
	for i, q := range all {
		all[i] = c.Name + "." + q
	}
	return all
}

func (c SensorConfig) every() time.Duration { return ms(orElse(c.EveryMS, 10_000)) }

// maxAge is when a reading means nothing any more: two that should have come
// since did not.
func (c SensorConfig) maxAge() time.Duration { return 3 * max(c.every(), time.Second) }

// sensorCheck returns the first field of the sensors that breaks a rule.
func sensorCheck(all []SensorConfig) fieldError {
	if len(all) > maxSensors {
		return fieldError{"sensor", fmt.Errorf("%d of them: want at most %d", len(all), maxSensors)}
	}
	seen, shown := map[string]bool{}, 0
	for i, c := range all {
		field, err := c.chip().Check()
		switch {
		case !sourceName.MatchString(c.Name):
			field, err = "name", errors.New("want 1 to 40 letters, digits, dots, dashes and underscores")
		case seen[c.Name]:
			field, err = "name", fmt.Errorf("another sensor has it: %s", c.Name)
		case err == nil && c.Entity != "" && !isIRI(c.Entity):
			field, err = "entity", errors.New("want an IRI of at most 200 bytes, as https://example.org/place/hall")
		case err == nil && c.EveryMS != 0 && (c.EveryMS < 200 || c.EveryMS > 24*3600_000):
			field, err = "every_ms", errors.New("want 200 to 86400000, or 0")
		}
		if err != nil {
			return fieldError{fmt.Sprintf("sensor %d: %s", i+1, field), err}
		}
		seen[c.Name] = true
		if !c.InputsOnly {
			shown += len(c.readings())
		}
		if shown > wire.MaxReadings {
			return fieldError{fmt.Sprintf("sensor %d: inputs_only", i+1), fmt.Errorf("a result carries at most %d readings: want true for some of them", wire.MaxReadings)}
		}
	}
	return fieldError{}
}

// isIRI reports whether s can stand as a subject among facts (N-Triples,
// https://www.w3.org/TR/n-triples/#grammar-production-IRIREF), and names a
// scheme.
func isIRI(s string) bool {
	bad := func(r rune) bool { return r <= ' ' || r == utf8.RuneError || strings.ContainsRune("<>\"{}|^`\\", r) }
	return len(s) <= 200 && strings.IndexByte(s, ':') > 0 && !strings.ContainsFunc(s, bad)
}

// sensorOf returns the sensor that gives a reading; false: none does.
func sensorOf(all []SensorConfig, reading string) (SensorConfig, bool) {
	i := slices.IndexFunc(all, func(c SensorConfig) bool { return slices.Contains(c.readings(), reading) })
	if i < 0 {
		return SensorConfig{}, false
	}
	return all[i], true
}

// sensor reads one chip.
type sensor struct {
	c     SensorConfig
	log   *slog.Logger
	all   *readings
	heard []func(at time.Time) // after each reading, whatever came of it
	// turn is full while somebody reads the chip: the channels of an ADS1115 are
	// sensors of their own, and share its one configuration.
	turn chan struct{}

	chip    sensors.Chip // nil: it is not open
	first   chan struct{}
	trouble atomic.Pointer[string] // "": none
	reads   *metrics.Counter
	errors  *metrics.Counter
}

// openSensors knows the sensors; nothing is opened before Run.
func (a *Agent) openSensors() error {
	device := ""
	if a.token != nil {
		device = a.token.ID().String()
	}
	a.readings = newReadings(a.c.Sensors, device)
	a.p.readings = a.readings
	turns := map[string]chan struct{}{} // by the chip's place
	for _, c := range a.c.Sensors {
		place := c.chip().Place()
		if turns[place] == nil {
			turns[place] = make(chan struct{}, 1)
		}
		label := `{sensor="` + c.Name + `"}` // sourceName lets no quotes through
		s := &sensor{
			c: c, log: a.log, all: a.readings, first: make(chan struct{}), turn: turns[place],
			reads:  a.count.set.NewCounter("dunlin_sensor_reads_total" + label),
			errors: a.count.set.NewCounter("dunlin_sensor_errors_total" + label),
		}
		s.trouble.Store(new(string))
		a.sensors = append(a.sensors, s)
		for _, name := range c.readings() {
			a.count.set.NewGauge(`dunlin_reading{name="`+name+`"}`, func() float64 {
				if v, err := a.readings.value(name, time.Now()); err == nil {
					return v
				}
				return math.NaN() // which Prometheus takes for none
			})
		}
	}
	return nil
}

// runSensors has each sensor read until ctx ends.
func (a *Agent) runSensors(ctx context.Context, all *sync.WaitGroup) {
	if a.buses == nil && len(a.sensors) > 0 {
		a.log.Warn("sensors are not read: the agent was given no buses")
	}
	for _, s := range a.sensors {
		if a.buses == nil {
			close(s.first)
			continue
		}
		all.Go(func() { s.run(ctx, a.buses) })
	}
}

// UseBuses says where the sensors are found. Call it between New and Run.
func (a *Agent) UseBuses(b sensors.Buses) { a.buses = b }

// How long a chip that gives nothing is left alone: the first time, and at
// most.
const (
	reopenFirst = time.Second
	reopenLast  = time.Minute
)

// run reads the chip every so often. One that gives nothing is opened anew,
// after a while that doubles: it may have lost its supply, and its setting.
func (s *sensor) run(ctx context.Context, buses sensors.Buses) {
	defer func() {
		if err := s.close(); err != nil {
			s.log.Warn("sensor is not let go", "sensor", s.c.Name, keyError, err)
		}
	}()
	tick := time.NewTicker(s.c.every())
	defer tick.Stop()
	delay := reopenFirst
	for first := true; ctx.Err() == nil; first = false {
		said, err := s.read(ctx, buses)
		if ctx.Err() != nil {
			return
		}
		s.all.put(s.c, said, time.Now())
		if first {
			close(s.first)
		}
		for _, f := range s.heard {
			f(time.Now())
		}
		next := tick.C
		if len(said) > 0 {
			s.reads.Inc()
			delay = reopenFirst
		} else {
			err = errors.Join(err, s.close())
			next = time.After(delay)
			delay = min(2*delay, max(reopenLast, s.c.every()))
		}
		s.report(err)
		select {
		case <-ctx.Done():
		case <-next:
		}
	}
}

// read opens the chip where it is not, and reads it, when nobody else does.
func (s *sensor) read(ctx context.Context, buses sensors.Buses) (_ []sensors.Reading, err error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s.chip == nil {
		if s.chip, err = sensors.Open(ctx, s.c.chip(), buses); err != nil {
			s.chip = nil
			return nil, err
		}
	}
	return s.chip.Read(ctx)
}

func (s *sensor) close() error {
	if s.chip == nil {
		return nil
	}
	err := s.chip.Close()
	s.chip = nil
	return err
}

// report counts an error, and logs that there is one, or none any more.
func (s *sensor) report(err error) {
	text := ""
	if err != nil {
		text = err.Error()
		s.errors.Inc()
	}
	before := *s.trouble.Swap(&text)
	switch {
	case text == before:
	case before != "" && err != nil: // what it says may change each time
		s.log.Debug("sensor gives no reading", "sensor", s.c.Name, keyError, err)
	case err != nil:
		s.log.Warn("sensor gives no reading", append(complaint(err), "sensor", s.c.Name)...)
	default:
		s.log.Info("sensor gives readings", "sensor", s.c.Name)
	}
}

// SensorStatus says what a sensor measured last.
type SensorStatus struct {
	Name     string    `json:"name"`
	Kind     string    `json:"kind"`
	Readings []Reading `json:"readings,omitempty"`
	Reads    uint64    `json:"reads"`
	Error    string    `json:"error,omitempty"`
}

func (a *Agent) sensorStatus() (all []SensorStatus) {
	for _, s := range a.sensors {
		all = append(all, SensorStatus{s.c.Name, s.c.Kind, a.readings.of(s.c, time.Now()), s.reads.Get(), *s.trouble.Load()})
	}
	return all
}

// sensorFigures adds to what the hub gets how many sensors give nothing.
func (a *Agent) sensorFigures(v map[string]float64) {
	if len(a.sensors) == 0 {
		return
	}
	lost := 0
	for _, s := range a.sensors {
		if *s.trouble.Load() != "" {
			lost++
		}
	}
	v["sensors_lost"] = float64(lost)
}

// line returns a frame of readings, as a line of numbers in their order. The
// first time it waits until each sensor was read once.
func (a *Agent) line(ctx context.Context, names []string) ([]byte, error) {
	for _, s := range a.sensors {
		if slices.ContainsFunc(names, func(n string) bool { return slices.Contains(s.c.readings(), n) }) {
			select {
			case <-s.first:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
	var line []byte
	for i, name := range names {
		v, err := a.readings.value(name, time.Now())
		if err != nil {
			return nil, err
		}
		if i > 0 {
			line = append(line, ',')
		}
		line = strconv.AppendFloat(line, v, 'g', -1, 64)
	}
	return line, nil
}

// readingsCheck returns the first source whose readings no sensor gives.
func (c *Config) readingsCheck() fieldError {
	for i, s := range c.Sources {
		for _, name := range s.Readings {
			if _, ok := sensorOf(c.Sensors, name); !ok {
				return fieldError{fmt.Sprintf("source %d: readings", i+1), fmt.Errorf("%.60q: want sensor and quantity, as hall.temperature, of a [[sensor]]", name)}
			}
		}
	}
	return fieldError{}
}

// checkSensors reads each sensor once.
func checkSensors(ctx context.Context, all []SensorConfig, path string, buses sensors.Buses, stdout io.Writer) error {
	for i, c := range all {
		s := &sensor{c: c, turn: make(chan struct{}, 1)}
		said, err := s.read(ctx, buses)
		if err = errors.Join(err, s.close()); err != nil {
			return &ConfigError{File: path, Field: fmt.Sprintf("sensor %d", i+1), Err: err, Hint: lineHint(err)}
		}
		var texts []string
		for _, r := range said {
			texts = append(texts, strings.TrimSpace(fmt.Sprintf("%s %v %s", r.Quantity, r.Value, r.Unit)))
		}
		fmt.Fprintf(stdout, "sensor %s: %s\n", c.Name, strings.Join(texts, ", "))
	}
	return nil
}

// boardBuses is the board's buses, as sensors want them.
type boardBuses struct{}

func (boardBuses) I2C(path string) (sensors.Bus, error) { return pins.OpenI2C(path) }

func (boardBuses) SPI(path string, hertz int) (sensors.Wire, error) {
	s, err := pins.OpenSPI(path, hertz)
	if err != nil {
		return nil, err
	}
	return s, nil
}
