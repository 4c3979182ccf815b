package engine

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"dunlin/internal/shared"
	"dunlin/model"
	"dunlin/model/onnx"
)

// rated is a graph that asks for an input, and in the branch that is taken for
// one that is not negative, for a shape; a Loop and an If that depend on data
// stand behind it, and read what is around them.
func rated() *model.Graph {
	b := newBuild(2)
	x := b.input("x", -1, 4)
	b.typed("rate", model.I64, []int{}...)
	same := b.node("Equal", nil, "rate", b.constant(i64s([]int64{16000})))
	square := b.node("Equal", nil, b.node("Gather", nil, b.node("Shape", nil, x), b.constant(i64s([]int64{0}))), b.constant(i64s([]int64{4})))
	one, other := model.New("one"), model.New("other")
	one.Outputs, other.Outputs = []string{"out"}, []string{"out"}
	one.AddConst("w", b.Const(b.normal(4, 4)))
	inner := func(op string) *model.Graph {
		g := model.New(op)
		g.Outputs, g.Nodes = []string{"made"}, []*model.Node{{Op: op, Name: "inner", In: []string{"wide"}, Out: []string{"made"}}}
		return g
	}
	one.Nodes = []*model.Node{
		{Op: "MatMul", Name: "wide", In: []string{x, "w"}, Out: []string{"wide"}},
		{Op: "If", Name: "square", In: []string{square}, Out: []string{"out"}, Attrs: attrs{"then_branch": inner("Transpose"), "else_branch": inner("Neg")}},
	}
	other.Nodes = []*model.Node{{Op: "Identity", Name: "n", In: []string{x}, Out: []string{"out"}}}
	b.Nodes = append(b.Nodes, &model.Node{Op: "If", Name: "rate", In: []string{same}, Out: []string{"chosen"}, Attrs: attrs{"then_branch": one, "else_branch": other}})
	renamed := b.node("Identity", nil, "chosen")
	body := model.New("body")
	body.Inputs, body.Outputs = []string{"i", "c", "v"}, []string{"c", "sum"}
	body.Nodes = []*model.Node{{Op: "Add", Name: "a", In: []string{"v", renamed}, Out: []string{"sum"}}}
	b.Nodes = append(b.Nodes, &model.Node{Op: "Loop", Name: "loop", In: []string{b.constant(i64s([]int64{3})), "", renamed}, Out: []string{"thrice"}, Attrs: attrs{"body": body}})
	less, more := model.New("less"), model.New("more")
	less.Outputs, more.Outputs = []string{renamed}, []string{"m"}
	more.Nodes = []*model.Node{{Op: "Neg", Name: "n", In: []string{renamed}, Out: []string{"m"}}}
	positive := b.node("Greater", nil, b.node("ReduceMax", attrs{"keepdims": int64(0)}, "thrice"), b.scalar(0.2))
	b.Nodes = append(b.Nodes, &model.Node{Op: "If", Name: "sign", In: []string{positive}, Out: []string{"y"}, Attrs: attrs{"then_branch": less, "else_branch": more}})
	b.output("y", "thrice")
	return b.Graph
}

// TestSpecialise: what is left has the branches that are taken, and gives the
// same bits.
func TestSpecialise(t *testing.T) {
	g := rated()
	if err := g.Check(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		rate  int64
		rows  int
		ops   []string
		lacks string
	}{
		{16000, 4, []string{"MatMul", "Transpose", "Loop", "ReduceMax", "Greater", "If"}, "Neg"},
		{16000, 3, []string{"MatMul", "Neg", "Loop", "ReduceMax", "Greater", "If"}, "Transpose"},
		{8000, 4, []string{"Loop", "ReduceMax", "Greater", "If"}, "MatMul"},
	} {
		o := Options{Shapes: map[string]model.Shape{"x": {c.rows, 4}}, Values: map[string]*model.Tensor{"rate": i64s([]int64{c.rate})}}
		small, err := Specialise(g, o)
		if err != nil {
			t.Fatal(err)
		}
		if got := ops(small); !slices.Equal(got, c.ops) || slices.Contains(got, c.lacks) {
			t.Errorf("rate %d, %d rows: %v is left, want %v", c.rate, c.rows, got, c.ops)
		}
		if !slices.Equal(small.Inputs, []string{"x"}) || strings.Contains(Text(small), capturedAttr) {
			t.Errorf("inputs %v:\n%s", small.Inputs, Text(small))
		}
		for seed := range uint64(4) {
			want := runOnce(t, compiled(t, g, o), seed)
			for i, got := range runOnce(t, compiled(t, small, Options{}), seed) {
				wantTensor(t, got, want[i])
			}
		}
	}
	if len(g.Inputs) != 2 || !slices.Contains(ops(g), "Equal") {
		t.Error("the graph itself has changed")
	}
	if _, err := Specialise(g, Options{Values: map[string]*model.Tensor{"rat": i64s([]int64{1})}}); err == nil {
		t.Error("a value for an input that is not there was taken")
	}
}

// TestSpecialiseSpeech: a speech detector keeps one branch of all its Ifs, and
// its answers.
func TestSpecialiseSpeech(t *testing.T) {
	data, err := os.ReadFile(shared.Dir(t, "models", "onnx", "silero-vad-v6.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	g, err := onnx.Import(data)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Shapes: map[string]model.Shape{"input": {1, 576}, "state": {2, 1, 128}},
		Values: map[string]*model.Tensor{"sr": i64s([]int64{16000})},
	}
	small, err := Specialise(g, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range small.Nodes {
		if len(subgraphs(n)) > 0 {
			t.Errorf("%s (%s) is still there", n.Name, n.Op)
		}
	}
	want, got := runOnce(t, compiled(t, g, o), 1), runOnce(t, compiled(t, small, Options{}), 1)
	for i := range want {
		if far := farthest(t, got[i], want[i]); far > 1e-6 || math.IsNaN(far) {
			t.Errorf("output %d is %g off", i, far)
		}
	}
}
