//go:build board

package e2e_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dunlin/firmware-tools/vm"
	"dunlin/hub/rollout"
	"dunlin/internal/release"
	"dunlin/sync/wire"
)

var (
	cuts    = flag.Int("cuts", 40, "how often TestPowerCuts cuts the power")
	cutSeed = flag.Uint64("cutseed", 0, "seed of the power cuts; 0: another one each time")
)

func sum(data []byte) [32]byte { return sha256.Sum256(data) }

// cutting is a board whose power is cut again and again, and what came of it.
type cutting struct {
	t     *testing.T
	f     *fleet
	b     *board
	rnd   *rand.Rand
	all   []known
	given map[string]bool // pictures that lay on the card from the first
	feed  *feeder
	facts []byte
	wrong []string // what may not happen
	did   map[string]int
	pushN int

	releases []string // of the agent, from 1.1.0 on
}

func (c *cutting) note(format string, a ...any) { c.wrong = append(c.wrong, fmt.Sprintf(format, a...)) }

// newCutting makes a board with so many pictures on its card.
func newCutting(t *testing.T, name string, seed uint64, pictures int, o ordeal) *cutting {
	e, f := theExample(t), startBoardFleet(t)
	path := filepath.Join(e.dir, "samples", firstPNG(t, e))
	c := &cutting{
		t: t, f: f, rnd: rand.New(rand.NewPCG(seed, 2)), given: map[string]bool{}, feed: newFeeder(readFile(t, path)),
		all: knownModels(t, e, 4, path), facts: readFile(t, filepath.Join(e.dir, "garments.nt")), did: map[string]int{},
	}
	if o.files == nil {
		o.files = vm.Files{}
	}
	for i := range pictures {
		data := withNote(c.feed.picture, uint64(i))
		c.given[digestOf(data)] = true
		o.files[fmt.Sprintf("%s%05d.png", inboxDir, i)] = vm.File{Data: data}
	}
	c.b = f.ordealBoard(name, o)
	for _, k := range c.all {
		f.push(k.dir)
	}
	c.pushFacts()
	f.must("POST", "/v1/rollouts", map[string]any{"model": "garments", "version": 2, "trial": wire.TrialRules{Seconds: 1, MaxMillis: 60_000}}, nil)
	return c
}

// agents builds the agent for the board in versions 1.0.0 to 1.3.0, and packs
// and signs all but the first.
var agents = sync.OnceValues(func() (dirs []string, err error) {
	e, err := makeExample()
	if err != nil {
		return nil, err
	}
	for i := range 4 {
		version := fmt.Sprintf("1.%d.0", i)
		dir := filepath.Join(programs, "board-"+version)
		dirs = append(dirs, dir)
		build := exec.Command("go", "build", "-trimpath", "-tags", "nethttpomithttp2", "-ldflags", "-s -w -X dunlin/agent.Version="+version, "-o", dir+"/", "dunlin/cmd/dunlin-agent")
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("agent %s: %w: %s", version, err, out)
		}
		if i == 0 {
			continue
		}
		for _, args := range [][]string{
			{"agent", "pack", filepath.Join(dir, "dunlin-agent"), "--version", version, "-o", dir + "-release"},
			{"agent", "sign", dir + "-release", "--key", e.key},
		} {
			if out, err := exec.Command(filepath.Join(programs, "dunlin"), args...).CombinedOutput(); err != nil {
				return nil, fmt.Errorf("dunlin %s: %w: %s", strings.Join(args, " "), err, out)
			}
		}
	}
	return dirs, nil
})

// withUpdates has the board begin with agent 1.0.0, and the hub know the later
// ones.
func (c *cutting) withUpdates() {
	dirs, err := agents()
	if err != nil {
		c.t.Fatal(err)
	}
	for i, dir := range dirs[1:] {
		c.releases = append(c.releases, fmt.Sprintf("1.%d.0", i+1))
		dunlin(c.t, "agent", "push", dir+"-release", "--hub", c.f.http, "--token", c.f.token)
	}
}

// pushFacts gives the hub a version of the facts with one more than before.
func (c *cutting) pushFacts() {
	c.t.Helper()
	c.pushN++
	c.facts = fmt.Appendf(c.facts, "<urn:cut:%d> <http://www.w3.org/2000/01/rdf-schema#label> \"cut %d\" .\n", c.pushN, c.pushN)
	path := filepath.Join(c.f.dir, "garments.nt")
	if err := os.WriteFile(path, c.facts, 0o644); err != nil {
		c.t.Fatal(err)
	}
	dunlin(c.t, "facts", "push", path, "--hub", c.f.http, "--token", c.f.token)
}

