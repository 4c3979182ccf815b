//go:build board

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dunlin/firmware-tools/vm"
	"dunlin/firmware-tools/vm/guest"
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
// drops the oldest results, and the hub is told how many. Each result has a fact
// of 17 KB, so that a hundred are enough.
func TestHubGoneForLong(t *testing.T) {
	t.Parallel()
	e := theExample(t)
	f, b, feed := world(t, "alone", ordeal{config: "[outbox]\nmax_mb = 1\n"}, plain)
	var long strings.Builder
	for line := range strings.Lines(string(readFile(t, filepath.Join(e.dir, "entities.csv")))) {
		if _, kind, _ := strings.Cut(strings.TrimSpace(line), ","); strings.HasPrefix(kind, "https://") {
			fmt.Fprintf(&long, "<%s> <http://www.w3.org/2000/01/rdf-schema#comment> \"%s\" .\n", kind, strings.Repeat("long ", 3400))
		}
	}
	path := filepath.Join(f.dir, "garments.nt")
	if err := os.WriteFile(path, []byte(long.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	dunlin(t, "facts", "push", path, "--hub", f.http, "--token", f.token)
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

// TestBadNetwork: each packet that the board sends or gets is 300 ms late, so a
// round trip takes 600, and one of twenty is lost either way. The model arrives
// whole, and the result of each picture once, none dropped. The control is the
// same network without the loss: the same counters then count none.
func TestBadNetwork(t *testing.T) {
	t.Parallel()
	const delay, loss, pictures = 300 * time.Millisecond, 0.05, 250
	program := filepath.Join(t.TempDir(), "netem")
	if err := vm.Build(t.Context(), "dunlin/firmware-tools/vm/netem", program, "arm64", "", ""); err != nil {
		t.Fatal(err)
	}
	e, f := theExample(t), startBoardFleet(t)
	path := filepath.Join(e.dir, "samples", firstPNG(t, e))
	model, feed := []known{answerOf(t, e.pack, e.digest, path)}, newFeeder(readFile(t, path))
	files := vm.Files{"usr/bin/netem": {Data: readFile(t, program), Mode: 0o755}}
	for i := range pictures { // they wait for the model: the test itself has to go the same bad way
		data := withNote(feed.picture, uint64(i))
		feed.acked[digestOf(data)] = true
		files[fmt.Sprintf("%s%03d.png", inboxDir, i)] = vm.File{Data: data}
	}
	b := f.ordealBoard("far", ordeal{modules: guest.NetemModules, files: files})
	b.start(vm.Boot{})
	if err := b.vm.Service(t.Context(), false); err != nil { // no connection of a better time
		t.Fatal(err)
	}
	b.netem("-delay", delay.String(), "-loss", fmt.Sprint(loss))
	begin := time.Now()
	if err := b.vm.Service(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < 2*delay {
		t.Errorf("an answer came after %v: the network is not bad", took)
	}
	f.offer(e)
	f.arrive(feed)
	took := time.Since(begin)
	rows, err := f.results()
	if err != nil || len(rows) != pictures {
		t.Errorf("%d results of %d pictures: %v", len(rows), pictures, err)
	}
	for _, r := range rows {
		if err := right(r.Result, model); err != nil {
			t.Error(err)
		}
	}
	f.nothingDropped(b)
	sent, got := b.netemCounts()
	t.Logf("the model and %d results in %.1f s; sent %+v, got %+v", pictures, took.Seconds(), sent, got)
	for way, c := range map[string]guest.NetemCount{"sent": sent, "got": got} {
		// Five standard deviations, and more than none: of 200 packets all arrive
		// once in thirty thousand times.
		n := float64(c.Passed + c.Lost)
		most := loss*n + 5*math.Sqrt(loss*(1-loss)*n)
		if n < 200 || c.Lost == 0 || float64(c.Lost) > most {
			t.Errorf("%s: %d packets of %.0f were lost, want 1 to %.0f of at least 200", way, c.Lost, n, most)
		}
	}

	b.netem("-delay", delay.String())
	before, beforeGot := b.netemCounts()
	stop := feed.feed(b.vm, 8)
	wait(t, time.Minute, "100 packets either way", func() error {
		if sent, got = b.netemCounts(); sent.Passed-before.Passed < 100 || got.Passed-beforeGot.Passed < 100 {
			return fmt.Errorf("sent %+v, got %+v", sent, got)
		}
		return nil
	})
	stop()
	f.arrive(feed)
	if sent, got = b.netemCounts(); sent.Lost != before.Lost || got.Lost != beforeGot.Lost {
		t.Errorf("without loss: sent %+v, was %+v; got %+v, was %+v", sent, before, got, beforeGot)
	}
	b.starts(2)
}

// netem runs the program on the board.
func (b *board) netem(args ...string) string {
	b.t.Helper()
	text, err := b.vm.Run(b.t.Context(), append([]string{"/usr/bin/netem"}, args...)...)
	if err != nil {
		b.t.Fatal(err)
	}
	return text
}

func (b *board) netemCounts() (sent, got guest.NetemCount) {
	b.t.Helper()
	var c []guest.NetemCount
	if err := json.Unmarshal([]byte(b.netem("-count")), &c); err != nil || len(c) != 2 {
		b.t.Fatalf("%v: %v", c, err)
	}
	return c[0], c[1]
}

// nothingDropped fails where the board, or the hub, knows of a result that is
// lost.
func (f *fleet) nothingDropped(b *board) {
	f.t.Helper()
	s, err := b.status()
	if err != nil {
		f.t.Fatal(err)
	}
	var d struct {
		Counts struct{ Results, Dropped int64 }
	}
	f.must("GET", "/v1/devices/e2e/"+b.name, nil, &d)
	if s.Outbox.Dropped != 0 || d.Counts.Dropped != 0 {
		f.t.Errorf("dropped: the board says %+v, the hub %+v", s.Outbox, d.Counts)
	}
}

// TestStoppedAgent: an agent that hangs is started again by the watchdog, and
// without a watchdog stays as it is.
func TestStoppedAgent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		watchdog time.Duration
	}{{"watched", 12 * time.Second}, {"unwatched", -1}} {
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
