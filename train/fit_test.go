package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"dunlin/model"
)

// addDense adds out = in·Wᵀ + b, with seeded weights, to a graph.
func addDense(g *model.Graph, r *rand.Rand, in, out string, from, to int) {
	g.AddConst(out+".weight", model.Of(model.F32, normals(r, to*from, math.Sqrt(2/float64(from))), to, from))
	g.AddConst(out+".bias", model.Of(model.F32, make([]float32, to), to))
	g.Nodes = append(g.Nodes, &model.Node{
		Op: "Gemm", Name: out, In: []string{in, out + ".weight", out + ".bias"}, Out: []string{out},
		Attrs: map[string]model.Attr{"transB": int64(1)},
	})
}

// addNode adds a node of one input.
func addNode(g *model.Graph, op, in, out string, more ...string) {
	g.Nodes = append(g.Nodes, &model.Node{Op: op, Name: out, In: append([]string{in}, more...), Out: []string{out}})
}

// classifier is a perceptron that ends in a softmax; with norm, it has a batch
// norm and dropout, and so states beside its parameters.
func classifier(seed uint64, features, hidden, classes int, norm bool) *model.Graph {
	r := rand.New(rand.NewPCG(seed, 7))
	g := model.New("classifier")
	g.Inputs, g.Outputs = []string{"x"}, []string{"scores"}
	g.Values["x"] = &model.Value{Type: model.F32, Shape: model.Shape{model.Unknown, features}}
	addDense(g, r, "x", "hidden", features, hidden)
	at := "hidden"
	if norm {
		for name, v := range map[string]float32{"scale": 1, "shift": 0, "mean": 0, "var": 1} {
			x := make([]float32, hidden)
			fill(x, v)
			g.AddConst("norm."+name, model.Of(model.F32, x, hidden))
		}
		addNode(g, "BatchNormalization", at, "norm", "norm.scale", "norm.shift", "norm.mean", "norm.var")
		addNode(g, "Dropout", "norm", "dropped")
		at = "dropped"
	}
	addNode(g, "Relu", at, "relu")
	addDense(g, r, "relu", "logits", hidden, classes)
	addNode(g, "Softmax", "logits", "scores")
	return g
}

// clusters are samples around a point for each class.
func clusters(seed uint64, n, features, classes int, spread float64) *Data {
	r := rand.New(rand.NewPCG(41, 1)) // the points are the same whatever the seed
	points := normals(r, classes*features, 1)
	r = rand.New(rand.NewPCG(seed, 2))
	d := &Data{Inputs: []Column{{Shape: model.Shape{features}}}}
	for range n {
		class := r.IntN(classes)
		d.Classes = append(d.Classes, int32(class))
		for f := range features {
			d.Inputs[0].Floats = append(d.Inputs[0].Floats, points[class*features+f]+float32(r.NormFloat64()*spread))
		}
	}
	return d
}

