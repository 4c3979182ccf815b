package results_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"dunlin/hub/results"
	"dunlin/sync/wire"
)

const (
	epoch1 = "00000000000000a1"
	epoch2 = "00000000000000a2"
)

var (
	left  = wire.Device{Tenant: "acme", Name: "left"}
	right = wire.Device{Tenant: "acme", Name: "right"}
)

func open(t *testing.T, o results.Options) *results.Store {
	t.Helper()
	s, err := results.Open(filepath.Join(t.TempDir(), "results.db"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func body(t testing.TB, r wire.Result) json.RawMessage {
	t.Helper()
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// result returns record seq: an answer with a label and an input that follow
// from seq.
func result(t testing.TB, seq int64) wire.Record {
	t.Helper()
	r := wire.Result{
		ID: fmt.Sprint(seq), Input: fmt.Sprintf("sha256:%d", seq%7), Micros: 100 + seq,
		Model:  wire.Running{Name: "m", Version: 1, Digest: "sha256:m"},
		Labels: []wire.Label{{Label: fmt.Sprintf("l%d", seq%3), Score: 0.5}},
	}
	if seq%10 == 9 {
		r.Labels, r.Error = nil, "broken picture"
	}
	return wire.Record{Seq: seq, Kind: wire.RecordResult, Body: body(t, r)}
}

func batch(t testing.TB, d wire.Device, epoch string, from, to int64) results.Batch {
	t.Helper()
	b := results.Batch{Device: d, Epoch: epoch}
	for seq := from; seq < to; seq++ {
		b.Records = append(b.Records, result(t, seq))
	}
	return b
}

func add(t *testing.T, s *results.Store, b ...results.Batch) results.Added {
	t.Helper()
	a, err := s.Add(b...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestStoredOnce(t *testing.T) {
	s := open(t, results.Options{})
	a := add(t, s, batch(t, left, epoch1, 1, 6), batch(t, right, epoch1, 1, 3), batch(t, left, epoch1, 4, 9))
	if len(a.Rows) != 10 || a.Duplicates != 2 || len(a.Marks) != 2 || a.Marks[0].Upto != 9 || a.Marks[1].Upto != 3 {
		t.Fatalf("added %d rows, %d duplicates, marks %+v", len(a.Rows), a.Duplicates, a.Marks)
	}
	a = add(t, s, batch(t, left, epoch1, 1, 9))
	if len(a.Rows) != 0 || a.Duplicates != 8 || a.Marks[0].Upto != 9 {
		t.Fatalf("sent again: %d rows, %d duplicates, marks %+v", len(a.Rows), a.Duplicates, a.Marks)
	}
	a = add(t, s, batch(t, left, epoch1, 12, 15))
	if len(a.Rows) != 0 || a.Early != 3 || a.Marks[0].Upto != 9 {
		t.Fatalf("sent early: %d rows, %d early, marks %+v", len(a.Rows), a.Early, a.Marks)
	}
	a = add(t, s, batch(t, left, epoch2, 1, 3))
	if len(a.Rows) != 2 || a.Marks[0].Upto != 3 {
		t.Fatalf("another epoch: %d rows, marks %+v", len(a.Rows), a.Marks)
	}
	total, err := s.Total()
	if err != nil || total.Results != 12 || total.Duplicates != 10 {
		t.Fatalf("total %+v, %v", total, err)
	}
}

func TestGapsAndSkips(t *testing.T) {
	s := open(t, results.Options{})
	b := batch(t, left, epoch1, 1, 3)
	b.Records = append(b.Records, wire.GapRecord(wire.Gap{First: 3, Count: 100, Why: "quota"}), result(t, 103))
	if a := add(t, s, b); a.Marks[0].Upto != 104 {
		t.Fatalf("mark %+v after a gap to 103", a.Marks[0])
	}
	upto, skipped, err := s.SkipTo(left, epoch1, 50)
	if err != nil || upto != 104 || skipped != 0 {
		t.Fatalf("skip to the past: %d, %d, %v", upto, skipped, err)
	}
	upto, skipped, err = s.SkipTo(right, epoch1, 50)
	if err != nil || upto != 50 || skipped != 49 {
		t.Fatalf("skip in an unknown epoch: %d, %d, %v", upto, skipped, err)
	}
	if a := add(t, s, batch(t, right, epoch1, 50, 52)); len(a.Rows) != 2 || a.Marks[0].Upto != 52 {
		t.Fatalf("after the skip: %+v", a)
	}
	c, _, err := s.Device(left)
	if err != nil || c.Dropped != 100 || c.Results != 3 || c.Rows != 4 {
		t.Fatalf("counts %+v, %v", c, err)
	}
	if _, _, err := s.SkipTo(left, "../x", 5); err == nil {
		t.Fatal("an epoch that is none was taken")
	}
}

func TestUnreadableResultDoesNotStopItsDevice(t *testing.T) {
	s := open(t, results.Options{})
	a := add(t, s, results.Batch{Device: left, Epoch: epoch1, Records: []wire.Record{
		{Seq: 1, Kind: wire.RecordResult, Body: json.RawMessage(`[1,2]`)},
		{Seq: 2, Kind: "later", Body: json.RawMessage(`{}`)},
		{Seq: 3, Kind: wire.RecordResult, Body: body(t, wire.Result{Input: "a\x00b", Labels: []wire.Label{{Label: "x\x00y"}}})},
	}})
	if a.Marks[0].Upto != 4 || len(a.Rows) != 3 {
		t.Fatalf("%+v", a)
	}
	total, err := s.Total()
	if err != nil || total.Errors != 1 || total.Results != 2 || total.Rows != 3 {
		t.Fatalf("%+v, %v", total, err)
	}
	if p, err := s.Find(results.Query{Label: "x\x00y"}); err != nil || len(p.Rows) != 1 {
		t.Fatalf("a label with a zero byte: %d rows, %v", len(p.Rows), err)
	}
}

// TestFind compares pages of every kind of query with a plain filter.
func TestFind(t *testing.T) {
	now := time.Unix(1000, 0)
	s := open(t, results.Options{Now: func() time.Time { now = now.Add(time.Millisecond); return now }})
	var all []results.Row
	for i := int64(0); i < 10; i++ {
		all = append(all, add(t, s, batch(t, left, epoch1, 1+20*i, 21+20*i), batch(t, right, epoch1, 1+10*i, 11+10*i)).Rows...)
	}
	queries := []results.Query{{}, {Device: left}, {Label: "l1"}, {Input: "sha256:3"}, {Device: right, Label: "l2"}, {Label: "l0", Input: "sha256:6"}, {Label: "nobody"}}
	for _, q := range queries {
		for _, since := range []time.Time{{}, time.Unix(0, int64(all[len(all)/2].ID))} {
			for _, newest := range []bool{false, true} {
				q.Since, q.Newest, q.Limit = since, newest, 7
				checkPages(t, s, q, all)
			}
		}
	}
}

func checkPages(t *testing.T, s *results.Store, q results.Query, all []results.Row) {
	t.Helper()
	var want, got []uint64
	for _, r := range all {
		var x wire.Result
		if err := json.Unmarshal(r.Body, &x); err != nil {
			t.Fatal(err)
		}
		label := ""
		if len(x.Labels) > 0 {
			label = x.Labels[0].Label
		}
		if (q.Device == wire.Device{} || q.Device == r.Device) && (q.Label == "" || q.Label == label) &&
			(q.Input == "" || q.Input == x.Input) && (q.Since.IsZero() || int64(r.ID) >= q.Since.UnixNano()) {
			want = append(want, r.ID)
		}
	}
	if q.Newest {
		slices.Reverse(want)
	}
	for page := 0; ; page++ {
		p, err := s.Find(q)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range p.Rows {
			got = append(got, r.ID)
		}
		if p.Next == 0 {
			break
		}
		if q.After = p.Next; page > len(all) {
			t.Fatalf("%+v: pages without end", q)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v: %d rows, want %d", q, len(got), len(want))
	}
}

func TestCounters(t *testing.T) {
	s := open(t, results.Options{})
	add(t, s, batch(t, left, epoch1, 1, 31))
	c, models, err := s.Device(left)
	if err != nil {
		t.Fatal(err)
	}
	if c.Results != 30 || c.Errors != 3 || c.Labels["l0"]+c.Labels["l1"]+c.Labels["l2"] != 27 {
		t.Errorf("counts %+v", c)
	}
	if f := models["sha256:m"]; f.Runs != 30 || f.Errors != 3 || f.Score != 27*0.5 || f.Micros == 0 {
		t.Errorf("figures %+v", f)
	}
	if c, _, err := s.Device(right); err != nil || c.Rows != 0 {
		t.Errorf("a device that said nothing: %+v, %v", c, err)
	}
}

func TestClockThatStepsBack(t *testing.T) {
	now := time.Unix(5000, 0)
	s := open(t, results.Options{Now: func() time.Time { return now }})
	a := add(t, s, batch(t, left, epoch1, 1, 3))
	now = time.Unix(10, 0)
	b := add(t, s, batch(t, left, epoch1, 3, 5))
	rows := append(a.Rows, b.Rows...)
	for i := 1; i < len(rows); i++ {
		if rows[i].ID <= rows[i-1].ID {
			t.Fatalf("row %d has id %d, the one before %d", i, rows[i].ID, rows[i-1].ID)
		}
	}
}

func TestTrim(t *testing.T) {
	now := time.Unix(1000, 0)
	s := open(t, results.Options{MaxAge: time.Hour, MaxBytes: 60_000, Now: func() time.Time { return now }})
	add(t, s, batch(t, left, epoch1, 1, 101))
	now = now.Add(2 * time.Hour)
	add(t, s, batch(t, left, epoch1, 101, 151))
	n, err := s.Trim()
	if err != nil || n != 100 {
		t.Fatalf("deleted %d, want the 100 old ones (%v)", n, err)
	}
	if a := add(t, s, batch(t, left, epoch1, 90, 110)); len(a.Rows) != 0 || a.Marks[0].Upto != 151 {
		t.Fatalf("a deleted record was stored again: %+v", a.Marks)
	}
	add(t, s, batch(t, right, epoch1, 1, 801))
	if _, err = s.Trim(); err != nil {
		t.Fatal(err)
	}
	total, err := s.Total()
	if err != nil || total.Bytes > 60_000 || total.Bytes < 50_000 || total.Results != 950 {
		t.Fatalf("after trimming by size: %+v, %v", total, err)
	}
	kept := 0
	q := results.Query{Device: right, Limit: results.MaxLimit}
	p, err := s.Find(q)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range p.Rows {
		if kept++; r.Seq < 2 {
			t.Error("the oldest row is still there")
		}
	}
	if p, err := s.Find(results.Query{Device: left}); err != nil || kept == 0 || len(p.Rows) != 0 {
		t.Errorf("kept %d of right, %d of left, %v", kept, len(p.Rows), err)
	}
}

func TestReopenAndLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "results.db")
	s, err := results.Open(path, results.Options{})
	if err != nil {
		t.Fatal(err)
	}
	add(t, s, batch(t, left, epoch1, 1, 11))
	if _, err := results.Open(path, results.Options{}); !errors.Is(err, results.ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = results.Open(path, results.Options{}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if upto, err := s.Upto(left, epoch1); err != nil || upto != 11 {
		t.Errorf("watermark %d, %v", upto, err)
	}
	if err := os.WriteFile(path+"2", []byte("not a database at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := results.Open(path+"2", results.Options{}); err == nil {
		t.Error("a file that is no database was opened")
	}
}

// TestRandomOrder sends batches of several devices in every order, cut in
// every way and repeated, as a bad network does, and checks that each record
// is stored once, in its order.
func TestRandomOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	s := open(t, results.Options{})
	const n = 200
	stored := map[string]int{}
	done := func() bool {
		a, _ := s.Upto(left, epoch1)
		b, _ := s.Upto(right, epoch1)
		return a == n+1 && b == n+1
	}
	for i := 0; !done(); i++ {
		if i > 20000 {
			t.Fatal("the watermark does not reach the end")
		}
		var group []results.Batch
		for range 1 + r.IntN(3) {
			d := []wire.Device{left, right}[r.IntN(2)]
			from := 1 + r.Int64N(n)
			if r.IntN(2) == 0 {
				from, _ = s.Upto(d, epoch1)
			}
			group = append(group, batch(t, d, epoch1, from, min(from+1+r.Int64N(30), n+1)))
		}
		for _, row := range add(t, s, group...).Rows {
			stored[fmt.Sprint(row.Device, row.Seq)]++
		}
	}
	for _, d := range []wire.Device{left, right} {
		for seq := 1; seq <= n; seq++ {
			if c := stored[fmt.Sprint(d, seq)]; c != 1 {
				t.Errorf("%s %d was stored %d times", d, seq, c)
			}
		}
	}
}
