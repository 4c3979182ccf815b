//go:build board

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dunlin/firmware-tools/vm"
	"dunlin/sync/wire"
)

// Where a board finds its hub.
const (
	boardHTTP = 7070
	boardMQTT = 1883
)

// named returns a kind of board.
func named(t *testing.T, name string) vm.Board {
	t.Helper()
	b, err := vm.Named(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// startBoardFleet starts a hub that boards reach by their own network.
func startBoardFleet(t *testing.T) *fleet {
	t.Helper()
	return startFleet(t, "--public-http", fmt.Sprintf("http://%s:%d", vm.HubHost, boardHTTP), "--public-mqtt", fmt.Sprintf("tcp://%s:%d", vm.HubHost, boardMQTT))
}

// agentFor builds the agent for a board, once for each processor.
var agentFor = func() func(t *testing.T, b vm.Board) []byte {
	var mu sync.Mutex
	built := map[string][]byte{}
	return func(t *testing.T, b vm.Board) []byte {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		name := b.GOARCH + b.GOARM
		if built[name] == nil {
			program, err := vm.BuildAgent(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			built[name] = program
		}
		return built[name]
	}
}()

// board is a virtual board of the fleet, with the agent as it ships.
type board struct {
	t       *testing.T
	name    string
	disk    string
	machine *vm.Machine
	vm      *vm.VM
}

// newBoard enrols a device and makes a board of it that is off; more is added
// to the agent's configuration, change may alter the machine before it is made.
func (f *fleet) newBoard(kind vm.Board, name, more string, change func(*vm.Config)) *board {
	f.t.Helper()
	var enrolled struct{ Token string }
	f.must("POST", "/v1/devices", map[string]string{"tenant": "e2e", "name": name}, &enrolled)
	config := fmt.Sprintf("metrics_every_s = 1\n[hub]\ntoken = %q\n[folder]\ndir = \"/var/lib/dunlin/inbox\"\npoll_ms = 100\n%s", enrolled.Token, more)
	files := vm.AgentFiles(agentFor(f.t, kind), config)
	files["var/lib/dunlin/inbox/"] = vm.File{}
	return f.boardOf(kind, name, files, change)
}

// boardOf makes a board with these files on its disk.
func (f *fleet) boardOf(kind vm.Board, name string, files vm.Files, change func(*vm.Config)) *board {
	f.t.Helper()
	b := &board{t: f.t, name: name, disk: filepath.Join(f.dir, name+".img")}
	if err := vm.MakeDisk(b.disk, 128, files); err != nil {
		cannot(f.t, err)
	}
	c := vm.Config{
		Disk: b.disk, Service: vm.Agent(), Hub: map[int]string{boardHTTP: f.addr, boardMQTT: f.mqtt},
		Log: func(s string) { f.t.Log(s) },
	}
	if change != nil {
		change(&c)
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), 3*time.Minute) // a kernel may have to be fetched
	defer cancel()
	m, err := vm.New(ctx, kind, c)
	if err != nil {
		cannot(f.t, err)
	}
	b.machine = m
	f.t.Cleanup(func() {
		if b.vm != nil {
			b.vm.Kill()
			if f.t.Failed() {
				f.t.Logf("console of %s:\n%s", name, b.vm.Tail(60))
			}
		}
		m.Close()
	})
	return b
}

// cannot skips the test where this machine lacks a tool or the kernel; CI
// allows no skip.
func cannot(t *testing.T, err error) {
	t.Helper()
	var missing *vm.ToolError
	if errors.As(err, &missing) {
		t.Skipf("%v (%s)", err, missing.Hint())
	}
	if errors.As(err, new(*vm.KernelError)) { // without a network, or on another system than Debian
		t.Skip(err)
	}
	t.Fatal(err)
}

// start gives the board power and waits for its agent.
func (b *board) start(boot vm.Boot) {
	b.t.Helper()
	v, err := b.machine.Start(b.t.Context(), boot)
	if err != nil {
		b.t.Fatal(err)
	}
	b.vm = v
	ctx, cancel := context.WithTimeout(b.t.Context(), 60*time.Second)
	defer cancel()
	if err := v.Ready(ctx); err != nil {
		b.t.Fatal(err)
	}
}

// stop turns the board off in order.
func (b *board) stop() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 60*time.Second)
	defer cancel()
	if err := b.vm.PowerOff(ctx); err != nil {
		b.t.Fatal(err)
	}
}

// give puts a file into the watched folder.
func (b *board) give(name string, data []byte) {
	b.t.Helper()
	if err := b.vm.Put(b.t.Context(), "/var/lib/dunlin/inbox/"+name, data); err != nil {
		b.t.Fatal(err)
	}
}

func (b *board) status() (s agentStatus, err error) {
	return s, b.vm.Ask(b.t.Context(), "GET", "/agent/v1/status", nil, &s)
}

// runs waits until the board answers with the model of that manifest.
func (b *board) runs(digest string) {
	b.t.Helper()
	wait(b.t, 60*time.Second, b.name+" to run "+digest, func() error {
		s, err := b.status()
		if err != nil {
			return err
		}
		if s.Model == nil || s.Model.Digest != digest {
			return fmt.Errorf("it runs %+v", s.Model)
		}
		return nil
	})
}

