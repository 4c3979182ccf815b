package quant

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"dunlin/model"
)

// TestDeterministic: the same graph and samples give the same bits, the same
// names and the same report.
func TestDeterministic(t *testing.T) {
	var first *model.Graph
	var report []byte
	for range 3 {
		q, rep := typical().quantise(t, Options{})
		text, err := json.Marshal(rep)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first, report = q, text
			continue
		}
		if !bytes.Equal(text, report) {
			t.Errorf("reports differ:\n%s\n%s", text, report)
		}
		for i, n := range q.Nodes {
			if f := first.Nodes[i]; n.Name != f.Name || !slices.Equal(n.In, f.In) || !slices.Equal(n.Out, f.Out) {
				t.Fatalf("node %d: %+v and %+v", i, n, f)
			}
		}
		if !slices.Equal(slices.Sorted(maps.Keys(q.Values)), slices.Sorted(maps.Keys(first.Values))) {
			t.Error("the values differ")
		}
		for name, v := range q.Values {
			if v.Const != nil && !bytes.Equal(v.Const.Data, first.Const(name).Data) {
				t.Errorf("constant %s differs", name)
			}
		}
	}
}

// TestUnchanged: Calibrate and Apply leave the float graph as it was.
func TestUnchanged(t *testing.T) {
	n := typical()
	before, want := ops(n.Graph), n.Clone()
	n.quantise(t, Options{})
	if _, _, err := Apply(n.Graph, nil, Options{To: "fp16"}); err != nil {
		t.Fatal(err)
	}
	if ops(n.Graph) != before || !maps.EqualFunc(n.Values, want.Values, func(a, b *model.Value) bool {
		return a.Const == b.Const && a.Shape.Equal(b.Shape)
	}) {
		t.Error("the float graph was changed")
	}
	for i, m := range n.Nodes {
		if !slices.Equal(m.In, want.Nodes[i].In) || !slices.Equal(m.Out, want.Nodes[i].Out) {
			t.Errorf("node %s was changed", m.Name)
		}
	}
}

// TestMemory: ten times the samples take no more memory.
func TestMemory(t *testing.T) {
	n := typical()
	in, _ := n.samples(0)
	allocated := func(samples int) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := Calibrate(n.Graph, func(int) ([]*model.Tensor, error) { return in, nil }, samples, Options{}); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	few, many := allocated(100), allocated(1000)
	t.Logf("%d bytes for 100 samples, %d for 1000", few, many)
	if many > few+few/4 {
		t.Errorf("%d bytes for 100 samples, %d for 1000", few, many)
	}
	if most := uint64(len(n.Nodes)+1)*(bins*8+256) + 1<<20; few > most {
		t.Errorf("%d bytes for %d values", few, len(n.Nodes)+1)
	}
}

