package agent

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"dunlin/agent/probe"
	"dunlin/internal/sign"
	"dunlin/sync/wire"
)

// Config is the one file that an agent reads. dunlin-agent.toml beside this
// file is an example with every field in it and its default.
type Config struct {
	StateDir string          `toml:"state_dir"`
	Hub      HubConfig       `toml:"hub"`
	Folder   FolderConfig    `toml:"folder"`
	Sources  []SourceConfig  `toml:"source"`
	HTTP     HTTPConfig      `toml:"http"`
	Outbox   OutboxConfig    `toml:"outbox"`
	Model    ModelConfig     `toml:"model"`
	Facts    FactsConfig     `toml:"facts"`
	Learn    LearnConfig     `toml:"learn"`
	Update   UpdateConfig    `toml:"update"`
	Rules    []RuleConfig    `toml:"rule"`
	Sensors  []SensorConfig  `toml:"sensor"`
	Triggers []TriggerConfig `toml:"trigger"`
	Limits   LimitsConfig    `toml:"limits"`
	Log      LogConfig       `toml:"log"`
	Metrics  int             `toml:"metrics_every_s"`
	// MaxMegapixels bounds width times height of a picture, in millions.
	MaxMegapixels int `toml:"max_megapixels"`
}

// HubConfig says to whom results go and who may send models.
type HubConfig struct {
	Token     string `toml:"token"`
	TokenFile string `toml:"token_file"`
}

// FolderConfig is the watched folder.
type FolderConfig struct {
	Dir    string `toml:"dir"`
	PollMS int    `toml:"poll_ms"`
	Newest bool   `toml:"newest_only"`
	Delete bool   `toml:"delete_done"`
	MaxMB  int    `toml:"max_mb"`
}

// HTTPConfig is the local HTTP.
type HTTPConfig struct {
	Listen    string `toml:"listen"`
	Socket    string `toml:"socket"`
	MaxMB     int    `toml:"max_mb"`
	MaxFlight int    `toml:"max_in_flight"`
}

// OutboxConfig bounds what waits for the hub.
type OutboxConfig struct {
	MaxMB   int  `toml:"max_mb"`
	FlushMS int  `toml:"flush_ms"`
	Each    bool `toml:"each"`
}

// ModelConfig is about the engine, and about a model without a hub.
type ModelConfig struct {
	Threads     int      `toml:"threads"`
	MaxMemoryMB int      `toml:"max_memory_mb"`
	Pack        string   `toml:"pack"`
	ReleaseKeys []string `toml:"release_keys"`
}

// FactsConfig is about the facts that results carry.
type FactsConfig struct {
	PerResult int `toml:"per_result"`
}

// LogConfig is about the log, on standard error.
type LogConfig struct {
	Level  string `toml:"level"`
	Format string `toml:"format"`
}

// Example is the text of an annotated configuration file with every field.
//
//go:embed dunlin-agent.toml
var Example string

// DefaultConfig is where the agent looks for its file.
const DefaultConfig = "/etc/dunlin/agent.toml"

// maxConfig bounds the file; the token in it has about a kilobyte.
const maxConfig = 256 << 10

// ConfigError says which field of which file is wrong.
type ConfigError struct {
	File, Field string
	Err         error
	Hint        string // one sentence for a person, or ""
}

func (e *ConfigError) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s: %s: %v", e.File, e.Field, e.Err)
}
func (e *ConfigError) Unwrap() error { return e.Err }

func defaults() Config {
	return Config{
		StateDir: "/var/lib/dunlin",
		Folder:   FolderConfig{PollMS: 1000, MaxMB: 32},
		HTTP:     HTTPConfig{Listen: "127.0.0.1:8790", MaxMB: 32, MaxFlight: 8},
		Outbox:   OutboxConfig{MaxMB: 64, FlushMS: 250},
		Facts:    FactsConfig{PerResult: 20},
		Learn:    LearnConfig{MaxSamples: 1000, MinPerClass: 10, MaxPerMinute: 600, Layers: 1, TrialS: 10},
		Update:   defaultUpdate,
		Limits:   LimitsConfig{Enabled: true},
		Log:      LogConfig{Level: "info", Format: "text"},
		Metrics:  60,

		MaxMegapixels: 16,
	}
}

// ReadConfig reads and checks a file; relative paths in it are relative to
// the file's folder. All errors are *ConfigError.
func ReadConfig(path string) (Config, error) {
	text, err := readBounded(path, maxConfig)
	if err != nil {
		e := &ConfigError{File: path, Err: err}
		if errors.Is(err, os.ErrNotExist) {
			e.Hint = "give the file with -config, or make one: dunlin-agent check -example > " + DefaultConfig
		}
		return Config{}, e
	}
	return parseConfig(path, string(text))
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	return text, err
}

func parseConfig(path, text string) (Config, error) {
	c := defaults()
	meta, err := toml.Decode(text, &c)
	if err != nil {
		if at, ok := errors.AsType[toml.ParseError](err); ok {
			return c, &ConfigError{File: fmt.Sprintf("%s:%d", path, at.Position.Line), Field: at.LastKey, Err: errors.New(at.Message)}
		}
		return c, &ConfigError{File: path, Err: err}
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return c, &ConfigError{
			File: fmt.Sprintf("%s:%d", path, lineOf(text, unknown[0])), Field: unknown[0].String(),
			Err: errors.New("there is no such field"), Hint: "dunlin-agent check -example lists every field",
		}
	}
	dir := filepath.Dir(path)
	for _, p := range []*string{&c.StateDir, &c.Hub.TokenFile, &c.Folder.Dir, &c.HTTP.Socket, &c.Model.Pack} {
		*p = resolve(dir, *p)
	}
	for i := range c.Model.ReleaseKeys {
		c.Model.ReleaseKeys[i] = resolve(dir, c.Model.ReleaseKeys[i])
	}
	for i := range c.Sources {
		c.Sources[i].CAFile = resolve(dir, c.Sources[i].CAFile)
	}
	if c.HTTP.Socket == "" {
		c.HTTP.Socket = filepath.Join(c.StateDir, "agent.sock")
	}
	if field, err := c.check(); err != nil {
		return c, &ConfigError{File: path, Field: field, Err: err}
	}
	return c, nil
}