// ended tells whether no rollout is under way.
func (c *cutting) ended() bool {
	var list struct{ Rollouts []rollout.State }
	c.f.must("GET", "/v1/rollouts", nil, &list)
	return !slices.ContainsFunc(list.Rollouts, func(r rollout.State) bool { return r.Phase != rollout.Done && r.Phase != rollout.RolledBack })
}

// rollOut starts the next rollout of a model or, with update, of the agent,
// unless one is under way: then the cut meets that one again.
func (c *cutting) rollOut(update bool) {
	if !c.ended() {
		return
	}
	if update && len(c.releases) > 0 {
		n, err := release.Number(c.releases[0])
		if err != nil {
			c.t.Fatal(err)
		}
		c.releases = c.releases[1:]
		c.did["rollouts of agents"]++
		c.f.must("POST", "/v1/rollouts", map[string]any{"model": release.Name, "version": n}, nil)
		return
	}
	version := 2 + (c.did["rollouts of models"]+1)%len(c.all)
	c.did["rollouts of models"]++
	c.f.must("POST", "/v1/rollouts", map[string]any{"model": "garments", "version": version, "trial": wire.TrialRules{Seconds: 1, MaxMillis: 60_000}}, nil)
}

// boot gives the board power and returns when its agent is ready. A model must
// answer, and rightly; an agent that just becomes another may be asked again.
func (c *cutting) boot() {
	c.t.Helper()
	c.b.start(vm.Boot{})
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	r, err := c.feed.one(ctx, c.b.vm)
	for err != nil && ctx.Err() == nil {
		time.Sleep(50 * time.Millisecond)
		r, err = c.feed.one(ctx, c.b.vm)
	}
	if err == nil {
		err = right(r, c.all)
	}
	if err != nil {
		c.note("after a boot: %v", err)
	}
}

// cut cuts the power at some moment while something of a kind is under way.
func (c *cutting) cut(kind string) {
	c.t.Helper()
	c.did[kind]++
	wait := func(most time.Duration) { time.Sleep(time.Duration(c.rnd.Int64N(int64(most)))) } // the moment of the blow
	if kind == "boot" {
		v, err := c.b.machine.Start(c.t.Context(), vm.Boot{})
		if err != nil {
			c.t.Fatal(err)
		}
		c.b.vm = v
		wait(2500 * time.Millisecond)
		v.Kill()
	} else {
		c.boot()
		stop := c.feed.feed(c.b.vm, 4)
		switch kind {
		case "inference":
			wait(1200 * time.Millisecond)
		case "model":
			c.rollOut(false)
			wait(2500 * time.Millisecond) // the download, the exam, the trial of a second
		case "update":
			for end := time.Now().Add(20 * time.Second); !c.ended() && time.Now().Before(end); { // a model's is mostly under way
				time.Sleep(50 * time.Millisecond)
			}
			c.rollOut(true)
			wait(5 * time.Second) // 12 MB, another process, a healthy second
		case "facts":
			c.pushFacts()
			wait(700 * time.Millisecond)
		}
		c.b.vm.Kill()
		stop()
	}
	for _, line := range badLines(c.b.vm) {
		c.note("%s: %s", kind, line)
	}
}

// settle boots the board a last time, has it finish, and counts. What is still
// there when nothing has moved for so long is lost.
func (c *cutting) settle(still time.Duration) (lost, twice int) {
	c.t.Helper()
	c.boot()
	want := map[string]bool{}
	for digest := range c.given {
		want[digest] = true
	}
	for digest := range c.feed.acked {
		want[digest] = true
	}
	seen := map[string]int{}
	left, since := -1, time.Now()
	wait(c.t, time.Hour, "the board to have finished", func() error {
		names, err := c.b.vm.List(c.t.Context(), "/"+inboxDir)
		if err != nil {
			return err
		}
		s, err := c.b.status()
		if err != nil {
			return err
		}
		waiting := max(len(names)-2, 0) + int(s.Outbox.Next-s.Outbox.First)
		if waiting != left {
			left, since = waiting, time.Now()
		}
		if left > 0 && time.Since(since) < still {
			return fmt.Errorf("%d names in the inbox, outbox %+v", len(names), s.Outbox)
		}
		if s.Outbox.Dropped != 0 {
			c.note("%d results dropped", s.Outbox.Dropped)
		}
		rows, err := c.f.results()
		clear(seen)
		for _, r := range rows {
			seen[r.Result.Input]++
			if len(r.Result.Labels) == 0 {
				c.note("%s: no labels: %s", r.Result.Input, r.Result.Error)
			}
		}
		return err
	})
	for digest := range want {
		if seen[digest] == 0 {
			lost++
		}
	}
	for digest, n := range seen {
		if n > 1 {
			twice++
		}
		if !c.given[digest] && !c.feed.sent[digest] {
			c.note("a result of %s, which was never given", digest)
		}
	}
	for _, line := range badLines(c.b.vm) {
		c.note("at the end: %s", line)
	}
	return lost, twice
}

