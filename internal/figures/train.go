package figures

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"dunlin/model"
	"dunlin/train"
)

//go:embed torch_steps.py
var torchSteps []byte

// trainings are the networks whose steps are timed. torch's names are those
// of torch_steps.py; the fastest of them counts.
var trainings = []struct {
	name  string
	torch []string
	make  func(r *rand.Rand) *model.Graph
	batch int
	loss  train.Loss
	want  float64 // torch's time by ours, at least
}{
	{"MLP 100-50-10, batch 32, MSE", []string{"mlp100"}, perceptron(100, 50, 10), 32, train.MSE{}, 2},
	{"MLP 784-128-10, batch 64, cross-entropy", []string{"mlp784"}, perceptron(784, 128, 10), 64, &train.CrossEntropy{}, 0.9},
	{"CNN 28x28, 2 x (conv 3x3, ReLU, max pool), dense, batch 64", []string{"cnn", "cnn-channels-last"}, pooled, 64, &train.CrossEntropy{}, 0.6},
}

const (
	trainRounds = 21
	trainBlock  = 60 * time.Millisecond // of steps, of each side in turn
)

// train prints what a step of training takes, beside torch.
func (s *session) train() error {
	t, err := s.startTorch()
	if err != nil {
		return err
	}
	defer t.stop()
	s.heading("Training", "make bench-train", t.versions...)
	fmt.Fprintf(s.out, "One step (forward, loss, backward, Adam) in one thread, beside torch in one thread: CPU time, the median of %d\n"+
		"rounds in each of which either runs for %v; the ratio is the median of the rounds'.\n\n", trainRounds, trainBlock)
	rows := [][]string{{"network", "torch, µs", "dunlin, µs", "least of each", "torch / dunlin", "wanted"}}
	for _, c := range trainings {
		step, err := ourStep(c.make, c.batch, c.loss)
		if err != nil {
			return err
		}
		name, err := t.fastest(c.torch)
		if err != nil {
			return err
		}
		theirs, ours, ratios, err := t.alternate(name, step)
		if err != nil {
			return err
		}
		rows = append(rows, []string{
			c.name, micros(median(theirs)), micros(median(ours)), micros(slices.Min(theirs)) + " / " + micros(slices.Min(ours)),
			fmt.Sprintf("%.2f", median(ratios)), fmt.Sprintf("%.1f", c.want),
		})
		fmt.Fprintln(s.log, strings.Join(rows[len(rows)-1], "  "), name)
	}
	s.rows(rows)
	return t.stop()
}

func micros(nanos float64) string { return fmt.Sprintf("%.1f", nanos/1e3) }

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

// ourStep returns a step of dunlin on a batch that stays the same.
func ourStep(graph func(*rand.Rand) *model.Graph, batch int, loss train.Loss) (func(), error) {
	r := rand.New(rand.NewPCG(1, 1))
	n, err := train.NewNet(graph(r), train.Options{Batch: batch, Logits: loss.Logits()})
	if err != nil {
		return nil, err
	}
	o, err := train.NewOptimiser(train.OptimiserOptions{Method: train.Adam}, n.Parameters())
	if err != nil {
		return nil, err
	}
	x := normals(r, len(n.Input(0)), 1)
	t := train.Targets{Values: normals(r, len(n.Output(0)), 1), Classes: make([]int32, batch)}
	for i := range t.Classes {
		t.Classes[i] = int32(i % 10)
	}
	return func() {
		copy(n.Input(0), x)
		n.Forward(true)
		loss.Of(batch, n.Output(0), t, n.OutputGradient(0))
		n.Backward()
		o.Step(1e-3)
	}, nil
}

// torch is the process of torch_steps.py.
type torch struct {
	cmd      *exec.Cmd
	in       io.WriteCloser
	out      *bufio.Scanner
	versions []string
}

// startTorch starts it, and fails where torch has another BLAS than OpenBLAS:
// Debian's default takes ten times as long.
func (s *session) startTorch() (*torch, error) {
	if err := exec.Command(python, "-c", "import torch").Run(); err != nil {
		return nil, missing("torch for "+python, "apt install python3-torch libopenblas0-pthread")
	}
	if err := os.MkdirAll(s.cache, 0o777); err != nil {
		return nil, err
	}
	script := filepath.Join(s.cache, "torch_steps.py")
	if err := os.WriteFile(script, torchSteps, 0o666); err != nil {
		return nil, err
	}
	t := &torch{cmd: exec.Command(python, script)}
	t.cmd.Env = append(os.Environ(), "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1")
	t.cmd.Stderr = s.log
	out, err := t.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if t.in, err = t.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	t.out = bufio.NewScanner(out)
	if err := t.greet(); err != nil {
		t.stop()
		return nil, err
	}
	return t, nil
}

