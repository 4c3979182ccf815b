package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dunlin/hub/rollout"
	"dunlin/internal/freeport"
	"dunlin/internal/release"
	"dunlin/sync/wire"
)

// fault is what is wrong with a version of the agent: another text in one of
// its files, as a mistake would be. Everything else is the agent as it ships.
type fault struct{ file, old, new string }

// versions are the agents of the test.
var versions = map[string]fault{
	"1.0.0": {}, // the package's
	"1.1.0": {},
	"1.2.0": {"cmd/dunlin-agent/main.go", "func main() {", `func main() {
	if len(os.Args) > 1 && os.Args[1] == "run" {
		panic("a version that crashes")
	}
`},
	"1.3.0": {"cmd/dunlin-agent/main.go", "func main() {", `func main() {
	for len(os.Args) > 1 && os.Args[1] == "run" {
		time.Sleep(time.Hour)
	}
`},
	"1.4.0": {"sync/wire/topics.go", `const Version = "v1"`, `const Version = "v9"`},
	"1.5.0": {"kernels/softmax.go", "	return v.tier, v.run", `	return v.tier, func(dst, src []float32, n int) {
		v.run(dst, src, n)
		dst[0] *= 2
	}`},
	"1.0.5": {"cmd/dunlin-agent/main.go", "func main() {", `func main() {
	if _, err := os.Stat(os.Args[len(os.Args)-1] + ".crash"); err == nil && os.Args[1] == "run" {
		panic("a version that comes to crash")
	}
`},
}

// buildAgent builds a version into dir.
func buildAgent(t *testing.T, dir, version string) string {
	t.Helper()
	out := filepath.Join(dir, version, release.Name)
	args := []string{"build", "-trimpath", "-tags", "nethttpomithttp2", "-ldflags", "-s -w -X dunlin/agent.Version=" + version, "-o", out}
	if f := versions[version]; f.file != "" {
		root, err := filepath.Abs(filepath.Join("..", ".."))
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(root, f.file))
		if err != nil {
			t.Fatal(err)
		}
		bad := strings.Replace(string(text), f.old, f.new, 1)
		if bad == string(text) {
			t.Fatalf("%s does not say %q any more", f.file, f.old)
		}
		if strings.Contains(f.new, "time.") {
			bad = strings.Replace(bad, `"os"`, "\"os\"\n\t\"time\"", 1)
		}
		changed, overlay := filepath.Join(dir, version+".go"), filepath.Join(dir, version+".json")
		replace, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, f.file): changed}})
		if err := errors.Join(err, os.WriteFile(changed, []byte(bad), 0o600), os.WriteFile(overlay, replace, 0o600)); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.Command("go", append(args, "dunlin/cmd/dunlin-agent")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", version, err, text)
	}
	return out
}

// supervisor does with an agent what systemd does: it starts it again whenever
// it ends, and kills it when its watchdog is not fed.
type supervisor struct {
	t      *testing.T
	cmd    func() *exec.Cmd
	notify *net.UnixConn
	log    string

	mu     sync.Mutex
	starts int
	killed int // by the watchdog
	fed    time.Time
	now    *exec.Cmd
	stop   chan struct{}
	done   chan struct{}
}

// watchdogTime is systemd's WatchdogSec, and TimeoutStartSec.
const watchdogTime = 10 * time.Second

func supervise(t *testing.T, log string, cmd func() *exec.Cmd) *supervisor {
	t.Helper()
	dir, err := os.MkdirTemp("", "dunlin-notify-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	s := &supervisor{t: t, notify: conn, log: log, stop: make(chan struct{}), done: make(chan struct{})}
	s.cmd = func() *exec.Cmd {
		c := cmd()
		c.Env = append(os.Environ(), "NOTIFY_SOCKET="+socket, "WATCHDOG_USEC="+strconv.FormatInt(watchdogTime.Microseconds(), 10))
		return c
	}
	go s.listen()
	go s.run()
	t.Cleanup(func() {
		s.end()
		conn.Close()
		os.RemoveAll(dir)
		if t.Failed() {
			text, _ := os.ReadFile(log)
			t.Logf("%s:\n%s", log, text[max(0, len(text)-6000):])
		}
	})
	return s
}

func (s *supervisor) listen() {
	buf := make([]byte, 4096)
	for {
		n, err := s.notify.Read(buf)
		if err != nil {
			return
		}
		if text := string(buf[:n]); strings.Contains(text, "WATCHDOG=1") || strings.Contains(text, "READY=1") {
			s.feed()
		}
	}
}

func (s *supervisor) feed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fed = time.Now()
}

