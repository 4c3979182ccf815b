package engine

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"dunlin/model"
)

// plain compiles without fusion: every node on its own, in float where the
// graph is in QDQ form. It is the reference for the passes.
func plain(t testing.TB, g *model.Graph) *Program {
	return compiled(t, g, Options{Observe: func(string, *model.Tensor) {}})
}

// The passes change how a network is computed, not what it gives.
func TestPassesKeepTheAnswer(t *testing.T) {
	for seed := range uint64(20) {
		g := floatNet(seed)
		p := compiled(t, g, Options{})
		got, want := runOnce(t, p, seed), runOnce(t, plain(t, g), seed)
		if d := farthest(t, got[0], want[0]); !(d < 1e-4) {
			t.Errorf("seed %d: off by %g", seed, d)
		}
		if n, m := len(p.Steps()), len(g.Nodes); n >= m {
			t.Errorf("%d steps of %d nodes: nothing was fused", n, m)
		}
	}
}

// The integer operators give what the QDQ form gives in float, but for the
// rounding: a step of the output's scale at most, rarely two.
func TestIntegerPathAgreesWithFloat(t *testing.T) {
	for _, dtype := range []model.DType{model.I8, model.U8} {
		for seed := range uint64(20) {
			g := integerNet(seed, dtype)
			p := compiled(t, g, Options{})
			got, want := runOnce(t, p, seed), runOnce(t, plain(t, g), seed)
			if d := farthest(t, got[1], want[1]); d > 0.5 {
				t.Errorf("%v, seed %d: off by %g, which is %g steps", dtype, seed, d, d*4)
			}
			if !p.Exact() {
				t.Error("it is not exact")
			}
			for _, s := range p.Steps() {
				if s.Precision == "float32" && !strings.Contains(strings.ToLower(s.Kernel), "softmax") {
					t.Errorf("%v: %s (%s) computes in float: %s", dtype, s.Name, s.Kernel, s.Why)
				}
			}
		}
	}
}

