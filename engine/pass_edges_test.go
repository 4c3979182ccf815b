package engine

import (
	"fmt"
	"testing"
	"time"

	"dunlin/model"
)

// asWithoutPasses compiles g with all passes and with none, and fails where an
// output has another shape or type, or is farther off than a bound.
func asWithoutPasses(t *testing.T, g *model.Graph, bound float64, inputs ...*model.Tensor) {
	t.Helper()
	run := func(o Options) []*model.Tensor {
		s := compiled(t, g, o).NewSession()
		for i, x := range inputs {
			copy(s.Input(i).Data, x.Data)
		}
		if err := s.Run(); err != nil {
			t.Fatal(err)
		}
		var list []*model.Tensor
		for i := range g.Outputs {
			list = append(list, s.Output(i).Clone())
		}
		return list
	}
	got, want := run(Options{}), run(Options{Observe: func(string, *model.Tensor) {}})
	for i := range want {
		if d := farthest(t, got[i], want[i]); d > bound {
			t.Errorf("output %d is off by %g", i, d)
		}
	}
}

// oneHot is a look-up as exporters from JAX write it, of ids [shape..., 1].
func oneHot(b *build, ids *model.Tensor, table string, rows int) (value string) {
	b.typed("ids", ids.Type, ids.Shape...)
	count, err := model.NewTensor(ids.Type, rows)
	if err != nil {
		panic(err)
	}
	for i := range rows {
		count.Data[i*ids.Type.Size()] = byte(i)
	}
	hot := b.node("Cast", attrs{"to": int64(1)}, b.node("Equal", nil, "ids", b.constant(count)))
	return b.node("MatMul", nil, hot, table)
}

// What works along an axis is not computed for the table: it would work along
// another one.
func TestLookUpLeavesWhatWorksAlongAnAxis(t *testing.T) {
	ids := model.Of(model.I64, []int64{3, 0, 1, 1, 9, 2, 3, 2}, 1, 8, 1)
	for name, f := range map[string]func(b *build, x string) string{
		"softmax": func(b *build, x string) string { return b.node("Softmax", attrs{"axis": int64(1)}, x) },
		"gather":  func(b *build, x string) string { return b.node("Gather", attrs{"axis": int64(0)}, x, b.ints(0)) },
		"backwards": func(b *build, x string) string {
			return b.node("Slice", nil, x, b.ints(-1), b.ints(-100), b.ints(1), b.ints(-1))
		},
		"relu": func(b *build, x string) string { return b.node("Relu", nil, x) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBuild(1)
			b.output(b.node("Neg", nil, f(b, oneHot(b, ids, b.normal(4, 8), 4))))
			asWithoutPasses(t, b.Graph, 1e-6, ids)
		})
	}
}

func TestLookUpByBytes(t *testing.T) {
	ids := model.Of(model.U8, []uint8{3, 0, 200}, 3, 1)
	b := newBuild(1)
	b.output(oneHot(b, ids, b.normal(4, 8), 4))
	asWithoutPasses(t, b.Graph, 0, ids)
}

// A constant of more axes than x gives the result its axes.
func TestHardSwishOfMoreAxes(t *testing.T) {
	b := newBuild(1)
	x := b.input("x", 5)
	one := func(v float32) string { return b.constant(model.Of(model.F32, []float32{v}, 1, 1)) }
	y := b.node("Clip", nil, b.node("Add", nil, x, one(3)), b.scalar(0), b.scalar(6))
	b.output(b.node("Div", nil, b.node("Mul", nil, x, y), b.scalar(6)))
	asWithoutPasses(t, b.Graph, 1e-6, model.Of(model.F32, []float32{-4, -1, 0, 1, 9}, 5))
}

func TestDynamicProductOfMoreAxes(t *testing.T) {
	b := newBuild(1)
	out := []string{"q", "scale", "zero"}
	b.Nodes = append(b.Nodes, &model.Node{Op: "DynamicQuantizeLinear", Name: "quantise", In: []string{b.input("x", 2, 3)}, Out: out})
	w := b.constant(model.Of(model.I8, []int8{1, -2, 3, -4, 5, -6}, 3, 2))
	y := b.node("Cast", attrs{"to": int64(1)}, b.node("MatMulInteger", nil, "q", w, "zero"))
	b.output(b.node("Mul", nil, y, b.node("Reshape", nil, "scale", b.ints(1, 1, 1))))
	asWithoutPasses(t, b.Graph, 0, model.Of(model.F32, []float32{-4, -1, 0, 1, 9, 2}, 2, 3))
}

