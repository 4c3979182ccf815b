package results

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"dunlin/sync/wire"
)

// TestNamesOfOneDeviceDoNotSlowOthers: a device that makes up labels and
// models is counted with bounds, and what a commit of another device writes
// does not grow with them.
func TestNamesOfOneDeviceDoNotSlowOthers(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "r.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	loud, quiet := wire.Device{Tenant: "aa", Name: "loud"}, wire.Device{Tenant: "aa", Name: "quiet"}
	const epoch = "0123456789abcdef"
	seq := map[wire.Device]int64{}
	add := func(d wire.Device, n int, label func(i int) string) {
		t.Helper()
		b := Batch{Device: d, Epoch: epoch}
		for i := range n {
			body, err := json.Marshal(map[string]any{
				"labels": []any{map[string]any{"label": label(i)}}, "model": map[string]any{"digest": "sha256:" + label(i)},
			})
			if err != nil {
				t.Fatal(err)
			}
			seq[d]++
			b.Records = append(b.Records, wire.Record{Seq: seq[d], Kind: wire.RecordResult, Body: body})
		}
		if _, err := s.Add(b); err != nil {
			t.Fatal(err)
		}
	}
	// written returns the bytes of the pages that one small commit touches.
	written := func() int64 {
		t.Helper()
		stats := s.db.Stats().TxStats
		before := stats.GetPageAlloc()
		add(quiet, 1, func(int) string { return "bag" })
		stats = s.db.Stats().TxStats
		return stats.GetPageAlloc() - before
	}
	first := written()
	const long, many = 40, 3000
	add(loud, long, func(i int) string { return fmt.Sprint(i, strings.Repeat("x", 60_000)) })
	add(loud, many, func(i int) string { return fmt.Sprintf("%-100d", i) })
	add(loud, 2, func(int) string { return OtherLabels })
	add(loud, 1, func(int) string { return "a\x00b" })
	add(quiet, 1000, func(i int) string { return fmt.Sprint("mine ", i%10) })
	if last := written(); last > first+256<<10 {
		t.Errorf("a commit of one row writes %d bytes, %d before", last, first)
	}

	total, err := s.Total()
	if err != nil {
		t.Fatal(err)
	}
	of, models, err := s.Device(loud)
	if err != nil {
		t.Fatal(err)
	}
	others := int64(long + many - maxDeviceLabels + 3)
	if len(of.Labels) != maxDeviceLabels+1 || of.Labels[OtherLabels] != others || len(models) != maxModels {
		t.Errorf("%d labels of the loud one, %d times others, %d models", len(of.Labels), of.Labels[OtherLabels], len(models))
	}
	if total.Labels["mine 3"] != 100 || total.Labels["bag"] != 2 || total.Labels[OtherLabels] != others || len(total.Labels) != maxDeviceLabels+12 {
		t.Errorf("%d labels of all, %d mine, %d bags, %d others", len(total.Labels), total.Labels["mine 3"], total.Labels["bag"], total.Labels[OtherLabels])
	}
	sum := int64(0)
	for _, n := range total.Labels {
		sum += n
	}
	if sum != total.Results {
		t.Errorf("labels add up to %d of %d results", sum, total.Results)
	}
	err = s.db.View(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketCount, bucketTally, bucketFigure} {
			err := tx.Bucket(name).ForEach(func(k, v []byte) error {
				if len(k) > 300 || len(v) > 1024 {
					t.Errorf("%s: a key of %d bytes with %d bytes", name, len(k), len(v))
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestTotalIsNotATenant: a tenant that is called like the common counter has
// its own counts.
func TestTotalIsNotATenant(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "r.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := Batch{Device: wire.Device{Tenant: "total", Name: "door"}, Epoch: "0123456789abcdef", Records: []wire.Record{
		{Seq: 1, Kind: wire.RecordResult, Body: json.RawMessage(`{"labels":[{"label":"bag"}]}`)},
	}}
	if _, err := s.Add(b); err != nil {
		t.Fatal(err)
	}
	c, err := s.Total()
	if err != nil || len(c.Labels) != 1 || c.Labels["bag"] != 1 {
		t.Errorf("%+v, %v", c, err)
	}
}
