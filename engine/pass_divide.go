package engine

import (
	"math"

	"dunlin/model"
)

// divideByConstants makes a product of each Div by one constant: 8 for the
// scores of attention, 6 in the parts of HardSwish. In a graph with integers it
// does so only where the result is the same bits, which is where the constant
// is a power of two.
func divideByConstants(c *compiler, g *model.Graph) (*model.Graph, error) {
	e := editing(g)
	for _, n := range e.Nodes {
		e.keep(n)
		if n.Op != "Div" || len(n.In) != 2 {
			continue
		}
		t := e.Const(n.In[1])
		if t == nil || t.Type != model.F32 || t.Elements() != 1 {
			continue
		}
		inverse := 1 / t.F32()[0]
		if fraction, _ := math.Frexp(float64(inverse)); math.Abs(fraction) != 0.5 && c.target.Exact {
			continue
		}
		if size := math.Abs(float64(inverse)); size >= 0x1p-126 && size <= 0x1p126 { // both are normal numbers
			n.Op, n.In[1] = "Mul", e.constant(n.In[1], "inverse", model.Of(model.F32, []float32{inverse}, t.Shape...))
		}
	}
	return e.done(), nil
}
