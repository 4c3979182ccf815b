package train

import (
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"dunlin/model"
	"dunlin/model/onnx"
)

// pictureNet is a small network of pictures with most of what such have.
func pictureNet() *model.Graph {
	c := graphCase{name: "pictures", inputs: []model.Shape{{0, 2, 8, 8}}, nodes: []*model.Node{
		nodeOf("Conv", "conv1", names("x0", "w1"), names("a"), "pads", ints(1, 1, 1, 1)),
		nodeOf("BatchNormalization", "norm", names("a", "s", "b", "m", "v"), names("b1")),
		nodeOf("Relu", "relu", names("b1"), names("c")),
		nodeOf("Conv", "dw", names("c", "w2"), names("d"), "pads", ints(1, 1, 1, 1), "group", int64(4)),
		nodeOf("Add", "sum", names("c", "d"), names("e")),
		nodeOf("MaxPool", "pool", names("e"), names("f"), "kernel_shape", ints(2, 2), "strides", ints(2, 2)),
		nodeOf("Dropout", "drop", names("f", "half"), names("g")),
		nodeOf("Flatten", "flat", names("g"), names("h")),
		nodeOf("Gemm", "dense", names("h", "w3", "b3"), names("i"), "transB", int64(1)),
		nodeOf("Softmax", "soft", names("i"), names("y")),
	}, consts: map[string]*model.Tensor{
		"w1": normal(0.3, 4, 2, 3, 3), "s": positive(4), "b": normal(0.1, 4), "m": normal(0.1, 4), "v": positive(4),
		"w2": normal(0.3, 4, 1, 3, 3), "half": single(0.25), "w3": normal(0.2, 5, 64), "b3": normal(0.1, 5),
	}}
	return c.graph()
}

// descend takes steps of plain gradient descent towards class 0 on random
// pictures, and returns the first and the last output of class 0.
func descend(t *testing.T, n *Net, steps int) (first, last float32) {
	t.Helper()
	r := rand.New(rand.NewPCG(3, 4))
	fillNormal(r, n.Input(0))
	for i := range steps {
		n.Forward(true)
		last = n.Output(0)[0]
		if i == 0 {
			first = last
		}
		clear(n.OutputGradient(0))
		for k := 0; k < len(n.Output(0)); k += 5 {
			n.OutputGradient(0)[k] = -1
		}
		n.Backward()
		for _, p := range n.Parameters() {
			for j, g := range p.Gradient {
				p.Value[j] -= 0.05 * g
			}
		}
	}
	return first, last
}

