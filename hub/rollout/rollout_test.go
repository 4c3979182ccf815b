package rollout_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"dunlin/hub/rollout"
	"dunlin/sync/wire"
)

var (
	start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	older = rollout.Target{Name: "m", Version: 1, Digest: "sha256:old"}
	newer = rollout.Target{Name: "m", Version: 2, Digest: "sha256:new"}
)

// history drives one rollout and keeps what came out.
type history struct {
	t     *testing.T
	s     rollout.State
	now   time.Time
	told  map[string]rollout.Target // what each device was told last
	order []rollout.Command
}

func begin(t *testing.T, canary, rest []string, r rollout.Rules) *history {
	t.Helper()
	old := map[string]rollout.Target{}
	for _, d := range append(append([]string{}, canary...), rest...) {
		old[d] = older
	}
	s, err := rollout.New(rollout.Plan{ID: "r1", New: newer, Canary: canary, Rest: rest, Old: old, Rules: r, Created: start})
	if err != nil {
		t.Fatal(err)
	}
	h := &history{t: t, s: s, now: start, told: map[string]rollout.Target{}}
	for d := range old {
		h.do(rollout.Event{Kind: rollout.Running, Device: d, Digest: older.Digest, Online: true})
	}
	return h
}

func (h *history) do(e rollout.Event) {
	h.t.Helper()
	var cmds []rollout.Command
	h.s, cmds = rollout.Next(h.s, e, h.now)
	for _, c := range cmds {
		h.told[c.Device] = c.Target
	}
	h.order = append(h.order, cmds...)
}

func (h *history) report(device string, st wire.State, why wire.Reason) {
	h.t.Helper()
	h.do(rollout.Event{Kind: rollout.Report, Device: device, Report: wire.Report{
		Kind: wire.OfferModel, Digest: newer.Digest, State: st, Reason: why,
	}})
}

func (h *history) want(p rollout.Phase, why string) {
	h.t.Helper()
	if h.s.Phase != p || !strings.Contains(h.s.Why, why) {
		h.t.Fatalf("phase %s (%s), want %s (%s)", h.s.Phase, h.s.Why, p, why)
	}
}

func TestCanaryThenAll(t *testing.T) {
	h := begin(t, []string{"t/a"}, []string{"t/b", "t/c"}, rollout.Rules{})
	if len(h.order) != 0 {
		t.Fatalf("a draft gave commands: %v", h.order)
	}
	h.do(rollout.Event{Kind: rollout.Start})
	h.want(rollout.Canary, "")
	if want := []rollout.Command{{Device: "t/a", Target: newer}}; !reflect.DeepEqual(h.order, want) {
		t.Fatalf("start gave %v, want %v", h.order, want)
	}
	h.report("t/a", wire.StateTrial, "")
	h.want(rollout.Canary, "")
	h.report("t/a", wire.StateActive, "")
	h.want(rollout.All, "")
	h.report("t/b", wire.StateActive, "")
	h.report("t/c", wire.StateActive, "")
	h.want(rollout.Done, "")
}

func TestCanaryFailureRollsBack(t *testing.T) {
	for _, tc := range []struct {
		state  wire.State
		reason wire.Reason
		phase  rollout.Phase
	}{
		{wire.StateRefused, wire.ReasonDigest, rollout.RolledBack},
		{wire.StateRefused, wire.ReasonUnknownKey, rollout.RolledBack},
		{wire.StateRefused, wire.ReasonExam, rollout.RolledBack},
		{wire.StateReverted, wire.ReasonTooSlow, rollout.RolledBack},
		{wire.StateReverted, wire.ReasonCrashed, rollout.RolledBack},
		{wire.StateRefused, wire.ReasonNoSpace, rollout.Canary},
		{wire.StateReverted, wire.ReasonCommand, rollout.Canary},
	} {
		t.Run(string(tc.reason), func(t *testing.T) {
			h := begin(t, []string{"t/a"}, []string{"t/b"}, rollout.Rules{})
			h.do(rollout.Event{Kind: rollout.Start})
			h.report("t/a", tc.state, tc.reason)
			if h.s.Phase != tc.phase {
				t.Fatalf("phase %s, want %s", h.s.Phase, tc.phase)
			}
			if tc.phase == rollout.RolledBack {
				h.want(rollout.RolledBack, string(tc.reason))
				if h.told["t/a"] != older {
					t.Errorf("canary was told %v, want %v", h.told["t/a"], older)
				}
			}
			if _, told := h.told["t/b"]; told {
				t.Errorf("a device outside the wave was told %v", h.told["t/b"])
			}
		})
	}
}

