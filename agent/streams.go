package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"dunlin/agent/probe"
	"dunlin/agent/source"
)

// SourceConfig is what gives frames by itself.
type SourceConfig struct {
	Name     string   `toml:"name"`
	Kind     string   `toml:"kind"`
	EveryMS  int      `toml:"every_ms"`
	Silence  int      `toml:"silence_s"`
	MaxMB    int      `toml:"max_mb"`
	URL      string   `toml:"url"`
	CAFile   string   `toml:"ca_file"`
	Command  []string `toml:"command"`
	Format   string   `toml:"format"`
	Rate     int      `toml:"rate"`
	Channels int      `toml:"channels"`
	WindowMS int      `toml:"window_ms"`
	HopMS    int      `toml:"hop_ms"`
	Device   string   `toml:"device"`
	Baud     int      `toml:"baud"`
	Width    int      `toml:"width"`
	Height   int      `toml:"height"`
	Readings []string `toml:"readings"`
}

// The kinds of sources, and the formats of a program's output.
const (
	kindMJPEG    = "mjpeg"
	kindSnapshot = "snapshot"
	kindExec     = "exec"
	kindLines    = "lines"
	kindV4L2     = "v4l2"
	kindSensors  = "sensors"

	formatPictures = "pictures"
	formatWAV      = "wav"
	formatPCM      = "pcm"
)

// maxSources bounds what runs at once, maxReadings a frame of kind sensors.
const (
	maxSources  = 32
	maxReadings = 64
)

