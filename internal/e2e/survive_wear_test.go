//go:build board

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dunlin/firmware-tools/vm"
	"dunlin/firmware-tools/vm/blocklog"
)

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

// TestWear bounds what the agent writes to its card: for results in groups,
// for pictures of a folder, and when nothing happens.
func TestWear(t *testing.T) {
	t.Parallel()
	const pictures = 400
	e, f := theExample(t), startBoardFleet(t)
	picture := readFile(t, filepath.Join(e.dir, "samples", firstPNG(t, e)))
	b := f.ordealBoard("wear", ordeal{config: "[http]\nmax_in_flight = 200\n"})
	f.offer(e)
	boot, log := logged(t, b.disk)
	b.start(boot)
	b.runs(e.digest)
	measure := func(what string, n int, do func()) (each float64) {
		b.quiet(log)
		from := logSize(t, log)
		do()
		b.quiet(log)
		bytes, flushes := written(t, log, b.disk, from, logSize(t, log))
		each = float64(bytes) / float64(n)
		t.Logf("%s: %d bytes, %d flushes; %.0f bytes each", what, bytes, flushes, each)
		return each
	}

	feed := newFeeder(picture)
	measure("results in groups", 1000, func() {
		stop := feed.feed(b.vm, 100)
		wait(t, 120*time.Second, "1000 answers", func() error {
			feed.mu.Lock()
			defer feed.mu.Unlock()
			if n := len(feed.acked); n < 1000 {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
		stop()
	})
	t.Logf("%d answers", len(feed.acked))
	measure("pictures of the folder", pictures, func() {
		for i := range pictures {
			b.give(fmt.Sprintf("%05d.png", i), withNote(picture, uint64(i)))
		}
		wait(t, 120*time.Second, "the inbox to be empty", func() error {
			names, err := b.vm.List(t.Context(), "/"+inboxDir)
			if err == nil && len(names) > 2 {
				err = fmt.Errorf("%d names", len(names))
			}
			return err
		})
	})
	begin := time.Now()
	from := logSize(t, log)
	time.Sleep(20 * time.Second) // the time that is measured
	bytes, _ := written(t, log, b.disk, from, logSize(t, log))
	t.Logf("idle: %d bytes in %v", bytes, time.Since(begin))
}

// quiet waits until the card has got nothing for longer than the kernel keeps
// what is not synced: 5 s of ext4's journal, 30 s of the page cache.
func (b *board) quiet(log string) {
	b.t.Helper()
	size, since := logSize(b.t, log), time.Now()
	wait(b.t, 2*time.Minute, "the card to be quiet", func() error {
		if now := logSize(b.t, log); now != size {
			size, since = now, time.Now()
		}
		if quiet := time.Since(since); quiet < 10*time.Second {
			return fmt.Errorf("written to %v ago", quiet)
		}
		return nil
	})
}
