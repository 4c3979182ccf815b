package recipe

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/engine"
	"dunlin/model"
	"dunlin/model/onnx"
)

// TestQuantise: a network of integers comes out, which the engine computes
// exactly as it was trained.
func TestQuantise(t *testing.T) {
	r := parsed(t, `
[data]
train = "../../examples/garments/calibration"
test = "../../examples/garments/samples"
mean = [0.2860]
std = [0.3530]
[network]
onnx = "../../examples/garments/garments.onnx"
[quantise]
samples = 100
[optimiser]
kind = "momentum"
rate = 0.001
[train]
epochs = 2
batch = 50
`)
	dir := t.TempDir()
	report := run(t, r, RunOptions{Dir: dir})
	if q := report.Int8; q == nil || q.Samples != 200 || q.Agree < 0.999 || q.Accuracy < 0.9 {
		t.Fatalf("%+v", q)
	}
	data, err := os.ReadFile(filepath.Join(dir, ModelFile))
	if err != nil {
		t.Fatal(err)
	}
	g, err := onnx.Import(data)
	if err != nil {
		t.Fatal(err)
	}
	p, err := engine.Compile(g, engine.Options{Shapes: map[string]model.Shape{g.Inputs[0]: {1, 1, 28, 28}}, RequireInt8: true})
	if err != nil || !p.Exact() {
		t.Errorf("not all of it is int8: %v", err)
	}
	info, err := os.Stat("../../examples/garments/garments.onnx")
	if err != nil || int64(len(data)) > info.Size()/2 {
		t.Errorf("%d bytes, the float network has %d", len(data), info.Size())
	}
}

func parsed(t *testing.T, text string) *Recipe {
	t.Helper()
	r, err := Parse("test.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestQuantiseRefused: what has no range to quantise.
func TestQuantiseRefused(t *testing.T) {
	for text, want := range map[string]string{
		"[data]\ntrain = \"x\"\n[network]\nlayers = [{type = \"flatten\"}, {type = \"dense\", out = 10}]\n[quantise]\n": "train in float first",
		"[data]\ntrain = \"x\"\n[network]\nonnx = \"x.onnx\"\n[quantise]\nsamples = -1\n":                               "samples",
		"[data]\nsynthetic = {}\n[network]\nonnx = \"x.onnx\"\n[quantise]\n":                                            "cross-entropy",
	} {
		if _, err := Parse("test.toml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
