package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/gpio"

	"dunlin/boards/pins"
	"dunlin/sync/wire"
)

// testPin is a pin of periph.io's that remembers when it was set to what.
type testPin struct {
	gpio.PinIO // for the methods that are not used here
	start      time.Time

	mu    sync.Mutex
	log   []string
	level gpio.Level
	fail  error
	hold  chan struct{} // not nil: a write waits for it
}

func newPin() *testPin { return &testPin{PinIO: gpio.INVALID, start: time.Now()} }

func (p *testPin) Out(l gpio.Level) error {
	p.mu.Lock()
	hold := p.hold
	p.mu.Unlock()
	if hold != nil {
		<-hold
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail == nil {
		p.level = l
	}
	p.log = append(p.log, fmt.Sprintf("%v %v", time.Since(p.start), l))
	return p.fail
}

func (p *testPin) In(gpio.Pull, gpio.Edge) error { return p.fail }

func (p *testPin) set(fail error, hold chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail, p.hold = fail, hold
}

func (p *testPin) high() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bool(p.level)
}

func (p *testPin) said() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.log)
}

// onPins is a board with the pins as its lines.
func onPins(user string, names []string, all ...*testPin) Lines {
	c := pins.Chip{Label: "test"}
	for i, p := range all {
		c.Pins = append(c.Pins, pins.Pin{PinIO: p, Name: names[i], User: user})
	}
	return hostLines{pins.New(c)}
}

// ruled is an agent's rules alone, as Run has them.
func ruled(t *testing.T, lines Lines, c ...RuleConfig) (r *rules, log *bytes.Buffer, stop func()) {
	t.Helper()
	log = &bytes.Buffer{}
	a := &Agent{c: Config{Rules: c}, count: newCounters(), p: &pipeline{}, log: slog.New(slog.NewTextHandler(log, nil))}
	a.UseLines(lines)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	a.runRules(ctx, &all)
	return a.p.rules, log, func() { cancel(); all.Wait() }
}

func labels(of ...any) (out []wire.Label) {
	for i := 0; i < len(of); i += 2 {
		out = append(out, wire.Label{Label: of[i].(string), Score: float32(of[i+1].(float64))})
	}
	return out
}

// Only a label of the rule, with its score, drives its line; for its time,
// which a further result starts anew.
func TestRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lamp, gate := newPin(), newPin()
		r, _, stop := ruled(
			t, onPins("", []string{"GPIO17", "GPIO27"}, lamp, gate),
			RuleConfig{Label: "Sneaker", MinScore: 0.8, Line: "GPIO17", Millis: 500},
			RuleConfig{Label: "Sandal", MinScore: 0.5, Line: "GPIO17", Millis: 100},
			RuleConfig{Label: "Sneaker", MinScore: 0.8, Line: "test:1", Millis: 1000, ActiveLow: true},
		)
		at := func(d time.Duration, l []wire.Label) {
			t.Helper()
			<-time.After(time.Until(lamp.start.Add(d)))
			r.apply(l)
			synctest.Wait()
		}
		at(1*time.Second, labels("Sneaker", 0.79, "Bag", 0.99))
		at(2*time.Second, nil)
		at(3*time.Second, labels("Bag", 0.1, "Sneaker", 0.8)) // 0.8 of a float32 is its own 0.8
		at(3200*time.Millisecond, labels("Sneaker", 0.9))
		at(10*time.Second, labels("Sandal", 0.6))
		<-time.After(time.Second)
		stop()
		if got, want := lamp.said(), []string{
			"0s Low", "3s High", "3.2s High", "3.7s Low", "10s High", "10.1s Low", "11s Low",
		}; !slices.Equal(got, want) {
			t.Errorf("lamp %q\nwant %q", got, want)
		}
		if got, want := gate.said(), []string{"0s High", "3s Low", "3.2s Low", "4.2s High", "11s High"}; !slices.Equal(got, want) {
			t.Errorf("gate %q\nwant %q", got, want)
		}
	})
}