func TestSecondRunAllocatesNothing(t *testing.T) {
	for name, g := range map[string]*model.Graph{"float": floatNet(1), "int8": integerNet(1, model.I8)} {
		p := compiled(t, g, Options{})
		s := p.NewSession()
		if n := testing.AllocsPerRun(3, func() {
			if err := s.Run(); err != nil {
				t.Error(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations a run", name, n)
		}
	}
}

func TestRunTwiceGivesTheSame(t *testing.T) {
	s := compiled(t, integerNet(2, model.I8), Options{}).NewSession()
	fillInputs(s.program, s, 3)
	var first *model.Tensor
	for range 2 {
		if err := s.Run(); err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = s.Output(0).Clone()
		}
	}
	if !slices.Equal(first.Data, s.Output(0).Data) {
		t.Error("the second run on one input differs")
	}
}

// Sessions share a program and nothing else.
func TestSessionsAreIndependent(t *testing.T) {
	p := compiled(t, integerNet(3, model.I8), Options{})
	want := make([][]byte, 4)
	for i := range want {
		want[i] = runOnce(t, p, uint64(i))[0].Data
	}
	var wg sync.WaitGroup
	for i := range want {
		wg.Go(func() {
			s := p.NewSession()
			fillInputs(p, s, uint64(i))
			for range 5 {
				if err := s.Run(); err != nil || !slices.Equal(s.Output(0).Data, want[i]) {
					t.Errorf("session %d differs, or %v", i, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestUnsupportedListsAll(t *testing.T) {
	b := newBuild(1)
	x := b.node("Frobnicate", nil, b.input("x", 1, 2))
	x = b.node("Relu", nil, x)
	x = b.node("com.example.Twist", nil, x)
	b.output(b.node("MaxPool", nil, x))
	for name, f := range map[string]func() error{
		"check":   func() error { return Check(b.Graph) },
		"compile": func() error { return second(Compile(b.Graph, Options{})) },
	} {
		var e *UnsupportedError
		if err := f(); !errors.As(err, &e) || len(e.Nodes) != 3 {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i, op := range []string{"Frobnicate", "com.example.Twist", "MaxPool"} {
			if e.Nodes[i].Op != op || !strings.Contains(e.Error(), e.Nodes[i].Node) {
				t.Errorf("%s: %+v is not %s", name, e.Nodes[i], op)
			}
		}
	}
}

// What only constants tell is collected too.
func TestUnsupportedAtLowering(t *testing.T) {
	b := newBuild(1)
	b.typed("x", model.I8, 2, 1, 4, 4)
	b.typed("w", model.I8, 1, 3, 4, 4)
	b.output(b.node("MatMulInteger", nil, "x", "w"), b.node("MatMulInteger", nil, "w", "x"))
	var e *UnsupportedError
	if _, err := Compile(b.Graph, Options{}); !errors.As(err, &e) || len(e.Nodes) != 2 {
		t.Fatalf("error %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestMemoryLimit(t *testing.T) {
	g := floatNet(1)
	m := compiled(t, g, Options{}).Memory()
	if m.Arena == 0 || m.Weights == 0 {
		t.Errorf("memory %+v", m)
	}
	for _, limit := range []int64{1, 1000, int64(m.Arena)} {
		if _, err := Compile(g, Options{MaxMemory: limit}); !errors.Is(err, ErrMemory) {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
	if _, err := Compile(g, Options{MaxMemory: int64(2 * (m.Arena + m.Weights))}); err != nil {
		t.Error(err)
	}
	b := newBuild(1)
	b.output(b.node("Relu", nil, b.input("x", 1<<30, 1<<9)))
	if _, err := Compile(b.Graph, Options{MaxMemory: 1 << 30}); err == nil {
		t.Error("2 TiB were accepted")
	}
}

func TestShapes(t *testing.T) {
	b := newBuild(1)
	b.output(b.node("Relu", nil, b.input("x", model.Unknown, 3)))
	for name, c := range map[string]struct {
		o    Options
		want model.Shape // nil: an error
	}{
		"none":     {Options{}, nil},
		"symbolic": {Options{Symbolic1: true}, model.Shape{1, 3}},
		"given":    {Options{Shapes: map[string]model.Shape{"x": {5, 3}}}, model.Shape{5, 3}},
		"wrong":    {Options{Shapes: map[string]model.Shape{"x": {5, 4}}}, nil},
		"rank":     {Options{Shapes: map[string]model.Shape{"x": {5}}}, nil},
		"empty":    {Options{Shapes: map[string]model.Shape{"x": {0, 3}}}, nil},
		"negative": {Options{Shapes: map[string]model.Shape{"x": {-7, 3}}}, nil},
		"unknown":  {Options{Shapes: map[string]model.Shape{"y": {5, 3}}}, nil},
	} {
		p, err := Compile(b.Graph, c.o)
		switch {
		case c.want == nil && err == nil:
			t.Errorf("%s: accepted", name)
		case c.want != nil && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != nil && !p.Outputs()[0].Shape.Equal(c.want):
			t.Errorf("%s: %v", name, p.Outputs()[0].Shape)
		}
	}
}

// A stale shape from an exporter is not believed.
func TestStaleShapesAreIgnored(t *testing.T) {
	b := newBuild(1)
	y := b.node("Relu", nil, b.input("x", 2, 3))
	b.Values[y] = &model.Value{Type: model.I8, Shape: model.Shape{7}}
	b.output(y)
	if p := compiled(t, b.Graph, Options{}); !p.Outputs()[0].Shape.Equal(model.Shape{2, 3}) {
		t.Errorf("shape %v", p.Outputs()[0].Shape)
	}
}

func TestObserve(t *testing.T) {
	g := floatNet(4)
	seen := map[string]*model.Tensor{}
	var order []string
	p := compiled(t, g, Options{Observe: func(name string, x *model.Tensor) {
		seen[name] = x.Clone()
		order = append(order, name)
	}})
	out := runOnce(t, p, 4)
	if order[0] != "x" {
		t.Errorf("the first value seen is %s", order[0])
	}
	for _, n := range g.Nodes {
		if seen[n.Out[0]] == nil {
			t.Errorf("%s was not seen", n.Out[0])
		}
	}
	if len(order) != len(g.Nodes)+1 {
		t.Errorf("%d values seen, of %d nodes and an input", len(order), len(g.Nodes))
	}
	if s := seen[g.Nodes[0].Out[0]].Shape; !s.Equal(model.Shape{1, 8, 5, 4}) {
		t.Errorf("the convolution is seen as %v, not in the layout of the graph", s)
	}
	if !slices.Equal(seen[g.Outputs[0]].Data, out[0].Data) {
		t.Error("the output seen is not the output")
	}
}

func TestQuantisedPorts(t *testing.T) {
	for _, dtype := range []model.DType{model.I8, model.U8} {
		b := newBuild(1)
		b.typed("x", dtype, 1, 4)
		s, z := b.scalar(0.5), b.zero(dtype, 100)
		y := b.node("Gemm", nil, b.node("DequantizeLinear", nil, "x", s, z), b.weights(1, 4, 3))
		y = b.node("QuantizeLinear", nil, y, b.scalar(0.25), b.zero(dtype, 90))
		b.output(y)
		p := compiled(t, b.Graph, Options{})
		in, out := p.Inputs()[0], p.Outputs()[0]
		if !in.Quantised || in.Scale != 0.5 || in.Zero != 100 || in.Type != dtype {
			t.Errorf("input %+v", in)
		}
		if !out.Quantised || out.Scale != 0.25 || out.Zero != 90 || out.Type != dtype {
			t.Errorf("output %+v", out)
		}
		got, want := runOnce(t, p, 5)[0], runOnce(t, plain(t, b.Graph), 5)[0]
		for i := range want.Data {
			if d := int(got.Data[i]) - int(want.Data[i]); d < -1 || d > 1 {
				t.Errorf("%v: %v, want %v", dtype, got.Data, want.Data)
			}
		}
	}
}

// Outputs that are an input, a constant, or one value twice.
func TestOddOutputs(t *testing.T) {
	b := newBuild(1)
	x := b.input("x", 2, 2)
	c := b.constant(model.Of(model.F32, []float32{1, 2}, 2))
	y := b.node("Relu", nil, x)
	flat := b.node("Reshape", nil, x, b.ints(4))
	id := b.node("Identity", nil, x)
	b.output(x, c, y, y, flat, id)
	p := compiled(t, b.Graph, Options{})
	s := p.NewSession()
	copy(s.Input(0).F32(), []float32{-1, 2, -3, 4})
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	s.Input(0).F32()[0] = 9 // outputs stay until the next run
	for i, want := range [][]float32{{-1, 2, -3, 4}, {1, 2}, {0, 2, 0, 4}, {0, 2, 0, 4}, {-1, 2, -3, 4}, {-1, 2, -3, 4}} {
		if !slices.Equal(s.Output(i).F32(), want) {
			t.Errorf("output %d is %v, want %v", i, s.Output(i).F32(), want)
		}
	}
}

func TestRunFailsOnData(t *testing.T) {
	b := newBuild(1)
	b.typed("i", model.I64, 1)
	b.output(b.node("Gather", nil, b.normal(3, 2), "i"))
	s := compiled(t, b.Graph, Options{}).NewSession()
	s.Input(0).I64()[0] = 3
	if err := s.Run(); err == nil || !strings.Contains(err.Error(), "nGather") {
		t.Errorf("index 3 of 3: %v", err)
	}
	s.Input(0).I64()[0] = -1
	if err := s.Run(); err != nil {
		t.Error(err)
	}
}

func TestDumpShowsThePasses(t *testing.T) {
	var text strings.Builder
	compiled(t, integerNet(1, model.I8), Options{Dump: &text})
	for _, want := range []string{"--- after import", "--- after integer", "dunlin.QConv", "--- after channels-last"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the dump does not say %q", want)
		}
	}
}

// A pattern without an integer kernel runs in float, and the plan says why.
func TestFallbackSaysWhy(t *testing.T) {
	b := newBuild(1)
	x := b.quantised(b.input("x", 1, 2, 4, 4), model.I8, 1.0/64, 0)
	y := b.node("Conv", nil, x, b.normal(2, 2, 1, 1))
	y = b.quantised(y, model.I8, 1.0/32, 0)
	b.output(b.node("Sigmoid", nil, y))
	p := compiled(t, b.Graph, Options{})
	why := map[string]string{}
	for _, s := range p.Steps() {
		if s.Why != "" {
			why[s.Name] = s.Precision + ": " + s.Why
		}
	}
	for name, part := range map[string]string{b.Nodes[2].Name: "weights are not integers", b.Nodes[5].Name: "no integer kernel for Sigmoid"} {
		if !strings.Contains(why[name], part) || !strings.HasPrefix(why[name], "float32") {
			t.Errorf("%s: %q does not say %q", name, why[name], part)
		}
	}
}
