//go:build linux

package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Root is the folder that the service has for its root: the disk, or a part
// of the initramfs.
const Root = "/disk"

// board is the one that runs.
type board struct {
	plan Plan

	mu       sync.Mutex // guards troubles
	troubles []string
}

// Main brings the board up and keeps it so. It never returns: a process 1
// that ends is a kernel panic.
func Main() {
	b := new(board)
	mountAll("/")
	say("init")
	text, err := os.ReadFile(PlanFile)
	if err == nil {
		err = json.Unmarshal(text, &b.plan)
	}
	if err != nil {
		b.trouble("plan", err)
	}
	for _, m := range b.plan.Modules {
		b.trouble("module "+filepath.Base(m.Path), load(m))
	}
	b.trouble("clock", setClock())
	b.trouble("disk", b.mountDisk())
	mountAll(Root)
	b.trouble("network", network())
	b.trouble("reach", reach(b.plan.Reach))

	s := newSupervisor(b.plan.Service)
	go func() {
		// Ctrl-Alt-Del, or QEMU's power button.
		c := make(chan os.Signal, 1)
		signal.Notify(c, unix.SIGINT, unix.SIGTERM)
		<-c
		b.powerOff(s)
	}()
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", Port)) // before up is said: whoever reads it may ask
	if err == nil {
		go func() { b.trouble("answering", b.serve(l, s)) }()
	}
	b.trouble("listening", err)
	say("up after %d ms", uptime().Milliseconds())
	s.run()
	select {}
}

// say prints a marked line.
func say(format string, a ...any) {
	os.Stdout.WriteString(Mark + fmt.Sprintf(format, a...) + "\n")
}

// trouble notes what went wrong on the way up; the board goes on without it.
func (b *board) trouble(what string, err error) {
	if err == nil {
		return
	}
	say("trouble: %s: %v", what, err)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.troubles = append(b.troubles, fmt.Sprintf("%s: %v", what, err))
}

// setClock sets the clock to what the kernel's arguments say.
func setClock() error {
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	for arg := range strings.FieldsSeq(string(text)) {
		if value, ok := strings.CutPrefix(arg, ClockArg); ok {
			nanos, err := strconv.ParseInt(value, 10, 64)
			tv := unix.NsecToTimeval(nanos)
			return errors.Join(err, unix.Settimeofday(&tv))
		}
	}
	return nil
}

// load loads a module; one that is there already is no error.
func load(m Module) error {
	f, err := os.Open(m.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), m.Args, 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// mountAll mounts what every program expects below root.
func mountAll(root string) {
	for _, m := range []struct{ kind, dir, options string }{
		{"proc", "proc", ""},
		{"sysfs", "sys", ""},
		{"devtmpfs", "dev", ""},
		{"debugfs", "sys/kernel/debug", ""},
		{"tmpfs", "run", "mode=0755"},
		{"tmpfs", "tmp", "mode=1777"},
	} {
		dir := filepath.Join(root, m.dir)
		_ = os.MkdirAll(dir, 0o755)                       // a file system that nothing can be written to has it, or mount says so
		_ = unix.Mount(m.kind, dir, m.kind, 0, m.options) // a kernel without debugfs has no lines to look at
	}
}

// diskWait is how long a disk may take to appear: a card behind a slow bus
// does so after the modules are loaded.
const diskWait = 10 * time.Second

func (b *board) mountDisk() error {
	if err := os.MkdirAll(Root, 0o755); err != nil || b.plan.Disk == "" {
		return err
	}
	for end := time.Now().Add(diskWait); ; time.Sleep(10 * time.Millisecond) {
		_, err := os.Stat(b.plan.Disk)
		if err == nil {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("it did not appear in %v: %w", diskWait, err)
		}
	}
	if err := unix.Mount(b.plan.Disk, Root, "ext4", unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mount %s: %w", b.plan.Disk, err)
	}
	return nil
}

// uptime is the kernel's age.
func uptime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// powerOff stops the service, writes everything out and turns the board off.
func (b *board) powerOff(s *supervisor) {
	say("power off")
	s.stop()
	_ = unix.Unmount(Root+"/dev", unix.MNT_DETACH) // whatever stays mounted is written out by Sync
	for _, dir := range []string{"sys/kernel/debug", "sys", "proc", "run", "tmp"} {
		_ = unix.Unmount(filepath.Join(Root, dir), unix.MNT_DETACH)
	}
	_ = unix.Unmount(Root, 0)
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}