// A stop in the middle of a pulse leaves the line inactive.
func TestRulesStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pin := newPin()
		r, _, stop := ruled(t, onPins("", []string{"GPIO17"}, pin), RuleConfig{Label: "a", MinScore: 0.1, Line: "GPIO17", Millis: 3600_000})
		r.apply(labels("a", 1.0))
		synctest.Wait()
		if !pin.high() {
			t.Fatal("the rule did nothing")
		}
		stop()
		if pin.high() {
			t.Error("the line is active after the stop")
		}
		r.apply(labels("a", 1.0)) // a result that was still under way
		r.apply(labels("a", 1.0))
		synctest.Wait()
		if pin.high() {
			t.Error("a late result drove the line")
		}
	})
}

// A line whose write hangs holds up no result: one pulse waits, the newest,
// and the others are counted.
func TestRulesNewestWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pin := newPin()
		r, _, stop := ruled(
			t, onPins("", []string{"GPIO17"}, pin),
			RuleConfig{Label: "long", MinScore: 0.1, Line: "GPIO17", Millis: 60_000},
			RuleConfig{Label: "short", MinScore: 0.1, Line: "GPIO17", Millis: 10},
		)
		hold := make(chan struct{})
		pin.set(nil, hold)
		r.apply(labels("long", 1.0))
		synctest.Wait() // it hangs in the write
		for range 9 {
			r.apply(labels("long", 1.0))
		}
		r.apply(labels("short", 1.0))
		if d := time.Since(pin.start); d != 0 {
			t.Errorf("results were held up for %v", d)
		}
		pin.set(nil, nil)
		close(hold)
		<-time.After(time.Second)
		synctest.Wait()
		if got, want := pin.said(), []string{"0s Low", "0s High", "0s High", "10ms Low"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		if s := r.status(); len(s) != 1 || s[0] != (LineStatus{Line: "GPIO17", Pulses: 2, Dropped: 9}) {
			t.Errorf("%+v", s)
		}
		stop()
	})
}

// A line that cannot be opened is a warning and a metric; it is tried again
// when a rule wants it, and not more often than every ten seconds.
func TestRulesLineFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pin := newPin()
		pin.set(syscall.EBUSY, nil)
		r, log, stop := ruled(t, onPins("other@1", []string{"GPIO17"}, pin), RuleConfig{Label: "a", MinScore: 0.1, Line: "GPIO17", Millis: 10})
		for range 3 {
			r.apply(labels("a", 1.0))
			synctest.Wait()
		}
		if s := r.status(); !strings.Contains(s[0].Error, "in use by other@1") || s[0].Pulses != 0 || len(pin.said()) != 1 {
			t.Errorf("%+v after %q", s, pin.said())
		}
		if n := r.drivers["GPIO17"].errors.Get(); n != 4 {
			t.Errorf("%d errors, want 4", n)
		}
		<-time.After(retry)
		r.apply(labels("a", 1.0))
		synctest.Wait()
		pin.set(nil, nil)
		<-time.After(retry)
		r.apply(labels("a", 1.0))
		synctest.Wait()
		if s := r.status(); s[0].Error != "" || s[0].Pulses != 1 || !pin.high() {
			t.Errorf("%+v after %q", s, pin.said())
		}
		// A line that cannot be made inactive is tried until it can.
		pin.set(syscall.EIO, nil)
		<-time.After(time.Second)
		pin.set(nil, nil)
		<-time.After(2 * time.Second)
		synctest.Wait()
		if pin.high() || r.status()[0].Error != "" {
			t.Errorf("the line stays active: %q", pin.said())
		}
		stop()
		if n := strings.Count(log.String(), "level=WARN"); n != 2 {
			t.Errorf("%d warnings, want 2:\n%s", n, log)
		}
	})
}

