package engine

import (
	"slices"
	"testing"

	"dunlin/model"
)

// randomNet is a few dozen operators, drawn with b's numbers, over values of
// one shape; some are read again much later, and some are outputs.
func randomNet(seed uint64, integers bool) *model.Graph {
	b := newBuild(seed)
	shape := []int{2, 1 + b.r.IntN(5), 1 + b.r.IntN(9)}
	last := shape[2]
	values := []string{b.input("x", shape...), b.input("y", shape...)}
	pick := func() string { return values[max(0, len(values)-1-b.r.IntN(6))] }
	operand := func() string {
		switch b.r.IntN(4) {
		case 0:
			return b.scalar(float32(1+b.r.IntN(4)) / 2)
		case 1:
			return b.normal(last)
		case 2:
			return b.normal(1, shape[1], 1)
		}
		return pick()
	}
	for range 12 + b.r.IntN(24) {
		x := pick()
		switch b.r.IntN(10) {
		case 0:
			x = b.node([]string{"Relu", "Sigmoid", "Tanh", "Neg", "Identity"}[b.r.IntN(5)], nil, x)
		case 1, 2, 3:
			x = b.node("Tanh", nil, b.node([]string{"Add", "Sub", "Mul", "Max"}[b.r.IntN(4)], nil, x, operand()))
		case 4:
			x = b.node("Softmax", attrs{"axis": int64(b.r.IntN(3))}, x)
		case 5:
			x = b.node("LayerNormalization", nil, x, b.normal(last), b.normal(last))
			x = b.node("Tanh", nil, x)
		case 6:
			x = b.node("Tanh", nil, b.node("Add", nil, b.node("MatMul", nil, x, b.normal(last, last)), b.normal(last)))
		case 7:
			x = b.node("Transpose", attrs{"perm": []int64{0, 2, 1}}, x)
			x = b.node("Transpose", attrs{"perm": []int64{0, 2, 1}}, b.node("Clip", nil, x, b.scalar(-1), b.scalar(1)))
		case 8:
			x = b.node("Div", nil, x, b.scalar(float32(1+b.r.IntN(9))))
		case 9:
			if integers {
				x = b.quantised(x, model.I8, 1.0/32, b.r.IntN(9)-4)
			}
		}
		values = append(values, x)
	}
	if integers { // so that there are some
		values = append(values, b.quantised(pick(), model.U8, 1.0/64, 100))
	}
	b.output(values[len(values)-1], pick())
	if b.Outputs[0] == b.Outputs[1] {
		b.Outputs = b.Outputs[:1]
	}
	return b.Graph
}

// All passes, in whatever order they meet operators, leave answers as they
// are; parts and tiers do, bit for bit, where they must.
func TestPassesKeepRandomNets(t *testing.T) {
	threaded(t)
	seeds := uint64(150)
	if testing.Short() {
		seeds = 50
	}
	for seed := range seeds {
		for _, integers := range []bool{false, true} {
			g := randomNet(seed, integers)
			got := runOnce(t, compiled(t, g, Options{Threads: 1}), seed)
			same := []Options{{parts: 3}}
			if integers {
				same = append(same, Options{Kernels: "generic", Threads: 1})
			}
			for _, o := range same {
				for i, out := range runOnce(t, compiled(t, g, o), seed) {
					if !slices.Equal(out.Data, got[i].Data) {
						t.Errorf("seed %d, integers %v: output %d differs with %q in %d parts\n%s", seed, integers, i, o.Kernels, o.parts, Text(g))
					}
				}
			}
			if integers {
				continue // a step of an integer, where a product rounds otherwise, grows on its way
			}
			for i, want := range runOnce(t, plain(t, g), seed) {
				// 1e-7 a rounding, which some tens of operators of slopes below 10 pass on.
				if d := farthest(t, got[i], want); d > 1e-3 {
					t.Errorf("seed %d: output %d is off by %g\n%s", seed, i, d, Text(g))
				}
			}
		}
	}
}