func mustNet(t testing.TB, g *model.Graph, o Options) *Net {
	t.Helper()
	n, err := NewNet(g, o)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// all returns the parameters and statistics of a net, one after another.
func all(n *Net) []float32 {
	var x []float32
	for _, list := range [][]*Parameter{n.Parameters(), n.Statistics()} {
		for _, p := range list {
			x = append(x, p.Value...)
		}
	}
	return x
}

func mustFit(t *testing.T, n *Net, d *Data, o FitOptions) *Result {
	t.Helper()
	r, err := Fit(context.Background(), n, d, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Each optimiser learns to tell clusters apart, in batches of any size, and
// tells how it went.
func TestFitLearns(t *testing.T) {
	data, test := clusters(1, 500, 8, 4, 0.4), clusters(2, 300, 8, 4, 0.4)
	for _, c := range []struct {
		batch int
		rate  float64
		o     OptimiserOptions
	}{
		{32, 0.1, OptimiserOptions{Method: SGD}},
		{64, 0.05, OptimiserOptions{Method: Momentum, Nesterov: true, Decay: 1e-4}},
		{50, 0.01, OptimiserOptions{Method: Adam}},
		{128, 0.02, OptimiserOptions{Method: AdamW, Decay: 0.01}},
	} {
		n := mustNet(t, classifier(1, 8, 16, 4, true), Options{Batch: c.batch, Logits: true})
		var told []Progress
		r := mustFit(t, n, data, FitOptions{
			Epochs: 8, Loss: &CrossEntropy{}, Optimiser: c.o, Schedule: Schedule{Shape: Cosine, Rate: c.rate, Warmup: 1}, Test: test,
			Progress: func(p Progress) { told = append(told, p) },
		})
		perEpoch := (500 + c.batch - 1) / c.batch
		first, last := r.Record[0], r.Record[len(r.Record)-1]
		if len(r.Record) != 8 || r.Steps != 8*perEpoch || last.Epoch != 8 || r.Best != 8 || r.Stopped {
			t.Errorf("%s: %+v", c.o.Method, r)
		}
		if !(last.TrainLoss < first.TrainLoss/2) || !(*last.TestLoss < 0.3) || !(*last.TestAccuracy > 0.93) {
			t.Errorf("%s: first %+v, last %+v with test loss %v, accuracy %v", c.o.Method, first, last, *last.TestLoss, *last.TestAccuracy)
		}
		m, err := Evaluate(context.Background(), n, test, &CrossEntropy{})
		if err != nil || m.Loss != *last.TestLoss || m.Accuracy != *last.TestAccuracy || m.Samples != 300 || m.Right != int(math.Round(300*m.Accuracy)) {
			t.Errorf("%s: evaluated %+v, %v", c.o.Method, m, err)
		}
		checkTold(t, told, perEpoch, (300+c.batch-1)/c.batch)
	}
}

// checkTold checks that progress was told in order: the steps of an epoch,
// those of its test, its record.
func checkTold(t *testing.T, told []Progress, perEpoch, perTest int) {
	t.Helper()
	i := 0
	for epoch := 1; epoch <= 8; epoch++ {
		for step := range perEpoch + perTest + 1 {
			p := told[i]
			i++
			want := Progress{Epoch: epoch, Epochs: 8, Step: step + 1, Steps: perEpoch}
			if step >= perEpoch {
				want.Step, want.Steps, want.Testing = step+1-perEpoch, perTest, true
			}
			if step == perEpoch+perTest {
				want.Step, want.Steps, want.Testing = perEpoch, perEpoch, false
			}
			got := p
			if (p.Done != nil) != (len(p.Record) == epoch && p.Done != nil) {
				t.Fatalf("%d records with that of epoch %d", len(p.Record), epoch)
			}
			got.Loss, got.Rate, got.Done, got.Record = 0, 0, nil, nil
			if !reflect.DeepEqual(got, want) || !(p.Loss > 0) || (p.Done != nil) != (step == perEpoch+perTest) {
				t.Fatalf("told %+v, want %+v", p, want)
			}
		}
	}
	if i != len(told) {
		t.Errorf("told %d times, want %d", len(told), i)
	}
}

// A net with the loss of its values learns a line, whose best fit is known.
func TestFitOfALine(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	g := model.New("line")
	g.Inputs, g.Outputs = []string{"x"}, []string{"y"}
	g.Values["x"] = &model.Value{Type: model.F32, Shape: model.Shape{model.Unknown, 2}}
	addDense(g, r, "x", "y", 2, 1)
	d := &Data{Inputs: []Column{{Shape: model.Shape{2}, Floats: normals(r, 400, 1)}}}
	for i := range 200 {
		x := d.Inputs[0].Floats[2*i:]
		d.Values = append(d.Values, 3*x[0]-2*x[1]+0.5)
	}
	n := mustNet(t, g, Options{Batch: 32})
	res := mustFit(t, n, d, FitOptions{Epochs: 40, Loss: MSE{}, Optimiser: OptimiserOptions{Method: SGD}, Schedule: Schedule{Rate: 0.1}, Test: d})
	for i, want := range []float64{3, -2, 0.5} {
		closeTo(t, fmt.Sprint("parameter ", i), float64(all(n)[i]), want, 1e-4)
	}
	if last := res.Record[39]; last.TestAccuracy != nil || !(*last.TestLoss < 1e-7) {
		t.Errorf("%+v", last)
	}
}

// Two trainings of one seed give the same bits, another seed gives others.
func TestFitIsReproducible(t *testing.T) {
	data := clusters(1, 203, 8, 4, 0.6)
	train := func(seed uint64) []float32 {
		n := mustNet(t, classifier(1, 8, 16, 4, true), Options{Batch: 16, Logits: true, Seed: 9})
		mustFit(t, n, data, FitOptions{
			Epochs: 3, Loss: &CrossEntropy{Smoothing: 0.1}, Optimiser: OptimiserOptions{Method: Adam}, Schedule: Schedule{Rate: 0.01}, Seed: seed,
		})
		return all(n)
	}
	a, b, c := train(1), train(1), train(2)
	if !slices.Equal(a, b) {
		t.Error("the same seed, other weights")
	}
	if slices.Equal(a, c) {
		t.Error("another seed, the same weights")
	}
}

// Every sample is seen once an epoch, the last batch being short; with
// WholeBatches those of it are left out. Augmentation gets the same numbers
// whenever the seed is the same.
func TestFitSeesEachSampleOnce(t *testing.T) {
	d := &Data{Inputs: []Column{{Shape: model.Shape{1, 1, 4}}}}
	for i := range 22 {
		d.Inputs[0].Floats = append(d.Inputs[0].Floats, float32(i), 0, 0, 0)
		d.Classes = append(d.Classes, int32(i%2))
	}
	g := classifier(1, 4, 3, 2, false)
	g.Values["x"].Shape = model.Shape{model.Unknown, 1, 1, 4}
	addNode(g, "Flatten", "x", "flat")
	g.Nodes = append(g.Nodes[len(g.Nodes)-1:], g.Nodes[:len(g.Nodes)-1]...)
	g.Nodes[1].In[0] = "flat"
	for whole, want := range map[bool]int{false: 22, true: 20} {
		var seen, drawn []float32
		look := func(r *rand.Rand, _ model.Shape, x, _, _ []float32) {
			seen, drawn = append(seen, x[0]), append(drawn, r.Float32())
		}
		n := mustNet(t, g, Options{Batch: 5, Logits: true})
		mustFit(t, n, d, FitOptions{
			Epochs: 2, Loss: &CrossEntropy{}, Optimiser: OptimiserOptions{Method: SGD}, Schedule: Schedule{Rate: 1e-3}, Augment: []Augment{look}, WholeBatches: whole,
		})
		if len(seen) != 2*want {
			t.Fatalf("%d samples seen, want %d", len(seen), 2*want)
		}
		first, second := seen[:want], seen[want:]
		if slices.Equal(first, second) {
			t.Error("both epochs have one order")
		}
		for _, epoch := range [][]float32{first, second} {
			s := slices.Compact(slices.Sorted(slices.Values(epoch)))
			if len(s) != want {
				t.Errorf("an epoch of %d showed %d different samples", want, len(s))
			}
		}
		if len(slices.Compact(slices.Sorted(slices.Values(drawn)))) < 2*want-1 {
			t.Errorf("draws come again: %v", drawn)
		}
	}
}

// The training ends when the test no longer gets better, and leaves the best
// weights: here the rate is such that it cannot get better for long.
func TestFitStopsEarly(t *testing.T) {
	data, test := clusters(1, 60, 8, 4, 1.5), clusters(2, 200, 8, 4, 1.5)
	n := mustNet(t, classifier(1, 8, 64, 4, false), Options{Batch: 20, Logits: true})
	r := mustFit(t, n, data, FitOptions{
		Epochs: 200, Loss: &CrossEntropy{}, Optimiser: OptimiserOptions{Method: Adam}, Schedule: Schedule{Rate: 0.02}, Test: test, Patience: 5,
	})
	if !r.Stopped || len(r.Record) != r.Best+5 {
		t.Fatalf("stopped %v after %d epochs, best %d", r.Stopped, len(r.Record), r.Best)
	}
	least := math.Inf(1)
	for _, e := range r.Record {
		least = min(least, *e.TestLoss)
	}
	m, err := Evaluate(context.Background(), n, test, &CrossEntropy{})
	if err != nil || m.Loss != least || *r.Record[r.Best-1].TestLoss != least {
		t.Errorf("the net's loss is %v, the best was %v, %v", m.Loss, least, err)
	}
}

// A student that listens to a teacher alone becomes like it, from inputs that
// were changed on the way: the teacher saw the same.
func TestFitDistils(t *testing.T) {
	data := clusters(1, 400, 8, 4, 0.7)
	big := mustNet(t, classifier(1, 8, 64, 4, false), Options{Batch: 40, Logits: true})
	options := FitOptions{Epochs: 6, Loss: &CrossEntropy{}, Optimiser: OptimiserOptions{Method: Adam}, Schedule: Schedule{Rate: 0.01}}
	mustFit(t, big, data, options)

	teach, calls := TeacherOf(big), 0
	options.Loss, options.Epochs = &Distillation{Temperature: 2, Weight: 1}, 30
	options.Teacher = func(n int, inputs [][]float32, logits []float32) error {
		calls++
		return teach(n, inputs, logits)
	}
	unlabelled := &Data{Inputs: data.Inputs}
	options.Test = clusters(3, 200, 8, 4, 0.7)
	student := mustNet(t, classifier(2, 8, 16, 4, false), Options{Batch: 32, Logits: true})
	r := mustFit(t, student, unlabelled, options)
	if last := r.Record[29]; !(*last.TestLoss < 0.05) || !(*last.TestLoss < *r.Record[0].TestLoss/5) {
		t.Errorf("divergence from the teacher: first %v, last %v", *r.Record[0].TestLoss, *last.TestLoss)
	}
	if want := 30 * (13 + 7); calls != want {
		t.Errorf("the teacher was asked %d times, want %d", calls, want)
	}
	options.Teacher = func(int, [][]float32, []float32) error { return errors.New("gone home") }
	if _, err := Fit(context.Background(), student, unlabelled, options); err == nil || !strings.Contains(err.Error(), "teacher: gone home") {
		t.Errorf("%v", err)
	}
}

func TestTeacherSeesTheBatch(t *testing.T) {
	d := &Data{Inputs: []Column{{Shape: model.Shape{1, 2, 2}, Bytes: []uint8{0, 51, 102, 255}, Scale: 1.0 / 51}}, Classes: []int32{0}}
	augment := func(_ *rand.Rand, _ model.Shape, x, _, border []float32) { x[0] = 9 + border[0] }
	n := mustNet(t, func() *model.Graph {
		g := classifier(1, 4, 3, 2, false)
		g.Values["x"].Shape = model.Shape{model.Unknown, 1, 2, 2}
		addNode(g, "Flatten", "x", "flat")
		g.Nodes = append(g.Nodes[len(g.Nodes)-1:], g.Nodes[:len(g.Nodes)-1]...)
		g.Nodes[1].In[0] = "flat"
		return g
	}(), Options{Batch: 1, Logits: true})
	var saw []float32
	mustFit(t, n, d, FitOptions{
		Epochs: 1, Loss: &Distillation{Temperature: 1, Weight: 0.5}, Optimiser: OptimiserOptions{Method: SGD}, Schedule: Schedule{Rate: 1e-3}, Augment: []Augment{augment},
		Teacher: func(_ int, inputs [][]float32, _ []float32) error { saw = slices.Clone(inputs[0]); return nil },
	})
	if !slices.Equal(saw, []float32{9, 1, 2, 5}) {
		t.Errorf("the teacher saw %v", saw)
	}
}

func TestFitRefuses(t *testing.T) {
	data := clusters(1, 30, 8, 4, 1)
	good := func() (*Data, Options, FitOptions) {
		return data, Options{Batch: 10, Logits: true},
			FitOptions{Epochs: 1, Loss: &CrossEntropy{}, Optimiser: OptimiserOptions{Method: SGD}, Schedule: Schedule{Rate: 0.1}}
	}
	for want, change := range map[string]func(d **Data, n *Options, o *FitOptions){
		"0 epochs":                   func(_ **Data, _ *Options, o *FitOptions) { o.Epochs = 0 },
		"no loss":                    func(_ **Data, _ *Options, o *FitOptions) { o.Loss = nil },
		"patience is measured on":    func(_ **Data, _ *Options, o *FitOptions) { o.Patience = 3 },
		"make the net with":          func(_ **Data, n *Options, _ *FitOptions) { n.Logits = false },
		"rate 0":                     func(_ **Data, _ *Options, o *FitOptions) { o.Schedule.Rate = 0 },
		`optimiser "" is unknown`:    func(_ **Data, _ *Options, o *FitOptions) { o.Optimiser.Method = "" },
		"a sample has shape [9]":     func(d **Data, _ *Options, _ *FitOptions) { *d = clusters(1, 30, 9, 4, 1) },
		"has class 4, the net has 4": func(d **Data, _ *Options, _ *FitOptions) { *d = clusters(1, 30, 8, 5, 1) },
		"test data: loss":            func(_ **Data, _ *Options, o *FitOptions) { o.Test = &Data{Inputs: data.Inputs} },
		"0 target values for 30":     func(_ **Data, _ *Options, o *FitOptions) { o.Loss = MSE{} },
		"give FitOptions.Teacher":    func(_ **Data, _ *Options, o *FitOptions) { o.Loss = &Distillation{Temperature: 1, Weight: 1} },
		"a temperature above 0":      func(_ **Data, _ *Options, o *FitOptions) { o.Loss = &Distillation{Weight: 1} },
		"smoothing is 1":             func(_ **Data, _ *Options, o *FitOptions) { o.Loss = &CrossEntropy{Smoothing: 1} },
		"augmentation is for":        func(_ **Data, _ *Options, o *FitOptions) { o.Augment = []Augment{MirrorShift(true, 1)} },
		"do not fill a batch of 31":  func(_ **Data, n *Options, o *FitOptions) { n.Batch, o.WholeBatches = 31, true },
		"the loss is NaN": func(d **Data, _ *Options, _ *FitOptions) {
			*d = clusters(1, 30, 8, 4, 1)
			(*d).Inputs[0].Floats[7] = float32(math.NaN())
		},
	} {
		d, no, o := good()
		change(&d, &no, &o)
		n := mustNet(t, classifier(1, 8, 6, 4, false), no)
		if _, err := Fit(context.Background(), n, d, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestFitEndsWithItsContext(t *testing.T) {
	data := clusters(1, 100, 8, 4, 1)
	n := mustNet(t, classifier(1, 8, 6, 4, false), Options{Batch: 10, Logits: true})
	ctx, cancel := context.WithCancel(context.Background())
	r, err := Fit(ctx, n, data, FitOptions{
		Epochs: 5, Loss: &CrossEntropy{}, Optimiser: OptimiserOptions{Method: SGD}, Schedule: Schedule{Rate: 0.1}, Test: data,
		Progress: func(p Progress) {
			if p.Epoch == 3 && p.Step == 4 && !p.Testing {
				cancel()
			}
		},
	})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "epoch 3 of 5, after step 4 of 10") || len(r.Record) != 2 || r.Steps != 24 {
		t.Errorf("%v, %+v", err, r)
	}
}
