package recipe

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dunlin/engine"
	"dunlin/model"
	"dunlin/model/onnx"
	"dunlin/train"
)

func parse(t testing.TB, text string) *Recipe {
	t.Helper()
	r, err := Parse("test.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func example(t testing.TB, name string) *Recipe {
	t.Helper()
	text, err := Example(name)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(text))
}

func count(g *model.Graph) (weights int, ops map[string]int) {
	ops = map[string]int{}
	for _, n := range g.Nodes {
		ops[n.Op]++
	}
	for name, v := range g.Values {
		if v.Const != nil && !strings.HasSuffix(name, ".mean") && !strings.HasSuffix(name, ".variance") {
			weights += v.Const.Elements()
		}
	}
	return weights, ops
}

// TestExamples builds the network of each example.
func TestExamples(t *testing.T) {
	sizes := map[string]int{}
	for _, name := range Examples() {
		r := example(t, name)
		if r.Network.ONNX != "" {
			r.Network.ONNX = "../../examples/garments/garments.onnx"
		}
		shape := Shape{1, 28, 28}
		if r.Data.Synthetic != nil {
			shape = Shape{r.Data.Synthetic.Inputs}
		}
		g, err := r.Graph(shape)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		weights, ops := count(g)
		sizes[name] = weights
		t.Logf("%s: %d weights, %v", name, weights, ops)
		if got := g.Value(g.Outputs[0]).Shape; !got.Equal(model.Shape{model.Unknown, 10}) {
			t.Errorf("%s: the output is %v", name, got)
		}
	}
	// What examples/garments/README.md says of the demo's network.
	if sizes["garments"] != 78_666 {
		t.Errorf("garments has %d parameters", sizes["garments"])
	}
	if sizes["mlp"] != 100*50+50+50*10+10 {
		t.Errorf("mlp has %d parameters", sizes["mlp"])
	}
	if 4*sizes["student"] > sizes["teacher"] {
		t.Errorf("the student has %d parameters, more than a quarter of the teacher's %d", sizes["student"], sizes["teacher"])
	}
	if _, err := Example("nothing"); err == nil {
		t.Error("an example that does not exist was printed")
	}
}

// TestErrors: what is wrong with a recipe is said with its line and its field.
func TestErrors(t *testing.T) {
	const head = "[data]\ntrain = \"x\"\n[network]\n" // three lines
	const dense = "layers = [\n  {type = \"flatten\"},\n  {type = \"dense\", out = 10},\n]\n"
	for _, c := range []struct{ text, want string }{
		{"[data]\ntrain = 7\n", "r.toml:2: data.train: TOML value has type int64"},
		{"[data\n", "r.toml:2: expected"},
		{head + dense + "[train]\nepoch = 3\n", "r.toml:9: train.epoch: there is no such field"},
		{head + "layers = [\n  {type = \"relu\"},\n  {type = \"dense\", outs = 3},\n]\n", "r.toml:6: network.layers.outs: there is no such field"},
		{"[[network.layers]]\ntype = \"relu\"\n[[network.layers]]\ntype = \"conv\"\nout = 3\nwide = 9\n[data]\ntrain = \"x\"\n", "r.toml:6: network.layers[2].wide: a layer of type conv has no such field"},
		{head + "layers = [\n  {type = \"conv\"},\n]\n", "r.toml:5: network.layers[1].out: a layer of type conv needs it"},
		{head + "layers = [{type = \"relu\"},\n\n # a comment, with a brace {\n {type = \"convolution\", name = \"a # {\"}]\n", "r.toml:7: network.layers[2].type: \"convolution\": want conv"},
		{head + "layers = [{type = \"maxpool\", kernel = 2, pad = 2}]\n", "pad: 2: want 0 to 1"},
		{head + "layers = [{type = \"inverted\", wide = 8, out = 8, activation = \"softmax\"}]\n", "activation: \"softmax\": want one of relu"},
		{head + "onnx = \"a.onnx\"\n" + dense, "r.toml:4: network.onnx: give layers or an onnx file, not both"},
		{head, "r.toml:3: network: say what is trained"},
		{"[network]\n" + dense, "data.train: say where"},
		{"data.synthetic = {samples = 1}\n[network]\n" + dense, "r.toml:1: data.synthetic.samples: 1: want 4 to"},
		{"[data]\ntrain = \"x\"\nmean = [0.5]\n[network]\n" + dense, "r.toml:3: data.mean: 1 means and 0 deviations"},
		{"[data]\ntrain = \"x\"\nmean = [0.5]\nstd = [0]\n[network]\n" + dense, "data.std"},
		{"[data]\ntrain = \"x\"\nmean = [nan]\nstd = [1]\n[network]\n" + dense, "data.std"},
		{head + dense + "[optimiser]\nkind = \"momentum\"\nbeta1 = 0.5\n", "optimiser.kind: beta1"},
		{head + dense + "[optimiser]\nrate = nan\n", "r.toml:9: optimiser.rate: NaN"},
		{head + dense + "[schedule]\nkind = \"step\"\n", "schedule.every: say after"},
		{head + dense + "[schedule]\nwarm_up = 11\n", "schedule.warm_up: 11: want 0 to 10"},
		{head + dense + "[train]\nloss = \"mse\"\n", "train.loss: mse"},
		{head + dense + "[train]\nbatch = -1\n", "train.batch: -1: want 1 to"},
		{head + dense + "[distil]\nweight = 0.5\n", "distil.teacher: say which"},
		{head + "onnx = \"a.onnx\"\nfreeze = [\"[\"]\n", "r.toml:5: network.freeze"},
		{strings.Repeat("#", maxRecipe+1), "more than"},
	} {
		_, err := Parse("r.toml", []byte(c.text))
		var typed *Error
		if !errors.As(err, &typed) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\n got %v\nwant %s", c.text[:min(len(c.text), 200)], err, c.want)
		}
	}
}

