package engine

import (
	"math"
	"testing"

	"dunlin/model"
)

// one compiles a graph of one node that reads these tensors as inputs, or as
// constants, and runs it. nil stands for an input left out.
func one(t testing.TB, op string, a attrs, outs int, constants bool, in ...*model.Tensor) []*model.Tensor {
	t.Helper()
	b := newBuild(1)
	n := &model.Node{Op: op, Name: "node", Attrs: a}
	var inputs []*model.Tensor
	for i, x := range in {
		switch {
		case x == nil:
			n.In = append(n.In, "")
		case constants && i > 0:
			n.In = append(n.In, b.constant(x))
		default:
			name := string(rune('a' + i))
			b.typed(name, x.Type, append([]int{}, x.Shape...)...)
			n.In, inputs = append(n.In, name), append(inputs, x)
		}
	}
	for i := range outs {
		n.Out = append(n.Out, string(rune('p'+i)))
	}
	b.Nodes = append(b.Nodes, n)
	b.output(n.Out...)
	return feed(t, compiled(t, b.Graph, Options{}).NewSession(), inputs...)
}

// both runs a node with its operands computed and constant.
func both(t testing.TB, op string, a attrs, want *model.Tensor, in ...*model.Tensor) {
	t.Helper()
	for _, constants := range []bool{false, true} {
		got := one(t, op, a, 1, constants, in...)[0]
		if want.Type != model.F32 {
			wantTensor(t, got, want)
		} else if !got.Shape.Equal(want.Shape) || farthest(t, got, want) > 1e-5 {
			t.Errorf("%s: %v %v, want %v %v", op, got.Shape, got.F32(), want.Shape, want.F32())
		}
	}
}

func rampOf(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(i)
	}
	return v
}

func ones(n int) []float32 { return repeat(float32(1), n) }

// Values of the ONNX specification: ConvTranspose, and its variants.
func TestConvTranspose(t *testing.T) {
	x, w := f32s(rampOf(9), 1, 1, 3, 3), f32s(ones(18), 1, 2, 3, 3)
	plane := []float32{
		0, 1, 3, 3, 2, 3, 8, 15, 12, 7, 9, 21, 36, 27, 15, 9, 20, 33, 24, 13, 6, 13, 21, 15, 8,
	}
	both(t, "ConvTranspose", nil, f32s(append(plane[:25:25], plane...), 1, 2, 5, 5), x, w)
	both(t, "ConvTranspose", nil, f32s([]float32{0, 1, 3, 3, 2, 0, 1, 3, 3, 2}, 1, 2, 5), f32s(rampOf(3), 1, 1, 3), f32s(ones(6), 1, 2, 3))
	inner := []float32{8, 15, 12, 21, 36, 27, 20, 33, 24}
	both(t, "ConvTranspose", attrs{"pads": []int64{1, 1, 1, 1}}, f32s(append(inner[:9:9], inner...), 1, 2, 3, 3), x, w)
	// dilations: the example of the specification
	both(t, "ConvTranspose", attrs{"dilations": []int64{2, 2}},
		f32s([]float32{21, 56, 13, 16, 2, 63, 35, 67, 10, 14, 24, 22, 76, 76, 21, 9, 5, 88, 45, 63, 3, 2, 33, 18, 54}, 1, 1, 5, 5),
		f32s([]float32{3, 8, 1, 9, 5, 7, 3, 2, 6}, 1, 1, 3, 3), f32s([]float32{7, 2, 1, 9}, 1, 1, 2, 2))
	// two groups, a bias, output_padding
	both(t, "ConvTranspose", attrs{"group": int64(2), "strides": []int64{2}, "output_padding": []int64{1}},
		f32s([]float32{10, 10, 11, 11, 10, 24, 24, 26, 26, 20}, 1, 2, 5), f32s(rampOf(4), 1, 2, 2), f32s([]float32{1, 1, 2, 2}, 2, 1, 2), f32s([]float32{10, 20}, 2))
}

func TestConvTransposeSizes(t *testing.T) {
	x, w := f32s(rampOf(9), 1, 1, 3, 3), f32s(ones(18), 1, 2, 3, 3)
	for _, c := range []struct {
		a    attrs
		want model.Shape
	}{
		{attrs{"strides": []int64{3, 2}}, model.Shape{1, 2, 9, 7}},
		{attrs{"strides": []int64{3, 2}, "output_shape": []int64{10, 8}}, model.Shape{1, 2, 10, 8}},
		{attrs{"strides": []int64{3, 2}, "output_padding": []int64{1, 1}}, model.Shape{1, 2, 10, 8}},
		{attrs{"strides": []int64{2, 2}, "auto_pad": "SAME_UPPER"}, model.Shape{1, 2, 6, 6}},
		{attrs{"strides": []int64{2, 2}, "auto_pad": "SAME_LOWER"}, model.Shape{1, 2, 6, 6}},
	} {
		if got := one(t, "ConvTranspose", c.a, 1, true, x, w)[0].Shape; !got.Equal(c.want) {
			t.Errorf("%v: %v, want %v", c.a, got, c.want)
		}
	}
}

