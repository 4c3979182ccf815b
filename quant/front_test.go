package quant

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"dunlin/model"
)

// deep is a classifier of five convolutions, none of whose classes is more
// likely than another.
func deep(t *testing.T) *net {
	t.Helper()
	n := newNet(1, 3, 8, 8)
	in := "x"
	for i, from := range []int{3, 16, 16, 16, 16} {
		c := string(rune('a' + i))
		in = n.op("Relu", c+"r", nil, n.conv(c, in, from, 16, 3))
	}
	n.op("GlobalAveragePool", "m", nil, in)
	n.op("Flatten", "f", nil, "m")
	n.AddConst("fc", n.random(30, 10, 16))
	n.AddConst("fb", n.random(.3, 10))
	n.op("Gemm", "g", map[string]model.Attr{"transB": int64(1)}, "f", "fc", "fb")
	n.op("Softmax", "y", nil, "g")
	n.Outputs = []string{"g"}
	mean := make([]float32, 10)
	for i := range 50 {
		in, _ := n.samples(i)
		for c, v := range run(t, n.Graph, in)[0] {
			mean[c] += v / 50
		}
	}
	for c, m := range mean {
		n.Const("fb").F32()[c] -= m
	}
	n.Outputs = []string{"y"}
	return n
}

// fragile scales the channels between the convolutions b and c wildly, up to
// 4096 to 1: in float the net computes what it did, but int8 steps for all
// channels of c's input, and for all weights of one of c's outputs, lose
// those that are small.
func (n *net) fragile() {
	wide, narrow, bias := n.Const("b_w"), n.Const("c_w"), n.Const("b_b")
	for c := range 16 {
		s := float32(math.Ldexp(1, 6-(c*12+7)/15))
		for i := range wide.F32()[c*144 : (c+1)*144] {
			wide.F32()[c*144+i] *= s
		}
		bias.F32()[c] *= s
		for o := range 16 {
			for i := range 9 {
				narrow.F32()[(o*16+c)*9+i] /= s
			}
		}
	}
}

// classes returns the class of each of 200 samples.
func (n *net) classes(t *testing.T, g *model.Graph) []int {
	t.Helper()
	r, all := newRunner(g, Options{}, nil), []int{}
	for i := range 200 {
		in, _ := n.samples(1000 + i)
		if err := r.run(in); err != nil {
			t.Fatal(err)
		}
		y := r.session.Output(0).F32()
		all = append(all, slices.Index(y, slices.Max(y)))
	}
	return all
}

// agreement returns the share of classes that are the same.
func agreement(a, b []int) float64 {
	same := 0
	for i := range a {
		if a[i] == b[i] {
			same++
		}
	}
	return float64(same) / float64(len(a))
}

