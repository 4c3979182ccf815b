package prep

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/internal/shared"
	"dunlin/model"
)

// golden is a network's run by ONNX Runtime: its inputs and its outputs by
// name.
type golden struct{ in, out map[string]*model.Tensor }

func readGolden(t *testing.T, name string) golden {
	t.Helper()
	dir := shared.Dir(t, "goldens", "onnx", name)
	type port struct {
		Name, DType, File string
		Shape             []int
	}
	var list struct{ Inputs, Outputs []port }
	text, err := os.ReadFile(filepath.Join(dir, "golden.json"))
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil {
		t.Fatal(err)
	}
	read := func(ports []port) map[string]*model.Tensor {
		all := map[string]*model.Tensor{}
		for _, p := range ports {
			data, err := os.ReadFile(filepath.Join(dir, p.File))
			if err != nil {
				t.Fatal(err)
			}
			d, err := model.ParseDType(p.DType)
			if err != nil {
				t.Fatal(err)
			}
			if all[p.Name], err = model.View(d, p.Shape, data); err != nil {
				t.Fatal(err)
			}
		}
		return all
	}
	return golden{read(list.Inputs), read(list.Outputs)}
}

func preset(t *testing.T, name string) Spec {
	t.Helper()
	s, ok := Preset(name)
	if !ok {
		t.Fatalf("no preset %q", name)
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	return s
}

func photo(t *testing.T, name string) image.Image {
	t.Helper()
	data, err := os.ReadFile(shared.Dir(t, "data", "vision", "photos", name))
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(name, ".bmp") {
		return bmp(data)
	}
	img, err := Decode(data, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// bmp reads the one form of BMP that stands among the photos: 24 bits,
// bottom-up.
func bmp(b []byte) image.Image {
	u32 := func(at int) int { return int(binary.LittleEndian.Uint32(b[at:])) }
	pixels, w, h := b[u32(10):], u32(18), u32(22)
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			p := pixels[(h-1-y)*((3*w+3)&^3)+3*x:]
			img.SetRGBA(x, y, color.RGBA{p[2], p[1], p[0], 255})
		}
	}
	return img
}

// The preset's input is what ONNX Runtime's golden run was fed, to the
// rounding of resizing (1 step of 255 from a BMP) and, from a JPEG, to what
// decoders differ in where colour is stored at half size: at edges of strong
// colour a few steps, 0.7 on average at most.
func TestPresetsMakeTheGoldenInputs(t *testing.T) {
	for _, c := range []struct {
		model, photo string
		largest      float64 // of the differences, in steps of 255
		mean         float64
	}{
		{"blazeface-front-128", "coral-face.jpg", 6, 0.36},
		{"fastestdet-coco-352", "fastestdet-3.jpg", 3, 0.31},
		{"mlperftiny-vww01-mbv1-0.25", "coral-grace-hopper.bmp", 1, 0.08},
		{"mlperftiny-vww01-mbv1-0.25-qdq-int8", "coral-grace-hopper.bmp", 1, 0.08},
		{"mobilenet-v1-0.25-128-dequant", "coral-cat-720p.jpg", 9, 0.65},
		{"mobilenet-v2-1.0-224-dequant", "coral-cat-720p.jpg", 3, 0.23},
		{"mobilenet-v2-1.0-224-qdq-uint8", "coral-cat-720p.jpg", 3, 0.23},
		{"ppocrv4-rec-ch", "rendered-text-edge-2026-hello.png", 0, 0},
		{"ultraface-rfb-320", "coral-grace-hopper.bmp", 1, 0.13},
		{"yunet-n-320", "coral-grace-hopper.bmp", 1, 0.15},
	} {
		in := preset(t, c.model).Inputs[0]
		want := readGolden(t, c.model).in[in.Name]
		if want == nil || !want.Shape.Equal(in.Shape()) {
			t.Errorf("%s: no golden input %q of shape %v", c.model, in.Name, in.Shape())
			continue
		}
		step := in.Scale
		if in.Std != nil {
			step /= in.Std[0]
		}
		largest, mean := difference(run(t, in, photo(t, c.photo)), want.F32())
		if largest, mean = largest/step, mean/step; largest > c.largest+1e-3 || mean > c.mean+1e-3 {
			t.Errorf("%s: at most %.3f steps and %.4f on average, want %v and %v", c.model, largest, mean, c.largest, c.mean)
		}
	}
}

// difference returns the largest and the mean distance of a and b.
func difference(a, b []float32) (largest, mean float64) {
	if len(a) != len(b) {
		return math.Inf(1), math.Inf(1)
	}
	for i := range a {
		d := math.Abs(float64(a[i]) - float64(b[i]))
		largest, mean = max(largest, d), mean+d/float64(len(a))
	}
	return largest, mean
}

// CIFAR-10 is stored as planes, already 32 x 32: the golden input is exact.
func TestCIFARGolden(t *testing.T) {
	in := preset(t, "mlperftiny-ic01-resnet8-cifar10-qdq-int8").Inputs[0]
	want := readGolden(t, "mlperftiny-ic01-resnet8-cifar10").in[in.Name].F32()
	records, err := os.ReadFile(shared.Dir(t, "data", "vision", "cifar10", "test-2000.bin"))
	if err != nil {
		t.Fatal(err)
	}
	const plane = 32 * 32
	for i := range 4 {
		p := records[i*(1+3*plane)+1:]
		img := image.NewRGBA(image.Rect(0, 0, 32, 32))
		for k := range plane {
			img.SetRGBA(k%32, k/32, color.RGBA{p[k], p[plane+k], p[2*plane+k], 255})
		}
		if largest, _ := difference(run(t, in, img), want[i*3*plane:(i+1)*3*plane]); largest != 0 {
			t.Errorf("picture %d: differs by %v", i, largest)
		}
	}
}

// detect reads the golden outputs of a detector as on a picture of w x h.
func detect(t *testing.T, name string, w, h int) []Box {
	t.Helper()
	s := preset(t, name)
	g := readGolden(t, name)
	var tensors []*model.Tensor
	for _, tensor := range s.Outputs[0].Box.Tensors {
		if g.out[tensor] == nil {
			t.Fatalf("%s: no golden output %q", name, tensor)
		}
		tensors = append(tensors, g.out[tensor])
	}
	boxes, err := s.Outputs[0].Boxes(tensors, s.Inputs[0].Place(w, h), nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return boxes
}

func showBoxes(boxes []Box) string {
	var b strings.Builder
	for _, x := range boxes {
		fmt.Fprintf(&b, "%s %.4f  %.1f,%.1f %.1f,%.1f  %.1f\n", x.Label, x.Score, x.X0, x.Y0, x.X1, x.Y1, x.Points)
	}
	return b.String()
}

// What the four detectors say about the photos of their golden runs, drawn
// and looked at once: the faces and the people are where the boxes are.
func TestGoldenBoxes(t *testing.T) {
	for _, c := range []struct {
		model string
		w, h  int // of the photo
		want  []Box
	}{
		{"ultraface-rfb-320", 512, 600, []Box{
			{Label: "face", Score: 0.99999, X0: 173.5, Y0: 121.4, X1: 358.2, Y1: 333.0},
		}},
		{"yunet-n-320", 512, 600, []Box{
			{
				Label: "face", Score: 0.9365, X0: 177.5, Y0: 103.6, X1: 354.1, Y1: 340.5,
				Points: []Point{{221.8, 187.4}, {305, 188.9}, {261.5, 240.3}, {226.4, 275.7}, {298.4, 277.9}},
			},
		}},
		{"blazeface-front-128", 512, 355, []Box{
			{
				Label: "face", Score: 0.9015, X0: 236.9, Y0: 69.1, X1: 371.2, Y1: 162.2,
				Points: []Point{{275.6, 101}, {326, 97.2}, {301.9, 125.9}, {305.8, 140.2}, {251.5, 104.8}, {359.2, 96.9}},
			},
			{
				Label: "face", Score: 0.8773, X0: 112.1, Y0: 98.8, X1: 250, Y1: 194.4,
				Points: []Point{{160, 129.4}, {212, 128.1}, {191.2, 155.8}, {191.1, 171.8}, {125.1, 133}, {235.5, 130.5}},
			},
			{
				Label: "face", Score: 0.5974, X0: 437.9, Y0: 136.1, X1: 494.3, Y1: 175.2,
				Points: []Point{{449.4, 144.9}, {473.5, 145}, {457.9, 156.1}, {459.5, 165.6}, {440.5, 148.4}, {493.8, 148.2}},
			},
		}},
		{"fastestdet-coco-352", 500, 335, []Box{
			{Label: "person", Score: 0.8993, X0: 41, Y0: 62.6, X1: 178.1, Y1: 293.9},
			{Label: "person", Score: 0.8948, X0: 289.1, Y0: 141.9, X1: 484.5, Y1: 296.2},
			{Label: "person", Score: 0.7897, X0: 158.9, Y0: 136.8, X1: 256.7, Y1: 262.4},
			{Label: "person", Score: 0.7855, X0: 230.1, Y0: 138.8, X1: 323.7, Y1: 276.6},
		}},
	} {
		got := detect(t, c.model, c.w, c.h)
		same := len(got) == len(c.want)
		for i := 0; same && i < len(got); i++ {
			same = nearBox(got[i], c.want[i])
		}
		if !same {
			t.Errorf("%s:\n%swant\n%s", c.model, showBoxes(got), showBoxes(c.want))
		}
	}
	b := detect(t, "ultraface-rfb-320", 1, 1)[0]
	if got := fmt.Sprintf("%.2f %.2f %.2f %.2f", b.X0, b.Y0, b.X1, b.Y1); got != "0.34 0.20 0.70 0.55" {
		t.Errorf("as parts of the picture: %s", got)
	}
}

// nearBox allows what the lists above leave out by rounding.
func nearBox(a, b Box) bool {
	near := func(x, y float32, by float64) bool { return math.Abs(float64(x-y)) <= by }
	ok := a.Label == b.Label && near(a.Score, b.Score, 1e-4) && len(a.Points) == len(b.Points) &&
		near(a.X0, b.X0, 0.06) && near(a.Y0, b.Y0, 0.06) && near(a.X1, b.X1, 0.06) && near(a.Y1, b.Y1, 0.06)
	for i := 0; ok && i < len(a.Points); i++ {
		ok = near(a.Points[i].X, b.Points[i].X, 0.06) && near(a.Points[i].Y, b.Points[i].Y, 0.06)
	}
	return ok
}

func TestGoldenText(t *testing.T) {
	out := preset(t, "ppocrv4-rec-ch").Outputs[0]
	f, err := os.Open(shared.Dir(t, "models", "onnx", out.Labels))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	keys, err := ParseKeys(f)
	if err != nil || len(keys) != 6623 {
		t.Fatalf("%d keys: %v", len(keys), err)
	}
	got, err := out.Text(readGolden(t, "ppocrv4-rec-ch").out[out.Name], keys)
	if err != nil || got.String != "Edge 2026 hello" || got.Score < 0.96 {
		t.Errorf("%+v, %v", got, err)
	}
}

// The names of the presets are in the networks' order: the golden runs of the
// four CIFAR-10 pictures and of Grace Hopper, and the labels of the keywords.
func TestPresetNames(t *testing.T) {
	cifar := preset(t, "mlperftiny-ic01-resnet8-cifar10").Outputs[0]
	scores := readGolden(t, "mlperftiny-ic01-resnet8-cifar10").out[cifar.Name].F32()
	records, err := os.ReadFile(shared.Dir(t, "data", "vision", "cifar10", "test-2000.bin"))
	if err != nil {
		t.Fatal(err)
	}
	right := 0 // of 4: the network takes the first, an airplane, for a ship
	for i := range 4 {
		best, err := cifar.Classes(model.Of(model.F32, scores[i*10:i*10+10], 1, 10), nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if best[0].Label == cifar.Names[records[i*3073]] {
			right++
		}
	}
	if right != 3 {
		t.Errorf("CIFAR-10: %d of 4 are right, want 3", right)
	}
	vww := preset(t, "mlperftiny-vww01-mbv1-0.25").Outputs[0]
	best, err := vww.Classes(readGolden(t, "mlperftiny-vww01-mbv1-0.25").out[vww.Name], nil, nil, nil)
	if err != nil || best[0].Label != "person" || math.Abs(float64(best[0].Score)-0.888) > 1e-3 {
		t.Errorf("Grace Hopper: %v, %v", best, err)
	}
	words := preset(t, "mlperftiny-kws01-dscnn").Outputs[0].Names
	labels, err := os.ReadFile(shared.Dir(t, "data", "audio", "mlperftiny-kws01", "labels.csv"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(labels)), "\n")[1:] {
		f := strings.Split(strings.TrimSpace(line), ",") // index,tst_000000_Stop_7.bin,12,7
		word := strings.ToLower(strings.Split(f[1], "_")[2])
		var class int
		if _, err := fmt.Sscan(f[3], &class); err != nil || words[class] != word {
			t.Fatalf("%s: class %d is %q", line, class, words[class])
		}
	}
}

// The value of digital silence is the lower end of the range that the
// keyword network's makers quantised its input with, to a half step.
func TestSilenceGolden(t *testing.T) {
	in := preset(t, "mlperftiny-kws01-dscnn").Inputs[0]
	f, err := in.Frames(Sound{16000, nil})
	if err != nil {
		t.Fatal(err)
	}
	const scale, zero = 0.5847029089927673, 83
	if low := scale * (-128 - zero); math.Abs(float64(f.Values[0])-low) > scale/2 {
		t.Errorf("silence is %v, want %v", f.Values[0], low)
	}
}
