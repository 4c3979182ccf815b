package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"dunlin/firmware-tools/vm"
	"dunlin/sync/wire"
)

// vmFlags are those of image vm.
type vmFlags struct {
	board, agent, claim, mqtt, disk string
	memory                          int
	fetch                           bool
}

func imageVMCommand() *cobra.Command {
	var f vmFlags
	var kinds []string
	for _, b := range vm.Boards() {
		kinds = append(kinds, fmt.Sprintf("  %-9s %s", b.Name, b.About))
	}
	c := &cobra.Command{
		Use:   "vm",
		Short: "Boot a virtual board with the agent on this machine",
		Long: `Vm boots a board in QEMU with a kernel of Debian's, which apt-get fetches once (20 to
60 MB, kept in the user's cache or $DUNLIN_LINUX), and the agent of this checkout on
an ext4 disk. The board's console is this terminal: Ctrl-A X cuts its power.

With the line that "dunlin fleet enrol" printed it joins the fleet. It reaches the hub
that the line names, also one on this machine at 127.0.0.1, and nothing else. With
--disk FILE it keeps what it has, and the next start with the same FILE is the same
device after a power cut.

Boards:
` + strings.Join(kinds, "\n"),
		Example: `  dunlin image vm --claim "$(dunlin fleet enrol lab/pi --claim)" --board pi3
  dunlin image vm --claim @claim.txt --disk pi.img     # and, after Ctrl-A X:
  dunlin image vm --claim @claim.txt --disk pi.img
  dunlin image vm --fetch                              # the kernels of all boards, and no board`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if f.fetch {
				return fetchKernels(c)
			}
			return f.run(c)
		},
	}
	l := c.Flags()
	l.StringVar(&f.board, "board", "virt", "kind of board, see above")
	l.StringVar(&f.agent, "agent", "", "the agent's program for the board, in place of this checkout's")
	l.StringVar(&f.claim, "claim", "", "the line of dunlin fleet enrol, a claim or a token, or @FILE that holds it")
	l.StringVar(&f.mqtt, "mqtt", "", "HOST:PORT of the hub's MQTT listener, which a claim does not name (default the hub's host, port 1883, or 8883 with https)")
	l.StringVar(&f.disk, "disk", "", "image of the board's disk, made where it is missing (default one that is thrown away)")
	l.IntVar(&f.memory, "memory", 0, "memory of the board in MB, where the board leaves a choice")
	l.BoolVar(&f.fetch, "fetch", false, "fetch the kernels of all boards, those that are missing, and start none")
	return c
}

// fetchKernels has all kernels here before they are wanted, as long as it
// takes.
func fetchKernels(c *cobra.Command) error {
	dir, err := vm.CacheDir()
	if err != nil {
		return err
	}
	for _, flavour := range []vm.Flavour{vm.Cloud, vm.Generic, vm.ARMHF} {
		k, err := flavour.Fetch(c.Context(), dir)
		if err != nil {
			return err
		}
		fmt.Fprintln(c.OutOrStdout(), k.Dir)
	}
	return nil
}

func (f *vmFlags) run(c *cobra.Command) (err error) {
	kind, err := vm.Named(f.board)
	if err != nil {
		return usageError{err}
	}
	if f.memory != 0 {
		if kind.MemoryMB == 0 {
			return usagef("--memory: a %s has the memory it has", kind.About)
		}
		kind.MemoryMB = f.memory
	}
	line, reach, err := f.hub()
	if err != nil {
		return err
	}
	if f.claim == "" && c.Flags().Changed("claim") {
		return usagef("--claim: it is empty")
	}
	say := func(format string, a ...any) { fmt.Fprintf(c.ErrOrStderr(), format+"\n", a...) }
	disk := f.disk
	if disk == "" {
		dir, err := os.MkdirTemp("", "dunlin-board-*")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		disk = filepath.Join(dir, "disk.img")
	}
	// First, for it finds out what is not installed.
	config := vm.Config{Disk: disk, Service: vm.Agent(), Reach: reach, Log: func(s string) { say("%s", s) }}
	m, err := vm.New(c.Context(), kind, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if _, err := os.Stat(disk); errors.Is(err, os.ErrNotExist) {
		if err := f.makeDisk(c.Context(), kind, disk, line); err != nil {
			return err
		}
	} else if err != nil {
		return err
	} else {
		say("%s is there: its agent and its configuration are taken", disk)
		if err := kind.CheckDisk(disk); err != nil {
			return err
		}
	}
	v, err := m.Start(c.Context(), vm.Boot{Terminal: true})
	if err != nil {
		return err
	}
	say("%s: Ctrl-A X cuts the power", kind.About)
	say("what its agent says of itself: curl %s/agent/v1/status", v.URL)
	say("give it a picture:             curl -T FILE.png '%s/file?path=%s/FILE.png'", v.URL, vmInbox)
	<-v.Done()
	if err := c.Context().Err(); err != nil { // it cut the power
		return err
	}
	return v.Err()
}

// vmInbox is the folder that the board's agent watches.
const vmInbox = "/var/lib/dunlin/inbox"

// diskMB is a power of two, as cards are.
const diskMB = 256

func (f *vmFlags) makeDisk(ctx context.Context, kind vm.Board, disk, line string) error {
	var agent []byte
	var err error
	if f.agent != "" {
		agent, err = os.ReadFile(f.agent)
	} else {
		agent, err = vm.BuildAgent(ctx, kind)
	}
	if err != nil {
		return err
	}
	config := fmt.Sprintf("[folder]\ndir = %q\n", vmInbox)
	if line != "" {
		config += fmt.Sprintf("[hub]\ntoken = %q\n", line)
	}
	files := vm.AgentFiles(agent, config)
	files[strings.TrimPrefix(vmInbox, "/")+"/"] = vm.File{}
	return vm.MakeDisk(disk, diskMB, files)
}

// hub reads the line, and returns it with the addresses that it leads to.
func (f *vmFlags) hub() (line string, reach []string, err error) {
	if f.claim == "" {
		return "", nil, nil
	}
	if line, err = readClaim(f.claim); err != nil {
		return "", nil, err
	}
	var api, mqtt string
	if wire.IsClaim(line) {
		c, err := wire.ParseClaim(line)
		if err != nil {
			return "", nil, err
		}
		api = c.HTTP
	} else {
		t, err := wire.ParseToken(line)
		if err != nil {
			return "", nil, err
		}
		api, mqtt = t.HTTP, t.MQTT
	}
	first, host, err := dialAddress(api)
	if err != nil {
		return "", nil, err
	}
	second := f.mqtt
	switch {
	case second != "":
	case mqtt != "":
		if second, _, err = dialAddress(mqtt); err != nil {
			return "", nil, err
		}
	case strings.HasPrefix(api, "https:"):
		second = net.JoinHostPort(host, "8883")
	default:
		second = net.JoinHostPort(host, "1883")
	}
	return line, []string{first, second}, nil
}

// dialAddress is host and port of a URL.
func dialAddress(s string) (addr, host string, err error) {
	u, err := url.Parse(s)
	if err != nil {
		return "", "", err
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "tcp": "1883", "tls": "8883"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port), u.Hostname(), nil
}
