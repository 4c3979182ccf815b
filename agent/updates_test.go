package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dunlin/agent/update"
	"dunlin/internal/durable"
	"dunlin/internal/oci"
	"dunlin/internal/release"
	"dunlin/sync/wire"
)

// script stands for a binary of the agent, as far as it is asked before it is
// started.
func script(says string, checked int) string {
	return fmt.Sprintf("#!/bin/sh\ncase $1 in\nversion) echo 'dunlin-agent %s (x)' ;;\ncheck) echo 'the configuration'; exit %d ;;\nesac\n", says, checked)
}

// agent packs and signs a release of the agent.
func (h *testHub) agent(c release.Config, platform, binary string) *wire.Offer {
	h.t.Helper()
	d, err := release.Write(h.store, c, []release.Binary{{Platform: platform, Content: strings.NewReader(binary)}})
	if err != nil {
		h.t.Fatal(err)
	}
	n, err := release.Number(c.Version)
	if err != nil {
		h.t.Fatal(err)
	}
	return &wire.Offer{
		Kind: wire.OfferAgent, Name: release.Name, Version: n, Manifest: string(d.Digest),
		Sig: h.release.Sign(wire.OfferAgent.Purpose(), []byte(d.Digest)),
	}
}

func TestAgentsThatAreRefused(t *testing.T) {
	t.Setenv("DUNLIN_TEST_MAIN", "1") // this binary checks a configuration as the agent does
	h := newTestHub(t)
	c, path := h.config(t)
	a, err := New(c, slog.New(slog.NewTextHandler(testLog{t}, nil)), new(slog.LevelVar))
	if err != nil {
		t.Fatal(err)
	}
	a.updates.config = path
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	here := release.Platform()
	good := func(v string) release.Config { return release.Config{Version: v} }
	for _, r := range []struct {
		name  string
		why   wire.Reason
		offer *wire.Offer
		edit  func(*wire.Offer)
	}{
		{"signed for a model", wire.ReasonSignature, h.agent(good("0.2.0"), here, script("0.2.0", 0)), func(o *wire.Offer) {
			o.Sig = h.release.Sign(wire.OfferModel.Purpose(), []byte(o.Manifest))
		}},
		{"signed by the hub", wire.ReasonUnknownKey, h.agent(good("0.2.1"), here, script("0.2.1", 0)), func(o *wire.Offer) {
			o.Sig = h.key.Sign(wire.OfferAgent.Purpose(), []byte(o.Manifest))
		}},
		{"offered as another", wire.ReasonBroken, h.agent(good("0.2.2"), here, script("0.2.2", 0)), func(o *wire.Offer) { o.Version++ }},
		{"for another board", wire.ReasonPlatform, h.agent(good("0.2.3"), "linux/s390x", script("0.2.3", 0)), nil},
		{"older", wire.ReasonOlder, h.agent(good("0.0.9"), here, script("0.0.9", 0)), nil},
		{"follows newer ones", wire.ReasonTooOld, h.agent(release.Config{Version: "0.2.4", From: "0.2.0"}, here, script("0.2.4", 0)), nil},
		{"says another version", wire.ReasonExam, h.agent(good("0.2.5"), here, script("0.2.4", 0)), nil},
		{"does not start", wire.ReasonExam, h.agent(good("0.2.6"), here, "no program"), nil},
		{"refuses the configuration", wire.ReasonExam, h.agent(good("0.2.7"), here, script("0.2.7", 1)), nil},
		{"a model", wire.ReasonBroken, h.offer(1, false), func(o *wire.Offer) {
			o.Kind, o.Name, o.Sig = wire.OfferAgent, release.Name, h.release.Sign(wire.OfferAgent.Purpose(), []byte(o.Manifest))
		}},
	} {
		if r.edit != nil {
			r.edit(r.offer)
		}
		h.desire(wire.Desired{Agent: r.offer})
		var got wire.Report
		h.until(r.name, func() bool {
			for _, rep := range h.reports {
				if rep.Kind == wire.OfferAgent && rep.Digest == r.offer.Manifest {
					got = rep
				}
			}
			return got.State == wire.StateRefused
		})
		if got.Reason != r.why {
			t.Errorf("%s: %q (%s), want %q", r.name, got.Reason, got.Error, r.why)
		}
	}
	cancel()
	if err := ended(t, "the agent's end", done); err != nil {
		t.Error(err)
	}
	if s, err := update.Open(durable.OS, filepath.Join(c.StateDir, updateDir), ""); err != nil || s.Offer() != nil {
		t.Errorf("something was installed: %+v, %v", s.Offer(), err)
	}
}

