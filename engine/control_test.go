package engine

import (
	"errors"
	"strings"
	"testing"

	"dunlin/model"
)

// counting is a Loop that sums up to n: carried sum, scanned squares of it,
// and a value of the graph around it.
func counting(condition bool) (*model.Graph, *model.Graph) {
	b := newBuild(1)
	b.typed("n", model.I64, []int{}...)
	x := b.input("x", 2)
	twice := b.node("Add", nil, x, x)
	body := model.New("body")
	body.Inputs = []string{"i", "go", "sum"}
	body.Outputs = []string{"go2", "sum2", "square"}
	body.AddConst("limit", f32s([]float32{100}))
	body.AddConst("first", i64s([]int64{0}, 1))
	body.Nodes = []*model.Node{
		{Op: "Add", Name: "a", In: []string{"sum", twice}, Out: []string{"sum2"}},
		{Op: "Mul", Name: "m", In: []string{"sum2", "sum2"}, Out: []string{"square"}},
		{Op: "Slice", Name: "s", In: []string{"sum2", "first", "one"}, Out: []string{"head"}},
		{Op: "Less", Name: "l", In: []string{"head", "limit"}, Out: []string{"go2"}},
	}
	body.AddConst("one", i64s([]int64{1}, 1))
	in := []string{"n", "", x}
	if condition {
		in[1] = b.constant(truths(1))
	}
	b.Nodes = append(b.Nodes, &model.Node{Op: "Loop", Name: "loop", In: in, Out: []string{"sum", "squares"}, Attrs: attrs{"body": body}})
	b.output("sum", b.node("Neg", nil, "squares"))
	return b.Graph, body
}

func TestLoop(t *testing.T) {
	g, _ := counting(true)
	s := compiled(t, g, Options{}).NewSession()
	count := func(n int64) *model.Tensor { return i64s([]int64{n}) }
	for range 2 {
		out := feed(t, s, count(3), f32s([]float32{1, 10}, 2))
		wantTensor(t, out[0], f32s([]float32{7, 70}, 2))
		wantTensor(t, out[1], f32s([]float32{-9, -900, -25, -2500, -49, -4900}, 3, 2))
	}
	out := feed(t, s, count(1000), f32s([]float32{30, 0}, 2)) // stops at 150
	wantTensor(t, out[0], f32s([]float32{150, 0}, 2))
	out = feed(t, s, count(-5), f32s([]float32{30, 0}, 2))
	wantTensor(t, out[0], f32s([]float32{30, 0}, 2))
	if !out[1].Shape.Equal(model.Shape{0}) {
		t.Errorf("no iterations make %v", out[1].Shape)
	}
}

func TestLoopIsBounded(t *testing.T) {
	g, body := counting(false)
	body.Nodes = body.Nodes[:2]
	body.AddConst("on", truths(1))
	body.Outputs[0] = "on"
	s := compiled(t, g, Options{MaxMemory: 1 << 16}).NewSession()
	s.Input(0).I64()[0] = 1 << 40
	if err := s.Run(); !errors.Is(err, ErrMemory) {
		t.Errorf("a loop whose outputs grow without end: %v", err)
	}
	body.Outputs = body.Outputs[:2]
	g.Nodes[1].Out = g.Nodes[1].Out[:1]
	g.Outputs, g.Nodes = g.Outputs[:1], g.Nodes[:2]
	if testing.Short() {
		return
	}
	s = compiled(t, g, Options{}).NewSession()
	s.Input(0).I64()[0] = 1 << 40
	if err := s.Run(); err == nil || !strings.Contains(err.Error(), "iterations") {
		t.Errorf("a loop without end: %v", err)
	}
}

// TestScan is the example of the ONNX specification, in both directions.
func TestScan(t *testing.T) {
	b := newBuild(1)
	first, x := b.input("first", 2), b.input("x", 3, 2)
	body := model.New("body")
	body.Inputs, body.Outputs = []string{"sum", "next"}, []string{"sum2", "copy"}
	body.Nodes = []*model.Node{
		{Op: "Add", Name: "a", In: []string{"sum", "next"}, Out: []string{"sum2"}},
		{Op: "Identity", Name: "i", In: []string{"sum2"}, Out: []string{"copy"}},
	}
	scan := &model.Node{
		Op: "Scan", Name: "scan", In: []string{first, x}, Out: []string{"y", "z"}, Attrs: attrs{"body": body, "num_scan_inputs": int64(1)},
	}
	b.Nodes = append(b.Nodes, scan)
	b.output("y", "z")
	in := []*model.Tensor{f32s([]float32{0, 0}, 2), f32s([]float32{1, 2, 3, 4, 5, 6}, 3, 2)}
	out := feed(t, compiled(t, b.Graph, Options{}).NewSession(), in...)
	wantTensor(t, out[0], f32s([]float32{9, 12}, 2))
	wantTensor(t, out[1], f32s([]float32{1, 2, 4, 6, 9, 12}, 3, 2))

	scan.Attrs["scan_input_directions"], scan.Attrs["scan_output_axes"] = []int64{1}, []int64{-1}
	out = feed(t, compiled(t, b.Graph, Options{}).NewSession(), in...)
	wantTensor(t, out[1], f32s([]float32{5, 8, 9, 6, 10, 12}, 2, 3))

	scan.Attrs["scan_output_directions"], scan.Attrs["scan_output_axes"] = []int64{1}, []int64{0}
	out = feed(t, compiled(t, b.Graph, Options{}).NewSession(), in...)
	wantTensor(t, out[1], f32s([]float32{9, 12, 8, 10, 5, 6}, 3, 2))
}

// Subgraphs that do not fit their node are errors, at compile time or in the
// run.
func TestHostileSubgraphs(t *testing.T) {
	spoil := map[string]func(loop *model.Node, body *model.Graph){
		"no condition out":  func(_ *model.Node, b *model.Graph) { b.Outputs = nil },
		"no inputs":         func(_ *model.Node, b *model.Graph) { b.Inputs, b.Nodes = nil, nil },
		"too few outputs":   func(_ *model.Node, b *model.Graph) { b.Outputs = b.Outputs[:1] },
		"too many out":      func(n *model.Node, _ *model.Graph) { n.Out = append(n.Out, "more") },
		"condition is data": func(_ *model.Node, b *model.Graph) { b.Outputs[0] = "sum2" },
		"count is data":     func(n *model.Node, _ *model.Graph) { n.In[0] = "x" },
		"no body":           func(n *model.Node, _ *model.Graph) { delete(n.Attrs, "body") },
	}
	for name, f := range spoil {
		g, body := counting(true)
		f(g.Nodes[1], body)
		p, err := Compile(g, Options{})
		if err != nil {
			continue
		}
		s := p.NewSession()
		s.Input(0).I64()[0] = 1
		if err := s.Run(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
