package vm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"dunlin/firmware-tools/vm/guest"
)

// VM is a machine that has power.
type VM struct {
	URL string // of the board's first program, guest/serve.go; the agent is below /agent

	cmd     *exec.Cmd
	monitor string // socket
	client  *http.Client
	done    chan struct{} // closed when QEMU has ended
	err     error         // how; to be read after done

	mu    sync.Mutex // guards what follows
	lines []string   // of the console
	more  chan struct{}
}

// maxLines bounds what is kept of a console.
const maxLines = 100_000

// What QEMU says, in lower case, of what passes: another program took the port
// first; the disk's lock is still held, which a QEMU that was killed may do for a
// moment after its end, until its last write is through.
var (
	errPort   = errors.New("could not set up host forwarding rule")
	errLocked = errors.New(`failed to get "write" lock`)
)

// Start gives the board power, and returns when its first program runs. When
// ctx ends the power is cut.
func (m *Machine) Start(ctx context.Context, b Boot) (*VM, error) {
	for try := 0; ; try++ {
		v, err := m.start(ctx, b)
		locked := errors.Is(err, errLocked)
		if err == nil || !locked && !errors.Is(err, errPort) || try == 5 {
			return v, err
		}
		if locked {
			time.Sleep(time.Second)
		}
	}
}

func (m *Machine) start(ctx context.Context, b Boot) (*VM, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	args, err := m.args(b, port)
	if err != nil {
		return nil, err
	}
	v := &VM{
		URL: fmt.Sprintf("http://127.0.0.1:%d", port), done: make(chan struct{}), more: make(chan struct{}),
		monitor: m.monitor(), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: 10 * time.Second}},
	}
	v.cmd = exec.CommandContext(ctx, m.qemu, args...)
	var stderr strings.Builder
	if b.Terminal {
		v.cmd.Stdin, v.cmd.Stdout, v.cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		return v, v.launch(nil)
	}
	v.cmd.Stderr = &stderr
	out, err := v.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := v.launch(func() { v.read(out, b.Console) }); err != nil {
		return nil, err
	}
	if _, err := v.WaitLine(ctx, Marked("init")); err != nil {
		v.Kill()
		for _, passing := range []error{errPort, errLocked} {
			if strings.Contains(strings.ToLower(stderr.String()), passing.Error()) {
				err = passing
			}
		}
		return nil, fmt.Errorf("board %s: %w: %s", m.Board.Name, err, strings.TrimSpace(stderr.String()))
	}
	return v, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// args is all of QEMU's arguments. The user network is restricted: the board
// reaches what is forwarded, and nothing else.
func (m *Machine) args(b Boot, port int) ([]string, error) {
	clock := b.Clock
	if clock.IsZero() {
		clock = time.Now()
	}
	args, err := m.Board.qemu(m.Config.Kernel, m.initramfs, fmt.Sprintf("%s%d %s", guest.ClockArg, clock.UnixNano(), b.Kernel))
	if err != nil {
		return nil, err
	}
	serial := "stdio"
	if b.Terminal {
		serial = "mon:stdio"
	}
	network := fmt.Sprintf("user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:%d-%s:%d", port, guest.Address, guest.Port)
	forwards := maps.Clone(m.Config.Hub)
	if forwards == nil {
		forwards = map[int]string{}
	}
	for i, addr := range m.Config.Reach {
		forwards[firstVia+i] = addr
	}
	for _, p := range slices.Sorted(maps.Keys(forwards)) {
		network += fmt.Sprintf(",guestfwd=tcp:%s:%d-cmd:%s %s", guest.HubHost, p, strings.ReplaceAll(m.relay, ",", ",,"), forwards[p])
	}
	if !b.Terminal {
		args = append(args, "-monitor", "unix:"+strings.ReplaceAll(m.monitor(), ",", ",,")+",server=on,wait=off")
	}
	args = append(args, "-serial", serial, "-netdev", network, "-device", m.Board.Net+",netdev=net")
	if m.Config.Disk != "" {
		drive := b.Drive
		kind := "none"
		if m.Board.Disk == "" {
			kind = "sd"
		}
		if drive == "" {
			drive = fmt.Sprintf("if=%s,id=disk,format=raw,cache=writeback,file=%s", kind, strings.ReplaceAll(m.Config.Disk, ",", ",,"))
		}
		args = append(args, "-drive", drive)
		if m.Board.Disk != "" {
			args = append(args, "-device", m.Board.Disk+",drive=disk")
		}
	}
	if strings.HasPrefix(m.Board.Machine, "virt") {
		args = append(args, "-device", "virtio-rng-device")
	}
	return append(args, b.Args...), nil
}

