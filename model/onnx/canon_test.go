package onnx

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"dunlin/model"
)

// checkCanonical fails where a graph keeps a form that the table in canon.go
// says is gone.
func checkCanonical(t *testing.T, g *model.Graph) {
	t.Helper()
	gone := map[string][]string{
		"Squeeze": {"axes"}, "Unsqueeze": {"axes"}, "Split": {"split", "num_outputs"}, "Slice": {"starts", "ends", "axes"},
		"TopK": {"k"}, "Clip": {"min", "max"}, "Pad": {"pads", "value"}, "Dropout": {"ratio", "is_test"},
		"BatchNormalization": {"spatial", "is_test"}, "Add": {"broadcast", "axis"}, "Mul": {"broadcast", "axis"},
		"ReduceSum": {"axes"}, "ReduceMean": {"axes"}, "ReduceMax": {"axes"}, "ReduceMin": {"axes"}, "ReduceL2": {"axes"},
		"DFT": {"axis"}, "Resize": {"scales"},
	}
	ops := map[string]bool{"Constant": true, "Upsample": true, "Scatter": true}
	for _, n := range g.Nodes {
		if ops[n.Op] {
			t.Errorf("%s: a %s is left", g.Name, n.Op)
		}
		for _, key := range gone[n.Op] {
			if _, ok := n.Attrs[key]; ok {
				t.Errorf("%s: node %s (%s) keeps attribute %s", g.Name, n.Name, n.Op, key)
			}
		}
		for _, a := range n.Attrs {
			if sub, ok := a.(*model.Graph); ok {
				checkCanonical(t, sub)
			}
		}
	}
}

// render writes a graph's nodes as text, constants by their values:
// "Squeeze(x, [0])". Fresh names are left as they are.
func render(g *model.Graph) string {
	var b strings.Builder
	for i, n := range g.Nodes {
		if i > 0 {
			b.WriteString("; ")
		}
		var in []string
		for _, name := range n.In {
			if t := g.Const(name); t != nil {
				name = renderConst(t)
			}
			in = append(in, name)
		}
		fmt.Fprintf(&b, "%s = %s(%s)", strings.Join(n.Out, ", "), n.Op, strings.Join(in, ", "))
		for _, key := range slices.Sorted(maps.Keys(n.Attrs)) {
			fmt.Fprintf(&b, " %s=%v", key, n.Attrs[key])
		}
	}
	return b.String()
}

func renderConst(t *model.Tensor) string {
	var v any
	switch t.Type {
	case model.F32:
		v = t.F32()
	case model.I64:
		v = t.I64()
	case model.F16:
		v = fmt.Sprintf("[half %x]", t.F16()[0])
	case model.Bool:
		v = t.Bools()
	case model.I8:
		v = fmt.Sprintf("[int8 %d]", t.I8()[0])
	}
	if len(t.Shape) == 0 {
		return strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(v), "["), "]")
	}
	return fmt.Sprint(v)
}