func TestRollbackWaitsForDevicesThatPassed(t *testing.T) {
	h := begin(t, []string{"t/a"}, []string{"t/b"}, rollout.Rules{})
	h.do(rollout.Event{Kind: rollout.Start})
	h.report("t/a", wire.StateActive, "")
	h.report("t/b", wire.StateReverted, wire.ReasonErrors)
	h.want(rollout.Aborting, "t/b: inference_errors")
	if h.told["t/a"] != older || h.told["t/b"] != older {
		t.Fatalf("told %v", h.told)
	}
	h.do(rollout.Event{Kind: rollout.Running, Device: "t/a", Digest: older.Digest, Online: true})
	h.want(rollout.RolledBack, "t/b: inference_errors")
}

// TestFirstModelIsTakenBack: a device that had no model before is back when
// it says that nothing answers, not when it was told to stop.
func TestFirstModelIsTakenBack(t *testing.T) {
	begun := func() *history {
		s, err := rollout.New(rollout.Plan{ID: "r1", New: newer, Canary: []string{"t/a"}, Rules: rollout.Rules{DeadlineS: 60}, Created: start})
		if err != nil {
			t.Fatal(err)
		}
		h := &history{t: t, s: s, now: start, told: map[string]rollout.Target{}}
		h.do(rollout.Event{Kind: rollout.Running, Device: "t/a", Online: true, Nothing: true})
		h.do(rollout.Event{Kind: rollout.Start})
		h.report("t/a", wire.StateTrial, "")
		h.do(rollout.Event{Kind: rollout.Results, Device: "t/a", Digest: newer.Digest, Figures: rollout.Figures{Runs: 50, Errors: 50}})
		if told, ok := h.told["t/a"]; !ok || told != (rollout.Target{}) {
			t.Fatalf("told %v", h.told)
		}
		for _, digest := range []string{newer.Digest, ""} { // it answers, and it is not known
			h.do(rollout.Event{Kind: rollout.Running, Device: "t/a", Online: true, Digest: digest})
			h.want(rollout.Aborting, "errors")
		}
		return h
	}
	h := begun()
	h.do(rollout.Event{Kind: rollout.Running, Device: "t/a", Online: true, Nothing: true})
	h.want(rollout.RolledBack, "errors")
	if h.s.Devices[0].Stage != rollout.Back {
		t.Errorf("stage %s", h.s.Devices[0].Stage)
	}

	h = begun()
	h.now = h.now.Add(time.Minute)
	h.do(rollout.Event{Kind: rollout.Tick})
	h.want(rollout.RolledBack, "1 devices have not said yet")
	if h.s.Devices[0].Stage == rollout.Back {
		t.Error("it counts as back without a word of it")
	}
}

func TestOfflineDevicesAreCountedAndDoNotBlock(t *testing.T) {
	h := begin(t, []string{"t/a"}, []string{"t/b", "t/c"}, rollout.Rules{})
	h.do(rollout.Event{Kind: rollout.Running, Device: "t/c", Digest: older.Digest})
	h.do(rollout.Event{Kind: rollout.Start})
	h.report("t/a", wire.StateActive, "")
	h.report("t/b", wire.StateActive, "")
	h.want(rollout.Done, "2 of 3 devices passed, 1 offline")
	if h.told["t/c"] != newer {
		t.Error("an offline device must find the new model when it comes back")
	}
}

