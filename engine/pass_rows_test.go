package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"dunlin/model"
)

// geluOf is what exporters write for Gelu.
func geluOf(b *build, x string) string {
	e := b.node("Add", nil, b.node("Erf", nil, b.node("Div", nil, x, b.scalar(1.4142135))), b.scalar(1))
	return b.node("Mul", nil, b.node("Mul", nil, x, e), b.scalar(0.5))
}

func TestFuseRows(t *testing.T) {
	b := newBuild(1)
	x := b.input("x", 2, 3, 8)
	y := geluOf(b, x)
	z := b.node("LayerNormalization", nil, b.node("Add", nil, y, b.input("more", 2, 3, 8)), b.normal(8), b.normal(8))
	b.output(z, b.node("MatMul", nil, b.node("Relu", nil, z), b.normal(8, 2)))
	g := apply(t, b.Graph, fuseRows)
	wantOps(t, g, "dunlin.Rows", "MatMul")
	n := g.Nodes[0]
	if !slices.Equal(n.In, []string{"x", "more"}) || len(n.Out) != 2 || n.Out[0] != z {
		t.Errorf("it goes from %v to %v", n.In, n.Out)
	}
	if got := ops(n.Attrs[bodyAttr].(*model.Graph)); len(got) != 8 || got[6] != "LayerNormalization" {
		t.Errorf("it holds %v", got)
	}
}

// What reads a group's result in a roundabout way does not join it, and a
// reader that stood before the group's last operator comes behind it.
func TestFuseRowsKeepsOrder(t *testing.T) {
	b := newBuild(1)
	x := b.node("Relu", nil, b.input("x", 4, 8))
	y := b.node("MatMul", nil, x, b.normal(8, 8))
	z := b.node("Neg", nil, x)
	b.output(b.node("Add", nil, z, y))
	g := apply(t, b.Graph, fuseRows)
	wantOps(t, g, "dunlin.Rows", "MatMul", "Add")
}

// Values of other shapes, axes other than the last, and operators that need
// more than a row stay apart.
func TestFuseRowsLeaves(t *testing.T) {
	b := newBuild(1)
	x := b.node("Relu", nil, b.input("x", 4, 8))
	y := b.node("Softmax", attrs{"axis": int64(0)}, x)
	z := b.node("ReduceMean", nil, b.node("Neg", nil, y), b.ints(0))
	b.output(b.node("Add", nil, z, b.input("more", 3, 4, 8)))
	wantOps(t, apply(t, b.Graph, fuseRows), "Relu", "Softmax", "Neg", "ReduceMean", "Add")
}

// TestRowsAreTheSame compares groups of operators with the same ones on their
// own, bit for bit, over shapes that fill blocks and that leave a rest.
func TestRowsAreTheSame(t *testing.T) {
	type chain func(b *build, s model.Shape) string
	input := func(b *build, s ...int) string { return b.input(fmt.Sprintf("i%d", len(b.Inputs)), s...) }
	without := func(s model.Shape) []int { // but for the last axis
		c := slices.Clone(s)
		c[len(c)-1] = 1
		return c
	}
	for name, f := range map[string]chain{
		"several": func(b *build, s model.Shape) string {
			x := b.node("Neg", nil, input(b, s...))
			e := b.node("Add", nil, b.node("Erf", nil, b.node("Mul", nil, x, b.scalar(3))), b.scalar(1))
			return b.node("Sub", nil, b.node("Mul", nil, x, e), b.node("Sigmoid", nil, x))
		},
		"norm": func(b *build, s model.Shape) string {
			x := b.node("Add", nil, b.node("Add", nil, input(b, s...), b.normal(s[len(s)-1])), input(b, s...))
			return b.node("LayerNormalization", attrs{"axis": int64(len(s) - 1)}, x, b.normal(s[len(s)-1]), b.normal(s[len(s)-1]))
		},
		"rms": func(b *build, s model.Shape) string {
			x := input(b, s...)
			m := b.node("ReduceMean", nil, b.node("Mul", nil, x, x), b.ints(int64(len(s)-1)))
			m = b.node("Sqrt", nil, b.node("Add", nil, m, b.scalar(1e-5)))
			return b.node("Mul", nil, b.node("Div", nil, x, m), b.normal(s[len(s)-1]))
		},
		"mask": func(b *build, s model.Shape) string {
			mask := slices.Clone([]int(s))
			if mask[0] = 1; len(s) > 2 {
				mask[1] = 1
			}
			x := b.node("Add", nil, b.node("Div", nil, input(b, s...), b.scalar(8)), input(b, mask...))
			return b.node("Softmax", attrs{"axis": int64(-1)}, x)
		},
		"narrow": func(b *build, s model.Shape) string {
			return b.node("Mul", nil, b.node("Sub", nil, input(b, s...), input(b, without(s)...)), input(b, without(s)[1:]...))
		},
		"constant": func(b *build, s model.Shape) string {
			return b.node("Mul", nil, b.normal(s...), b.node("Tanh", nil, input(b, s...)))
		},
		"quantised": func(b *build, s model.Shape) string {
			x := b.node("Add", nil, b.quantised(b.node("Neg", nil, input(b, s...)), model.I8, 1.0/64, 3), b.normal(s[len(s)-1]))
			return b.quantised(b.node("Sigmoid", nil, x), model.U8, 1.0/256, 0)
		},
	} {
		for _, s := range []model.Shape{{1, 3}, {5, 7}, {2, 3, 4, 100}, {3, 37, 130}, {1, 2, 5, 2050}, {700, 8}, {2, 300, 11}} {
			t.Run(name+" "+fmt.Sprint(s), func(t *testing.T) {
				b := newBuild(1)
				b.output(f(b, s))
				p := compiled(t, b.Graph, Options{})
				if !slices.ContainsFunc(p.Steps(), func(s Step) bool { return strings.Contains(s.Kernel, "+") }) {
					t.Fatalf("nothing was fused: %v", p.Steps())
				}
				got := runOnce(t, p, 1)[0]
				want := runOnce(t, compiled(t, b.Graph, Options{Observe: func(string, *model.Tensor) {}}), 1)[0]
				if !got.Shape.Equal(want.Shape) || !slices.Equal(got.F32(), want.F32()) {
					t.Errorf("%v, %g from the operators on their own", got.Shape, farthest(t, got, want))
				}
			})
		}
	}
}
