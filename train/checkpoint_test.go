package train

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	byteorder "encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"dunlin/internal/durable"
)

// exercise is a training with all that a checkpoint holds: norms, dropout,
// augmentation by its own randomness, moments, patience, a short last batch.
func exercise(t testing.TB, checkpoint string) (*Net, *Data, FitOptions) {
	data, test := clusters(1, 230, 8, 4, 0.8), clusters(2, 60, 8, 4, 0.8)
	n := mustNet(t, classifier(1, 8, 16, 4, true), Options{Batch: 24, Logits: true, Seed: 5})
	return n, data, FitOptions{
		Epochs: 12, Loss: &CrossEntropy{Smoothing: 0.1}, Optimiser: OptimiserOptions{Method: AdamW, Decay: 0.01}, Schedule: Schedule{Shape: Cosine, Rate: 0.02, Warmup: 1},
		Seed: 3, Test: test, Patience: 9, Checkpoint: checkpoint, CheckpointEvery: 3, Resume: true, Recipe: "the exercise",
	}
}

// checksum names all weights.
func checksum(n *Net) string {
	h := sha256.New()
	hashFloats(h, all(n))
	return fmt.Sprintf("%x", h.Sum(nil))
}

const (
	childEnv = "DUNLIN_TRAIN_CHECKPOINT"
	pauseEnv = "DUNLIN_TRAIN_PAUSE"
)

// TestKilledChild is no test, but what TestKillNine starts: the exercise, at a
// pace at which it can be killed.
func TestKilledChild(t *testing.T) {
	path := os.Getenv(childEnv)
	if path == "" {
		return
	}
	pause, err := time.ParseDuration(os.Getenv(pauseEnv))
	if err != nil {
		t.Fatal(err)
	}
	n, data, o := exercise(t, path)
	o.Progress = func(p Progress) {
		fmt.Println("step", p.Epoch, p.Step)
		time.Sleep(pause)
	}
	if _, err := Fit(context.Background(), n, data, o); err != nil {
		t.Fatal(err)
	}
	fmt.Println("weights", checksum(n))
}

