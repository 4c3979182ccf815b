package agent

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"dunlin/model/pack"
)

// The exit codes of dunlin-agent.
const (
	exitOK    = 0
	exitFail  = 1
	exitUsage = 2
)

const usage = `dunlin-agent answers pictures on this device and keeps every result until the hub has it.

usage: dunlin-agent [COMMAND] [FLAGS]
       dunlin-agent install [-dry-run] [LINE]

  run         work until SIGTERM or SIGINT (the default)
  check       check a configuration, and what it names; -example prints one with every field
  status      ask the agent on this machine how it is
  sources     list what this board offers for a [[source]] or a [[sensor]]: cameras, serial ports, microphones, buses
  install     make the agent a service of this machine, and enrol it with the LINE that the hub printed
  version     print the version
  completion  print a completion script for bash, zsh or fish
  help        print this

flags of run, check and status:
  -config FILE   the configuration (default ` + DefaultConfig + `)
flag of status:
  -socket PATH   the agent's socket, instead of the one in the configuration
flag of status and sources:
  -json          the whole document
flag of sources:
  -ask BUS       also ask the chips on this I2C bus what they are; of a Raspberry Pi, the header's is asked anyway
flags of install:
  -token LINE    as LINE; -: read it from standard input
  -dry-run       say what would be done, and do nothing
  -uninstall     take the service away; its configuration and what it keeps stay
  -purge         with -uninstall: they do not

examples:
  dunlin-agent check -example > agent.toml
  dunlin-agent check -config agent.toml
  dunlin-agent run -config agent.toml
  dunlin-agent status -config agent.toml
  sudo dunlin-agent install 'dunlin-claim:…'
  dunlin-agent completion bash > /etc/bash_completion.d/dunlin-agent

exit status: 0 done, 1 it failed, 2 wrong use
`

// usageError is a command line that makes no sense.
type usageError struct{ error }

// Main is the command dunlin-agent; it returns the exit status.
func Main(args []string, stdout, stderr io.Writer) int {
	command := "run"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	} else if len(args) > 0 && (args[0] == "-h" || args[0] == "-help" || args[0] == "--help") {
		command, args = "help", nil
	}
	commands := map[string]func([]string, io.Writer, io.Writer) error{
		"run": runCommand, "check": checkCommand, "status": statusCommand, "sources": sourcesCommand, "install": installCommand, "version": versionCommand,
		"completion": completionCommand, "help": helpCommand,
	}
	do, ok := commands[command]
	if !ok {
		return complain(stderr, usageError{fmt.Errorf("there is no command %q", command)})
	}
	return complain(stderr, do(args, stdout, stderr))
}

// complain writes an error and its hint, and returns the exit status.
func complain(stderr io.Writer, err error) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	fmt.Fprintf(stderr, "dunlin-agent: error: %v\n", err)
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(stderr, "dunlin-agent: hint: %s\n", hint)
	}
	if errors.As(err, new(usageError)) {
		return exitUsage
	}
	return exitFail
}

// hintOf finds the advice that comes with an error.
func hintOf(err error) string {
	if errors.As(err, new(usageError)) {
		return "dunlin-agent help"
	}
	if e, ok := errors.AsType[*ConfigError](err); ok && e.Hint != "" {
		return e.Hint
	}
	if h := lineHint(err); h != "" {
		return h
	}
	if e, ok := errors.AsType[*InstallError](err); ok {
		return e.Hint
	}
	if h := tokenHint(err); h != "" {
		return h
	}
	switch {
	case errors.Is(err, os.ErrPermission):
		return "run it as the user that owns state_dir, or give another state_dir"
	case cardHint(err) != "":
		return cardHint(err)
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program listens there: is an agent running? give another http.listen"
	}
	return ""
}

// flags parses the flags of a command, which takes no other arguments.
func flags(fs *flag.FlagSet, args []string, stderr io.Writer) error {
	fs.SetOutput(io.Discard)
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stderr, usage)
		return err
	}
	if err != nil {
		return usageError{err}
	}
	if fs.NArg() > 0 {
		return usageError{fmt.Errorf("%s: argument %q is one too many", fs.Name(), fs.Arg(0))}
	}
	return nil
}

func configFlag(fs *flag.FlagSet) *string { return fs.String("config", DefaultConfig, "") }