// next starts the agent as the launcher would, from a slot or not; end waits
// until it is to be another one.
func next(t *testing.T, c Config, mark string) (a *Agent, end func()) {
	t.Helper()
	t.Setenv(envSlot, mark)
	a, err := New(c, slog.New(slog.NewTextHandler(testLog{t}, nil)), new(slog.LevelVar))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop := func(want error) {
		if done == nil {
			return
		}
		if want == nil {
			cancel()
		}
		if err := ended(t, "the agent's end", done); !errors.Is(err, want) {
			t.Errorf("agent: %v, want %v", err, want)
		}
		cancel()
		done = nil
	}
	t.Cleanup(func() { stop(nil) })
	return a, func() { stop(errRestart) }
}

// What is installed runs on trial in the next process, is kept there, and is
// taken back when the hub wants none.
func TestAgentIsInstalledKeptAndTakenBack(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	c.Update.HealthyS = 1
	o := h.agent(release.Config{Version: "0.2.0"}, release.Platform(), script("0.2.0", 0))
	h.desire(wire.Desired{Agent: o})
	_, end := next(t, c, "")
	end()
	store, err := update.Open(durable.OS, filepath.Join(c.StateDir, updateDir), "a")
	if err != nil || store.Offer() == nil || store.Offer().Manifest != o.Manifest {
		t.Fatalf("on trial is %+v, %v", store.Offer(), err)
	}
	a, end := next(t, c, "a")
	if s := a.Status(); s.Slot == nil || !s.Slot.OnTrial {
		t.Errorf("the status says %+v", s.Slot)
	}
	h.until("the hub to be told that it is kept", func() bool {
		return len(h.reports) > 0 && h.reports[len(h.reports)-1].State == wire.StateActive && h.reported.Agent != nil && h.reported.Agent.Version == 2000
	})
	h.desire(wire.Desired{})
	end()
	if _, _, ok := a.updates.store.Running(); ok {
		t.Error("it is still in its slot")
	}
	next(t, c, "")
	h.until("the package's again", func() bool {
		last := h.reports[len(h.reports)-1]
		return h.reported.Gen == h.gen && h.reported.Agent == nil && last.State == wire.StateReverted && last.Reason == wire.ReasonDesired
	})
}

// A version on trial goes back when the hub wants another one, and that one is
// taken then.
func TestAgentOnTrialIsSuperseded(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	c.Update.HealthyS = 3600
	first := h.agent(release.Config{Version: "0.2.0"}, release.Platform(), script("0.2.0", 0))
	second := h.agent(release.Config{Version: "0.3.0"}, release.Platform(), script("0.3.0", 0))
	h.desire(wire.Desired{Agent: first})
	_, end := next(t, c, "")
	end()
	_, end = next(t, c, "a")
	h.until("the trial", func() bool {
		return len(h.reported.Reports) > 0 && h.reported.Reports[0].State == wire.StateTrial
	})
	h.desire(wire.Desired{Agent: second})
	end()
	a, end := next(t, c, "")
	end()
	if o := a.updates.store.Offer(); o == nil || o.Manifest != second.Manifest {
		t.Errorf("on trial is %+v", o)
	}
	next(t, c, "a") // the one before may have ended before it told anything
	h.until("both to be told of", func() bool {
		said := map[string]bool{}
		for _, r := range h.reports {
			said[fmt.Sprintf("%d %s %s", r.Version, r.State, r.Reason)] = true
		}
		return said["2000 reverted desired"] && said["3000 trial "]
	})
}

// No agent is put on trial while a model is.
func TestAgentWaitsForTheTrialOfAModel(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	m := h.offer(1, false)
	m.Trial.Seconds = 3600
	h.desire(wire.Desired{Model: m})
	a, end := next(t, c, "")
	wait(t, "the trial of the model", a.slots.OnTrial)
	o := h.agent(release.Config{Version: "0.2.0"}, release.Platform(), script("0.2.0", 0))
	h.desire(wire.Desired{Model: m, Agent: o})
	h.until("the agent to be examined", func() bool {
		for _, r := range h.reported.Reports {
			if r.Kind == wire.OfferAgent && r.State == wire.StateExamining {
				return true
			}
		}
		return false
	})
	if a.updates.store.Offer() != nil {
		t.Error("both are on trial")
	}
	h.desire(wire.Desired{Agent: o}) // the model is taken back
	end()
	if a.updates.store.Offer() == nil {
		t.Error("the agent was not put on trial after that")
	}
}

