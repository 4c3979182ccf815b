//go:build board

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dunlin/firmware-tools/vm"
	"dunlin/internal/oci"
	"dunlin/internal/sign"
	"dunlin/model"
	"dunlin/model/pack"
	"dunlin/sync/wire"
)

// ordeal is a virtual board that something will be done to.
type ordeal struct {
	cardMB   int      // size of the card; 0: 64
	memoryMB int      // 0: the board's own
	config   string   // more of the agent's
	files    vm.Files // more on the card
	exec     []string // runs the agent: a program of files that takes it as its arguments
	modules  []string
	watchdog time.Duration // 0: as the package has it; below: none
	hub      map[int]string
}

const inboxDir = "var/lib/dunlin/inbox/"

// ordealBoard enrols a device and makes a board of it that is off.
func (f *fleet) ordealBoard(name string, o ordeal) *board {
	f.t.Helper()
	kind, err := vm.Named("virt")
	if err != nil {
		f.t.Fatal(err)
	}
	if o.memoryMB > 0 {
		kind.MemoryMB = o.memoryMB
	}
	var enrolled struct{ Token string }
	f.must("POST", "/v1/devices", map[string]string{"tenant": "e2e", "name": name}, &enrolled)
	config := fmt.Sprintf("metrics_every_s = 1\n[hub]\ntoken = %q\n%s", enrolled.Token, o.config)
	if !strings.Contains(o.config, "[folder]") {
		config += "\n[folder]\ndir = \"/" + inboxDir + "\"\npoll_ms = 100\n"
	}
	files := vm.AgentFiles(agentFor(f.t, kind), config)
	files[inboxDir] = vm.File{}
	for path, file := range o.files {
		files[path] = file
	}
	b := &board{t: f.t, name: name, disk: filepath.Join(f.dir, name+".img")}
	if err := vm.MakeDisk(b.disk, max(o.cardMB, 64), files); err != nil {
		cannot(f.t, err)
	}
	service := vm.Agent()
	service.Exec = append(o.exec, service.Exec...)
	if o.watchdog != 0 {
		service.WatchdogMS, service.StopMS = int(max(0, o.watchdog).Milliseconds()), 2000
	}
	hub := o.hub
	if hub == nil {
		hub = map[int]string{boardHTTP: f.addr, boardMQTT: f.mqtt}
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), 3*time.Minute) // a kernel may have to be fetched
	defer cancel()
	b.machine, err = vm.New(ctx, kind, vm.Config{Disk: b.disk, Service: service, Modules: o.modules, Hub: hub, Log: func(s string) { f.t.Log(s) }})
	if err != nil {
		cannot(f.t, err)
	}
	f.t.Cleanup(func() {
		if b.vm != nil {
			b.vm.Kill()
			if f.t.Failed() {
				f.t.Logf("console of %s:\n%s", name, b.vm.Tail(60))
			}
		}
		if err := b.machine.Close(); err != nil {
			f.t.Error(err)
		}
	})
	return b
}

// infer has the board answer a picture; what it answers is acknowledged.
func infer(ctx context.Context, v *vm.VM, picture []byte) (r wire.Result, err error) {
	return r, v.Ask(ctx, "POST", "/agent/v1/infer", bytes.NewReader(picture), &r)
}

// feeder has a board answer pictures, each another one by its digest, and
// remembers which of them were answered for.
type feeder struct {
	picture []byte

	mu    sync.Mutex
	next  uint64
	sent  map[string]bool // by digest: given, answered or not
	acked map[string]bool // answered: the result is on the card
	tell  func(wire.Result)
}

func newFeeder(picture []byte) *feeder {
	return &feeder{picture: picture, next: 1 << 32, sent: map[string]bool{}, acked: map[string]bool{}}
}

// feed sends pictures in so many threads until stop is called or the board is
// off.
func (f *feeder) feed(v *vm.VM, threads int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for range threads {
		all.Go(func() {
			for ctx.Err() == nil {
				if _, err := f.one(ctx, v); err != nil {
					select {
					case <-v.Done():
						return
					case <-ctx.Done():
						return
					case <-time.After(20 * time.Millisecond): // no model yet, or too many at once
					}
				}
			}
		})
	}
	return func() { cancel(); all.Wait() }
}

func (f *feeder) one(ctx context.Context, v *vm.VM) (wire.Result, error) {
	f.mu.Lock()
	data := withNote(f.picture, f.next)
	f.next++
	f.sent[digestOf(data)] = true
	f.mu.Unlock()
	r, err := infer(ctx, v, data)
	if err == nil && r.Error == "" {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.acked[r.Input] = true
		if f.tell != nil {
			f.tell(r)
		}
	}
	return r, err
}

func digestOf(data []byte) string { return "sha256:" + fmt.Sprintf("%x", sum(data)) }

// known is a model that a board may run in an ordeal, and what it answers to
// the feeder's picture.
type known struct {
	dir, digest string
	label       string
	score       float32
}