func runCommand(args []string, _, stderr io.Writer) error {
	fs := flag.NewFlagSet("run", flag.ContinueOnError)
	path := configFlag(fs)
	if err := flags(fs, args, stderr); err != nil {
		return err
	}
	fault := launch(*path) // before anything else can fail
	c, err := ReadConfig(*path)
	if err != nil {
		return goBack(*path, err)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log, level := c.logger(stderr)
	if fault != nil {
		log.Error("the agent of the package runs in place of another", keyError, fault)
	}
	limitMemory(c.bounds("/"), log)
	return work(ctx, *path, c, log, level)
}

// work runs the agent, and again where it got its token meanwhile: every part
// of it is opened with what the token says.
func work(ctx context.Context, config string, c Config, log *slog.Logger, level *slog.LevelVar) error {
	for {
		lines := boardLines(c) // before New opens files: see pins.Open
		a, err := New(c, log, level)
		if err != nil {
			return goBack(config, err)
		}
		a.updates.config = config
		a.UseLines(lines)
		a.UseEdges(lines)
		a.UseBuses(boardBuses{})
		err = a.Run(ctx)
		switch {
		case errors.Is(err, errEnrolled): // again
		case errors.Is(err, errRestart) && ctx.Err() == nil:
			return relaunch(err)
		default:
			return err
		}
	}
}

func checkCommand(args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("check", flag.ContinueOnError)
	path := configFlag(fs)
	example := fs.Bool("example", false, "")
	if err := flags(fs, args, stderr); err != nil {
		return err
	}
	if *example {
		_, err := io.WriteString(stdout, Example)
		return err
	}
	c, err := ReadConfig(*path)
	if err != nil {
		return err
	}
	if os.Getenv(envExamined) != "" { // the file was read, and what it says is checked
		c.Rules, c.Triggers, c.Sensors = nil, nil, nil
	}
	return check(c, *path, boardLines(c), stdout)
}

// check looks at what the configuration names. What is not there yet but will
// be made is no error; a hub that cannot be reached now is a note.
func check(c Config, path string, lines Lines, stdout io.Writer) error {
	e, err := c.enrolment()
	if err != nil {
		return &ConfigError{File: path, Field: "hub.token", Err: err, Hint: tokenHint(err)}
	}
	if _, err := c.releaseKeys(); err != nil {
		return &ConfigError{File: path, Field: "model.release_keys", Err: err}
	}
	if c.Model.Pack != "" {
		m, err := pack.ReadDir(c.Model.Pack)
		if err != nil {
			return &ConfigError{File: path, Field: "model.pack", Err: err}
		}
		fmt.Fprintf(stdout, "model.pack: %s version %d\n", m.Name, m.Version)
		if err := m.Close(); err != nil {
			return err
		}
	}
	for field, dir := range map[string]string{"state_dir": c.StateDir, "folder.dir": c.Folder.Dir} {
		if info, err := os.Stat(dir); err == nil && !info.IsDir() {
			return &ConfigError{File: path, Field: field, Err: fmt.Errorf("%s is no folder", dir)}
		}
	}
	if err := checkSources(c.Sources, path, stdout); err != nil {
		return err
	}
	describeLimits(stdout, &c, c.bounds("/"))
	if err := checkLines(c.Rules, path, lines, stdout); err != nil {
		return err
	}
	if err := checkTriggers(c.Triggers, path, lines, stdout); err != nil {
		return err
	}
	if err := checkSensors(context.Background(), c.Sensors, path, boardBuses{}, stdout); err != nil {
		return err
	}
	if e.claim != nil {
		fmt.Fprintf(stdout, "hub: %s, by a claim that ends at %s\n", e.claim.HTTP, e.claim.NotAfter.Format(time.RFC3339))
	}
	if token := e.token; token == nil && e.claim == nil {
		fmt.Fprintln(stdout, "hub: none, results stay in the outbox")
	} else if token != nil {
		fmt.Fprintf(stdout, "hub: %s as %s\n", token.MQTT, token.ID())
		if err := reachable(token.MQTT); err != nil {
			fmt.Fprintf(stdout, "hub: cannot be reached now: %v\n", err)
		}
	}
	fmt.Fprintf(stdout, "%s: fine\n", path)
	return nil
}

// reachable dials the hub's broker and says nothing to it.
func reachable(url string) error {
	_, addr, _ := strings.Cut(url, "://")
	conn, err := net.DialTimeout("tcp", addr, 3*time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

func versionCommand(args []string, stdout, stderr io.Writer) error {
	if err := flags(flag.NewFlagSet("version", flag.ContinueOnError), args, stderr); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "dunlin-agent %s (%s)\n", Version, buildInfo())
	return nil
}

func helpCommand(_ []string, stdout, _ io.Writer) error {
	_, err := io.WriteString(stdout, usage)
	return err
}

func statusCommand(args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("status", flag.ContinueOnError)
	path, socket, asJSON := configFlag(fs), fs.String("socket", "", ""), fs.Bool("json", false, "")
	if err := flags(fs, args, stderr); err != nil {
		return err
	}
	if *socket == "" {
		c, err := ReadConfig(*path)
		if err != nil {
			return err
		}
		*socket = c.HTTP.Socket
	}
	text, err := askSocket(*socket, "/v1/status")
	if err != nil {
		return fmt.Errorf("ask the agent: %w", err)
	}
	if *asJSON {
		_, err := stdout.Write(text)
		return err
	}
	var s Status
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("answer of the agent: %w", err)
	}
	printStatus(stdout, s)
	return nil
}

// askSocket gets a document from the agent on this machine.
func askSocket(socket, path string) ([]byte, error) {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	defer client.CloseIdleConnections()
	res, err := client.Get("http://localhost" + path)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, text)
	}
	return text, err
}

