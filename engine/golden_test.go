package engine_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"dunlin/engine"
	"dunlin/internal/shared"
	"dunlin/model"
	"dunlin/model/onnx"
)

// golden is one folder of shared/goldens: a model, inputs, and the outputs of
// a reference.
type golden struct {
	Model           string
	Inputs, Outputs []struct {
		Name, DType, File string
		Shape             model.Shape
	}
	dir string
}

func readGolden(t testing.TB, name string) golden {
	t.Helper()
	dir := shared.Dir(t, "goldens", "onnx", name)
	data, err := os.ReadFile(filepath.Join(dir, "golden.json"))
	if err != nil {
		t.Fatal(err)
	}
	g := golden{dir: dir}
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g golden) tensor(t testing.TB, dtype, file string, shape model.Shape) *model.Tensor {
	t.Helper()
	d, err := model.ParseDType(dtype)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		t.Fatal(err)
	}
	v, err := model.View(d, shape, data)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func readModel(t testing.TB, path string) *model.Graph {
	t.Helper()
	g, err := onnx.Import(readFile(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// session compiles the golden's model and writes its inputs.
func (g golden) session(t testing.TB, o engine.Options) (*engine.Program, *engine.Session) {
	t.Helper()
	o.Shapes = map[string]model.Shape{}
	for _, in := range g.Inputs {
		o.Shapes[in.Name] = in.Shape
	}
	p, err := engine.Compile(readModel(t, g.Model), o)
	if err != nil {
		t.Fatal(err)
	}
	s := p.NewSession()
	for _, in := range g.Inputs {
		i := slices.IndexFunc(p.Inputs(), func(x engine.Port) bool { return x.Name == in.Name })
		copy(s.Input(i).Data, g.tensor(t, in.DType, in.File, in.Shape).Data)
	}
	return p, s
}

var floatGoldens = []string{
	"mnist-cntk-8", "mlperftiny-ad01", "mlperftiny-ic01-resnet8-cifar10", "mlperftiny-kws01-dscnn",
	"mlperftiny-vww01-mbv1-0.25", "mobilenet-v1-0.25-128-dequant", "mobilenet-v2-1.0-224-dequant", "blazeface-front-128", "dtln-1", "dtln-2",
	"fastestdet-coco-352", "magika-standard-v3_3", "oww-hey-jarvis", "oww-melspectrogram", "oww-speech-embedding", "ppocrv4-det-ch", "ppocrv4-rec-ch",
	"silero-vad-v6", "silero-vad-v6-fp16-half", "stories260k-decoder", "ultraface-rfb-320", "yunet-n-320",
}

var integerGoldens = []string{
	"mlperftiny-ic01-resnet8-cifar10-qdq-int8", "mlperftiny-kws01-dscnn-qdq-int8",
	"mlperftiny-vww01-mbv1-0.25-qdq-int8", "mobilenet-v2-1.0-224-qdq-uint8",
}

func TestFloatGoldens(t *testing.T) {
	for _, name := range floatGoldens {
		t.Run(name, func(t *testing.T) {
			g := readGolden(t, name)
			_, s := g.session(t, engine.Options{})
			if err := s.Run(); err != nil {
				t.Fatal(err)
			}
			for i, out := range g.Outputs {
				want, got := g.tensor(t, out.DType, out.File, out.Shape), s.Output(i)
				if !got.Shape.Equal(want.Shape) {
					t.Fatalf("output %d: shape %v, want %v", i, got.Shape, want.Shape)
				}
				if e := rangeError(got.F32(), want.F32()); !(e <= 1e-4) {
					t.Errorf("output %d: error is %g of the output's range", i, e)
				}
			}
		})
	}
}

// rangeError returns the largest difference, as a part of the range of want.
func rangeError(got, want []float32) float64 {
	worst := 0.0
	for i := range want {
		d := math.Abs(float64(got[i]) - float64(want[i]))
		if !(d <= worst) {
			worst = d
		}
	}
	width := float64(slices.Max(want)) - float64(slices.Min(want))
	if width == 0 {
		width = math.Abs(float64(want[0]))
	}
	return worst / width
}

func TestIntegerGoldens(t *testing.T) {
	for _, name := range integerGoldens {
		t.Run(name, func(t *testing.T) {
			g := readGolden(t, name)
			p, s := g.session(t, engine.Options{})
			if err := s.Run(); err != nil {
				t.Fatal(err)
			}
			if !p.Exact() {
				t.Error("a quantised program is not exact")
			}
			for i, out := range g.Outputs {
				want, got := g.tensor(t, out.DType, out.File, out.Shape).F32(), s.Output(i).F32()
				if a, b := top(got), top(want); a != b {
					t.Errorf("output %d: class %d, want %d", i, a, b)
				}
				t.Logf("largest difference %.4f of the range", rangeError(got, want))
			}
			for _, step := range p.Steps() {
				if step.MACs > 0 && step.Precision != "int8" {
					t.Errorf("%s runs in %s: %s", step.Name, step.Precision, step.Why)
				}
			}
		})
	}
}

func top(v []float32) int {
	best := 0
	for i := range v {
		if v[i] > v[best] {
			best = i
		}
	}
	return best
}

// No step of a later run allocates, in any of the models. What is counted is of
// the whole process: one that is not the engine's is less than one a run of two.
func TestGoldensAllocateNothing(t *testing.T) {
	for _, name := range slices.Concat(floatGoldens, integerGoldens) {
		_, s := readGolden(t, name).session(t, engine.Options{})
		if n := testing.AllocsPerRun(2, func() {
			if err := s.Run(); err != nil {
				t.Error(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations a run", name, n)
		}
	}
}

// The arena of MobileNetV2 is planned before a run, and hardly larger than
// the tensors that must live at once: two of 112x112x96 and 56x56x96 at the
// widest point, and the input, which is kept.
func TestArenaIsNearTheBound(t *testing.T) {
	const input, widest = 4 * 3 * 224 * 224, 112*112*96 + 56*56*96
	for name, size := range map[string]int{"mobilenet-v2-1.0-224-dequant": 4, "mobilenet-v2-1.0-224-qdq-uint8": 1} {
		p, _ := readGolden(t, name).session(t, engine.Options{Threads: 1})
		bound := input + size*widest
		if got := p.Memory().Arena; got < bound || got > bound+bound/50 {
			t.Errorf("%s: arena of %d bytes, at least %d live at once", name, got, bound)
		}
	}
}

// The keyword spotter is right as often as DATA.md says of its integer form
// under TFLite and ONNX Runtime, 91.14 %, within half a point.
func TestKeywordAccuracy(t *testing.T) {
	samples := readFile(t, "data/audio/mlperftiny-kws01/x-int8-49x10.bin")
	rows, err := csv.NewReader(bytes.NewReader(readFile(t, "data/audio/mlperftiny-kws01/labels.csv"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	g := readModel(t, "models/onnx/mlperftiny-kws01-dscnn-qdq-int8.onnx")
	p, err := engine.Compile(g, engine.Options{Symbolic1: true})
	if err != nil {
		t.Fatal(err)
	}
	s := p.NewSession()
	scale, zero := g.Const(g.Nodes[0].In[1]).F32()[0], g.Const(g.Nodes[0].In[2]).I8()[0]
	right := 0
	for i, row := range rows[1:] {
		in := s.Input(0).F32()
		for j := range in {
			in[j] = float32(int(int8(samples[i*len(in)+j]))-int(zero)) * scale
		}
		if err := s.Run(); err != nil {
			t.Fatal(err)
		}
		if strconv.Itoa(top(s.Output(0).F32())) == row[3] {
			right++
		}
	}
	accuracy := 100 * float64(right) / float64(len(rows)-1)
	t.Logf("%d of %d: %.2f %%", right, len(rows)-1, accuracy)
	if math.Abs(accuracy-91.14) > 0.5 {
		t.Errorf("accuracy %.2f %%, want 91.14", accuracy)
	}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(shared.Dir(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// BenchmarkGoldens times one run of each model:
//
//	go test -run - -bench Goldens ./engine
func BenchmarkGoldens(b *testing.B) {
	for _, name := range slices.Concat(floatGoldens, integerGoldens) {
		b.Run(name, func(b *testing.B) {
			p, s := readGolden(b, name).session(b, engine.Options{})
			macs := int64(0)
			for _, step := range p.Steps() {
				macs += step.MACs
			}
			for b.Loop() {
				if err := s.Run(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(macs)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GMAC/s")
		})
	}
}

// The demo's network is one of those that this package must run.
func TestGarments(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "examples", "garments", "garments.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	g, err := onnx.Import(data)
	if err != nil {
		t.Fatal(err)
	}
	p, err := engine.Compile(g, engine.Options{Symbolic1: true})
	if err != nil {
		t.Fatal(err)
	}
	s := p.NewSession()
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	sum := float32(0)
	for _, v := range s.Output(0).F32() {
		sum += v
	}
	if math.Abs(float64(sum)-1) > 1e-5 {
		t.Errorf("the scores sum to %v", sum)
	}
	for _, step := range p.Steps() {
		if strings.Contains(step.Kernel, "batchnorm") {
			t.Errorf("%s is not folded", step.Name)
		}
	}
}
