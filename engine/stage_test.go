package engine

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"dunlin/model"
)

// feed writes tensors to the inputs of a session, runs it, and returns copies
// of its outputs.
func feed(t testing.TB, s *Session, in ...*model.Tensor) []*model.Tensor {
	t.Helper()
	for i, x := range in {
		if s.Input(i).Type != x.Type || !s.Input(i).Shape.Equal(x.Shape) {
			t.Fatalf("input %d is %v %v, not %v %v", i, s.Input(i).Type, s.Input(i).Shape, x.Type, x.Shape)
		}
		copy(s.Input(i).Data, x.Data)
	}
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	var out []*model.Tensor
	for i := range s.program.Outputs() {
		out = append(out, s.Output(i).Clone())
	}
	return out
}

func f32s(v []float32, shape ...int) *model.Tensor { return model.Of(model.F32, v, shape...) }
func i64s(v []int64, shape ...int) *model.Tensor   { return model.Of(model.I64, v, shape...) }
func truths(v ...uint8) *model.Tensor              { return model.Of(model.Bool, v, len(v)) }

func wantTensor(t testing.TB, got, want *model.Tensor) {
	t.Helper()
	if got.Type != want.Type || !got.Shape.Equal(want.Shape) || !slices.Equal(got.Data, want.Data) {
		t.Errorf("%v %v %v, want %v %v %v", got.Type, got.Shape, got.Data, want.Type, want.Shape, want.Data)
	}
}

// reshaped is x seen in a shape that is itself computed: two deciding values
// one after the other.
func reshaped() *model.Graph {
	b := newBuild(1)
	x := b.input("x", 2, 6)
	b.typed("shape", model.I64, 2)
	b.typed("end", model.I64, 1)
	y := b.node("Reshape", nil, b.node("Relu", nil, x), b.node("Neg", nil, b.node("Neg", nil, "shape")))
	b.output(b.node("Slice", nil, y, b.ints(0), b.node("Abs", nil, "end"), b.ints(0)), x)
	return b.Graph
}

func TestShapesFromValues(t *testing.T) {
	x := make([]float32, 12)
	for i := range x {
		x[i] = float32(i - 2)
	}
	p := compiled(t, reshaped(), Options{})
	s := p.NewSession()
	if s.Output(0) != nil || p.Outputs()[0].Shape != nil || p.Outputs()[0].Name == "" {
		t.Error("an output is there before the first run")
	}
	for range 2 {
		out := feed(t, s, f32s(x, 2, 6), i64s([]int64{3, 4}, 2), i64s([]int64{-2}, 1))
		wantTensor(t, out[0], f32s([]float32{0, 0, 0, 1, 2, 3, 4, 5}, 2, 4))
		wantTensor(t, out[1], f32s(x, 2, 6))
		out = feed(t, s, f32s(x, 2, 6), i64s([]int64{-1, 1}, 2), i64s([]int64{3}, 1))
		wantTensor(t, out[0], f32s([]float32{0, 0, 0}, 3, 1))
	}
	if len(p.Steps()) < 3 || p.Memory().Arena <= p.memory.Arena {
		t.Errorf("%d steps, %+v: the second stage is not in the plan", len(p.Steps()), p.Memory())
	}
	copy(s.Input(1).I64(), []int64{5, 5})
	if err := s.Run(); err == nil || !strings.Contains(err.Error(), "Reshape") {
		t.Errorf("12 elements in 25 places: %v", err)
	}
}

// A decision that was taken before costs no compilation and no allocation.
func TestRepeatedDecisionsAllocateNothing(t *testing.T) {
	s := compiled(t, reshaped(), Options{}).NewSession()
	shapes := [][]int64{{3, 4}, {4, 3}, {12, 1}}
	i := 0
	run := func() {
		copy(s.Input(1).I64(), shapes[i%3])
		s.Input(2).I64()[0] = 1
		i++
		if err := s.Run(); err != nil {
			t.Error(err)
		}
	}
	for range 3 {
		run()
	}
	if n := testing.AllocsPerRun(6, run); n != 0 {
		t.Errorf("%v allocations a run", n)
	}
}

