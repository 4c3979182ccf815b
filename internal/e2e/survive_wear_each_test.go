//go:build board

package e2e_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

// TestWearEach is the control of TestWear and TestWearFolder: what they measure
// can be too much. An agent that writes each result by itself is above the
// limits, for results and for pictures; and so is a board on which somebody
// writes a line now and then, for an idle hour.
func TestWearEach(t *testing.T) {
	t.Parallel()
	w := newWorn(t, "each", "[outbox]\neach = true\n")
	feed := newFeeder(readFile(t, filepath.Join(w.e.dir, "samples", firstPNG(t, w.e))))
	const n = 30
	some(t, w.board, feed, n)
	a := w.measure(func() { some(t, w.board, feed, n) })
	t.Logf("%d results by themselves: %d bytes, %d flushes; %.0f bytes each", n, a.bytes, a.flushes, a.each(n))
	if a.each(n) <= maxWearResult || a.flushes < n {
		t.Errorf("%d bytes and %d flushes for %d results: the measure sees too little", a.bytes, a.flushes, n)
	}
	if each := w.folder(1, 10); each <= maxWearPicture {
		t.Errorf("%.0f bytes for a picture of the folder: the measure sees too little", each)
	}

	const lines = 5
	a = w.measure(func() {
		for i := range lines {
			if err := w.vm.Put(t.Context(), "/var/lib/note", fmt.Appendf(nil, "%d\n", i)); err != nil {
				t.Fatal(err)
			}
			w.sync() // as a journal of the system would
			time.Sleep(time.Second)
		}
	})
	hour := a.each(lines) * 3600 / 5
	t.Logf("a line each 5 s: %.0f bytes an hour", hour)
	if hour <= maxWearIdle {
		t.Errorf("%.0f bytes an hour for a line each 5 s: the measure sees too little", hour)
	}
}
