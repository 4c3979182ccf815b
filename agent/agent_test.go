package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"dunlin/agent/source"
	"dunlin/internal/sign"
	"dunlin/sync/wire"
)

// TestMain lets a test start this binary as dunlin-agent, in order to kill it.
func TestMain(m *testing.M) {
	if os.Getenv("DUNLIN_TEST_MAIN") != "" {
		os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func drop(t testing.TB, c Config, name string, data []byte) {
	t.Helper()
	tmp := filepath.Join(c.Folder.Dir, "."+name)
	if err := os.MkdirAll(c.Folder.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(c.Folder.Dir, name)); err != nil {
		t.Fatal(err)
	}
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// The whole road: a model and facts come from the hub, pictures from the
// folder, from HTTP and by command are answered, and arrive.
func TestTheRoad(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	a, stop := run(t, c)
	early := picture(t, 250, 1)
	drop(t, c, "early.png", early) // before there is a model: it waits
	h.until("hello", func() bool { return len(h.hellos) > 0 })
	h.want(h.offer(1, false), h.graph(1))
	h.until("the model to be active", func() bool {
		return h.reported.Model != nil && h.reported.Model.Version == 1 && h.reported.Facts != nil && h.reported.Facts.Version == 1
	})
	h.until("the picture that waited", func() bool { return len(h.results) == 1 })

	dark := picture(t, 3, 2)
	res, err := http.Post("http://"+a.Addr()+"/v1/infer", "image/png", bytes.NewReader(dark))
	if err != nil {
		t.Fatal(err)
	}
	var direct wire.Result
	if err := json.NewDecoder(res.Body).Decode(&direct); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v", res.Status, err)
	}
	if direct.Labels[0].Label != "dark" || direct.Input != digestOf(dark) {
		t.Errorf("answer over HTTP: %+v", direct)
	}
	bright := picture(t, 252, 3)
	args, err := json.Marshal(map[string][]byte{"input": bright})
	if err != nil {
		t.Fatal(err)
	}
	cmd := wire.Cmd{ID: "01JDXYZ0000000000000000000", Name: wire.CmdInfer, Args: args}
	first := h.order(cmd)
	var byCommand wire.Result
	if err := json.Unmarshal(first.Result, &byCommand); err != nil || byCommand.Labels[0].Label != "bright" {
		t.Errorf("answer to the command: %+v, %v", first, err)
	}
	drop(t, c, "not.png", []byte("no picture at all"))
	h.until("all results", func() bool { return len(h.results) == 4 })

	h.mu.Lock()
	byInput := map[string]wire.Result{}
	for _, r := range h.results {
		byInput[r.Input] = r
	}
	h.mu.Unlock()
	r := byInput[digestOf(early)]
	if r.Source != "folder:early.png" || len(r.Labels) != 2 || r.Labels[0].Entity != "http://example.org/Bright" ||
		len(r.Facts) != 1 || r.Facts[0].Object != "glare 1" || r.FactsAt.Version != 1 || r.Model.Version != 1 {
		t.Errorf("result of the folder: %+v", r)
	}
	if bad := byInput[digestOf([]byte("no picture at all"))]; bad.Error == "" {
		t.Errorf("result of what is no picture: %+v", bad)
	}
	for _, name := range []string{"done/early.png", "rejected/not.png", "rejected/not.png.txt"} {
		wait(t, name, func() bool {
			_, err := os.Stat(filepath.Join(c.Folder.Dir, name))
			return err == nil
		})
	}
	// The same id again is answered from memory: no further result.
	h.mu.Lock()
	delete(h.acks, cmd.ID+"/"+string(wire.CmdDone))
	h.mu.Unlock()
	if again := h.order(cmd); !bytes.Equal(again.Result, first.Result) {
		t.Errorf("the same command gave %s, then %s", first.Result, again.Result)
	}
	stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.results) != 4 {
		t.Errorf("%d results after the repeated command", len(h.results))
	}
}

func TestCommands(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	a, _ := run(t, c)
	h.until("hello", func() bool { return len(h.hellos) > 0 })
	if ack := h.order(wire.Cmd{Name: wire.CmdRollback}); ack.Phase != wire.CmdRejected {
		t.Errorf("rollback without a model: %+v", ack)
	}
	if ack := h.order(wire.Cmd{Name: "dance"}); ack.Phase != wire.CmdRejected {
		t.Errorf("an unknown command: %+v", ack)
	}
	if ack := h.order(wire.Cmd{Name: wire.CmdStatus, NotAfter: time.Now().Add(-time.Hour)}); ack.Phase != wire.CmdExpired {
		// Without NTP and before the hub's first word the agent does not know the time.
		if _, known := a.clock.now(); known {
			t.Errorf("an old command: %+v", ack)
		}
	}
	if ack := h.order(wire.Cmd{Name: wire.CmdStatus, Boot: "another"}); ack.Phase != wire.CmdExpired {
		t.Errorf("a command for another boot: %+v", ack)
	}
	for v := int64(1); v <= 2; v++ {
		args, err := json.Marshal(h.offer(v, false))
		if err != nil {
			t.Fatal(err)
		}
		if ack := h.order(wire.Cmd{Name: wire.CmdActivate, Args: args}); ack.Phase != wire.CmdDone {
			t.Fatalf("activate %d: %+v", v, ack)
		}
	}
	args, err := json.Marshal(h.offer(3, true))
	if err != nil {
		t.Fatal(err)
	}
	if ack := h.order(wire.Cmd{Name: wire.CmdActivate, Args: args}); ack.Phase != wire.CmdRejected || !strings.Contains(ack.Error, string(wire.ReasonExam)) {
		t.Errorf("a false exam: %+v", ack)
	}
	ack := h.order(wire.Cmd{Name: wire.CmdRollback})
	var r wire.Running
	if err := json.Unmarshal(ack.Result, &r); err != nil || r.Version != 1 {
		t.Errorf("rollback: %+v", ack)
	}
	ack = h.order(wire.Cmd{Name: wire.CmdStatus})
	var s Status
	if err := json.Unmarshal(ack.Result, &s); err != nil || s.Model == nil || s.Model.Version != 1 || !s.Hub.Connected || s.Device != "shore/pi-1" {
		t.Errorf("status: %+v", ack)
	}
	if ack := h.order(wire.Cmd{Name: wire.CmdLogLevel, Args: json.RawMessage(`{"level":"error"}`)}); string(ack.Result) != `{"was":"info"}` {
		t.Errorf("log level: %s %s", ack.Result, ack.Error)
	}
}

// Without a hub at start the agent works; when the hub comes, everything
// arrives, and when it goes again nothing stops.
func TestWithoutHub(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	_, stop := run(t, c)
	h.want(h.offer(1, false), nil)
	h.until("the model to be active", func() bool { return h.reported.Model != nil })
	stop()
	h.halt()

	a, stop := run(t, c)
	for i := range 10 {
		drop(t, c, fmt.Sprintf("%d.png", i), picture(t, uint8(20*i), i))
	}
	wait(t, "files to be done", func() bool { return a.folder.Counters().Done == 10 })
	if s := a.Status(); s.Outbox.Next-s.Outbox.First < 10 || s.Hub.Connected {
		t.Errorf("status without a hub: %+v", s)
	}
	stop() // with a full outbox
	_, _ = run(t, c)
	h.start()
	h.until("ten results", func() bool { return len(h.results) == 10 })
}

// A refused model is not tried again because the facts change, and is when the
// hub says the same once more.
func TestTakenUpOnce(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	_, _ = run(t, c)
	h.want(h.offer(1, false), nil)
	h.until("version 1", func() bool { return h.ended(1) == wire.StateActive })
	bad := h.offer(2, true)
	h.want(bad, nil)
	h.until("the refusal", func() bool { return h.ended(2) == wire.StateRefused })
	h.want(bad, h.graph(1))
	h.until("facts", func() bool { return h.reported.Facts != nil && h.reported.Gen == 3 })
	refusals := func() (n int) {
		for _, r := range h.reports {
			if r.Version == 2 && r.State == wire.StateRefused {
				n++
			}
		}
		return n
	}
	h.mu.Lock()
	n, d := refusals(), wire.Desired{}
	h.mu.Unlock()
	if n != 1 {
		t.Errorf("refused %d times", n)
	}
	if err := wire.Unseal(sign.Trust{h.key.Public()}, h.device, wire.DownWanted, h.desired, &d); err != nil {
		t.Fatal(err)
	}
	h.want(d.Model, d.Facts)
	h.until("the second refusal", func() bool { return refusals() == 2 })
}

// A slow model is taken back by the device itself, with the hub gone.
func TestSlowModelWithoutHub(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	a, _ := run(t, c)
	h.want(h.offer(1, false), nil)
	h.until("version 1", func() bool { return h.ended(1) == wire.StateActive })
	slow := h.offer(2, false)
	slow.Trial = wire.TrialRules{Seconds: 2, MinRuns: 1000, MaxMillis: 60_000}
	h.want(slow, nil)
	wait(t, "the trial", func() bool { return a.slots.OnTrial() })
	h.halt()
	if r, err := a.slots.Rollback(t.Context(), slow.Manifest); err != nil || r.Version != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	worse := h.offer(3, false)
	worse.Trial = wire.TrialRules{Seconds: 3600, MaxMillis: 1e-6}
	h.start()
	h.want(worse, nil)
	h.until("it to go back", func() bool { return h.ended(3) == wire.StateReverted })
	if r := a.slots.Running(); r == nil || r.Version != 1 {
		t.Errorf("running %+v", r)
	}
}

// The agent is killed after a result was kept and before its file was moved:
// the next start moves the file, and does not answer it again.
func TestKilledBetweenResultAndMove(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	_, stop := run(t, c)
	h.want(h.offer(1, false), nil)
	h.until("version 1", func() bool { return h.ended(1) == wire.StateActive })
	stop()
	h.halt()
	a, err := New(c, slog.New(slog.DiscardHandler), new(slog.LevelVar))
	if err != nil {
		t.Fatal(err)
	}
	drop(t, c, "7.png", picture(t, 7, 7))
	ctx, cancel := context.WithCancel(t.Context())
	frames, done := make(chan source.Frame), make(chan error, 1)
	go func() { done <- a.folder.Run(ctx, frames) }()
	if _, err := a.p.process(t.Context(), <-frames, nil); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := errors.Join(<-done, a.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(c.Folder.Dir, "7.png")); err != nil {
		t.Fatal(err)
	}
	_, _ = run(t, c)
	wait(t, "the file to be moved", func() bool {
		_, err := os.Stat(filepath.Join(c.Folder.Dir, "done", "7.png"))
		return err == nil
	})
	h.start()
	h.until("its result", func() bool { return len(h.results) > 0 })
	// A later picture tells that all before it have arrived.
	drop(t, c, "8.png", picture(t, 8, 8))
	h.until("a later result", func() bool { return h.results[len(h.results)-1].Source == "folder:8.png" })
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.results) != 2 {
		t.Errorf("results %+v", h.results)
	}
}