// TestPowerCuts cuts the power of two boards again and again: while they
// start, infer, fetch a model, try it, take facts, become another version of
// the agent. Each picture that lay on a card, and each that was answered for,
// must be at the hub exactly once in the end; after each boot a model must
// answer, rightly; no file may be torn; no rollout may hang.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	seed := *cutSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	n := (*cuts + 1) / 2
	for i := range 2 {
		t.Run(fmt.Sprint("board", i+1), func(t *testing.T) {
			t.Parallel()
			t.Logf("%d cuts, seed %d", n, seed)
			begin := time.Now()
			dirs, err := agents()
			if err != nil {
				t.Fatal(err)
			}
			c := newCutting(t, "cut", seed+uint64(i), 25*n, ordeal{
				cardMB: 128, config: "[update]\nhealthy_s = 1\ntries = 10\n",
				files: vm.Files{"usr/bin/dunlin-agent": {Data: readFile(t, filepath.Join(dirs[0], "dunlin-agent")), Mode: 0o755}},
			})
			c.withUpdates()
			c.b.start(vm.Boot{})
			c.b.active(c.all[0].digest) // and off trial: three cuts in a trial would leave no model
			c.b.vm.Kill()
			kinds := []string{"inference", "model", "update", "facts", "model", "update", "boot"}
			for range n {
				c.cut(kinds[c.rnd.IntN(len(kinds))])
			}
			cutting := time.Since(begin)
			lost, twice := c.settle(2 * time.Minute)
			if lost > 0 || twice > 0 {
				c.note("%d results lost, %d counted twice", lost, twice)
			}
			wait(t, time.Minute, "every rollout to be decided", func() error {
				if !c.ended() {
					return errors.New("one is under way")
				}
				return nil
			})
			c.b.stop()
			if err := fsck(t, c.b.disk, "-fn"); err != nil {
				c.note("%v", err)
			}
			if n >= 20 && c.did["rollouts of agents"] == 0 {
				c.note("no agent was rolled out")
			}
			if len(c.wrong) > 0 {
				t.Errorf("seed %d:\n%s", seed, strings.Join(c.wrong, "\n"))
			}
			t.Logf("%v: %d pictures on the card, %d more answered, all at the hub once; %.1f s a cut", c.did, len(c.given), len(c.feed.acked), cutting.Seconds()/float64(n))
		})
	}
}

// TestPowerCutsBite is its control: the same agent, whose syncs succeed and do
// nothing, must be seen to lose results that it answered for.
func TestPowerCutsBite(t *testing.T) {
	t.Parallel()
	seed := uint64(5)
	program := filepath.Join(t.TempDir(), "nosync")
	if err := vm.Build(t.Context(), "dunlin/firmware-tools/vm/nosync", program, "arm64", "", ""); err != nil {
		t.Fatal(err)
	}
	c := newCutting(t, "bite", seed, 0, ordeal{
		files: vm.Files{"usr/bin/nosync": {Data: readFile(t, program), Mode: 0o755}}, exec: []string{"/usr/bin/nosync"},
	})
	c.b.start(vm.Boot{})
	c.b.runs(c.all[0].digest)
	c.b.stop() // with all that it has on the card
	for range 5 {
		c.cut("inference")
	}
	lost, twice := c.settle(20 * time.Second)
	t.Logf("without syncs: %d of %d answered results lost, %d twice, and %q", lost, len(c.feed.acked), twice, c.wrong)
	if lost == 0 {
		t.Errorf("no result was lost without syncs: the cuts do not bite")
	}
}
