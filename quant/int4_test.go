package quant

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"dunlin/engine"
	"dunlin/model"
)

// TestQuantise4: weights of four bits are such that a pack stores them so,
// are exact where four bits hold them, and have an error of about their step.
func TestQuantise4(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	for _, c := range []struct {
		op    string
		shape []int
		axis  int
		attrs map[string]model.Attr
	}{
		{"Conv", []int{6, 8, 3, 3}, 0, nil},
		{"Conv", []int{16, 1, 3, 3}, 0, map[string]model.Attr{"group": int64(16)}},
		{"Gemm", []int{5, 70}, 0, map[string]model.Attr{"transB": int64(1)}},
		{"Gemm", []int{70, 5}, 1, nil},
		{"MatMul", []int{33, 4}, 1, nil},
	} {
		n, _ := model.Shape(c.shape).Elements()
		w := make([]float32, n)
		g := model.New("g")
		g.AddConst("w", model.Of(model.F32, w, c.shape...))
		l := layerOf(g, &model.Node{Op: c.op, Name: "n", In: []string{"x", "w"}, Out: []string{"y"}, Attrs: c.attrs})
		for i := range w {
			l.weight.F32()[i] = float32(r.NormFloat64())
		}
		q := l.quantise4(1)
		if packed := model.PackInt4(q.values, c.axis); packed == nil {
			t.Errorf("%s %v: no weights of four bits", c.op, c.shape)
		}
		if q.sqnr < 17 || q.sqnr > 26 {
			t.Errorf("%s %v: %.1f dB", c.op, c.shape, q.sqnr)
		}
		for ch := range l.channels {
			for k, i := range l.row(ch, nil) {
				f := 1 + (k/model.Int4Group*7+ch)%int4Factors
				if k/model.Int4Group == 0 {
					f = int4Factors
				}
				l.weight.F32()[i] = float32(f*(k%15-7)) * float32(ch+1)
			}
		}
		if q = l.quantise4(1); q.sqnr < 100 {
			t.Errorf("%s %v: weights that four bits hold have %.1f dB", c.op, c.shape, q.sqnr)
		}
	}
}

// TestQuantise4Zero: channels of zeros have a scale, and so do those whose
// bias is far larger than their weights.
func TestQuantise4Zero(t *testing.T) {
	l := &layer{node: &model.Node{Op: "Gemm"}, weight: model.Of(model.F32, []float32{0, 0, 1e-9, -1e-9, 1, -1}, 3, 2), bias: []float32{0, 5, -7}, channels: 3}
	q := l.quantise4(1e-3)
	values, units := int32Bias(l.bias, q.scales, 1e-3)
	for c, b := range l.bias {
		if got := float64(values[c]) * float64(units[c]); !(q.scales[c] > 0) || math.Abs(got-float64(b)) > 1e-6*math.Abs(float64(b)) {
			t.Errorf("channel %d: scale %g, bias %g becomes %g", c, q.scales[c], b, got)
		}
	}
}

// TestInt4Net: a net in int4 runs on integer kernels, keeps the answers about
// as well as four bits can, and takes the bytes that the report says.
func TestInt4Net(t *testing.T) {
	n := typical()
	in, _ := n.samples(1000)
	want := run(t, n.Graph, in)
	q, rep := n.quantise(t, Options{To: "int4"})
	checkSteps(t, q)
	if got := sqnr(want, run(t, q, in)); got < 12 || got > 45 {
		t.Errorf("%.1f dB", got)
	}
	int8, rep8 := n.quantise(t, Options{})
	if ops(q) != ops(int8) || rep.After != q.StoredBytes() || rep.After >= rep8.After*3/4 {
		t.Errorf("%s: %d bytes, in int8 %d", ops(q), rep.After, rep8.After)
	}
	for _, l := range rep.Layers {
		if slices.Contains(layers, l.Op) && l.Precision != "int4" || l.Op == "Add" && l.Precision != "int8" {
			t.Errorf("%+v", l)
		}
	}
	// One layer in four bits: the others are what they are in int8.
	mixed, _ := n.quantise(t, Options{Levels: map[string]Level{"c2_Conv": Int4}})
	p, err := engine.Compile(mixed, engine.Options{Kernels: "generic"})
	if err != nil || !p.Exact() {
		t.Fatal(err)
	}
	if a, b := mixed.Const("c1_w/folded/int8"), int8.Const("c1_w/folded/int8"); a == nil || !slices.Equal(a.I8(), b.I8()) {
		t.Error("the weights of another layer changed")
	}
}
