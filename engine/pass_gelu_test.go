package engine

import (
	"fmt"
	"testing"

	"dunlin/model"
)

// geluForms are ways to write Gelu, and whether it is that with tanh.
var geluForms = []struct {
	name string
	tanh bool
	make func(b *build, x string) string
}{
	{"x*(1+erf(x/√2))*½", false, geluOf},
	{"½x*(erf(x*√½)+1)", false, func(b *build, x string) string {
		e := b.node("Add", nil, b.scalar(1), b.node("Erf", nil, b.node("Mul", nil, x, b.scalar(0.70710677))))
		return b.node("Mul", nil, b.node("Mul", nil, x, b.scalar(0.5)), e)
	}},
	{"x*(½*(1+erf))", false, func(b *build, x string) string {
		e := b.node("Add", nil, b.node("Erf", nil, b.node("Div", nil, x, b.scalar(1.4142135))), b.scalar(1))
		return b.node("Mul", nil, x, b.node("Mul", nil, b.scalar(0.5), e))
	}},
	{"tanh of x+cx³", true, func(b *build, x string) string {
		cube := b.node("Mul", nil, b.scalar(0.044715), b.node("Pow", nil, x, b.scalar(3)))
		z := b.node("Mul", nil, b.scalar(0.7978845608), b.node("Add", nil, x, cube))
		return b.node("Mul", nil, b.node("Mul", nil, b.scalar(0.5), x), b.node("Add", nil, b.node("Tanh", nil, z), b.scalar(1)))
	}},
	{"tanh of x(1+cx²)", true, func(b *build, x string) string {
		z := b.node("Add", nil, b.scalar(1), b.node("Mul", nil, b.node("Mul", nil, x, x), b.scalar(0.044715)))
		z = b.node("Mul", nil, b.node("Mul", nil, x, b.scalar(0.797885)), z)
		return b.node("Mul", nil, b.node("Mul", nil, b.scalar(0.5), x), b.node("Add", nil, b.scalar(1), b.node("Tanh", nil, z)))
	}},
}

func TestMakeGelu(t *testing.T) {
	for _, f := range geluForms {
		t.Run(f.name, func(t *testing.T) {
			b := newBuild(1)
			x := b.node("Add", nil, b.input("x", 3, 7), b.normal(7))
			b.output(f.make(b, x))
			g := apply(t, b.Graph, makeGelu)
			wantOps(t, g, "Add", "Gelu")
			if tanh := g.Nodes[1].Str("approximate", "none") == "tanh"; tanh != f.tanh || g.Nodes[1].In[0] != x {
				t.Errorf("%v of %v", g.Nodes[1].Attrs, g.Nodes[1].In)
			}
			got := runOnce(t, compiled(t, b.Graph, Options{}), 1)[0]
			want := runOnce(t, compiled(t, b.Graph, Options{Observe: func(string, *model.Tensor) {}}), 1)[0]
			if d := farthest(t, got, want); !(d < 1e-6) {
				t.Errorf("%g from the parts", d)
			}
		})
	}
}

// What is nearly Gelu stays as it is.
func TestMakeGeluLeaves(t *testing.T) {
	for i, f := range []func(b *build, x string) string{
		func(b *build, x string) string { // another constant
			e := b.node("Add", nil, b.node("Erf", nil, b.node("Div", nil, x, b.scalar(1.5))), b.scalar(1))
			return b.node("Mul", nil, b.node("Mul", nil, x, e), b.scalar(0.5))
		},
		func(b *build, x string) string { // another x
			e := b.node("Add", nil, b.node("Erf", nil, b.node("Div", nil, b.node("Neg", nil, x), b.scalar(1.4142135))), b.scalar(1))
			return b.node("Mul", nil, b.node("Mul", nil, x, e), b.scalar(0.5))
		},
		func(b *build, x string) string { // twice as much
			e := b.node("Add", nil, b.node("Erf", nil, b.node("Div", nil, x, b.scalar(1.4142135))), b.scalar(1))
			return b.node("Mul", nil, x, e)
		},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			b := newBuild(1)
			b.output(f(b, b.input("x", 3, 7)))
			for _, op := range ops(apply(t, b.Graph, makeGelu)) {
				if op == "Gelu" {
					t.Error("it was taken for Gelu")
				}
			}
		})
	}
}