// More decisions than are kept: the oldest is compiled again.
func TestDecisionsAreBounded(t *testing.T) {
	b := newBuild(1)
	x := b.input("x", 64)
	b.typed("n", model.I64, 1)
	b.output(b.node("Slice", nil, x, b.ints(0), "n"))
	p := compiled(t, b.Graph, Options{})
	s := p.NewSession()
	for n := range 3 * keptPrograms {
		s.Input(1).I64()[0] = int64(n + 1)
		if err := s.Run(); err != nil {
			t.Fatal(err)
		}
		if got := s.Output(0).Shape; !got.Equal(model.Shape{n + 1}) {
			t.Fatalf("shape %v for %d", got, n+1)
		}
	}
	if n := len(p.then.programs.held); n != keptPrograms {
		t.Errorf("%d programs are kept", n)
	}
	if n := len(s.sequel.sessions.held); n != keptSessions {
		t.Errorf("%d sessions are kept", n)
	}
}

func TestSessionsShareDecisions(t *testing.T) {
	p := compiled(t, reshaped(), Options{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			s := p.NewSession()
			for k := range 6 {
				rows := int64(1 + (i+k)%2)
				copy(s.Input(1).I64(), []int64{rows, 12 / rows})
				s.Input(2).I64()[0] = 1
				if err := s.Run(); err != nil || !s.Output(0).Shape.Equal(model.Shape{1, int(12 / rows)}) {
					t.Errorf("session %d: %v, %v", i, s.Output(0).Shape, err)
				}
			}
		})
	}
	wg.Wait()
}

// twoWays is an If whose branches make different shapes, read values of the
// graph around them, and hold an If of their own.
func twoWays(b *build, condition, inner string) *model.Graph {
	x := b.input("x", 2, 2)
	y := b.node("Relu", nil, x)
	nest := model.New("nest")
	nest.Outputs = []string{"v"}
	nest.Nodes = []*model.Node{{Op: "Neg", Name: "neg", In: []string{y}, Out: []string{"v"}}}
	same := model.New("same")
	same.Outputs = []string{"w"} // of the graph around
	then := model.New("then")
	then.AddConst("w", f32s([]float32{10}))
	then.Outputs = []string{"out", y}
	then.Nodes = []*model.Node{
		{Op: "If", Name: "if", In: []string{inner}, Out: []string{"mid"}, Attrs: attrs{"then_branch": nest, "else_branch": same}},
		{Op: "Add", Name: "add", In: []string{"mid", "w"}, Out: []string{"out"}},
	}
	other := model.New("else")
	other.AddConst("shape", i64s([]int64{4}, 1))
	other.Outputs = []string{"out", "out"}
	other.Nodes = []*model.Node{{Op: "Reshape", Name: "add", In: []string{y, "shape"}, Out: []string{"out"}}}
	b.Nodes = append(b.Nodes, &model.Node{
		Op: "If", Name: "choice", In: []string{condition}, Out: []string{"a", "b"}, Attrs: attrs{"then_branch": then, "else_branch": other},
	})
	b.output("a", "b", b.node("Abs", nil, "a"))
	return b.Graph
}

func TestIf(t *testing.T) {
	b := newBuild(1)
	b.typed("c", model.Bool, 1)
	b.typed("d", model.Bool, 1)
	g := twoWays(b, "c", "d")
	p := compiled(t, g, Options{})
	s := p.NewSession()
	x := f32s([]float32{1, -2, 3, 4}, 2, 2)
	for _, c := range []struct {
		c, d uint8
		a, b *model.Tensor
	}{
		{1, 1, f32s([]float32{9, 10, 7, 6}, 2, 2), f32s([]float32{1, 0, 3, 4}, 2, 2)},
		{1, 0, f32s([]float32{20}), f32s([]float32{1, 0, 3, 4}, 2, 2)},
		{0, 1, f32s([]float32{1, 0, 3, 4}, 4), f32s([]float32{1, 0, 3, 4}, 4)},
		{1, 1, f32s([]float32{9, 10, 7, 6}, 2, 2), f32s([]float32{1, 0, 3, 4}, 2, 2)},
	} {
		out := feed(t, s, truths(c.c), truths(c.d), x)
		wantTensor(t, out[0], c.a)
		wantTensor(t, out[1], c.b)
		wantTensor(t, out[2], c.a)
	}
}

// A constant condition leaves one program, of the branch that is taken.
func TestIfConstant(t *testing.T) {
	b := newBuild(1)
	g := twoWays(b, b.constant(truths(1)), b.constant(truths(1)))
	p := compiled(t, g, Options{})
	if p.then != nil {
		t.Error("it has a second stage")
	}
	out := feed(t, p.NewSession(), f32s([]float32{1, -2, 3, 4}, 2, 2))
	wantTensor(t, out[0], f32s([]float32{9, 10, 7, 6}, 2, 2))
}

