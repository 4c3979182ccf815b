package head

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/internal/shared"
	"dunlin/kernels"
	"dunlin/model"
	"dunlin/model/onnx"
	"dunlin/quant"
)

// twoLayers is x [1, 6] -> MatMul, Add -> Relu -> Gemm -> Softmax, in float.
func twoLayers() *model.Graph {
	random := rand.New(rand.NewPCG(3, 4))
	some := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(random.NormFloat64())
		}
		return v
	}
	g := model.New("two")
	g.Inputs, g.Outputs = []string{"x"}, []string{"y"}
	g.Values["x"] = &model.Value{Type: model.F32, Shape: model.Shape{1, 6}}
	g.AddConst("w1", model.Of(model.F32, some(30), 6, 5))
	g.AddConst("b1", model.Of(model.F32, some(5), 5))
	g.AddConst("w2", model.Of(model.F32, some(20), 4, 5))
	g.AddConst("b2", model.Of(model.F32, some(4), 4))
	g.Nodes = []*model.Node{
		{Op: "MatMul", Name: "first", In: []string{"x", "w1"}, Out: []string{"p"}},
		{Op: "Add", Name: "bias", In: []string{"b1", "p"}, Out: []string{"h"}},
		{Op: "Relu", Name: "relu", In: []string{"h"}, Out: []string{"r"}},
		{Op: "Gemm", Name: "second", In: []string{"r", "w2", "b2"}, Out: []string{"z"}, Attrs: map[string]model.Attr{"transB": int64(1)}},
		{Op: "Softmax", Name: "softmax", In: []string{"z"}, Out: []string{"y"}, Attrs: map[string]model.Attr{"axis": int64(-1)}},
	}
	return g
}

