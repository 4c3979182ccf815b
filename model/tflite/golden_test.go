package tflite_test

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dunlin/engine"
	"dunlin/internal/shared"
	"dunlin/model"
	"dunlin/model/tflite"
)

// golden is one folder of shared/goldens/tflite: a model, inputs, and what
// TFLite's own runtime answered.
type golden struct {
	Model           string
	Inputs, Outputs []struct {
		Name, DType, File string
		Shape             model.Shape
	}
}

// The tolerance of float outputs, as a part of their range.
const (
	floatBound  = 1e-4
	hybridBound = 5e-2 // integers inside, which TFLite rounds in its own way
)

// goldens is every golden but MoveNet's, and the bound for its float outputs. Integer
// outputs may be a step off, but for one element or one in 200.
var goldens = map[string]float64{
	"coral-keras-lstm-mnist-ptq":           0,
	"coral-mobilenet-v1-0.25-128-uint8":    0,
	"coral-mobilenet-v2-1.0-224-uint8":     0,
	"dtln-quant-1":                         hybridBound,
	"mediapipe-face-detection-short-fp16":  floatBound,
	"mlperftiny-ad01-fp32":                 floatBound,
	"mlperftiny-ad01-int8":                 0,
	"mlperftiny-ic01-resnet8-cifar10-fp32": floatBound,
	"mlperftiny-ic01-resnet8-cifar10-int8": 0,
	"mlperftiny-kws01-dscnn-fp32":          hybridBound,
	"mlperftiny-kws01-dscnn-int8":          0,
	"mlperftiny-sww01-int8":                0,
	"mlperftiny-vww01-mbv1-0.25-fp32":      floatBound,
	"mlperftiny-vww01-mbv1-0.25-int8":      0,
	"tflm-micro-speech-int8":               0,
}

