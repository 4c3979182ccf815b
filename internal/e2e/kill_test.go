package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var kills = flag.Int("kills", 100, "how often TestKills kills the agent or the hub")

// TestKills feeds an agent pictures while it and the hub are killed with
// SIGKILL at random moments, every third time the hub by its own hand between
// the commit of results and their acknowledgement. In the end each picture
// must stand at the hub exactly once, and nothing may have been dropped.
func TestKills(t *testing.T) {
	n := *kills
	if testing.Short() {
		n = 12
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("%d kills, seed %d", n, seed)
	rnd := rand.New(rand.NewPCG(seed, 1))

	e, f := theExample(t), startFleet(t)
	a := f.startAgent("victim", fmt.Sprintf("[model]\npack = %q\nrelease_keys = [%q]\n", e.pack, e.key+".pub"))
	a.runs(e.digest)

	picture, err := os.ReadFile(filepath.Join(e.dir, "samples", firstPNG(t, e)))
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]bool{} // SHA-256 of each picture given
	feed := func(count int) {
		for range count {
			data := withNote(picture, uint64(len(given)))
			given[fmt.Sprintf("sha256:%x", sha256.Sum256(data))] = true
			put(t, a.inbox, fmt.Sprintf("%06d.png", len(given)), data)
		}
	}
	killed := map[string]int{}
	for i := range n {
		feed(1 + rnd.IntN(6))
		time.Sleep(time.Duration(rnd.IntN(150)) * time.Millisecond) // the moment of the blow, not a wait for anything
		switch i % 3 {
		case 0:
			a.kill()
			a.start()
			killed["agent"]++
		case 1:
			f.hub.kill()
			f.hub.start()
			killed["hub"]++
		case 2: // the next hub kills itself at its first or second commit
			f.hub.kill()
			f.hub.env = []string{fmt.Sprintf("DUNLIN_FAULT=before-ack:%d", 1+rnd.IntN(2))}
			f.hub.start()
			f.hub.env = nil
			feed(2)
			wait(t, 60*time.Second, "the hub to kill itself between commit and acknowledgement", func() error {
				if !f.hub.running() {
					return nil
				}
				feed(1)
				return errors.New("it is still running")
			})
			f.hub.start()
			killed["hub before ack"]++
		}
	}
	t.Logf("killed: %v; %d pictures", killed, len(given))
	f.up()
	want := len(given)
	wait(t, 120*time.Second, "every picture to arrive", func() error {
		rows, err := f.results()
		if err != nil {
			return err
		}
		if len(rows) < want {
			return fmt.Errorf("%d of %d results are there", len(rows), want)
		}
		return nil
	})
	// Not before the outbox is empty could the last double be on its way.
	wait(t, 60*time.Second, "the outbox to be empty", func() error {
		s, err := a.status()
		if err == nil && s.Outbox.First != s.Outbox.Next {
			err = fmt.Errorf("%d records wait", s.Outbox.Next-s.Outbox.First)
		}
		return err
	})
	rows, err := f.results()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, r := range rows {
		seen[r.Result.Input]++
		if len(r.Result.Labels) == 0 {
			t.Errorf("%s: no labels: %s", r.Result.Input, r.Result.Error)
		}
	}
	for digest := range given {
		if seen[digest] != 1 {
			t.Errorf("picture %s arrived %d times", digest, seen[digest])
		}
	}
	if len(seen) != want {
		t.Errorf("%d different pictures arrived, %d were given", len(seen), want)
	}
	s, err := a.status()
	if err != nil {
		t.Fatal(err)
	}
	if s.Outbox.Dropped != 0 {
		t.Errorf("dropped: %d", s.Outbox.Dropped)
	}
}

func firstPNG(t *testing.T, e example) string {
	t.Helper()
	found, err := fs.Glob(os.DirFS(filepath.Join(e.dir, "samples")), "*.png")
	if err != nil || len(found) == 0 {
		t.Fatal("no pictures", err)
	}
	return found[0]
}

// put gives a file to the agent as a careful program does: whole or not at
// all.
func put(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	tmp := filepath.Join(dir, "."+name+".tmp")
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// withNote returns the PNG with a text chunk before its end, so that the same
// picture has another digest.
func withNote(png []byte, n uint64) []byte {
	end := bytes.LastIndex(png, []byte("IEND")) - 4
	body := fmt.Appendf([]byte("tEXt"), "Comment\x00%d", n)
	chunk := binary.BigEndian.AppendUint32(nil, uint32(len(body)-4))
	chunk = append(chunk, body...)
	chunk = binary.BigEndian.AppendUint32(chunk, crc32.ChecksumIEEE(body))
	return append(append(bytes.Clone(png[:end]), chunk...), png[end:]...)
}