func laidOut(t testing.TB, g *model.Graph, o Options) *Net {
	t.Helper()
	n, err := NewNet(g, o)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func digest(n *Net) [32]byte {
	h := sha256.New()
	for _, list := range [][]*Parameter{n.Parameters(), n.Statistics()} {
		for _, p := range list {
			h.Write(bytesOf(p.Value))
		}
	}
	return [32]byte(h.Sum(nil))
}

// TestSameBits trains twice from the same seed, and once from another, which
// drops other values.
func TestSameBits(t *testing.T) {
	run := func(o Options) [32]byte {
		n := laidOut(t, pictureNet(), o)
		if first, last := descend(t, n, 20); last <= first {
			t.Errorf("class 0 went from %g to %g", first, last)
		}
		return digest(n)
	}
	a, b := run(Options{Batch: 7, Seed: 1}), run(Options{Batch: 7, Seed: 1})
	if a != b {
		t.Errorf("two runs end in %x and %x", a, b)
	}
	if c := run(Options{Batch: 7, Seed: 2}); c == a {
		t.Error("another seed dropped the same values")
	}
}

// TestGraph checks that what is trained, and the statistics of norms, arrive
// in the graph, that the engine computes the same with it, and that the graph
// that was given did not change.
func TestGraph(t *testing.T) {
	g := pictureNet()
	before := slices.Clone(g.Const("w1").F32())
	n := laidOut(t, g, Options{Batch: 3})
	descend(t, n, 5)
	n.Forward(false)
	compareWithEngine(t, n, n.Graph())
	if !slices.Equal(before, g.Const("w1").F32()) {
		t.Error("NewNet's graph changed")
	}
	if slices.Equal(before, n.Graph().Const("w1").F32()) {
		t.Error("the graph has the old weights")
	}
}

// TestResize checks that a net of another batch has the same parameters and
// answers.
func TestResize(t *testing.T) {
	n := laidOut(t, pictureNet(), Options{Batch: 4})
	small, err := n.Resize(1)
	if err != nil {
		t.Fatal(err)
	}
	descend(t, n, 3)
	n.Forward(false)
	size := len(small.Input(0))
	for i := range 4 {
		copy(small.Input(0), n.Input(0)[i*size:])
		small.Forward(false)
		close32(t, "output", small.Output(0), n.Output(0)[i*5:][:5], 1e-5)
	}
	if !slices.Equal(n.Parameters(), small.Parameters()) {
		t.Error("the parameters are not shared")
	}
	if small.Forwards() != 3 {
		t.Errorf("%d forwards in training, not 3", small.Forwards())
	}
}

// TestParameters checks which constants are trained, and how.
func TestParameters(t *testing.T) {
	var got []string
	for _, p := range laidOut(t, pictureNet(), Options{Batch: 1, Freeze: func(c string) bool { return c == "b3" }}).Parameters() {
		name := p.Name
		if p.Decay {
			name += "*"
		}
		got = append(got, name)
	}
	if want := []string{"w1*", "s", "b", "w2*", "w3*"}; !slices.Equal(got, want) {
		t.Errorf("%v, not %v", got, want)
	}
}

// TestLogits checks that the output is what goes into the softmax.
func TestLogits(t *testing.T) {
	a, b := laidOut(t, pictureNet(), Options{Batch: 2}), laidOut(t, pictureNet(), Options{Batch: 2, Logits: true})
	r := rand.New(rand.NewPCG(3, 4))
	fillNormal(r, a.Input(0))
	copy(b.Input(0), a.Input(0))
	a.Forward(false)
	b.Forward(false)
	if slices.Equal(a.Output(0), b.Output(0)) {
		t.Error("logits are probabilities")
	}
	if got := b.Graph().Outputs; !slices.Equal(got, []string{"y"}) {
		t.Errorf("the graph has outputs %v", got)
	}
}

// TestFrozenNorm checks that a norm whose statistics are frozen keeps them in
// training.
func TestFrozenNorm(t *testing.T) {
	n := laidOut(t, pictureNet(), Options{Batch: 3, Freeze: func(c string) bool { return c == "m" || c == "half" }})
	before := slices.Clone(n.Statistics()[1].Value)
	n.Forward(true)
	if !slices.Equal(before, n.Statistics()[1].Value) {
		t.Error("the variance changed")
	}
}

// TestNothingAllocated checks that a step makes no garbage.
func TestNothingAllocated(t *testing.T) {
	n := laidOut(t, pictureNet(), Options{Batch: 3, InputGradients: true})
	if a := testing.AllocsPerRun(5, func() { n.Forward(true); n.Backward() }); a != 0 {
		t.Errorf("%v allocations in a step", a)
	}
	for i := range cases {
		c := &cases[i]
		n, _ := startNet(t, c, 2)
		if a := testing.AllocsPerRun(2, func() { n.Forward(c.training); n.Backward() }); a != 0 {
			t.Errorf("%s: %v allocations in a step", c.name, a)
		}
	}
}

// TestGarments runs the demo's network, which torch made, beside the engine.
func TestGarments(t *testing.T) {
	data, err := os.ReadFile("../examples/garments/garments.onnx")
	if err != nil {
		t.Fatal(err)
	}
	g, err := onnx.Import(data)
	if err != nil {
		t.Fatal(err)
	}
	n := laidOut(t, g, Options{Batch: 4})
	fillNormal(rand.New(rand.NewPCG(5, 6)), n.Input(0))
	n.Forward(false)
	compareWithEngine(t, n, g)
}

// TestRefused checks what cannot be trained, and what is said then.
func TestRefused(t *testing.T) {
	shape := []model.Shape{{0, 4}}
	for _, c := range []struct {
		graphCase
		want []string
	}{
		{graphCase{name: "g", inputs: shape, nodes: []*model.Node{
			nodeOf("TopK", "best", names("x0", "k"), names("a", "b")), nodeOf("NonZero", "places", names("a"), names("c")), nodeOf("Relu", "r", names("a"), names("d")),
			nodeOf("MatMul", "m", names("d", "c"), names("y")),
		}, consts: map[string]*model.Tensor{"k": whole(1)}}, []string{"best (TopK), places (NonZero)", "2 of its nodes"}},
		{graphCase{name: "g", inputs: shape, nodes: one("QuantizeLinear", names("x0", "s")), consts: map[string]*model.Tensor{"s": single(1)}}, []string{"float model it was made from"}},
		{graphCase{name: "g", inputs: shape, nodes: one("Gemm", names("x0", "w")), consts: map[string]*model.Tensor{"w": normal(1, 5, 2)}}, []string{"node n (Gemm)", "4 is not 5"}},
		{graphCase{name: "g", inputs: shape, nodes: one("Conv", names("x0", "w")), consts: map[string]*model.Tensor{"w": normal(1, 5, 2)}}, []string{"spatial axes"}},
		{graphCase{name: "g", inputs: shape, nodes: one("Reshape", names("x0", "x0"))}, []string{"constant"}},
	} {
		_, err := NewNet(c.graph(), Options{Batch: 2})
		if err == nil {
			t.Errorf("%v: no error", c.want)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%v does not say %q", err, w)
			}
		}
	}
	if _, err := NewNet(pictureNet(), Options{}); err == nil {
		t.Error("a batch of 0 was taken")
	}
	var where *model.Error
	g := pictureNet()
	g.Values["x0"].Shape = model.Shape{model.Unknown, 2, model.Unknown, 8}
	if _, err := NewNet(g, Options{Batch: 1}); !errors.As(err, &where) || where.Part != "input x0" {
		t.Errorf("an open axis: %v", err)
	}
}

