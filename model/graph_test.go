package model

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
)

// diamond is x -> a -> {b, c} -> y, with a constant and a dead end.
func diamond() *Graph {
	g := New("diamond")
	g.Inputs, g.Outputs = []string{"x"}, []string{"y"}
	g.Values["x"] = &Value{Type: F32, Shape: Shape{Unknown, 2}, Dims: []string{"N", ""}}
	g.AddConst("two", Of(F32, []float32{2}))
	g.AddConst("lost", Of(F32, []float32{3}))
	g.Nodes = []*Node{
		{Op: "Mul", Name: "a", In: []string{"x", "two"}, Out: []string{"xa"}},
		{Op: "Relu", Name: "b", In: []string{"xa"}, Out: []string{"xb"}},
		{Op: "Neg", Name: "c", In: []string{"xa"}, Out: []string{"xc"}},
		{Op: "Add", Name: "dead", In: []string{"xc", "lost"}, Out: []string{"unread"}},
		{Op: "Sum", Name: "d", In: []string{"xb", "", "xc"}, Out: []string{"y", ""}, Attrs: map[string]Attr{"k": int64(1)}},
	}
	return g
}

// branch adds to g an If whose branches read the value free of g.
func branch(g *Graph, free string) *Graph {
	sub := New("then")
	sub.Outputs = []string{"z"}
	sub.Nodes = []*Node{{Op: "Relu", Name: "r", In: []string{free}, Out: []string{"z"}}}
	g.Nodes = append(g.Nodes, &Node{
		Op: "If", Name: "if", In: []string{"x"}, Out: []string{"chosen"}, Attrs: map[string]Attr{"then_branch": sub},
	})
	g.Outputs = append(g.Outputs, "chosen")
	return sub
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*Graph)
		want  string
	}{
		{"good", func(*Graph) {}, ""},
		{"subgraph reads the outside", func(g *Graph) { branch(g, "xa") }, ""},
		{"subgraph hides a name", func(g *Graph) { branch(g, "xa").Nodes[0].Out[0] = "z" }, ""},
		{"subgraph reads nothing", func(g *Graph) { branch(g, "nowhere") }, `reads "nowhere"`},
		{"subgraph reads what comes later", func(g *Graph) {
			branch(g, "y")
			g.Nodes[4], g.Nodes[5] = g.Nodes[5], g.Nodes[4]
		}, `reads "y"`},
		{"subgraph's value read outside", func(g *Graph) { branch(g, "xa"); g.Outputs[0] = "z" }, "output z: nothing makes it"},
		{"out of order", func(g *Graph) { slices.Reverse(g.Nodes) }, "which nothing before it makes"},
		{"made twice", func(g *Graph) { g.Nodes[2].Out[0] = "xb" }, `"xb" is made twice`},
		{"made over an input", func(g *Graph) { g.Nodes[0].Out[0] = "x" }, `"x" is made twice`},
		{"made over a constant", func(g *Graph) { g.Nodes[0].Out[0] = "two" }, `"two" is made twice`},
		{"input is a constant", func(g *Graph) { g.Inputs = append(g.Inputs, "two") }, `"two" is made twice`},
		{"input twice", func(g *Graph) { g.Inputs = append(g.Inputs, "x") }, `"x" is made twice`},
		{"input without a name", func(g *Graph) { g.Inputs = append(g.Inputs, "") }, "without a name"},
		{"node without a name", func(g *Graph) { g.Nodes[1].Name = "" }, "empty or taken"},
		{"node name twice", func(g *Graph) { g.Nodes[1].Name = "a" }, "empty or taken"},
		{"output of nobody", func(g *Graph) { g.Outputs[0] = "q" }, "output q: nothing makes it"},
		{"broken constant", func(g *Graph) { g.Const("two").Data = nil }, "needs 4 bytes, has 0"},
	} {
		g := diamond()
		c.spoil(g)
		err := g.Check()
		if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		var typed *Error
		if err != nil && (!errors.As(err, &typed) || typed.Graph == "") {
			t.Errorf("%s: %T does not say where", c.name, err)
		}
	}
}