// sourceName is what can stand in a metric and in a result as it is.
var sourceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$`)

// sourceCheck returns the first field of the sources that breaks a rule.
func sourceCheck(all []SourceConfig) fieldError {
	if len(all) > maxSources {
		return fieldError{"source", fmt.Errorf("%d of them: want at most %d", len(all), maxSources)}
	}
	seen := map[string]bool{}
	for i, c := range all {
		field, err := c.check()
		if err == nil && seen[c.Name] {
			field, err = "name", fmt.Errorf("another source has it: %s", c.Name)
		}
		if err != nil {
			return fieldError{fmt.Sprintf("source %d: %s", i+1, field), err}
		}
		seen[c.Name] = true
	}
	return fieldError{}
}

// check returns the first field that breaks a rule.
func (c SourceConfig) check() (field string, err error) {
	http, program := c.Kind == kindMJPEG || c.Kind == kindSnapshot, c.Kind == kindExec
	lines, camera, sensors := c.Kind == kindLines, c.Kind == kindV4L2, c.Kind == kindSensors
	sound := program && (c.Format == formatWAV || c.Format == formatPCM)
	for _, r := range []struct {
		field string
		wrong bool
		want  string
	}{
		{"name", !sourceName.MatchString(c.Name), "1 to 40 letters, digits, dots, dashes and underscores"},
		{"kind", !http && !program && !lines && !camera && !sensors, "mjpeg, snapshot, exec, lines, v4l2 or sensors"},
		{"every_ms", c.EveryMS < 0 || c.EveryMS > 24*3600_000, "0 to 86400000"},
		{"silence_s", c.Silence < 0 || c.Silence > 24*3600, "0 to 86400"},
		{"max_mb", c.MaxMB < 0 || c.MaxMB > 64, "0 to 64"},
		{"url", !http && c.URL != "", "none for this kind"},
		{"url", http && source.CheckURL(c.URL) != nil, "http:// or https:// and a host"},
		{"ca_file", !http && c.CAFile != "", "none for this kind"},
		{"command", !program && len(c.Command) > 0, "none for this kind"},
		{"command", program && (len(c.Command) == 0 || c.Command[0] == ""), "a program and its arguments"},
		{"format", !program && c.Format != "", "none for this kind"},
		{"format", program && !sound && c.Format != formatPictures && c.Format != "", "pictures, wav or pcm"},
		{"rate", c.Format != formatPCM && c.Rate != 0, "none but for pcm"},
		{"rate", c.Format == formatPCM && (c.Rate < 1000 || c.Rate > source.MaxRate), "1000 to 192000"},
		{"channels", c.Format != formatPCM && c.Channels != 0, "none but for pcm"},
		{"channels", c.Format == formatPCM && c.Channels != 1 && c.Channels != 2, "1 or 2"},
		{"window_ms", !sound && c.WindowMS != 0, "none but for wav and pcm"},
		{"window_ms", sound && (c.WindowMS < 10 || c.WindowMS > 60_000), "10 to 60000"},
		{"hop_ms", !sound && c.HopMS != 0, "none but for wav and pcm"},
		{"device", !lines && !camera && c.Device != "", "none for this kind"},
		{"device", (lines || camera) && !filepath.IsAbs(c.Device), "the whole path of a camera, a serial port, a FIFO or a file"},
		{"baud", !lines && c.Baud != 0, "none for this kind"},
		{"baud", lines && c.Baud != 0 && (c.Baud < 50 || c.Baud > 4_000_000), "50 to 4000000, or 0"},
		{"width", !camera && c.Width != 0, "none for this kind"},
		{"width", c.Width < 0 || c.Width > 8192, "0 to 8192"},
		{"height", !camera && c.Height != 0, "none for this kind"},
		{"height", c.Height < 0 || c.Height > 8192, "0 to 8192"},
		{"readings", !sensors && len(c.Readings) > 0, "none for this kind"},
		{"readings", sensors && (len(c.Readings) == 0 || len(c.Readings) > maxReadings), "1 to 64, as the fields of the model"},
		{"hop_ms", sound && c.HopMS != 0 && (c.HopMS < 10 || c.HopMS > 60_000), "10 to 60000, or 0"},
	} {
		if r.wrong {
			return r.field, errors.New("want " + r.want)
		}
	}
	return "", nil
}

// prompt is what a source needs besides its own configuration.
type prompt struct {
	triggered bool
	pace      *source.Pace
	asked     <-chan struct{}                           // a trigger wants a frame of what can be asked for one; nil: none will
	get       func(ctx context.Context) ([]byte, error) // of kind sensors: a frame
}

// canAsk reports whether the source gives a frame when it is asked for one.
func (c SourceConfig) canAsk() bool { return c.Kind == kindSnapshot || c.Kind == kindSensors }

// player returns what plays the source.
func (c SourceConfig) player(by prompt) (source.Player, error) {
	maxBytes, silence := orElse(c.MaxMB, 8)<<20, time.Duration(orElse(c.Silence, 30))*time.Second
	every := ms(orElse(c.EveryMS, 1000))
	switch {
	case c.canAsk() && by.triggered:
		every = ms(c.EveryMS) // 0: never but when asked
	case by.triggered:
		every = min(every, triggerEvery)
	}
	switch c.Kind {
	case kindLines: // a sensor may well have nothing to say for days
		return source.Lines{Path: c.Device, Baud: c.Baud, Silence: time.Duration(c.Silence) * time.Second}, nil
	case kindV4L2:
		return source.V4L2{
			Device: c.Device, Width: orElse(c.Width, 640), Height: orElse(c.Height, 480),
			MaxBytes: maxBytes, Every: every, Pace: by.pace, Silence: silence,
		}, nil
	case kindSensors:
		return source.Polled{Every: every, Pace: by.pace, Asked: by.asked, Get: by.get}, nil
	case kindExec:
		p := source.Command{Args: c.Command, MaxBytes: maxBytes, Silence: silence}
		if c.Format == formatWAV || c.Format == formatPCM {
			p.Sound = &source.Windows{
				WAV: c.Format == formatWAV, Rate: c.Rate, Channels: c.Channels, Millis: c.WindowMS, Hop: c.HopMS,
			}
		}
		return p, nil
	case kindMJPEG, kindSnapshot:
		config, err := c.tls()
		if err != nil {
			return nil, err
		}
		camera := source.Camera{URL: c.URL, MaxBytes: maxBytes, Silence: silence, TLS: config}
		if c.Kind == kindMJPEG {
			return source.MJPEG{Camera: camera}, nil
		}
		return source.Snapshot{Camera: camera, Every: every, Pace: by.pace, Asked: by.asked}, nil
	}
	return nil, fmt.Errorf("there is no kind %q", c.Kind)
}

// triggerEvery is how old the picture of a YUYV camera may be when a trigger
// comes: to make files of all of them for the few that are looked at is most
// of its work.
const triggerEvery = 250 * time.Millisecond

func orElse(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

// tls returns nil where the system's authorities are to be used.
func (c SourceConfig) tls() (*tls.Config, error) {
	if c.CAFile == "" {
		return nil, nil
	}
	text, err := readBounded(c.CAFile, maxConfig)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", c.CAFile)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// every is how far apart frames are looked at.
func (c SourceConfig) every() time.Duration {
	if c.WindowMS > 0 || c.Kind == kindLines {
		return ms(c.EveryMS) // they come no more often than is wanted
	}
	return ms(orElse(c.EveryMS, 1000))
}

// checkSources looks at what the sources need of this machine. Whether a
// camera answers now is not asked: it may be switched on later.
func checkSources(all []SourceConfig, path string, stdout io.Writer) error {
	for i, c := range all {
		at := func(field string, err error) error {
			return &ConfigError{File: path, Field: fmt.Sprintf("source %d: %s", i+1, field), Err: err}
		}
		if _, err := c.tls(); err != nil {
			return at("ca_file", err)
		}
		if c.Kind == kindExec {
			program, err := exec.LookPath(c.Command[0])
			if err != nil {
				return at("command", err)
			}
			fmt.Fprintf(stdout, "source %s: %s\n", c.Name, program)
			continue
		}
		note := ""
		if c.Device != "" {
			note = " " + c.Device
			if _, err := os.Stat(c.Device); err != nil { // it may be plugged in later
				note += ", which is not there now"
			}
		}
		fmt.Fprintf(stdout, "source %s: %s%s\n", c.Name, c.Kind, note)
	}
	return nil
}

func (a *Agent) openStreams() error {
	for i, c := range a.c.Sources {
		o := source.StreamOptions{Every: c.every(), Pace: a.pace, Log: a.log}
		by := prompt{
			triggered: a.c.triggered(c.Name), pace: a.pace,
			get: func(ctx context.Context) ([]byte, error) { return a.line(ctx, c.Readings) },
		}
		if by.triggered {
			o.Triggered, o.Every = true, ms(c.EveryMS)
		}
		if by.triggered && c.canAsk() {
			asked := make(chan struct{}, 1)
			by.asked, o.Ask = asked, func() {
				select {
				case asked <- struct{}{}:
				default: // it is asked already
				}
			}
		}
		p, err := c.player(by)
		if err != nil {
			return fmt.Errorf("source %d (%s): %w", i+1, c.Name, err)
		}
		a.streams = append(a.streams, source.NewStream(c.Kind+":"+c.Name, p, o))
	}
	return nil
}

// follow has the frames of a stream answered, one after the other. What
// overlaps the next inference is the wait for the outbox's sync.
func (a *Agent) follow(ctx context.Context, s *source.Stream, all *sync.WaitGroup) {
	frames := make(chan source.Frame)
	all.Go(func() {
		if err := s.Run(ctx, frames); err != nil {
			a.fail(err)
		}
		close(frames)
	})
	all.Go(func() {
		places := make(chan struct{}, workers)
		for a.waitForModel(ctx) {
			f, ok := <-frames
			if !ok {
				return
			}
			looked := make(chan struct{})
			f.Looked = sync.OnceFunc(func() { close(looked) })
			places <- struct{}{}
			all.Go(func() {
				defer func() { <-places }()
				defer f.Looked()
				a.look(ctx, s, f.Hashed())
			})
			<-looked
		}
	})
}

// look has one frame of a stream answered. What goes wrong with it is counted
// and logged: another frame comes.
func (a *Agent) look(ctx context.Context, s *source.Stream, f source.Frame) {
	_, err := a.p.process(ctx, f, nil)
	if err == nil || ctx.Err() != nil || errors.Is(err, probe.ErrNotReady) {
		return
	}
	s.Unusable()
	a.log.Warn("frame gave no result", "source", f.Source, keyError, err)
	a.giveUpOn(err)
}

// SourceStatus says what became of a source's frames.
type SourceStatus struct {
	Name     string `json:"name"`
	Frames   int64  `json:"frames"`
	Taken    int64  `json:"taken"`
	Dropped  int64  `json:"dropped"`
	Unusable int64  `json:"unusable"`
	Opened   int64  `json:"opened"`

	Triggered bool   `json:"triggered,omitempty"` // it waits for triggers
	Triggers  int64  `json:"triggers,omitempty"`
	Missed    int64  `json:"triggers_missed,omitempty"` // no frame came in time
	Error     string `json:"error,omitempty"`           // why no frames come
}

func (a *Agent) streamStatus() (all []SourceStatus) {
	for i, s := range a.streams {
		c := s.Counters()
		st := SourceStatus{
			Name: s.Name(), Frames: c.Frames, Taken: c.Taken, Dropped: c.Dropped, Unusable: c.Unusable, Opened: c.Opened,
			Triggered: a.c.triggered(a.c.Sources[i].Name), Triggers: c.Triggers, Missed: c.Missed,
		}
		if err := s.Err(); err != nil {
			st.Error = err.Error()
		}
		all = append(all, st)
	}
	return all
}

// streamGauges registers the counters of streams.
func (a *Agent) streamGauges() {
	for _, s := range a.streams {
		gauge := func(name string, read func(source.StreamCounters) int64) {
			a.count.set.NewGauge(`dunlin_source_`+name+`{source="`+s.Name()+`"}`, func() float64 { return float64(read(s.Counters())) })
		}
		gauge("frames", func(c source.StreamCounters) int64 { return c.Frames })
		gauge("dropped", func(c source.StreamCounters) int64 { return c.Dropped })
		gauge("unusable", func(c source.StreamCounters) int64 { return c.Unusable })
		gauge("triggers_missed", func(c source.StreamCounters) int64 { return c.Missed })
		gauge("opened", func(c source.StreamCounters) int64 { return c.Opened })
	}
}

// streamFigures adds the sums over all streams to what the hub gets.
func (a *Agent) streamFigures(v map[string]float64) {
	if len(a.streams) == 0 {
		return
	}
	lost := 0
	for _, s := range a.streams {
		c := s.Counters()
		v["source_frames"] += float64(c.Frames)
		v["source_dropped"] += float64(c.Dropped)
		v["source_unusable"] += float64(c.Unusable)
		if s.Err() != nil {
			lost++
		}
	}
	v["sources_lost"] = float64(lost)
}