// greet reads what the process says of itself.
func (t *torch) greet() error {
	var said struct {
		Torch   string
		BLAS    []string
		Threads int
	}
	if !t.out.Scan() {
		return fmt.Errorf("torch_steps.py says nothing: %w", t.out.Err())
	}
	if err := json.Unmarshal(t.out.Bytes(), &said); err != nil {
		return fmt.Errorf("torch_steps.py says %q: %w", t.out.Text(), err)
	}
	open := slices.ContainsFunc(said.BLAS, func(path string) bool { return strings.Contains(path, "openblas") })
	if !open || said.Threads != 1 {
		return fmt.Errorf("torch has %d threads and the BLAS %v: apt install libopenblas0-pthread, update-alternatives --config libblas.so.3-x86_64-linux-gnu",
			said.Threads, said.BLAS)
	}
	t.versions = []string{"torch " + said.Torch + " with OpenBLAS"}
	return nil
}

// steps has torch make so many steps, and returns the nanoseconds of one.
func (t *torch) steps(name string, count int) (float64, error) {
	if _, err := fmt.Fprintln(t.in, name, count); err != nil {
		return 0, err
	}
	if !t.out.Scan() {
		return 0, fmt.Errorf("torch ended in %s: %w", name, t.out.Err())
	}
	return strconv.ParseFloat(t.out.Text(), 64)
}

// fastest returns the name whose steps take the least time.
func (t *torch) fastest(names []string) (best string, err error) {
	least := math.Inf(1)
	for _, name := range names {
		for range 4 { // the first warms up
			took, err := t.steps(name, 20)
			if err != nil {
				return "", err
			}
			if took < least {
				least, best = took, name
			}
		}
	}
	return best, nil
}

// alternate times both in turn: nanoseconds of a step, and torch's by ours.
func (t *torch) alternate(name string, step func()) (theirs, ours, ratios []float64, err error) {
	mine := func(count int) float64 {
		start := cpuTime()
		for range count {
			step()
		}
		return float64((cpuTime() - start).Nanoseconds()) / float64(count)
	}
	fit := func(nanos float64) int { return max(1, int(float64(trainBlock.Nanoseconds())/nanos)) }
	warm, err := t.steps(name, 20)
	if err != nil {
		return nil, nil, nil, err
	}
	mine(20)
	many, most := fit(warm), fit(mine(20))
	for range trainRounds {
		a, err := t.steps(name, many)
		if err != nil {
			return nil, nil, nil, err
		}
		b := mine(most)
		theirs, ours, ratios = append(theirs, a), append(ours, b), append(ratios, a/b)
	}
	return theirs, ours, ratios, nil
}

// cpuTime returns the CPU time of this process so far: on an idle machine that
// of one thread's steps is their time.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it has no other failure than a bad argument
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// stop ends the process. Called again, it does nothing.
func (t *torch) stop() error {
	if t.in == nil {
		return nil
	}
	t.in.Close()
	t.in = nil
	return t.cmd.Wait()
}

func normals(r *rand.Rand, n int, scale float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64() * scale)
	}
	return x
}

// net is a graph in the making: at is the value that the next layer reads.
type net struct {
	*model.Graph
	r  *rand.Rand
	at string
}

func newNet(r *rand.Rand, shape ...int) *net {
	n := &net{model.New("bench"), r, "x"}
	n.Inputs = []string{"x"}
	n.Values["x"] = &model.Value{Type: model.F32, Shape: append(model.Shape{model.Unknown}, shape...)}
	return n
}

// layer adds a node; one with weights has a bias too.
func (n *net) layer(op string, attrs map[string]model.Attr, weights ...int) {
	name := fmt.Sprintf("%s%d", strings.ToLower(op), len(n.Nodes))
	in := []string{n.at}
	if len(weights) > 0 {
		size, err := model.Shape(weights).Elements()
		if err != nil {
			panic(err)
		}
		scale := math.Sqrt(2 / float64(size/weights[0]))
		n.AddConst(name+".weight", model.Of(model.F32, normals(n.r, size, scale), weights...))
		n.AddConst(name+".bias", model.Of(model.F32, make([]float32, weights[0]), weights[0]))
		in = append(in, name+".weight", name+".bias")
	}
	n.Nodes = append(n.Nodes, &model.Node{Op: op, Name: name, In: in, Out: []string{name}, Attrs: attrs})
	n.at = name
}

func (n *net) done() *model.Graph {
	n.Outputs = []string{n.at}
	return n.Graph
}

// perceptron is dense layers of these widths with ReLU between them.
func perceptron(widths ...int) func(r *rand.Rand) *model.Graph {
	return func(r *rand.Rand) *model.Graph {
		n := newNet(r, widths[0])
		for i := range widths[1:] {
			if i > 0 {
				n.layer("Relu", nil)
			}
			n.layer("Gemm", map[string]model.Attr{"transB": int64(1)}, widths[i+1], widths[i])
		}
		return n.done()
	}
}

// pooled is the network of the study: pooled of torch_steps.py.
func pooled(r *rand.Rand) *model.Graph {
	n := newNet(r, 1, 28, 28)
	for _, channels := range [][2]int{{1, 16}, {16, 32}} {
		n.layer("Conv", map[string]model.Attr{"pads": []int64{1, 1, 1, 1}}, channels[1], channels[0], 3, 3)
		n.layer("Relu", nil)
		n.layer("MaxPool", map[string]model.Attr{"kernel_shape": []int64{2, 2}, "strides": []int64{2, 2}})
	}
	n.layer("Flatten", nil)
	n.layer("Gemm", map[string]model.Attr{"transB": int64(1)}, 10, 1568)
	return n.done()
}
