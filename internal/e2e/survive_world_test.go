//go:build board

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dunlin/firmware-tools/vm"
	"dunlin/sync/wire"
)

// world is a board with a model, and a feeder for it.
func world(t *testing.T, name string, o ordeal, boot func(*board) vm.Boot) (*fleet, *board, *feeder) {
	e, f := theExample(t), startBoardFleet(t)
	feed := newFeeder(readFile(t, filepath.Join(e.dir, "samples", firstPNG(t, e))))
	b := f.ordealBoard(name, o)
	f.offer(e)
	b.start(boot(b))
	b.runs(e.digest)
	return f, b, feed
}

func plain(*board) vm.Boot { return vm.Boot{} }

// some has the board answer so many pictures, each within a minute.
func some(t *testing.T, b *board, feed *feeder, n int) (last wire.Result) {
	t.Helper()
	for range n {
		wait(t, time.Minute, "an answer", func() (err error) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			last, err = feed.one(ctx, b.vm)
			return err
		})
	}
	return last
}

// arrive waits until all that was answered is at the hub, each once. A picture
// that was sent and not answered may be there too, once.
func (f *fleet) arrive(feed *feeder) {
	f.t.Helper()
	wait(f.t, 2*time.Minute, "the results to arrive", func() error {
		rows, err := f.results()
		if err != nil {
			return err
		}
		seen := map[string]int{}
		for _, r := range rows {
			if seen[r.Result.Input]++; seen[r.Result.Input] > 1 {
				f.t.Fatalf("%s arrived twice", r.Result.Input)
			}
		}
		feed.mu.Lock()
		defer feed.mu.Unlock()
		lost := 0
		for digest := range feed.acked {
			if seen[digest] == 0 {
				lost++
			}
		}
		if lost > 0 {
			return fmt.Errorf("%d of %d are not there", lost, len(feed.acked))
		}
		return nil
	})
}

// starts fails where the service of the board did not start that often.
func (b *board) starts(want int) {
	b.t.Helper()
	s, err := b.vm.State(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	if s.Starts != want {
		b.t.Errorf("the agent was started %d times, want %d: %+v", s.Starts, want, s)
	}
}

// TestClockOfABoard: a board wakes up in 2001, and its clock jumps forth and
// back by years. What the results say shows that it did.
func TestClockOfABoard(t *testing.T) {
	t.Parallel()
	wake := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	f, b, feed := world(t, "clock", ordeal{}, func(*board) vm.Boot { return vm.Boot{Clock: wake} })
	for _, at := range []time.Time{wake, time.Date(2037, 5, 1, 0, 0, 0, 0, time.UTC), time.Date(2003, 5, 1, 0, 0, 0, 0, time.UTC), time.Now()} {
		if at != wake {
			if err := b.vm.SetClock(t.Context(), at); err != nil {
				t.Fatal(err)
			}
		}
		r := some(t, b, feed, 3)
		if away := r.Clock.Wall.Sub(at).Abs(); away > 10*time.Minute {
			t.Errorf("a result of %v says that it is of %v", at, r.Clock.Wall)
		}
		b.give(fmt.Sprintf("%d.png", at.Year()), withNote(feed.picture, uint64(at.Year())))
		f.resultOf("clock", fmt.Sprintf("%d.png", at.Year()))
	}
	f.arrive(feed)
	b.starts(1)
}

// TestFullDisk: without room for a result a picture is refused, not lost; with
// room again the board goes on by itself.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	f, b, feed := world(t, "full", ordeal{}, plain)
	some(t, b, feed, 5)
	var full error
	for size, i := 16<<20, 0; size >= 4<<10; i++ {
		if err := b.vm.Put(t.Context(), fmt.Sprintf("/filler/%d", i), make([]byte, size)); err != nil {
			full = err
			size /= 2
		}
	}
	if full == nil || !strings.Contains(full.Error(), "no space") {
		t.Fatalf("the disk is not full: %v", full)
	}
	// Without the hub nothing leaves the outbox, so that its file has to grow.
	f.hub.kill()
	var refused atomic.Int32
	for i := 0; i < 3000 && refused.Load() < 3; i += inFlight {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		var all sync.WaitGroup
		for range inFlight {
			all.Go(func() {
				if _, err := feed.one(ctx, b.vm); err != nil && refused.Add(1) == 1 {
					t.Logf("after about %d answers: %v", i, err)
				}
			})
		}
		all.Wait()
		cancel()
	}
	if refused.Load() == 0 {
		t.Error("nothing was refused on a full disk")
	}
	if err := b.vm.Remove(t.Context(), "/filler"); err != nil {
		t.Fatal(err)
	}
	some(t, b, feed, 5)
	f.hub.start()
	f.up()
	f.arrive(feed)
	b.starts(1)
}