func resolve(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// lineOf finds the line of an unknown key, which the TOML package does not
// tell: the first "key =" or "[key" after the heading of its table.
func lineOf(text string, key toml.Key) int {
	table, name := strings.Join(key[:len(key)-1], "."), key[len(key)-1]
	in := table == ""
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if head, ok := strings.CutPrefix(line, "["); ok {
			head = strings.Trim(head, "[] ")
			if head == key.String() {
				return i + 1
			}
			in = head == table
		}
		if rest, ok := strings.CutPrefix(line, name); ok && in && strings.HasPrefix(strings.TrimSpace(rest), "=") {
			return i + 1
		}
	}
	return 0
}

// fieldError is what is wrong with a field, or nil.
type fieldError struct {
	field string
	err   error
}

// check returns the first field that breaks a rule.
func (c *Config) check() (field string, err error) {
	between := func(v, low, high int) error {
		if v < low || v > high {
			return fmt.Errorf("%d: want %d to %d", v, low, high)
		}
		return nil
	}
	oneOf := func(v string, want ...string) error {
		for _, w := range want {
			if v == w {
				return nil
			}
		}
		return fmt.Errorf("%q: want %s", v, strings.Join(want, ", "))
	}
	rules := []fieldError{
		{"state_dir", notEmpty(c.StateDir)},
		{"hub.token", c.Hub.check()},
		{"folder.poll_ms", between(c.Folder.PollMS, 50, 60_000)},
		{"folder.max_mb", between(c.Folder.MaxMB, 1, 256)},
		{"http.listen", checkListen(c.HTTP.Listen)},
		{"http.socket", probe.CheckSocket(c.HTTP.Socket)},
		{"http.max_mb", between(c.HTTP.MaxMB, 1, 256)},
		{"http.max_in_flight", between(c.HTTP.MaxFlight, 1, 1000)},
		{"outbox.max_mb", between(c.Outbox.MaxMB, 1, 64<<10)},
		{"outbox.flush_ms", between(c.Outbox.FlushMS, 1, 60_000)},
		{"model.threads", between(c.Model.Threads, 0, 256)},
		{"model.max_memory_mb", between(c.Model.MaxMemoryMB, 0, 1<<20)},
		{"model.pack", c.Model.check()},
		{"facts.per_result", between(c.Facts.PerResult, 0, 200)},
		{"learn.max_samples", between(c.Learn.MaxSamples, 20, 100_000)},
		{"learn.min_per_class", between(c.Learn.MinPerClass, 5, 1000)},
		{"learn.max_per_minute", between(c.Learn.MaxPerMinute, 1, 100_000)},
		{"learn.layers", between(c.Learn.Layers, 1, 2)},
		{"learn.trial_s", between(c.Learn.TrialS, 1, 3600)},
		{"update.healthy_s", between(c.Update.HealthyS, 1, 24*3600)},
		{"update.grace_s", between(c.Update.GraceS, 1, 7*24*3600)},
		{"update.tries", between(c.Update.Tries, 1, 20)},
		sourceCheck(c.Sources),
		ruleCheck(c.Rules),
		sensorCheck(c.Sensors),
		c.readingsCheck(),
		c.triggerCheck(),
		limitsCheck(c.Limits),
		{"log.level", oneOf(c.Log.Level, "debug", "info", "warn", "error")},
		{"log.format", oneOf(c.Log.Format, "text", "json")},
		{"metrics_every_s", between(c.Metrics, 0, 24*3600)},
		{"max_megapixels", between(c.MaxMegapixels, 1, 200)},
	}
	for _, r := range rules {
		if r.err != nil {
			return r.field, r.err
		}
	}
	return "", nil
}

func notEmpty(s string) error {
	if s == "" {
		return errors.New("it is empty")
	}
	return nil
}

func checkListen(addr string) error {
	if addr == "" {
		return nil // the socket alone
	}
	return probe.CheckAddress(addr)
}

func (h HubConfig) check() error {
	if h.Token != "" && h.TokenFile != "" {
		return errors.New("token and token_file: give one of them")
	}
	if h.Token != "" {
		var err error
		if wire.IsClaim(h.Token) {
			_, err = wire.ParseClaim(h.Token)
		} else {
			_, err = wire.ParseToken(h.Token)
		}
		return err
	}
	return nil
}

func (m ModelConfig) check() error {
	if m.Pack != "" && len(m.ReleaseKeys) == 0 {
		return errors.New("a pack needs release_keys: who may sign models here")
	}
	return nil
}

// releaseKeys reads the keys that may sign models beside the hub's.
func (c *Config) releaseKeys() (sign.Trust, error) {
	var t sign.Trust
	for _, path := range c.Model.ReleaseKeys {
		k, err := sign.ReadPublic(path)
		if err != nil {
			return nil, err
		}
		t = append(t, k)
	}
	return t, nil
}

// logger returns the log that the configuration asks for, and its level, which
// a command can change.
func (c *Config) logger(w io.Writer) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(levels[c.Log.Level])
	o := &slog.HandlerOptions{Level: level}
	if c.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o)), level
	}
	return slog.New(slog.NewTextHandler(w, o)), level
}

var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }
