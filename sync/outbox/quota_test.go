package outbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dunlin/sync/wire"
)

// hundred is a body whose record costs 100+29 bytes.
var hundred = []byte(`"` + strings.Repeat("x", 98) + `"`)

// fill puts records one by one: 'r' a result, 'p' a report.
func fill(t testing.TB, b *Outbox, kinds string) {
	t.Helper()
	for _, k := range kinds {
		kind := wire.RecordResult
		if k == 'p' {
			kind = wire.RecordReport
		}
		if _, err := b.Put(t.Context(), kind, hundred); err != nil {
			t.Fatal(err)
		}
	}
}

func TestQuotaDropsOldestResults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	o := Options{Each: true, MaxBytes: 7 * 129}
	b := openBox(t, path, o)
	fill(t, b, "rrprrrr")
	expect(t, "full", show(t, b, 0), "r1 r2 p3 r4 r5 r6 r7")
	fill(t, b, "r")
	expect(t, "one more", show(t, b, 0), "g1+2 p3 r4 r5 r6 r7 r8") // the gap is charged 128 bytes, so two had to go
	fill(t, b, "p")
	expect(t, "a report", show(t, b, 0), "g1+2 p3 g4+2 r6 r7 r8 p9")
	fill(t, b, "r")
	expect(t, "the gap grows", show(t, b, 0), "g1+2 p3 g4+3 r7 r8 p9 r10")
	if got, want := b.State(), (wire.OutboxState{First: 1, Next: 11, Dropped: 5}); got != want {
		t.Errorf("state %+v, want %+v", got, want)
	}
	if b.Bytes() > o.MaxBytes {
		t.Errorf("%d bytes, quota %d", b.Bytes(), o.MaxBytes)
	}

	expect(t, "from inside a gap", show(t, b, 5), "g5+2 r7 r8 p9 r10")
	if err := b.Ack(b.Epoch(), 6); err != nil { // the hub had 4 and 5 before they were dropped
		t.Fatal(err)
	}
	expect(t, "acknowledged into a gap", show(t, b, 0), "g6+1 r7 r8 p9 r10")
	bytesBefore := b.Bytes()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openBox(t, path, o)
	expect(t, "opened again", show(t, b, 0), "g6+1 r7 r8 p9 r10")
	if got, want := b.State(), (wire.OutboxState{First: 6, Next: 11, Dropped: 5}); got != want {
		t.Errorf("opened again: state %+v, want %+v", got, want)
	}
	if b.Bytes() >= bytesBefore {
		t.Errorf("%d bytes, before the sweep %d", b.Bytes(), bytesBefore)
	}
}

func TestQuotaFullOfReports(t *testing.T) {
	b := newBox(t, Options{Each: true, MaxBytes: 4 * 129})
	fill(t, b, "pppp")
	for _, kind := range []wire.RecordKind{wire.RecordResult, wire.RecordReport} {
		if _, err := b.Put(t.Context(), kind, hundred); !errors.Is(err, ErrFull) {
			t.Errorf("%s: %v, want ErrFull", kind, err)
		}
	}
	expect(t, "records", show(t, b, 0), "p1 p2 p3 p4")
	if err := b.Ack(b.Epoch(), 2); err != nil {
		t.Fatal(err)
	}
	fill(t, b, "r") // what was acknowledged makes room first
	expect(t, "records", show(t, b, 0), "p2 p3 p4 r5")
	if got := b.State().Dropped; got != 0 {
		t.Errorf("%d dropped", got)
	}
}

// TestQuotaAgainstModel compares the outbox with a list, over random kinds,
// sizes, acknowledgements and reopenings, of records by themselves and in
// groups; a hub follows it by wire.Unseen and must know of every seq either the
// record or its loss.
func TestQuotaAgainstModel(t *testing.T) {
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 1))
		path := filepath.Join(t.TempDir(), "outbox")
		o, group := Options{Each: true, MaxBytes: 3000}, 1
		if seed >= 8 {
			o, group = Options{FlushDelay: time.Millisecond, MaxBytes: 3000}, 20
		}
		b := openBox(t, path, o)
		kinds := map[int64]wire.RecordKind{} // by seq, all that was put
		hub := hubModel{mark: 1, has: map[int64]string{}}
		for range 120 {
			switch n := r.IntN(12); {
			case n < 8:
				if full := putSome(t, b, r, 1+r.IntN(group), kinds); full {
					hub.take(t, b, 1, 1000)
				}
			case n < 10:
				hub.take(t, b, b.State().First+r.Int64N(3), 1+r.IntN(9))
			case n < 11: // an acknowledgement that arrives
				if err := b.Ack(b.Epoch(), hub.mark); err != nil {
					t.Fatal(err)
				}
			default:
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
				b = openBox(t, path, o)
			}
			if b.Bytes() > o.MaxBytes {
				t.Fatalf("seed %d: %d bytes, quota %d", seed, b.Bytes(), o.MaxBytes)
			}
		}
		for hub.mark < b.State().Next {
			hub.take(t, b, hub.mark, 7)
		}
		lost := int64(0)
		for seq, kind := range kinds {
			switch what := hub.has[seq]; {
			case what == string(kind):
			case what == "lost" && kind == wire.RecordResult:
				lost++
			default:
				t.Errorf("seed %d: %s %d is %q at the hub", seed, kind, seq, what)
			}
		}
		if int64(len(kinds)) != b.State().Next-1 || lost > b.State().Dropped {
			t.Errorf("seed %d: %d put, %d lost, state %+v", seed, len(kinds), lost, b.State())
		}
	}
}

// putSome puts n records at once and adds their kinds, by seq. It reports
// whether there was room for all.
func putSome(t *testing.T, b *Outbox, r *rand.Rand, n int, kinds map[int64]wire.RecordKind) (full bool) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range n {
		kind, noise := wire.RecordResult, make([]byte, r.IntN(150))
		if r.IntN(4*n) == 0 {
			kind = wire.RecordReport
		}
		for i := range noise {
			noise[i] = byte(r.Uint32())
		}
		wg.Go(func() {
			seq, err := b.Put(context.Background(), kind, fmt.Appendf(nil, `"%x"`, noise))
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, ErrFull) {
				full = true
			} else if err != nil {
				t.Error(err)
			} else {
				kinds[seq] = kind
			}
		})
	}
	wg.Wait()
	return full
}

// hubModel stores what a batch brings, by the hub's rule.
type hubModel struct {
	mark int64
	has  map[int64]string // by seq: kind, or "lost"
}

func (h *hubModel) take(t testing.TB, b *Outbox, from int64, n int) {
	t.Helper()
	records, err := b.Next(from, n, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if len(records) == 0 {
		return
	}
	data, err := wire.EncodeBatch(b.Epoch(), records)
	if err != nil {
		t.Fatal(err)
	}
	_, records, err = wire.DecodeBatch(data)
	if err != nil {
		t.Fatal(err)
	}
	fresh, next, err := wire.Unseen(records, h.mark)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range fresh {
		end, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		what := string(r.Kind)
		if r.Kind == wire.RecordGap {
			what = "lost"
		}
		for s := r.Seq; s < end; s++ {
			if h.has[s] != "" {
				t.Fatalf("%d was stored as %s, now it is %s", s, h.has[s], what)
			}
			h.has[s] = what
		}
	}
	h.mark = next
}
