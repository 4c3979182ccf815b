//go:build board

package e2e_test

import (
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

var idle = flag.Duration("idle", 20*time.Second, "how long TestWear watches a board that has nothing to do")

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

// written sums what the card got while its log grew from one length to another.
func written(t *testing.T, log, image string, from, to int64) (bytes int64, flushes int) {
	t.Helper()
	for _, e := range openLog(t, log, image).Entries {
		if e.End <= from || e.End > to || e.Discard {
			continue
		}
		if bytes += e.Length; e.Flush {
			flushes++
		}
	}
	return bytes, flushes
}

// The limits of what is written to a card, in bytes.
const (
	maxWearResult  = 1024     // for a result of 256 bytes, in groups
	maxWearPicture = 12 << 10 // for a picture of the folder, beside what it takes to put it there
	maxWearIdle    = 1 << 20  // an hour in which nothing happens
)

// TestWear bounds what the agent writes to its card: for results in groups,
// for pictures of a folder, and when nothing happens.
func TestWear(t *testing.T) {
	t.Parallel()
	const pictures = 48
	e, f := theExample(t), startBoardFleet(t)
	picture := readFile(t, filepath.Join(e.dir, "samples", firstPNG(t, e)))
	b := f.ordealBoard("wear", ordeal{config: "[http]\nmax_in_flight = 200\n[outbox]\nflush_ms = 10000\n"})
	f.offer(e)
	boot, log := logged(t, b.disk)
	b.start(boot)
	b.runs(e.digest)
	measure := func(what string, do func() int) float64 {
		b.quiet(log, 12*time.Second)
		from := logSize(t, log)
		n := do()
		b.quiet(log, 12*time.Second)
		bytes, flushes := written(t, log, b.disk, from, logSize(t, log))
		each := float64(bytes) / float64(n)
		t.Logf("%d %s: %d bytes, %d flushes; %.0f bytes each", n, what, bytes, flushes, each)
		return each
	}

	feed := newFeeder(picture)
	size := 0
	feed.tell = func(r wire.Result) {
		text, err := json.Marshal(r)
		if err != nil {
			t.Error(err)
		}
		size += len(text)
	}
	each := measure("results in groups", func() int {
		stop := feed.feed(b.vm, 100)
		wait(t, 5*time.Minute, "600 answers", func() error {
			feed.mu.Lock()
			defer feed.mu.Unlock()
			if n := len(feed.acked); n < 600 {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
		stop()
		return len(feed.acked)
	})
	body := float64(size) / float64(len(feed.acked))
	// The bound is for results of 256 bytes. What a result has more of is written
	// with its page, which is up to twice as long; and a machine that is slow to
	// emulate gives the file system's journal, every 5 s, more times to write.
	if limit := maxWearResult + 3*max(0, body-256); each > limit {
		t.Errorf("%.0f bytes are written for a result of %.0f, limit %.0f", each, body, limit)
	}
	t.Logf("a result has %.0f bytes", body)

	fill := func(dir string) int {
		for i := range pictures {
			if err := b.vm.Put(t.Context(), fmt.Sprintf("%s/%05d.png", dir, i), withNote(picture, uint64(i))); err != nil {
				t.Fatal(err)
			}
		}
		return pictures
	}
	elsewhere := measure("pictures put elsewhere", func() int { return fill("/elsewhere") })
	answered := measure("pictures of the folder", func() int {
		fill("/" + inboxDir)
		wait(t, 3*time.Minute, "the inbox to be empty", func() error {
			names, err := b.vm.List(t.Context(), "/"+inboxDir)
			if err == nil && len(names) > 2 {
				err = fmt.Errorf("%d names", len(names))
			}
			return err
		})
		return pictures
	})
	if answered-elsewhere > maxWearPicture {
		t.Errorf("%.0f bytes are written for a picture of the folder, limit %d", answered-elsewhere, maxWearPicture)
	}

	b.quiet(log, 35*time.Second) // the kernel writes out what was not synced after 30 s
	from := logSize(t, log)
	time.Sleep(*idle) // the time that is measured
	bytes, _ := written(t, log, b.disk, from, logSize(t, log))
	hour := float64(bytes) * float64(time.Hour) / float64(*idle)
	t.Logf("idle: %d bytes in %v, %.0f an hour", bytes, *idle, hour)
	if hour > maxWearIdle {
		t.Errorf("%.0f bytes an hour are written for nothing, limit %d", hour, maxWearIdle)
	}
}

// quiet waits until the card has got nothing for so long.
func (b *board) quiet(log string, long time.Duration) {
	b.t.Helper()
	size, since := logSize(b.t, log), time.Now()
	wait(b.t, 3*time.Minute, "the card to be quiet", func() error {
		if now := logSize(b.t, log); now != size {
			size, since = now, time.Now()
		}
		if quiet := time.Since(since); quiet < long {
			return fmt.Errorf("written to %v ago", quiet)
		}
		return nil
	})
}
