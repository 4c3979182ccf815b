// Package e2e_test runs the programs as they ship, hub and agents each in its
// own process on loopback, and does to them what the world does: kills them,
// unplugs them, gives them bad models.
package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dunlin/examples/garments"
	"dunlin/internal/freeport"
	"dunlin/sync/wire"
)

// programs is the folder of the two binaries under test.
var programs string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "dunlin-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		programs = dir
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir+"/", "dunlin/cmd/dunlin", "dunlin/cmd/dunlin-agent")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s%v\n", out, err)
			return 1
		}
		return m.Run()
	}())
}

// dunlin runs one command to its end and returns what it printed.
func dunlin(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(filepath.Join(programs, "dunlin"), args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("dunlin %s: %v\n%s", strings.Join(args, " "), err, exit.Stderr)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// example holds what every test starts from: the garments example, packed as
// int8 and signed.
type example struct{ dir, pack, key, digest string }

var makeExample = sync.OnceValues(func() (example, error) {
	e := example{dir: filepath.Join(programs, "garments"), pack: filepath.Join(programs, "pack"), key: filepath.Join(programs, "release.pem")}
	if err := garments.WriteTo(e.dir); err != nil {
		return e, err
	}
	for _, args := range [][]string{
		{"model", "sign", "--make-key", "--key", e.key},
		{"model", "compress", filepath.Join(e.dir, "garments.onnx"), "--calibrate", filepath.Join(e.dir, "calibration"), "--samples", "32", "--version", "2", "-o", e.pack},
		{"model", "sign", e.pack, "--key", e.key},
	} {
		if out, err := exec.Command(filepath.Join(programs, "dunlin"), args...).CombinedOutput(); err != nil {
			return e, fmt.Errorf("dunlin %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	out, err := exec.Command(filepath.Join(programs, "dunlin"), "model", "inspect", "--json", e.pack).Output()
	if err != nil {
		return e, err
	}
	var info struct{ Digest string }
	err = json.Unmarshal(out, &info)
	e.digest = info.Digest
	return e, err
})

func theExample(t *testing.T) example {
	t.Helper()
	e, err := makeExample()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// program is one of ours, running.
type program struct {
	t    *testing.T
	name string
	args []string
	env  []string
	log  string
	cmd  *exec.Cmd
	done chan struct{}
}

func (p *program) start() {
	p.t.Helper()
	f, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(filepath.Join(programs, p.name), p.args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = f, f, append(os.Environ(), p.env...)
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	done := make(chan struct{})
	p.cmd, p.done = cmd, done
	go func() { cmd.Wait(); close(done) }()
}

// kill is kill -9; it waits until the process is gone.
func (p *program) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

func (p *program) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// stop ends the program in order and prints its log where the test failed.
func (p *program) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		p.t.Errorf("%s did not end on SIGTERM", p.name)
		p.kill()
	}
	if p.t.Failed() {
		text, _ := os.ReadFile(p.log)
		p.t.Logf("%s:\n%s", p.log, text[max(0, len(text)-4000):])
	}
}

// fleet is a hub and the agents that know it.
type fleet struct {
	t           *testing.T
	dir         string
	http, token string
	addr, mqtt  string // on which the hub listens
	hub         *program
}

// startFleet starts a hub that trusts the example's key; more is added to its
// arguments.
func startFleet(t *testing.T, more ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, dir: t.TempDir(), addr: freeport.Addr(t), mqtt: freeport.Addr(t)}
	f.http = "http://" + f.addr
	f.hub = &program{
		t: t, name: "dunlin", log: filepath.Join(f.dir, "hub.log"),
		args: append([]string{"hub", "--dir", filepath.Join(f.dir, "hub"), "--http", f.addr, "--mqtt", f.mqtt, "--release-key", theExample(t).key + ".pub"}, more...),
	}
	f.hub.start()
	t.Cleanup(func() { f.hub.stop() })
	f.up()
	return f
}

// up waits until the hub answers.
func (f *fleet) up() {
	f.t.Helper()
	wait(f.t, time.Minute, "the hub to answer", func() error {
		token, err := os.ReadFile(filepath.Join(f.dir, "hub", "admin.token"))
		if err != nil {
			return err
		}
		f.token = strings.TrimSpace(string(token))
		return f.ask("GET", "/livez", nil, nil)
	})
}

// ask calls the hub's API.
func (f *fleet) ask(method, path string, body, out any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return call(method, f.http+path, f.token, bytes.NewReader(text), out)
}

func (f *fleet) must(method, path string, body, out any) {
	f.t.Helper()
	if err := f.ask(method, path, body, out); err != nil {
		f.t.Fatal(err)
	}
}

func call(method, url, token string, body io.Reader, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		return errors.Join(err, fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, text))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// push registers a pack at the hub.
func (f *fleet) push(pack string) {
	f.t.Helper()
	dunlin(f.t, "model", "push", pack, "--hub", f.http, "--token", f.token)
}

// agent is a device of the fleet.
type agent struct {
	*program
	dir, inbox, http string
}

// startAgent enrols a device and starts its agent; more is added to its
// configuration.
func (f *fleet) startAgent(name, more string) *agent {
	f.t.Helper()
	var enrolled struct{ Token string }
	f.must("POST", "/v1/devices", map[string]string{"tenant": "e2e", "name": name}, &enrolled)
	addr, dir := freeport.Addr(f.t), filepath.Join(f.dir, name)
	a := &agent{dir: dir, inbox: filepath.Join(dir, "inbox"), http: "http://" + addr}
	if err := os.MkdirAll(a.inbox, 0o755); err != nil {
		f.t.Fatal(err)
	}
	config := fmt.Sprintf("state_dir = \"state\"\nmetrics_every_s = 1\n[hub]\ntoken = %q\n[folder]\ndir = \"inbox\"\npoll_ms = 100\n[http]\nlisten = %q\n%s", enrolled.Token, addr, more)
	file := filepath.Join(dir, "agent.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		f.t.Fatal(err)
	}
	a.program = &program{t: f.t, name: "dunlin-agent", args: []string{"run", "-config", file}, log: filepath.Join(f.dir, name+".log")}
	a.start()
	f.t.Cleanup(func() { a.stop() })
	return a
}

// agentStatus is what the tests read of GET /v1/status.
type agentStatus struct {
	Model  *wire.Running      `json:"model"`
	Facts  *wire.FactsVersion `json:"facts"`
	Outbox wire.OutboxState   `json:"outbox"`
}

func (a *agent) status() (s agentStatus, err error) {
	return s, call("GET", a.http+"/v1/status", "", http.NoBody, &s)
}

// runs waits until the agent answers with the model of that manifest.
func (a *agent) runs(digest string) {
	a.t.Helper()
	wait(a.t, 2*time.Minute, a.dir+" to run "+digest, func() error {
		s, err := a.status()
		if err != nil {
			return err
		}
		if s.Model == nil || s.Model.Digest != digest {
			return fmt.Errorf("it runs %+v", s.Model)
		}
		return nil
	})
}

// wait asks ok again and again until it returns nil or the limit is over.
func wait(t *testing.T, limit time.Duration, what string, ok func() error) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("waited %v for %s: %v", limit, what, err)
		case <-tick.C:
		}
	}
}

// row is one result at the hub.
type row struct {
	Device string
	Result wire.Result
}

// results returns every result that the hub holds.
func (f *fleet) results() ([]row, error) {
	var all []row
	after := ""
	for {
		var page struct {
			Rows []row
			Next string
		}
		path := "/v1/results?limit=500"
		if after != "" {
			path += "&after=" + after
		}
		if err := f.ask("GET", path, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Rows...)
		if after = page.Next; after == "" {
			return all, nil
		}
	}
}