// TestFragile: mixed precision finds the one layer that int8 cannot take,
// protects it, and the answers come back.
func TestFragile(t *testing.T) {
	sound, n := deep(t), deep(t)
	n.fragile()
	want := n.classes(t, n.Graph)
	if a := agreement(want, n.classes(t, sound.Graph)); a != 1 {
		t.Fatalf("the fragile net agrees with the sound one on %.3f", a)
	}
	soundInt8, _ := sound.quantise(t, Options{})
	r, err := Calibrate(n.Graph, n.samples, 100, Options{})
	if err != nil {
		t.Fatal(err)
	}
	all, s, err := Front(n.Graph, r, n.samples, 100, FrontOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range s.Layers {
		t.Logf("%s %v %v", l.Name, l.Costs, l.Protected)
		if l.Protected != (l.Name == "c_Conv") {
			t.Errorf("%s: protected is %v", l.Name, l.Protected)
		}
	}
	var protected *Candidate
	for i, c := range all {
		t.Logf("%s: %d bytes, KL %.6f", c.Name, c.Bytes, c.KL)
		if c.Levels["c_Conv"] == FP16 && len(c.Levels)-1 == count(c.Levels, Int8) {
			protected = &all[i]
		}
	}
	if protected == nil {
		t.Fatal("no candidate has all but the fragile layer in int8")
	}
	small, _, err := Apply(n.Graph, r, Options{})
	if err != nil {
		t.Fatal(err)
	}
	mixed, _, err := Apply(n.Graph, r, Options{Levels: protected.Levels})
	if err != nil {
		t.Fatal(err)
	}
	best, lost, kept := agreement(want, n.classes(t, soundInt8)), agreement(want, n.classes(t, small)), agreement(want, n.classes(t, mixed))
	t.Logf("agrees with float: int8 of the sound net %.3f; of the fragile one %.3f, with the layer protected %.3f", best, lost, kept)
	if lost > .5 || kept < best-.02 {
		t.Errorf("int8 agrees with float on %.3f, with the layer protected on %.3f, without the fault on %.3f", lost, kept, best)
	}
}

func count(levels map[string]Level, want Level) int {
	n := 0
	for _, l := range levels {
		if l == want {
			n++
		}
	}
	return n
}

// TestFrontNested: each candidate lowers what the one before lowers, and is
// smaller; Apply makes it with the bytes that it promises.
func TestFrontNested(t *testing.T) {
	n := deep(t)
	r, err := Calibrate(n.Graph, n.samples, 20, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var progress []int
	o := FrontOptions{Samples: 10, Steps: 6, Options: Options{Progress: func(done, total int) { progress = append(progress, done, total) }}}
	all, s, err := Front(n.Graph, r, n.samples, 20, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 4 || len(all) > 6 || s.Samples != 10 || count(all[0].Levels, FP16) != len(s.Layers) {
		t.Fatalf("%d candidates, %d samples, first %v", len(all), s.Samples, all[0].Levels)
	}
	if done, total := progress[len(progress)-2], progress[len(progress)-1]; done != len(progress)/2 || done > total {
		t.Errorf("progress ends at %d of %d", done, total)
	}
	for i, c := range all {
		q, rep, err := Apply(n.Graph, r, Options{Levels: c.Levels})
		if err != nil {
			t.Fatal(err)
		}
		if rep.After != c.Bytes || q == nil {
			t.Errorf("%s: %d bytes promised, %d made", c.Name, c.Bytes, rep.After)
		}
		if i == 0 {
			continue
		}
		if c.Bytes >= all[i-1].Bytes {
			t.Errorf("%s has %d bytes, %s before it %d", c.Name, c.Bytes, all[i-1].Name, all[i-1].Bytes)
		}
		for name, level := range all[i-1].Levels {
			if slices.Index(levels, c.Levels[name]) < slices.Index(levels, level) {
				t.Errorf("%s: %s has %s, and %s in the candidate before", c.Name, name, c.Levels[name], level)
			}
		}
	}
	again, s2, err := Front(n.Graph, r, n.samples, 20, o)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal([]any{all, s})
	b, _ := json.Marshal([]any{again, s2})
	if string(a) != string(b) {
		t.Errorf("two searches differ:\n%s\n%s", a, b)
	}
}

// TestFrontFloat: a node that is to stay in float has no level, and what has
// no integer form ends in float16.
func TestFrontFloat(t *testing.T) {
	n := deep(t)
	n.AddConst("big", n.random(.1, 1, 16, 8, 8))
	for _, m := range n.Nodes {
		if m.Name == "c_Conv" {
			m.In[0] = "sum"
		}
	}
	at := slices.IndexFunc(n.Nodes, func(m *model.Node) bool { return m.Name == "br_Relu" })
	n.Nodes = slices.Insert(n.Nodes, at+1, &model.Node{Op: "Add", Name: "bias", In: []string{"br", "big"}, Out: []string{"sum"}})
	r, err := Calibrate(n.Graph, n.samples, 10, Options{})
	if err != nil {
		t.Fatal(err)
	}
	all, _, err := Front(n.Graph, r, n.samples, 10, FrontOptions{Options: Options{Float: []string{"a_Conv"}}})
	if err != nil {
		t.Fatal(err)
	}
	last := all[len(all)-1].Levels
	if _, ok := last["a_Conv"]; ok || last["bias"] != FP16 || last["b_Conv"] == FP16 {
		t.Errorf("%v", last)
	}
}

func TestFrontErrors(t *testing.T) {
	n := deep(t)
	r, err := Calibrate(n.Graph, n.samples, 2, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Front(n.Graph, nil, n.samples, 2, FrontOptions{}); !errors.Is(err, ErrSamples) {
		t.Errorf("%v", err)
	}
	if _, _, err := Front(n.Graph, r, n.samples, 0, FrontOptions{}); !errors.Is(err, ErrSamples) {
		t.Errorf("%v", err)
	}
	if _, _, err := Front(n.Graph, r, n.samples, 2, FrontOptions{Options: Options{Float: []string{"nobody"}}}); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("%v", err)
	}
	broken := errors.New("no picture")
	if _, _, err := Front(n.Graph, r, func(int) ([]*model.Tensor, error) { return nil, broken }, 2, FrontOptions{}); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	none := newNet(1, 4)
	none.op("Relu", "y", nil, "x")
	none.Outputs = []string{"y"}
	if r, err = Calibrate(none.Graph, none.samples, 2, Options{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Front(none.Graph, r, none.samples, 2, FrontOptions{}); err == nil || !strings.Contains(err.Error(), "no weights") {
		t.Errorf("%v", err)
	}
}

// TestDivergences: each kind by its formula.
func TestDivergences(t *testing.T) {
	ln := math.Log
	for _, c := range []struct {
		kind      divergence
		want, got []float32
		far, of   float64
	}{
		{distributions, []float32{.5, .5}, []float32{.25, .75}, .5*ln(2) + .5*ln(.5/.75), 1},
		{distributions, []float32{1, 0}, []float32{1, 0}, 0, 1},
		{distributions, []float32{1, 0}, []float32{0, 1}, ln(1e12), 1},
		{logarithms, []float32{float32(ln(.5)), float32(ln(.5))}, []float32{float32(ln(.25)), float32(ln(.75))}, .5*ln(2) + .5*ln(.5/.75), 1},
		{scores, []float32{3, 3}, []float32{7, 7 + float32(ln(3))}, .5*ln(2) + .5*ln(.5/.75), 1},
		{chances, []float32{.5, 0}, []float32{.25, 0}, .5*ln(2) + .5*ln(.5/.75), 2},
		{plain, []float32{1, -1}, []float32{1, 0}, .5, 2},
	} {
		j := &judge{kinds: []divergence{c.kind}, mean: []float64{0}}
		far, of := j.compare(0, model.Of(model.F32, c.want, 1, 2), model.Of(model.F32, c.got, 1, 2))
		if math.Abs(far-c.far) > 1e-6 || math.Abs(of-c.of) > 1e-6 {
			t.Errorf("%s %v %v: %g of %g, want %g of %g", c.kind, c.want, c.got, far, of, c.far, c.of)
		}
	}
	j := &judge{kinds: []divergence{integers}}
	if far, of := j.compare(0, model.Of(model.I64, []int64{1, 2, 3}, 3), model.Of(model.I64, []int64{1, 2, 4}, 3)); far != 1 || of != 3 {
		t.Errorf("integers: %g of %g", far, of)
	}
}
