package recipe

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dunlin/engine"
	"dunlin/model"
	"dunlin/model/onnx"
	"dunlin/model/prep"
	"dunlin/model/samples"
	"dunlin/train"
)

func run(t *testing.T, r *Recipe, o RunOptions) *Report {
	t.Helper()
	report, err := r.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// small is the example mlp with fewer samples.
func small(t *testing.T) *Recipe {
	t.Helper()
	r := example(t, "mlp")
	r.Data.Synthetic.Samples, r.Train.Epochs = 1024, 4
	return r
}

// TestRun: a training of numbers learns, twice the same, and writes what it
// says.
func TestRun(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	r := small(t)
	a, b := run(t, r, RunOptions{Dir: one}), run(t, r, RunOptions{Dir: two})
	if a.SHA256 != b.SHA256 || len(a.Epochs) != 4 || a.Best != 4 || a.Train != 1024 || a.Test != 256 || a.Parameters != 5560 {
		t.Errorf("%+v\n%+v", a, b)
	}
	if first, last := a.Epochs[0], a.Last(); !(last.TrainLoss < first.TrainLoss/2) || !(*last.TestLoss < *first.TestLoss) {
		t.Errorf("it learned nothing: %+v, %+v", first, last)
	}
	for _, name := range []string{ModelFile, PrepFile, CurvesFile, ReportFile} {
		if _, err := os.Stat(filepath.Join(one, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(one, CheckpointFile)); err == nil {
		t.Error("a checkpoint is left of a training that is over")
	}
	r.Train.Seed++
	if c := run(t, r, RunOptions{Dir: two}); c.SHA256 == a.SHA256 {
		t.Error("another seed makes the same model")
	}
	if s := spec(t, one); len(s.Inputs[0].Fields) != 100 || s.Outputs[0].Kind != "values" || s.Outputs[0].Top != 10 {
		t.Errorf("prep.toml: %+v", s)
	}
}

func spec(t *testing.T, dir string) prep.Spec {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, PrepFile))
	if err != nil {
		t.Fatal(err)
	}
	s, err := prep.ParseTOML(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return s
}

// TestInterrupted: a training that is stopped in the middle of an epoch goes
// on to the same model; a checkpoint of another one is refused, unless it is
// to begin anew.
func TestInterrupted(t *testing.T) {
	r := small(t)
	whole := run(t, r, RunOptions{Dir: t.TempDir()})
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	steps := 0
	_, err := r.Run(ctx, RunOptions{Dir: dir, Fitting: func(train.Progress) {
		if steps++; steps == 50 {
			stop()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted: %v", err)
	}
	other := small(t)
	other.Network.Layers[0].Out = 49
	if _, err := other.Run(t.Context(), RunOptions{Dir: dir}); !errors.Is(err, train.ErrNotResumable) {
		t.Errorf("another network went on: %v", err)
	}
	started := Start{}
	resumed := run(t, r, RunOptions{Dir: dir, Started: func(s Start) { started = s }})
	if resumed.SHA256 != whole.SHA256 || len(resumed.Epochs) != 4 || !started.Resumed {
		t.Errorf("whole %+v\nresumed %+v, %+v", whole, resumed, started)
	}
	if err := os.WriteFile(filepath.Join(dir, CheckpointFile), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Run(t.Context(), RunOptions{Dir: dir}); err == nil {
		t.Error("a broken checkpoint was taken")
	}
	if anew := run(t, r, RunOptions{Dir: dir, Anew: true}); anew.SHA256 != whole.SHA256 {
		t.Error("anew is something else")
	}
}

// picturesRecipe learns the 200 training pictures of the demo, and holds a
// fifth of them out.
const picturesRecipe = `
[data]
train = "../../examples/garments/calibration"
hold_out = 0.2
width = 14
color = "gray"
mirror = true
shift = 1
labels = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle \"boot\""]
[network]
layers = [
  {type = "conv", out = 8}, {type = "norm"}, {type = "relu"}, {type = "maxpool"},
  {type = "flatten"}, {type = "dense", out = 10},
]
[optimiser]
kind = "adamw"
rate = 0.01
[train]
epochs = 12
batch = 16
label_smoothing = 0.05
`

// TestRunPictures: pictures are learned; the engine, with the files that the
// training wrote, is right as often as the report says; and the model teaches
// another.
func TestRunPictures(t *testing.T) {
	dir := t.TempDir()
	r := parse(t, picturesRecipe)
	report := run(t, r, RunOptions{Dir: dir})
	last := report.Last()
	if report.Train != 160 || report.Test != 40 || *last.TestAccuracy < 0.5 {
		t.Errorf("%d and %d samples, %v right", report.Train, report.Test, *last.TestAccuracy)
	}
	right, sum := 0.0, 0
	for _, c := range report.Classes {
		right += c.Accuracy * float64(c.Samples)
		sum += c.Samples
	}
	if sum != 40 || math.Abs(right/40-*last.TestAccuracy) > 1e-9 || report.Classes[9].Name != `Ankle "boot"` {
		t.Errorf("classes %+v, all %v", report.Classes, *last.TestAccuracy)
	}
	if got := byEngine(t, dir, r.Data.Train, r.Data.HoldOut); math.Abs(got-*last.TestAccuracy) > 1e-9 {
		t.Errorf("by the engine %v are right, by the report %v", got, *last.TestAccuracy)
	}

	student := parse(t, strings.Replace(picturesRecipe, "epochs = 12", "epochs = 8", 1))
	student.Network.Layers[0].Out = 3
	student.Distil = &Distil{Teacher: filepath.Join(dir, ModelFile), Temperature: 3, Weight: 0.5}
	taught := run(t, student, RunOptions{Dir: t.TempDir()})
	student.Distil.Weight = 0
	alone := run(t, student, RunOptions{Dir: t.TempDir()})
	if taught.SHA256 == alone.SHA256 || *taught.Last().TestAccuracy < 0.4 {
		t.Errorf("with a teacher %v right, alone %v", *taught.Last().TestAccuracy, *alone.Last().TestAccuracy)
	}
	student.Distil = &Distil{Teacher: filepath.Join(dir, LabelsFile), Temperature: 3, Weight: 0.5}
	var typed *Error
	if _, err := student.Run(t.Context(), RunOptions{Dir: t.TempDir()}); !errors.As(err, &typed) || typed.Field != "distil.teacher" {
		t.Errorf("a teacher that is no model: %v", err)
	}
}

// TestRunOnward goes on with a model that was trained, for other classes: what
// is frozen stays, the rest learns.
func TestRunOnward(t *testing.T) {
	dir, onward := t.TempDir(), t.TempDir()
	r := parse(t, picturesRecipe)
	r.Train.Epochs = 1
	run(t, r, RunOptions{Dir: dir})
	r.Network = Network{Name: "onward", ONNX: filepath.Join(dir, ModelFile), Classes: 11, Freeze: []string{"conv1.*", "norm1.*"}}
	r.Data.Width, r.Data.Color, r.Data.Labels = 0, "", append(r.Data.Labels, "nothing")
	report := run(t, r, RunOptions{Dir: onward})
	if report.Parameters != 8*7*7*11+11 || len(report.Classes) != 11 || report.Classes[10].Samples != 0 {
		t.Errorf("%+v", report)
	}
	before, after := imported(t, dir), imported(t, onward)
	if !slices.Equal(before.Const("conv1.weight").Data, after.Const("conv1.weight").Data) || !after.Const("dense1.weight").Shape.Equal(model.Shape{11, 8 * 7 * 7}) {
		t.Error("the wrong layers changed")
	}
}

func imported(t *testing.T, dir string) *model.Graph {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(dir, ModelFile))
	if err != nil {
		t.Fatal(err)
	}
	g, err := onnx.Import(file)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// byEngine returns the share of the held-out pictures that the written model
// classifies rightly, preprocessed as prep.toml says.
func byEngine(t *testing.T, dir, data string, share float64) float64 {
	t.Helper()
	g, s := imported(t, dir), spec(t, dir)
	if s.Inputs[0].Mean[0] < 0.1 || s.Inputs[0].Std[0] < 0.1 {
		t.Errorf("mean %v, deviation %v were not measured", s.Inputs[0].Mean, s.Inputs[0].Std)
	}
	p, err := engine.Compile(g, engine.Options{Shapes: map[string]model.Shape{s.Inputs[0].Name: s.Inputs[0].Shape()}})
	if err != nil {
		t.Fatal(err)
	}
	set, err := samples.Open(data, samples.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, held := split(samples.Spread(0, set.Len()), share)
	session, right := p.NewSession(), 0
	for _, i := range held {
		x, err := set.At(i)
		if err == nil {
			err = x.Fill(s.Inputs[0], session.Input(0))
		}
		if err == nil {
			err = session.Run()
		}
		if err != nil {
			t.Fatal(err)
		}
		scores := session.Output(0).F32()
		if slices.Index(scores, slices.Max(scores)) == x.Class {
			right++
		}
	}
	return float64(right) / float64(len(held))
}

func TestRunRefused(t *testing.T) {
	for text, want := range map[string]string{
		strings.Replace(picturesRecipe, "examples/garments/calibration", "examples/nowhere", 1):       "data.train",
		strings.Replace(picturesRecipe, `labels = ["T-shirt/top", `, `labels = [`, 1):                 "data.labels: 9 labels",
		strings.Replace(picturesRecipe, "out = 10", "out = 12", 1):                                    "data.labels: 10 labels, the network has 12",
		strings.Replace(picturesRecipe, `width = 14`, `mean = [0.1, 0.2]`+"\n"+`std = [1, 1]`, 1):     "data.mean: 2 means",
		strings.Replace(picturesRecipe, "hold_out = 0.2", "hold_out = 0.001", 1) + "early_stop = 2\n": "train.early_stop",
	} {
		_, err := parse(t, text).Run(t.Context(), RunOptions{Dir: t.TempDir()})
		var typed *Error
		if !errors.As(err, &typed) || !strings.Contains(err.Error(), want) || typed.Line == 0 {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestCurves: the picture is XML for any record and any name, and has a line
// for each curve.
func TestCurves(t *testing.T) {
	loss, share := 0.5, 0.875
	full := []train.Epoch{
		{Epoch: 1, TrainLoss: 2.3, TestLoss: &loss, TestAccuracy: &share},
		{Epoch: 2, TrainLoss: math.NaN(), TestLoss: &loss, TestAccuracy: &share},
		{Epoch: 3, TrainLoss: 0.25, TestLoss: &loss, TestAccuracy: &share},
	}
	for name, record := range map[string][]train.Epoch{
		"none": nil, "one": full[:1], "bad": full[1:2], "three & <more>": full, "late": full[2:],
		"alone": {{Epoch: 1, TrainLoss: 1}, {Epoch: 2, TrainLoss: 1}},
	} {
		svg := Curves(name, record)
		d := xml.NewDecoder(bytes.NewReader(svg))
		for {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, svg)
			}
		}
		if bytes.Contains(svg, []byte("NaN\"")) || bytes.Contains(svg, []byte("NaN ")) || bytes.Contains(svg, []byte("Inf")) {
			t.Errorf("%s: a coordinate is no number\n%s", name, svg)
		}
		if n := bytes.Count(svg, []byte(`stroke-linejoin`)); (name == "three & <more>") != (n == 3) {
			t.Errorf("%s: %d curves", name, n)
		}
	}
	if !bytes.Contains(Curves("a", full), []byte("87.50 %")) {
		t.Error("the last accuracy is not said")
	}
}
