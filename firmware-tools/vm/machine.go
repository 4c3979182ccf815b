package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"dunlin/firmware-tools/vm/guest"
)

// Config is what a machine is made of beside its board.
type Config struct {
	Kernel  Kernel   // zero: fetched
	Disk    string   // image with an ext4 that is the service's root (MakeDisk)
	Files   Files    // without a disk: the service's root, in memory
	Modules []string // more of them, each with its arguments: "vivid n_devs=1"
	Service guest.Service
	Hub     map[int]string // port at HubHost -> address that this machine reaches
	Reach   []string       // addresses, HOST:PORT, that the board reaches by the same name
	Log     func(string)   // what takes long is said here; nil: nowhere
}

// HubHost is the address at which a board finds what Config.Hub forwards.
const HubHost = guest.HubHost

// AgentFiles are the files of a board with the agent as Agent wants them, with
// this configuration, in place of the package's own.
func AgentFiles(program []byte, config string) Files {
	return Base(Files{
		"usr/bin/dunlin-agent":  {Data: program, Mode: 0o755},
		"etc/dunlin/agent.toml": {Data: []byte(config)},
	})
}

// Base adds what every system has: the folders to mount on, and the names of
// its users.
func Base(files Files) Files {
	all := Files{
		"dev/": {}, "proc/": {}, "sys/": {}, "run/": {}, "tmp/": {}, "var/lib/": {},
		"etc/passwd": {Data: fmt.Appendf(nil, "root:x:0:0::/root:/bin/sh\ndunlin:x:%[1]d:%[1]d::/var/lib/dunlin:/usr/sbin/nologin\n", serviceUser)},
		"etc/group":  {Data: fmt.Appendf(nil, "root:x:0:\ndunlin:x:%d:\n", serviceUser)},
	}
	maps.Copy(all, files)
	return all
}

// Machine is a board with its kernel and initramfs, ready to be started, one
// start at a time.
type Machine struct {
	Board     Board
	Config    Config
	dir       string
	qemu      string
	relay     string
	initramfs string
}

// New builds what a board needs to start: its first program, for its
// processor, by the go command in this module's tree; the relay to the hub;
// the initramfs. It fetches the kernel where none is given.
func New(ctx context.Context, b Board, c Config) (m *Machine, err error) {
	qemu, err := tool(b.QEMU, "qemu-system-arm")
	if err != nil {
		return nil, err
	}
	if c.Kernel == (Kernel{}) {
		dir, err := CacheDir()
		if err != nil {
			return nil, err
		}
		if _, there := b.Flavour.find(dir); !there && c.Log != nil {
			c.Log("fetching the kernel " + b.Flavour.Name + " from Debian's archive")
		}
		if c.Kernel, err = b.Flavour.Fetch(ctx, dir); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp("", "dunlin-vm-*")
	if err != nil {
		return nil, err
	}
	m = &Machine{Board: b, Config: c, dir: dir, qemu: qemu, relay: filepath.Join(dir, "relay"), initramfs: filepath.Join(dir, "initramfs")}
	if err := m.build(ctx); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// Close removes what New made. The machine must not run any more.
func (m *Machine) Close() error { return os.RemoveAll(m.dir) }

func (m *Machine) build(ctx context.Context) error {
	first := filepath.Join(m.dir, "init")
	if err := Build(ctx, "dunlin/firmware-tools/vm/guest/init", first, m.Board.GOARCH, m.Board.GOARM, "nethttpomithttp2"); err != nil {
		return err
	}
	if err := Build(ctx, "dunlin/firmware-tools/vm/relay", m.relay, runtime.GOARCH, "", ""); err != nil {
		return err
	}
	program, err := os.ReadFile(first)
	if err != nil {
		return err
	}
	plan := guest.Plan{Service: m.Config.Service}
	if m.Config.Disk != "" {
		plan.Disk = m.Board.Node
	}
	files := Files{"init": {Data: program, Mode: 0o755}}
	if err := m.addModules(files, &plan); err != nil {
		return fmt.Errorf("kernel %s: %w", m.Config.Kernel.Version, err)
	}
	for i, addr := range m.Config.Reach {
		host, port, err := splitReach(addr)
		if err != nil {
			return err
		}
		plan.Reach = append(plan.Reach, guest.Reach{Host: host, Port: port, Via: firstVia + i})
	}
	text, err := json.Marshal(plan)
	if err != nil {
		return err
	}
	files[strings.TrimPrefix(guest.PlanFile, "/")] = File{Data: text}
	if m.Config.Disk == "" {
		for name, f := range m.Config.Files {
			files["disk/"+name] = f
		}
	}
	return os.WriteFile(m.initramfs, cpio(files), 0o644)
}

// firstVia is the port at HubHost of the first of Config.Reach.
const firstVia = 20_000

func splitReach(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	if port, err = strconv.Atoi(text); err != nil || port < 1 || port > 65535 {
		return "", 0, fmt.Errorf("address %s: port %q", addr, text)
	}
	if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
		return "", 0, fmt.Errorf("address %s: the board's network has no IPv6", addr)
	}
	return host, port, nil
}

func (m *Machine) addModules(files Files, plan *guest.Plan) error {
	all, err := openModules(m.Config.Kernel)
	if err != nil {
		return err
	}
	args := map[string]string{}
	for _, line := range slices.Concat(m.Board.Modules, m.Config.Modules) {
		name, a, _ := strings.Cut(line, " ")
		if err := all.add(name); err != nil {
			return err
		}
		args[moduleName(name)] = a
	}
	for _, name := range all.order {
		files["modules/"+name+".ko"] = File{Data: all.data[name]}
		plan.Modules = append(plan.Modules, guest.Module{Path: "/modules/" + name + ".ko", Args: args[name]})
	}
	return nil
}

// Build builds a static program of this module for Linux, as it ships. The
// working directory must be in the module's tree.
func Build(ctx context.Context, pkg, out, goarch, goarm, tags string) error {
	if _, err := tool("go", "golang-go"); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", tags, "-ldflags", "-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+goarch, "GOARM="+goarm)
	if text, err := cmd.CombinedOutput(); err != nil {
		return &BuildError{Package: pkg, GOARCH: goarch, Err: err, Text: string(bytes.TrimSpace(text))}
	}
	return nil
}

// BuildError is a program that the go command could not build.
type BuildError struct {
	Package, GOARCH string
	Err             error
	Text            string // of the go command
}

func (e *BuildError) Error() string {
	return fmt.Sprintf("go build %s for %s: %v: %s", e.Package, e.GOARCH, e.Err, e.Text)
}
func (e *BuildError) Unwrap() error { return e.Err }

// Hint says what it takes.
func (e *BuildError) Hint() string {
	return "a board's programs are built from dunlin's source: run it in a checkout"
}

// BuildAgent builds the agent for a board, and returns the program.
func BuildAgent(ctx context.Context, b Board) ([]byte, error) {
	dir, err := os.MkdirTemp("", "dunlin-agent-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "dunlin-agent")
	if err := Build(ctx, "dunlin/cmd/dunlin-agent", out, b.GOARCH, b.GOARM, "nethttpomithttp2"); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
}

// Boot is what one start of a machine may have for itself.
type Boot struct {
	Clock    time.Time         // what the board wakes up with; zero: this machine's time
	Drive    string            // -drive of the disk in place of the plain image; its id must be "disk", or if=sd on a board with a card
	Args     []string          // more arguments for QEMU
	Kernel   string            // more arguments for the kernel
	Console  func(line string) // gets each line of the console; it must not block for long
	Terminal bool              // QEMU has this process's terminal: Ctrl-A X ends it; the console is not recorded
}
