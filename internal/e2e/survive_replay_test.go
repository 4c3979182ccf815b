//go:build board

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"dunlin/firmware-tools/vm/blocklog"
	"dunlin/sync/outbox"
	"dunlin/sync/wire"
)

var cards = flag.Int("cards", 200, "how many cards TestCardsOfCuts makes of one log")

// recorded is a board's life as its card saw it, and what it had promised by
// when.
type recorded struct {
	t       *testing.T
	before  string // the card before it
	log     *blocklog.Log
	config  string
	all     []known
	picture []byte

	acks  []promise
	model int // entries by which the first model was active
}

// promise is an answer, and how many entries the log had when it came.
type promise struct {
	id      string
	entries int
	epoch   string
	seq     int64
}

// record has a board infer, take models and facts until it has answered some
// pictures in each of three parts of its life, and turns it off when the hub has
// what was answered: what takes how long does not matter.
func record(t *testing.T, seed uint64) *recorded {
	c := newCutting(t, "cards", seed, 40, ordeal{})
	text, err := exec.Command(debugfs(), "-R", "cat /etc/dunlin/agent.toml", c.b.disk).Output()
	if err != nil {
		t.Fatal(err)
	}
	r := &recorded{t: t, before: c.b.disk + ".before", config: string(text), all: c.all, picture: c.feed.picture}
	copyFile(t, c.b.disk, r.before)
	boot, log := logged(t, c.b.disk)
	type ack struct {
		id string
		at int64
	}
	var acks []ack
	c.feed.tell = func(res wire.Result) { acks = append(acks, ack{res.ID, logSize(t, log)}) }
	c.b.start(boot)
	c.b.runs(c.all[0].digest)
	since := logSize(t, log)
	stop := c.feed.feed(c.b.vm, 4)
	for i := range 3 {
		c.rollOut(false)
		c.pushFacts()
		time.Sleep(3 * time.Second) // of the life that is recorded
		wait(t, time.Minute, "answers to look for", func() error {
			c.feed.mu.Lock()
			defer c.feed.mu.Unlock()
			if n := len(c.feed.acked); n < 8*(i+1) {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
	}
	stop()
	c.f.arrive(c.feed)
	c.b.stop()

	r.log = openLog(t, log, c.b.disk)
	r.model = r.log.At(since)
	place := c.f.places()
	for _, a := range acks {
		p, ok := place[a.id]
		if !ok {
			t.Fatalf("result %s arrived, and the hub has no number of it", a.id)
		}
		p.entries = r.log.At(a.at)
		r.acks = append(r.acks, p)
	}
	return r
}

// places returns the epoch and number of each result at the hub, by its ID.
func (f *fleet) places() map[string]promise {
	f.t.Helper()
	all, after := map[string]promise{}, ""
	for {
		var page struct {
			Rows []struct {
				Epoch  string
				Seq    int64
				Result wire.Result
			}
			Next string
		}
		path := "/v1/results?limit=500"
		if after != "" {
			path += "&after=" + after
		}
		f.must("GET", path, nil, &page)
		for _, r := range page.Rows {
			all[r.Result.ID] = promise{id: r.Result.ID, epoch: r.Epoch, seq: r.Seq}
		}
		if after = page.Next; after == "" {
			return all
		}
	}
}

func debugfs() string {
	if path, err := exec.LookPath("debugfs"); err == nil {
		return path
	}
	return "/usr/sbin/debugfs"
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "--sparse=always", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
}

// try makes cards after n entries at random, and looks at each; lie is how many
// entries before the last flush the card has only pretended to keep.
func (r *recorded) try(count, lie int, seed uint64) (wrong []string, took time.Duration) {
	rnd := rand.New(rand.NewPCG(seed, 3))
	points := make([]int, count)
	for i := range points {
		points[i] = 1 + rnd.IntN(len(r.log.Entries))
	}
	slices.Sort(points)
	dir := r.t.TempDir()
	steady := filepath.Join(dir, "steady.img")
	copyFile(r.t, r.before, steady)
	card, err := os.OpenFile(steady, os.O_RDWR, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	defer card.Close()

	type cut struct {
		image string
		n     int
	}
	todo := make(chan cut)
	var all sync.WaitGroup
	var mu sync.Mutex // guards wrong
	for range 2 {
		all.Go(func() {
			for c := range todo {
				if err := r.look(c.image, c.n, lie > 0); err != nil {
					mu.Lock()
					wrong = append(wrong, fmt.Sprintf("after entry %d of %d: %v", c.n, len(r.log.Entries), err))
					mu.Unlock()
				}
			}
		})
	}
	begin, played := time.Now(), 0
	for i, n := range points {
		from := max(0, r.log.Durable(n)-lie)
		if err := r.log.Play(card, played, max(played, from)); err != nil {
			r.t.Error(err)
			break
		}
		played = max(played, from)
		image := filepath.Join(dir, fmt.Sprintf("cut%d.img", i))
		copyFile(r.t, steady, image)
		f, err := os.OpenFile(image, os.O_RDWR, 0)
		if err == nil {
			err = errors.Join(r.log.Cut(f, from, n, rnd), f.Close())
		}
		if err != nil {
			r.t.Error(err)
			break
		}
		todo <- cut{image, n}
	}
	close(todo)
	all.Wait()
	return wrong, time.Since(begin)
}

// look checks a card as the next start finds it: the file system, the bbolt
// files, what was promised by then, and that an agent starts on it.
func (r *recorded) look(image string, n int, lied bool) (err error) {
	if err := fsck(r.t, image, "-fp"); err != nil {
		return err
	}
	root := strings.TrimSuffix(image, ".img")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	out, err := exec.Command(debugfs(), "-R", "rdump /var/lib/dunlin "+root, image).CombinedOutput()
	if err != nil {
		return fmt.Errorf("debugfs: %w: %s", err, out)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root), os.Remove(image)) }()
	state := filepath.Join(root, "dunlin")
	files, err := filepath.Glob(filepath.Join(state, "*.db"))
	if err != nil {
		return err
	}
	for _, path := range files {
		if lied {
			break // bbolt's check of a torn file can panic where nobody can recover
		}
		if err := checkBolt(path); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
	}
	if err := r.kept(filepath.Join(state, "outbox.db"), n); err != nil {
		return err
	}
	if n >= r.model {
		patience := time.Minute
		if lied {
			patience = 5 * time.Second // many have no model; one that is slow counts as wrong, which they may be
		}
		return r.starts(root, state, patience)
	}
	return nil
}

func checkBolt(path string) (err error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, PreLoadFreelist: true, Timeout: time.Second})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.View(func(tx *bolt.Tx) (err error) {
		for e := range tx.Check() {
			err = errors.Join(err, e)
		}
		return err
	})
}