// TestCanonical has the rules of the table in canon.go, form by form.
func TestCanonical(t *testing.T) {
	x, y := []string{"x"}, []string{"y"}
	half := msg{}.str(1, "x").bytes(2, msg{}.bytes(1, msg{}.int(1, 10)))
	scales := floatTensor("s", []int64{4}, 1, 1, 2, 2)
	smaller := floatTensor("s", []int64{4}, 1, 1, .5, .5)
	for _, c := range []struct {
		name  string
		opset int64
		n     msg
		in    msg   // the input x, of 2x3x4x5 where it is nil
		inits []msg // constants
		want  string
	}{
		{name: "squeeze", opset: 11, n: op("Squeeze", x, y, attrIs("axes", 0, 2)), want: "y = Squeeze(x, [0 2])"},
		{name: "squeeze all", opset: 11, n: op("Squeeze", x, y), want: "y = Squeeze(x)"},
		{name: "unsqueeze", opset: 12, n: op("Unsqueeze", x, y, attrIs("axes", -1)), want: "y = Unsqueeze(x, [-1])"},
		{name: "unsqueeze 13", opset: 13, n: op("Unsqueeze", []string{"x", "s"}, y), inits: []msg{head("s", 7, 1).packed(7, 1)}, want: "y = Unsqueeze(x, [1])"},
		{name: "reduce sum", opset: 12, n: op("ReduceSum", x, y, attrIs("axes", 1), attrI("keepdims", 0)), want: "y = ReduceSum(x, [1]) keepdims=0"},
		{name: "reduce mean", opset: 17, n: op("ReduceMean", x, y, attrIs("axes", 1)), want: "y = ReduceMean(x, [1])"},
		{name: "reduce mean all", opset: 17, n: op("ReduceMean", x, y), want: "y = ReduceMean(x)"},
		{name: "reduce mean 18", opset: 18, n: op("ReduceMean", []string{"x", "s"}, y, attrI("noop_with_empty_axes", 1)), inits: []msg{head("s", 7, 1).packed(7, 1)}, want: "y = ReduceMean(x, [1]) noop_with_empty_axes=1"},
		{name: "split", opset: 11, n: op("Split", x, []string{"y", "z"}, attrIs("split", 1, 2), attrI("axis", 1)), want: "y, z = Split(x, [1 2]) axis=1"},
		{name: "split 18", opset: 18, n: op("Split", x, []string{"y", "z"}, attrI("num_outputs", 2)), want: "y, z = Split(x)"},
		{name: "slice", opset: 9, n: op("Slice", x, y, attrIs("starts", 1), attrIs("ends", 9), attrIs("axes", 2)), want: "y = Slice(x, [1], [9], [2])"},
		{name: "slice first axes", opset: 9, n: op("Slice", x, y, attrIs("starts", 1), attrIs("ends", 9)), want: "y = Slice(x, [1], [9])"},
		{name: "top k", opset: 9, n: op("TopK", x, []string{"y", "i"}, attrI("k", 3), attrI("axis", 1)), want: "y, i = TopK(x, [3]) axis=1"},
		{name: "clip", opset: 7, n: op("Clip", x, y, attrF("min", 0), attrF("max", 6)), want: "y = Clip(x, 0, 6)"},
		{name: "clip max", opset: 7, n: op("Clip", x, y, attrF("max", 6)), want: "y = Clip(x, , 6)"},
		{name: "clip half", opset: 7, n: op("Clip", x, y, attrF("max", 6)), in: half, want: "y = Clip(x, , half 4600)"},
		{name: "clip none", opset: 7, n: op("Clip", x, y), want: "y = Clip(x)"},
		{name: "pad", opset: 10, n: op("Pad", x, y, attrIs("pads", 0, 1, 0, 1), attrF("value", 2), attrS("mode", "constant")), want: "y = Pad(x, [0 1 0 1], 2) mode=constant"},
		{name: "upsample 7", opset: 7, n: op("Upsample", x, y, attrFs("scales", 1, 1, 2, 2), attrS("mode", "linear")), want: "y = Resize(x, , [1 1 2 2]) coordinate_transformation_mode=asymmetric mode=linear"},
		{name: "upsample 9", opset: 9, n: op("Upsample", []string{"x", "s"}, y), inits: []msg{scales}, want: "y = Resize(x, , [1 1 2 2]) coordinate_transformation_mode=asymmetric nearest_mode=floor"},
		{name: "upsample 6", opset: 6, n: op("Upsample", x, y, attrF("height_scale", 2), attrF("width_scale", 3), attrS("mode", "bilinear")), want: "y = Resize(x, , [1 1 2 3]) coordinate_transformation_mode=asymmetric mode=linear"},
		{name: "resize 10", opset: 10, n: op("Resize", []string{"x", "s"}, y), inits: []msg{smaller}, want: "y = Resize(x, , [1 1 0.5 0.5]) coordinate_transformation_mode=asymmetric nearest_mode=ceil"},
		{name: "resize 11", opset: 11, n: op("Resize", []string{"x", "e", "s"}, y), inits: []msg{scales, head("e", 1, 0)}, want: "y = Resize(x, , [1 1 2 2])"},
		{name: "resize sizes", opset: 11, n: op("Resize", []string{"x", "e", "e", "z"}, y), inits: []msg{head("z", 7, 1).packed(7, 4), head("e", 1, 0)}, want: "y = Resize(x, , , [4])"},
		{name: "softmax last", opset: 11, n: op("Softmax", x, y, attrI("axis", 3)), want: "y = Softmax(x) axis=-1"},
		{name: "softmax negative", opset: 11, n: op("Softmax", x, y, attrI("axis", -1)), in: unshaped("x"), want: "y = Softmax(x) axis=-1"},
		{name: "softmax of two", opset: 9, n: op("Softmax", x, y), in: value("x", -1, 10), want: "y = Softmax(x) axis=-1"},
		{name: "softmax flattens", opset: 9, n: op("LogSoftmax", x, y), want: "Softmax_0/shape = Shape(x); Softmax_0/flatten = Flatten(x) axis=1; " +
			"Softmax_0/rows = LogSoftmax(Softmax_0/flatten) axis=-1; y = Reshape(Softmax_0/rows, Softmax_0/shape)"},
		{name: "softmax 13", opset: 13, n: op("Softmax", x, y, attrI("axis", 1)), want: "y = Softmax(x) axis=1"},
		{name: "dropout", opset: 7, n: op("Dropout", x, []string{"y", "m"}, attrF("ratio", .5)), want: "y = Identity(x)"},
		{name: "dropout 12", opset: 12, n: op("Dropout", []string{"x", "s", "t"}, y), inits: []msg{floatTensor("s", nil, .5), head("t", 9).packed(5, 0)}, want: "y = Identity(x)"},
		{name: "dropout training", opset: 12, n: op("Dropout", []string{"x", "s", "t"}, y), inits: []msg{floatTensor("s", nil, .5), head("t", 9).packed(5, 1)}, want: "y = Dropout(x, 0.5, 1)"},
		{name: "batch norm", opset: 8, n: op("BatchNormalization", []string{"x", "s", "s", "s", "s"}, []string{"y", "a", "b"}, attrI("spatial", 1), attrF("momentum", .9), attrF("epsilon", .5)), inits: []msg{floatTensor("s", []int64{1}, 1)}, want: "y = BatchNormalization(x, [1], [1], [1], [1]) epsilon=0.5"},
		{name: "batch norm 6", opset: 6, n: op("BatchNormalization", []string{"x", "s", "s", "s", "s"}, y, attrI("is_test", 1), attrF("epsilon", .5)), inits: []msg{floatTensor("s", []int64{1}, 1)}, want: "y = BatchNormalization(x, [1], [1], [1], [1]) epsilon=0.5"},
		{name: "add along", opset: 6, n: op("Add", []string{"x", "s"}, y, attrI("broadcast", 1), attrI("axis", 1)), inits: []msg{floatTensor("s", []int64{3}, 1, 2, 3)}, want: "Add_0/aligned = Unsqueeze([1 2 3], [1 2]); y = Add(x, Add_0/aligned)"},
		{name: "add at the end", opset: 6, n: op("Add", []string{"x", "s"}, y, attrI("broadcast", 1), attrI("axis", 3)), inits: []msg{floatTensor("s", []int64{1}, 1)}, want: "y = Add(x, [1])"},
		{name: "prelu 6", opset: 6, n: op("PRelu", []string{"x", "s"}, y), inits: []msg{floatTensor("s", []int64{3}, 1, 2, 3)}, want: "PRelu_0/aligned = Unsqueeze([1 2 3], [1 2]); y = PRelu(x, PRelu_0/aligned)"},
		{name: "gemm 6", opset: 6, n: op("Gemm", []string{"x", "s", "s"}, y, attrI("broadcast", 1)), inits: []msg{floatTensor("s", []int64{1}, 1)}, want: "y = Gemm(x, [1], [1])"},
		{name: "cast by name", opset: 6, n: op("Cast", x, y, attrS("to", "INT64")), want: "y = Cast(x) to=7"},
		{name: "scatter", opset: 9, n: op("Scatter", []string{"x", "x", "x"}, y, attrI("axis", 1)), want: "y = ScatterElements(x, x, x) axis=1"},
		{name: "dft", opset: 17, n: op("DFT", x, y, attrI("axis", 2)), want: "y = DFT(x, , 2)"},
		{name: "dft 20", opset: 20, n: op("DFT", []string{"x", "", "s"}, y, attrI("inverse", 1)), inits: []msg{head("s", 7).packed(7, -2)}, want: "y = DFT(x, , -2) inverse=1"},
		{name: "grid sample", opset: 16, n: op("GridSample", []string{"x", "x"}, y, attrS("mode", "bicubic")), want: "y = GridSample(x, x) mode=cubic"},
		{name: "grid sample default", opset: 16, n: op("GridSample", []string{"x", "x"}, y), want: "y = GridSample(x, x) mode=linear"},
		{name: "grid sample 20", opset: 20, n: op("GridSample", []string{"x", "x"}, y, attrS("mode", "cubic")), want: "y = GridSample(x, x) mode=cubic"},
		{name: "affine grid 20", opset: 20, n: op("AffineGrid", []string{"x", "s"}, y, attrI("align_corners", 1)), inits: []msg{head("s", 7, 1).packed(7, 4)}, want: "y = AffineGrid(x, [4]) align_corners=1"},
		{name: "reduce max 18 of all", opset: 18, n: op("ReduceMax", x, y), want: "y = ReduceMax(x)"},
		{name: "reduce min 20 of bools", opset: 20, n: op("ReduceMin", []string{"x", "s"}, y), inits: []msg{head("s", 7, 1).packed(7, 1)}, want: "y = ReduceMin(x, [1])"},
		{name: "reduce log sum 18", opset: 18, n: op("ReduceLogSum", []string{"x", "s"}, y, attrI("keepdims", 0)), inits: []msg{head("s", 7, 2).packed(7, 0, -1)}, want: "y = ReduceLogSum(x, [0 -1]) keepdims=0"},
		{name: "pad 18", opset: 18, n: op("Pad", []string{"x", "p", "", "s"}, y), inits: []msg{head("p", 7, 2).packed(7, 1, 2), head("s", 7, 1).packed(7, 3)}, want: "y = Pad(x, [1 2], , [3])"},
		{name: "pad 19", opset: 19, n: op("Pad", []string{"x", "p"}, y, attrS("mode", "wrap")), inits: []msg{head("p", 7, 2).packed(7, 1, 2)}, want: "y = Pad(x, [1 2]) mode=wrap"},
		{name: "resize 18", opset: 18, n: op("Resize", []string{"x", "", "", "z"}, y, attrIs("axes", 2, 3), attrI("antialias", 1), attrS("keep_aspect_ratio_policy", "not_larger")), inits: []msg{head("z", 7, 2).packed(7, 4, 5)}, want: "y = Resize(x, , , [4 5]) antialias=1 axes=[2 3] keep_aspect_ratio_policy=not_larger"},
		{name: "resize 19", opset: 19, n: op("Resize", []string{"x", "", "s"}, y, attrS("coordinate_transformation_mode", "half_pixel_symmetric")), inits: []msg{scales}, want: "y = Resize(x, , [1 1 2 2]) coordinate_transformation_mode=half_pixel_symmetric"},
		{name: "scatter elements 18", opset: 18, n: op("ScatterElements", []string{"x", "x", "x"}, y, attrS("reduction", "max")), want: "y = ScatterElements(x, x, x) reduction=max"},
		{name: "scatter nd 18", opset: 18, n: op("ScatterND", []string{"x", "x", "x"}, y, attrS("reduction", "min")), want: "y = ScatterND(x, x, x) reduction=min"},
		{name: "centre 18", opset: 18, n: op("CenterCropPad", []string{"x", "s"}, y, attrIs("axes", -2, -1)), inits: []msg{head("s", 7, 2).packed(7, 4, 4)}, want: "y = CenterCropPad(x, [4 4]) axes=[-2 -1]"},
		{name: "columns 18", opset: 18, n: op("Col2Im", []string{"x", "s", "s"}, y), inits: []msg{head("s", 7, 2).packed(7, 2, 2)}, want: "y = Col2Im(x, [2 2], [2 2])"},
		{name: "bits 18", opset: 18, n: op("BitwiseXor", []string{"x", "x"}, y), want: "y = BitwiseXor(x, x)"},
		{name: "mish 18", opset: 18, n: op("Mish", x, y), want: "y = Mish(x)"},
		{name: "average pool 19", opset: 19, n: op("AveragePool", x, y, attrIs("kernel_shape", 2, 2), attrIs("dilations", 2, 1)), want: "y = AveragePool(x) dilations=[2 1] kernel_shape=[2 2]"},
		{name: "cast 19", opset: 19, n: op("Cast", x, y, attrI("to", 16), attrI("saturate", 0)), want: "y = Cast(x) saturate=0 to=16"},
		{name: "gelu 20", opset: 20, n: op("Gelu", x, y, attrS("approximate", "tanh")), want: "y = Gelu(x) approximate=tanh"},
		{name: "constant of shape 20", opset: 20, n: op("ConstantOfShape", []string{"s"}, y, attrT("value", head("", 16, 1).packed(fieldInt32, 0x3f80))), inits: []msg{head("s", 7, 1).packed(7, 3)}, want: "y = ConstantOfShape([3]) value=&{bfloat16 [1] [128 63]}"},
		{name: "is nan 20", opset: 20, n: op("IsNaN", x, y), in: half, want: "y = IsNaN(x)"},
		{name: "is inf 20", opset: 20, n: op("IsInf", x, y, attrI("detect_negative", 0)), in: half, want: "y = IsInf(x) detect_negative=0"},
		{name: "group normalization 18", opset: 18, n: op("GroupNormalization", []string{"x", "s", "s"}, y, attrI("num_groups", 1)), inits: []msg{floatTensor("s", []int64{1}, 1)}, want: "y = GroupNormalization(x, [1], [1]) num_groups=1"},
		{name: "group normalization 21", opset: 21, n: op("GroupNormalization", []string{"x", "s", "s"}, y, attrI("num_groups", 1), attrI("stash_type", 1)), inits: []msg{floatTensor("s", []int64{3}, 1, 1, 1)}, want: "y = GroupNormalization(x, [1 1 1], [1 1 1]) num_groups=1 stash_type=1"},
		{name: "quantize 21 to int8", opset: 21, n: op("QuantizeLinear", []string{"x", "s"}, y, attrI("output_dtype", 3)), inits: []msg{floatTensor("s", nil, .5)}, want: "y = QuantizeLinear(x, 0.5, int8 0)"},
		{name: "quantize 21 to uint8", opset: 21, n: op("QuantizeLinear", []string{"x", "s"}, y, attrI("output_dtype", 2)), inits: []msg{floatTensor("s", nil, .5)}, want: "y = QuantizeLinear(x, 0.5)"},
		{name: "quantize 21 with a zero point", opset: 21, n: op("QuantizeLinear", []string{"x", "s", "z"}, y, attrI("output_dtype", 3)), inits: []msg{floatTensor("s", nil, .5), head("z", 3).packed(fieldInt32, 7)}, want: "y = QuantizeLinear(x, 0.5, int8 7)"},
		{name: "dequantize 21 of 4 bits", opset: 21, n: op("DequantizeLinear", []string{"z", "s"}, y), inits: []msg{floatTensor("s", nil, .5), head("z", protoInt4, 2).packed(fieldInt32, 0x7f)}, want: "y = DequantizeLinear([int8 -1], 0.5)"},
		{name: "roi align", opset: 10, n: op("RoiAlign", []string{"x", "x", "x"}, y), want: "y = RoiAlign(x, x, x) coordinate_transformation_mode=output_half_pixel"},
	} {
		in := c.in
		if in == nil {
			in = value("x", 2, 3, 4, 5)
		}
		g, err := Import(parts{nodes: []msg{c.n}, inits: c.inits, inputs: []msg{in}, outputs: []msg{unshaped("y")}}.file(c.opset))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		checkCanonical(t, g)
		got := strings.ReplaceAll(render(g), "LogSoftmax_0", "Softmax_0")
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// TestBatchNormPerElement: the form with a mean for each element becomes
// plain arithmetic.
func TestBatchNormPerElement(t *testing.T) {
	g := mustImport(t, parts{
		nodes:  []msg{op("BatchNormalization", []string{"x", "s", "b", "m", "v"}, []string{"y"}, attrI("spatial", 0))},
		inputs: []msg{value("x", 1, 3), value("s", 3), value("b", 3), value("m", 3), value("v", 3)}, outputs: []msg{unshaped("y")},
	}.file(7))
	var ops []string
	for _, n := range g.Nodes {
		ops = append(ops, n.Op)
	}
	if want := []string{"Sub", "Add", "Sqrt", "Div", "Mul", "Add"}; !slices.Equal(ops, want) {
		t.Errorf("%v, want %v", ops, want)
	}
}

// TestFreshNames: a made-up value name never meets one of the file.
func TestFreshNames(t *testing.T) {
	g := mustImport(t, parts{
		nodes: []msg{
			op("Squeeze", []string{"x"}, []string{"Squeeze_1/axes"}, attrIs("axes", 0)),
			op("Squeeze", []string{"Squeeze_1/axes"}, []string{"y"}, attrIs("axes", 0)),
		},
		inputs: []msg{value("x", 1, 1)}, outputs: []msg{unshaped("y")},
	}.file(11))
	if got := g.Nodes[1].In[1]; got != "Squeeze_1/axes_1" {
		t.Errorf("the second node's axes are %q", got)
	}
}

func TestHalfBits(t *testing.T) {
	for _, c := range []struct {
		v    float32
		want uint16
	}{
		{0, 0},
		{float32(math.Copysign(0, -1)), 0x8000},
		{1, 0x3c00},
		{-2, 0xc000},
		{6, 0x4600},
		{65504, 0x7bff},
		{65519, 0x7bff},
		{65520, 0x7c00},
		{math.MaxFloat32, 0x7c00},
		{float32(math.Inf(-1)), 0xfc00},
		{6.1035156e-05, 0x0400},
		{5.9604645e-08, 1},
		{2.9802322e-08, 0},
		{2.9802326e-08, 1},
		{1 + 1./2048, 0x3c00},
		{1 + 3./2048, 0x3c02},
		{6.097555e-05, 0x03ff},
		{1e-9, 0},
	} {
		if got := halfBits(c.v); got != c.want {
			t.Errorf("%g: %#04x, want %#04x", c.v, got, c.want)
		}
	}
	if got := halfBits(float32(math.NaN())); got&0x7c00 != 0x7c00 || got&0x3ff == 0 {
		t.Errorf("NaN: %#04x", got)
	}
}
