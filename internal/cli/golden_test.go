package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"dunlin/internal/shared"
	"dunlin/model"
)

// golden is a golden.json: what ONNX Runtime answered.
type golden struct {
	Inputs, Outputs []struct {
		Name, DType, File string
		Shape             []int
	}
}

// runGolden runs a model on its golden inputs through the command line, and
// returns the golden's description, its folder and the outputs' folder.
func runGolden(t *testing.T, file, name string) (g golden, dir, out string) {
	t.Helper()
	dir = shared.Dir(t, "goldens", "onnx", name)
	text, err := os.ReadFile(filepath.Join(dir, "golden.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatal(err)
	}
	out = t.TempDir()
	args := []string{"model", "run", file, "--output-dir", out}
	for i, in := range g.Inputs {
		shape := strings.Trim(strings.Join(strings.Fields(fmt.Sprint(in.Shape)), ","), "[]")
		args = append(args, "--input", strconv.Itoa(i)+"="+filepath.Join(dir, in.File), "--shape", in.Name+"="+shape)
	}
	var stdout, stderr bytes.Buffer
	if status := Run(t.Context(), args, &stdout, &stderr); status != statusOK {
		t.Fatalf("status %d: %s", status, stderr.String())
	}
	return g, dir, out
}

// floats reads a file of float32.
func floats(t *testing.T, path string, shape []int) []float32 {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	v, err := model.View(model.F32, shape, data)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return v.F32()
}

// TestGoldens: dunlin model run answers as ONNX Runtime does, to 1e-4 of each
// output's range, or of its magnitude where it is a single value.
func TestGoldens(t *testing.T) {
	for _, name := range []string{
		"mnist-cntk-8", "mlperftiny-ad01", "mlperftiny-ic01-resnet8-cifar10", "mlperftiny-kws01-dscnn", "mlperftiny-vww01-mbv1-0.25",
		"mobilenet-v1-0.25-128-dequant", "mobilenet-v2-1.0-224-dequant", "blazeface-front-128", "dtln-1", "dtln-2", "fastestdet-coco-352",
		"magika-standard-v3_3", "oww-hey-jarvis", "oww-melspectrogram", "oww-speech-embedding", "ppocrv4-det-ch", "ppocrv4-rec-ch",
		"silero-vad-v6", "silero-vad-v6-fp16-half", "stories260k-decoder", "ultraface-rfb-320", "yunet-n-320",
	} {
		t.Run(name, func(t *testing.T) {
			g, dir, out := runGolden(t, shared.Dir(t, "models", "onnx", name+".onnx"), name)
			var entries []outputEntry
			text, err := os.ReadFile(filepath.Join(out, "outputs.json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(text, &entries); err != nil || len(entries) != len(g.Outputs) {
				t.Fatalf("outputs.json: %v, %d entries", err, len(entries))
			}
			for i, want := range g.Outputs {
				if e := entries[i]; e.Name != want.Name || e.DType != want.DType || fmt.Sprint(e.Shape) != fmt.Sprint(want.Shape) {
					t.Errorf("output %d is %+v, want %+v", i, e, want)
				}
				compare(t, want.Name, floats(t, filepath.Join(out, entries[i].File), want.Shape), floats(t, filepath.Join(dir, want.File), want.Shape))
			}
		})
	}
}

func compare(t *testing.T, name string, got, want []float32) {
	t.Helper()
	lo, hi, worst := want[0], want[0], 0.0
	for i, w := range want {
		lo, hi = min(lo, w), max(hi, w)
		if d := math.Abs(float64(got[i] - w)); d > worst || math.IsNaN(d) {
			worst = d
		}
	}
	scale := float64(hi - lo)
	if len(want) == 1 {
		scale = math.Abs(float64(hi))
	}
	t.Logf("%s: worst error %.2g of the range", name, worst/scale)
	if !(worst <= 1e-4*scale) {
		t.Errorf("%s: worst error %g, range %g", name, worst, scale)
	}
}

// TestQuantisedGoldens: the int8 and uint8 forms, through the integer
// kernels, find the class that ONNX Runtime finds.
func TestQuantisedGoldens(t *testing.T) {
	for _, name := range []string{
		"mlperftiny-ic01-resnet8-cifar10-qdq-int8", "mlperftiny-kws01-dscnn-qdq-int8", "mlperftiny-vww01-mbv1-0.25-qdq-int8", "mobilenet-v2-1.0-224-qdq-uint8",
	} {
		t.Run(name, func(t *testing.T) {
			g, dir, out := runGolden(t, shared.Dir(t, "models", "onnx", name+".onnx"), name)
			shape := g.Outputs[0].Shape
			got, want := floats(t, filepath.Join(out, "0.bin"), shape), floats(t, filepath.Join(dir, g.Outputs[0].File), shape)
			n := shape[len(shape)-1]
			for row := 0; row < len(want); row += n {
				if a, b := top(got[row:row+n]), top(want[row:row+n]); a != b {
					t.Errorf("row %d: class %d, want %d", row/n, a, b)
				}
			}
		})
	}
}

func top(scores []float32) int {
	best := 0
	for i, v := range scores {
		if v > scores[best] {
			best = i
		}
	}
	return best
}
