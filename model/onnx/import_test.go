package onnx

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"dunlin/model"
)

func mustImport(t *testing.T, data []byte) *model.Graph {
	t.Helper()
	g, err := Import(data)
	if err != nil {
		t.Fatal(err)
	}
	checkCanonical(t, g)
	return g
}

// TestGraph reads a file with most kinds of messages, in the old way: the
// initializer stands among the inputs.
func TestGraph(t *testing.T) {
	g := mustImport(t, parts{
		nodes: []msg{
			op("Constant", nil, []string{"half"}, attrT("value", head("", 1).floats(fieldFloat, .5))),
			op("Mul", []string{"x", "w"}, []string{"a"}).str(3, "first"),
			op("Relu", []string{"a"}, []string{"b"}),
			op("Foo", []string{"b", "half", "", ""}, []string{"y"}, attrS("how", "so")).str(7, "com.example"),
			op("Relu", []string{"y"}, []string{"z"}).str(3, "first"),
			op("Relu", []string{"z"}, []string{"z2"}).str(3, "Relu_2"),
		},
		inits:   []msg{floatTensor("w", []int64{2}, 1, 2)},
		inputs:  []msg{value("x", -1, 2), value("w", 2)},
		outputs: []msg{value("y", 1, 2), unshaped("z2")},
	}.file(13))
	if !slices.Equal(g.Inputs, []string{"x"}) || !slices.Equal(g.Outputs, []string{"y", "z2"}) || g.Name != "built" {
		t.Errorf("inputs %v, outputs %v", g.Inputs, g.Outputs)
	}
	x := g.Value("x")
	if x.Type != model.F32 || !x.Shape.Equal(model.Shape{model.Unknown, 2}) || !slices.Equal(x.Dims, []string{"N", ""}) {
		t.Errorf("x is %+v", x)
	}
	if w := g.Const("w"); w == nil || !slices.Equal(w.F32(), []float32{1, 2}) {
		t.Errorf("w is %v", w)
	}
	if h := g.Const("half"); h == nil || len(h.Shape) != 0 || h.F32()[0] != .5 {
		t.Errorf("the Constant node is %v", h)
	}
	var names []string
	for _, n := range g.Nodes {
		names = append(names, n.Name)
	}
	if want := []string{"first", "Relu_1", "Foo_2", "first_1", "Relu_2"}; !slices.Equal(names, want) {
		t.Errorf("names %v, want %v", names, want)
	}
	foo := g.Nodes[2]
	if foo.Op != "com.example.Foo" || len(foo.In) != 2 || foo.Str("how", "") != "so" {
		t.Errorf("%+v", foo)
	}
}

