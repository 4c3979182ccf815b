package quant

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"dunlin/model"
)

// depthwise adds a depthwise convolution without a bias.
func (n *net) depthwise(out, in string, channels int) string {
	n.AddConst(out+"_w", n.random(.4, channels, 1, 3, 3))
	return n.op("Conv", out, map[string]model.Attr{"pads": []int64{1, 1, 1, 1}, "group": int64(channels)}, in, out+"_w")
}

// mobile is an inverted residual block between a stem and a dense layer, with
// the channels of one layer far apart.
func mobile() *net {
	n := newNet(2, 3, 8, 8)
	n.op("Relu", "a", nil, n.norm("an", n.conv("c1", "x", 3, 6, 3), 6))
	n.op("Relu", "b", nil, n.norm("bn", n.conv("c2", "a", 6, 12, 1), 12))
	n.op("Relu", "c", nil, n.norm("cn", n.depthwise("c3", "b", 12), 12))
	n.norm("dn", n.conv("c4", "c", 12, 6, 1), 6)
	n.op("Add", "s", nil, "a", "dn")
	n.op("MaxPool", "p", map[string]model.Attr{"kernel_shape": []int64{2, 2}, "strides": []int64{2, 2}}, "s")
	n.op("Flatten", "f", map[string]model.Attr{"axis": int64(1)}, "p")
	n.AddConst("fc", n.random(.1, 96, 5))
	n.AddConst("fb", n.random(.1, 5))
	n.op("Gemm", "y", nil, "f", "fc", "fb")
	n.Outputs = []string{"y"}
	for c, v := range n.Const("bn_scale").F32() {
		s := float32(math.Pow(2, float64(c-6)))
		n.Const("bn_scale").F32()[c] = v * s
		n.Const("bn_bias").F32()[c] *= s
	}
	return n
}