func (s *supervisor) run() {
	defer close(s.done)
	for {
		f, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			s.t.Error(err)
			return
		}
		c := s.cmd()
		c.Stdout, c.Stderr = f, f
		s.feed()
		if err := c.Start(); err != nil {
			s.t.Error(err)
			return
		}
		s.mu.Lock()
		s.starts, s.now = s.starts+1, c
		s.mu.Unlock()
		ended := make(chan struct{})
		go func() { c.Wait(); f.Close(); close(ended) }()
		if s.watch(c, ended) {
			return
		}
	}
}

// watch returns when the process ended; true, when that is the end of all.
func (s *supervisor) watch(c *exec.Cmd, ended chan struct{}) bool {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			select {
			case <-s.stop:
				return true
			case <-tick.C: // RestartSec
				return false
			}
		case <-s.stop:
			c.Process.Signal(syscall.SIGTERM)
			<-ended
			return true
		case <-tick.C:
			s.mu.Lock()
			late := time.Since(s.fed) > watchdogTime
			if late {
				s.killed++
				s.fed = time.Now()
			}
			s.mu.Unlock()
			if late {
				c.Process.Kill()
			}
		}
	}
}

func (s *supervisor) counts() (starts, killed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.starts, s.killed
}

// kill is kill -9 of what runs now.
func (s *supervisor) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Process.Kill()
}

// restart is systemctl restart, until the agent was started again.
func (s *supervisor) restart() {
	s.t.Helper()
	before, _ := s.counts()
	s.mu.Lock()
	s.now.Process.Signal(syscall.SIGTERM)
	s.mu.Unlock()
	wait(s.t, time.Minute, "it to be started again", func() error {
		if starts, _ := s.counts(); starts == before {
			return errors.New("not yet")
		}
		return nil
	})
}

func (s *supervisor) end() {
	select {
	case <-s.done:
	default:
		close(s.stop)
		<-s.done
	}
}

// updated is a device of the fleet under a supervisor.
type updated struct {
	*supervisor
	f    *fleet
	name string
	http string
}

