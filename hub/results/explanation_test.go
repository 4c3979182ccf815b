package results_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"dunlin/hub/results"
)

func TestExplanations(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	s := open(t, results.Options{MaxAge: time.Hour, Now: func() time.Time { return now }})
	const n = results.MaxExplanations + 2
	rows := add(t, s, batch(t, left, epoch1, 1, n+1)).Rows
	if _, err := s.Explain(rows[0].ID+1_000_000, results.Explanation{Method: "cam"}); !errors.Is(err, results.ErrNoResult) {
		t.Errorf("of no result: %v", err)
	}
	if _, err := s.Explain(rows[0].ID, results.Explanation{Method: "cam", PNG: make([]byte, results.MaxExplanation+1)}); err == nil {
		t.Error("too many bytes were kept")
	}
	for i, r := range rows {
		got, err := s.Explain(r.ID, results.Explanation{Method: "cam", Label: fmt.Sprint(i), PNG: []byte{byte(i)}})
		if err != nil || got.Explanation == nil || got.Seq != r.Seq {
			t.Fatalf("row %d: %+v, %v", i, got, err)
		}
	}
	for i, r := range rows { // the oldest two made room
		e, err := s.Explanation(r.ID)
		if gone := errors.Is(err, results.ErrNoResult); gone != (i < 2) || !gone && (e.Label != fmt.Sprint(i) || e.PNG[0] != byte(i)) {
			t.Errorf("of row %d: %+v, %v", i, e, err)
		}
	}
	if _, err := s.Explain(rows[0].ID, results.Explanation{Method: "occlusion"}); err != nil {
		t.Fatal(err)
	}
	if e, err := s.Explanation(rows[0].ID); err != nil || e.Method != "occlusion" {
		t.Errorf("the one that was just put is %+v, %v", e, err)
	}
	page, err := s.Find(results.Query{Limit: 3})
	if err != nil || page.Rows[0].Explanation == nil || page.Rows[1].Explanation != nil || page.Rows[2].Explanation != nil {
		t.Errorf("found %+v, %v", page.Rows, err)
	}
	now = now.Add(2 * time.Hour)
	if gone, err := s.Trim(); gone != n || err != nil {
		t.Fatalf("%d rows are trimmed, %v", gone, err)
	}
	if _, err := s.Explanation(rows[n-1].ID); !errors.Is(err, results.ErrNoResult) {
		t.Errorf("it outlived its result: %v", err)
	}
}