// knownModels makes n versions of the example's model, from 3 on, that have
// no weights in common: dense networks of 1.3 MB in float32.
func knownModels(t *testing.T, e example, n int, picture string) []known {
	t.Helper()
	good, err := pack.ReadDir(e.pack)
	if err != nil {
		t.Fatal(err)
	}
	defer good.Close()
	key, err := sign.ReadPrivate(e.key)
	if err != nil {
		t.Fatal(err)
	}
	all := []known{answerOf(t, e.pack, e.digest, picture)}
	for i := range n {
		p := good.Pack
		p.Version, p.Graph = int64(3+i), denseGraph(t, uint64(i))
		input := good.Exam.Cases[0].Inputs
		p.Exam = &pack.Exam{Tolerance: 1e-3, Cases: []pack.Case{{Inputs: input, Outputs: []*model.Tensor{answer(t, p.Graph, input[0])}}}}
		dir := filepath.Join(t.TempDir(), fmt.Sprintf("dense%d", i))
		l, err := oci.Create(dir)
		if err != nil {
			t.Fatal(err)
		}
		d, err := pack.Write(l, &p)
		if err != nil {
			t.Fatal(err)
		}
		if err := pack.Sign(l, d.Digest.String(), key); err != nil {
			t.Fatal(err)
		}
		all = append(all, answerOf(t, dir, d.Digest.String(), picture))
	}
	return all
}

// denseGraph is a network of two dense layers with weights of a seed.
func denseGraph(t *testing.T, seed uint64) *model.Graph {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 7))
	g := model.New(fmt.Sprintf("dense%d", seed))
	g.Inputs, g.Outputs = []string{"image"}, []string{"scores"}
	g.Values["image"] = &model.Value{Type: model.F32, Shape: model.Shape{1, 1, 28, 28}}
	constant := func(name string, shape ...int) {
		c, err := model.NewTensor(model.F32, shape...)
		if err != nil {
			t.Fatal(err)
		}
		for i := range c.F32() {
			c.F32()[i] = (rnd.Float32() - 0.5) / 8
		}
		g.AddConst(name, c)
	}
	node := func(op, out string, attrs map[string]model.Attr, in ...string) string {
		g.Nodes = append(g.Nodes, &model.Node{Op: op, Name: out, In: in, Out: []string{out}, Attrs: attrs})
		return out
	}
	constant("first", 400, 784)
	constant("second", 10, 400)
	turned := map[string]model.Attr{"transB": int64(1)}
	x := node("Relu", "relu", nil, node("Gemm", "hidden", turned, node("Flatten", "flat", nil, "image"), "first"))
	node("Softmax", "scores", nil, node("Gemm", "logits", turned, x, "second"))
	if err := g.Check(); err != nil {
		t.Fatal(err)
	}
	return g
}

func answerOf(t *testing.T, dir, digest, picture string) known {
	t.Helper()
	var a answers
	if err := json.Unmarshal([]byte(dunlin(t, "model", "run", dir, "--picture", picture, "--json")), &a); err != nil {
		t.Fatal(err)
	}
	return known{dir, digest, a.Labels[0].Label, a.Labels[0].Score}
}

// right tells what is wrong with a result, of which the model must be one of
// the known and the answer this machine's.
func right(r wire.Result, all []known) error {
	for _, k := range all {
		if k.digest == r.Model.Digest {
			if len(r.Labels) == 0 || r.Labels[0].Label != k.label || r.Labels[0].Score-k.score > 1e-3 || k.score-r.Labels[0].Score > 1e-3 {
				return fmt.Errorf("model %s answers %+v, want %s with %v", k.digest, r.Labels, k.label, k.score)
			}
			return nil
		}
	}
	return fmt.Errorf("model %+v is none that it was given", r.Model)
}

// bad are words that a board may not say on its console whatever is cut: that
// a file was torn, that the file system is.
var bad = []string{"torn", "moved aside", "damaged", "EXT4-fs error", "EXT4-fs warning", "panic", "trouble:"}

func badLines(v *vm.VM) (lines []string) {
	for _, line := range v.Console() {
		for _, word := range bad {
			if strings.Contains(line, word) {
				lines = append(lines, line)
				break
			}
		}
	}
	return lines
}

// fsck looks at a card that was turned off in order; changed tells whether a
// repair is allowed.
func fsck(t *testing.T, image string, how string) error {
	t.Helper()
	path, err := exec.LookPath("e2fsck")
	if err != nil {
		path = "/usr/sbin/e2fsck"
	}
	out, err := exec.Command(path, how, image).CombinedOutput()
	if err == nil {
		return nil
	}
	if exit, ok := err.(*exec.ExitError); ok && exit.ExitCode() == 1 && how == "-fp" {
		return nil // what it mended without asking is what a mount mends
	}
	return fmt.Errorf("e2fsck %s: %w: %s", how, err, out)
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
