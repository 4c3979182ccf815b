package prep

import (
	"image"
	"image/draw"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/engine"
	"dunlin/internal/shared"
	"dunlin/model"
	"dunlin/model/onnx"
)

// network is a real model with its preset, made for one form of its input.
type network struct {
	in  Input
	out Output
	run *engine.Session
	at  map[string]int // index of each output
}

func open(t *testing.T, name string) network {
	t.Helper()
	data, err := os.ReadFile(shared.Dir(t, "models", "onnx", name+".onnx"))
	if err != nil {
		t.Fatal(err)
	}
	g, err := onnx.Import(data)
	if err != nil {
		t.Fatal(err)
	}
	s := preset(t, name)
	p, err := engine.Compile(g, engine.Options{Shapes: map[string]model.Shape{s.Inputs[0].Name: s.Inputs[0].Shape()}})
	if err != nil {
		t.Fatal(err)
	}
	n := network{s.Inputs[0], s.Outputs[0], p.NewSession(), map[string]int{}}
	for i, out := range p.Outputs() {
		n.at[out.Name] = i
	}
	return n
}

// hear returns the best word for each window of s.
func (n network) hear(t *testing.T, s Sound) []Label {
	t.Helper()
	f, err := n.in.Frames(s)
	if err != nil {
		t.Fatal(err)
	}
	var words []Label
	for i := range n.in.Windows(f) {
		if err := n.in.Window(f, i, n.run.Input(0)); err != nil {
			t.Fatal(err)
		}
		if err := n.run.Run(); err != nil {
			t.Fatal(err)
		}
		best, err := n.out.Classes(n.run.Output(0), nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		words = append(words, best[0])
	}
	return words
}

// look runs the network on a picture.
func (n network) look(t *testing.T, img image.Image) {
	t.Helper()
	if err := n.in.Picture(img, n.run.Input(0)); err != nil {
		t.Fatal(err)
	}
	if err := n.run.Run(); err != nil {
		t.Fatal(err)
	}
}

// The features are right where the network, trained on features of
// TensorFlow, understands what is said: two words and silence, a word that it
// does not know, spoken in the middle of silence, and digits, none of which
// it knows, by five people at half the sample rate. It takes the clip "no"
// for "go" or, where the clip is shifted a little, for "no": either will do.
func TestKeywords(t *testing.T) {
	for _, name := range []string{"mlperftiny-kws01-dscnn", "mlperftiny-kws01-dscnn-qdq-int8"} {
		n := open(t, name)
		for _, c := range []struct{ file, want string }{
			{"tflm-yes-1000ms.wav", "yes"},
			{"tflm-no-1000ms.wav", "no go"},
			{"tflm-silence-1000ms.wav", "silence"},
			{"mlperftiny-sww-easy10s.wav", "unknown"},
		} {
			for i, l := range n.hear(t, clip(t, "clips", c.file)) {
				if !strings.Contains(c.want, l.Label) {
					t.Errorf("%s: window %d of %s is %q, want %s", name, i, c.file, l.Label, c.want)
				}
			}
		}
		files, err := filepath.Glob(filepath.Join(shared.Dir(t, "data", "audio", "fsdd"), "*.wav"))
		if err != nil || len(files) != 1000 {
			t.Fatalf("%d digits: %v", len(files), err)
		}
		heard, unknown := 0, 0
		for i := 0; i < len(files); i += 5 {
			heard++
			if n.hear(t, clip(t, "fsdd", filepath.Base(files[i])))[0].Label == "unknown" {
				unknown++
			}
		}
		if unknown < heard*94/100 {
			t.Errorf("%s: %d of %d digits are unknown, want 94 in 100", name, unknown, heard)
		}
	}
}

// From a photo's file to the words, through the network.
func TestClassesOfPhotos(t *testing.T) {
	f, err := os.Open(shared.Dir(t, "models", "tflite", "coral-imagenet-labels.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	labels, err := ParseLabels(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, file, want string }{
		{"mobilenet-v2-1.0-224-qdq-uint8", "coral-cat-720p.jpg", "cat"},
		{"mobilenet-v2-1.0-224-qdq-uint8", "coral-hot-dog.jpg", "hotdog"},
		{"mobilenet-v1-0.25-128-dequant", "coral-cat-720p.jpg", "cat"},
	} {
		n := open(t, c.name)
		n.look(t, photo(t, c.file))
		best, err := n.out.Classes(n.run.Output(0), labels, nil, nil)
		if err != nil || !strings.Contains(best[0].Label, c.want) {
			t.Errorf("%s, %s: %v, %v", c.name, c.file, best, err)
		}
	}
}

// From a photo's file to boxes on it, through the network. However the photo
// was fitted to the input, the boxes come back to the places that the golden
// run found on it stretched: 97 % of the area in the same form, less where the
// network saw the things in another.
func TestBoxesOfPhotos(t *testing.T) {
	for _, c := range []struct {
		model, photo string
		fits         map[string]float64
	}{
		{"ultraface-rfb-320", "coral-grace-hopper.bmp", map[string]float64{"stretch": 0.97, "letterbox": 0.85, "crop": 0.85}},
		{"yunet-n-320", "coral-grace-hopper.bmp", map[string]float64{"stretch": 0.97, "letterbox": 0.85, "crop": 0.85}},
		{"blazeface-front-128", "coral-face.jpg", map[string]float64{"stretch": 0.97, "crop": 0.6}},
		{"fastestdet-coco-352", "fastestdet-3.jpg", map[string]float64{"stretch": 0.97, "letterbox": 0.85}},
	} {
		n := open(t, c.model)
		img := photo(t, c.photo)
		b := img.Bounds()
		want := detect(t, c.model, b.Dx(), b.Dy())[0]
		for fit, least := range c.fits {
			n.in.Fit = fit
			n.look(t, img)
			var tensors []*model.Tensor
			for _, name := range n.out.Box.Tensors {
				tensors = append(tensors, n.run.Output(n.at[name]))
			}
			got, err := n.out.Boxes(tensors, n.in.Place(b.Dx(), b.Dy()), nil, nil, nil)
			best := 0.0
			for _, g := range got {
				if g.Label == want.Label {
					best = max(best, overlapping(corners(g), corners(want)))
				}
			}
			t.Logf("%s %s: %.3f", c.model, fit, best)
			if err != nil || best < least {
				t.Errorf("%s, %s: %.2f of the area, want %v\n%s%v", c.model, fit, best, least, showBoxes(got), err)
			}
		}
	}
}

func corners(b Box) found {
	return found{x0: float64(b.X0), y0: float64(b.Y0), x1: float64(b.X1), y1: float64(b.Y1)}
}

// A line of text is read as it is, and where the picture has another form.
func TestTextOfPhotos(t *testing.T) {
	n := open(t, "ppocrv4-rec-ch")
	f, err := os.Open(shared.Dir(t, "models", "onnx", n.out.Labels))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	keys, err := ParseKeys(f)
	if err != nil {
		t.Fatal(err)
	}
	line := photo(t, "rendered-text-edge-2026-hello.png")
	first := image.NewRGBA(image.Rect(0, 0, 90, 48)) // "Edge", as high, but narrow
	draw.Draw(first, first.Rect, line, image.Point{}, draw.Src)
	for _, c := range []struct {
		img  image.Image
		want string
	}{{line, "Edge 2026 hello"}, {first, "Edge"}} {
		n.look(t, c.img)
		got, err := n.out.Text(n.run.Output(0), keys)
		if err != nil || got.String != c.want {
			t.Errorf("%+v, %v, want %q", got, err, c.want)
		}
	}
}
