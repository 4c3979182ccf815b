//go:build board

package e2e_test

import (
	"path/filepath"
	"testing"
	"time"
)

// TestWearEach is the control of TestWear: what it measures can be too much. An
// agent that writes each result by itself is above the limit.
func TestWearEach(t *testing.T) {
	t.Parallel()
	e, f := theExample(t), startBoardFleet(t)
	feed := newFeeder(readFile(t, filepath.Join(e.dir, "samples", firstPNG(t, e))))
	b := f.ordealBoard("each", ordeal{config: "[outbox]\neach = true\n"})
	f.offer(e)
	boot, log := logged(t, b.disk)
	b.start(boot)
	b.runs(e.digest)
	b.quiet(log, 8*time.Second)
	const n = 50
	from := logSize(t, log)
	some(t, b, feed, n)
	b.quiet(log, 8*time.Second)
	bytes, flushes := written(t, log, b.disk, from, logSize(t, log))
	t.Logf("%d results by themselves: %d bytes, %d flushes; %.0f bytes each", n, bytes, flushes, float64(bytes)/n)
	if bytes < n*maxWearResult || flushes < n {
		t.Errorf("%d bytes and %d flushes for %d results: the measure of TestWear sees too little", bytes, flushes, n)
	}
}
