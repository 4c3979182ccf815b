package explain_test

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"dunlin/engine"
	"dunlin/explain"
	"dunlin/internal/shared"
	"dunlin/model"
	"dunlin/model/onnx"
	"dunlin/model/prep"
	"dunlin/model/samples"
	"dunlin/quant"
)

// garment is the demo's network, in float and in int8, and its pictures.
type garment struct {
	float, int8 *model.Graph
	spec        prep.Spec
	set         *samples.Set
}

var garmentOnce = sync.OnceValues(makeGarment)

func garments(t testing.TB) garment {
	t.Helper()
	g, err := garmentOnce()
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func makeGarment() (g garment, err error) {
	const dir = "../examples/garments"
	text, err := os.ReadFile(filepath.Join(dir, "prep.toml"))
	if err != nil {
		return g, err
	}
	if g.spec, err = prep.ParseTOML(text); err != nil {
		return g, err
	}
	data, err := os.ReadFile(filepath.Join(dir, "garments.onnx"))
	if err != nil {
		return g, err
	}
	if g.float, err = onnx.Import(data); err != nil {
		return g, err
	}
	g.float.Values["image"].Shape[0] = 1
	known, err := samples.Open(filepath.Join(dir, "calibration"), samples.Options{})
	if err != nil {
		return g, err
	}
	ranges, err := quant.Calibrate(g.float, func(i int) ([]*model.Tensor, error) {
		t, err := tensor(g.spec, known, i)
		return []*model.Tensor{t}, err
	}, 64, quant.Options{})
	if err != nil {
		return g, err
	}
	if g.int8, _, err = quant.Apply(g.float, ranges, quant.Options{}); err != nil {
		return g, err
	}
	g.set, err = samples.Open(filepath.Join(dir, "samples"), samples.Options{})
	return g, err
}

// tensor makes picture i the input of the network.
func tensor(spec prep.Spec, set *samples.Set, i int) (*model.Tensor, error) {
	s, err := set.At(i)
	if err != nil {
		return nil, err
	}
	t, err := model.NewTensor(model.F32, spec.Inputs[0].Shape()...)
	if err != nil {
		return nil, err
	}
	return t, spec.Inputs[0].Picture(s.Picture, t)
}

func (g garment) picture(t testing.TB, i int) []float32 {
	t.Helper()
	x, err := tensor(g.spec, g.set, i)
	if err != nil {
		t.Fatal(err)
	}
	return x.F32()
}

func network(t testing.TB, g *model.Graph, spec prep.Spec, o explain.Options) *explain.Network {
	t.Helper()
	n, err := explain.New(g, spec, o)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The program that explains gives the same bits as the one that answers.
func TestSameAnswer(t *testing.T) {
	g := garments(t)
	p, err := engine.Compile(g.int8, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := p.NewSession()
	n := network(t, g.int8, g.spec, explain.Options{})
	for i := range 20 {
		x := g.picture(t, i)
		copy(s.Input(0).F32(), x)
		if err := s.Run(); err != nil {
			t.Fatal(err)
		}
		a, err := n.Ask(x)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a.Scores, s.Output(0).F32()) {
			t.Errorf("picture %d: %v, the network that answers says %v", i, a.Scores, s.Output(0).F32())
		}
		// The odds are those of the scores, where float32 can tell.
		for c, p := range a.Scores {
			if want := math.Log(float64(p) / (1 - float64(p))); p > 1e-3 && p < 0.999 && math.Abs(want-float64(a.Odds[c])) > 2e-2 {
				t.Errorf("picture %d, class %d: score %v, odds %v, want %v", i, c, p, a.Odds[c], want)
			}
		}
	}
}

// The mean of a class activation map and the bias is the logit: so it is for
// each class of float networks, and for int8 within what int8 loses.
func TestCAMIsTheLogit(t *testing.T) {
	g := garments(t)
	for _, c := range []struct {
		name   string
		graph  *model.Graph
		within float64
	}{{"float", g.float, 1e-5}, {"int8", g.int8, 0.15}} {
		n := network(t, c.graph, g.spec, explain.Options{})
		if err := n.HasCAM(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		bias := make([]float64, n.Classes())
		var first []float64
		for i := range 10 {
			x := g.picture(t, i)
			a, err := n.Ask(x)
			if err != nil {
				t.Fatal(err)
			}
			for class := range bias {
				m, err := n.Explain(t.Context(), explain.CAM, x, class, explain.Budget{})
				if err != nil {
					t.Fatal(err)
				}
				if m.Width != 7 || m.Height != 7 || m.Runs != 1 || m.Score != a.Scores[class] {
					t.Fatalf("%s: %d x %d cells in %d runs, score %v of %v", c.name, m.Width, m.Height, m.Runs, m.Score, a.Scores[class])
				}
				// Scores are a softmax: logits are known up to one number for
				// each picture, which differences to class 0 do not have.
				mean := 0.0
				for _, v := range m.Values {
					mean += float64(v) / 49
				}
				bias[class] = math.Log(float64(a.Scores[class])) - mean
			}
			if i == 0 {
				first = slices.Clone(bias)
				continue
			}
			for class, b := range bias {
				if a.Scores[class] < 1e-20 {
					continue
				}
				if d := (b - bias[0]) - (first[class] - first[0]); math.Abs(d) > c.within {
					t.Errorf("%s, picture %d, class %d: the map is off the logit by %v", c.name, i, class, d)
				}
			}
		}
	}
}

// Known networks have the head or have not, and the reason is said.
func TestHeads(t *testing.T) {
	dir := shared.Dir(t, "models", "onnx")
	for _, c := range []struct {
		file string
		cam  bool
	}{
		{"mlperftiny-ic01-resnet8-cifar10.onnx", true},
		{"mlperftiny-ic01-resnet8-cifar10-qdq-int8.onnx", true},
		{"mlperftiny-vww01-mbv1-0.25-qdq-int8.onnx", true},
		{"mobilenet-v1-0.25-128-dequant.onnx", true},
		{"mobilenet-v2-1.0-224-qdq-uint8.onnx", true},
	} {
		data, err := os.ReadFile(filepath.Join(dir, c.file))
		if err != nil {
			t.Fatal(err)
		}
		g, err := onnx.Import(data)
		if err != nil {
			t.Fatal(err)
		}
		spec, ok := prep.Preset(c.file[:len(c.file)-len(".onnx")])
		if !ok {
			t.Fatalf("%s: no preset", c.file)
		}
		if err := network(t, g, spec, explain.Options{}).HasCAM(); (err == nil) != c.cam {
			t.Errorf("%s: has a class activation map: %v", c.file, err)
		}
	}
}

// spotter is a network whose score 1 is the mean brightness of one square of
// a picture of 32 x 32, from 8 to 16 across and from 16 to 24 down, and score 0
// that of all the rest. It ends in no pooling.
func spotter() (*model.Graph, prep.Spec) {
	const side = 32
	g := model.New("spotter")
	g.Inputs, g.Outputs = []string{"image"}, []string{"scores"}
	g.Values["image"] = &model.Value{Type: model.F32, Shape: model.Shape{1, 1, side, side}}
	w := make([]float32, side*side*2)
	for y := range side {
		for x := range side {
			at := 2 * (y*side + x)
			if x >= 8 && x < 16 && y >= 16 && y < 24 {
				w[at+1] = 4.0 / 64
			} else {
				w[at] = 1.0 / (side*side - 64)
			}
		}
	}
	g.AddConst("w", model.Of(model.F32, w, side*side, 2))
	g.Nodes = []*model.Node{
		{Op: "Flatten", Name: "flatten", In: []string{"image"}, Out: []string{"flat"}, Attrs: map[string]model.Attr{"axis": int64(1)}},
		{Op: "MatMul", Name: "dense", In: []string{"flat", "w"}, Out: []string{"logits"}},
		{Op: "Softmax", Name: "softmax", In: []string{"logits"}, Out: []string{"scores"}, Attrs: map[string]model.Attr{"axis": int64(1)}},
	}
	return g, prep.Spec{
		Inputs:  []prep.Input{{Name: "image", Kind: "picture", Color: "gray", Width: side, Height: side, Fit: "stretch", Resize: "bilinear", Layout: "nchw", Scale: 1}},
		Outputs: []prep.Output{{Name: "scores", Kind: "classes", Top: 2}},
	}
}

// spot is a picture for it: dark, with noise, and bright where it looks.
func spot(seed uint64) []float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	x := make([]float32, 32*32)
	for i := range x {
		x[i] = r.Float32() * 0.2
		if px, py := i%32, i/32; px >= 8 && px < 16 && py >= 16 && py < 24 {
			x[i] += 0.8
		}
	}
	return x
}

// Occlusion finds the one square that counts, in batches as without, and
// within a budget.
func TestOcclusionFindsTheSpot(t *testing.T) {
	g, spec := spotter()
	x := spot(1)
	var alone *explain.Map
	for _, batch := range []int{1, 8} {
		n := network(t, g, spec, explain.Options{Batch: batch})
		if err := n.HasCAM(); !errors.Is(err, explain.ErrMethod) {
			t.Errorf("a network without pooling has a map: %v", err)
		}
		m, err := n.Explain(t.Context(), explain.Auto, x, 1, explain.Budget{})
		if err != nil {
			t.Fatal(err)
		}
		if m.Method != explain.Occlusion || !m.Complete || m.Runs != 1+49+225+961 {
			t.Errorf("batch %d: %s in %d runs, complete %v", batch, m.Method, m.Runs, m.Complete)
		}
		inside, outside := 0.0, 0.0
		for i := range 32 * 32 {
			v := math.Abs(m.At((float64(i%32)+0.5)/32, (float64(i/32)+0.5)/32))
			if px, py := i%32, i/32; px >= 8 && px < 16 && py >= 16 && py < 24 {
				inside += v / 64
			} else if px < 4 || px >= 20 || py < 12 || py >= 28 {
				outside += v / (32*32 - 16*16)
			}
		}
		if inside < 20*outside {
			t.Errorf("batch %d: %v inside of the square, %v outside", batch, inside, outside)
		}
		if alone == nil {
			alone = m
		}
		for i, v := range m.Values {
			if math.Abs(float64(v-alone.Values[i])) > 1e-4 {
				t.Fatalf("batch %d: cell %d is %v, alone %v", batch, i, v, alone.Values[i])
			}
		}
	}
	n := network(t, g, spec, explain.Options{})
	stops := 0
	for want, b := range map[int]explain.Budget{60: {Runs: 60}, 41: {Stop: func() bool { stops++; return stops > 40 }}} {
		m, err := n.Explain(t.Context(), explain.Occlusion, x, 1, b)
		if err != nil {
			t.Fatal(err)
		}
		if m.Complete || m.Runs != want {
			t.Errorf("budget %+v: %d runs, complete %v", b, m.Runs, m.Complete)
		}
		best := 0
		for i, v := range m.Values {
			if v > m.Values[best] {
				best = i
			}
		}
		px, py := (float64(best%m.Width)+0.5)*32/float64(m.Width), (float64(best/m.Width)+0.5)*32/float64(m.Height)
		if px < 4 || px > 20 || py < 12 || py > 28 {
			t.Errorf("budget %+v: the most is found at %v, %v", b, px, py)
		}
	}
	for _, b := range []explain.Budget{{Runs: 16}, {Stop: func() bool { return true }}} {
		if _, err := n.Explain(t.Context(), explain.Occlusion, x, 1, b); !errors.Is(err, explain.ErrBudget) {
			t.Errorf("budget %+v: %v", b, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.Explain(ended, explain.Occlusion, x, 1, explain.Budget{}); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
	if _, err := n.Explain(t.Context(), explain.Auto, x, 2, explain.Budget{}); !errors.Is(err, explain.ErrClass) {
		t.Errorf("class 2 of two: %v", err)
	}
	if _, err := n.Explain(t.Context(), explain.CAM, x, 1, explain.Budget{}); !errors.Is(err, explain.ErrMethod) {
		t.Errorf("a class activation map without pooling: %v", err)
	}
}

// Integrated gradients of a function with known ones.
func TestIntegratedGradients(t *testing.T) {
	// F(x) = x0^2 x1 + max(0, x2 - 0.3)
	f := func(inputs, scores, gradient []float32) error {
		for b := range scores {
			x, g := inputs[3*b:3*b+3], gradient[3*b:3*b+3]
			scores[b] = x[0]*x[0]*x[1] + max(0, x[2]-0.3)
			g[0], g[1], g[2] = 2*x[0]*x[1], x[0]*x[0], 0
			if x[2] > 0.3 {
				g[2] = 1
			}
		}
		return nil
	}
	for _, batch := range []int{1, 5, 16} {
		a, err := explain.IntegratedGradients(t.Context(), f, []float32{2, 3, 1}, []float32{0, 0, 0}, explain.IntegratedOptions{Batch: batch})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []float64{8, 4, 0.7} { // 2/3 and 1/3 of 12
			if math.Abs(float64(a.Values[i])-want) > 0.03 {
				t.Errorf("batches of %d: value %d has %v, want %v", batch, i, a.Values[i], want)
			}
		}
		if a.Unexplained > 0.01 || math.Abs(a.Score-12.7) > 1e-5 || a.Baseline != 0 || a.Steps != 16 {
			t.Errorf("batches of %d: %+v", batch, a)
		}
	}
	// Every step counts once: of a constant gradient nothing is missing.
	flat := func(_, scores, gradient []float32) error {
		for i := range gradient {
			gradient[i] = 1
		}
		return nil
	}
	for _, most := range []int{2, 3, 16, 64} {
		a, err := explain.IntegratedGradients(t.Context(), flat, []float32{1, 2}, []float32{0, 0}, explain.IntegratedOptions{Batch: 7, MaxSteps: most, Within: 1e-9})
		if err != nil || a.Values[0] != 1 || a.Values[1] != 2 || a.Steps != most {
			t.Errorf("at most %d steps: %+v, %v", most, a, err)
		}
	}
	broken := errors.New("broken")
	if _, err := explain.IntegratedGradients(t.Context(), func(_, _, _ []float32) error { return broken }, []float32{1}, []float32{0}, explain.IntegratedOptions{}); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if _, err := explain.IntegratedGradients(t.Context(), f, []float32{1}, nil, explain.IntegratedOptions{}); err == nil {
		t.Error("a baseline of another size")
	}
	// A gradient that is not the score's is found out, and the steps are bounded.
	wrong := func(inputs, scores, gradient []float32) error {
		err := f(inputs, scores, gradient)
		for i := range gradient {
			gradient[i] *= 2
		}
		return err
	}
	a, err := explain.IntegratedGradients(t.Context(), wrong, []float32{2, 3, 1}, []float32{0, 0, 0}, explain.IntegratedOptions{MaxSteps: 64})
	if err != nil || a.Unexplained < 0.9 || a.Steps != 64 {
		t.Errorf("twice the gradient: %+v, %v", a, err)
	}
}

// What counts is worth more than chance, by both measures.
func TestFaithful(t *testing.T) {
	g, spec := spotter()
	n := network(t, g, spec, explain.Options{Batch: 8})
	var deletion, insertion, randomDeletion, randomInsertion []float64
	for seed := range uint64(8) {
		x := spot(seed)
		m, err := n.Explain(t.Context(), explain.Occlusion, x, 1, explain.Budget{})
		if err != nil {
			t.Fatal(err)
		}
		with, err := n.Measure(x, 1, m, seed)
		if err != nil {
			t.Fatal(err)
		}
		without, err := n.Measure(x, 1, nil, seed)
		if err != nil {
			t.Fatal(err)
		}
		deletion, insertion = append(deletion, with.Deletion), append(insertion, with.Insertion)
		randomDeletion, randomInsertion = append(randomDeletion, without.Deletion), append(randomInsertion, without.Insertion)
	}
	d, err := explain.Pairs(deletion, randomDeletion)
	if err != nil {
		t.Fatal(err)
	}
	i, err := explain.Pairs(insertion, randomInsertion)
	if err != nil {
		t.Fatal(err)
	}
	if d.Mean+d.Half > -0.1 || i.Mean-i.Half < 0.01 || d.N != 8 {
		t.Errorf("deletion %+v, insertion %+v against a random order", d, i)
	}
	if _, err := explain.Pairs(deletion, deletion[1:]); !errors.Is(err, explain.ErrPairs) {
		t.Errorf("lists of two lengths: %v", err)
	}
}

// Pairs has the interval of the mean of differences: 1, 2, 3 have the mean 2,
// the standard deviation 1.
func TestPairs(t *testing.T) {
	p, err := explain.Pairs([]float64{2, 4, 6}, []float64{1, 2, 3})
	if err != nil || math.Abs(p.Mean-2) > 1e-12 || math.Abs(p.Half-1.96/math.Sqrt(3)) > 1e-12 {
		t.Errorf("%+v, %v", p, err)
	}
}

// The overlay lies where the network looked: of a wide picture the middle, and
// there it has colours where the map is above 0.
func TestOverlay(t *testing.T) {
	in := prep.Input{Kind: "picture", Color: "rgb", Width: 8, Height: 8, Fit: "crop", Keep: 1, Resize: "bilinear", Layout: "nchw", Scale: 1}
	img := image.NewRGBA(image.Rect(0, 0, 1000, 500))
	for i := range img.Pix {
		img.Pix[i] = 200
	}
	m := &explain.Map{Width: 2, Height: 1, Values: []float32{1, -1}} // left half for, right half against
	out := explain.Overlay(explain.Backdrop(img), in, m)
	if s := out.Bounds().Size(); s != (image.Point{640, 320}) {
		t.Fatalf("size %v", s)
	}
	grey := func(x int) bool { c := out.RGBAAt(x, 160); return c.R == c.G && c.G == c.B && c.R == 110 }
	for x, want := range map[int]bool{80: true, 200: false, 260: false, 400: true, 600: true} {
		if grey(x) != want {
			t.Errorf("pixel %d: %v, grey: want %v", x, out.RGBAAt(x, 160), want)
		}
	}
	white := 0
	for x := range 640 {
		if out.RGBAAt(x, 160) == (color.RGBA{255, 255, 255, 255}) {
			white++
		}
	}
	if white != 2 { // the edge at 0, and the border of what the network sees
		t.Errorf("%d white pixels in a row, want 2", white)
	}
	// A pattern of single pixels that sums to more on the left is shown there.
	fine := &explain.Map{Method: explain.Gradients, Width: 80, Height: 80, Values: make([]float32, 80*80)}
	for i := range fine.Values {
		fine.Values[i] = float32(i%2*2-1) + 0.1 - 0.2*float32(i%80/40)
	}
	in.Fit = "stretch"
	shown := explain.Overlay(explain.Backdrop(img), in, fine)
	for x, want := range map[int]bool{100: false, 250: false, 400: true, 550: true} {
		if c := shown.RGBAAt(x, 160); (c.R == c.G && c.G == c.B) != want {
			t.Errorf("single pixels, at %d: %v, grey: want %v", x, c, want)
		}
	}
	// What is not finite has no colour, and takes that of nothing else.
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		odd := explain.Overlay(explain.Backdrop(img), in, &explain.Map{Width: 8, Height: 1, Values: []float32{1, 1, 1, 1, 1, 1, 1, float32(v)}})
		for x, want := range map[int]bool{100: false, 620: true} {
			if c := odd.RGBAAt(x, 160); (c.R == c.G && c.G == c.B) != want {
				t.Errorf("a map with %v, at %d: %v, grey: want %v", v, x, c, want)
			}
		}
	}
	small := explain.Overlay(explain.Backdrop(image.NewGray(image.Rect(3, 3, 31, 31))), in, &explain.Map{Width: 1, Height: 1, Values: []float32{-1}})
	if s := small.Bounds().Size(); s != (image.Point{256, 256}) || !bytes.Equal(small.Pix[:3], []byte{0, 0, 0}) {
		t.Errorf("small picture: %v %v", s, small.Pix[:4])
	}
}

// Networks that are no classifiers of a picture are refused, and why is said.
func TestRefused(t *testing.T) {
	g, spec := spotter()
	two := spec
	two.Inputs = append(slices.Clone(spec.Inputs), spec.Inputs[0])
	sound := spec
	sound.Inputs = []prep.Input{{Kind: "sound"}}
	boxes := spec
	boxes.Outputs = []prep.Output{{Name: "scores", Kind: "boxes"}}
	other := spec
	other.Outputs = []prep.Output{{Name: "nothing", Kind: "classes"}}
	for name, s := range map[string]prep.Spec{"two inputs": two, "a sound": sound, "boxes": boxes, "an output that is not there": other} {
		if _, err := explain.New(g, s, explain.Options{}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	single := g.Clone()
	single.Outputs = []string{"one"}
	single.Nodes = append(single.Nodes, &model.Node{
		Op: "ReduceMean", Name: "mean", In: []string{"logits"}, Out: []string{"one"}, Attrs: map[string]model.Attr{"keepdims": int64(0)},
	})
	spec.Outputs = nil
	if _, err := explain.New(single, spec, explain.Options{}); err == nil || !strings.Contains(err.Error(), "want float32 scores [1, N]") {
		t.Errorf("a single number for scores: %v", err)
	}
}

func TestFindClass(t *testing.T) {
	labels := []string{"Shirt", "T-shirt", "7", "Bag"}
	for text, want := range map[string]int{"shirt": 0, "Bag": 3, "7": 2, "1": 1, "4": 4} {
		if i, err := explain.FindClass(text, labels, 5); err != nil || i != want {
			t.Errorf("%q: %d, %v, want %d", text, i, err, want)
		}
	}
	for text, say := range map[string]string{"shir": `"Shirt" (0), "T-shirt" (1)`, "5": "from 0 to 4", "-1": "from 0 to 4", "": "from 0 to 4"} {
		if _, err := explain.FindClass(text, labels, 5); !errors.Is(err, explain.ErrClass) || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: %v, want %s", text, err, say)
		}
	}
	if a, b := explain.ClassName(1, labels), explain.ClassName(4, labels); a != "T-shirt" || b != "class 4" {
		t.Errorf("%q, %q", a, b)
	}
}
