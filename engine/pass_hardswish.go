package engine

import (
	"dunlin/model"
)

// findHardSwish makes one HardSwish of the four operators that exporters write
// for it: x * clip(x+3, 0, 6) / 6. A graph with integers then rounds as
// HardSwish does, not as the four did, and the same way on every CPU.
func findHardSwish(_ *compiler, g *model.Graph) (*model.Graph, error) {
	e := editing(g)
	for _, n := range e.Nodes {
		if x := e.hardSwish(n); x != "" {
			e.made[n.Out[0]] = e.add("HardSwish", n, []string{x}, n.Out, nil)
			continue
		}
		e.keep(n)
	}
	return e.done(), nil
}

// hardSwish returns the x of a HardSwish that n ends, "" where it ends none.
// What is between has no other reader, so that nothing is computed twice.
func (e *edit) hardSwish(n *model.Node) string {
	product, six := e.withConstant(n, "Div")
	if product == "" || six != 6 {
		return ""
	}
	mul := e.made[product]
	if mul == nil || mul.Op != "Mul" || e.only(product) != n {
		return ""
	}
	for i, name := range mul.In {
		clip := e.made[name]
		if clip == nil || clip.Op != "Clip" || e.only(name) != mul {
			continue
		}
		b, ok := e.bounds(clip)
		add := e.made[clip.In[0]]
		if !ok || b.Min != 0 || b.Max != 6 || add == nil || e.only(add.Out[0]) != clip {
			continue
		}
		x, three := e.withConstant(add, "Add")
		if x == mul.In[1-i] && three == 3 && e.Value(x).Shape.Equal(e.Value(n.Out[0]).Shape) {
			return x
		}
	}
	return ""
}

// withConstant returns the other operand and the value where n is op with one
// float32 constant, which is the divisor of a Div.
func (e *edit) withConstant(n *model.Node, op string) (x string, value float32) {
	if n.Op != op || len(n.In) != 2 {
		return "", 0
	}
	for i := range n.In {
		if c := e.Const(n.In[1-i]); c != nil && c.Type == model.F32 && c.Elements() == 1 && (i == 0 || op != "Div") {
			return n.In[i], c.F32()[0]
		}
	}
	return "", 0
}
