// Package agent is the program that runs on a device: it takes pictures from
// a watched folder, cameras, the local HTTP and the hub's commands, answers them
// with the model in its slots, adds facts, and keeps every result until the hub
// has stored it. Start with ReadConfig, New and Agent.Run; Main is the whole
// command.
//
// Its promise: a result that was answered, and a picture that left the
// watched folder, is on the disk and reaches the hub exactly once, whatever
// is killed or unplugged; and nothing here needs the hub to go on working.
//
// It decides nothing about a fleet, and it takes orders only from the hub
// whose key its token names and models only from keys that may release them.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"dunlin/agent/probe"
	"dunlin/agent/slots"
	"dunlin/agent/source"
	"dunlin/boards"
	"dunlin/boards/sensors"
	"dunlin/facts/cache"
	"dunlin/internal/durable"
	"dunlin/sync/outbox"
	"dunlin/sync/wire"
)

// Version is the agent's, set when it is built.
var Version = "0.1.0-dev"

// Keys of log entries.
const (
	keyError  = "error"
	keyDevice = "device"
	keyTopic  = "topic"
)

// Agent is one device. New opens what it keeps, Run works.
type Agent struct {
	c     Config
	token *wire.Token // nil: there is no hub, or no token yet
	log   *slog.Logger
	level *slog.LevelVar

	board   boards.Board
	boot    string
	started time.Time

	box     *outbox.Outbox
	journal *journal
	facts   *cache.Cache
	slots   *slots.Slots
	p       *pipeline
	kept    kept
	card    card

	root     string // "/", below which the board's files are
	bounds   boards.Bounds
	pace     *source.Pace
	governor *governor

	explainer *explainer
	clock     *hubClock
	count     *counters

	models, graphs *lane
	updates        *updates
	folder         *source.Folder // nil: none is watched
	streams        []*source.Stream
	hub            *hub // nil: there is none
	enrolment      enrolment
	claiming       claiming
	rules          *rules   // nil: UseLines was not called
	learner        *learner // nil: learning is off
	readings       *readings
	sensors        []*sensor
	buses          sensors.Buses // nil: UseBuses was not called
	triggers       []*trigger
	edges          Edges // nil: UseEdges was not called
	tcp, unix      net.Listener
	stopOnce       sync.Once
	fatal          chan error // of one place: what Run cannot go on with
}

// New opens everything that an agent keeps and listens for its local HTTP.
// It starts nothing and talks to nobody; Close undoes it.
func New(c Config, log *slog.Logger, level *slog.LevelVar) (a *Agent, err error) {
	return newAt("/", c, log, level)
}

// newAt is New on a board whose files are below root.
func newAt(root string, c Config, log *slog.Logger, level *slog.LevelVar) (a *Agent, err error) {
	a = &Agent{
		c: c, log: log, level: level, board: boards.Detect(root), boot: bootID(), started: time.Now(),
		clock: &hubClock{}, count: newCounters(), fatal: make(chan error, 1),
		root: root, bounds: c.bounds(root), pace: new(source.Pace),
	}
	a.governor = newGovernor(a)
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	if a.enrolment, err = c.enrolment(); err != nil {
		return a, err
	}
	a.token = a.enrolment.token
	if err := durable.MkdirAll(c.StateDir, 0o750); err != nil {
		return a, fmt.Errorf("state_dir %s: %w", c.StateDir, err)
	}
	for _, open := range []func() error{
		a.openStore, a.openKept, a.openUpdates, a.openModels, a.openLearner, a.openHub,
		a.openFolder, a.openSensors, a.openStreams, a.openTriggers, a.listen,
	} {
		notify("WATCHDOG=1") // in place of another version, or of itself, the watchdog runs already
		if err := open(); err != nil {
			return a, err
		}
	}
	a.gauges()
	return a, nil
}

func bootID() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

func (a *Agent) path(elem ...string) string {
	return filepath.Join(append([]string{a.c.StateDir}, elem...)...)
}