// A training that is killed, again and again at any moment, ends with the
// weights of one that is left alone, bit for bit.
func TestKillNine(t *testing.T) {
	n, data, o := exercise(t, "")
	mustFit(t, n, data, o)
	want := checksum(n)

	path, r := filepath.Join(t.TempDir(), "run.checkpoint"), rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	kills, steps, resumed := 8, 0, 0
	if testing.Short() {
		kills = 3
	}
	for kill := 0; ; kill++ {
		after := -1 // steps until the kill; at the end the training is let go
		if kill < kills {
			after = 1 + r.IntN(25)
		}
		got, made, first := killedRun(t, path, after, time.Duration(r.IntN(2000))*time.Microsecond)
		steps += made
		if first != "1 1" {
			resumed++
		}
		if got != "" {
			if got != want {
				t.Errorf("after %d kills: weights %s, want %s", kill, got, want)
			}
			if kill == 0 || resumed == 0 {
				t.Errorf("it was killed %d times, and went on from a checkpoint %d times", kill, resumed)
			}
			break
		}
		// What a kill in the middle of a write leaves, the next start takes away.
		if err := os.WriteFile(durable.TempName(path), []byte("half a checkpoint"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 || entries[0].Name() != filepath.Base(path) {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	t.Logf("%d steps in all", steps)
}

// killedRun runs the child and kills it so many steps later, and a moment. It
// returns what the child says of its weights where it came to the end, how
// many steps it told of, and epoch and number of the first.
func killedRun(t *testing.T, path string, after int, moment time.Duration) (weights string, steps int, first string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestKilledChild$", "-test.v")
	pause := "1ms"
	if after < 0 {
		pause = "0s"
	}
	cmd.Env = append(os.Environ(), childEnv+"="+path, pauseEnv+"="+pause)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := &bytes.Buffer{}
	for s := bufio.NewScanner(out); s.Scan(); {
		fmt.Fprintln(said, s.Text())
		switch f := strings.Fields(s.Text()); {
		case len(f) == 2 && f[0] == "weights":
			weights = f[1]
		case len(f) == 3 && f[0] == "step":
			if steps == 0 {
				first = f[1] + " " + f[2]
			}
			if steps++; steps == after {
				time.Sleep(moment)
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := cmd.Wait(); err != nil && after < 0 {
		t.Fatalf("%v\n%s", err, said)
	}
	return weights, steps, first
}

// Interrupted by its context at every step in turn, the training resumes to
// the same weights and the same record.
func TestResumeFromEachStep(t *testing.T) {
	short := func(t *testing.T, checkpoint string) (*Net, *Data, FitOptions) {
		n, data, o := exercise(t, checkpoint)
		o.Epochs = 4
		return n, data, o
	}
	n, data, o := short(t, "")
	whole := mustFit(t, n, data, o)
	want := checksum(n)
	every := 3 // has no factor in common with the 14 moments of an epoch
	if testing.Short() {
		every = 11
	}
	for stop := 1; stop < whole.Steps; stop += every {
		n, data, o := short(t, filepath.Join(t.TempDir(), "c"))
		o.CheckpointEvery = 0
		ctx, cancel := context.WithCancel(context.Background())
		told := 0
		o.Progress = func(Progress) {
			if told++; told == stop {
				cancel()
			}
		}
		if _, err := Fit(ctx, n, data, o); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		n, data, o = short(t, o.Checkpoint)
		var first *Progress
		o.Progress = func(p Progress) {
			if first == nil {
				first = &p
			}
		}
		r := mustFit(t, n, data, o)
		// An epoch tells of 10 steps, 3 of the test, which is begun anew, and its end.
		at, next := (first.Epoch-1)*14+first.Step, stop+1
		if first.Testing {
			at += 10
		}
		switch stop % 14 {
		case 11, 12:
			next = stop/14*14 + 11
		case 13: // the test was over
			next = stop + 2
		}
		if at != next {
			t.Fatalf("stopped after %d, it went on from epoch %d, step %d", stop, first.Epoch, first.Step)
		}
		if got := checksum(n); got != want {
			t.Fatalf("stopped after %d: weights %s, want %s", stop, got, want)
		}
		for i, e := range r.Record {
			if w := whole.Record[i]; e.TrainLoss != w.TrainLoss || *e.TestLoss != *w.TestLoss || *e.TestAccuracy != *w.TestAccuracy || e.Rate != w.Rate {
				t.Fatalf("stopped after %d: record %+v, want %+v", stop, e, w)
			}
		}
		if r.Best != whole.Best || r.Steps != whole.Steps || r.Stopped != whole.Stopped {
			t.Fatalf("stopped after %d: %+v, want %+v", stop, r, whole)
		}
		again := mustFit(t, mustNet(t, classifier(8, 8, 16, 4, true), Options{Batch: 24, Logits: true, Seed: 5}), data, o)
		if !reflect.DeepEqual(again, r) {
			t.Fatalf("a training that is over went on: %+v", again)
		}
	}
}

// A checkpoint of another training is refused, in words that say what differs,
// and nothing has changed.
func TestResumeRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	n, data, o := exercise(t, path)
	o.Epochs = 12
	ctx, cancel := context.WithCancel(context.Background())
	o.Progress = func(p Progress) {
		if p.Epoch == 2 {
			cancel()
		}
	}
	if _, err := Fit(ctx, n, data, o); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(n **Net, d **Data, o *FitOptions){
		"its batch was 24, now it is 20": func(n **Net, _ **Data, _ *FitOptions) {
			*n = mustNet(t, classifier(1, 8, 16, 4, true), Options{Batch: 20, Logits: true, Seed: 5})
		},
		"its data was 230 samples":                  func(_ **Net, d **Data, _ *FitOptions) { *d = clusters(9, 230, 8, 4, 0.8) },
		"its seed was 3, of dropout 5, now it is 4": func(_ **Net, _ **Data, o *FitOptions) { o.Seed = 4 },
		"its loss was cross-entropy, smoothing 0.1": func(_ **Net, _ **Data, o *FitOptions) { o.Loss = &CrossEntropy{} },
		"its optimiser was":                         func(_ **Net, _ **Data, o *FitOptions) { o.Optimiser.Decay = 0.5 },
		"its schedule was":                          func(_ **Net, _ **Data, o *FitOptions) { o.Schedule.Rate = 1 },
		"its epochs was 12, now it is 13":           func(_ **Net, _ **Data, o *FitOptions) { o.Epochs = 13 },
		"its recipe was the exercise":               func(_ **Net, _ **Data, o *FitOptions) { o.Recipe = "another" },
		"its test data was 60 samples":              func(_ **Net, _ **Data, o *FitOptions) { o.Test = clusters(9, 60, 8, 4, 0.8) },
		"list 0 is hidden.weight with 128 values": func(n **Net, _ **Data, _ *FitOptions) {
			*n = mustNet(t, classifier(1, 8, 17, 4, true), Options{Batch: 24, Logits: true, Seed: 5})
		},
		"it is damaged": func(_ **Net, _ **Data, o *FitOptions) {
			o.Checkpoint = filepath.Join(t.TempDir(), "damaged")
			b := bytes.Clone(whole)
			b[len(b)/2] ^= 4
			if err := os.WriteFile(o.Checkpoint, b, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"more than this net needs": func(_ **Net, _ **Data, o *FitOptions) {
			o.Checkpoint = filepath.Join(t.TempDir(), "huge")
			f, err := os.Create(o.Checkpoint)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(f.Truncate(1<<30), f.Close()); err != nil { // sparse
				t.Fatal(err)
			}
		},
	} {
		n, data, o := exercise(t, path)
		change(&n, &data, &o)
		before := checksum(n)
		_, err := Fit(context.Background(), n, data, o)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), o.Checkpoint) {
			t.Errorf("%v, want %q", err, want)
		}
		if after := checksum(n); after != before {
			t.Errorf("%s: the weights changed", want)
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, whole) {
		t.Errorf("the checkpoint changed, %v", err)
	}
}

// A training of constant rate may go on for more epochs than it was begun
// with.
func TestResumeForMoreEpochs(t *testing.T) {
	data := clusters(1, 100, 8, 4, 0.8)
	run := func(path string, epochs ...int) string {
		var n *Net
		for _, e := range epochs {
			n = mustNet(t, classifier(1, 8, 16, 4, false), Options{Batch: 16, Logits: true})
			mustFit(t, n, data, FitOptions{
				Epochs: e, Loss: &CrossEntropy{}, Optimiser: OptimiserOptions{Method: Momentum}, Schedule: Schedule{Rate: 0.01}, Checkpoint: path, Resume: true,
			})
		}
		return checksum(n)
	}
	if once, twice := run(filepath.Join(t.TempDir(), "c"), 5), run(filepath.Join(t.TempDir(), "c"), 2, 5); once != twice {
		t.Errorf("five epochs give %s, two and three more %s", once, twice)
	}
}

// sealed puts magic, length and sum around a header and values.
func sealed(text string, values []byte) []byte {
	b := append([]byte(checkpointMagic), byteorder.LittleEndian.AppendUint32(nil, uint32(len(text)))...)
	b = append(append(b, text...), values...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func TestCheckpointsRefused(t *testing.T) {
	for want, b := range map[string][]byte{
		"no checkpoint":                     []byte("short"),
		"no checkpoint of this version":     append([]byte("dunlinC0"), make([]byte, 100)...),
		"it is damaged":                     append([]byte(checkpointMagic), make([]byte, 100)...),
		"header: unknown field":             nil, // below
		"header: EOF":                       sealed("", nil),
		"there is more behind it":           sealed("{} {}", nil),
		`list "w" has 3 values, 8 bytes`:    sealed(`{"lists":[{"name":"w","count":3}]}`, make([]byte, 8)),
		`list "w" has -1 values`:            sealed(`{"lists":[{"name":"w","count":-1}]}`, nil),
		"4 bytes are left behind the last":  sealed(`{"lists":[{"name":"w","count":1}]}`, make([]byte, 8)),
		"a header of 4294967295 bytes in a": nil,
	} {
		switch {
		case strings.HasPrefix(want, "header: unknown"):
			b, want = sealed(`{"future":1}`, nil), `header: json: unknown field "future"`
		case strings.HasPrefix(want, "a header of 4"):
			b = append([]byte(checkpointMagic), 0xff, 0xff, 0xff, 0xff)
			sum := sha256.Sum256(b)
			b = append(b, sum[:]...)
		}
		if _, err := parseCheckpoint(b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// What parses is written as what parses the same.
func FuzzCheckpoint(f *testing.F) {
	good := &checkpoint{header: header{
		Settings: []setting{{"batch", "32"}}, State: fitState{Epoch: 1, Record: []Epoch{{Epoch: 1, TrainLoss: 0.5, TestLoss: new(float64)}}},
		Lists: []list{{"w", 2}, {"b", 0}},
	}, values: [][]float32{{1, -2}, {}}}
	text, err := json.Marshal(good.header)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text), []byte{0, 0, 128, 63, 0, 0, 0, 192})
	f.Add(`{"lists":[{"name":"w","count":1}]}`, []byte{1, 2, 3})
	f.Add(`{"lists":[{"name":"w","count":4611686018427387904}]}`, []byte{1, 2, 3, 4})
	f.Add(`[]`, []byte{})
	f.Fuzz(func(t *testing.T, text string, values []byte) {
		c, err := parseCheckpoint(sealed(text, values))
		if err != nil {
			return
		}
		n, _, o := exercise(t, "")
		fit, err := newFit(n, clusters(1, 30, 8, 4, 1), o)
		if err != nil {
			t.Fatal(err)
		}
		if err := fit.take(c); err == nil && len(c.Settings) == 0 && len(c.Lists) == 0 {
			t.Error("a checkpoint of nothing was taken")
		}
		b, err := c.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseCheckpoint(b)
		if err != nil {
			t.Fatal(err)
		}
		if b2, err := again.encode(); err != nil || !bytes.Equal(b, b2) {
			t.Errorf("written again it differs: %v", err)
		}
	})
}