// launch starts QEMU and has its end waited for, after all of its output was
// read. The thread that starts it stays until then: QEMU ends with it
// (withParent), and so with this process.
func (v *VM) launch(read func()) error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		v.cmd.SysProcAttr = withParent()
		err := v.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		if read != nil {
			read()
		}
		v.err = v.cmd.Wait()
		v.client.CloseIdleConnections()
		close(v.done)
	}()
	return <-started
}

// read takes the console's lines.
func (v *VM) read(from io.Reader, also func(string)) {
	in := bufio.NewReader(from)
	for {
		line, err := in.ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			v.mu.Lock()
			if len(v.lines) < maxLines {
				v.lines = append(v.lines, line)
			}
			close(v.more)
			v.more = make(chan struct{})
			v.mu.Unlock()
			if also != nil {
				also(line)
			}
		}
		if err != nil {
			return
		}
	}
}

// ErrOff means that the board has no power any more.
var ErrOff = errors.New("the board is off")

// Kill cuts the power: what was not written to the disk is lost. It returns
// when the board is off.
func (v *VM) Kill() {
	_ = v.cmd.Process.Kill() // it may be off already
	<-v.done
}

// Done is closed when the board is off.
func (v *VM) Done() <-chan struct{} { return v.done }

// Err is how QEMU has ended, once the board is off: nil where the board turned
// itself off, or a person cut its power on the terminal.
func (v *VM) Err() error {
	<-v.done
	if v.err != nil {
		return fmt.Errorf("QEMU: %w", v.err)
	}
	return nil
}

// Console returns the lines since the start.
func (v *VM) Console() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.lines)
}

// Tail returns the last lines, for a report of what went wrong.
func (v *VM) Tail(n int) string {
	all := v.Console()
	return strings.Join(all[max(0, len(all)-n):], "\n")
}

// Marked matches the lines of the first program that begin with a text.
func Marked(text string) func(string) bool {
	return func(line string) bool {
		_, own, ok := strings.Cut(line, guest.Mark)
		return ok && strings.HasPrefix(own, text)
	}
}

// WaitLine waits for a line, from the start on, for which ok is true.
func (v *VM) WaitLine(ctx context.Context, ok func(line string) bool) (string, error) {
	for i := 0; ; {
		v.mu.Lock()
		lines, more := v.lines, v.more
		v.mu.Unlock()
		for ; i < len(lines); i++ {
			if ok(lines[i]) {
				return lines[i], nil
			}
		}
		select {
		case <-more:
		case <-v.done:
			// The last lines may have come with the end.
			if v.mu.Lock(); len(v.lines) == i {
				v.mu.Unlock()
				return "", fmt.Errorf("%w; its last lines:\n%s", ErrOff, v.Tail(20))
			}
			v.mu.Unlock()
		case <-ctx.Done():
			return "", fmt.Errorf("%w; its last lines:\n%s", context.Cause(ctx), v.Tail(20))
		}
	}
}

// Up waits until the board answers, Ready until its service has said READY=1
// for the first time.
func (v *VM) Up(ctx context.Context) error {
	_, err := v.WaitLine(ctx, Marked("up"))
	return err
}

// Ready is explained at Up. A board without its disk never gets there, and
// Ready does not wait for it.
func (v *VM) Ready(ctx context.Context) error {
	noDisk := Marked("trouble: disk")
	line, err := v.WaitLine(ctx, func(line string) bool { return noDisk(line) || Marked("ready")(line) })
	if err != nil {
		return err
	}
	if noDisk(line) {
		return errors.New(line)
	}
	return v.Up(ctx)
}