func TestClone(t *testing.T) {
	g := diamond()
	branch(g, "xa")
	c := g.Clone()
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	c.Nodes[0].In[0], c.Nodes[4].Attrs["k"] = "other", int64(2)
	c.Nodes[5].Attrs["then_branch"].(*Graph).Nodes[0].Op = "Neg"
	c.Values["x"].Shape[0], c.Values["x"].Dims[0] = 5, "M"
	c.AddConst("new", Of(F32, []float32{1}))
	c.Inputs[0], c.Outputs[0] = "i", "o"
	if err := g.Check(); err != nil {
		t.Errorf("the clone's changes reach the graph: %v", err)
	}
	if g.Nodes[0].In[0] != "x" || g.Nodes[4].Int("k", 0) != 1 || g.Values["x"].Shape[0] != Unknown ||
		g.Values["x"].Dims[0] != "N" || g.Nodes[5].Attrs["then_branch"].(*Graph).Nodes[0].Op != "Relu" {
		t.Error("the clone's changes reach the graph")
	}
	if c.Const("two") != g.Const("two") {
		t.Error("a constant was copied")
	}
}

func TestPrune(t *testing.T) {
	g := diamond()
	if n := g.Prune(); n != 1 {
		t.Errorf("%d nodes dropped, want 1", n)
	}
	if got, want := slices.Sorted(maps.Keys(g.Values)), []string{"two", "x"}; !slices.Equal(got, want) {
		t.Errorf("values %v, want %v", got, want)
	}
	var names []string
	for _, n := range g.Nodes {
		names = append(names, n.Name)
	}
	if want := []string{"a", "b", "c", "d"}; !slices.Equal(names, want) {
		t.Errorf("nodes %v, want %v", names, want)
	}
	if err := g.Check(); err != nil {
		t.Error(err)
	}
	if n := g.Prune(); n != 0 {
		t.Errorf("a second time drops %d", n)
	}
}

// TestPruneSubgraph: what only a subgraph reads is needed, inputs stay even
// where nothing reads them.
func TestPruneSubgraph(t *testing.T) {
	g := diamond()
	branch(g, "unread")
	g.Outputs = []string{"chosen"}
	g.Inputs = append(g.Inputs, "idle")
	g.Values["idle"] = &Value{Type: F32}
	if n := g.Prune(); n != 2 { // b and d
		t.Errorf("%d nodes dropped, want 2", n)
	}
	if err := g.Check(); err != nil {
		t.Error(err)
	}
	if g.Values["idle"] == nil || g.Const("lost") == nil {
		t.Error("an input, or what a subgraph needs, is gone")
	}
}

func TestProducersConsumers(t *testing.T) {
	g := diamond()
	made, read := g.Producers(), g.Consumers()
	if made["xa"].Name != "a" || made["x"] != nil || len(made) != 5 {
		t.Errorf("producers: %v", made)
	}
	if len(read["xa"]) != 2 || read["xa"][1].Name != "c" || len(read["y"]) != 0 || read[""] != nil {
		t.Errorf("consumers: %v", read)
	}
}

func TestAttrs(t *testing.T) {
	n := &Node{In: []string{"a"}, Attrs: map[string]Attr{
		"i": int64(3), "f": float32(.5), "s": "same", "is": []int64{1, 2}, "wrong": 3,
	}}
	if n.Int("i", 0) != 3 || n.Float("f", 0) != .5 || n.Str("s", "") != "same" || len(n.Ints("is")) != 2 {
		t.Error("an attribute is not found")
	}
	if n.Int("f", 7) != 7 || n.Int("wrong", 7) != 7 || n.Float("none", 2) != 2 || n.Str("i", "or") != "or" || n.Ints("i") != nil {
		t.Error("an attribute of another type is taken")
	}
	if n.Input(0) != "a" || n.Input(1) != "" {
		t.Error("Input reads past the inputs")
	}
}