func find(t testing.TB, g *model.Graph, output string, layers int) *Head {
	t.Helper()
	h, err := Find(g, output, layers)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// floatSamples are features of float32, with classes that follow from them.
func floatSamples(h *Head, n int) (all []Sample) {
	random := rand.New(rand.NewPCG(5, 6))
	for range n {
		s := Sample{Class: random.IntN(h.Classes)}
		for i := range h.Feature.Size {
			v := float32(random.NormFloat64())
			if i == s.Class {
				v += 3
			}
			s.Feature = binary.LittleEndian.AppendUint32(s.Feature, math.Float32bits(v))
		}
		all = append(all, s)
	}
	return all
}

// Each gradient is what the loss changes by where its weight does.
func TestGradients(t *testing.T) {
	for layers := 1; layers <= 2; layers++ {
		h := find(t, twoLayers(), "y", layers)
		if len(h.layers) != layers {
			t.Fatalf("%d layers found, want %d", len(h.layers), layers)
		}
		const m = 7
		samples := floatSamples(h, m)
		n := h.signed(false)
		for i := range n.w { // away from the signed weights, so that the pull shows
			for j := range n.w[i] {
				n.w[i][j] += .01 * float32(j%7)
			}
		}
		b := newBatch(n, m, noRest)
		weights := classWeights(samples, nil, 0, h.Classes)
		for s := range samples {
			h.Feature.values(b.x[s*h.Feature.Size:], samples[s].Feature)
			b.class[s], b.weight[s] = samples[s].Class, weights[samples[s].Class]
		}
		energy := []float64{2, 3}[:layers]
		loss := func() float64 { return n.loss(t, b, m, energy) }
		if err := errors.Join(n.forward(b, m), n.backward(b, m)); err != nil {
			t.Fatal(err)
		}
		n.toward(b, .1, energy)
		checked := 0
		for i := range n.layers {
			for _, p := range []struct{ v, d []float32 }{{n.w[i], b.dw[i]}, {n.b[i], b.db[i]}} {
				for j := range p.v {
					const step = 1e-2
					was, want := p.v[j], float64(p.d[j])
					p.v[j] = was + step
					up := loss()
					p.v[j] = was - step
					down := loss()
					p.v[j] = was
					got := (up - down) / float64(float32(was+step)-float32(was-step))
					if math.Abs(got-want) > 1e-3+2e-2*math.Abs(want) {
						t.Errorf("%d layers, layer %d, element %d: gradient %.5f, differences %.5f", layers, i, j, want, got)
					}
					checked++
				}
			}
		}
		t.Logf("%d layers: %d gradients", layers, checked)
	}
}

// loss is what backward and toward descend, in float64 from the scores on.
func (n *net) loss(t *testing.T, b *batch, m int, energy []float64) float64 {
	t.Helper()
	if err := n.forward(b, m); err != nil {
		t.Fatal(err)
	}
	last := len(n.layers) - 1
	classes, sum := n.layers[last].out, 0.0
	for s := range m {
		row, all := b.z[last][s*classes:(s+1)*classes], 0.0
		for _, z := range row {
			all += math.Exp(float64(z))
		}
		sum -= float64(b.weight[s]) * (float64(row[b.class[s]]) - math.Log(all)) / float64(m)
	}
	for i, l := range n.layers {
		for j, v := range n.w[i] {
			sum += .1 * energy[i] / 2 * math.Pow(float64(v-l.w[j]), 2)
		}
		for j, v := range n.b[i] {
			sum += .1 / 2 * math.Pow(float64(v-l.b[j]), 2)
		}
	}
	return sum
}

// Weights become the integers that quant makes of the same weights.
func TestSameAsQuant(t *testing.T) {
	g := twoLayers()
	random := rand.New(rand.NewPCG(7, 8))
	var inputs []*model.Tensor
	for range 50 {
		v := make([]float32, 6)
		for i := range v {
			v[i] = float32(random.NormFloat64())
		}
		inputs = append(inputs, model.Of(model.F32, v, 1, 6))
	}
	ranges, err := quant.Calibrate(g, func(i int) ([]*model.Tensor, error) { return inputs[i : i+1], nil }, len(inputs), quant.Options{Range: "minmax"})
	if err != nil {
		t.Fatal(err)
	}
	q, _, err := quant.Apply(g, ranges, quant.Options{Range: "minmax"})
	if err != nil {
		t.Fatal(err)
	}
	float, h := find(t, g, "y", 2), find(t, q, "y", 2)
	if len(h.layers) != 2 || h.Feature.Type != model.I8 || len(h.layers[0].grids) == 0 {
		t.Fatalf("head of the int8 graph: %+v", h)
	}
	var samples []Sample
	s := session(t, h.Backbone(), "")
	for _, in := range inputs {
		copy(s.Input(0).Data, in.Data)
		if err := s.Run(); err != nil {
			t.Fatal(err)
		}
		samples = append(samples, Sample{Feature: bytes.Clone(s.Output(0).Data)})
	}
	f, err := h.freeze(float.signed(false), samples, noRest)
	if err != nil {
		t.Fatal(err)
	}
	steps := map[string]bool{} // of grids, which this head may have made wider
	for _, l := range h.layers {
		for _, g := range l.grids {
			steps[g.scaleName], steps[g.zeroName] = true, true
		}
	}
	for _, c := range f.delta.Constants {
		want := q.Const(c.Name)
		if steps[c.Name] {
			continue
		}
		if want.Type != model.I32 {
			if !bytes.Equal(c.Data, want.Data) {
				t.Errorf("%s: %v, quant makes %v", c.Name, c.Data, want.Data)
			}
			continue
		}
		// quant takes the means of the float values, of which these are the rounded ones.
		for i, v := range want.I32() {
			if got := int32(binary.LittleEndian.Uint32(c.Data[4*i:])); math.Abs(float64(got-v)) > 40 {
				t.Errorf("%s: element %d is %d, quant makes %d", c.Name, i, got, v)
			}
		}
	}
	if len(f.delta.Constants) < 8 {
		t.Errorf("only %d constants were written", len(f.delta.Constants))
	}
}

// What is learned of pictures of another kind is worth having: figures of
// pictures that the head was not trained on. What the check answers with is
// what the engine computes, and the tail is the end of the graph, bit for bit.
func TestNegatives(t *testing.T) {
	e := theExample(t)
	h := find(t, e.graph, "scores", 1)
	taught := e.features(t, h, set(t, filepath.Join(garments, "calibration"), 0), negative)
	test := e.features(t, h, set(t, filepath.Join(garments, "samples"), 0), negative)
	o, err := h.Train(t.Context(), taught, Options{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(o)
	if !o.Better() {
		t.Fatal("the tuned head was refused")
	}
	f, err := h.tune(taught, nil, 1, noRest)
	if err != nil {
		t.Fatal(err)
	}
	before, after := h.right(t, h.signed(true), test), h.right(t, f.net, test)
	t.Logf("other pictures: %.1f %% right, then %.1f %%", 100*before, 100*after)
	if after < before+.2 || after < o.After-.1 {
		t.Errorf("other pictures: %.3f right, then %.3f; the check said %.3f", before, after, o.After)
	}
	if err := o.Delta.Of(h); err != nil {
		t.Error(err)
	}
	e.sameAsEngine(t, h, f, o.Delta, test)
}

func (e *example) sameAsEngine(t *testing.T, h *Head, f *frozen, d *Delta, test []Sample) {
	t.Helper()
	whole, err := d.Apply(e.graph)
	if err != nil {
		t.Fatal(err)
	}
	tail, err := h.Tail(d)
	if err != nil {
		t.Fatal(err)
	}
	full, end := session(t, whole, ""), session(t, tail, "generic")
	answers, err := h.answers(f.net, test, noRest)
	if err != nil {
		t.Fatal(err)
	}
	pictures, other := set(t, filepath.Join(garments, "samples"), 0), 0
	for i, s := range test {
		p, err := pictures.At(i)
		if err != nil {
			t.Fatal(err)
		}
		e.run(t, full, negative(p.Picture))
		copy(end.Input(0).Data, s.Feature)
		if err := end.Run(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(full.Output(0).Data, end.Output(0).Data) {
			t.Fatalf("picture %d: the graph answers %v, its tail %v", i, full.Output(0).F32(), end.Output(0).F32())
		}
		best, scores := 0, end.Output(0).F32()
		for c, v := range scores {
			if v > scores[best] {
				best = c
			}
		}
		if best != answers[i] {
			other++
		}
	}
	if other > 0 {
		t.Errorf("%d of %d answers of the check are not the engine's", other, len(test))
	}
}

// integers is x int8 [1, 30] -> DequantizeLinear -> Gemm -> QuantizeLinear,
// DequantizeLinear -> Softmax, of whole numbers that no CPU makes others of.
func integers() *model.Graph {
	g := model.New("integers")
	g.Inputs, g.Outputs = []string{"x"}, []string{"y"}
	g.Values["x"] = &model.Value{Type: model.I8, Shape: model.Shape{1, 30}}
	w := make([]int8, 90)
	for i := range w {
		w[i] = int8(i*37%101 - 50)
	}
	g.AddConst("xs", model.Of(model.F32, []float32{1. / 32}))
	g.AddConst("xz", model.Of(model.I8, []int8{-128}))
	g.AddConst("w", model.Of(model.I8, w, 3, 30))
	g.AddConst("ws", model.Of(model.F32, []float32{1. / 256, 1. / 512, 1. / 256}, 3))
	g.AddConst("b", model.Of(model.I32, []int32{100, -200, 300}, 3))
	g.AddConst("bs", model.Of(model.F32, []float32{1. / 8192, 1. / 16384, 1. / 8192}, 3))
	g.AddConst("zs", model.Of(model.F32, []float32{1. / 8}))
	g.AddConst("zz", model.Of(model.I8, []int8{0}))
	along := map[string]model.Attr{"axis": int64(0)}
	g.Nodes = []*model.Node{
		{Op: "DequantizeLinear", Name: "x8", In: []string{"x", "xs", "xz"}, Out: []string{"xf"}},
		{Op: "DequantizeLinear", Name: "w8", In: []string{"w", "ws"}, Out: []string{"wf"}, Attrs: along},
		{Op: "DequantizeLinear", Name: "b32", In: []string{"b", "bs"}, Out: []string{"bf"}, Attrs: along},
		{Op: "Gemm", Name: "gemm", In: []string{"xf", "wf", "bf"}, Out: []string{"p"}, Attrs: map[string]model.Attr{"transB": int64(1)}},
		{Op: "QuantizeLinear", Name: "zq", In: []string{"p", "zs", "zz"}, Out: []string{"z8"}},
		{Op: "DequantizeLinear", Name: "zd", In: []string{"z8", "zs", "zz"}, Out: []string{"z"}},
		{Op: "Softmax", Name: "softmax", In: []string{"z"}, Out: []string{"y"}, Attrs: map[string]model.Attr{"axis": int64(1)}},
	}
	return g
}

// The same samples and seed give the same bits, on every CPU.
func TestSameBits(t *testing.T) {
	h := find(t, integers(), "y", 1)
	if h.Feature.Value != "x" || h.Feature.Type != model.I8 {
		t.Fatalf("feature %+v", h.Feature)
	}
	random := rand.New(rand.NewPCG(9, 10))
	var samples []Sample
	for i := range 60 {
		s := Sample{Class: i % 2, Feature: make([]byte, h.Feature.Bytes())} // class 2 is imagined
		for j := range s.Feature {
			s.Feature[j] = byte(random.IntN(100) - 128)
			if j%3 == s.Class {
				s.Feature[j] += 60
			}
		}
		samples = append(samples, s)
	}
	sum := ""
	for range 2 {
		o, err := h.Train(t.Context(), samples, Options{Seed: 2, Anchors: [][]byte{samples[0].Feature, samples[7].Feature}})
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(o.Delta)
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%x", sha256.Sum256(text))
		if sum != "" && got != sum {
			t.Fatalf("digest %s, then %s", sum, got)
		}
		sum = got
	}
	if sum != goldenDelta {
		t.Errorf("digest of the delta: %s, on other CPUs %s", sum, goldenDelta)
	}
}

// goldenDelta is the digest that TestSameBits gives on every CPU.
const goldenDelta = "a39009d36c8a24382e338da1d4d4f68e5c58ac3d1f074054bae254f41d9ba3c5"

// Where there is nothing to learn, nothing is.
func TestNothingToLearn(t *testing.T) {
	e := theExample(t)
	h := find(t, e.graph, "scores", 1)
	all := e.features(t, h, set(t, filepath.Join(garments, "calibration"), 0), same)
	for name, change := range map[string]func(i int) int{
		"the same pictures": func(i int) int { return all[i].Class },
		"chance":            func(i int) int { return int(uint(i*2654435761)>>8) % 10 },
	} {
		samples := make([]Sample, len(all))
		for i, s := range all {
			samples[i] = Sample{Class: change(i), Feature: s.Feature}
		}
		o, err := h.Train(t.Context(), samples, Options{Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %v", name, o)
		if o.Better() {
			t.Errorf("%s: a head was accepted: %v", name, o)
		}
	}
}

// Two classes of ten are taught, from 20 samples each: with their labels
// exchanged, and as negatives. They are learned, and four anchors hold the
// other classes in place.
func TestTwoClasses(t *testing.T) {
	e := theExample(t)
	h := find(t, e.graph, "scores", 1)
	for _, c := range []struct {
		name     string
		exchange bool
		picture  func(image.Image) image.Image
		want     float64
	}{{"exchanged", true, same, .9}, {"negatives", false, negative, .8}} {
		split := func(folder string) (two, others []Sample) {
			pictures := set(t, filepath.Join(garments, folder), 0)
			for _, s := range e.features(t, h, pictures, c.picture) {
				if c.exchange {
					s.Class = 9 - s.Class
				}
				if s.Class == 0 || s.Class == 9 {
					two = append(two, s)
				}
			}
			for _, s := range e.features(t, h, pictures, same) {
				if s.Class != 0 && s.Class != 9 {
					others = append(others, s)
				}
			}
			return two, others
		}
		taught, known := split("calibration")
		two, others := split("samples")
		var anchors [][]byte
		for _, s := range known[:4] {
			anchors = append(anchors, s.Feature)
		}
		o, err := h.Train(t.Context(), taught, Options{Seed: 1, Anchors: anchors})
		if err != nil || !o.Better() {
			t.Fatalf("%s: %v, %v", c.name, o, err)
		}
		f, alone := h.frozen(t, taught, anchors), h.frozen(t, taught, nil)
		right, before, after := h.right(t, f.net, two), h.right(t, h.signed(true), others), h.right(t, f.net, others)
		t.Logf("%s: %v; of other pictures %.1f %% of the two classes right (%.1f %% with the signed head); of the other classes %.1f %%, then %.1f %%, without anchors %.1f %%",
			c.name, o, 100*right, 100*h.right(t, h.signed(true), two), 100*before, 100*after, 100*h.right(t, alone.net, others))
		if right < c.want || after < before-.06 {
			t.Errorf("%s: %.3f right; others %.3f, then %.3f", c.name, right, before, after)
		}
	}
}

// frozen is the head that Train makes of samples, however good it is.
func (h *Head) frozen(t testing.TB, taught []Sample, anchors [][]byte) *frozen {
	t.Helper()
	seen, err := h.count(taught, &Outcome{})
	if err != nil {
		t.Fatal(err)
	}
	all, imagined, err := h.anchored(taught, anchors, seen, noRest)
	if err != nil {
		t.Fatal(err)
	}
	f, err := h.tune(all, imagined, 1, noRest)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// What is imagined of a class is what the signed head takes for it.
func TestImagine(t *testing.T) {
	for layers := 1; layers <= 2; layers++ {
		h := find(t, twoLayers(), "y", layers)
		samples := floatSamples(h, 20)
		anchors := [][]byte{samples[0].Feature, samples[1].Feature, samples[2].Feature}
		all, err := h.imagine(anchors, []bool{true, false, false, false}, samples, noRest)
		if err != nil {
			t.Fatal(err)
		}
		answers, err := h.answers(h.signed(false), all, noRest)
		if err != nil {
			t.Fatal(err)
		}
		of := map[int]int{}
		for i, s := range all {
			if of[s.Class]++; s.Class == 0 || answers[i] != s.Class {
				t.Errorf("%d layers: imagined of class %d, the signed head answers %d", layers, s.Class, answers[i])
			}
		}
		if len(of) != 3 && (layers == 1 || len(of) != 2) { // a Relu can hide a class from all anchors
			t.Errorf("%d layers: imagined %v", layers, of)
		}
	}
}

func TestBadSamples(t *testing.T) {
	h := find(t, twoLayers(), "y", 1)
	good := floatSamples(h, 40)
	with := func(change func(s []Sample)) []Sample {
		s := append([]Sample(nil), good...)
		change(s)
		return s
	}
	odd := bytes.Clone(good[3].Feature)
	binary.LittleEndian.PutUint32(odd, math.Float32bits(float32(math.NaN())))
	for name, samples := range map[string][]Sample{
		"none":     nil,
		"few":      good[:9],
		"class":    with(func(s []Sample) { s[3].Class = 4 }),
		"negative": with(func(s []Sample) { s[3].Class = -1 }),
		"short":    with(func(s []Sample) { s[3].Feature = s[3].Feature[1:] }),
		"nan":      with(func(s []Sample) { s[3].Feature = odd }),
		"one class": with(func(s []Sample) {
			for i := range s {
				s[i].Class = 1
			}
		}),
	} {
		if _, err := h.Train(t.Context(), samples, Options{}); !errors.Is(err, ErrSamples) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The work is in small steps, and can be ended before each.
func TestRest(t *testing.T) {
	h := find(t, twoLayers(), "y", 2)
	samples, rests := floatSamples(h, 100), 0
	enough := errors.New("enough")
	rest := func(context.Context) error {
		if rests++; rests == 1000 {
			return enough
		}
		return nil
	}
	if _, err := h.Train(t.Context(), samples, Options{Rest: rest}); !errors.Is(err, enough) || rests != 1000 {
		t.Errorf("%v after %d rests", err, rests)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Train(ctx, samples, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Networks as others export them: what the check answers with is what the
// engine computes of the end of the graph.
func TestOtherNetworks(t *testing.T) {
	for _, c := range []struct {
		file    string
		classes int
		kind    model.DType
	}{
		{"mlperftiny-ic01-resnet8-cifar10-qdq-int8.onnx", 10, model.I8},
		{"mlperftiny-kws01-dscnn-qdq-int8.onnx", 12, model.I8},
		{"mlperftiny-vww01-mbv1-0.25-qdq-int8.onnx", 2, model.I8},
		{"mobilenet-v1-0.25-128-dequant.onnx", 1001, model.F32}, // ends in a convolution of one pixel
	} {
		if testing.Short() && c.classes > 1000 { // a training of a quarter of a million weights
			continue
		}
		data, err := os.ReadFile(filepath.Join(shared.Dir(t, "models", "onnx"), c.file))
		if err != nil {
			t.Fatal(err)
		}
		g, err := onnx.Import(data)
		if err != nil {
			t.Fatal(err)
		}
		h := find(t, g, g.Outputs[0], 2)
		if h.Classes != c.classes || h.Feature.Type != c.kind {
			t.Errorf("%s: %d classes of %+v", c.file, h.Classes, h.Feature)
		}
		random := rand.New(rand.NewPCG(11, 12))
		var all []Sample
		for i := range 40 {
			s, row := Sample{Class: i % 2}, make([]float32, h.Feature.Size)
			for j := range row {
				row[j] = h.Feature.scale * float32(random.IntN(60))
				if h.Feature.Type == model.F32 {
					row[j] /= 20
				}
				if j%2 == s.Class {
					row[j] *= 2
				}
			}
			s.Feature = h.Feature.bytes(row)
			all = append(all, s)
		}
		f := h.frozen(t, all, nil)
		tail, err := h.Tail(f.delta)
		if err != nil {
			t.Fatal(err)
		}
		answers, err := h.answers(f.net, all, noRest)
		if err != nil {
			t.Fatal(err)
		}
		s, right := session(t, tail, "generic"), 0
		for i, sample := range all {
			copy(s.Input(0).Data, sample.Feature)
			if err := s.Run(); err != nil {
				t.Fatal(err)
			}
			index := make([]int64, 1)
			kernels.ArgBest(index, s.Output(0).F32(), 1, h.Classes, 1, false, false)
			if int(index[0]) != answers[i] {
				t.Errorf("%s: sample %d: the engine answers %d, the check %d", c.file, i, index[0], answers[i])
			}
			if int(index[0]) == sample.Class {
				right++
			}
		}
		before := h.right(t, h.signed(true), all)
		if after := float64(right) / float64(len(all)); after < before+.3 {
			t.Errorf("%s: %.3f right, then %.3f", c.file, before, after)
		}
	}
}

// A float head learns too, and runs as it was checked.
func TestFloatHead(t *testing.T) {
	g := twoLayers()
	for layers := 1; layers <= 2; layers++ {
		h := find(t, g, "y", layers)
		samples := floatSamples(h, 200)
		o, err := h.Train(t.Context(), samples, Options{Seed: 1})
		if err != nil || !o.Better() {
			t.Fatalf("%d layers: %v, %v", layers, o, err)
		}
		t.Logf("%d layers: %v", layers, o)
		tail, err := h.Tail(o.Delta)
		if err != nil {
			t.Fatal(err)
		}
		s, right := session(t, tail, ""), 0
		for _, sample := range samples {
			copy(s.Input(0).Data, sample.Feature)
			if err := s.Run(); err != nil {
				t.Fatal(err)
			}
			index := make([]int64, 1)
			kernels.ArgBest(index, s.Output(0).F32(), 1, h.Classes, 1, false, false)
			if int(index[0]) == sample.Class {
				right++
			}
		}
		if got := float64(right) / float64(len(samples)); got < o.After-.05 {
			t.Errorf("%d layers: the engine answers %.3f right, the check %.3f", layers, got, o.After)
		}
	}
}

func TestFind(t *testing.T) {
	change := func(f func(g *model.Graph)) *model.Graph {
		g := twoLayers()
		f(g)
		return g
	}
	for name, c := range map[string]struct {
		g      *model.Graph
		output string
		want   string
	}{
		"output":    {twoLayers(), "z", "no output"},
		"softplus":  {change(func(g *model.Graph) { g.Nodes[4].Op = "Softplus" }), "y", "Softplus"},
		"transA":    {change(func(g *model.Graph) { g.Nodes[3].Attrs["transA"] = int64(1) }), "y", "transposed"},
		"computed":  {change(func(g *model.Graph) { g.Nodes[3].In[1] = "r" }), "y", "others read r"},
		"shared":    {change(func(g *model.Graph) { g.Nodes[3].In[1] = "w1" }), "y", "others read w1"},
		"bias":      {change(func(g *model.Graph) { g.AddConst("b2", model.Of(model.F32, []float32{1}, 1)) }), "y", "not one a channel"},
		"nan":       {change(func(g *model.Graph) { g.Const("w2").F32()[7] = float32(math.NaN()) }), "y", "NaN"},
		"read":      {change(func(g *model.Graph) { g.Outputs = append(g.Outputs, "z") }), "y", "something else"},
		"no layers": {&model.Graph{Name: "g", Inputs: []string{"x"}, Outputs: []string{"x"}, Values: map[string]*model.Value{}}, "x", "an input"},
	} {
		_, err := Find(c.g, c.output, 2)
		if !errors.Is(err, ErrNoHead) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	wide := func(g *model.Graph) { // each layer is within the bound, both together are not
		n := MaxParameters / 10
		g.AddConst("w1", model.Of(model.F32, make([]float32, 6*n), 6, n))
		g.AddConst("b1", model.Of(model.F32, make([]float32, n), n))
		g.AddConst("w2", model.Of(model.F32, make([]float32, 4*n), 4, n))
	}
	// What stops the walk behind the last layer leaves that one.
	for name, g := range map[string]*model.Graph{
		"clip": change(func(g *model.Graph) { g.Nodes[2].Op = "Clip" }),
		"wide": change(wide),
		"read": change(func(g *model.Graph) {
			g.Outputs = append(g.Outputs, "r2")
			g.Nodes = append(g.Nodes, &model.Node{Op: "Relu", Name: "r2", In: []string{"h"}, Out: []string{"r2"}})
		}),
	} {
		if h := find(t, g, "y", 2); len(h.layers) != 1 || h.Feature.Value != "r" {
			t.Errorf("%s: %d layers, feature %s", name, len(h.layers), h.Feature.Value)
		}
	}
}

func TestDeltaOfAnother(t *testing.T) {
	g := twoLayers()
	h := find(t, g, "y", 1)
	for name, d := range map[string]Delta{
		"nothing":  {},
		"unknown":  {[]Constant{{"w9", make([]byte, 80)}}},
		"input":    {[]Constant{{"x", make([]byte, 24)}}},
		"short":    {[]Constant{{"w2", make([]byte, 79)}}},
		"twice":    {[]Constant{{"w2", make([]byte, 80)}, {"w2", make([]byte, 80)}}},
		"nameless": {[]Constant{{"", make([]byte, 80)}}},
	} {
		if _, err := d.Apply(g); !errors.Is(err, ErrDelta) {
			t.Errorf("%s: %v", name, err)
		}
	}
	backbone := Delta{[]Constant{{"w1", make([]byte, 120)}}}
	if err := backbone.Of(h); !errors.Is(err, ErrDelta) {
		t.Errorf("a part of the backbone: %v", err)
	}
}

// A fit does no more work than its bound, but for what it cannot do without.
func TestEpochs(t *testing.T) {
	for _, c := range []struct{ in, out, samples, imagined, epochs, some int }{
		{128, 10, 40, 400, 60, 400},      // little of all: nothing is saved
		{128, 10, 4, 0, 300, 0},          // few samples: steps count
		{1280, 1000, 200, 800, 8, 64},    // a large head: as few epochs as do
		{1280, 1000, 13_000, 800, 1, 64}, // that and many samples: each once
		{160, 1000, 100_000, 800, 1, 64}, // very many samples: each once
		{160, 10, 100_000, 800, 16, 800}, // of a small head: what the bound allows
	} {
		h := &Head{layers: []*dense{{in: c.in, out: c.out}}}
		epochs, some := h.epochs(c.samples, c.imagined)
		if epochs != c.epochs || some != c.some {
			t.Errorf("%+v: %d epochs with %d imagined", c, epochs, some)
		}
	}
}

func TestChance(t *testing.T) {
	for _, c := range []struct {
		k, n int
		want float64
	}{{0, 0, 1}, {0, 9, 1}, {4, 4, 1. / 16}, {5, 5, 1. / 32}, {3, 4, 5. / 16}, {1000, 2000, .5089}, {1200, 2000, 1.753e-19}} {
		if got := atLeast(c.k, c.n); math.Abs(got-c.want) > .01*c.want {
			t.Errorf("%d or more of %d: %.4g, want %.4g", c.k, c.n, got, c.want)
		}
	}
}

// BenchmarkTrain learns the negatives of the example's calibration pictures,
// as often as makes so many samples.
func BenchmarkTrain(b *testing.B) {
	e := theExample(b)
	h := find(b, e.graph, "scores", 1)
	all := e.features(b, h, set(b, filepath.Join(garments, "calibration"), 0), negative)
	for _, n := range []int{200, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var samples []Sample
			for len(samples) < n {
				samples = append(samples, all[:min(len(all), n-len(samples))]...)
			}
			for b.Loop() {
				if _, err := h.Train(b.Context(), samples, Options{Seed: 1}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