// TestShapes: layers that do not fit each other are named.
func TestShapes(t *testing.T) {
	for _, c := range []struct{ layers, want string }{
		{`{type = "dense", out = 3}`, "layers[1]: a dense layer takes numbers"},
		{`{type = "flatten"}, {type = "conv", out = 3}`, "layers[2]: a layer of type conv takes a picture"},
		{`{type = "maxpool"}, {type = "maxpool"}, {type = "maxpool", kernel = 7}`, "layers[3]: a kernel of 7 does not fit"},
		{`{type = "relu"}`, "the last layer gives [3 24 20]"},
		{`{type = "residual", out = 8, kernel = 2, stride = 2}`, "want an odd kernel"},
		{`{type = "flatten"}, {type = "dense", out = 500}, {type = "dense", out = 65536}`, "layers[3]: with it the network would have more than"},
	} {
		r := parse(t, "[data]\ntrain = \"x\"\n[network]\nlayers = ["+c.layers+"]\n")
		_, fault := r.Network.newGraph(Shape{3, 24, 20}, r.Train.Loss, 1, 1<<20)
		if fault == nil {
			t.Errorf("%s: a graph", c.layers)
			continue
		}
		if err := r.at(fault); err.Line != 4 || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.layers, err, c.want)
		}
	}
}

// allLayers has one of each type.
const allLayers = `
[data]
train = "x"
[network]
layers = [
  {type = "conv", out = 8, kernel = 5, stride = 2, pad = 1},
  {type = "relu6"},
  {type = "depthwise", bias = true},
  {type = "norm"},
  {type = "hardswish"},
  {type = "maxpool", kernel = 3, stride = 1, pad = 1},
  {type = "inverted", wide = 16, out = 8},
  {type = "inverted", wide = 16, out = 12, stride = 2, activation = "hardswish"},
  {type = "residual", out = 12},
  {type = "residual", out = 16, stride = 2},
  {type = "averagepool"},
  {type = "flatten"},
  {type = "dropout", rate = 0.25},
  {type = "dense", out = 20},
  {type = "tanh"},
  {type = "dense", out = 6, bias = false},
  {type = "sigmoid"},
  {type = "dense", out = 4},
]
`

// TestDrawn: weights have the variance that they should, the same seed gives
// the same, another one others.
func TestDrawn(t *testing.T) {
	r := example(t, "garments")
	one, err := r.Graph(Shape{1, 28, 28})
	if err != nil {
		t.Fatal(err)
	}
	variance := func(name string) float64 {
		sum, w := 0.0, one.Const(name).F32()
		for _, v := range w {
			sum += float64(v) * float64(v)
		}
		return sum / float64(len(w))
	}
	for name, want := range map[string]float64{
		"block4.widen.weight":  2.0 / 64,         // a relu follows
		"block4.narrow.weight": 2.0 / (192 + 64), // none does
		"head.weight":          2.0 / 64,
		"classes.weight":       2.0 / (128 + 10),
	} {
		if got := variance(name); math.Abs(got/want-1) > 0.1 {
			t.Errorf("%s: variance %.4g, want %.4g", name, got, want)
		}
	}
	again, _ := r.Graph(Shape{1, 28, 28})
	r.Train.Seed = 2
	other, _ := r.Graph(Shape{1, 28, 28})
	same := func(a, b *model.Graph) bool {
		var x, y bytes.Buffer
		if onnx.Export(&x, a) != nil || onnx.Export(&y, b) != nil {
			t.Fatal("export")
		}
		return bytes.Equal(x.Bytes(), y.Bytes())
	}
	if !same(one, again) || same(one, other) {
		t.Error("weights do not follow the seed alone")
	}
}

