//go:build board

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dunlin/firmware-tools/vm"
	"dunlin/sync/wire"
)

// faulty is a drive of a card that does what QEMU's blkdebug is told.
func faulty(t *testing.T, image, rules string) vm.Boot {
	t.Helper()
	conf := image + ".conf"
	if err := os.WriteFile(conf, []byte(rules), 0o644); err != nil {
		t.Fatal(err)
	}
	return vm.Boot{Drive: "if=none,id=disk,driver=raw,file.driver=blkdebug,file.config=" + conf + ",file.image.driver=file,file.image.filename=" + image}
}

// atFlush makes the rules that let so many flushes pass, and then are in force.
func atFlush(n int, rule string) string {
	var rules strings.Builder
	for i := 1; i < n; i++ {
		fmt.Fprintf(&rules, "[set-state]\nevent = \"flush_to_disk\"\nstate = \"%d\"\nnew_state = \"%d\"\n\n", i, i+1)
	}
	if rule != "" {
		fmt.Fprintf(&rules, "[inject-error]\n%s\nerrno = \"5\"\nstate = \"%d\"\n", rule, n)
	}
	return rules.String()
}

// cardStatus is what an agent says of a card that cannot be written.
type cardStatus struct {
	Card  string        `json:"card"`
	Model *wire.Running `json:"model"`
}

// TestBrokenCard: a card that fails one write, or all writes or flushes, mostly makes
// the kernel give up the file system. What was answered before is there after the
// next boot, with a card that works; what came after was refused. Until then the
// agent stays, with its model, and tells whoever asks, and the hub, what is
// wrong. Where one error hurt a file alone it opens that again, and goes on. The
// control is the same card with nothing to fail.
func TestBrokenCard(t *testing.T) {
	t.Parallel()
	// Flushes from the start of a board that has its model, enough for some 45
	// answers. While it takes one there are more of them the slower the machine
	// is: the file system flushes by the clock as well.
	const after = 100
	for name, rule := range map[string]string{
		"write once":  "event = \"write_aio\"\niotype = \"write\"\nonce = \"on\"",
		"every flush": "event = \"flush_to_disk\"\niotype = \"flush\"",
		"every write": "event = \"write_aio\"\niotype = \"write\"",
		"control":     "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, b, feed := world(t, "broken", ordeal{}, plain)
			b.active(theExample(t).digest)
			b.stop()
			b.start(faulty(t, b.disk, atFlush(after, rule)))
			b.runs(theExample(t).digest)
			var said error
			answered, most := 0, 100
			if rule == "" {
				most = 60
			}
			for ; answered < most && said == nil; answered++ {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				_, said = feed.one(ctx, b.vm)
				cancel()
			}
			if rule == "" {
				if said != nil {
					t.Errorf("the card is sound, and answer %d is %v", answered, said)
				}
				f.arrive(feed)
				b.starts(1)
				return
			}
			if said == nil {
				t.Fatal("nothing was refused: the card did not fail")
			}
			t.Logf("after %d answers: %v", answered-1, said)
			if !b.saysBroken(f, feed) {
				if strings.HasPrefix(name, "every") {
					t.Error("it answers again, and the card is broken")
				}
				b.logged("input/output error")
			}
			b.vm.Kill()
			b.start(vm.Boot{})
			some(t, b, feed, 3)
			f.arrive(feed)
			f.nothingDropped(b)
		})
	}
}

// saysBroken waits until the agent tells that its card cannot be written, and
// looks at what it does all the same. It is false where the agent answers again.
func (b *board) saysBroken(f *fleet, feed *feeder) bool {
	b.t.Helper()
	var s cardStatus
	again := false
	wait(b.t, time.Minute, "the agent to say what is wrong", func() error {
		ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
		defer cancel()
		if err := b.vm.Ask(ctx, "GET", "/agent/v1/status", nil, &s); err != nil || s.Card != "" {
			return err
		}
		_, err := feed.one(ctx, b.vm)
		again = err == nil
		return err
	})
	if again {
		return false
	}
	if s.Model == nil {
		b.t.Error("it has no model any more")
	}
	if !strings.Contains(s.Card, "read-only file system") && !strings.Contains(s.Card, "input/output error") {
		b.t.Errorf("it says %q", s.Card)
	}
	var ready []byte
	if err := b.vm.Ask(b.t.Context(), "GET", "/agent/v2/health/ready", nil, &ready); err == nil {
		b.t.Errorf("it says that it is ready for pictures: %s", ready)
	}
	if err := b.askTensors(s.Model.Name); err != nil {
		b.t.Errorf("the model does not answer: %v", err)
	}
	metric := fmt.Sprintf("dunlin_device_metric{device=%q,name=\"card_broken\"} 1\n", "e2e/"+b.name)
	wait(b.t, time.Minute, "the hub to hear of it", func() error {
		text, err := f.metrics()
		if err == nil && !strings.Contains(text, metric) {
			err = errors.New("it has no such metric")
		}
		return err
	})
	b.starts(1)
	return true
}

// logged waits until the agent has said something on the console.
func (b *board) logged(text string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	if _, err := b.vm.WaitLine(ctx, func(line string) bool { return strings.Contains(line, "level=ERROR") && strings.Contains(line, text) }); err != nil {
		b.t.Errorf("the agent does not say what is wrong: %v", err)
	}
}

