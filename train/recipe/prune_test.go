package recipe

import (
	"strings"
	"testing"
)

// smallerRecipe cuts the demo's model and trains it again on its own pictures.
const smallerRecipe = `
[data]
train    = "../../examples/garments/calibration"
hold_out = 0.2
mean     = [0.2860]
std      = [0.3530]

[network]
onnx = "../../examples/garments/garments.onnx"

[prune]
keep = 0.7

[distil]
teacher = "../../examples/garments/garments.onnx"

[optimiser]
rate = 0.002

[train]
epochs = 3
batch  = 32
`

// TestPrune: a network of which channels are cut is trained to what it was,
// nearly, and twice the same.
func TestPrune(t *testing.T) {
	r := parse(t, smallerRecipe)
	report := run(t, r, RunOptions{Dir: t.TempDir()})
	if report.Parameters > 82_000*65/100 || *report.Last().TestAccuracy < .75 {
		t.Errorf("%d parameters, %v right", report.Parameters, *report.Last().TestAccuracy)
	}
	if testing.Short() {
		return
	}
	if again := run(t, r, RunOptions{Dir: t.TempDir()}); again.SHA256 != report.SHA256 {
		t.Error("twice is not the same")
	}
}

func TestPruneRefused(t *testing.T) {
	for text, want := range map[string]string{
		strings.Replace(smallerRecipe, "keep = 0.7", "keep = 1.5", 1):                                                                                          "prune.keep: 1.5: want more than 0",
		strings.Replace(smallerRecipe, "keep = 0.7", "keep = 0.7\nmultiple = -1", 1):                                                                           "prune.multiple: -1",
		strings.Replace(smallerRecipe, "onnx = ", "freeze = [\"stem*\"]\nonnx = ", 1):                                                                          "prune: weights that lose channels",
		strings.Replace(smallerRecipe, "onnx = \"../../examples/garments/garments.onnx\"", "layers = [{type = \"flatten\"}, {type = \"dense\", out = 10}]", 1): "prune: it makes the network",
	} {
		if _, err := Parse("r.toml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	r := parse(t, strings.Replace(smallerRecipe, "keep = 0.7", "keep = 0.05", 1))
	if _, err := r.Run(t.Context(), RunOptions{Dir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "prune: prune") {
		t.Errorf("a twentieth is kept: %v", err)
	}
}
