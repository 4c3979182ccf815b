//go:build board

package e2e_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dunlin/firmware-tools/vm"
	"dunlin/firmware-tools/vm/blocklog"
	"dunlin/sync/wire"
)

var idle = flag.Duration("idle", 25*time.Second, "how long TestWear watches a board that has nothing to do")

// logged is a drive that notes each write to a card, and where.
func logged(t *testing.T, image string) (boot vm.Boot, log string) {
	t.Helper()
	log = image + ".log"
	if err := os.WriteFile(log, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return vm.Boot{Drive: fmt.Sprintf("if=none,id=disk,driver=blklogwrites,file.driver=file,file.filename=%s,log.driver=file,log.filename=%s,log-sector-size=%d", image, log, blocklog.Sector)}, log
}

// logSize is how long the log is now.
func logSize(t *testing.T, log string) int64 {
	t.Helper()
	info, err := os.Stat(log)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// openLog reads what a log has so far.
func openLog(t *testing.T, log, image string) *blocklog.Log {
	t.Helper()
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	l, err := blocklog.Open(f, logSize(t, log), logSize(t, image))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// The limits of what is written to a card, in bytes.
const (
	maxWearResult  = 1024     // for a result in groups of 100
	maxWearPicture = 12 << 10 // for a picture of the folder in groups of 8, beside what it takes to put it there
	maxWearIdle    = 1 << 20  // an hour in which nothing happens
)

// worn is a board whose drive notes each write to its card.
type worn struct {
	*board
	e       example
	log     string
	samples [][]byte // pictures of the example
	note    uint64   // of the next picture: no two are the same
}

// newWorn starts such a board with the example's model.
func newWorn(t *testing.T, name, config string) *worn {
	t.Helper()
	e, f := theExample(t), startBoardFleet(t)
	b := f.ordealBoard(name, ordeal{config: config})
	f.offer(e)
	boot, log := logged(t, b.disk)
	b.start(boot)
	b.runs(e.digest)
	w := &worn{board: b, e: e, log: log}
	names, err := filepath.Glob(filepath.Join(e.dir, "samples", "*.png"))
	if err != nil || len(names) < 10 {
		t.Fatalf("%d pictures, want 10: %v", len(names), err)
	}
	for _, name := range names[:10] {
		w.samples = append(w.samples, readFile(t, name))
	}
	return w
}

// wear is what a card got.
type wear struct {
	bytes   int64
	flushes int
}

func (a wear) each(n int) float64 { return float64(a.bytes) / float64(n) }

// measure returns what the card gets for what do does, whenever it is written:
// the board writes out before what is not do's, and after it what is.
func (w *worn) measure(do func()) (a wear) {
	w.t.Helper()
	from := w.sync()
	do()
	to := w.sync()
	for _, e := range openLog(w.t, w.log, w.disk).Entries {
		if e.End <= from || e.End > to || e.Discard {
			continue
		}
		if a.bytes += e.Length; e.Flush {
			a.flushes++
		}
	}
	return a
}

// sync has the board write out what waits, and returns how long the log is
// then.
func (w *worn) sync() int64 {
	w.t.Helper()
	if err := w.vm.Sync(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return logSize(w.t, w.log)
}

const crowdSize = 100

// crowd has the board answer a hundred pictures at once, so many times; size
// is how long the results are as they are kept. Those hundred are a group: who
// asked waits until its result is written.
func (w *worn) crowd(times int) (size int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 4*time.Minute)
	defer cancel()
	for range times {
		began := time.Now()
		var pictures [][]byte
		for i := range crowdSize {
			pictures = append(pictures, withNote(w.samples[i%10], w.note))
			w.note++
		}
		results, err := w.vm.InferAll(ctx, pictures)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, text := range results {
			var r wire.Result
			if err := json.Unmarshal(text, &r); err != nil || len(r.Labels) == 0 {
				w.t.Fatalf("answer %s: %v", text, err)
			}
			kept, err := json.Marshal(r)
			if err != nil {
				w.t.Fatal(err)
			}
			size += len(kept)
		}
		w.t.Logf("%d answers in %.1f s", crowdSize, time.Since(began).Seconds())
	}
	return size / times / crowdSize
}

// TestWear bounds what the agent writes to its card for results in groups, and
// when nothing happens. flush_ms is longer than an emulated board needs for a
// hundred results, so that their number alone makes the group, as it does on
// one that is quick. Its control is TestWearEach, as for TestWearFolder.
func TestWear(t *testing.T) {
	t.Parallel()
	w := newWorn(t, "wear", "[http]\nmax_in_flight = 200\n[outbox]\nflush_ms = 8000\n")
	w.crowd(1) // it is deleted with the next group, as each is
	const times, n = 3, 3 * crowdSize
	size := 0
	a := w.measure(func() { size = w.crowd(times) })
	t.Logf("%d results of %d bytes in groups: %d bytes, %d flushes; %.0f bytes each", n, size, a.bytes, a.flushes, a.each(n))
	if size < 256 {
		t.Errorf("a result has %d bytes, the limit is for those of 256 and more", size)
	}
	if a.each(n) > maxWearResult {
		t.Errorf("%.0f bytes are written for a result of %d, limit %d", a.each(n), size, maxWearResult)
	}

	a = w.measure(func() { time.Sleep(*idle) }) // the time that is measured
	hour := float64(a.bytes) * float64(time.Hour) / float64(*idle)
	t.Logf("idle: %d bytes in %v, %.0f an hour", a.bytes, *idle, hour)
	if hour > maxWearIdle {
		t.Errorf("%.0f bytes an hour are written for nothing, limit %d", hour, maxWearIdle)
	}
}

// TestWearFolder bounds what the agent writes for pictures of a folder, which
// are a group when the eight that are on their way at once wait for it.
func TestWearFolder(t *testing.T) {
	t.Parallel()
	w := newWorn(t, "folder", "[outbox]\nflush_ms = 5000\n")
	if each := w.folder(32, 1); each > maxWearPicture {
		t.Errorf("%.0f bytes are written for a picture of the folder, limit %d", each, maxWearPicture)
	}
}

// folder has the board answer pictures of its folder, so many at once so many
// times, and returns what the card gets for each, less what it gets for one
// that is put elsewhere.
func (w *worn) folder(atOnce, times int) float64 {
	w.t.Helper()
	fill := func(dir string) {
		for range atOnce {
			w.note++
			if err := w.vm.Put(w.t.Context(), fmt.Sprintf("/%s/%05d.png", dir, w.note), withNote(w.samples[w.note%10], w.note)); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	n := atOnce * times
	elsewhere := w.measure(func() {
		for range times {
			fill("elsewhere")
		}
	})
	answered := w.measure(func() {
		for range times {
			fill(inboxDir)
			w.inboxEmpty()
		}
	})
	each := answered.each(n) - elsewhere.each(n)
	w.t.Logf("%d pictures of the folder, %d at once: %d bytes, %d flushes; put elsewhere: %d, %d; %.0f bytes each",
		n, atOnce, answered.bytes, answered.flushes, elsewhere.bytes, elsewhere.flushes, each)
	return each
}

// inboxEmpty waits until all pictures of the folder were answered: done and
// rejected ones have folders of their own there.
func (w *worn) inboxEmpty() {
	w.t.Helper()
	wait(w.t, 3*time.Minute, "the inbox to be empty", func() error {
		names, err := w.vm.List(w.t.Context(), "/"+inboxDir)
		if err == nil && len(names) > 2 {
			err = fmt.Errorf("%d names", len(names))
		}
		return err
	})
}