// TestEqualise: the graph computes what it did, and the ranges of what makes
// a channel and of what reads it are the same.
func TestEqualise(t *testing.T) {
	n := mobile()
	in, _ := n.samples(0)
	e, rep, err := Equalise(n.Graph, EqualiseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := sqnr(run(t, n.Graph, in), run(t, e, in)); got < 110 {
		t.Errorf("the equalised graph is another: %.1f dB", got)
	}
	if rep.Channels != 12+12 || len(rep.Layers) != 3 {
		t.Errorf("%+v", rep)
	}
	if slices.ContainsFunc(n.Nodes, func(m *model.Node) bool { return slices.Contains(m.In, "c1_w/equalised") }) {
		t.Error("the graph given was changed")
	}
	p, err := prepare(e)
	if err != nil {
		t.Fatal(err)
	}
	layer := map[string]*layer{}
	for _, m := range p.Nodes {
		if l := layerOf(p, m); l != nil {
			layer[m.Name] = l
		}
	}
	for _, pair := range [][2]string{{"c2_Conv", "c3_Conv"}, {"c3_Conv", "c4_Conv"}} {
		made, read := outRanges(layer[pair[0]]), inRanges(layer[pair[1]])
		for c, r := range made {
			if math.Abs(r/read[c]-1) > .01 {
				t.Errorf("channel %d from %s to %s: ranges %g and %g", c, pair[0], pair[1], r, read[c])
			}
		}
	}
	for _, l := range rep.Layers {
		if l.Name == "c2_Conv" && l.After < 1.5*l.Before {
			t.Errorf("precision %g becomes %g", l.Before, l.After)
		}
	}
}

func outRanges(l *layer) []float64 {
	r := make([]float64, l.channels)
	l.eachWeight(func(c, i int) { r[c] = max(r[c], math.Abs(float64(l.weight.F32()[i]))) })
	return r
}

func inRanges(l *layer) []float64 {
	of, channels := l.inputChannel()
	r := make([]float64, channels)
	l.eachWeight(func(c, i int) { r[of(c, i)] = max(r[of(c, i)], math.Abs(float64(l.weight.F32()[i]))) })
	return r
}

// TestEqualisePair checks the factor of one channel by the formula.
func TestEqualisePair(t *testing.T) {
	n := newNet(1, 2)
	n.AddConst("w1", model.Of(model.F32, []float32{8, -2, .5, .25}, 2, 2)) // rows make channels
	n.AddConst("b1", model.Of(model.F32, []float32{1, 1}, 2))
	n.op("Gemm", "h", map[string]model.Attr{"transB": int64(1)}, "x", "w1", "b1")
	n.op("Relu", "a", nil, "h")
	n.AddConst("w2", model.Of(model.F32, []float32{2, .125, -1, 0}, 2, 2)) // columns read them
	n.op("Gemm", "y", map[string]model.Attr{"transB": int64(1)}, "a", "w2")
	n.Outputs = []string{"y"}
	e, _, err := Equalise(n.Graph, EqualiseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// s = sqrt(8*2)/2 = 2 and sqrt(.5*.125)/.125 = 2.
	for name, want := range map[string][]float32{
		"w1/equalised": {4, -1, .25, .125}, "b1/equalised": {.5, .5}, "w2/equalised": {4, .25, -2, 0},
	} {
		if c := e.Const(name); c == nil || !slices.Equal(c.F32(), want) {
			t.Errorf("%s: %v, want %v", name, c, want)
		}
	}
}

// TestEqualiseLeaves: channels that the caller sees, and those behind what is
// not homogeneous, are left alone.
func TestEqualiseLeaves(t *testing.T) {
	for _, op := range []string{"Sigmoid", "Softmax", "Relu"} {
		n := newNet(1, 2, 4, 4)
		n.op(op, "a", nil, n.conv("c1", "x", 2, 4, 3))
		n.conv("y", "a", 4, 2, 1)
		n.Outputs = []string{"y"}
		if op == "Relu" {
			n.Outputs = append(n.Outputs, "a")
		}
		e, rep, err := Equalise(n.Graph, EqualiseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if rep.Channels != 0 || len(rep.Layers) != 0 || !slices.Equal(e.Nodes[0].In, n.Nodes[0].In) {
			t.Errorf("%s: %+v", op, rep)
		}
	}
}

// TestUnclip: a Clip becomes a Relu where the samples hardly reach it.
func TestUnclip(t *testing.T) {
	n := newNet(1, 2, 4, 4)
	n.AddConst("zero", model.Of(model.F32, []float32{0}))
	n.AddConst("high", model.Of(model.F32, []float32{100}))
	n.AddConst("low", model.Of(model.F32, []float32{.5}))
	n.op("Clip", "a", nil, n.conv("c1", "x", 2, 4, 3), "zero", "high")
	n.op("Clip", "b", nil, n.conv("c2", "a", 4, 4, 3), "zero", "low")
	n.conv("y", "b", 4, 2, 1)
	n.Outputs = []string{"y"}
	r, err := Calibrate(n.Graph, n.samples, 20, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		clipped float64
		want    string
	}{{0, "Conv Relu Conv Clip Conv"}, {.5, "Conv Relu Conv Relu Conv"}} {
		e, rep, err := Equalise(n.Graph, EqualiseOptions{Ranges: r, Clipped: c.clipped})
		if err != nil {
			t.Fatal(err)
		}
		if got := ops(e); got != c.want || len(rep.Clips) != 2 || rep.Clips[0].Clipped != 0 || rep.Clips[1].Clipped < .05 {
			t.Errorf("%g: %s, %+v", c.clipped, got, rep.Clips)
		}
	}
	if _, rep, err := Equalise(n.Graph, EqualiseOptions{}); err != nil || len(rep.Clips) != 0 {
		t.Errorf("without ranges: %+v, %v", rep, err)
	}
	if _, _, err := Equalise(n.Graph, EqualiseOptions{Clipped: 2}); err == nil {
		t.Error("a share of 2 is taken")
	}
}

// TestPerTensor: one scale a tensor, in a form that the engine runs in
// integers; Equalise takes back what it costs.
func TestPerTensor(t *testing.T) {
	n := mobile()
	in, _ := n.samples(100)
	want := run(t, n.Graph, in)
	measure := func(g *model.Graph) float64 {
		r, err := Calibrate(g, n.samples, 20, Options{})
		if err != nil {
			t.Fatal(err)
		}
		q, _, err := Apply(g, r, Options{PerTensor: true})
		if err != nil {
			t.Fatal(err)
		}
		checkSteps(t, q)
		for name, v := range q.Values {
			if v.Const != nil && v.Const.Type == model.F32 && v.Const.Elements() != 1 {
				t.Errorf("%s has %v scales", name, v.Const.Shape)
			}
		}
		return sqnr(want, run(t, q, in))
	}
	w := wild(t, n.Graph)
	plain := measure(w)
	e, _, err := Equalise(w, EqualiseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	equalised := measure(e)
	t.Logf("one scale a tensor: %.1f dB, equalised %.1f dB", plain, equalised)
	if equalised < plain+6 {
		t.Errorf("one scale a tensor: %.1f dB, equalised %.1f dB", plain, equalised)
	}
}

// wild returns a graph that computes what g does, in which the channels
// between the layers are multiplied by powers of two from 1/32 to 32: what
// Equalise undoes.
func wild(t *testing.T, g *model.Graph) *model.Graph {
	t.Helper()
	g, err := prepare(g)
	if err != nil {
		t.Fatal(err)
	}
	c, err := followChannels(g, true)
	if err != nil {
		t.Fatal(err)
	}
	e := newEqualiser(c, g)
	r := rand.New(rand.NewPCG(3, 4))
	for _, set := range c.sets() {
		for _, id := range set {
			e.factor[id] = math.Ldexp(1, r.IntN(11)-5)
		}
	}
	e.write()
	return g
}

// TestGarmentsPerTensor: with one scale a tensor, channels of different
// ranges cost the demo's model its answers, and Equalise gives them back.
func TestGarmentsPerTensor(t *testing.T) {
	test, calib := fashion(t, "t10k"), fashion(t, "train")
	if test == nil || calib == nil {
		t.Skip("skipped: Debian's dataset-fashion-mnist is not installed")
	}
	calib.n = 256
	if !*long {
		calib.n, test.n = 32, 500
	}
	g := importFile(t, filepath.Join("..", "examples", "garments", "garments.onnx"))
	before, after := perTensor(t, g, *test, *calib)
	if after-before > .5 {
		t.Errorf("%.2f points lost, equalised %.2f", before, after)
	}
	before, after = perTensor(t, wild(t, g), *test, *calib)
	if before < 5 || after > 1 {
		t.Errorf("of the wild graph %.2f points are lost, equalised %.2f", before, after)
	}
}

// perTensor returns the points that one scale a tensor loses, and those that
// it loses behind Equalise.
func perTensor(t *testing.T, g *model.Graph, test, calib labelled) (before, after float64) {
	t.Helper()
	float := accuracy(t, g, test)
	drop := func(g *model.Graph, o Options) float64 {
		r, err := Calibrate(g, calib.next, calib.n, o)
		if err != nil {
			t.Fatal(err)
		}
		q, _, err := Apply(g, r, o)
		if err != nil {
			t.Fatal(err)
		}
		return float - accuracy(t, q, test)
	}
	e, rep, err := Equalise(g, EqualiseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if same := float - accuracy(t, e, test); math.Abs(same) > .1 {
		t.Errorf("equalised, it loses %.2f points in float", same)
	}
	before, after = drop(g, Options{PerTensor: true}), drop(e, Options{PerTensor: true})
	t.Logf("%d pictures, float %.2f %%; points lost with one scale a tensor %.2f, equalised %.2f (%d channels, %d rounds)", test.n, float, before, after, rep.Channels, rep.Rounds)
	if *long {
		t.Logf("with a scale a channel %.2f, equalised %.2f", drop(g, Options{}), drop(e, Options{}))
	}
	for _, l := range rep.Layers {
		t.Logf("%-28s precision %.3f -> %.3f", l.Name, l.Before, l.After)
	}
	return before, after
}
