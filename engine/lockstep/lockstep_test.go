package lockstep_test

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"dunlin/engine"
	"dunlin/engine/lockstep"
	"dunlin/examples/garments"
	"dunlin/model"
	"dunlin/model/onnx"
	"dunlin/quant"
)

// picture returns an input of the garments network: pixels are in 0..1.
func picture(seed uint64) *model.Tensor {
	t := model.Of(model.F32, make([]float32, 28*28), 1, 1, 28, 28)
	for i := range t.F32() {
		seed = seed*6364136223846793005 + 1442695040888963407
		t.F32()[i] = float32(seed>>40) / (1 << 24)
	}
	return t
}

// network returns the garments network, its input one picture, and its int8
// form.
func network(t *testing.T) (float, small *model.Graph) {
	t.Helper()
	data, err := garments.Files.ReadFile("garments.onnx")
	if err != nil {
		t.Fatal(err)
	}
	float, err = onnx.Import(data)
	if err != nil {
		t.Fatal(err)
	}
	float.Values[float.Inputs[0]] = &model.Value{Type: model.F32, Shape: model.Shape{1, 1, 28, 28}}
	next := func(i int) ([]*model.Tensor, error) { return []*model.Tensor{picture(uint64(i))}, nil }
	ranges, err := quant.Calibrate(float, next, 8, quant.Options{To: "int8"})
	if err != nil {
		t.Fatal(err)
	}
	small, _, err = quant.Apply(float, ranges, quant.Options{To: "int8"})
	if err != nil {
		t.Fatal(err)
	}
	return float, small
}

