package outbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dunlin/sync/wire"
)

// quick has no delay worth waiting for.
var quick = Options{FlushDelay: time.Millisecond}

func openBox(t testing.TB, path string, o Options) *Outbox {
	t.Helper()
	b, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func newBox(t testing.TB, o Options) *Outbox {
	return openBox(t, filepath.Join(t.TempDir(), "outbox"), o)
}

func body(n int) []byte { return []byte(fmt.Sprintf(`{"n":%d}`, n)) }

// putAll puts n records of a kind at once and fails on any error.
func putAll(t testing.TB, b *Outbox, kind wire.RecordKind, n int, body []byte) {
	t.Helper()
	var wg sync.WaitGroup
	errs := make(chan error, n)
	for range n {
		wg.Go(func() {
			_, err := b.Put(context.Background(), kind, body)
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// show returns the records that wait, as "r1 r2 p3 g4+2".
func show(t testing.TB, b *Outbox, from int64) string {
	t.Helper()
	records, err := b.Next(from, math.MaxInt, math.MaxInt)
	if err != nil {
		t.Fatal(err)
	}
	var s []string
	for _, r := range records {
		text := fmt.Sprintf("%c%d", kindMarks[r.Kind], r.Seq)
		if r.Kind == wire.RecordGap {
			g, err := r.Gap()
			if err != nil {
				t.Fatal(err)
			}
			text += fmt.Sprintf("+%d", g.Count)
		}
		s = append(s, text)
	}
	// What Next returns is always fit to be sent.
	if len(records) > 0 {
		if _, err := wire.EncodeBatch(b.Epoch(), records); err != nil {
			t.Error(err)
		}
	}
	return strings.Join(s, " ")
}

func expect(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestPutNextAck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	b := openBox(t, path, quick)
	for n := 1; n <= 5; n++ {
		seq, err := b.Put(t.Context(), wire.RecordResult, body(n))
		if err != nil || seq != int64(n) {
			t.Fatalf("put %d: %d, %v", n, seq, err)
		}
	}
	expect(t, "all", show(t, b, 0), "r1 r2 r3 r4 r5")
	expect(t, "from 4", show(t, b, 4), "r4 r5")
	expect(t, "beyond", show(t, b, 6), "")
	if records, err := b.Next(1, 2, math.MaxInt); err != nil || len(records) != 2 {
		t.Errorf("two records: %d, %v", len(records), err)
	}
	if records, err := b.Next(1, 9, 1); err != nil || len(records) != 1 || string(records[0].Body) != `{"n":1}` {
		t.Errorf("one byte: %v, %v", records, err)
	}
	if err := b.Ack(b.Epoch(), 4); err != nil {
		t.Fatal(err)
	}
	expect(t, "after ack", show(t, b, 0), "r4 r5")
	if err := b.Ack(b.Epoch(), 2); err != nil {
		t.Errorf("an older ack: %v", err)
	}
	if err := b.Ack(wire.NewEpoch(), 5); !errors.Is(err, ErrEpoch) {
		t.Errorf("another epoch: %v", err)
	}
	if err := b.Ack(b.Epoch(), 7); !errors.Is(err, ErrAhead) {
		t.Errorf("ahead: %v", err)
	}
	if got, want := b.State(), (wire.OutboxState{First: 4, Next: 6}); got != want {
		t.Errorf("state %+v, want %+v", got, want)
	}
	epoch := b.Epoch()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(t.Context(), wire.RecordResult, body(6)); !errors.Is(err, ErrClosed) {
		t.Errorf("put after close: %v", err)
	}
	if _, err := b.Next(0, 1, 1); !errors.Is(err, ErrClosed) {
		t.Errorf("next after close: %v", err)
	}

	b = openBox(t, path, quick)
	if b.Epoch() != epoch || b.Recovered() != "" {
		t.Errorf("opened again: epoch %s, was %s; recovered %q", b.Epoch(), epoch, b.Recovered())
	}
	expect(t, "opened again", show(t, b, 0), "r4 r5")
	if err := b.Ack(epoch, 6); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openBox(t, path, quick)
	if got, want := b.State(), (wire.OutboxState{First: 6, Next: 6}); got != want {
		t.Errorf("emptied and opened again: %+v, want %+v", got, want)
	}
	if seq, err := b.Put(t.Context(), wire.RecordReport, body(6)); err != nil || seq != 6 {
		t.Errorf("a seq was given twice: %d, %v", seq, err)
	}
}

func TestPutRefuses(t *testing.T) {
	b := newBox(t, quick)
	cases := map[string]struct {
		kind wire.RecordKind
		body []byte
	}{
		"a gap":    {wire.RecordGap, []byte(`{"first":1,"count":1}`)},
		"no kind":  {"", body(1)},
		"not JSON": {wire.RecordResult, []byte(`{`)},
		"nothing":  {wire.RecordResult, nil},
		"too long": {wire.RecordResult, bytes.Repeat([]byte("1"), wire.MaxBody+1)},
	}
	for name, c := range cases {
		if _, err := b.Put(t.Context(), c.kind, c.body); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := b.State(); got.Next != 1 {
		t.Errorf("state %+v", got)
	}
}

// TestGroupCommit: a full group does not wait for its delay, and its records
// cost one transaction.
func TestGroupCommit(t *testing.T) {
	b := newBox(t, Options{FlushDelay: time.Hour, FlushRecords: 10})
	before := b.db.Stats()
	putAll(t, b, wire.RecordResult, 10, body(1))
	after := b.db.Stats()
	diff := after.Sub(&before)
	if n := diff.TxStats.GetWrite(); n > 12 {
		t.Errorf("ten records took %d page writes", n)
	}
	if got := b.State().Next; got != 11 {
		t.Errorf("next is %d", got)
	}
}

func TestFlushByBytes(t *testing.T) {
	b := newBox(t, Options{FlushDelay: time.Hour, FlushBytes: 1000})
	putAll(t, b, wire.RecordResult, 2, []byte(`"`+strings.Repeat("x", 500)+`"`))
	if got := b.State().Next; got != 3 {
		t.Errorf("next is %d", got)
	}
}

func TestPutGivesUp(t *testing.T) {
	b := newBox(t, Options{FlushDelay: time.Hour, FlushRecords: 3})
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	go func() {
		_, err := b.Put(ctx, wire.RecordResult, body(1))
		errs <- err
	}()
	waitFor(t, func() bool { return waiting(b) == 1 })
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled put: %v", err)
	}
	if _, err := b.Put(ctx, wire.RecordResult, body(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("put with a context that ended: %v", err)
	}
	putAll(t, b, wire.RecordResult, 3, body(2)) // the group is full without the first
	expect(t, "records", show(t, b, 0), "r1 r2 r3")
}

func waiting(b *Outbox) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.group == nil {
		return 0
	}
	return len(b.group.entries)
}

// waitFor polls until ok, on real parts, which have no fake clock.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("not within a minute")
		}
	}
}

func TestCloseCommitsWhatWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	b := openBox(t, path, Options{FlushDelay: time.Hour})
	errs := make(chan error)
	go func() {
		_, err := b.Put(context.Background(), wire.RecordReport, body(1))
		errs <- err
	}()
	waitFor(t, func() bool { return waiting(b) == 1 })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	expect(t, "opened again", show(t, openBox(t, path, quick), 0), "p1")
}

func TestChanged(t *testing.T) {
	b := newBox(t, Options{Each: true})
	c := b.Changed()
	select {
	case <-c:
		t.Fatal("closed before anything was put")
	default:
	}
	putAll(t, b, wire.RecordResult, 1, body(1))
	<-c
}

func TestLocked(t *testing.T) {
	b := newBox(t, quick)
	if _, err := Open(b.path, quick); !errors.Is(err, ErrLocked) {
		t.Errorf("second open: %v", err)
	}
	if _, err := os.Stat(badName(b.path, 1)); err == nil {
		t.Error("a file in use was moved aside")
	}
}

func TestConcurrentPutsHaveOwnSeqs(t *testing.T) {
	b := newBox(t, quick)
	const n = 500
	seqs := make(chan int64, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			seq, err := b.Put(context.Background(), wire.RecordResult, body(i))
			if err != nil {
				t.Error(err)
			}
			records, err := b.Next(seq, 1, 1)
			if err != nil || len(records) != 1 || string(records[0].Body) != string(body(i)) {
				t.Errorf("record %d is %v, %v; want %s", seq, records, err, body(i))
			}
			seqs <- seq
		})
	}
	wg.Wait()
	close(seqs)
	seen := map[int64]bool{}
	for s := range seqs {
		if seen[s] || s < 1 || s > n {
			t.Errorf("seq %d", s)
		}
		seen[s] = true
	}
}

func TestDamagedRecordBecomesGap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	b := openBox(t, path, Options{Each: true})
	for n := range 3 {
		putAll(t, b, wire.RecordResult, 1, []byte(fmt.Sprintf(`"record-%d"`, n+1)))
	}
	epoch := b.Epoch()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	flip(t, path, "record-2", "recorD-2")
	b = openBox(t, path, quick)
	expect(t, "records", show(t, b, 0), "r1 g2+1 r3")
	if got := b.State(); got.Dropped != 1 || b.Epoch() != epoch {
		t.Errorf("state %+v, epoch %s, was %s", got, b.Epoch(), epoch)
	}
	records, err := b.Next(2, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	var g wire.Gap
	if err := json.Unmarshal(records[0].Body, &g); err != nil || g.Why != wire.GapDamaged {
		t.Errorf("gap %+v, %v", g, err)
	}
}

// flip replaces all copies of a text in a file: bbolt may have old pages.
func flip(t testing.TB, path, old, new string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, []byte(old)) {
		t.Fatalf("%s does not have %q", path, old)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(data, []byte(old), []byte(new)), 0o600); err != nil {
		t.Fatal(err)
	}
}
