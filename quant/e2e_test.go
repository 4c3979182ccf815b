package quant

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/csv"
	"flag"
	"image/jpeg"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"dunlin/engine"
	"dunlin/internal/shared"
	"dunlin/model"
	"dunlin/model/onnx"
)

// long runs the tests over all of their data.
var long = flag.Bool("long", false, "measure accuracies over all pictures")

// labelled is a set of inputs with their classes.
type labelled struct {
	n      int
	tensor func(i int) *model.Tensor
	class  func(i int) int
}

func (l labelled) next(i int) ([]*model.Tensor, error) { return []*model.Tensor{l.tensor(i)}, nil }

func importFile(t testing.TB, path string) *model.Graph {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	g, err := onnx.Import(data)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// accuracy returns how many percent of l the graph classifies rightly, by the
// greatest element of its first output.
func accuracy(t testing.TB, g *model.Graph, l labelled) float64 {
	t.Helper()
	p, err := engine.Compile(g, engine.Options{Shapes: map[string]model.Shape{g.Inputs[0]: l.tensor(0).Shape}})
	if err != nil {
		t.Fatal(err)
	}
	s := p.NewSession()
	right := 0
	for i := range l.n {
		copy(s.Input(0).Data, l.tensor(i).Data)
		if err := s.Run(); err != nil {
			t.Fatal(err)
		}
		best, scores := 0, s.Output(0).F32()
		for j, v := range scores {
			if v > scores[best] {
				best = j
			}
		}
		if best == l.class(i) {
			right++
		}
	}
	return 100 * float64(right) / float64(l.n)
}

// cifar reads CIFAR-10's binary form: records of a class byte and three
// planes of 32 by 32 bytes.
func cifar(t testing.TB, path string) labelled {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const record = 1 + 3*32*32
	return labelled{
		n: len(data) / record,
		tensor: func(i int) *model.Tensor {
			return pixels(data[i*record+1:(i+1)*record], 1, 1, 3, 32, 32)
		},
		class: func(i int) int { return int(data[i*record]) },
	}
}

// pixels returns bytes times scale.
func pixels(b []byte, scale float32, shape ...int) *model.Tensor {
	v := make([]float32, len(b))
	for i, p := range b {
		v[i] = float32(p) * scale
	}
	return model.Of(model.F32, v, shape...)
}

// compress quantises g with samples of calib, and logs the report.
func compress(t testing.TB, g *model.Graph, calib labelled, o Options) *model.Graph {
	t.Helper()
	r, err := Calibrate(g, calib.next, calib.n, o)
	if err != nil {
		t.Fatal(err)
	}
	q, rep, err := Apply(g, r, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := rep.Measure(g, q, calib.next, min(calib.n, 20), Options{}); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes of constants before, %d after; %d nodes in int8, %d in float", rep.Before, rep.After, rep.Int8, rep.Float)
	for _, l := range rep.Layers {
		t.Logf("%-24s %-18s %-8s weights %-6s output %-6s %v %s", l.Name, l.Op, l.Precision, db(l.WeightError), db(l.OutputError), l.Range, l.Why)
	}
	return q
}

func TestResNet8(t *testing.T) {
	g := importFile(t, shared.Dir(t, "models", "onnx", "mlperftiny-ic01-resnet8-cifar10.onnx"))
	test := cifar(t, shared.Dir(t, "data", "vision", "cifar10", "test-2000.bin"))
	calib := cifar(t, shared.Dir(t, "data", "vision", "cifar10", "calib-500.bin"))
	float := accuracy(t, g, test)
	if float != 76.40 {
		t.Errorf("the float model is %.2f %% right, 76.40 is known", float)
	}
	q := compress(t, g, calib, Options{})
	checkSteps(t, q)
	lossAtMost(t, float, accuracy(t, q, test), .5)
}

// TestHalfResNet8: float16 weights change hardly any answer.
func TestHalfResNet8(t *testing.T) {
	g := importFile(t, shared.Dir(t, "models", "onnx", "mlperftiny-ic01-resnet8-cifar10.onnx"))
	test := cifar(t, shared.Dir(t, "data", "vision", "cifar10", "test-2000.bin"))
	test.n = 400
	half, rep, err := Apply(g, nil, Options{To: "fp16"})
	if err != nil {
		t.Fatal(err)
	}
	if rep.After > rep.Before*52/100 {
		t.Errorf("%d bytes become %d", rep.Before, rep.After)
	}
	lossAtMost(t, accuracy(t, g, test), accuracy(t, half, test), .5)
}

// TestGarments compresses the demo's model: at most half a point is lost on
// the test pictures of Fashion-MNIST, 10,000 with -long and in CI. The
// calibration pictures are the first 256 of the training set.
func TestGarments(t *testing.T) {
	test, calib := fashion(t, "t10k"), fashion(t, "train")
	if test == nil || calib == nil {
		if os.Getenv("CI") != "" {
			t.Fatal("Debian's dataset-fashion-mnist is not installed, and CI must have it")
		}
		t.Skip("skipped: Debian's dataset-fashion-mnist is not installed")
	}
	calib.n = 256
	if !*long && os.Getenv("CI") == "" {
		test.n = 2000
	}
	g := importFile(t, filepath.Join("..", "examples", "garments", "garments.onnx"))
	float := accuracy(t, g, *test)
	if float < 90 {
		t.Errorf("the float model is %.2f %% right, 90 at least are wanted", float)
	}
	q := compress(t, g, *calib, Options{})
	checkSteps(t, q)
	lossAtMost(t, float, accuracy(t, q, *test), .5)
}

// TestDSCNN compresses the keyword spotter of MLPerf Tiny.
func TestDSCNN(t *testing.T) {
	g := importFile(t, shared.Dir(t, "models", "onnx", "mlperftiny-kws01-dscnn.onnx"))
	twin := importFile(t, shared.Dir(t, "models", "onnx", "mlperftiny-kws01-dscnn-qdq-int8.onnx"))
	all := keywords(t, shared.Dir(t, "data", "audio", "mlperftiny-kws01"), twin)
	calib := all
	calib.n = 100
	float := accuracy(t, g, all)
	if math.Abs(float-91) > .005 {
		t.Errorf("the float model is %.2f %% right, 91.00 is known", float)
	}
	q := compress(t, g, calib, Options{})
	checkSteps(t, q)
	lossAtMost(t, float, accuracy(t, q, all), .5)
}

func lossAtMost(t testing.TB, float, small, points float64) {
	t.Helper()
	t.Logf("float %.2f %%, made smaller %.2f %%", float, small)
	if float-small > points {
		t.Errorf("%.2f points lost, %.2f allowed", float-small, points)
	}
}

// fashion reads Debian's Fashion-MNIST, nil where it is not installed.
func fashion(t testing.TB, name string) *labelled {
	t.Helper()
	dir := "/usr/share/datasets/fashion-mnist"
	if _, err := os.Stat(dir); err != nil {
		return nil
	}
	images := idx(t, filepath.Join(dir, name+"-images-idx3-ubyte.gz"), 16)
	classes := idx(t, filepath.Join(dir, name+"-labels-idx1-ubyte.gz"), 8)
	return &labelled{
		n:      len(classes),
		tensor: func(i int) *model.Tensor { return garment(images[i*784 : (i+1)*784]) },
		class:  func(i int) int { return int(classes[i]) },
	}
}

// garment scales a picture as examples/garments/prep.toml does.
func garment(b []byte) *model.Tensor {
	t := pixels(b, 1./255, 1, 1, 28, 28)
	for i, v := range t.F32() {
		t.F32()[i] = (v - .286) / .353
	}
	return t
}

// idx returns the bytes behind the head of a gzipped IDX file.
func idx(t testing.TB, path string, head int) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if n := int(binary.BigEndian.Uint32(data[4:])); n == 0 || len(data) <= head {
		t.Fatalf("%s: %d items in %d bytes", path, n, len(data))
	}
	return data[head:]
}

// TestMobileNetV2 compresses a large network: in full, 500 pictures of
// ImageNet, which take minutes.
func TestMobileNetV2(t *testing.T) {
	g := importFile(t, shared.Dir(t, "models", "onnx", "mobilenet-v2-1.0-224-dequant.onnx"))
	all := imagenet(t, shared.Dir(t, "data", "vision", "imagenet-sample-500"))
	calib, points := all, .5
	calib.n = 50
	if !*long {
		calib.n, all.n, points = 4, 4, 25
	}
	float := accuracy(t, g, all)
	if *long && math.Abs(float-87.2) > .41 {
		t.Errorf("the float model is %.2f %% right, 87.20 is known", float)
	}
	q := compress(t, g, calib, Options{})
	checkSteps(t, q)
	lossAtMost(t, float, accuracy(t, q, all), points)
}

// imagenet reads a folder of pictures of 256 by 256, and cuts the middle 224.
// Class 0 of the model is the background.
func imagenet(t testing.TB, dir string) labelled {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "labels.csv"))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	rows = rows[1:]
	return labelled{
		n: len(rows),
		tensor: func(i int) *model.Tensor {
			f, err := os.Open(filepath.Join(dir, rows[i][0]))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			img, err := jpeg.Decode(f)
			if err != nil {
				t.Fatal(err)
			}
			const size, edge = 224, 16
			v := make([]float32, 3*size*size)
			for y := range size {
				for x := range size {
					r, g, b, _ := img.At(x+edge, y+edge).RGBA()
					for c, p := range [3]uint32{r, g, b} {
						v[(c*size+y)*size+x] = (float32(p>>8) - 128) / 128
					}
				}
			}
			return model.Of(model.F32, v, 1, 3, size, size)
		},
		class: func(i int) int {
			c, err := strconv.Atoi(rows[i][1])
			if err != nil {
				t.Fatal(err)
			}
			return c + 1
		},
	}
}

// keywords reads MLPerf Tiny's keyword samples: int8 features in the steps
// that the input of the model's own int8 twin has.
func keywords(t testing.TB, dir string, twin *model.Graph) labelled {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "x-int8-49x10.bin"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, "labels.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	q := twin.Nodes[0] // QuantizeLinear of the input
	scale, zero := twin.Const(q.In[1]).F32()[0], twin.Const(q.In[2]).I8()[0]
	return labelled{
		n: len(rows) - 1,
		tensor: func(i int) *model.Tensor {
			v := make([]float32, 490)
			for j, b := range data[i*490 : (i+1)*490] {
				v[j] = float32(int(int8(b))-int(zero)) * scale
			}
			return model.Of(model.F32, v, 1, 1, 49, 10)
		},
		class: func(i int) int {
			c, err := strconv.Atoi(rows[i+1][3])
			if err != nil {
				t.Fatal(err)
			}
			return c
		},
	}
}