// kept looks for what was answered before entry n: in the outbox, or below
// what the hub has acknowledged.
func (r *recorded) kept(path string, n int) (err error) {
	var due []promise
	for _, p := range r.acks {
		if p.entries <= n {
			due = append(due, p)
		}
	}
	if len(due) == 0 {
		return nil
	}
	box, err := outbox.Open(path, outbox.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, box.Close()) }()
	if why := box.Recovered(); why != "" {
		return fmt.Errorf("outbox was torn: %s", why)
	}
	s := box.State()
	for _, p := range due {
		if p.epoch != box.Epoch() || p.seq >= s.Next {
			return fmt.Errorf("result %d of epoch %s was answered for; the outbox has %+v of %s", p.seq, p.epoch, s, box.Epoch())
		}
		if p.seq < s.First {
			continue
		}
		records, err := box.Next(p.seq, 1, 1)
		if err != nil || len(records) != 1 || records[0].Kind != wire.RecordResult || !strings.Contains(string(records[0].Body), p.id) {
			return fmt.Errorf("result %d (%s) was answered for, the outbox has %+v in its place (%w)", p.seq, p.id, records, err)
		}
	}
	return nil
}

// starts starts an agent of this machine on the files of the card. It must
// answer, with a model that it was given and rightly, and until it ends or
// patience does it may take its time.
func (r *recorded) starts(root, state string, patience time.Duration) error {
	config := strings.NewReplacer("/var/lib/dunlin", state).Replace(r.config) + "\n"
	config = "state_dir = \"" + state + "\"\n" + config + "[http]\nlisten = \"\"\n"
	file := filepath.Join(root, "agent.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	var said strings.Builder
	cmd := exec.Command(filepath.Join(programs, "dunlin-agent"), "run", "-config", file)
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed
		cancel()
		close(ended)
	}()
	err := r.answers(ctx, filepath.Join(state, "agent.sock"))
	_ = cmd.Process.Kill()
	<-ended
	for _, word := range bad {
		if err == nil && strings.Contains(said.String(), word) {
			err = fmt.Errorf("it says that something is %s", word)
		}
	}
	if err != nil {
		return fmt.Errorf("agent: %w\n%s", err, said.String())
	}
	return nil
}

// answers asks an agent for the picture until it answers or ctx ends.
func (r *recorded) answers(ctx context.Context, socket string) error {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	defer client.CloseIdleConnections()
	var res wire.Result
	var err error
	for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		var req *http.Request
		if req, err = http.NewRequestWithContext(ctx, "POST", "http://localhost/v1/infer", bytes.NewReader(r.picture)); err != nil {
			return err
		}
		var resp *http.Response
		if resp, err = client.Do(req); err != nil {
			continue
		}
		text, readErr := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err = readErr; err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", resp.Status, text)
		}
		if err == nil {
			if err := json.Unmarshal(text, &res); err != nil {
				return err
			}
			return right(res, r.all)
		}
	}
	return fmt.Errorf("no answer: %w", errors.Join(ctx.Err(), err))
}

// TestCardsOfCuts records all that a board writes while it works, and makes of
// it the cards that a cut could have left at random moments: writes since the
// last flush are there, not there or torn. Each must pass fsck and bbolt's
// check, hold what was answered for, and start an agent. The control is a card
// that lies about its last flushes.
func TestCardsOfCuts(t *testing.T) {
	t.Parallel()
	seed := *cutSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	r := record(t, seed)
	n := *cards
	if testing.Short() {
		n = 40
	}
	wrong, took := r.try(n, 0, seed)
	t.Logf("seed %d: %d entries, %d answers to look for; %d cards, %.2f s each; %d wrong", seed, len(r.log.Entries), len(r.acks), n, took.Seconds()/float64(n), len(wrong))
	if len(wrong) > 0 {
		t.Errorf("seed %d: %d cards of %d are wrong:\n%s", seed, len(wrong), n, strings.Join(wrong[:min(10, len(wrong))], "\n"))
	}
	const lying = 20
	wrong, _ = r.try(lying, 300, seed)
	t.Logf("a card that lies about its last 300 entries: %d of %d wrong", len(wrong), lying)
	if len(wrong) == 0 {
		t.Errorf("seed %d: a card that lies does no harm: the test does not bite", seed)
	}
}
