package engine

import (
	"fmt"
	"slices"
	"testing"

	"dunlin/model"
)

// rotated is rotary position embedding of pairs of x, whose shape is s, by
// angles of that shape.
func rotated(b *build, s, angles []int) string {
	n := b.node("Split", attrs{"axis": int64(-1), "num_outputs": int64(2)}, b.input("x", s...))
	split := b.Nodes[len(b.Nodes)-1]
	split.Out = []string{n, n + "_b"}
	b.Values[n+"_b"] = &model.Value{}
	cos, sin := b.normal(angles...), b.normal(angles...)
	less := b.node("Sub", nil, b.node("Mul", nil, n, cos), b.node("Mul", nil, sin, n+"_b"))
	sum := b.node("Add", nil, b.node("Mul", nil, n+"_b", cos), b.node("Mul", nil, n, sin))
	return b.node("Concat", attrs{"axis": int64(len(s) - 1)}, less, sum)
}

func TestMakeRotations(t *testing.T) {
	for _, c := range [][2][]int{
		{{1, 5, 3, 4, 2}, {1, 5, 1, 4, 1}}, {{2, 3, 5, 8}, {5, 4}}, {{2, 3, 5, 8}, {1}}, {{6}, {3}}, {{2}, {1}},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			b := newBuild(1)
			b.output(rotated(b, c[0], c[1]))
			wantOps(t, apply(t, b.Graph, makeRotations), "dunlin.Rotate")
			got := runOnce(t, compiled(t, b.Graph, Options{}), 1)[0]
			want := runOnce(t, compiled(t, b.Graph, Options{Observe: func(string, *model.Tensor) {}}), 1)[0]
			if !got.Shape.Equal(want.Shape) || !slices.Equal(got.F32(), want.F32()) {
				t.Errorf("%g from the parts", farthest(t, got, want))
			}
		})
	}
}

// With the angles the other way round it is no rotation.
func TestMakeRotationsLeaves(t *testing.T) {
	b := newBuild(1)
	b.output(rotated(b, []int{2, 3, 8}, []int{4}))
	for _, n := range b.Nodes {
		if n.Op == "Sub" {
			n.In[0], n.In[1] = n.In[1], n.In[0]
		}
	}
	if got := ops(apply(t, b.Graph, makeRotations)); slices.Contains(got, "dunlin.Rotate") {
		t.Errorf("operators %v", got)
	}
}