func TestCheckLines(t *testing.T) {
	c := defaults()
	c.Rules = []RuleConfig{{Label: "a", MinScore: 0.5, Line: "GPIO17", Millis: 1}, {Label: "b", MinScore: 0.5, Line: "GPIO17", Millis: 1}}
	pin := newPin()
	try := func(user string) (string, error) {
		var out bytes.Buffer
		err := check(c, "agent.toml", onPins(user, []string{"GPIO17"}, pin), &out)
		return out.String(), err
	}
	if out, err := try(""); err != nil || strings.Count(out, "line GPIO17: can be driven") != 1 {
		t.Errorf("%v, %s", err, out)
	}
	pin.set(syscall.EBUSY, nil)
	if out, err := try("dunlin-agent@77"); err != nil || !strings.Contains(out, "line GPIO17: the running agent has it") {
		t.Errorf("%v, %s", err, out)
	}
	_, err := try("gpio-fan")
	if e, ok := errors.AsType[*ConfigError](err); !ok || e.Error() != "agent.toml: rule 1: line GPIO17: the line is in use by gpio-fan" || hintOf(err) == "" {
		t.Errorf("%v, hint %q", err, hintOf(err))
	}
	if len(pin.said()) != 0 {
		t.Errorf("check drove the line: %q", pin.said())
	}
	c.Rules[1].Line = "GPIO99"
	pin.set(nil, nil)
	if _, err := try(""); err == nil || !strings.Contains(err.Error(), "rule 2: line GPIO99: there is no such line") || !strings.Contains(hintOf(err), "GPIO17") {
		t.Errorf("%v, hint %q", err, hintOf(err))
	}
}

// The commands, on this machine, whatever lines it has.
func TestRuleOfALineThatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.toml")
	text := "state_dir = \"state\"\n[http]\nlisten = \"\"\n[[rule]]\nlabel = \"a\"\nmin_score = 0.5\nline = \"dunlin-no-such-line\"\nmillis = 1\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	if status := Main([]string{"check", "-config", path}, &out, &errOut); status != exitFail ||
		!strings.Contains(errOut.String(), "rule 1: line dunlin-no-such-line: ") || !strings.Contains(errOut.String(), "dunlin-agent: hint: ") {
		t.Errorf("check: status %d, %s", status, errOut.String())
	}
	c, err := ReadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	a, err := New(c, log, new(slog.LevelVar))
	if err != nil {
		t.Fatal(err)
	}
	a.UseLines(boardLines(c))
	if s := a.Status(); len(s.Lines) != 1 || s.Lines[0].Error == "" {
		t.Errorf("status %+v", s.Lines)
	}
	var metrics bytes.Buffer
	node{a}.Metrics(&metrics)
	for _, want := range []string{`dunlin_line_ok{line="dunlin-no-such-line"} 0`, `dunlin_line_errors_total{line="dunlin-no-such-line"} 1`} {
		if !strings.Contains(metrics.String(), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// The whole road: a picture is answered over HTTP, its result is in the
// outbox, and the line is driven; after the stop it is inactive.
func TestRuleOnTheRoad(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	c.Rules = []RuleConfig{{Label: "bright", MinScore: 0.4, Line: "GPIO17", Millis: 3600_000}}
	pin := newPin()
	a, err := New(c, slog.New(slog.DiscardHandler), new(slog.LevelVar))
	if err != nil {
		t.Fatal(err)
	}
	a.UseLines(onPins("", []string{"GPIO17"}, pin))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	h.want(h.offer(1, false), nil)
	wait(t, "the model", func() bool { return a.slots.Running() != nil })
	post := func(shade uint8) {
		t.Helper()
		res, err := http.Post("http://"+a.Addr()+"/v1/infer", "image/png", bytes.NewReader(picture(t, shade, 1)))
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%v, %v", res, err)
		}
		res.Body.Close()
	}
	post(3) // dark
	if s := a.Status().Lines[0]; s.Pulses != 0 || pin.high() {
		t.Errorf("a dark picture: %+v", s)
	}
	post(252)
	wait(t, "the line", pin.high)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if pin.high() {
		t.Error("the line is active after the stop")
	}
}
