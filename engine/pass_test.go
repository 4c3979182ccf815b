package engine

import (
	"math"
	"slices"
	"testing"

	"dunlin/kernels"
	"dunlin/model"
)

// apply runs passes on g with a check after each, as Compile does.
func apply(t *testing.T, g *model.Graph, list ...func(*compiler, *model.Graph) (*model.Graph, error)) *model.Graph {
	t.Helper()
	c := &compiler{budget: &budget{limit: 1 << 30}, target: kernels.Target{Exact: quantised(g)}}
	g, err := bindInputs(g, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.infer(g) // shapes that only folding tells are an error here
	for _, f := range list {
		before := Text(g)
		next, err := f(c, g)
		if err != nil {
			t.Fatal(err)
		}
		if after := Text(g); after != before {
			t.Errorf("a pass changed its input:\n%s\n%s", before, after)
		}
		next.Prune()
		if err := next.Check(); err != nil {
			t.Fatal(err)
		}
		if err := c.infer(next); err != nil {
			t.Fatal(err)
		}
		g = next
	}
	return g
}

func wantOps(t *testing.T, g *model.Graph, want ...string) {
	t.Helper()
	if got := ops(g); !slices.Equal(got, want) {
		t.Errorf("operators %v, want %v\n%s", got, want, Text(g))
	}
}

func TestDrop(t *testing.T) {
	b := newBuild(1)
	x := b.node("Identity", nil, b.input("x", 2))
	y := b.node("Dropout", nil, b.node("Relu", nil, b.node("Identity", nil, x)))
	b.output(y)
	g := apply(t, b.Graph, dropNothings)
	wantOps(t, g, "Relu")
	if g.Nodes[0].In[0] != "x" || g.Nodes[0].Out[0] != y {
		t.Errorf("the Relu goes from %v to %v", g.Nodes[0].In, g.Nodes[0].Out)
	}
}

func TestFold(t *testing.T) {
	b := newBuild(1)
	x := b.input("x", 2, 3, 4)
	batch := b.node("Gather", attrs{"axis": int64(0)}, b.node("Shape", nil, x), b.constant(model.Of(model.I64, []int64{0})))
	shape := b.node("Concat", attrs{"axis": int64(0)}, b.node("Unsqueeze", nil, batch, b.ints(0)), b.ints(-1))
	half := b.constant(model.Of(model.F16, []uint16{0x3c00, 0xc000}, 2))
	weights := b.node("DequantizeLinear", nil, b.constant(model.Of(model.I8, []int8{4}, 1)), b.scalar(0.5))
	b.output(b.node("Reshape", nil, x, shape), b.node("Cast", attrs{"to": int64(1)}, half), weights)
	g := apply(t, b.Graph, foldShapes)
	wantOps(t, g, "DequantizeLinear", "Reshape")
	if got := g.Value(g.Outputs[0]).Shape; !got.Equal(model.Shape{2, 12}) {
		t.Errorf("shape %v", got)
	}
	if got := g.Const(g.Outputs[1]).F32(); !slices.Equal(got, []float32{1, -2}) {
		t.Errorf("half precision constants become %v", got)
	}
	g = apply(t, b.Graph, foldWeights)
	if got := g.Const(g.Outputs[2]).F32(); !slices.Equal(got, []float32{2}) {
		t.Errorf("integers become %v", got)
	}
}

func TestFoldBatchNorm(t *testing.T) {
	b := newBuild(1)
	x := b.input("x", 1, 2, 3, 3)
	y := b.node("Conv", nil, x, b.normal(4, 2, 1, 1))
	y = b.node("BatchNormalization", nil, y, b.normal(4), b.normal(4), b.normal(4), b.positive(4))
	z := b.node("Relu", nil, y)
	b.output(b.node("BatchNormalization", nil, z, b.normal(4), b.normal(4), b.normal(4), b.positive(4)))
	g := apply(t, b.Graph, foldBatchNorm)
	wantOps(t, g, "Conv", "Relu", "BatchNormalization")
	b.output(b.Nodes[0].Out[0]) // now the convolution itself is wanted
	wantOps(t, apply(t, b.Graph, foldBatchNorm), "Conv", "BatchNormalization", "Relu", "BatchNormalization")
}

func TestFuse(t *testing.T) {
	b := newBuild(1)
	x := b.input("x", 1, 2, 3, 3)
	y := b.node("Add", nil, b.normal(4, 1, 1), b.node("Conv", nil, x, b.normal(4, 2, 1, 1)))
	y = b.node("Clip", nil, b.node("Relu", nil, y), "", b.scalar(6))
	y = b.node("Reshape", nil, y, b.ints(1, -1))
	y = b.node("Add", nil, b.node("MatMul", nil, y, b.normal(36, 5)), b.normal(5))
	b.output(b.node("Relu", nil, y))
	g := apply(t, b.Graph, fuseActivations)
	wantOps(t, g, "dunlin.Conv", "Reshape", "dunlin.Gemm")
	if c := clamp(g.Nodes[0]); c != (kernels.Clamp{Min: 0, Max: 6}) {
		t.Errorf("bounds %v", c)
	}
	if g.Nodes[0].Input(2) == "" || g.Nodes[2].Input(2) == "" {
		t.Error("a bias is not taken in")
	}
}

func TestResidual(t *testing.T) {
	b := newBuild(1)
	x := b.input("x", 1, 4, 3, 3)
	conv := func(x string) string { return b.node("Conv", nil, x, b.normal(4, 4, 1, 1), b.normal(4)) }
	first := conv(x)
	y := b.node("Relu", nil, b.node("Add", nil, conv(first), conv(x))) // the second of them takes it in
	y = b.node("Add", nil, y, conv(y))
	b.output(b.node("Add", nil, y, b.node("Relu", nil, conv(y)))) // what has bounds before the Add does not
	grouped := b.node("Conv", map[string]model.Attr{"group": int64(4)}, x, b.normal(4, 1, 1, 1))
	b.output(b.node("Add", nil, grouped, x)) // nor does a depthwise one
	g := apply(t, b.Graph, fuseActivations, fuseResiduals)
	wantOps(t, g, "dunlin.Conv", "dunlin.Conv", "dunlin.Conv", "dunlin.Conv", "dunlin.Conv", "Add", "dunlin.Conv", "Add")
	for i, want := range []string{"", g.Nodes[1].Out[0], g.Nodes[2].Out[0], ""} {
		if got := g.Nodes[i+1].Input(3); got != want {
			t.Errorf("convolution %d adds %q, want %q", i+1, got, want)
		}
	}
	if c := clamp(g.Nodes[2]); c.Min != 0 {
		t.Errorf("bounds %v of the sum", c)
	}
}

func TestSigned(t *testing.T) {
	b := newBuild(1)
	x := b.quantised(b.input("x", 4), model.U8, 0.5, 128)
	w := b.node("DequantizeLinear", nil, b.constant(model.Of(model.U8, []uint8{0, 128, 255, 1}, 4)), b.scalar(1))
	b.output(b.node("Add", nil, x, w))
	g := apply(t, b.Graph, makeSigned)
	wantOps(t, g, "QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Add")
	if v := g.Value(g.Nodes[0].Out[0]); v.Type != model.I8 {
		t.Errorf("the activation is %v", v.Type)
	}
	if q, ok := perTensor(g, g.Nodes[0]); !ok || q.zero != 0 {
		t.Errorf("zero point %d, want 0", q.zero)
	}
	if got := g.Const(g.Nodes[2].In[0]).I8(); !slices.Equal(got, []int8{-128, 0, 127, -127}) {
		t.Errorf("constant %v", got)
	}
	if q, ok := perTensor(g, g.Nodes[2]); !ok || q.zero != -128 {
		t.Errorf("a zero point left out becomes %d, want -128", q.zero)
	}
}

func TestSignedAtTheBorders(t *testing.T) {
	b := newBuild(1)
	b.typed("x", model.U8, 4)
	s, z := b.scalar(0.5), b.zero(model.U8, 7)
	y := b.node("Relu", nil, b.node("DequantizeLinear", nil, "x", s, z))
	b.output(b.node("QuantizeLinear", nil, y, s, z))
	wantOps(t, apply(t, b.Graph, makeSigned), "dunlin.FlipSign", "DequantizeLinear", "Relu", "QuantizeLinear", "dunlin.FlipSign")
}

// A uint8 value that something else reads stays as it is.
func TestSignedLeavesOthers(t *testing.T) {
	b := newBuild(1)
	q := b.node("QuantizeLinear", nil, b.input("x", 4), b.scalar(0.5), b.zero(model.U8, 7))
	b.output(b.node("DequantizeLinear", nil, q, b.scalar(0.5), b.zero(model.U8, 7)), b.node("Cast", attrs{"to": int64(6)}, q))
	g := apply(t, b.Graph, makeSigned)
	if v := g.Value(q); v.Type != model.U8 {
		t.Errorf("it became %v", v.Type)
	}
}

func TestSink(t *testing.T) {
	b := newBuild(1)
	x := b.quantised(b.input("x", 1, 2, 4, 4), model.I8, 0.5, 3)
	y := b.node("MaxPool", attrs{"kernel_shape": []int64{2, 2}}, x)
	y = b.node("Concat", attrs{"axis": int64(1)}, y, y)
	b.output(b.node("Flatten", nil, y))
	g := apply(t, b.Graph, sinkDequantize)
	wantOps(t, g, "QuantizeLinear", "MaxPool", "Concat", "Flatten", "DequantizeLinear")
}

func TestToInteger(t *testing.T) {
	g := apply(t, integerNet(1, model.U8), foldShapes, makeSigned, sinkDequantize, toInteger)
	for _, n := range g.Nodes {
		switch n.Op {
		case "Conv", "Gemm", "MatMul", "Add", "AveragePool", "GlobalAveragePool", "Relu", "Clip":
			t.Errorf("%s (%s) stays: %s", n.Name, n.Op, n.Str(whyFloat, ""))
		}
	}
	// The Relu is in the bounds: real 0 is the zero point, -128.
	first := attrsOf(g.Nodes[slices.Index(ops(g), "dunlin.QConv")])
	if first.lo != -128 || first.yZero != -128 || first.xZero != 3 {
		t.Errorf("attributes %+v", first)
	}
}

// Without a QuantizeLinear behind it a product ends in floats.
func TestToIntegerEndsInFloats(t *testing.T) {
	b := newBuild(1)
	x := b.quantised(b.input("x", 2, 6), model.I8, 1.0/64, 3)
	y := b.node("Gemm", attrs{"transB": int64(1)}, x, b.weights(0, 5, 6), b.bias(5, 1.0/64))
	b.output(y, b.node("Relu", nil, y))
	wantOps(t, apply(t, b.Graph, sinkDequantize, toInteger), "QuantizeLinear", "dunlin.QGemm", "Relu")
	got, want := runOnce(t, compiled(t, b.Graph, Options{}), 1), runOnce(t, plain(t, b.Graph), 1)
	if d := farthest(t, got[0], want[0]); d > 1e-4 {
		t.Errorf("off by %g", d)
	}
}

// Scales that no integer kernel can use leave the node in float.
func TestToIntegerRefuses(t *testing.T) {
	for name, c := range map[string]struct{ axis int }{"scales along the inputs": {1}} {
		b := newBuild(1)
		x := b.quantised(b.input("x", 1, 3, 4, 4), model.I8, 1.0/64, 3)
		y := b.node("Conv", nil, x, b.weights(c.axis, 4, 3, 1, 1))
		b.output(b.quantised(y, model.I8, 0.25, 0))
		g := apply(t, b.Graph, sinkDequantize, toInteger)
		if i := slices.Index(ops(g), "Conv"); i < 0 || g.Nodes[i].Str(whyFloat, "") == "" {
			t.Errorf("%s: %v", name, ops(g))
		}
		compiled(t, b.Graph, Options{})
	}
}

func TestChannelsLast(t *testing.T) {
	b := newBuild(1)
	x := b.input("x", 1, 3, 6, 6)
	y := b.node("Conv", nil, x, b.normal(4, 3, 3, 3))
	y = b.node("Sigmoid", nil, b.node("Add", nil, y, b.normal(4, 1, 1)))
	y = b.node("MaxPool", attrs{"kernel_shape": []int64{2, 2}}, y)
	b.output(b.node("Conv", nil, y, b.normal(2, 4, 1, 1)))
	g := apply(t, b.Graph, channelsLast)
	wantOps(t, g, "Transpose", "Conv", "Add", "Sigmoid", "MaxPool", "Conv", "Transpose")
	g = apply(t, b.Graph, channelsLastEach)
	wantOps(t, g, "Transpose", "Conv", "Transpose", "Add", "Sigmoid", "Transpose", "MaxPool", "Conv", "Transpose")
}

// A model that is in NHWC already, with a Transpose at each border, needs
// none.
func TestChannelsLastCancels(t *testing.T) {
	b := newBuild(1)
	x := b.node("Transpose", attrs{"perm": toSecond(4)}, b.input("x", 1, 6, 6, 3))
	y := b.node("Relu", nil, b.node("Conv", nil, x, b.normal(4, 3, 3, 3)))
	b.output(b.node("Reshape", nil, b.node("Transpose", attrs{"perm": toLast(4)}, y), b.ints(-1, 4)))
	wantOps(t, apply(t, b.Graph, channelsLast), "Conv", "Relu", "Reshape")
	got, want := runOnce(t, compiled(t, b.Graph, Options{}), 1), runOnce(t, plain(t, b.Graph), 1)
	if d := farthest(t, got[0], want[0]); d > 1e-5 {
		t.Errorf("off by %g", d)
	}
}

// A picture is quantised and brought to NHWC in one step; what others read in
// between stays.
func TestPlanes(t *testing.T) {
	for _, c := range []struct {
		channels int
		read     bool
		want     []string
	}{
		{3, false, []string{"dunlin.QuantizePlanes", "MaxPool", "DequantizeLinear", "Transpose"}},
		{kernels.MaxPlanes + 1, false, []string{"QuantizeLinear", "Transpose", "MaxPool", "DequantizeLinear", "Transpose"}},
		{3, true, []string{"QuantizeLinear", "Transpose", "MaxPool", "DequantizeLinear", "Transpose"}},
	} {
		b := newBuild(1)
		q := b.node("QuantizeLinear", nil, b.input("x", 2, c.channels, 5, 7), b.scalar(0.5), b.zero(model.I8, 3))
		y := b.node("MaxPool", attrs{"kernel_shape": []int64{2, 2}}, b.node("DequantizeLinear", nil, q, b.scalar(0.5), b.zero(model.I8, 3)))
		b.output(y)
		if c.read {
			b.output(q)
		}
		wantOps(t, apply(t, b.Graph, sinkDequantize, channelsLast, joinPlanes), c.want...)
		got, want := runOnce(t, compiled(t, b.Graph, Options{}), 1), runOnce(t, plain(t, b.Graph), 1)
		for i := range want {
			if !slices.Equal(got[i].Data, want[i].Data) {
				t.Errorf("%d channels: output %d differs", c.channels, i)
			}
		}
	}
}

func TestCast(t *testing.T) {
	inf := float32(math.Inf(1))
	in := model.Of(model.F32, []float32{1.9, -1.9, inf, -inf, float32(math.NaN()), 3e9}, 6)
	i32, i64 := model.Of(model.I32, make([]int32, 6), 6), model.Of(model.I64, make([]int64, 6), 6)
	castTensor(i32, in)
	castTensor(i64, in)
	if want := []int32{1, -1, math.MaxInt32, math.MinInt32, 0, math.MaxInt32}; !slices.Equal(i32.I32(), want) {
		t.Errorf("int32 %v, want %v", i32.I32(), want)
	}
	if want := []int64{1, -1, math.MaxInt64, math.MinInt64, 0, 3e9}; !slices.Equal(i64.I64(), want) {
		t.Errorf("int64 %v, want %v", i64.I64(), want)
	}
}

// The rules of numpy for start:end:step over 5 elements.
func TestSliceOf(t *testing.T) {
	for _, c := range []struct{ start, end, step, first, count int64 }{
		{0, 5, 1, 0, 5},
		{1, 4, 2, 1, 2},
		{-2, math.MaxInt64, 1, 3, 2},
		{4, math.MinInt64, -1, 4, 5},
		{4, -1, -1, 0, 0},
		{3, 1, 1, 0, 0},
		{-100, 100, 3, 0, 2},
		{100, -100, -2, 4, 3},
	} {
		if first, count := sliceOf(5, c.start, c.end, c.step); int64(count) != c.count || (count > 0 && int64(first) != c.first) {
			t.Errorf("%d:%d:%d gives %d from %d, want %d from %d", c.start, c.end, c.step, count, first, c.count, c.first)
		}
	}
}

func TestPlaceMeetsTheBound(t *testing.T) {
	b := newBuild(3)
	for range 200 {
		var list []*buffer
		steps := 2 + b.r.IntN(20)
		for range 1 + b.r.IntN(30) {
			born := b.r.IntN(steps)
			list = append(list, &buffer{bytes: 1 + b.r.IntN(1000), born: born, dies: min(steps-1, born+b.r.IntN(4))})
		}
		total := place(list)
		for i, x := range list {
			if x.offset%model.Alignment != 0 || x.offset+x.bytes > total {
				t.Fatalf("buffer at %d of %d bytes in %d", x.offset, x.bytes, total)
			}
			for _, y := range list[:i] {
				if x.born <= y.dies && y.born <= x.dies && x.offset < y.offset+y.bytes && y.offset < x.offset+x.bytes {
					t.Fatalf("%+v and %+v overlap", *x, *y)
				}
			}
		}
		if bound := lowerBound(list, steps); total < bound {
			t.Fatalf("%d bytes, less than the bound %d", total, bound)
		}
	}
}
