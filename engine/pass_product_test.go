package engine

import (
	"fmt"
	"slices"
	"testing"

	"dunlin/model"
)

// attention is two products with the transposes that exporters write: heads
// of d values from x [1, s, heads*d], twice.
func attention(heads, d int) *build {
	b := newBuild(1)
	x := b.input("x", 1, 5, heads*d)
	split := func(perm ...int64) string {
		return b.node("Transpose", attrs{"perm": perm}, b.node("Reshape", nil, x, b.ints(1, 5, int64(heads), int64(d))))
	}
	s := b.node("MatMul", nil, split(0, 2, 1, 3), split(0, 2, 3, 1))
	y := b.node("Transpose", attrs{"perm": []int64{0, 2, 1, 3}}, b.node("MatMul", nil, s, split(0, 2, 1, 3)))
	b.output(b.node("Reshape", nil, y, b.ints(1, 5, -1)))
	return b
}

func TestFoldTransposes(t *testing.T) {
	g := apply(t, attention(3, 4).Graph, foldTransposes)
	wantOps(t, g, "Reshape", "Reshape", "dunlin.MatMul", "Reshape", "dunlin.MatMul", "Reshape")
	n := g.Nodes[2]
	if !slices.Equal(n.Ints(turnA), []int64{0, 2, 1, 3}) || !slices.Equal(n.Ints(turnB), []int64{0, 2, 3, 1}) || n.Attrs[turnOut] != nil {
		t.Errorf("scores are %v", n.Attrs)
	}
	if n = g.Nodes[4]; n.Attrs[turnA] != nil || !slices.Equal(n.Ints(turnOut), []int64{0, 2, 1, 3}) {
		t.Errorf("values are %v", n.Attrs)
	}
}

// A transpose stays where the columns of the result would not lie side by
// side, and where something else reads what it reads.
func TestFoldTransposesLeaves(t *testing.T) {
	b := newBuild(1)
	y := b.node("MatMul", nil, b.input("x", 2, 3), b.input("w", 3, 4))
	b.output(b.node("Transpose", nil, y))
	wantOps(t, apply(t, b.Graph, foldTransposes), "MatMul", "Transpose")

	b = attention(1, 4)
	b.output(b.Nodes[4].Out[0])
	g := apply(t, b.Graph, foldTransposes)
	if n := g.Nodes[2]; n.Op != "dunlin.MatMul" || !slices.Contains(g.Outputs, n.Out[0]) {
		t.Errorf("%v", ops(g))
	}
}

// Products of every rank give what they do without any pass. Inputs are few
// multiples of 1/64, so that no sum is rounded.
func TestProductsAreTheSame(t *testing.T) {
	type operand struct {
		shape []int
		perm  []int64
	}
	for _, c := range []struct {
		a, b operand
		out  []int64
	}{
		{a: operand{shape: []int{2, 3, 4, 5}}, b: operand{shape: []int{2, 3, 5, 6}}},
		{a: operand{shape: []int{2, 3, 4, 5}}, b: operand{shape: []int{5, 6}}},
		{a: operand{shape: []int{1, 3, 4, 5}}, b: operand{shape: []int{2, 1, 5, 6}}},
		{a: operand{shape: []int{4, 5}}, b: operand{shape: []int{2, 5, 6}}},
		{a: operand{shape: []int{5}}, b: operand{shape: []int{2, 5, 6}}},
		{a: operand{shape: []int{2, 4, 5}}, b: operand{shape: []int{5}}},
		{a: operand{shape: []int{5}}, b: operand{shape: []int{5}}},
		{a: operand{[]int{2, 7, 3, 5}, []int64{0, 2, 1, 3}}, b: operand{[]int{2, 6, 3, 5}, []int64{0, 2, 3, 1}}, out: []int64{0, 2, 1, 3}},
		{a: operand{[]int{5, 7}, []int64{1, 0}}, b: operand{[]int{6, 5}, []int64{1, 0}}},
		{a: operand{[]int{7, 5, 3}, []int64{2, 0, 1}}, b: operand{[]int{5, 3, 6}, []int64{1, 0, 2}}, out: []int64{1, 0, 2}},
		{a: operand{[]int{7, 5, 3}, []int64{2, 0, 1}}, b: operand{[]int{5, 6}, nil}, out: []int64{2, 0, 1}},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			b := newBuild(1)
			turn := func(x string, perm []int64) string {
				if perm == nil {
					return x
				}
				return b.node("Transpose", attrs{"perm": perm}, x)
			}
			y := b.node("MatMul", nil, turn(b.input("a", c.a.shape...), c.a.perm), turn(b.input("b", c.b.shape...), c.b.perm))
			b.output(turn(y, c.out))
			got := runOnce(t, compiled(t, b.Graph, Options{}), 1)[0]
			want := runOnce(t, compiled(t, b.Graph, Options{Observe: func(string, *model.Tensor) {}, Kernels: "generic"}), 1)[0]
			if !got.Shape.Equal(want.Shape) || !slices.Equal(got.F32(), want.F32()) {
				t.Errorf("%v %v, want %v %v", got.Shape, got.F32(), want.Shape, want.F32())
			}
		})
	}
}

// The bias of a product of rows with more axes before them is taken in.
func TestFuseBiasOfManyAxes(t *testing.T) {
	b := newBuild(1)
	y := b.node("Add", nil, b.node("MatMul", nil, b.input("x", 2, 3, 4), b.normal(4, 5)), b.normal(5))
	b.output(b.node("Relu", nil, y))
	g := apply(t, b.Graph, fuseActivations)
	wantOps(t, g, "dunlin.Gemm")
	if s := g.Value(g.Outputs[0]).Shape; !s.Equal(model.Shape{2, 3, 5}) {
		t.Errorf("shape %v", s)
	}
	got, want := runOnce(t, compiled(t, b.Graph, Options{}), 1)[0], runOnce(t, compiled(t, b.Graph, Options{Kernels: "generic"}), 1)[0]
	if d := farthest(t, got, want); !(d < 1e-5) {
		t.Errorf("%g from the definition", d)
	}
}