// The other slot, and the package's own, wait for the trial of a model as well.
func TestAgentGoesBackAfterTheTrialOfAModel(t *testing.T) {
	for name, back := range map[string]bool{"exchange": true, "withdraw": false} {
		t.Run(name, func(t *testing.T) {
			h := newTestHub(t)
			c, _ := h.config(t)
			var offers [2]*wire.Offer
			for i, v := range []string{"0.2.0", "0.3.0"} { // in the slots a and b
				offers[i] = h.agent(release.Config{Version: v}, release.Platform(), script(v, 0))
				confirmed(t, c, []string{"", "a"}[i], []string{"a", "b"}[i], *offers[i])
			}
			m := h.offer(1, false)
			m.Trial.Seconds = 3600
			h.desire(wire.Desired{Model: m, Agent: offers[1]})
			a, end := next(t, c, "b")
			wait(t, "the trial of the model", a.slots.OnTrial)
			want := wire.Desired{Model: m}
			if back {
				want.Agent = offers[0]
			}
			h.desire(want)
			h.until("it to be told", func() bool { return h.reported.Gen == h.gen })
			for start := time.Now(); time.Since(start) < 200*time.Millisecond; pause() {
				if a.updates.restarting.Load() {
					t.Fatal("it goes back while a model is on trial")
				}
			}
			want.Model = nil
			h.desire(want)
			end()
			runs, left := "", ""
			if back {
				runs, left = "a", offers[1].Manifest // to which another exchange would go
			}
			store, err := update.Open(durable.OS, filepath.Join(c.StateDir, updateDir), runs)
			if err != nil {
				t.Fatal(err)
			}
			if got := store.Previous().Digest; got != left {
				t.Errorf("the slot before is %q, want %q", got, left)
			}
		})
	}
}

