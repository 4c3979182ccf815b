package hub_test

import (
	"testing"

	"dunlin/hub"
	"dunlin/hub/api"
)

// rows returns the inputs of all results that the hub shows, and how often
// each is there.
func (s *site) rows() map[string]int {
	s.t.Helper()
	all, after := map[string]int{}, ""
	for {
		var page struct {
			Rows []struct {
				Result struct{ Input string }
			}
			Next string
		}
		s.must("GET", "/v1/results?limit=1000&after="+after, nil, &page)
		for _, r := range page.Rows {
			all[r.Result.Input]++
		}
		if page.Next == "" {
			return all
		}
		after = page.Next
	}
}

func checkOnce(t *testing.T, rows map[string]int, want int) {
	t.Helper()
	if len(rows) != want {
		t.Errorf("%d different results, want %d", len(rows), want)
	}
	for input, n := range rows {
		if n != 1 {
			t.Errorf("%s is stored %d times", input, n)
		}
	}
}

func TestResultsOverMQTT(t *testing.T) {
	s := run(t, hub.Options{Dir: t.TempDir()})
	a, b := start(t, s.enrol("left"), t.TempDir()), start(t, s.enrol("right"), t.TempDir())
	a.put(300)
	b.put(50)
	eventually(t, "both outboxes are empty", func() bool { return a.drained() && b.drained() })
	checkOnce(t, s.rows(), 350)
	var sum api.Summary
	s.must("GET", "/v1/summary", nil, &sum)
	if sum.Devices != 2 || sum.Online != 2 || sum.Results.Results != 350 || sum.Results.Labels["bag"] != 350 {
		t.Errorf("summary %+v", sum)
	}
}