func TestDeadlinePausesAndResumeOpensAgain(t *testing.T) {
	h := begin(t, []string{"t/a"}, []string{"t/b"}, rollout.Rules{DeadlineS: 60})
	h.do(rollout.Event{Kind: rollout.Start})
	h.report("t/a", wire.StateRefused, wire.ReasonNoSpace)
	h.now = h.now.Add(time.Minute)
	h.do(rollout.Event{Kind: rollout.Tick})
	h.want(rollout.Paused, "undecided at the deadline")
	h.now = h.now.Add(100 * time.Hour)
	h.do(rollout.Event{Kind: rollout.Tick})
	h.want(rollout.Paused, "")
	h.order = nil
	h.do(rollout.Event{Kind: rollout.Resume})
	h.want(rollout.Canary, "")
	if len(h.order) != 1 || h.order[0].Device != "t/a" {
		t.Errorf("resume must tell the device that got stuck again, gave %v", h.order)
	}
	h.do(rollout.Event{Kind: rollout.Pause, Why: "lunch"})
	h.report("t/a", wire.StateReverted, wire.ReasonTooSlow)
	h.want(rollout.RolledBack, "too_slow")
}

func TestFigures(t *testing.T) {
	control := rollout.Figures{Runs: 100, Errors: 1, Micros: 99 * 1000, Score: 99 * 0.9}
	for _, tc := range []struct {
		name  string
		after rollout.Figures
		phase rollout.Phase
		why   string
	}{
		{"good", rollout.Figures{Runs: 100, Errors: 2, Micros: 98 * 1500, Score: 98 * 0.85}, rollout.Done, ""},
		{"too few to judge", rollout.Figures{Runs: 9, Errors: 9}, rollout.Canary, "9"},
		{"errors", rollout.Figures{Runs: 100, Errors: 20, Micros: 80 * 1000, Score: 80 * 0.9}, rollout.Aborting, "errors: 20.0 %"},
		{"latency", rollout.Figures{Runs: 100, Micros: 100 * 2500, Score: 100 * 0.9}, rollout.Aborting, "latency: 2.50 ms"},
		{"score", rollout.Figures{Runs: 100, Micros: 100 * 1000, Score: 100 * 0.5}, rollout.Aborting, "score of the first label: 0.500"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := begin(t, []string{"t/a"}, nil, rollout.Rules{MinRuns: 50, JudgeRuns: 10, MaxSlowdown: 2, MaxScoreDrop: 0.2})
			h.do(rollout.Event{Kind: rollout.Results, Device: "t/a", Digest: older.Digest, Figures: control})
			h.do(rollout.Event{Kind: rollout.Start})
			h.report("t/a", wire.StateActive, "")
			h.do(rollout.Event{Kind: rollout.Results, Device: "t/a", Digest: newer.Digest, Figures: tc.after})
			if h.s.Phase != tc.phase {
				t.Fatalf("phase %s (%s), want %s", h.s.Phase, h.s.Why, tc.phase)
			}
			if tc.phase == rollout.Aborting {
				h.want(rollout.Aborting, tc.why)
			}
		})
	}
}

func TestGoneCanaryIsNotAProof(t *testing.T) {
	h := begin(t, []string{"t/a"}, []string{"t/b"}, rollout.Rules{DeadlineS: 60})
	h.do(rollout.Event{Kind: rollout.Start})
	h.do(rollout.Event{Kind: rollout.Gone, Device: "t/a"})
	h.want(rollout.Canary, "")
	h.now = h.now.Add(time.Hour)
	h.do(rollout.Event{Kind: rollout.Tick})
	h.want(rollout.Paused, "none of 0 devices")
}