func TestRefuses(t *testing.T) {
	n := typical()
	r, err := Calibrate(n.Graph, n.samples, 2, Options{})
	if err != nil {
		t.Fatal(err)
	}
	q, _, err := Apply(n.Graph, r, Options{})
	if err != nil {
		t.Fatal(err)
	}
	bad := func(v float32) func(int) ([]*model.Tensor, error) {
		return func(i int) ([]*model.Tensor, error) {
			in, _ := n.samples(i)
			if i == 1 {
				in[0].F32()[5] = v
			}
			return in, nil
		}
	}
	boom := errors.New("boom")
	for _, c := range []struct {
		name string
		f    func() error
		want error
		text string
	}{
		{"no samples", func() error { _, err := Calibrate(n.Graph, n.samples, 0, Options{}); return err }, ErrSamples, ""},
		{"no ranges", func() error { _, _, err := Apply(n.Graph, nil, Options{}); return err }, ErrSamples, ""},
		{"not a number", func() error { _, err := Calibrate(n.Graph, bad(float32(math.NaN())), 2, Options{}); return err }, ErrRange, "sample 1: value x"},
		{"infinite", func() error { _, err := Calibrate(n.Graph, bad(float32(math.Inf(1))), 2, Options{}); return err }, ErrRange, "sample 1"},
		{"twice", func() error { _, _, err := Apply(q, r, Options{}); return err }, ErrQuantised, "QuantizeLinear"},
		{"calibrated twice", func() error { _, err := Calibrate(q, n.samples, 1, Options{}); return err }, ErrQuantised, ""},
		{"sample fails", func() error {
			_, err := Calibrate(n.Graph, func(int) ([]*model.Tensor, error) { return nil, boom }, 1, Options{})
			return err
		}, boom, "sample 0"},
		{"no tensors", func() error {
			_, err := Calibrate(n.Graph, func(int) ([]*model.Tensor, error) { return nil, nil }, 1, Options{})
			return err
		}, nil, "0 tensors for 1 inputs"},
		{"wrong type", func() error {
			_, err := Calibrate(n.Graph, func(int) ([]*model.Tensor, error) {
				return []*model.Tensor{model.Of(model.U8, make([]uint8, 192), 1, 3, 8, 8)}, nil
			}, 1, Options{})
			return err
		}, nil, "uint8"},
		{"to", func() error { _, _, err := Apply(n.Graph, r, Options{To: "int3"}); return err }, nil, "int3"},
		{"range", func() error { _, err := Calibrate(n.Graph, n.samples, 1, Options{Range: "kl"}); return err }, nil, "kl"},
		{"percentile", func() error { _, _, err := Apply(n.Graph, r, Options{Percentile: 101}); return err }, nil, "101"},
		{"unknown node", func() error { _, _, err := Apply(n.Graph, r, Options{Float: []string{"nobody"}}); return err }, nil, "nobody"},
	} {
		err := c.f()
		if err == nil || (c.want != nil && !errors.Is(err, c.want)) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestKeptInFloat: reasons for which a node stays in float.
func TestKeptInFloat(t *testing.T) {
	n := newNet(1, 2, 4, 4)
	n.conv("c1", "x", 2, 2, 3)
	n.op("Sigmoid", "s", nil, "c1")
	n.op("Mul", "m", nil, "c1", "s")
	n.conv("c2", "m", 2, 2, 3)
	n.conv("c3", "c2", 2, 2, 3)
	n.Const("c3_w").F32()[0] = float32(math.Inf(1))
	n.AddConst("k", n.random(1, 1, 1, 4, 4))
	n.op("Add", "a", nil, "c2", "k")
	n.Outputs = []string{"a"}
	n.Values["c3"] = nil
	delete(n.Values, "c3")
	n.Nodes = slices.DeleteFunc(n.Nodes, func(m *model.Node) bool { return m.Out[0] == "c3" })
	_, rep := n.quantise(t, Options{Float: []string{"c2_Conv"}})
	got := map[string]string{}
	for _, l := range rep.Layers {
		got[l.Name] = l.Why
	}
	want := map[string]string{
		"c1_Conv": "", "s_Sigmoid": "Sigmoid is computed in float", "m_Mul": "Mul is computed in float",
		"c2_Conv": "kept in float as asked", "a_Add": "nothing beside it is int8",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	_, rep = n.quantise(t, Options{})
	if l := rep.Layers[4]; l.Why != "one of its inputs is a constant" {
		t.Errorf("%+v", l)
	}
}

// TestOddWeights: weights that no int8 can hold leave their layer in float.
func TestOddWeights(t *testing.T) {
	for name, spoil := range map[string]func(w []float32){
		"infinite": func(w []float32) { w[0] = float32(math.Inf(1)) },
		"zero":     func(w []float32) { clear(w) },
		"tiny":     func(w []float32) { w[0] = 1e-45; clear(w[1:]) },
		"huge":     func(w []float32) { w[0] = 3e38 },
	} {
		n := newNet(1, 2, 4, 4)
		n.conv("y", "x", 2, 2, 3)
		n.Outputs = []string{"y"}
		r, err := Calibrate(n.Graph, n.samples, 3, Options{})
		if err != nil {
			t.Fatal(err)
		}
		spoil(n.Const("y_w").F32())
		q, rep, err := Apply(n.Graph, r, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if l := rep.Layers[0]; (l.Precision == "int8") == (name == "infinite") {
			t.Errorf("%s: %+v", name, l)
		}
		if _, err := json.Marshal(rep); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, v := range q.Values {
			if v.Const != nil && v.Const.Type == model.F32 && name != "infinite" {
				for _, s := range v.Const.F32() {
					if !(s > 0) || s-s != 0 {
						t.Errorf("%s: a scale of %g", name, s)
					}
				}
			}
		}
	}
}

// TestHalf: weights stand as float16 behind a Cast, once for each constant;
// small ones and ones out of range stay.
func TestHalf(t *testing.T) {
	n := newNet(1, 8, 4, 4)
	n.conv("a", "x", 8, 8, 3)
	n.conv("b", "a", 8, 8, 3)
	n.Nodes[1].In[1] = "a_w"
	n.conv("c", "b", 8, 8, 3)
	n.Const("c_w").F32()[7] = 1e6
	n.Outputs = []string{"c"}
	h, rep, err := Apply(n.Graph, nil, Options{To: "fp16"})
	if err != nil {
		t.Fatal(err)
	}
	if got := ops(h); got != "Cast Conv Conv Conv" {
		t.Errorf("%s", got)
	}
	cast := h.Nodes[0]
	w := h.Const(cast.In[0])
	if w.Type != model.F16 || cast.Int("to", 0) != 1 || h.Nodes[1].In[1] != h.Nodes[2].In[1] {
		t.Errorf("%+v of %v", cast, w.Type)
	}
	var precision []string
	for _, l := range rep.Layers {
		precision = append(precision, l.Precision)
	}
	if !slices.Equal(precision, []string{"fp16", "fp16", "float32"}) || rep.Layers[2].Why != "a weight is beyond the range of float16" {
		t.Errorf("%+v", rep.Layers)
	}
	if e := rep.Layers[0].WeightError; e == nil || *e < 65 || *e > 85 {
		t.Errorf("weights %s dB", db(e))
	}
	if rep.After >= rep.Before {
		t.Errorf("%d bytes become %d", rep.Before, rep.After)
	}
	if _, rep, err = Apply(n.Graph, nil, Options{To: "fp16", Float: []string{"a_Conv"}}); err != nil || rep.Layers[0].Precision != "float32" {
		t.Errorf("%+v, %v", rep.Layers[0], err)
	}
}

// TestProgress: it is called after each sample.
func TestProgress(t *testing.T) {
	n := typical()
	var seen []int
	r, err := Calibrate(n.Graph, n.samples, 3, Options{Progress: func(done, total int) { seen = append(seen, done, total) }})
	if err != nil || !slices.Equal(seen, []int{1, 3, 2, 3, 3, 3}) {
		t.Errorf("%v, %v", seen, err)
	}
	if !slices.Contains(r.Values(), "x") || r.Histogram("x").Total() != 3*192 || r.Histogram("nobody") != nil {
		t.Errorf("values %v", r.Values())
	}
}
