package cache

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"dunlin/facts"
)

// A card that cannot read a page it once wrote faults on the mapped file;
// a file cut short under the map does the same.
func TestFaultIsAnError(t *testing.T) {
	r := randomTerms{rand.New(rand.NewPCG(8, 8))}
	set := factSet{}
	for range 3000 {
		set[r.fact()] = true
	}
	path := filepath.Join(t.TempDir(), "facts.db")
	c := open(t, path)
	if err := c.ApplyBase("g", 1, buildBase(t, Version{"g", 1}, set)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 2*pageSize); err != nil {
		t.Fatal(err)
	}
	for range 2 { // and no lock is left behind
		if _, err := c.Match(facts.Term{}, facts.Term{}, facts.Term{}, 0); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("got %v, want ErrCorrupt", err)
		}
	}
}