// imported reads a model of the shared folder.
func imported(t testing.TB, path ...string) *model.Graph {
	t.Helper()
	data, err := os.ReadFile(shared.Dir(t, path...))
	if err != nil {
		t.Fatal(err)
	}
	g, err := tflite.Import(data)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// compiled compiles g, and skips the test where engine lacks an operator.
func compiled(t testing.TB, g *model.Graph) *engine.Program {
	t.Helper()
	p, err := engine.Compile(g, engine.Options{})
	var lacks *engine.UnsupportedError
	if errors.As(err, &lacks) {
		ops := map[string]bool{}
		for _, n := range lacks.Nodes {
			ops[n.Op+": "+n.Why] = true
		}
		list := []string{}
		for o := range ops {
			list = append(list, o)
		}
		slices.Sort(list)
		t.Skipf("engine lacks %s", strings.Join(list, "; "))
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func readTensor(t testing.TB, dir, dtype, file string, shape model.Shape) *model.Tensor {
	t.Helper()
	d, err := model.ParseDType(dtype)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	v, err := model.View(d, shape, data)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// answer runs the model of a golden, and returns what it and TFLite say.
func answer(t *testing.T, name string) (p *engine.Program, got, want []*model.Tensor) {
	t.Helper()
	dir := shared.Dir(t, "goldens", "tflite", name)
	text, err := os.ReadFile(filepath.Join(dir, "golden.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file golden
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	g := imported(t, file.Model)
	for i, in := range file.Inputs {
		if v := g.Value(g.Inputs[i]); g.Inputs[i] != in.Name || v.Type.String() != in.DType || !v.Shape.Equal(in.Shape) {
			t.Fatalf("input %d is %s %v %v, want %s %s %v", i, g.Inputs[i], v.Type, v.Shape, in.Name, in.DType, in.Shape)
		}
	}
	p = compiled(t, g)
	s := p.NewSession()
	for i, in := range file.Inputs {
		copy(s.Input(i).Data, readTensor(t, dir, in.DType, in.File, in.Shape).Data)
	}
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	for i, out := range file.Outputs {
		y, ref := s.Output(i), readTensor(t, dir, out.DType, out.File, out.Shape)
		if g.Outputs[i] != out.Name || y.Type != ref.Type || !y.Shape.Equal(ref.Shape) {
			t.Fatalf("output %d is %s %v %v, want %s %v %v", i, g.Outputs[i], y.Type, y.Shape, out.Name, ref.Type, ref.Shape)
		}
		got, want = append(got, y), append(want, ref)
	}
	return p, got, want
}

func TestGoldens(t *testing.T) {
	for name, bound := range goldens {
		t.Run(name, func(t *testing.T) {
			p, got, want := answer(t, name)
			for i := range want {
				a, b := reals(t, got[i]), reals(t, want[i])
				if slices.Index(a, slices.Max(a)) != slices.Index(b, slices.Max(b)) && b[slices.Index(a, slices.Max(a))] != slices.Max(b) {
					t.Errorf("output %d: another class is at the top", i)
				}
				compare(t, i, a, b, bound)
			}
			for _, step := range p.Steps() {
				if bound == 0 && step.MACs > 0 && step.Precision != "int8" && !strings.HasSuffix(step.Name, "/LSTM") {
					t.Errorf("%s runs in %s: %s", step.Name, step.Precision, step.Why)
				}
			}
		})
	}
}

// MoveNet's golden cannot be met number by number: where TFLite itself runs
// it on the same picture with one of its 110592 bytes one step off, its
// output moves by 0.67 to 0.71 of the range, in the scores and in the places
// of the keypoints that it does not see. What holds still, within 0.03 of the
// picture, is where the nose, the eyes, the ears and the shoulders are.
func TestMoveNet(t *testing.T) {
	_, got, want := answer(t, "coral-movenet-lightning-ptq")
	a, b := reals(t, got[0]), reals(t, want[0])
	for k := range 7 {
		for _, i := range []int{3 * k, 3*k + 1} {
			if !(math.Abs(a[i]-b[i]) <= 0.03) {
				t.Errorf("keypoint %d is at %.3v, want %.3v", k, a[3*k:3*k+2], b[3*k:3*k+2])
				break
			}
		}
	}
}

// compare fails where got is further from want than bound, as a part of
// want's range; for integers, bound 0, by more than a step but in one element
// or one in 200.
func compare(t *testing.T, output int, got, want []float64, bound float64) {
	t.Helper()
	worst, far, off := 0.0, 0, 0
	for i := range want {
		d := math.Abs(got[i] - want[i])
		worst = max(worst, d)
		if d > 0 {
			off++
		}
		if d > 1 {
			far++
		}
	}
	if bound == 0 {
		t.Logf("output %d: %d of %d differ, by at most %v", output, off, len(want), worst)
		if far > max(1, len(want)/200) {
			t.Errorf("output %d: %d of %d are more than a step off, by at most %v", output, far, len(want), worst)
		}
		return
	}
	width := slices.Max(want) - slices.Min(want)
	if width == 0 {
		width = math.Abs(want[0])
	}
	t.Logf("output %d: error is %.2g of the range", output, worst/width)
	if !(worst <= bound*width) {
		t.Errorf("output %d: error is %g of the range, at most %g allowed", output, worst/width, bound)
	}
}

func reals(t *testing.T, v *model.Tensor) []float64 {
	t.Helper()
	out := make([]float64, v.Elements())
	for i := range out {
		switch v.Type {
		case model.F32:
			out[i] = float64(v.F32()[i])
		case model.I8:
			out[i] = float64(v.I8()[i])
		case model.U8:
			out[i] = float64(v.U8()[i])
		default:
			t.Fatalf("output of type %v", v.Type)
		}
		if math.IsNaN(out[i]) {
			t.Fatalf("element %d is no number", i)
		}
	}
	return out
}

// UltraFace has no golden of TFLite's, but is the network of an ONNX model
// that has one: the scores of its 4420 boxes are the same. Its shapes hold
// for one picture alone; the file's are stale behind SHAPE.
func TestUltraFaceAsONNX(t *testing.T) {
	dir := shared.Dir(t, "goldens", "onnx", "ultraface-rfb-320")
	nchw := readTensor(t, dir, "float32", "in_0.bin", model.Shape{1, 3, 240, 320}).F32()
	p := compiled(t, imported(t, "models", "tflite", "ultraface-rfb-320-fp32.tflite"))
	s := p.NewSession()
	in := s.Input(0).F32()
	for i := range in {
		in[i] = nchw[i%3*240*320+i/3]
	}
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	want := readTensor(t, dir, "float32", "out_0.bin", model.Shape{1, 4420, 2})
	if got := s.Output(1); got.Shape.Equal(want.Shape) {
		compare(t, 1, reals(t, got), reals(t, want), 1e-3) // another converter rounded the weights
	} else {
		t.Errorf("scores %v, want %v", got.Shape, want.Shape)
	}
	if got := s.Output(0).Shape; !got.Equal(model.Shape{1, 4420, 4}) {
		t.Errorf("boxes %v", got)
	}
}