// Without a zero point the product takes the integers as they are.
func TestDynamicProductWithoutZero(t *testing.T) {
	b := newBuild(1)
	out := []string{"q", "scale", ""}
	b.Nodes = append(b.Nodes, &model.Node{Op: "DynamicQuantizeLinear", Name: "quantise", In: []string{b.input("x", 2, 3)}, Out: out})
	w := b.constant(model.Of(model.I8, []int8{1, -2, 3, -4, 5, -6}, 3, 2))
	y := b.node("Cast", attrs{"to": int64(1)}, b.node("MatMulInteger", nil, "q", w))
	b.output(b.node("Mul", nil, y, "scale"))
	asWithoutPasses(t, b.Graph, 0, model.Of(model.F32, []float32{-4, -1, 0, 1, 9, 2}, 2, 3))
}

// Scales, biases and bounds are no rows: what makes them stays outside.
func TestRowsReadParametersFromOutside(t *testing.T) {
	b := newBuild(1)
	scale := b.node("Relu", nil, b.input("s", 8))
	b.output(b.node("LayerNormalization", nil, b.node("Neg", nil, b.input("x", 8)), scale))
	s, x := make([]float32, 8), make([]float32, 8)
	for i := range s {
		s[i], x[i] = float32(i), float32(i*i%7)
	}
	asWithoutPasses(t, b.Graph, 0, model.Of(model.F32, s, 8), model.Of(model.F32, x, 8))

	b = newBuild(1)
	bound := b.node("Exp", nil, b.node("Neg", nil, b.input("s", 1)))
	b.output(b.node("Clip", nil, b.node("Abs", nil, b.input("x", 1)), bound))
	asWithoutPasses(t, b.Graph, 0, model.Of(model.F32, []float32{1}, 1), model.Of(model.F32, []float32{.1}, 1))
}

// Max and Min of one value are no pair.
func TestRowsOfOneOperand(t *testing.T) {
	b := newBuild(1)
	b.output(b.node("Min", nil, b.node("Neg", nil, b.node("Max", nil, b.input("x", 3, 2)))))
	asWithoutPasses(t, b.Graph, 0, model.Of(model.F32, []float32{1, 2, -3, 4, 0, 6}, 3, 2))
}

// Division by 0, and factors that pass the largest float, are not multiplied
// into weights: 0*Inf is NaN.
func TestBatchNormLeavesWhatIsNotFinite(t *testing.T) {
	for _, v := range []float32{0, 1e-40, -1e-39} {
		b := newBuild(1)
		b.Values["w"] = &model.Value{}
		b.AddConst("w", model.Of(model.F32, []float32{0, 2}, 1, 2, 1, 1))
		y := b.node("Conv", nil, b.input("x", 1, 2, 1, 2), "w")
		b.output(b.node("Div", nil, y, b.scalar(v)))
		s := compiled(t, b.Graph, Options{}).NewSession()
		copy(s.Input(0).F32(), []float32{1, 2, 3, -4})
		if err := s.Run(); err != nil {
			t.Fatal(err)
		}
		for i, x := range []float32{6, -8} {
			if got := s.Output(0).F32()[i]; got != x/v {
				t.Errorf("%g / %g is %g", x, v, got)
			}
		}
	}
}

// Constants that take an operator of quantised integers along the channels
// take it there in any layout.
func TestQuantisedConstantAlongChannels(t *testing.T) {
	b := newBuild(1)
	x := b.quantised(b.input("x", 1, 3, 4, 5), model.I8, 1.0/64, 0)
	y := b.quantised(b.node("Conv", nil, x, b.weights(0, 4, 3, 1, 1)), model.I8, 1.0/64, 0)
	c := b.node("DequantizeLinear", nil, b.constant(model.Of(model.I8, []int8{1, 20, -30, 100}, 4, 1, 1)), b.scalar(1.0/64), b.zero(model.I8, 0))
	y = b.quantised(b.node("Mul", nil, y, c), model.I8, 1.0/64, 0)
	b.output(b.quantised(b.node("Conv", nil, y, b.weights(0, 2, 4, 1, 1)), model.I8, 1.0/64, 0))
	in := make([]float32, 60)
	for i := range in {
		in[i] = float32(i%17-8) / 8
	}
	asWithoutPasses(t, b.Graph, 1.0/64, model.Of(model.F32, in, 1, 3, 4, 5))
}

// A constant that many read is turned, or scaled, no more than once.
func TestSharedConstantsAreNotMultiplied(t *testing.T) {
	b := newBuild(1)
	x, w, c := b.input("x", 1, 2, 3, 3), b.normal(2, 2, 1, 1), b.normal(2, 3, 3)
	for range 5 {
		x = b.node("Mul", nil, b.node("Conv", nil, x, w), b.scalar(.5))
		x = b.node("Add", nil, x, c)
	}
	b.output(x)
	for name, g := range map[string]*model.Graph{
		"scaled": apply(t, b.Graph, foldBatchNorm), "turned": apply(t, b.Graph, channelsLast),
	} {
		large := 0
		for _, v := range g.Values {
			if v.Const != nil && v.Const.Elements() > 2 {
				large++
			}
		}
		if large > 3 {
			t.Errorf("%s: %d constants of two\n%s", name, large, Text(g))
		}
	}
}