// confirmed has a version run for good, in a slot.
func confirmed(t *testing.T, c Config, from, slot string, o wire.Offer) {
	t.Helper()
	at := func(mark string) *update.Store {
		s, err := update.Open(durable.OS, filepath.Join(c.StateDir, updateDir), mark)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := at(from)
	_, sum, err := s.Write(strings.NewReader("x"))
	if err == nil {
		err = s.Begin(o, update.Build{Version: release.Text(o.Version), Number: o.Version, Digest: o.Manifest, SHA256: sum, Size: 1}, 3, Version)
	}
	if err == nil {
		_, err = at(slot).Confirm(wire.ReadClock(wire.ClockNone))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What the card does not give just now is no fault of what was fetched.
func TestMissingIsNotBroken(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	o := h.agent(release.Config{Version: "0.2.0"}, release.Platform(), script("0.2.0", 0))
	a, stop := run(t, c)
	defer stop()
	digest, err := oci.ParseDigest(o.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	_, written := a.updates.write(*o)
	facts := &factsTaker{layout: a.updates.layout}
	for what, err := range map[string]error{"agent": written, "facts": facts.use(*o, digest)} {
		if refused := new(refusal); errors.As(err, &refused) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A new version that checks the configuration leaves alone what this one uses.
func TestExaminedCheckTouchesNothing(t *testing.T) {
	h := newTestHub(t)
	_, path := h.config(t)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString("\n[[sensor]]\nname = \"tank\"\nkind = \"ads1115\"\nbus = \"i2c-999\"\n\n[[rule]]\nline = \"NO_SUCH_LINE\"\nlabel = \"person\"\nmin_score = 0.5\nmillis = 100\n")
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DUNLIN_TEST_MAIN", "1")
	if said, err := ask(t.Context(), os.Args[0], "check", "-config", path); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	said, err := exec.Command(os.Args[0], "check", "-config", path).CombinedOutput()
	if err == nil || !strings.Contains(string(said), "rule 1") {
		t.Errorf("a person's check says %v: %s", err, said)
	}
}

// A version on trial that cannot even open its files goes back at once, and in
// its place: here to this binary, which cannot either.
func TestAgentThatCannotOpenGoesBack(t *testing.T) {
	h := newTestHub(t)
	c, path := h.config(t)
	dir := filepath.Join(c.StateDir, updateDir)
	if err := os.MkdirAll(filepath.Join(c.StateDir, "outbox.db"), 0o755); err != nil {
		t.Fatal(err)
	}
	store, err := update.Open(durable.OS, dir, "")
	if err != nil {
		t.Fatal(err)
	}
	_, sum, err := store.Write(strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	o := h.agent(release.Config{Version: "0.2.0"}, release.Platform(), "x")
	if err := store.Begin(*o, update.Build{Version: "0.2.0", Number: 2000, Digest: o.Manifest, SHA256: sum, Size: 1}, 3, Version); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "run", "-config", path)
	cmd.Env = append(os.Environ(), "DUNLIN_TEST_MAIN=1", envSlot+"=a")
	if said, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(said), "outbox.db") {
		t.Errorf("%v: %s", err, said)
	}
	if store, err = update.Open(durable.OS, dir, ""); err != nil || store.Offer() != nil || store.Last() == nil || store.Last().Reason != wire.ReasonExam {
		t.Errorf("%+v on trial, the last ended %+v, %v", store.Offer(), store.Last(), err)
	}
}

// The launcher needs little of the configuration, and nothing that another
// version may have written.
func TestLaunchDir(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "agent.toml")
	for text, want := range map[string]string{
		"":                                      "/var/lib/dunlin/agent",
		"state_dir = \"state\"\n":               filepath.Join(dir, "state", "agent"),
		"state_dir = \"/s\"\nnew_field = 1\n":   "/s/agent",
		"[update]\nenabled = false\n":           "",
		"[update]\nenabled = true\nnew = 1\n":   "/var/lib/dunlin/agent",
		"state_dir = 7\n":                       "",
		"state_dir = \"\"\n":                    "",
		"[[[":                                   "",
		"[learn]\nlayers = \"of a new kind\"\n": "/var/lib/dunlin/agent",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := launchDir(file); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := launchDir(filepath.Join(dir, "none")); got != "" {
		t.Errorf("without a configuration: %q", got)
	}
}

// What a hub wanted is not pursued where the configuration knows none any more.
func TestAgentOfAHubThatIsGone(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	o := h.agent(release.Config{Version: "0.2.0"}, release.Platform(), script("0.2.0", 0))
	c.Hub = HubConfig{}
	a, _ := run(t, c)
	a.pursue(wire.Desired{Gen: 1, Agent: o}, true, true)
	if all := a.updates.lane.wanted(); len(all) != 0 {
		t.Errorf("it wants %v", all)
	}
}

// What stands in for a version that comes to crash leaves the files that it
// cannot read where they are, ends, and is counted for that; where it runs for
// good, because the configuration says so, it goes on without them.
func TestStandInLeavesWhatItCannotRead(t *testing.T) {
	h := newTestHub(t)
	c, path := h.config(t)
	starts := filepath.Join(c.StateDir, updateDir, "starts")
	for i, v := range []string{"0.2.0", "0.3.0"} {
		o := h.agent(release.Config{Version: v}, release.Platform(), v)
		confirmed(t, c, []string{"", "a"}[i], []string{"a", "b"}[i], *o)
	}
	marks := []byte("a boot\nbbbbbba")
	for _, name := range []string{"outbox.db", "slots.json"} {
		file, torn := filepath.Join(c.StateDir, name), bytes.Repeat([]byte("torn"), 4096)
		if err := errors.Join(os.WriteFile(starts, marks, 0o600), os.WriteFile(file, torn, 0o600)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // one that goes on has no end
		cmd := exec.CommandContext(ctx, os.Args[0], "run", "-config", path)
		cmd.Env = append(os.Environ(), "DUNLIN_TEST_MAIN=1", envSlot+"=a")
		said, err := cmd.CombinedOutput()
		cancel()
		if err == nil || !strings.Contains(string(said), "error: ") || !strings.Contains(string(said), name) {
			t.Errorf("%s: %v: %s", name, err, said)
		}
		if text, err := os.ReadFile(file); err != nil || !bytes.Equal(text, torn) {
			t.Errorf("%s is not what it was: %.20q, %v", name, text, err)
		}
		if text, err := os.ReadFile(starts); err != nil || !bytes.Equal(text, marks) {
			t.Errorf("%s: its end is not counted: %q, %v", name, text, err)
		}
		c := c
		c.Update.Enabled = false
		_, stop := run(t, c)
		stop()
		if text, err := os.ReadFile(file); name == "outbox.db" && (err != nil || bytes.Equal(text, torn)) {
			t.Errorf("%s is still torn: %v", name, err)
		}
	}
}