// hello returns what the hub knows of a device.
func (f *fleet) hello(name string) (h wire.Hello, err error) {
	var all struct {
		Devices []struct {
			Name   string
			Online bool
			Hello  *wire.Hello
		}
	}
	if err := f.ask("GET", "/v1/devices", nil, &all); err != nil {
		return h, err
	}
	for _, d := range all.Devices {
		if d.Name == "e2e/"+name || d.Name == name {
			if d.Hello == nil {
				return h, fmt.Errorf("%s has not said hello", name)
			}
			return *d.Hello, nil
		}
	}
	return h, fmt.Errorf("no device %s: %+v", name, all)
}

// answers are labels as both the agent's results and "dunlin model run" tell
// them.
type answers struct {
	Labels []wire.Label `json:"labels"`
}

// pictures returns the example's pictures, by name, and what this machine
// answers to the first n of them.
func (e example) pictures(t *testing.T, n int) (data map[string][]byte, want map[string][]wire.Label) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(e.dir, "samples", "*.png"))
	if err != nil || len(files) < n {
		t.Fatalf("%d pictures, want %d: %v", len(files), n, err)
	}
	data, want = map[string][]byte{}, map[string][]wire.Label{}
	for _, path := range files[:n] {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var a answers
		if err := json.Unmarshal([]byte(dunlin(t, "model", "run", e.pack, "--picture", path, "--json")), &a); err != nil {
			t.Fatal(err)
		}
		data[filepath.Base(path)], want[filepath.Base(path)] = text, a.Labels
	}
	return data, want
}

// offer makes the example's model the one that every device shall run.
func (f *fleet) offer(e example) {
	f.t.Helper()
	f.push(e.pack)
	f.must("POST", "/v1/rollouts", map[string]any{"model": "garments", "version": 2, "trial": wire.TrialRules{Seconds: 1, MaxMillis: 60_000}}, nil)
}

// resultOf waits for the result of a file that a device was given.
func (f *fleet) resultOf(device, file string) wire.Result {
	f.t.Helper()
	var found wire.Result
	wait(f.t, 60*time.Second, "the result of "+file+" of "+device, func() error {
		rows, err := f.results()
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.Device == "e2e/"+device && r.Result.Source == "folder:"+file {
				found = r.Result
				return nil
			}
		}
		return fmt.Errorf("not among %d", len(rows))
	})
	return found
}

// sameBits compares scores by their bits.
func sameBits(t *testing.T, what string, got, want []wire.Label) {
	t.Helper()
	if len(got) != len(want) || len(got) == 0 {
		t.Errorf("%s: %d labels, want %d", what, len(got), len(want))
		return
	}
	for i := range got {
		if got[i].Index != want[i].Index || math.Float32bits(got[i].Score) != math.Float32bits(want[i].Score) {
			t.Errorf("%s: label %d is %d with %v, want %d with %v", what, i, got[i].Index, got[i].Score, want[i].Index, want[i].Score)
		}
	}
}