// superviseAgent enrols a device, has the package's agent started on it, and
// gives it the example's model: no agent is tried while a model is.
func (f *fleet) superviseAgent(t *testing.T, name, binary string, grace, tries int) *updated {
	t.Helper()
	var enrolled struct{ Token string }
	f.must("POST", "/v1/devices", map[string]string{"tenant": "e2e", "name": name}, &enrolled)
	dir := filepath.Join(f.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	u := &updated{f: f, name: "e2e/" + name, http: "http://" + freeport.Addr(t)}
	config := fmt.Sprintf("state_dir = \"state\"\n[hub]\ntoken = %q\n[http]\nlisten = %q\n[update]\nhealthy_s = 1\ngrace_s = %d\ntries = %d\n",
		enrolled.Token, strings.TrimPrefix(u.http, "http://"), grace, tries)
	file := filepath.Join(dir, "agent.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	u.supervisor = supervise(t, filepath.Join(f.dir, name+".log"), func() *exec.Cmd { return exec.Command(binary, "run", "-config", file) })
	var s rollout.State
	f.must("POST", "/v1/rollouts", map[string]any{"model": "garments", "version": 2, "devices": []string{u.name}, "trial": wire.TrialRules{Seconds: 1}}, &s)
	u.reaches(t, s.ID, rollout.Done)
	return u
}

// rollOut starts a rollout of the agent to this device alone.
func (u *updated) rollOut(t *testing.T, version string, rules rollout.Rules) string {
	t.Helper()
	n, err := release.Number(version)
	if err != nil {
		t.Fatal(err)
	}
	var s rollout.State
	u.f.must("POST", "/v1/rollouts", map[string]any{"model": release.Name, "version": n, "devices": []string{u.name}, "rules": rules}, &s)
	return s.ID
}

func (u *updated) reaches(t *testing.T, id string, phase rollout.Phase) rollout.Device {
	t.Helper()
	var s rollout.State
	wait(t, 3*time.Minute, u.name+": rollout to be "+string(phase), func() error {
		if err := u.f.ask("GET", "/v1/rollouts/"+id, nil, &s); err != nil {
			return err
		}
		if s.Phase != phase {
			return fmt.Errorf("it is %s: %s", s.Phase, s.Why)
		}
		return nil
	})
	return s.Devices[0]
}

// isVersion waits until the device answers as that version, from a slot or not.
func (u *updated) isVersion(t *testing.T, version string, slot bool) {
	t.Helper()
	wait(t, time.Minute, u.name+" to be "+version, func() error {
		var s struct {
			Agent string         `json:"agent"`
			Slot  *struct{}      `json:"slot"`
			Model *wire.Running  `json:"model"`
			Hub   map[string]any `json:"hub"`
		}
		if err := call("GET", u.http+"/v1/status", "", nil, &s); err != nil {
			return err
		}
		if s.Agent != version || (s.Slot != nil) != slot || s.Model == nil {
			return fmt.Errorf("it is %+v", s)
		}
		return nil
	})
}

// TestAgentUpdate rolls versions of the agent out to real processes. A good
// one is kept, and outlives a kill, and kills while it is installed; one that crashes, hangs, does not reach the
// hub or fails the exam of its model goes back by itself, and the rollout is
// told why. One that was kept and comes to crash is passed over.
func TestAgentUpdate(t *testing.T) {
	e, dir := theExample(t), t.TempDir()
	bad := map[string]wire.Reason{"1.2.0": wire.ReasonCrashed, "1.3.0": wire.ReasonCrashed, "1.4.0": wire.ReasonNoHub, "1.5.0": wire.ReasonExam}
	all := []string{"1.0.5", "1.1.0", "1.2.0", "1.3.0", "1.4.0", "1.5.0"}
	if testing.Short() {
		bad, all = map[string]wire.Reason{"1.2.0": wire.ReasonCrashed}, all[1:3]
	}
	f := startFleet(t)
	f.push(e.pack)
	packaged := buildAgent(t, dir, "1.0.0")
	for _, v := range all {
		out := filepath.Join(dir, "release-"+v)
		dunlin(t, "agent", "pack", buildAgent(t, dir, v), "--version", v, "-o", out)
		dunlin(t, "agent", "sign", out, "--key", e.key)
		dunlin(t, "agent", "push", out, "--hub", f.http, "--token", f.token)
	}
	var running sync.WaitGroup
	defer running.Wait()
	// Not t.Parallel: they wait most of the time, and are more than there are CPUs.
	each := func(name string, do func(t *testing.T)) { running.Go(func() { t.Run(name, do) }) }
	each("good", func(t *testing.T) {
		u := f.superviseAgent(t, "good", packaged, 60, 2)
		u.isVersion(t, "1.0.0", false)
		u.reaches(t, u.rollOut(t, "1.1.0", rollout.Rules{}), rollout.Done)
		u.isVersion(t, "1.1.0", true)
		if starts, _ := u.counts(); starts != 1 {
			t.Errorf("the process was started %d times: the launcher is to change it in its place", starts)
		}
		u.kill()
		wait(t, time.Minute, "it to be started again", func() error {
			if starts, _ := u.counts(); starts < 2 {
				return errors.New("not yet")
			}
			return nil
		})
		u.isVersion(t, "1.1.0", true)
		// What comes next goes back to it, and not to the package's.
		if d := u.reaches(t, u.rollOut(t, "1.2.0", rollout.Rules{}), rollout.RolledBack); d.Reason != wire.ReasonCrashed {
			t.Errorf("%+v", d)
		}
		u.isVersion(t, "1.1.0", true)
	})
	each("taken back", func(t *testing.T) {
		u := f.superviseAgent(t, "taken", packaged, 60, 2)
		id := u.rollOut(t, "1.1.0", rollout.Rules{SoakS: 3600})
		u.isVersion(t, "1.1.0", true)
		wait(t, time.Minute, "it to be kept", func() error {
			var s rollout.State
			if err := f.ask("GET", "/v1/rollouts/"+id, nil, &s); err != nil {
				return err
			}
			if s.Devices[0].Stage != rollout.Passed {
				return fmt.Errorf("it is %s", s.Devices[0].Stage)
			}
			return nil
		})
		f.must("POST", "/v1/rollouts/"+id+"/abort", nil, nil)
		u.reaches(t, id, rollout.RolledBack)
		u.isVersion(t, "1.0.0", false)
	})
	each("killed", func(t *testing.T) {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		rnd := rand.New(rand.NewPCG(seed, 1))
		u := f.superviseAgent(t, "killed", packaged, 60, 20)
		id := u.rollOut(t, "1.1.0", rollout.Rules{})
		for range 15 { // in the fetch, the write, the examination, the exec and the trial
			time.Sleep(time.Duration(rnd.IntN(400)) * time.Millisecond) // the moment of the blow, not a wait for anything
			u.kill()
		}
		u.reaches(t, id, rollout.Done)
		u.isVersion(t, "1.1.0", true)
	})
	if !testing.Short() {
		each("comes to crash", func(t *testing.T) { comesToCrash(t, f.superviseAgent(t, "crashing", packaged, 60, 2)) })
	}
	for v, why := range bad {
		each(v, func(t *testing.T) {
			grace := 60
			if why == wire.ReasonNoHub {
				grace = 4
			}
			u := f.superviseAgent(t, "bad-"+strings.ReplaceAll(v, ".", "-"), packaged, grace, 2)
			d := u.reaches(t, u.rollOut(t, v, rollout.Rules{}), rollout.RolledBack)
			if d.Reason != why {
				t.Errorf("it went back by %q (%s), want %q", d.Reason, d.Error, why)
			}
			u.isVersion(t, "1.0.0", false)
			if starts, killed := u.counts(); v == "1.3.0" && killed < 2 {
				t.Errorf("the watchdog killed it %d times in %d starts", killed, starts)
			}
		})
	}
}

// comesToCrash has a version kept that crashes whenever there is a file, which
// comes later: the package's own stands in for it, until the board starts
// again or the hub sends another one.
func comesToCrash(t *testing.T, u *updated) {
	dir := filepath.Join(u.f.dir, "crashing")
	trigger, count := filepath.Join(dir, "agent.toml.crash"), filepath.Join(dir, "state", "agent", "starts")
	u.reaches(t, u.rollOut(t, "1.0.5", rollout.Rules{}), rollout.Done)
	u.isVersion(t, "1.0.5", true)
	healthy := func(from, to string) { // at the next start
		t.Helper()
		file := filepath.Join(dir, "agent.toml")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(strings.Replace(string(text), "healthy_s = "+from+"\n", "healthy_s = "+to+"\n", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	healthy("1", "600") // which nobody reaches, else it is that which ends the count
	for range 7 {       // more than the crashes that it may have: they are none
		u.restart()
		u.isVersion(t, "1.0.5", true)
	}
	healthy("600", "1")
	told := func(state wire.State, why wire.Reason) {
		t.Helper()
		wait(t, time.Minute, "the hub to be told", func() error {
			var d struct{ Reported *wire.Reported }
			if err := u.f.ask("GET", "/v1/devices/"+u.name, nil, &d); err != nil {
				return err
			}
			for _, r := range d.Reported.Reports {
				if r.Kind == wire.OfferAgent && r.Version == 1_000_005 && r.State == state && r.Reason == why && (d.Reported.Agent != nil) == (state == wire.StateActive) {
					return nil
				}
			}
			return fmt.Errorf("it was told %+v", d.Reported)
		})
	}
	told(wire.StateActive, wire.ReasonNone)
	crash := func() {
		t.Helper()
		before, _ := u.counts()
		if err := os.WriteFile(trigger, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		u.kill()
		u.isVersion(t, "1.0.0", false)
		if starts, _ := u.counts(); starts-before < 5 {
			t.Errorf("it was passed over after %d starts", starts-before)
		}
		told(wire.StateReverted, wire.ReasonCrashed)
		if err := os.Remove(trigger); err != nil {
			t.Fatal(err)
		}
	}
	crash()
	u.restart()
	u.isVersion(t, "1.0.0", false) // as long as the board runs
	var marks string
	wait(t, time.Minute, "the count of the package's own to be over", func() error { // it is not written any more then
		text, err := os.ReadFile(count)
		if err != nil {
			return err
		}
		if _, marks, _ = strings.Cut(string(text), "\n"); marks == "" || strings.Contains(marks, "p") { // empty is half written
			return fmt.Errorf("it is %q", text)
		}
		return nil
	})
	if err := os.WriteFile(count, []byte("the boot before\n"+marks), 0o600); err != nil {
		t.Fatal(err)
	}
	u.restart()
	u.isVersion(t, "1.0.5", true)
	told(wire.StateActive, wire.ReasonNone)
	crash()
	u.reaches(t, u.rollOut(t, "1.1.0", rollout.Rules{}), rollout.Done)
	u.isVersion(t, "1.1.0", true)
}