// openKept opens the files: outbox, journal, facts.
func (a *Agent) openKept() (err error) {
	a.box, err = outbox.Open(a.path("outbox.db"), outbox.Options{
		MaxBytes: int64(a.c.Outbox.MaxMB) << 20, FlushDelay: ms(a.c.Outbox.FlushMS), Each: a.c.Outbox.Each,
		Strict: a.updates.onTrial() || a.updates.standsIn(),
	})
	if err != nil {
		return err
	}
	if why := a.box.Recovered(); why != "" {
		a.log.Error("outbox was torn and is moved aside, results in it are lost", "why", why)
	}
	if a.kept, err = readKept(a.box); err != nil {
		return err
	}
	if a.journal, err = openJournal(a.path("journal.db"), a.log); err != nil {
		return err
	}
	if err := a.journal.keepResults(a.kept.byCommand); err != nil {
		a.log.Error("outcome of a command is not kept", keyError, err)
	}
	if a.facts, err = cache.Open(a.path("facts.db")); err != nil {
		return err
	}
	if why := a.facts.Recovered(); why != "" {
		a.log.Error("facts were torn and are moved aside", "why", why)
	}
	return nil
}

func (a *Agent) listen() (err error) {
	if a.c.HTTP.Listen != "" {
		if a.tcp, err = probe.Listen(a.c.HTTP.Listen); err != nil {
			return err
		}
	}
	a.unix, err = probe.ListenSocket(a.c.HTTP.Socket)
	return err
}

// Addr returns the address of the local HTTP, "" where there is the socket
// alone.
func (a *Agent) Addr() string {
	if a.tcp == nil {
		return ""
	}
	return a.tcp.Addr().String()
}

// stopping bounds how long a stop waits for what is under way.
const stopping = 15 * time.Second

// Run works until ctx ends, then finishes what is under way, for 15 seconds
// at most, and closes everything. It returns an error where the agent could
// not go on, or had to give something up.
func (a *Agent) Run(ctx context.Context) (err error) {
	defer func() {
		notify("WATCHDOG=1") // nothing else feeds it from the stop on
		err = errors.Join(err, a.Close())
		notify("WATCHDOG=1")
	}()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var all sync.WaitGroup
	a.resume()
	all.Go(func() { a.runModels(ctx) })
	all.Go(func() { a.graphs.run(ctx) })
	all.Go(func() { a.updates.run(ctx) })
	all.Go(func() { a.updates.outlive(ctx) })
	all.Go(func() { watchdog(ctx, a.p.beat) })
	all.Go(func() { a.watchCard(ctx) })
	if a.c.Limits.Enabled {
		all.Go(func() { a.governor.run(ctx) })
	}
	if a.learner != nil {
		all.Go(func() { a.learner.run(ctx) })
	}
	a.runRules(ctx, &all)
	a.runSensors(ctx, &all)
	a.runTriggers(ctx, &all)
	if a.folder != nil {
		a.watch(ctx, &all)
	}
	for _, s := range a.streams {
		a.follow(ctx, s, &all)
	}
	if a.hub != nil {
		a.hub.run(ctx, &all)
	}
	if a.enrolment.claim != nil || a.enrolment.spent {
		all.Go(func() { a.enrol(ctx) })
	}
	shut := a.serve(ctx, &all)
	a.log.Info("agent is running", "version", Version, "board", a.board.Name, "http", a.Addr(), "socket", a.c.HTTP.Socket)
	notify("READY=1\nWATCHDOG=1")
	select {
	case <-ctx.Done():
		a.updates.stopped(nil)
	case err = <-a.fatal:
		a.updates.stopped(err)
		a.log.Log(ctx, stopLevel(err), "agent stops", keyError, err)
	}
	state := "WATCHDOG=1"
	if !beginsAnew(err) {
		state += "\nSTOPPING=1"
	}
	notify(state)
	stop()
	shut()
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	select {
	case <-done:
		return err
	case <-time.After(stopping):
		return errors.Join(err, fmt.Errorf("stop: something is still under way after %v and was given up", stopping))
	}
}

