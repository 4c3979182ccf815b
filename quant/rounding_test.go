package quant

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"dunlin/model"
)

// adam is Kingma & Ba 2015, arXiv:1412.6980, algorithm 1.
func adam(n int) func(values, gradients []float32) {
	const rate, b1, b2 = .05, .9, .999
	m, v, p1, p2 := make([]float64, n), make([]float64, n), 1., 1.
	return func(values, gradients []float32) {
		p1, p2 = p1*b1, p2*b2
		for i, g := range gradients {
			m[i] = b1*m[i] + (1-b1)*float64(g)
			v[i] = b2*v[i] + (1-b2)*float64(g)*float64(g)
			values[i] -= float32(rate * m[i] / (1 - p1) / (math.Sqrt(v[i]/(1-p2)) + 1e-8))
		}
	}
}

// TestPatch: weights times what patch copies are the outputs of the engine's
// convolution, at every position.
func TestPatch(t *testing.T) {
	for _, c := range []struct {
		in, weights []int
		attrs       map[string]model.Attr
	}{
		{[]int{1, 3, 7, 6}, []int{4, 3, 3, 3}, map[string]model.Attr{"pads": []int64{1, 1, 1, 1}}},
		{[]int{2, 4, 9, 8}, []int{4, 2, 3, 2}, map[string]model.Attr{"group": int64(2), "strides": []int64{2, 1}, "pads": []int64{0, 1, 2, 0}}},
		{[]int{1, 4, 9, 9}, []int{4, 1, 3, 3}, map[string]model.Attr{"group": int64(4), "dilations": []int64{2, 3}}},
		{[]int{1, 3, 11}, []int{2, 3, 4}, map[string]model.Attr{"strides": []int64{3}, "pads": []int64{2, 1}}},
	} {
		n := newNet(c.in...)
		n.AddConst("w", n.random(1, c.weights...))
		n.op("Conv", "y", c.attrs, "x", "w")
		n.Outputs = []string{"y"}
		in, _ := n.samples(0)
		want := run(t, n.Graph, in)[0]
		l := layerOf(n.Graph, n.Nodes[0])
		g := newGram(l, 1, 1)
		p, ok := planeOf(l, c.in)
		if g == nil || !ok {
			t.Fatalf("%v %v: no plane", c.in, c.weights)
		}
		at := 0
		for s := range c.in[0] {
			picture := in[0].F32()[s*p.channels*p.high*p.wide:]
			for ch := range l.channels {
				group := ch / (l.channels / len(g.sums))
				for y := range p.outHigh {
					for x := range p.outWide {
						p.patch(g.x, picture[group*c.weights[1]*p.high*p.wide:], y, x)
						sum := 0.0
						for k, i := range l.row(ch, nil) {
							sum += float64(g.x[k]) * float64(l.weight.F32()[i])
						}
						if math.Abs(sum-float64(want[at])) > 1e-4 {
							t.Fatalf("%v %v: output %d is %g by patches, %g by the engine", c.in, c.weights, at, sum, want[at])
						}
						at++
					}
				}
			}
		}
		if at != len(want) {
			t.Errorf("%v %v: %d outputs by patches, %d by the engine", c.in, c.weights, at, len(want))
		}
	}
}

// TestGram: the matrix is that of the rows less their mean, shrunk as 64 of
// 40 elements are, and steps by
// descend never make the error it gives larger.
func TestGram(t *testing.T) {
	n := newNet(64, 40)
	n.AddConst("w", n.random(1, 40, 6))
	n.AddConst("b", n.random(1, 6))
	n.op("Gemm", "y", nil, "x", "w", "b")
	l := layerOf(n.Graph, n.Nodes[0])
	g := newGram(l, 1, 1)
	in, _ := n.samples(0)
	var rows [][]float32
	for i := range 64 {
		row := model.Of(model.F32, in[0].F32()[i*40:(i+1)*40], 1, 40)
		g.rows = 1
		g.add(row)
		rows = append(rows, row.F32())
	}
	g.done()
	for i := range 40 {
		for j := range 40 {
			mi, mj, want := 0.0, 0.0, 0.0
			for _, r := range rows {
				mi, mj = mi+float64(r[i])/64, mj+float64(r[j])/64
			}
			for _, r := range rows {
				want += (float64(r[i]) - mi) * (float64(r[j]) - mj)
			}
			if i != j {
				want *= 64. / (64 + 40)
			}
			if got := float64(g.sums[0][i*40+j]); math.Abs(got-want) > 1e-3 {
				t.Fatalf("element %d, %d is %g, want %g", i, j, got, want)
			}
		}
	}
	s, first, last := newSteps(l, l.quantise4(1), g), 0., 0.
	for c := range l.channels {
		s.channel(c)
		before := s.err()
		s.descend()
		after := s.err()
		s.refresh()
		if after > before || math.Abs(after-s.err()) > 1e-6*before {
			t.Errorf("channel %d: error %g becomes %g, computed anew %g", c, before, after, s.err())
		}
		first, last = first+before, last+after
	}
	if last > .95*first {
		t.Errorf("error %g becomes %g", first, last)
	}
}