func TestNewRefuses(t *testing.T) {
	for name, p := range map[string]rollout.Plan{
		"no model":  {Canary: []string{"t/a"}},
		"no canary": {New: newer, Rest: []string{"t/a"}},
		"twice":     {New: newer, Canary: []string{"t/a"}, Rest: []string{"t/a"}},
	} {
		if _, err := rollout.New(p); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRandomHistories throws events of every kind, in any order and with any
// content, at rollouts, and checks after each what must always hold.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(200) {
		randomHistory(t, seed)
	}
}

func randomHistory(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	var canary, rest []string
	for i := range 1 + r.IntN(6) {
		name := fmt.Sprintf("t/d%d", i)
		if i == 0 || r.IntN(3) == 0 {
			canary = append(canary, name)
		} else {
			rest = append(rest, name)
		}
	}
	h := begin(t, canary, rest, rollout.Rules{DeadlineS: 100, MinRuns: int64(r.IntN(30)), MaxSlowdown: 2, MaxScoreDrop: 0.3})
	everAll := false
	for range 120 {
		e := randomEvent(r, len(canary)+len(rest))
		before, _ := json.Marshal(h.s)
		again, cmds := rollout.Next(h.s, e, h.now)
		n := len(h.order)
		h.do(e)
		if !reflect.DeepEqual(h.s, again) || !reflect.DeepEqual(append([]rollout.Command{}, h.order[n:]...), append([]rollout.Command{}, cmds...)) {
			t.Fatalf("seed %d: two answers to the same event", seed)
		}
		var restored rollout.State
		if err := json.Unmarshal(before, &restored); err != nil {
			t.Fatal(err)
		}
		if again, _ = rollout.Next(restored, e, h.now); !sameJSON(t, again, h.s) {
			t.Fatalf("seed %d: a restart changes what happens", seed)
		}
		everAll = everAll || h.s.Phase == rollout.All || h.s.Phase == rollout.Done
		checkCommands(t, seed, h, n, canary, everAll)
		h.now = h.now.Add(time.Duration(r.IntN(20)) * time.Second)
	}
	h.now = h.now.Add(time.Hour)
	h.do(rollout.Event{Kind: rollout.Tick})
	if p := h.s.Phase; !p.Ended() && p != rollout.Paused && p != rollout.Draft {
		t.Fatalf("seed %d: %s after the deadline", seed, p)
	}
	h.do(rollout.Event{Kind: rollout.Abort, Why: "end"})
	h.now = h.now.Add(time.Hour)
	h.do(rollout.Event{Kind: rollout.Tick})
	if !h.s.Phase.Ended() {
		t.Fatalf("seed %d: %s after an abort and its deadline", seed, h.s.Phase)
	}
	if h.s.Phase == rollout.RolledBack {
		for d, told := range h.told {
			if told != older && h.s.Device(d) != nil {
				t.Fatalf("seed %d: %s was told %v last, although all was rolled back", seed, d, told)
			}
		}
	}
}

func checkCommands(t *testing.T, seed uint64, h *history, from int, canary []string, everAll bool) {
	t.Helper()
	for _, c := range h.order[from:] {
		if c.Back {
			if c.Target != older {
				t.Fatalf("seed %d: rollback of %s names %v", seed, c.Device, c.Target)
			}
			continue
		}
		if c.Target != newer {
			t.Fatalf("seed %d: %s was given %v", seed, c.Device, c.Target)
		}
		isCanary := false
		for _, name := range canary {
			isCanary = isCanary || name == c.Device
		}
		if !isCanary && !everAll {
			t.Fatalf("seed %d: %s got the new model in phase %s", seed, c.Device, h.s.Phase)
		}
	}
}