// TestTensors reads each type from raw bytes and from its typed field,
// packed and unpacked.
func TestTensors(t *testing.T) {
	raw := func(v ...any) []byte {
		var b []byte
		for _, x := range v {
			b, _ = binary.Append(b, binary.LittleEndian, x)
		}
		return b
	}
	neg := func(v int64) int64 { return v } // negative int32 values take ten bytes
	for _, c := range []struct {
		name string
		t    msg
		typ  model.DType
		want []byte
	}{
		{"float raw", head("t", 1, 2).bytes(fieldRaw, raw(float32(1), float32(-2))), model.F32, raw(float32(1), float32(-2))},
		{"float packed", head("t", 1, 2).floats(fieldFloat, 1, -2), model.F32, raw(float32(1), float32(-2))},
		{"float unpacked", head("t", 1, 2).float(fieldFloat, 1).float(fieldFloat, -2), model.F32, raw(float32(1), float32(-2))},
		{"float in pieces", head("t", 1, 2).floats(fieldFloat, 1).floats(fieldFloat, -2), model.F32, raw(float32(1), float32(-2))},
		{"values before shape", msg{}.floats(fieldFloat, 1, -2).packed(1, 2).int(2, 1).str(8, "t"), model.F32, raw(float32(1), float32(-2))},
		{"double", head("t", 11, 1).bytes(fieldDouble, raw(math.Pi)), model.F64, raw(math.Pi)},
		{"int64", head("t", 7, 2).packed(fieldInt64, -1, 1<<40), model.I64, raw(int64(-1), int64(1<<40))},
		{"int64 unpacked", head("t", 7, 2).int(fieldInt64, -1).int(fieldInt64, 5), model.I64, raw(int64(-1), int64(5))},
		{"int32", head("t", 6, 2).packed(fieldInt32, neg(-7), 7), model.I32, raw(int32(-7), int32(7))},
		{"int8", head("t", 3, 2).packed(fieldInt32, neg(-128), 127), model.I8, raw(int8(-128), int8(127))},
		{"uint8", head("t", 2, 2).packed(fieldInt32, 255, 0), model.U8, raw(uint8(255), uint8(0))},
		{"int16", head("t", 5, 1).packed(fieldInt32, neg(-300)), model.I16, raw(int16(-300))},
		{"uint16", head("t", 4, 1).packed(fieldInt32, 65535), model.U16, raw(uint16(65535))},
		{"uint32", head("t", 12, 1).packed(fieldUint64, 1<<32-1), model.U32, raw(uint32(1<<32 - 1))},
		{"uint64", head("t", 13, 1).packed(fieldUint64, -1), model.U64, raw(uint64(1<<64 - 1))},
		{"bool", head("t", 9, 3).packed(fieldInt32, 1, 0, 1), model.Bool, []byte{1, 0, 1}},
		{"float16", head("t", 10, 1).packed(fieldInt32, 0x3c00), model.F16, raw(uint16(0x3c00))},
		{"bfloat16", head("t", 16, 1).bytes(fieldRaw, raw(uint16(0x3f80))), model.BF16, raw(uint16(0x3f80))},
		{"int4 raw", head("t", protoInt4, 3).bytes(fieldRaw, []byte{0x8f, 0x07}), model.I8, raw(int8(-1), int8(-8), int8(7))},
		{"uint4", head("t", protoUint4, 3).packed(fieldInt32, 0x8f, 0x07), model.U8, raw(uint8(15), uint8(8), uint8(7))},
		{"empty", head("t", 1, 0), model.F32, nil},
		{"empty raw", head("t", 1, 0, 3).bytes(fieldRaw, nil), model.F32, nil},
		{"single", msg{}.int(2, 6).str(8, "t").int(fieldInt32, 3), model.I32, raw(int32(3))},
	} {
		g, err := Import(parts{inits: []msg{c.t}, outputs: []msg{unshaped("t")}}.file(13))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := g.Const("t"); got.Type != c.typ || !slices.Equal(got.Data, c.want) || got.Check() != nil {
			t.Errorf("%s: %v %v, want %v %v", c.name, got.Type, got.Data, c.typ, c.want)
		}
	}
}

// TestZeroCopy: weights that are aligned in the file are not copied.
func TestZeroCopy(t *testing.T) {
	for pad := range 4 {
		data := msg(fileOf(msg{}.str(2, strings.Repeat("n", pad)).
			bytes(5, head("w", 1, 16).bytes(fieldRaw, make([]byte, 64))).bytes(12, unshaped("w")), 13))
		file := model.Aligned(len(data))
		copy(file, data)
		at := strings.Index(string(file), string(make([]byte, 64)))
		w := mustImport(t, file).Const("w")
		file[at] = 1
		if aliases := w.Data[0] == 1; aliases != (at%4 == 0) {
			t.Errorf("weights at offset %d: aliased is %v", at, aliases)
		}
		if err := w.Check(); err != nil {
			t.Error(err)
		}
	}
}

// TestSubgraph: the branches of an If read values of the graph around them.
func TestSubgraph(t *testing.T) {
	sub := func(name string) msg {
		return parts{
			nodes: []msg{
				op("Constant", nil, []string{"c"}, attrI("value_int", 3)),
				op("Squeeze", []string{"a"}, []string{name}, attrIs("axes", 0)),
			},
			outputs: []msg{unshaped(name)},
		}.graph()
	}
	g := mustImport(t, parts{
		nodes: []msg{ // out of order: the If reads a through its branches
			op("If", []string{"cond"}, []string{"y"}, attrG("then_branch", sub("s")), attrG("else_branch", sub("s"))),
			op("Neg", []string{"x"}, []string{"a"}),
		},
		inits:   []msg{head("cond", 9, 1).packed(fieldInt32, 1)},
		inputs:  []msg{value("x", 1, 3)},
		outputs: []msg{unshaped("y")},
	}.file(11))
	if g.Nodes[0].Op != "Neg" {
		t.Errorf("the If comes before what its branches read")
	}
	branch := g.Nodes[1].Attrs["then_branch"].(*model.Graph)
	if n := branch.Nodes[0]; len(n.In) != 2 || branch.Const(n.In[1]) == nil || branch.Const("c") == nil {
		t.Errorf("the branch is not canonical: %+v", n)
	}
}