// TestLearnRounding: rounding for the outputs makes a net in four bits
// better, learning it together does not make a layer worse, and all of it is
// the same twice.
func TestLearnRounding(t *testing.T) {
	n := deep(t)
	r, err := Calibrate(n.Graph, n.samples, 40, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := n.classes(t, n.Graph)
	agree := func(o Options) float64 {
		o.To = "int4"
		q, _, err := Apply(n.Graph, r, o)
		if err != nil {
			t.Fatal(err)
		}
		checkSteps(t, q)
		for v, form := range q.Forms() {
			if v.Type == model.I8 && form.Kind != model.FormInt4 {
				t.Error("weights are not of four bits")
			}
		}
		return agreement(want, n.classes(t, q))
	}
	nearest := agree(Options{})
	var last *Rounding
	for _, o := range []Options{{}, {Optimise: adam}} {
		if testing.Short() && o.Optimise != nil {
			break
		}
		learned, err := LearnRounding(n.Graph, r, n.samples, 40, o)
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range learned.Layers {
			// The net's own input is noise, which leaves little to gain.
			if l.Learned < l.Nearest || l.Learned < l.Nearest+1 && l.Name != "a_Conv" || l.Why != "" {
				t.Errorf("%+v", l)
			}
			if last != nil && l.Learned < last.Layers[i].Learned-1e-9 {
				t.Errorf("%s: %.2f dB learned together, %.2f one by one", l.Name, l.Learned, last.Layers[i].Learned)
			}
		}
		got := agree(Options{Rounding: learned})
		t.Logf("nearest agrees on %.3f, learned on %.3f (together: %v)", nearest, got, o.Optimise != nil)
		if got < nearest+.05 {
			t.Errorf("nearest agrees on %.3f, learned on %.3f", nearest, got)
		}
		again, err := LearnRounding(n.Graph, r, n.samples, 40, o)
		if err != nil || fmt.Sprint(again.Layers) != fmt.Sprint(learned.Layers) {
			t.Errorf("two runs differ: %v, %v, %v", again, learned, err)
		}
		for name, w := range learned.weights {
			if !slices.Equal(w.values.I8(), again.weights[name].values.I8()) {
				t.Errorf("%s: weights of two runs differ", name)
			}
		}
		last = learned
	}
}

// TestRoundingDoesNotFit: weights whose scale an input does not allow, and
// those of another shape, are not used.
func TestRoundingDoesNotFit(t *testing.T) {
	l := &layer{node: &model.Node{Name: "n", Op: "Gemm"}, weight: model.Of(model.F32, []float32{1, 2}, 1, 2), bias: []float32{1e9}, channels: 1}
	q := int8Weights{values: model.Of(model.I8, []int8{7, 14}, 1, 2), scales: []float32{.1}}
	r := &Rounding{weights: map[string]int8Weights{"n": q}}
	if _, ok := r.of(l, 100); !ok {
		t.Error("weights that fit are not used")
	}
	if _, ok := r.of(l, 1e-3); ok {
		t.Error("weights are used whose units do not hold the bias")
	}
	l.weight = model.Of(model.F32, []float32{1, 2}, 2, 1)
	if _, ok := r.of(l, 100); ok {
		t.Error("weights of another shape are used")
	}
	if _, ok := (*Rounding)(nil).of(l, 100); ok {
		t.Error("weights of nothing are used")
	}
}

func TestLearnRoundingErrors(t *testing.T) {
	n := deep(t)
	r, err := Calibrate(n.Graph, n.samples, 2, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LearnRounding(n.Graph, nil, n.samples, 2, Options{}); !errors.Is(err, ErrSamples) {
		t.Errorf("%v", err)
	}
	broken := errors.New("no picture")
	if _, err := LearnRounding(n.Graph, r, func(int) ([]*model.Tensor, error) { return nil, broken }, 2, Options{}); !errors.Is(err, broken) || !strings.Contains(err.Error(), "sample 0") {
		t.Errorf("%v", err)
	}
}