func compare(t *testing.T, a, b lockstep.Side) *lockstep.Report {
	t.Helper()
	r, err := lockstep.Compare(a, b, []*model.Tensor{picture(1)}, -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
	return r
}

// An int8 network gives the same bits with every tier, in each of its values.
func TestTiers(t *testing.T) {
	_, small := network(t)
	r := compare(t, lockstep.Side{Graph: small, Options: engine.Options{Kernels: "generic"}}, lockstep.Side{Graph: small})
	if r.Differs() || len(r.Rows) < 5 || r.AloneA != nil || r.AloneB != nil {
		t.Errorf("differs %v, %d rows, alone %v and %v", r.Differs(), len(r.Rows), r.AloneA, r.AloneB)
	}
	integers := 0
	for _, row := range r.Rows {
		if row.Bound != 0 || row.Differ != 0 || row.Matched != "name" {
			t.Errorf("%+v", row)
		}
		if row.Steps != nil {
			integers++
		}
	}
	if integers == 0 {
		t.Error("no value is integers")
	}
}

// The first row that differs is the layer that was broken, not one behind it.
func TestFindsTheFirst(t *testing.T) {
	_, small := network(t)
	broken := small.Clone()
	layer, seen := "", 0
	for _, n := range broken.Nodes {
		if w := broken.Const(n.In[0]); n.Op == "DequantizeLinear" && w != nil && w.Type == model.I8 {
			if seen++; seen == 2 {
				c := w.Clone()
				c.Data[0] ^= 0x7f
				broken.AddConst(n.In[0], c)
				layer = broken.Consumers()[n.Out[0]][0].Name
			}
		}
	}
	if layer == "" {
		t.Fatal("no second layer with int8 weights")
	}
	r := compare(t, lockstep.Side{Graph: small}, lockstep.Side{Graph: broken})
	if !r.Differs() {
		t.Fatal("a broken weight was not seen")
	}
	first := r.Rows[r.First]
	if first.A.Node != layer || first.B.Node != layer || first.Steps == nil || *first.Steps == 0 {
		t.Errorf("the first is %+v, want node %s", first, layer)
	}
	if slices.ContainsFunc(r.Rows[:r.First], func(r lockstep.Row) bool { return r.Differ > 0 }) {
		t.Error("rows before it differ")
	}
}

// A float network and its int8 form meet in every layer, and stay near.
func TestFloatAndSmall(t *testing.T) {
	float, small := network(t)
	r := compare(t, lockstep.Side{Graph: float}, lockstep.Side{Graph: small})
	layers := 0
	for _, row := range r.Rows {
		if row.Bound != lockstep.SmallBound {
			t.Errorf("bound %g", row.Bound)
		}
		if strings.HasPrefix(row.A.Kernel, "conv") || strings.HasPrefix(row.A.Kernel, "pointwise") || strings.HasPrefix(row.A.Kernel, "depthwise") || strings.HasPrefix(row.A.Kernel, "gemm") {
			layers++
			if row.SQNR < 15 {
				t.Errorf("%s: %.1f dB", row.A.Node, row.SQNR)
			}
		}
	}
	if r.Differs() || layers < 3 {
		t.Errorf("differs %v: %+v; %d layers", r.Differs(), r.Rows[max(0, r.First)], layers)
	}
}

// Names that stand for other things in the other file do not mislead.
func TestNumberedNames(t *testing.T) {
	float, _ := network(t)
	other := renumbered(float)
	r := compare(t, lockstep.Side{Graph: float}, lockstep.Side{Graph: other})
	if r.Differs() || r.AloneA != nil || r.AloneB != nil {
		t.Errorf("differs %v, alone %v and %v", r.Differs(), r.AloneA, r.AloneB)
	}
	for _, row := range r.Rows {
		if row.Differ > 0 {
			t.Errorf("%s beside %s differ", row.A.Value, row.B.Value)
		}
	}
}

// renumbered returns g with each value that a node makes under the name of
// the one before it.
func renumbered(g *model.Graph) *model.Graph {
	c := g.Clone()
	before, last := map[string]string{}, "first"
	for _, n := range c.Nodes {
		for _, o := range n.Out {
			if !slices.Contains(c.Outputs, o) {
				before[o], last = last, o
			}
		}
	}
	values := map[string]*model.Value{}
	for name, v := range c.Values {
		if _, ok := before[name]; !ok {
			values[name] = v
		}
	}
	c.Values = values
	rename := func(list []string) {
		for i, name := range list {
			if other, ok := before[name]; ok {
				list[i] = other
			}
		}
	}
	for i, n := range c.Nodes {
		rename(n.In)
		rename(n.Out)
		n.Name = fmt.Sprint("n", i)
	}
	return c
}

// A side that wants its channels last, or integers, gets the input so.
func TestInputsAreConverted(t *testing.T) {
	image := model.Of(model.F32, []float32{0, 1, 2, 3, -4, -5}, 1, 3, 1, 2)
	plain := model.New("plain")
	plain.Inputs, plain.Outputs = []string{"x"}, []string{"y"}
	plain.Values["x"] = &model.Value{Type: model.F32, Shape: image.Shape}
	plain.Nodes = []*model.Node{{Op: "Relu", Name: "relu", In: []string{"x"}, Out: []string{"y"}}}

	last := plain.Clone()
	last.Values["x"].Shape = model.Shape{1, 1, 2, 3}
	last.Nodes = []*model.Node{
		{Op: "Transpose", Name: "turn", In: []string{"x"}, Out: []string{"t"}, Attrs: map[string]model.Attr{"perm": []int64{0, 3, 1, 2}}},
		{Op: "Relu", Name: "relu", In: []string{"t"}, Out: []string{"y"}},
	}
	whole := plain.Clone()
	whole.Values["x"].Type = model.U8
	whole.AddConst("s", model.Of(model.F32, []float32{0.5}))
	whole.AddConst("z", model.Of(model.U8, []uint8{100}))
	whole.Nodes = []*model.Node{
		{Op: "DequantizeLinear", Name: "real", In: []string{"x", "s", "z"}, Out: []string{"r"}},
		{Op: "Relu", Name: "relu", In: []string{"r"}, Out: []string{"y"}},
	}
	for name, b := range map[string]*model.Graph{"channels last": last, "integers": whole} {
		r, err := lockstep.Compare(lockstep.Side{Graph: plain}, lockstep.Side{Graph: b}, []*model.Tensor{image}, 0)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out := r.Rows[len(r.Rows)-1]
		if r.Differs() || out.A.Value != "y" || out.B.Value != "y" || out.Range != 3 {
			t.Errorf("%s: %+v", name, r.Rows)
		}
	}
	if _, err := lockstep.Compare(lockstep.Side{Graph: plain}, lockstep.Side{Graph: plain}, nil, 0); err == nil {
		t.Error("a side without its input ran")
	}
}

// A value that is no number on one side only is beyond every bound.
func TestNotANumber(t *testing.T) {
	net := func(op string) *model.Graph {
		g := model.New(op)
		g.Inputs, g.Outputs = []string{"x"}, []string{"y"}
		g.Values["x"] = &model.Value{Type: model.F32, Shape: model.Shape{2}}
		g.Nodes = []*model.Node{{Op: op, Name: "n", In: []string{"x"}, Out: []string{"y"}}}
		return g
	}
	in := []*model.Tensor{model.Of(model.F32, []float32{-1, 2}, 2)}
	for _, c := range []struct {
		a, b   string
		beyond bool
	}{{"Log", "Abs", true}, {"Abs", "Log", true}, {"Log", "Log", false}} {
		r, err := lockstep.Compare(lockstep.Side{Graph: net(c.a)}, lockstep.Side{Graph: net(c.b)}, in, 1e9)
		if err != nil {
			t.Fatal(err)
		}
		if r.Differs() != c.beyond {
			t.Errorf("%s and %s: %+v", c.a, c.b, r.Rows)
		}
		if out := r.Rows[1]; c.beyond && out.MaxAbs != math.MaxFloat64 {
			t.Errorf("off by %g", out.MaxAbs)
		}
	}
}