// A convolution of one axis is one of two with a height of 1; of three axes,
// and with computed weights, it agrees with a sum written out.
func TestConvOfAnyRank(t *testing.T) {
	x, w := f32s(rampOf(10), 1, 2, 5), f32s([]float32{1, 2, 3, -1, -2, -3}, 1, 2, 3)
	both(t, "Conv", attrs{"pads": []int64{1, 1}, "strides": []int64{2}}, f32s([]float32{-25, -30, -15}, 1, 1, 3), x, w)
	both(t, "Conv", attrs{"auto_pad": "SAME_LOWER"}, f32s([]float32{-24, -29, -29, -29, -14}, 1, 1, 5), x, f32s([]float32{1, 2, 3, -1, -2, -3}, 1, 2, 3), f32s([]float32{1}, 1))
	both(t, "Conv", nil, f32s([]float32{84}, 1, 1, 1, 1, 1), f32s(rampOf(8), 1, 1, 2, 2, 2), f32s([]float32{0, 1, 2, 3, 4, 5, 6, -1}, 1, 1, 2, 2, 2))
	both(t, "Conv", attrs{"group": int64(2)}, f32s([]float32{2, 4}, 1, 2, 1, 1, 1), f32s([]float32{1, 2}, 1, 2, 1, 1, 1), f32s([]float32{2, 2}, 2, 1, 1, 1, 1))
}

func TestPoolsOfAnyRank(t *testing.T) {
	k := func(v ...int64) attrs { return attrs{"kernel_shape": v} }
	x := f32s(rampOf(8), 1, 1, 2, 2, 2)
	both(t, "MaxPool", k(2, 2, 2), f32s([]float32{7}, 1, 1, 1, 1, 1), x)
	both(t, "AveragePool", k(2, 2, 2), f32s([]float32{3.5}, 1, 1, 1, 1, 1), x)
	both(t, "GlobalMaxPool", nil, f32s([]float32{7}, 1, 1, 1, 1, 1), x)
	both(t, "LpPool", attrs{"kernel_shape": []int64{2}, "p": int64(2)}, f32s([]float32{5, 5}, 1, 1, 2), f32s([]float32{3, 4, -3}, 1, 1, 3))
	both(t, "LpPool", attrs{"kernel_shape": []int64{2}, "p": int64(1), "strides": []int64{2}}, f32s([]float32{7}, 1, 1, 1), f32s([]float32{3, -4, -3}, 1, 1, 3))
	both(t, "GlobalLpPool", attrs{"p": int64(3)}, f32s([]float32{float32(math.Cbrt(91))}, 1, 1, 1), f32s([]float32{3, -4, 0}, 1, 1, 3))
	a := k(3)
	a["pads"], a["ceil_mode"], a["strides"] = []int64{1, 0}, int64(1), []int64{2}
	both(t, "AveragePool", a, f32s([]float32{0.5, 2, 3.5}, 1, 1, 3), f32s(rampOf(5), 1, 1, 5))
	a["count_include_pad"] = int64(1)
	both(t, "AveragePool", a, f32s([]float32{1.0 / 3, 2, 3.5}, 1, 1, 3), f32s(rampOf(5), 1, 1, 5))
	both(t, "MaxPool", attrs{"kernel_shape": []int64{2}, "dilations": []int64{2}}, model.Of(model.U8, []uint8{9, 4}, 1, 1, 2), model.Of(model.U8, []uint8{9, 4, 1, 2}, 1, 1, 4))
}

// The example of the specification, there and back.
func TestMaxPoolIndices(t *testing.T) {
	x := make([]float32, 25)
	for i := range x {
		x[i] = float32(i + 1)
	}
	a := attrs{"kernel_shape": []int64{2, 2}, "strides": []int64{2, 2}}
	out := one(t, "MaxPool", a, 2, false, f32s(x, 1, 1, 5, 5))
	wantTensor(t, out[0], f32s([]float32{7, 9, 17, 19}, 1, 1, 2, 2))
	wantTensor(t, out[1], i64s([]int64{6, 8, 16, 18}, 1, 1, 2, 2))
	a["storage_order"] = int64(1)
	wantTensor(t, one(t, "MaxPool", a, 2, false, f32s(x, 1, 1, 5, 5))[1], i64s([]int64{6, 16, 8, 18}, 1, 1, 2, 2))
	// channels count: the second begins at 25
	two := one(t, "MaxPool", attrs{"kernel_shape": []int64{2, 2}, "strides": []int64{2, 2}}, 2, false, f32s(append(x[:25:25], x...), 1, 2, 5, 5))
	wantTensor(t, two[1], i64s([]int64{6, 8, 16, 18, 31, 33, 41, 43}, 1, 2, 2, 2))

	unpool := attrs{"kernel_shape": []int64{2, 2}, "strides": []int64{2, 2}}
	both(t, "MaxUnpool", unpool, f32s([]float32{0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 3, 0, 4}, 1, 1, 4, 4),
		f32s([]float32{1, 2, 3, 4}, 1, 1, 2, 2), i64s([]int64{5, 7, 13, 15}, 1, 1, 2, 2))
	both(t, "MaxUnpool", unpool, f32s([]float32{0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 4, 0, 0, 0, 0, 0, 0}, 1, 1, 5, 5),
		f32s([]float32{1, 2, 3, 4}, 1, 1, 2, 2), i64s([]int64{5, 7, 13, 15}, 1, 1, 2, 2), i64s([]int64{1, 1, 5, 5}, 4))
}

// Gemm with computed operands, all attributes.
func TestGemmAny(t *testing.T) {
	a, b := f32s([]float32{1, 2, 3, 4, 5, 6}, 3, 2), f32s([]float32{1, 0, 2, -1, 1, 1}, 2, 3)
	// a'(2x3) * b'(3x2): [[1,3,5],[2,4,6]] * [[1,-1],[0,1],[2,1]]
	both(t, "Gemm", attrs{"transA": int64(1), "transB": int64(1), "alpha": float32(0.5), "beta": float32(2)},
		f32s([]float32{7.5, 5.5, 11, 8}, 2, 2), a, b, f32s([]float32{1, 1, 2, 2}, 2, 2))
	both(t, "Gemm", attrs{"transB": int64(1)}, f32s([]float32{5, 6}, 1, 2), f32s([]float32{1, 5, 2}, 1, 3), b)
}