func TestRefused(t *testing.T) {
	relu := op("Relu", []string{"x"}, []string{"y"})
	with := func(init msg) []byte {
		return parts{nodes: []msg{relu}, inits: []msg{init}, inputs: []msg{value("x", 1)}, outputs: []msg{unshaped("y")}}.file(13)
	}
	deep := parts{nodes: []msg{op("Relu", []string{"x"}, []string{"d"})}, outputs: []msg{unshaped("d")}}.graph()
	for range maxDepth + 1 {
		deep = parts{nodes: []msg{op("If", []string{"x"}, []string{"d"}, attrG("then_branch", deep))}, outputs: []msg{unshaped("d")}}.graph()
	}
	sequence := msg{}.str(1, "x").bytes(2, msg{}.bytes(4, nil))
	for _, c := range []struct {
		name string
		data []byte
		want error
		text string
	}{
		{"nothing", nil, ErrMalformed, "no graph"},
		{"text", []byte("not a model at all"), ErrMalformed, ""},
		{"cut off", one(13, relu, 1)[:20], ErrMalformed, ""},
		{"two graphs", append(one(13, relu, 1), one(13, relu, 1)...), ErrMalformed, "two graphs"},
		{"opset 5", one(5, relu, 1), ErrOpset, "opset 5"},
		{"opset 22", one(22, relu, 1), ErrOpset, "opset 22"},
		{"no opset", msg{}.bytes(7, parts{nodes: []msg{relu}, inputs: []msg{value("x")}, outputs: []msg{unshaped("y")}}.graph()), ErrOpset, "opset 0"},
		{"external data", with(head("w", 1, 2).bytes(13, msg{}.str(1, "location").str(2, "w.bin")).int(14, 1)), ErrExternalData, `"w"`},
		{"strings", with(head("w", 8, 1).bytes(6, []byte("s"))), ErrUnsupported, "STRING"},
		{"complex", with(head("w", 14, 1).floats(fieldFloat, 1, 2)), ErrUnsupported, "COMPLEX64"},
		{"unknown type", with(head("w", 99, 1)), ErrUnsupported, "99"},
		{"segment", with(head("w", 1, 1).bytes(3, nil)), ErrUnsupported, "segments"},
		{"raw too short", with(head("w", 1, 2).bytes(fieldRaw, make([]byte, 7))), ErrMalformed, "need 8 bytes, the file has 7"},
		{"too few values", with(head("w", 1, 2).floats(fieldFloat, 1)), ErrMalformed, "1 values"},
		{"too many values", with(head("w", 1, 1).floats(fieldFloat, 1, 2)), ErrMalformed, "more than the 1"},
		{"no values", with(head("w", 1, 1000000, 1000)), ErrMalformed, "announced"},
		{"axis too long", with(head("w", 1, -5)), ErrMalformed, "axis of length"},
		{"shape too large", with(head("w", 1, 1<<30, 1<<30)), ErrMalformed, "elements"},
		{"half a float", with(head("w", 1, 1).bytes(fieldFloat, []byte{1, 2})), ErrMalformed, "ends early"},
		{"bool of 2", with(head("w", 9, 1).bytes(fieldRaw, []byte{2})), ErrMalformed, "bool"},
		{"initializer twice", parts{inits: []msg{floatTensor("w", nil, 1), floatTensor("w", nil, 1)}, outputs: []msg{unshaped("w")}}.file(13), ErrMalformed, "twice"},
		{"sparse initializer", fileOf(msg{}.bytes(15, msg{}), 13), ErrUnsupported, "sparse"},
		{"sparse constant", one(13, op("Constant", nil, []string{"y"}, msg{}.str(1, "sparse_value").bytes(22, nil).int(20, 11)), 1), ErrUnsupported, "sparse_value"},
		{"string constant", one(13, op("Constant", nil, []string{"y"}, attrS("value_string", "a")), 1), ErrUnsupported, "value_string"},
		{"empty constant", one(13, op("Constant", nil, []string{"y"}), 1), ErrMalformed, "without a value"},
		{"sequence input", parts{inputs: []msg{sequence}, outputs: []msg{unshaped("x")}}.file(13), ErrUnsupported, "sequence"},
		{"depth", fileOf(deep, 13), ErrMalformed, "deep"},
		{"circle", parts{nodes: []msg{op("Add", []string{"b", "x"}, []string{"a"}), op("Add", []string{"a", "x"}, []string{"b"})}, inputs: []msg{value("x", 1)}, outputs: []msg{unshaped("b")}}.file(13), ErrMalformed, "nothing before it makes"},
		{"reads nothing", one(13, op("Relu", []string{"q"}, []string{"y"}), 1), ErrMalformed, `"q"`},
		{"made twice", parts{nodes: []msg{relu, relu}, inputs: []msg{value("x", 1)}, outputs: []msg{unshaped("y")}}.file(13), ErrMalformed, "made twice"},
		{"no operator", one(13, op("", []string{"x"}, []string{"y"}), 1), ErrMalformed, "no operator"},
		{"bad name", one(13, op("Relu", []string{"x"}, []string{"y\xff"}), 1), ErrMalformed, "UTF-8"},
		{"old scan", one(8, op("Scan", []string{"", "x"}, []string{"y"}), 1), ErrUnsupported, "Scan"},
		{"training batch norm", parts{nodes: []msg{op("BatchNormalization", []string{"x", "x", "x", "x", "x"}, []string{"y", "m"})}, inputs: []msg{value("x", 1)}, outputs: []msg{unshaped("y"), unshaped("m")}}.file(9), ErrUnsupported, "training"},
		{"string input", parts{inputs: []msg{msg{}.str(1, "x").bytes(2, msg{}.bytes(1, msg{}.int(1, 8)))}, outputs: []msg{unshaped("x")}}.file(19), ErrUnsupported, "STRING"},
		{"quantize to 4 bits", parts{nodes: []msg{op("QuantizeLinear", []string{"x", "s", "z"}, []string{"y"})}, inits: []msg{floatTensor("s", nil, 1), head("z", protoInt4).packed(fieldInt32, 1)}, inputs: []msg{value("x", 1)}, outputs: []msg{unshaped("y")}}.file(21), ErrUnsupported, "4 bits"},
		{"quantize to 4 bits without a zero point", one(21, op("QuantizeLinear", []string{"x", "x"}, []string{"y"}, attrI("output_dtype", protoUint4)), 1), ErrUnsupported, "4 bits"},
		{"quantize to 16 bits", one(21, op("QuantizeLinear", []string{"x", "x"}, []string{"y"}, attrI("output_dtype", 5)), 1), ErrUnsupported, "output_dtype 5"},
		{"slice without ends", one(9, op("Slice", []string{"x"}, []string{"y"}, attrIs("starts", 0)), 1), ErrMalformed, "0 ends"},
		{"split outputs", one(18, op("Split", []string{"x"}, []string{"y"}, attrI("num_outputs", 2)), 4), ErrMalformed, "num_outputs"},
		{"broadcast of unknown rank", parts{nodes: []msg{op("Foo", []string{"x"}, []string{"a"}), op("Add", []string{"a", "x"}, []string{"y"}, attrI("broadcast", 1), attrI("axis", 1))}, inputs: []msg{value("x", 3)}, outputs: []msg{unshaped("y")}}.file(6), ErrUnsupported, "rank"},
	} {
		g, err := Import(c.data)
		var typed *Error
		if g != nil || !errors.Is(err, c.want) || !errors.As(err, &typed) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %v with %q", c.name, err, c.want, c.text)
		}
	}
}

func TestTypeNumbers(t *testing.T) {
	for d := model.F32; d <= model.Bool; d++ {
		if got := DType(TypeNumber(d)); got != d {
			t.Errorf("%v becomes %v", d, got)
		}
	}
	if DType(-1) != 0 || DType(8) != 0 || DType(1000) != 0 || TypeNumber(0) != 0 {
		t.Error("a type that is none")
	}
}