// beginsAnew reports whether this process goes on: with the token that it got,
// or as another version. See work.
func beginsAnew(err error) bool { return errors.Is(err, errEnrolled) || errors.Is(err, errRestart) }

func stopLevel(err error) slog.Level {
	if beginsAnew(err) {
		return slog.LevelInfo
	}
	return slog.LevelError
}

// fail stops Run: systemd starts the agent again, which opens its files anew.
func (a *Agent) fail(err error) {
	select {
	case a.fatal <- err:
	default:
	}
}

// resume takes up what the hub wanted before the restart.
func (a *Agent) resume() {
	var d wire.Desired
	if err := a.journal.get("desired", &d); err != nil {
		a.log.Error("what the hub wanted is not known", keyError, err)
	}
	a.pursue(d, false, false)
	if d.Model != nil || !a.withdraw() {
		a.offerLocal()
	}
}

// pursue hands the offers of a document to their lanes. again asks for what
// was decided before to be tried once more, as a start without a model or
// facts does, and agentAgain for the agent. A document without a model, or
// without an agent, takes back the one that the hub gave.
func (a *Agent) pursue(d wire.Desired, again, agentAgain bool) {
	if d.Model != nil {
		a.models.desire(*d.Model, again || a.slots.Running() == nil || a.unread(d.Model.Manifest))
	} else if d.Gen > 0 {
		a.withdraw()
	}
	if d.Facts != nil {
		a.graphs.desire(*d.Facts, again || a.facts.Version().Graph == "")
	}
	if d.Agent != nil {
		a.updates.desire(*d.Agent, agentAgain)
	} else if d.Gen > 0 {
		a.updates.withdraw()
	}
}

// runModels first ends the trial that a restart interrupted, and then that of
// the agent itself: a crash must have one culprit.
func (a *Agent) runModels(ctx context.Context) {
	r, ok, err := a.slots.Resume(ctx)
	if ok && err == nil {
		a.models.decided(r)
	}
	a.updates.trial(ctx)
	a.models.run(ctx)
}

// serve answers the local HTTP; the function it returns stops that.
func (a *Agent) serve(ctx context.Context, all *sync.WaitGroup) (shut func()) {
	h := probe.New(node{a}, probe.Options{
		Version: Version, MaxBody: int64(a.c.HTTP.MaxMB) << 20, MaxFlight: a.c.HTTP.MaxFlight, Log: a.log,
	})
	srv := probe.Server(h, a.log)
	for _, l := range []net.Listener{a.tcp, a.unix} {
		if l == nil {
			continue
		}
		all.Go(func() {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				a.fail(err)
			}
		})
	}
	return func() {
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopping/2)
		defer cancel()
		if err := srv.Shutdown(within); err != nil {
			a.log.Warn("requests were cut off", keyError, errors.Join(err, srv.Close()))
		}
	}
}

// Close closes what New opened. Run calls it.
func (a *Agent) Close() (err error) {
	a.stopOnce.Do(func() {
		for _, l := range []net.Listener{a.tcp, a.unix} {
			if l != nil {
				if e := l.Close(); e != nil && !errors.Is(e, net.ErrClosed) {
					err = errors.Join(err, e)
				}
			}
		}
		err = errors.Join(err, a.rules.close(), a.learner.close())
		if a.explainer != nil {
			a.explainer.close()
		}
		if a.slots != nil {
			err = errors.Join(err, a.slots.Close())
		}
		if a.facts != nil {
			err = errors.Join(err, a.facts.Close())
		}
		if a.journal != nil {
			err = errors.Join(err, a.journal.close())
		}
		if a.box != nil {
			if e := a.box.Close(); e != nil && !errors.Is(e, outbox.ErrClosed) {
				err = errors.Join(err, e)
			}
		}
	})
	return err
}