// TestEqualValues checks that of equal values under a window the first, rows
// before columns, gets the gradient, and no other.
func TestEqualValues(t *testing.T) {
	c := graphCase{name: "equal", inputs: []model.Shape{{0, 2, 3, 3}}, nodes: one("MaxPool", names("x0"), "kernel_shape", ints(2, 2))}
	n := laidOut(t, c.graph(), Options{Batch: 1, InputGradients: true})
	n.Forward(false)
	for i := range n.OutputGradient(0) {
		n.OutputGradient(0)[i] = float32(i + 1)
	}
	n.Backward()
	want := []float32{1, 2, 0, 3, 4, 0, 0, 0, 0, 5, 6, 0, 7, 8, 0, 0, 0, 0}
	if got := n.InputGradient(0); !slices.Equal(got, want) {
		t.Errorf("%v, not %v", got, want)
	}
}

// TestTooLarge: values that no machine holds are refused before they are made.
func TestTooLarge(t *testing.T) {
	g := model.New("large")
	g.Inputs, g.Outputs = []string{"x"}, []string{"y"}
	g.Values["x"] = &model.Value{Type: model.F32, Shape: model.Shape{model.Unknown, 1 << 20}}
	g.Nodes = []*model.Node{nodeOf("Relu", "n", names("x"), names("y"))}
	if _, err := NewNet(g, Options{Batch: 1 << 14}); err == nil || !strings.Contains(err.Error(), "smaller batch") {
		t.Errorf("%v", err)
	}
}