// TestBoard is the whole road on a virtual board: it boots, its agent meets
// the hub, takes a model and facts, and answers pictures as this machine does,
// bit for bit.
func TestBoard(t *testing.T) {
	for _, c := range []struct{ kind, board, os, kernels string }{
		{"virt", "QEMU virtual machine", "linux/arm64", "neon"},
		{"virt-a53", "QEMU virtual machine", "linux/arm64", "neon"},
		{"virt-a76", "QEMU virtual machine", "linux/arm64", "dotprod"},
		{"pi3", "Raspberry Pi 3 Model B+", "linux/arm64", "neon"},
		{"zero2w", "Raspberry Pi Zero 2 W", "linux/arm64", "neon"},
		{"armhf", "QEMU virtual machine", "linux/arm", "generic"},
	} {
		if testing.Short() && c.kind != "virt" && c.kind != "pi3" {
			continue
		}
		t.Run(c.kind, func(t *testing.T) {
			kind := named(t, c.kind)
			e, f := theExample(t), startBoardFleet(t)
			b := f.newBoard(kind, c.kind, "", nil)
			f.offer(e)
			dunlin(t, "facts", "push", filepath.Join(e.dir, "garments.nt"), "--hub", f.http, "--token", f.token)
			begin := time.Now()
			b.start(vm.Boot{})
			ready := time.Since(begin)
			b.runs(e.digest)
			wait(t, 60*time.Second, "the facts", func() error {
				s, err := b.status()
				if err == nil && s.Facts == nil {
					err = errors.New("it has none")
				}
				return err
			})
			h, err := f.hello(c.kind)
			if err != nil {
				t.Fatal(err)
			}
			if h.Board != c.board || h.OS != c.os || h.Kernels != c.kernels {
				t.Errorf("the hub knows it as board %q, %s, kernels %q; want %q, %s, %q", h.Board, h.OS, h.Kernels, c.board, c.os, c.kernels)
			}
			data, want := e.pictures(t, 3)
			for name := range want {
				b.give(name, data[name])
			}
			for name, labels := range want {
				r := f.resultOf(c.kind, name)
				sameBits(t, name, r.Labels, labels)
				if len(r.Facts) == 0 {
					t.Errorf("%s: no facts", name)
				}
			}
			st, err := b.vm.State(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(st.Troubles) > 0 || st.Starts != 1 {
				t.Errorf("board: %+v", st)
			}
			b.stop()
			t.Logf("%s, kernel %s: ready after %.1f s, all after %.1f s", c.kind, st.Kernel, ready.Seconds(), time.Since(begin).Seconds())
		})
	}
}

// TestImageVM is a newcomer with a hub on the same machine: one line, one
// command, and a board joins the fleet. Ctrl-A X ends it.
func TestImageVM(t *testing.T) {
	f := startFleet(t)
	shown := dunlin(t, "fleet", "enrol", "e2e/lab", "--claim", "--hub", f.http, "--token", f.token)
	lines := strings.Split(strings.TrimSpace(shown), "\n")
	cmd := exec.CommandContext(t.Context(), filepath.Join(programs, "dunlin"), "image", "vm", "--claim", lines[len(lines)-1], "--mqtt", f.mqtt, "--board", "virt")
	// In order, for it has an emulator and a folder to clear away.
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(syscall.SIGTERM) }, 20*time.Second
	keys, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended, gone := make(chan error, 1), make(chan struct{})
	go func() {
		ended <- cmd.Wait()
		close(gone)
	}()
	t.Cleanup(func() { <-gone })
	wait(t, 120*time.Second, "the board to be online", func() error {
		select {
		case err := <-ended:
			if strings.Contains(out.String(), "is not installed") {
				t.Skip(out.String())
			}
			t.Fatalf("it ended: %v\n%s", err, out.String())
		default:
		}
		var d struct{ Online bool }
		if err := f.ask("GET", "/v1/devices/e2e/lab", nil, &d); err != nil {
			return err
		}
		if !d.Online {
			return errors.New("it is offline")
		}
		return nil
	})
	if _, err := keys.Write([]byte("\x01x")); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("%v\n%s", err, out.String())
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Ctrl-A X did not end it")
	}
	for _, want := range []string{"Ctrl-A X", "@vm ready", "connected to the hub"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the terminal does not show %q:\n%s", want, out.String())
		}
	}
}

// TestBoardPackage installs the agent's Debian package on a Raspberry Pi, as
// far as that goes without a system around it: its files, its configuration,
// its unit's user, and the claim where "dunlin-agent install" puts it.
func TestBoardPackage(t *testing.T) {
	e, f := theExample(t), startBoardFleet(t)
	kind := named(t, "pi3")
	dir := t.TempDir()
	program, tree := filepath.Join(dir, "dunlin-agent"), filepath.Join(dir, "tree")
	if err := os.WriteFile(program, agentFor(t, kind), 0o755); err != nil {
		t.Fatal(err)
	}
	dunlin(t, "image", "deb", program, "--version", "0.1.0", "-o", dir)
	debs, err := filepath.Glob(filepath.Join(dir, "dunlin-agent_*_arm64.deb"))
	if err != nil || len(debs) != 1 {
		t.Fatalf("packages: %v %v", debs, err)
	}
	if out, err := exec.Command("dpkg-deb", "-x", debs[0], tree).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v: %s", err, out)
	}
	files := vm.Files{}
	err = filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		name, err2 := filepath.Rel(tree, path)
		files[name] = vm.File{Data: data, Mode: uint32(info.Mode().Perm())}
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Fatal(err)
	}
	unit, err := vm.Unit(string(files["usr/lib/systemd/system/dunlin-agent.service"].Data))
	if err != nil {
		t.Fatal(err)
	}
	shown := dunlin(t, "fleet", "enrol", "e2e/package", "--claim", "--hub", f.http, "--token", f.token)
	lines := strings.Split(strings.TrimSpace(shown), "\n")
	files["var/lib/dunlin/token"] = vm.File{Data: []byte(lines[len(lines)-1] + "\n"), Mode: 0o600}
	b := f.boardOf(kind, "package", vm.Base(files), func(c *vm.Config) { c.Service = unit })
	b.start(vm.Boot{})
	wait(t, 60*time.Second, "the device to be known at the hub", func() error {
		_, err := f.hello("package")
		return err
	})
	f.offer(e)
	b.runs(e.digest)
	data, want := e.pictures(t, 1)
	for name := range want {
		b.give(name, data[name])
		sameBits(t, name, f.resultOf("package", name).Labels, want[name])
	}
	names, err := b.vm.List(t.Context(), "/var/lib/dunlin")
	if err != nil || slices.Contains(names, "token") {
		t.Errorf("the claim is still on the card: %v %v", names, err)
	}
	status, err := b.vm.Run(t.Context(), "/usr/bin/dunlin-agent", "status")
	if err != nil || !strings.Contains(status, "Raspberry Pi 3 Model B+") || !strings.Contains(status, "connected") {
		t.Errorf("dunlin-agent status: %v\n%s", err, status)
	}
	b.stop()
}