// What hostile graphs ask of the passes ends at once, or is refused.
func TestPassesAreBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("graphs of tens of thousands of nodes, compiled by one thread: no kernel and no CPU has a part in it")
	}
	for name, f := range map[string]func(b *build){
		"moves of many elements": func(b *build) {
			x := b.node("Transpose", attrs{"perm": []int64{0, 1, 2, 3}}, b.input("x", 1, 1, 1, 1<<20))
			b.output(b.node("Gather", attrs{"axis": int64(1)}, x, b.ints(make([]int64, 1<<11)...)))
		},
		"a long chain of moves": func(b *build) {
			x := b.input("x", 1, 2, 2, 1<<10)
			for range 2000 {
				x = b.node("Transpose", attrs{"perm": []int64{0, 2, 1, 3}}, b.node("Slice", nil, x, b.ints(0), b.ints(2), b.ints(1), b.ints(1)))
				x = b.node("Gather", attrs{"axis": int64(1)}, x, b.ints(1, 0))
			}
			b.output(x)
		},
		"a high power of nothing": func(b *build) {
			x := b.input("x", 4)
			y := b.node("Pow", nil, b.node("Sub", nil, x, x), b.scalar(2e9))
			b.output(b.node("Mul", nil, b.node("Tanh", nil, x), y))
		},
		"sums of sums": func(b *build) {
			x := b.input("x", 4)
			y := b.node("Tanh", nil, x)
			for range 10 {
				y = b.node("Add", nil, y, y)
			}
			sum := y
			for range 20000 {
				sum = b.node("Add", nil, sum, b.node("Mul", nil, y, y))
			}
			b.output(sum)
		},
		"a table looked up again and again": func(b *build) {
			ids := model.Of(model.I64, []int64{1}, 1, 1)
			table := b.normal(64, 1<<12)
			sum := oneHot(b, ids, table, 64)
			hot := b.Nodes[len(b.Nodes)-1].In[0]
			for range 600 {
				sum = b.node("Add", nil, sum, b.node("MatMul", nil, hot, table))
			}
			b.output(sum)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBuild(1)
			f(b)
			start := time.Now()
			_, err := Compile(b.Graph, Options{MaxMemory: 64 << 20, Threads: 1})
			t.Logf("%v: %v", time.Since(start), err)
		})
	}
}

// A graph of very many small nodes is compiled in time that grows with their
// number, not with its square.
func TestManyNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("50,000 nodes")
	}
	for name, f := range map[string]func(b *build, i int, x, y string) string{
		"identities": func(b *build, _ int, x, _ string) string { return b.node("Identity", nil, x) },
		"pairs":      func(b *build, _ int, x, y string) string { return b.node("Add", nil, x, b.node("Sigmoid", nil, y)) },
		"products": func(b *build, i int, x, _ string) string {
			if i%2 == 0 {
				return b.node("MatMul", nil, x, "w")
			}
			return b.node("Neg", nil, x)
		},
		"far": func(b *build, i int, x, y string) string {
			if i%3 == 0 {
				return b.node("MatMul", nil, b.node("Add", nil, x, b.node("Sigmoid", nil, y)), "w")
			}
			return b.node("Sub", nil, b.node("MatMul", nil, y, "w"), x)
		},
		"one bias": func(b *build, _ int, x, _ string) string {
			return b.node("Add", nil, b.node("MatMul", nil, x, "w"), "v")
		},
		"convolutions": func(b *build, i int, x, _ string) string {
			if i == 0 {
				x = b.node("Reshape", nil, x, b.ints(1, 2, 2, 1))
			}
			x = b.node("Add", nil, b.node("Conv", nil, x, "k"), b.node("Sigmoid", nil, x))
			return b.node("Mul", nil, x, "k3")
		},
		"turns": func(b *build, _ int, x, _ string) string {
			return b.node("Relu", nil, b.node("Transpose", attrs{"perm": []int64{1, 0}}, x))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBuild(1)
			x := b.input("x", 2, 2)
			b.AddConst("w", model.Of(model.F32, []float32{1, 0, 0, 1}, 2, 2))
			b.AddConst("v", model.Of(model.F32, []float32{1, 2}, 2))
			b.AddConst("k", model.Of(model.F32, []float32{1, 0, 0, 1}, 2, 2, 1, 1))
			b.AddConst("k3", model.Of(model.F32, []float32{1, 2}, 2, 1, 1))
			y := x
			for i := range 50000 {
				x, y = f(b, i, x, y), x
				if len(b.Nodes) >= 50000 {
					break
				}
			}
			b.output(x)
			start := time.Now()
			if _, err := Compile(b.Graph, Options{Threads: 1}); err != nil {
				t.Fatal(err)
			}
			t.Log(fmt.Sprint(len(b.Nodes), " nodes in ", time.Since(start)))
		})
	}
}