// inFlight is how many pictures an agent takes at once.
const inFlight = 8

// TestBrokenCard: a card that fails a flush once makes the kernel give up the
// file system. What was answered before is there after the next boot, with a
// card that works; what came after was refused.
func TestBrokenCard(t *testing.T) {
	t.Parallel()
	const after = 150 // flushes: of a first boot with a model there are less
	var rules strings.Builder
	for i := 1; i < after; i++ {
		fmt.Fprintf(&rules, "[set-state]\nevent = \"flush_to_disk\"\nstate = \"%d\"\nnew_state = \"%d\"\n\n", i, i+1)
	}
	fmt.Fprintf(&rules, "[inject-error]\nevent = \"flush_to_disk\"\niotype = \"flush\"\nerrno = \"5\"\nstate = \"%d\"\n", after)
	f, b, feed := world(t, "broken", ordeal{}, func(b *board) vm.Boot {
		conf := b.disk + ".conf"
		if err := os.WriteFile(conf, []byte(rules.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return vm.Boot{Drive: "if=none,id=disk,driver=raw,file.driver=blkdebug,file.config=" + conf + ",file.image.driver=file,file.image.filename=" + b.disk}
	})
	refused := 0
	for i := 0; i < 300 && refused < 3; i++ {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if _, err := feed.one(ctx, b.vm); err != nil {
			refused++
			if refused == 1 {
				t.Logf("after %d answers: %v", i, err)
			}
		}
		cancel()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := b.vm.WaitLine(ctx, func(line string) bool {
		return strings.Contains(line, "input/output error") || strings.Contains(line, "read-only file system")
	}); err != nil {
		t.Errorf("the agent does not say what is wrong: %v", err)
	}
	if refused == 0 {
		t.Error("nothing was refused: the card did not fail")
	}
	answered := len(feed.acked)
	b.vm.Kill()
	b.start(vm.Boot{})
	some(t, b, feed, 3)
	f.arrive(feed)
	t.Logf("%d answers before and during the fault, all at the hub", answered)
}

// TestSmallMemory: 128 MB are enough, also when half of what Linux lets
// programs have in files in memory is taken.
func TestSmallMemory(t *testing.T) {
	t.Parallel()
	f, b, feed := world(t, "small", ordeal{memoryMB: 128}, plain)
	some(t, b, feed, 20)
	taken := 0
	for ; taken < 128; taken += 4 {
		if err := b.vm.Put(t.Context(), fmt.Sprintf("/tmp/%d", taken), make([]byte, 4<<20)); err != nil {
			break
		}
	}
	if taken == 0 || taken > 64 {
		t.Errorf("a file system of half of the memory took %d MB: the board has more memory than it should", taken)
	}
	some(t, b, feed, 20)
	f.arrive(feed)
	b.starts(1)
	t.Logf("%d MB of the memory taken", taken)
}

// TestSlowCard: a card that takes 40 writes a second delays answers and
// downloads, and nothing else.
func TestSlowCard(t *testing.T) {
	t.Parallel()
	var log string
	begin := time.Now()
	f, b, feed := world(t, "slowcard", ordeal{}, func(b *board) vm.Boot {
		boot, l := logged(t, b.disk)
		log = l
		boot.Drive += ",throttling.iops-write=40"
		return boot
	})
	stop := feed.feed(b.vm, 8)
	wait(t, 2*time.Minute, "50 answers", func() error {
		feed.mu.Lock()
		defer feed.mu.Unlock()
		if n := len(feed.acked); n < 50 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	stop()
	f.arrive(feed)
	b.starts(1)
	writes := 0
	for _, e := range openLog(t, log, b.disk).Entries {
		if !e.Flush && !e.Discard {
			writes++
		}
	}
	took := time.Since(begin).Seconds()
	t.Logf("%d answers, %d writes in %.1f s", len(feed.acked), writes, took)
	if float64(writes) > 40*(took+2) {
		t.Errorf("%d writes in %.1f s: the card was not slow", writes, took)
	}
}

// TestHubGoneForLong: the outbox reaches its quota while the hub is away. It
// drops the oldest results, and the hub is told how many.
func TestHubGoneForLong(t *testing.T) {
	t.Parallel()
	e := theExample(t)
	f, b, feed := world(t, "alone", ordeal{config: "[outbox]\nmax_mb = 1\neach = true\n[facts]\nper_result = 200\n"}, plain)
	dunlin(t, "facts", "push", filepath.Join(e.dir, "garments.nt"), "--hub", f.http, "--token", f.token)
	wait(t, time.Minute, "the facts", func() error {
		s, err := b.status()
		if err == nil && s.Facts == nil {
			err = errors.New("it has none")
		}
		return err
	})
	f.hub.kill()
	stop := feed.feed(b.vm, 8)
	wait(t, 4*time.Minute, "the outbox to drop something", func() error {
		s, err := b.status()
		if err == nil && s.Outbox.Dropped < 50 {
			err = fmt.Errorf("%+v", s.Outbox)
		}
		return err
	})
	stop()
	f.hub.start()
	f.up()
	some(t, b, feed, 1)
	wait(t, 2*time.Minute, "the outbox to be empty", func() error {
		s, err := b.status()
		if err == nil && s.Outbox.First != s.Outbox.Next {
			err = fmt.Errorf("%+v", s.Outbox)
		}
		return err
	})
	s, err := b.status()
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Counts struct{ Results, Dropped int64 }
	}
	f.must("GET", "/v1/devices/e2e/alone", nil, &d)
	rows, err := f.results()
	if err != nil {
		t.Fatal(err)
	}
	seen, unanswered := map[string]bool{}, 0
	for _, r := range rows {
		if seen[r.Result.Input] {
			t.Errorf("%s arrived twice", r.Result.Input)
		}
		seen[r.Result.Input] = true
		if !feed.acked[r.Result.Input] {
			unanswered++ // the last ones, whose answers stop cut off
		}
	}
	missing := int64(0)
	for digest := range feed.acked {
		if !seen[digest] {
			missing++
		}
	}
	t.Logf("%d answered, %d at the hub, %d missing; the board says %d dropped, the hub %d", len(feed.acked), len(rows), missing, s.Outbox.Dropped, d.Counts.Dropped)
	if d.Counts.Dropped != s.Outbox.Dropped || missing > s.Outbox.Dropped || missing < s.Outbox.Dropped-8 || unanswered > 8 {
		t.Errorf("what is missing is not what was declared")
	}
	b.starts(1)
}

// TestBadNetwork: of what the board sends each packet is 600 ms late and one
// of twenty is lost.
func TestBadNetwork(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "netem")
	if err := vm.Build(t.Context(), "dunlin/firmware-tools/vm/netem", program, "arm64", "", ""); err != nil {
		t.Fatal(err)
	}
	const delay = 600 * time.Millisecond
	e, f := theExample(t), startBoardFleet(t)
	feed := newFeeder(readFile(t, filepath.Join(e.dir, "samples", firstPNG(t, e))))
	b := f.ordealBoard("far", ordeal{modules: []string{"sch_netem"}, files: vm.Files{"usr/bin/netem": {Data: readFile(t, program), Mode: 0o755}}})
	b.start(vm.Boot{})
	if _, err := b.vm.Run(t.Context(), "/usr/bin/netem", "-delay", delay.String(), "-loss", "0.05"); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if _, err := b.vm.State(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < delay {
		t.Errorf("an answer came after %v: the network is not bad", took)
	}
	f.offer(e)
	wait(t, 3*time.Minute, "the model to come", func() error {
		s, err := b.status()
		if err == nil && (s.Model == nil || s.Model.Digest != e.digest) {
			err = fmt.Errorf("it runs %+v", s.Model)
		}
		return err
	})
	model := time.Since(begin)
	for i := range 50 {
		b.give(fmt.Sprintf("%d.png", i), withNote(feed.picture, uint64(i)))
		feed.acked[digestOf(withNote(feed.picture, uint64(i)))] = true
	}
	f.arrive(feed)
	b.starts(1)
	t.Logf("a model in %.1f s and 50 results in %.1f s over it", model.Seconds(), (time.Since(begin) - model).Seconds())
}

// TestStoppedAgent: an agent that hangs is started again by the watchdog, and
// without a watchdog stays as it is.
func TestStoppedAgent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		watchdog time.Duration
	}{{"watched", 3 * time.Second}, {"unwatched", -1}} {
		f, b, feed := world(t, c.name, ordeal{watchdog: c.watchdog}, plain)
		some(t, b, feed, 3)
		if err := b.vm.Signal(t.Context(), int(syscall.SIGSTOP)); err != nil {
			t.Fatal(err)
		}
		if c.watchdog < 0 {
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
			if _, err := feed.one(ctx, b.vm); err == nil {
				t.Error("a stopped agent answers")
			}
			cancel()
			b.starts(1)
			continue
		}
		some(t, b, feed, 3)
		f.arrive(feed)
		b.starts(2)
		if s, err := b.vm.State(t.Context()); err != nil || s.Watchdogs != 1 {
			t.Errorf("%+v (%v), want one end by the watchdog", s, err)
		}
	}
}
