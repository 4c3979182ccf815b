package engine

import (
	"fmt"
	"slices"
	"testing"

	"dunlin/model"
)

// dynamicNet is layers of widths n whose input is quantised in the run; the
// weights are of type t, with a zero point for each column where zeros is set.
func dynamicNet(t model.DType, zeros bool, n ...int) *build {
	b := newBuild(3)
	x := b.node("Tanh", nil, b.input("x", 2, 3, n[0]))
	q := b.node("DynamicQuantizeLinear", nil, x)
	n0 := b.Nodes[len(b.Nodes)-1]
	n0.Out = []string{q, q + "_scale", q + "_zero"}
	for _, o := range n0.Out {
		b.Values[o] = &model.Value{}
	}
	for i, width := range n[1:] {
		w, err := model.NewTensor(t, n[0], width)
		if err != nil {
			panic(err)
		}
		z, _ := model.NewTensor(t, width)
		for j := range w.Data {
			w.Data[j] = byte(b.r.IntN(256))
		}
		for j := range z.Data {
			z.Data[j] = byte(b.r.IntN(256))
		}
		in := []string{q, b.constant(w), n0.Out[2]}
		if zeros {
			in = append(in, b.constant(z))
		}
		scale := b.scalar(1.0 / 512)
		if i%2 == 1 {
			scale = b.normal(width)
		}
		sum := b.node("Cast", attrs{"to": int64(1)}, b.node("MatMulInteger", nil, in...))
		b.output(b.node("Add", nil, b.node("Mul", nil, sum, b.node("Mul", nil, n0.Out[1], scale)), b.normal(width)))
	}
	return b
}

func TestFuseDynamic(t *testing.T) {
	b := dynamicNet(model.I8, false, 8, 4, 5)
	wantOps(t, apply(t, b.Graph, fuseDynamic), "Tanh", "dunlin.DynamicQuantize", "Mul", "dunlin.DynamicGemm", "Add", "Mul", "dunlin.DynamicGemm", "Add")

	q := b.Nodes[1].Out[0]
	b.output(b.node("Cast", attrs{"to": int64(1)}, q)) // now the integers themselves are wanted
	g := apply(t, b.Graph, fuseDynamic)
	if !slices.Contains(ops(g), "MatMulInteger") || slices.Contains(ops(g), "dunlin.DynamicGemm") {
		t.Errorf("operators %v", ops(g))
	}
}

// The products are those of the graph without passes, bit for bit.
func TestDynamicIsTheSame(t *testing.T) {
	for _, dtype := range []model.DType{model.I8, model.U8} {
		for _, zeros := range []bool{false, true} {
			t.Run(fmt.Sprint(dtype, zeros), func(t *testing.T) {
				g := dynamicNet(dtype, zeros, 37, 1, 16, 70).Graph
				got := runOnce(t, compiled(t, g, Options{}), 1)
				want := runOnce(t, compiled(t, g, Options{Observe: func(string, *model.Tensor) {}, Kernels: "generic"}), 1)
				for i := range want {
					if !slices.Equal(got[i].F32(), want[i].F32()) {
						t.Errorf("output %d is %g off", i, farthest(t, got[i], want[i]))
					}
				}
			})
		}
	}
}