// TestFineTune replaces the last layer of an ONNX file, and freezes others.
func TestFineTune(t *testing.T) {
	g, err := parse(t, allLayers).Graph(Shape{3, 33, 33})
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := onnx.Export(&file, g); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "old.onnx"), file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	write := func(network string) *Recipe {
		path := filepath.Join(dir, "r.toml")
		if err := os.WriteFile(path, []byte("[data]\ntrain = \"x\"\n[network]\nonnx = \"old.onnx\"\n"+network), 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := write("classes = 7\nfreeze = [\"conv1.*\", \"inverted?.*\"]\n")
	tuned, err := r.Graph(Shape{3, 33, 33})
	if err != nil {
		t.Fatal(err)
	}
	if w := tuned.Const("dense3.weight"); w == nil || !w.Shape.Equal(model.Shape{7, 6}) || !tuned.Const("dense3.bias").Shape.Equal(model.Shape{7}) {
		t.Errorf("the last layer is %v", w)
	}
	if !slices.Equal(tuned.Const("conv1.weight").Data, g.Const("conv1.weight").Data) {
		t.Error("another layer changed")
	}
	for name, want := range map[string]bool{"conv1.weight": true, "inverted2.filter.norm.scale": true, "dense1.weight": false} {
		if r.Frozen(name) != want {
			t.Errorf("frozen %s: %v", name, !want)
		}
	}
	if kept, err := write("classes = 4\n").Graph(Shape{3, 33, 33}); err != nil || !slices.Equal(kept.Const("dense3.weight").Data, g.Const("dense3.weight").Data) {
		t.Errorf("a last layer that fits was replaced: %v", err)
	}
	for network, want := range map[string]string{
		"":                       "its input is [3 33 33], the data are [1 28 28]",
		"freeze = [\"nothing\"]": "matches no constant",
	} {
		shape := Shape{1, 28, 28}
		if network != "" {
			shape = Shape{3, 33, 33}
		}
		if _, err := write(network).Graph(shape); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", network, err, want)
		}
	}
}

// FuzzParse asks of any text for a recipe or an *Error with a line of the
// text, and of a recipe's layers for a graph that passes its check, or an
// error.
func FuzzParse(f *testing.F) {
	for _, name := range Examples() {
		text, err := Example(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add(allLayers)
	f.Add("[data]\ntrain='''x\n'''\nmean=[nan]\nstd=[inf]\n[[network.layers]]\ntype='relu'\n[distil]\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse("f.toml", []byte(text))
		if err != nil {
			var typed *Error
			if !errors.As(err, &typed) || typed.Line < 0 || typed.Line > strings.Count(text, "\n")+1 {
				t.Errorf("%#v of %d lines", err, strings.Count(text, "\n")+1)
			}
			return
		}
		for _, shape := range []Shape{{1, 28, 28}, {100}} {
			g, fault := r.Network.newGraph(shape, r.Train.Loss, 1, 1<<16)
			if (g == nil) == (fault == nil) {
				t.Errorf("graph %v, error %v", g, fault)
			}
		}
		_ = fmt.Sprint(r)
	})
}

// TestEveryLayer: a network with each type of layer runs in the engine, and
// train makes the same of it.
func TestEveryLayer(t *testing.T) {
	g, err := parse(t, allLayers).Graph(Shape{3, 33, 33})
	if err != nil {
		t.Fatal(err)
	}
	n, err := train.NewNet(g, train.Options{Batch: 2})
	if err != nil {
		t.Fatal(err)
	}
	p, err := engine.Compile(g, engine.Options{Shapes: map[string]model.Shape{"image": {2, 3, 33, 33}}})
	if err != nil {
		t.Fatal(err)
	}
	s := p.NewSession()
	random := rand.New(rand.NewPCG(1, 2))
	for i := range n.Input(0) {
		n.Input(0)[i] = random.Float32()*2 - 1
	}
	copy(s.Input(0).F32(), n.Input(0))
	n.Forward(false)
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	for i, v := range s.Output(0).F32() {
		if w := n.Output(0)[i]; math.Abs(float64(v-w)) > 1e-5 {
			t.Errorf("output %d: engine %v, train %v", i, v, w)
		}
	}
}