func randomEvent(r *rand.Rand, devices int) rollout.Event {
	kinds := []rollout.EventKind{
		rollout.Start, rollout.Pause, rollout.Resume, rollout.Tick, rollout.Running, rollout.Results, rollout.Gone,
		rollout.Report, rollout.Report, rollout.Report, rollout.Report, rollout.Abort, "nonsense",
	}
	kind := kinds[r.IntN(len(kinds))]
	if (kind == rollout.Abort || kind == rollout.Gone) && r.IntN(8) != 0 {
		kind = rollout.Start
	}
	digests := []string{older.Digest, newer.Digest, newer.Digest, "sha256:other", ""}
	states := []wire.State{wire.StateFetching, wire.StateExamining, wire.StateTrial, wire.StateActive, wire.StateActive, wire.StateActive, wire.StateRefused, wire.StateReverted, "?"}
	reasons := []wire.Reason{wire.ReasonNoSpace, wire.ReasonFetch, wire.ReasonExam, wire.ReasonCommand, ""}
	return rollout.Event{
		Kind: kind, Device: fmt.Sprintf("t/d%d", r.IntN(devices+1)), Digest: digests[r.IntN(len(digests))], Online: r.IntN(4) != 0,
		Report:  wire.Report{Kind: wire.OfferModel, Digest: digests[r.IntN(len(digests))], State: states[r.IntN(len(states))], Reason: reasons[r.IntN(len(reasons))]},
		Figures: rollout.Figures{Runs: r.Int64N(60), Errors: r.Int64N(3), Micros: r.Int64N(60000), Score: r.Float64() * 60},
	}
}

func sameJSON(t *testing.T, a, b rollout.State) bool {
	t.Helper()
	x, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(x) == string(y)
}

// An agent goes the way of models, by the reports and the twin of its own kind.
func TestAgentRollout(t *testing.T) {
	agent := rollout.Target{Name: "dunlin-agent", Version: 2000, Digest: "sha256:agent"}
	draft := func() *history {
		s, err := rollout.New(rollout.Plan{ID: "r1", Kind: wire.OfferAgent, New: agent, Canary: []string{"a", "b"}, Created: start})
		if err != nil {
			t.Fatal(err)
		}
		h := &history{t: t, s: s, now: start, told: map[string]rollout.Target{}}
		for _, d := range []string{"a", "b"} {
			h.do(rollout.Event{Kind: rollout.Running, Device: d, Of: wire.OfferAgent, Nothing: true, Online: true})
		}
		h.do(rollout.Event{Kind: rollout.Start})
		return h
	}
	report := func(h *history, device string, st wire.State, why wire.Reason) {
		h.do(rollout.Event{Kind: rollout.Report, Device: device, Report: wire.Report{
			Kind: wire.OfferAgent, Name: agent.Name, Version: agent.Version, Digest: agent.Digest, State: st, Reason: why,
		}})
	}
	h := draft()
	h.report("a", wire.StateActive, "") // of a model: it says nothing
	if d := h.s.Device("a"); d.Stage != rollout.Assigned {
		t.Errorf("%+v", d)
	}
	report(h, "a", wire.StateActive, "")
	report(h, "b", wire.StateExamining, "")
	// It restarts, or crashes again and again: that it is offline does not pass the wave.
	h.do(rollout.Event{Kind: rollout.Running, Device: "b", Of: wire.OfferAgent})
	h.want(rollout.Canary, "")
	h.do(rollout.Event{Kind: rollout.Running, Device: "b", Of: wire.OfferAgent, Digest: agent.Digest, Online: true})
	report(h, "b", wire.StateActive, "")
	h.want(rollout.Done, "")

	h = draft()
	report(h, "a", wire.StateActive, "")
	report(h, "b", wire.StateTrial, "")
	report(h, "b", wire.StateReverted, wire.ReasonCrashed)
	h.want(rollout.Aborting, "crashed")
	if to, told := h.told["a"]; !told || to.Digest != "" {
		t.Errorf("a is told %+v", to)
	}
	// That no model answers there says nothing of the agent.
	h.do(rollout.Event{Kind: rollout.Running, Device: "a", Nothing: true, Online: true})
	h.want(rollout.Aborting, "")
	h.do(rollout.Event{Kind: rollout.Running, Device: "a", Of: wire.OfferAgent, Nothing: true, Online: true})
	h.want(rollout.RolledBack, "")
}