// What is wrong in a branch is found before a run.
func TestIfUnsupported(t *testing.T) {
	b := newBuild(1)
	b.typed("c", model.Bool, 1)
	b.typed("d", model.Bool, 1)
	g := twoWays(b, "c", "d")
	g.Nodes[1].Attrs["then_branch"].(*model.Graph).Nodes[1].Op = "Frobnicate"
	var e *UnsupportedError
	if _, err := Compile(g, Options{}); !errors.As(err, &e) || e.Nodes[0].Op != "Frobnicate" {
		t.Errorf("error %v", err)
	}
	delete(g.Nodes[1].Attrs, "else_branch")
	if err := Check(g); !errors.As(err, &e) || len(e.Nodes) != 2 {
		t.Errorf("error %v", err)
	}
}

// Operators whose results have a shape of their own run between two stages.
func TestEagerOperators(t *testing.T) {
	b := newBuild(1)
	x := b.input("x", 2, 3)
	found := b.node("NonZero", nil, b.node("Relu", nil, x))
	b.output(b.node("Transpose", nil, found), b.node("Neg", nil, x))
	s := compiled(t, b.Graph, Options{}).NewSession()
	out := feed(t, s, f32s([]float32{0, 1, -1, 2, 0, 3}, 2, 3))
	wantTensor(t, out[0], i64s([]int64{0, 1, 1, 0, 1, 2}, 3, 2))
	out = feed(t, s, f32s([]float32{0, 0, -1, 0, 0, 3}, 2, 3))
	wantTensor(t, out[0], i64s([]int64{1, 2}, 1, 2))
	out = feed(t, s, f32s(make([]float32, 6), 2, 3))
	wantTensor(t, out[0], i64s(nil, 0, 2))
}

func TestObserveThroughStages(t *testing.T) {
	g := reshaped()
	count := map[string]int{}
	s := compiled(t, g, Options{Observe: func(name string, _ *model.Tensor) { count[name]++ }}).NewSession()
	feed(t, s, f32s(make([]float32, 12), 2, 6), i64s([]int64{3, 4}, 2), i64s([]int64{1}, 1))
	for _, name := range []string{"x", g.Nodes[0].Out[0], g.Outputs[0]} {
		if count[name] == 0 {
			t.Errorf("%s was not seen: %v", name, count)
		}
	}
}

func TestRunner(t *testing.T) {
	b := newBuild(1)
	x := b.input("x", model.Unknown, 3)
	b.output(b.node("Reshape", nil, b.node("Relu", nil, x), b.node("Shape", nil, b.node("Transpose", nil, x))))
	r, err := NewRunner(b.Graph, Options{}, 2)
	if err != nil {
		t.Fatal(err)
	}
	sessions := map[int]*Session{}
	for _, n := range []int{4, 5, 4, 5} {
		s, err := r.Session(model.Shape{n, 3})
		if err != nil {
			t.Fatal(err)
		}
		if sessions[n] != nil && sessions[n] != s {
			t.Errorf("shape %d was compiled twice", n)
		}
		sessions[n] = s
		if err := s.Run(); err != nil || !s.Output(0).Shape.Equal(model.Shape{3, n}) {
			t.Errorf("%d: %v %v", n, s.Output(0).Shape, err)
		}
	}
	shapes := []model.Shape{{5, 3}}
	if n := testing.AllocsPerRun(3, func() {
		s, err := r.Session(shapes...)
		if err != nil || s.Run() != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations on shapes seen before", n)
	}
	if _, err := r.Session(model.Shape{6, 3}); err != nil {
		t.Fatal(err)
	}
	if s, err := r.Session(model.Shape{4, 3}); err != nil || s == sessions[4] {
		t.Errorf("three sets of shapes are kept, of two: %v", err)
	}
	for _, bad := range [][]model.Shape{{{4, 4}}, {{4}}, {nil}, {{4, 3}, {4, 3}}} {
		if _, err := r.Session(bad...); err == nil {
			t.Errorf("shapes %v are accepted", bad)
		}
	}
	b.output("nowhere")
	if _, err := NewRunner(b.Graph, Options{}, 0); err == nil {
		t.Error("an open graph is accepted")
	}
}
