package results_test

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"dunlin/hub/results"
	"dunlin/sync/wire"
)

// FuzzBody stores results with any JSON for a body. However odd, each must be
// stored, found and deleted again: one that was refused would stop its device.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{`{}`, `[]`, `null`, `{"labels":[{"label":"a","score":1e300}]}`, `{"input":"\u0000","labels":[{"label":""}],"micros":-1}`, `{"labels":{}}`, `{"model":{"digest":"x"},"error":"e"}`} {
		f.Add([]byte(seed))
	}
	s, err := results.Open(filepath.Join(f.TempDir(), "results.db"), results.Options{MaxBytes: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	seq := int64(results.FirstSeq)
	f.Fuzz(func(t *testing.T, body []byte) {
		if !json.Valid(body) || len(body) > wire.MaxBody {
			t.Skip("a batch holds JSON only")
		}
		a, err := s.Add(results.Batch{Device: left, Epoch: epoch1, Records: []wire.Record{{Seq: seq, Kind: wire.RecordResult, Body: body}}})
		if err != nil || len(a.Rows) != 1 {
			t.Fatalf("%d rows, %v", len(a.Rows), err)
		}
		seq++
		if p, err := s.Find(results.Query{Device: left}); err != nil || len(p.Rows) != 1 {
			t.Fatalf("found %d rows, %v", len(p.Rows), err)
		}
		if n, err := s.Trim(); err != nil || n != 1 {
			t.Fatalf("deleted %d rows, %v", n, err)
		}
		if p, err := s.Find(results.Query{}); err != nil || len(p.Rows) != 0 {
			t.Fatalf("found %d rows after deleting all, %v", len(p.Rows), err)
		}
	})
}