func printStatus(w io.Writer, s Status) {
	line := func(name, format string, a ...any) { fmt.Fprintf(w, "%-9s"+format+"\n", append([]any{name}, a...)...) }
	line("agent", "%s%s, up %s, %d MB resident", s.Agent, s.Slot.text(), time.Duration(s.UptimeS)*time.Second, s.RSSBytes>>20)
	line("board", "%s", s.Board.Name)
	if t := s.Vitals.TempC; t != nil {
		line("", "%.1f °C", *t)
	}
	if t := s.Limits.Throttle; t != nil {
		line("", "holds itself back for %v, level %d: %s", time.Duration(s.Limits.SinceS)*time.Second, t.Level, t.Why)
	}
	if s.Model == nil {
		line("model", "none yet")
	} else {
		trial := ""
		if s.OnTrial {
			trial = ", on trial"
		}
		if s.Model.Learned > 0 {
			trial = fmt.Sprintf(" with learned head %d%s", s.Model.Learned, trial)
		}
		line("model", "%s version %d%s", s.Model.Name, s.Model.Version, trial)
	}
	if s.Runs != nil {
		line("", "%d inferences, %d failed, p95 %.2f ms (%s kernels)", s.Runs.OK, s.Runs.Failed, s.Runs.P95MS, s.Kernels)
	}
	if s.Facts != nil {
		line("facts", "%s version %d", s.Facts.Graph, s.Facts.Version)
	}
	line("outbox", "%d waiting, %d dropped", s.Outbox.Next-s.Outbox.First, s.Outbox.Dropped)
	if s.Card != "" {
		line("card", "%s", s.Card)
	}
	switch {
	case s.Hub.URL == "":
		line("hub", "none")
	case s.Hub.Connected:
		line("hub", "%s as %s, connected", s.Hub.URL, s.Device)
	case s.Device == "":
		line("hub", "%s: %s", s.Hub.URL, s.Hub.Error)
	default:
		line("hub", "%s as %s: %s", s.Hub.URL, s.Device, s.Hub.Error)
	}
	if f := s.Folder; f != nil {
		line("folder", "%s: %d done, %d rejected, %d passed over", f.Dir, f.Done, f.Rejected, f.Dropped)
	}
	for _, f := range s.Sources {
		state := "gives frames"
		if f.Triggered {
			state = fmt.Sprintf("%d triggers, %d missed", f.Triggers, f.Missed)
		}
		if f.Error != "" {
			state = f.Error
		}
		line("source", "%s: %d frames, %d looked at, %d dropped, %d unusable; %s", f.Name, f.Frames, f.Taken, f.Dropped, f.Unusable, state)
	}
	for _, f := range s.Sensors {
		text := "no reading"
		if len(f.Readings) > 0 {
			text = readingsText(f.Readings)
		}
		if f.Error != "" {
			text += "; " + f.Error
		}
		line("sensor", "%s: %s", f.Name, text)
	}
	for _, f := range s.Triggers {
		line("trigger", "%s: %d hits for %s", f.On, f.Hits, strings.Join(f.Sources, ", "))
		if f.Error != "" {
			line("", "%s", f.Error)
		}
	}
	for _, l := range s.Lines {
		if l.Error != "" {
			line("line", "%s: %s", l.Line, l.Error)
			continue
		}
		line("line", "%s: %d pulses, %d dropped", l.Line, l.Pulses, l.Dropped)
	}
	for _, r := range s.Reports {
		line(string(r.Kind), "%s version %d: %s %s %s", r.Name, r.Version, r.State, r.Reason, r.Error)
	}
}