// The agent is killed after the result of a command was kept and before its
// outcome was, and again when the hub has the result: the command that comes
// once more is answered with it, and not obeyed anew.
func TestKilledBetweenResultAndOutcome(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	a, stop := run(t, c)
	h.want(h.offer(1, false), nil)
	h.until("version 1", func() bool { return h.ended(1) == wire.StateActive })
	mute := func(on bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.mute = on
	}
	mute(true)
	const id = "01JDUNLINCOMMAND0000000001"
	image := picture(t, 7, 7)
	before, err := a.p.process(t.Context(), source.New(commandSource+id, image), nil)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	mute(false)
	a, stop = run(t, c)
	wait(t, "the hub to have it", func() bool { s := a.box.State(); return s.First == s.Next })
	stop()
	_, _ = run(t, c)
	h.until("a third hello", func() bool { return len(h.hellos) >= 3 })
	args, err := json.Marshal(map[string][]byte{"input": image})
	if err != nil {
		t.Fatal(err)
	}
	ack := h.order(wire.Cmd{ID: id, Name: wire.CmdInfer, Args: args})
	var r wire.Result
	if err := json.Unmarshal(ack.Result, &r); err != nil || ack.Phase != wire.CmdDone || r.ID != before.ID {
		t.Errorf("%+v, want the result %s", ack, before.ID)
	}
}

