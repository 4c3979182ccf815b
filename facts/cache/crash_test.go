package cache

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dunlin/facts"
)

var kills = flag.Int("kills", 20, "how many times TestKill kills its child with -9")

// crashVersion returns what version v holds: facts that come and go at
// different rates, so that every version is different.
func crashVersion(v int64) factSet {
	set := factSet{}
	for i := int64(1); i <= v; i++ {
		if i%7 == 0 || v-i < 40 {
			set[facts.Fact{
				S: facts.Resource(fmt.Sprintf("a:s%d", i%50)), P: facts.Resource(fmt.Sprintf("a:p%d", i%3)),
				O: facts.Text(fmt.Sprintf("value %d", i)),
			}] = true
		}
	}
	return set
}

// crashPatch returns the patch that leads from version v to v+1.
func crashPatch(t testing.TB, v int64) []byte {
	old, now := crashVersion(v), crashVersion(v+1)
	var adds, dels []facts.Fact
	for f := range now {
		if !old[f] {
			adds = append(adds, f)
		}
	}
	for f := range old {
		if !now[f] {
			dels = append(dels, f)
		}
	}
	return patch(t, "g", v, v+1, adds, dels)
}

// TestKillChild is the child of TestKill: it applies patches, folds often,
// and now and then a base, and prints each version once it is acknowledged.
func TestKillChild(t *testing.T) {
	path := os.Getenv("DUNLIN_TEST_KILL_CACHE")
	if path == "" {
		return // not a child: TestKill starts this one
	}
	c, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	c.foldAt = 25
	for v := c.Version().Version; ; v++ {
		if v%9 == 8 {
			base := path + ".arrived"
			if err := Build(base, "g", v+1, crashVersion(v+1).seq()); err != nil {
				t.Fatal(err)
			}
			if err := c.ApplyBase("g", v+1, base); err != nil {
				t.Fatal(err)
			}
		} else if err := c.ApplyPatch("g", v, v+1, bytes.NewReader(crashPatch(t, v))); err != nil {
			t.Fatal(err)
		}
		if err := c.Stats().FoldFailed; err != nil {
			t.Fatal(err)
		}
		fmt.Printf("applied %d\n", v+1)
	}
}

// TestKill kills a process that applies patches, at random moments, and
// looks at what it left: exactly some version, none acknowledged lost.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: kills processes (-short)")
	}
	path := filepath.Join(t.TempDir(), "facts.db")
	var last int64
	for n := range *kills {
		// Every other time from the start on, so that Open is hit too.
		acked := killOnce(t, path, n%2 == 1, time.Duration(rand.IntN(120_000))*time.Microsecond)
		c := open(t, path)
		if c.Recovered() != "" {
			t.Fatalf("kill %d: the file was taken for torn: %s", n, c.Recovered())
		}
		v := c.Version().Version
		if v < max(acked, last) || v > max(acked, last)+1 {
			t.Fatalf("kill %d: at version %d; acknowledged was %d", n, v, max(acked, last))
		}
		got, err := c.Match(facts.Term{}, facts.Term{}, facts.Term{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		var want []facts.Fact
		for f := range crashVersion(v) {
			want = append(want, f)
		}
		if g, w := lines(got), lines(want); !slices.Equal(g, w) {
			t.Fatalf("kill %d: version %d holds %d facts, want %d", n, v, len(g), len(w))
		}
		last = v
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if last == 0 {
		t.Error("no child came as far as one patch")
	}
	t.Logf("%d kills, %d versions", *kills, last)
}

// killOnce runs a child until some time after its first acknowledgement, or
// after its start, and returns the last version it acknowledged.
func killOnce(t *testing.T, path string, fromStart bool, after time.Duration) (acked int64) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKillChild$")
	cmd.Env = append(os.Environ(), "DUNLIN_TEST_KILL_CACHE="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var text []string
	var timer *time.Timer
	kill := func() { timer = time.AfterFunc(after, func() { cmd.Process.Kill() }) }
	if fromStart {
		kill()
	}
	for in := bufio.NewScanner(io.Reader(out)); in.Scan(); {
		if s, ok := strings.CutPrefix(in.Text(), "applied "); ok {
			v, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				continue // the line it died on
			}
			acked = v
			if timer == nil {
				kill()
			}
			continue
		}
		text = append(text, in.Text())
	}
	err = cmd.Wait()
	if timer == nil || !strings.Contains(fmt.Sprint(err), "killed") {
		t.Fatalf("the child ended by itself: %v\n%s", err, strings.Join(text, "\n"))
	}
	timer.Stop()
	return acked
}
