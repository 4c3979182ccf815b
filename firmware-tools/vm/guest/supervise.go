//go:build linux

package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// supervisor runs the service as systemd does with Type=notify,
// Restart=always and WatchdogSec.
type supervisor struct {
	s      Service
	notify *net.UnixConn // where the service says READY=1 and WATCHDOG=1

	mu    sync.Mutex // guards what follows
	state State
	cmd   *exec.Cmd
	off   bool          // the service shall not run
	kick  chan struct{} // a message came, or off changed
	fed   time.Time     // the watchdog, the last time; or the start
	limit time.Duration // from fed until it bites
	done  chan struct{} // of the process, closed at its end
}

// notifyPath is systemd's, below Root.
const notifyPath = "/run/systemd/notify"

func newSupervisor(s Service) *supervisor {
	v := &supervisor{s: s, kick: make(chan struct{}, 1)}
	v.state.Service = "off"
	if len(s.Exec) == 0 {
		v.off = true
		return v
	}
	path := filepath.Join(Root, notifyPath)
	_ = os.MkdirAll(filepath.Dir(path), 0o755) // Listen says so
	_ = os.Remove(path)
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		say("trouble: notify socket: %v", err)
		v.off = true
		return v
	}
	_ = os.Chmod(path, 0o777) // the service is not root; a message that does not come is seen
	v.notify = c
	go v.listen()
	return v
}

func (v *supervisor) kicked() {
	select {
	case v.kick <- struct{}{}:
	default:
	}
}

// listen takes the service's messages, sd_notify(3).
func (v *supervisor) listen() {
	buf := make([]byte, 4096)
	for {
		n, err := v.notify.Read(buf)
		if err != nil {
			return
		}
		v.mu.Lock()
		for line := range strings.SplitSeq(string(buf[:n]), "\n") {
			name, value, _ := strings.Cut(line, "=")
			switch name {
			case "READY":
				v.state.Service = "ready"
				v.feed(v.s.WatchdogMS)
				say("ready after %d ms", uptime().Milliseconds())
			case "WATCHDOG":
				if v.state.Service == "ready" {
					v.feed(v.s.WatchdogMS)
				}
			case "EXTEND_TIMEOUT_USEC":
				var usec int
				fmt.Sscan(value, &usec)
				v.feed(usec / 1000)
			case "STATUS":
				v.state.Status = value
			}
		}
		v.mu.Unlock()
		v.kicked()
	}
}

// feed gives the service so long from now. The caller holds mu.
func (v *supervisor) feed(ms int) {
	v.fed, v.limit = time.Now(), time.Duration(ms)*time.Millisecond
}

// run starts the service, and starts it again whenever it ends.
func (v *supervisor) run() {
	for {
		v.mu.Lock()
		off := v.off
		v.mu.Unlock()
		if off {
			<-v.kick
			continue
		}
		if err := v.start(); errors.Is(err, errOff) {
			continue
		} else if err != nil {
			say("trouble: service: %v", err)
			v.ended(err.Error())
		} else {
			v.watch()
		}
		time.Sleep(time.Duration(v.s.RestartMS) * time.Millisecond)
	}
}

// errOff means that the service was turned off before it started.
var errOff = errors.New("the service is off")

func (v *supervisor) start() error {
	cmd := exec.Command(v.s.Exec[0], v.s.Exec[1:]...)
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Chroot: Root, Setsid: true}
	if err := v.s.own(); err != nil {
		say("trouble: state of the service: %v", err) // a broken disk shows here; the service says more of it
	}
	if v.s.User != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(v.s.User), Gid: uint32(v.s.User)}
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "NOTIFY_SOCKET=" + notifyPath}, v.s.Env...)
	if v.s.WatchdogMS > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("WATCHDOG_USEC=%d", v.s.WatchdogMS*1000))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.off {
		return errOff
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	v.cmd, v.done = cmd, done
	v.state.Service, v.state.PID, v.state.Status = "starting", cmd.Process.Pid, ""
	v.state.Starts++
	v.feed(v.s.StartMS)
	say("service started, process %d", cmd.Process.Pid)
	go func() {
		err := cmd.Wait()
		text := "exit status 0"
		if err != nil {
			text = err.Error()
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left running, as KillMode=control-group has it
		v.ended(text)
		close(done)
	}()
	return nil
}

// devices are what the groups of a unit's drop-in (gpio, video, i2c, dialout)
// let a service open, once udev has named the devices' groups.
var devices = []string{"gpiochip*", "video*", "media*", "i2c-*", "spidev*", "ttyAMA*", "ttyS*", "ttyUSB*"}

// own gives the service's user its folder with all that is in it, as systemd
// does for a StateDirectory, and the devices.
func (s Service) own() error {
	var errs []error
	if s.State != "" {
		dir := filepath.Join(Root, s.State)
		errs = append(errs, os.MkdirAll(dir, 0o750), filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, s.User, s.User)
		}))
	}
	for _, pattern := range devices {
		found, _ := filepath.Glob(filepath.Join(Root, "dev", pattern))
		for _, path := range found {
			errs = append(errs, os.Chown(path, 0, s.User), os.Chmod(path, 0o660))
		}
	}
	return errors.Join(errs...)
}

func (v *supervisor) ended(how string) {
	say("service ended: %s", how)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.state.LastEnd, v.state.PID, v.state.Service = how, 0, "waiting"
	if v.off {
		v.state.Service = "off"
	}
}

// watch returns when the service has ended, by itself or because it did not
// say in time that it lives.
func (v *supervisor) watch() {
	for {
		v.mu.Lock()
		left, limit, done := time.Until(v.fed.Add(v.limit)), v.limit, v.done
		v.mu.Unlock()
		if limit == 0 {
			left = time.Hour
		}
		t := time.NewTimer(left)
		select {
		case <-done:
			t.Stop()
			return
		case <-v.kick:
			t.Stop()
		case <-t.C:
			v.mu.Lock()
			late := v.limit > 0 && time.Since(v.fed) >= v.limit
			if late {
				v.state.Watchdogs++
				say("watchdog: process %d said nothing for %v", v.state.PID, v.limit)
			}
			v.mu.Unlock()
			if late {
				v.end(syscall.SIGABRT)
				return
			}
		}
	}
}

// end sends the service a signal and, where that does not end it, SIGKILL.
func (v *supervisor) end(sig syscall.Signal) {
	v.mu.Lock()
	cmd, done := v.cmd, v.done
	v.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(sig) // it may just have ended
	select {
	case <-done:
	case <-time.After(time.Duration(v.s.StopMS) * time.Millisecond):
		say("service did not end in time: SIGKILL")
		_ = cmd.Process.Kill()
		<-done
	}
}

// stop ends the service, which stays off until start is asked for.
func (v *supervisor) stop() {
	v.set(true)
	v.end(syscall.SIGTERM)
}

func (v *supervisor) set(off bool) {
	v.mu.Lock()
	v.off = off || len(v.s.Exec) == 0
	v.mu.Unlock()
	v.kicked()
}

// signal sends the service a signal, and nothing else.
func (v *supervisor) signal(sig syscall.Signal) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.state.PID == 0 {
		return os.ErrProcessDone
	}
	return v.cmd.Process.Signal(sig)
}