// The hub acknowledges a result of before the kill as soon as the agent is
// there, whatever else is in the folder: by then its file has left.
func TestKilledBeforeManyPictures(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	h.mute = true
	a, stop := run(t, c)
	h.want(h.offer(1, false), nil)
	h.until("version 1", func() bool { return h.ended(1) == wire.StateActive })
	drop(t, c, "last.png", picture(t, 7, 7))
	done := filepath.Join(c.Folder.Dir, "done", "last.png")
	wait(t, "the picture to be answered", func() bool { _, err := os.Stat(done); return err == nil })
	h.desire(wire.Desired{})
	wait(t, "the model to be taken back", func() bool { return a.slots.Running() == nil })
	stop()
	back := filepath.Join(c.Folder.Dir, "last.png")
	if err := os.Rename(done, back); err != nil { // the power went before the move was on the disk
		t.Fatal(err)
	}
	for i := range 3 * workers { // older ones, which wait for a model
		name := fmt.Sprintf("%d.png", i)
		drop(t, c, name, picture(t, uint8(i), i))
		long := time.Now().Add(-time.Hour)
		if err := os.Chtimes(filepath.Join(c.Folder.Dir, name), long, long); err != nil {
			t.Fatal(err)
		}
	}
	h.mu.Lock()
	h.mute = false
	h.mu.Unlock()
	a, _ = run(t, c)
	wait(t, "the hub to have all", func() bool { s := a.box.State(); return s.First == s.Next })
	if _, err := os.Stat(back); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its result is gone, and nobody knows that it was answered: %v", err)
	}
}

func wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); pause() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// The agent is killed again and again while pictures come; each arrives
// exactly once, and none is left in the folder.
func TestKilledWhilePicturesCome(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("skipped: it kills processes")
	}
	h := newTestHub(t)
	c, path := h.config(t)
	kills := 12
	if testing.Short() {
		kills = 3
	}
	start := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0], "run", "-config", path)
		cmd.Env = append(os.Environ(), "DUNLIN_TEST_MAIN=1")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	h.want(h.offer(1, false), nil)
	agent := start()
	h.until("the model to be active", func() bool { return h.reported.Model != nil })
	want := map[string]bool{}
	n := 0
	for k := range kills {
		for range 25 {
			n++
			data := picture(t, uint8(n), n)
			want[digestOf(data)] = true
			drop(t, c, fmt.Sprintf("%d.png", n), data)
		}
		// A different moment each time: before, amid and after the results.
		h.until("some results", func() bool { return len(h.results) >= n-25+(k*7)%25 })
		if err := agent.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = agent.Wait() // it was killed: that is its error
		agent = start()
	}
	h.until("every result", func() bool { return len(h.results) >= n })
	wait(t, "an empty folder", func() bool {
		left, err := filepath.Glob(filepath.Join(c.Folder.Dir, "*.png"))
		if err != nil {
			t.Fatal(err)
		}
		return len(left) == 0
	})
	if err := agent.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := agent.Wait(); err != nil {
		t.Errorf("clean stop: %v", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	got := map[string]int{}
	for _, r := range h.results {
		got[r.Input]++
		if r.Error != "" {
			t.Errorf("%s: %s", r.Source, r.Error)
		}
	}
	for input := range want {
		if got[input] != 1 {
			t.Errorf("%s arrived %d times", input, got[input])
		}
	}
	if len(got) != len(want) || len(h.results) != n {
		t.Errorf("%d results of %d inputs for %d pictures", len(h.results), len(got), n)
	}
	t.Logf("%d kills, %d pictures, %d records sent again", kills, n, h.twice)
}