// askTensors has the model answer tensors, of which nothing is kept.
func (b *board) askTensors(name string) error {
	type tensor struct {
		Name     string    `json:"name"`
		Datatype string    `json:"datatype"`
		Shape    []int     `json:"shape"`
		Data     []float32 `json:"data"`
	}
	var m struct {
		Inputs []tensor `json:"inputs"`
	}
	if err := b.vm.Ask(b.t.Context(), "GET", "/agent/v2/models/"+name, nil, &m); err != nil {
		return err
	}
	for i, in := range m.Inputs {
		n := 1
		for _, d := range in.Shape {
			n *= d
		}
		m.Inputs[i].Data = make([]float32, n)
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	var out struct{ Outputs []tensor }
	if err := b.vm.Ask(b.t.Context(), "POST", "/agent/v2/models/"+name+"/infer", bytes.NewReader(text), &out); err != nil {
		return err
	}
	if len(out.Outputs) == 0 || len(out.Outputs[0].Data) == 0 {
		return fmt.Errorf("it answers %+v", out)
	}
	return nil
}

// metrics is what the hub tells of itself and its devices.
func (f *fleet) metrics() (string, error) {
	req, err := http.NewRequestWithContext(f.t.Context(), "GET", f.http+"/metrics", nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+f.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

// TestUnreadableModel: the card cannot read a sector of the model that answers.
// The agent comes up with the one before, says why, and gives nothing up: with
// a card that works, which is the control, the newer one answers again. With the
// hub it does on the broken card too: it is fetched to another place of it.
func TestUnreadableModel(t *testing.T) {
	t.Parallel()
	e, f := theExample(t), startBoardFleet(t)
	path := filepath.Join(e.dir, "samples", firstPNG(t, e))
	all, feed := knownModels(t, e, 1, path), newFeeder(readFile(t, path))
	b := f.ordealBoard("sector", ordeal{})
	f.offer(e)
	b.start(vm.Boot{})
	b.active(e.digest)
	wait(t, time.Minute, "the rollout to end", func() error {
		if !(&cutting{f: f}).ended() {
			return errors.New("it is under way")
		}
		return nil
	})
	f.push(all[1].dir)
	f.must("POST", "/v1/rollouts", map[string]any{"model": "garments", "version": 3, "trial": wire.TrialRules{Seconds: 1, MaxMillis: 60_000}}, nil)
	b.active(all[1].digest)
	b.stop()

	rule := fmt.Sprintf("[inject-error]\nevent = \"read_aio\"\niotype = \"read\"\nerrno = \"5\"\nsector = \"%d\"\n", b.sectorOf(all[1].dir))
	f.hub.kill()
	b.start(faulty(t, b.disk, rule))
	b.runs(e.digest)
	if r := some(t, b, feed, 3); r.Model.Digest != e.digest {
		t.Errorf("it answers %+v", r)
	}
	var s cardStatus
	if err := b.vm.Ask(t.Context(), "GET", "/agent/v1/status", nil, &s); err != nil || !strings.Contains(s.Card, "cannot be read") {
		t.Errorf("it says %q of its card: %v", s.Card, err)
	}
	b.starts(1)
	b.vm.Kill()
	b.start(vm.Boot{}) // nothing was given up
	b.runs(all[1].digest)
	b.vm.Kill()
	f.hub.start()
	f.up()
	b.start(faulty(t, b.disk, rule))
	b.active(all[1].digest)
	if r := some(t, b, feed, 3); right(r, all) != nil || r.Model.Digest != all[1].digest {
		t.Errorf("it answers %+v", r)
	}
	f.arrive(feed)
	f.nothingDropped(b)
	b.starts(1)
}

// active waits until a model is the board's for good.
func (b *board) active(digest string) {
	b.t.Helper()
	wait(b.t, 2*time.Minute, digest+" to be active", func() error {
		var s struct {
			Model   *wire.Running `json:"model"`
			OnTrial bool          `json:"on_trial"`
		}
		err := b.vm.Ask(b.t.Context(), "GET", "/agent/v1/status", nil, &s)
		if err == nil && (s.Model == nil || s.Model.Digest != digest || s.OnTrial) {
			err = fmt.Errorf("it runs %+v, on trial %v", s.Model, s.OnTrial)
		}
		return err
	})
}

// sectorOf returns a sector of the card, which is off, where the weights of a
// model are: they are the largest of its blobs.
func (b *board) sectorOf(pack string) int64 {
	b.t.Helper()
	blobs, err := os.ReadDir(filepath.Join(pack, "blobs", "sha256"))
	if err != nil {
		b.t.Fatal(err)
	}
	name, size := "", int64(0)
	for _, e := range blobs {
		if info, err := e.Info(); err == nil && info.Size() > size {
			name, size = e.Name(), info.Size()
		}
	}
	ask := func(request string) string {
		out, err := exec.Command(debugfs(), "-R", request, b.disk).Output()
		if err != nil {
			b.t.Fatalf("debugfs: %s: %v", request, err)
		}
		return string(out)
	}
	blocks := strings.Fields(ask("blocks /var/lib/dunlin/models/blobs/sha256/" + name))
	var block, blockSize int64
	_, size1, _ := strings.Cut(ask("stats -h"), "Block size:")
	if _, err := fmt.Sscan(size1, &blockSize); err != nil || len(blocks) < 3 {
		b.t.Fatalf("%s has %d blocks of %d bytes: %v", name, len(blocks), blockSize, err)
	}
	if _, err := fmt.Sscan(blocks[len(blocks)/2], &block); err != nil {
		b.t.Fatal(err)
	}
	return block * blockSize / 512
}
