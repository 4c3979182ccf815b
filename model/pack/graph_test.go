package pack

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"dunlin/model"
)

// sameGraph compares what a graph means: a nil list is an empty one.
func sameGraph(a, b *model.Graph) bool {
	if a.Name != b.Name || !slices.Equal(a.Inputs, b.Inputs) || !slices.Equal(a.Outputs, b.Outputs) ||
		!maps.EqualFunc(a.Values, b.Values, sameValue) {
		return false
	}
	return slices.EqualFunc(a.Nodes, b.Nodes, func(m, n *model.Node) bool {
		return m.Op == n.Op && m.Name == n.Name && slices.Equal(m.In, n.In) && slices.Equal(m.Out, n.Out) &&
			maps.EqualFunc(m.Attrs, n.Attrs, sameAttr)
	})
}

func sameValue(a, b *model.Value) bool {
	return a.Type == b.Type && (a.Shape == nil) == (b.Shape == nil) && a.Shape.Equal(b.Shape) &&
		slices.Equal(a.Dims, b.Dims) && sameTensor(a.Const, b.Const)
}

func sameTensor(a, b *model.Tensor) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Type == b.Type && a.Shape.Equal(b.Shape) && bytes.Equal(a.Data, b.Data)
}

func sameAttr(a, b model.Attr) bool {
	switch a := a.(type) {
	case float32:
		f, ok := b.(float32)
		return ok && math.Float32bits(a) == math.Float32bits(f)
	case []float32:
		f, ok := b.([]float32)
		return ok && slices.EqualFunc(a, f, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
	case []int64:
		i, ok := b.([]int64)
		return ok && slices.Equal(a, i)
	case []string:
		s, ok := b.([]string)
		return ok && slices.Equal(a, s)
	case *model.Tensor:
		t, ok := b.(*model.Tensor)
		return ok && sameTensor(a, t)
	case *model.Graph:
		g, ok := b.(*model.Graph)
		return ok && sameGraph(a, g)
	default:
		return a == b
	}
}

// randomGraph returns a closed graph that has something of everything.
func randomGraph(t testing.TB, r *rand.Rand, depth int) *model.Graph {
	t.Helper()
	g := model.New(fmt.Sprintf("graph <%d> & \"é\"", r.IntN(10)))
	have := []string{}
	for i := range r.IntN(4) {
		name := fmt.Sprintf("in%d.%d", depth, i)
		g.Inputs = append(g.Inputs, name)
		have = append(have, name)
		if r.IntN(4) > 0 {
			g.Values[name] = &model.Value{Type: model.DType(r.IntN(int(model.Bool)) + 1), Shape: randomShape(r, true)}
		}
	}
	for i := range 1 + r.IntN(6) {
		name := fmt.Sprintf("const%d.%d", depth, i)
		g.AddConst(name, randomTensor(t, r))
		have = append(have, name)
	}
	for i := range 1 + r.IntN(6) {
		n := &model.Node{Op: "Op", Name: fmt.Sprintf("node%d", i), Attrs: map[string]model.Attr{}}
		for range r.IntN(4) {
			n.In = append(n.In, have[r.IntN(len(have))])
		}
		n.In = append(n.In, "")
		for k := range r.IntN(5) {
			n.Attrs[fmt.Sprintf("attr%d", k)] = randomAttr(t, r, depth)
		}
		out := fmt.Sprintf("out%d.%d", depth, i)
		n.Out = []string{out, ""}
		have = append(have, out)
		g.Nodes = append(g.Nodes, n)
	}
	g.Outputs = []string{have[len(have)-1]}
	return g
}

func randomShape(r *rand.Rand, unknown bool) model.Shape {
	if unknown && r.IntN(4) == 0 {
		return nil
	}
	s := model.Shape{}
	for range r.IntN(4) {
		if unknown && r.IntN(3) == 0 {
			s = append(s, model.Unknown)
		} else {
			s = append(s, r.IntN(6))
		}
	}
	return s
}

func randomTensor(t testing.TB, r *rand.Rand) *model.Tensor {
	t.Helper()
	v, err := model.NewTensor(model.DType(r.IntN(int(model.Bool))+1), randomShape(r, false)...)
	if err != nil {
		t.Fatal(err)
	}
	for i := range v.Data {
		v.Data[i] = byte(r.IntN(256))
		if v.Type == model.Bool {
			v.Data[i] &= 1
		}
	}
	return v
}

func randomAttr(t testing.TB, r *rand.Rand, depth int) model.Attr {
	t.Helper()
	float := func() float32 { return math.Float32frombits(r.Uint32()) }
	switch r.IntN(8) {
	case 0:
		return int64(r.Uint64())
	case 1:
		return float()
	case 2:
		return strings.Repeat("s\x00\"\\é", r.IntN(3))
	case 3:
		return []int64{math.MinInt64, math.MaxInt64, 1<<53 + 1}[:r.IntN(4)]
	case 4:
		return []float32{float(), float32(math.Inf(-1)), float32(math.NaN())}[:r.IntN(4)]
	case 5:
		return []string{"a", "", "<&>"}[:r.IntN(4)]
	case 6:
		return randomTensor(t, r)
	default:
		if depth < 3 {
			return randomGraph(t, r, depth+1)
		}
		return "deep"
	}
}

func TestRandomGraphs(t *testing.T) {
	for seed := range uint64(200) {
		g := randomGraph(t, rand.New(rand.NewPCG(seed, 3)), 0)
		text, refs := encodeForTest(t, g)
		got, err := decodeGraph(text, refs)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, text)
		}
		if !sameGraph(got, g) {
			t.Fatalf("seed %d: it came back different:\n%s", seed, text)
		}
		if again, _ := encodeForTest(t, got); !bytes.Equal(again, text) {
			t.Fatalf("seed %d: written again:\n%s\n%s", seed, text, again)
		}
	}
}

func encodeForTest(t testing.TB, g *model.Graph) ([]byte, map[string]*model.Tensor) {
	t.Helper()
	text, tensors, err := encodeGraph(g)
	if err != nil {
		t.Fatal(err)
	}
	refs, err := decodeTensors(encodeAll(t, tensors))
	if err != nil {
		t.Fatal(err)
	}
	return text, refs
}

func TestFloatsAreExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	bits := []uint32{0, 0x80000000, 1, 0x80000001, 0x007fffff, 0x00800000, 0x7f7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0xffc12345, 0x3dcccccd}
	for range 20000 {
		bits = append(bits, r.Uint32())
	}
	for _, b := range bits {
		text, err := floatJSON(math.Float32frombits(b)).MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var f floatJSON
		if err := f.UnmarshalJSON(text); err != nil {
			t.Fatalf("%08x: %s: %v", b, text, err)
		}
		if got := math.Float32bits(float32(f)); got != b {
			t.Fatalf("%08x: %s: got %08x", b, text, got)
		}
	}
}

// Equal names in the graph and in its subgraphs get names of their own.
func TestNamesOfTensors(t *testing.T) {
	sub := model.New("sub")
	sub.AddConst("w", model.Of(model.F32, floats(30, 2), 30))
	sub.AddConst("~pad.0", model.Of(model.F32, floats(30, 3), 30))
	sub.AddConst("__metadata__", model.Of(model.F32, floats(30, 4), 30))
	sub.Outputs = []string{"w"}
	g := model.New("outer")
	g.AddConst("w", model.Of(model.F32, floats(30, 1), 30))
	g.Nodes = []*model.Node{{Op: "If", Name: "if", Out: []string{"y"}, Attrs: map[string]model.Attr{"then_branch": sub}}}
	g.Outputs = []string{"y"}
	text, refs := encodeForTest(t, g)
	got, err := decodeGraph(text, refs)
	if err != nil {
		t.Fatal(err)
	}
	if !sameGraph(got, g) || len(refs) != 4 {
		t.Errorf("%d tensors, %s", len(refs), text)
	}
}

// good is a small graph.json that reads the tensor w.
const good = `{"opset":13,"graph":{"name":"g","inputs":["x"],"outputs":["y"],"values":{"x":{"type":"float32","shape":[-1]},"c":{"const":{"ref":"w"}}},` +
	`"nodes":[{"op":"Relu","name":"r","in":["x"],"out":["y"],"attrs":{"a":{"int":1}}}]}}`

func TestBadGraphs(t *testing.T) {
	refs := map[string]*model.Tensor{"w": model.Of(model.F32, floats(4, 0), 4)}
	if _, err := decodeGraph([]byte(good), refs); err != nil {
		t.Fatal(err)
	}
	deep := func(n int) string {
		return `{"opset":13,"graph":` + strings.Repeat(`{"name":"g","outputs":[],"nodes":[{"op":"If","name":"i","out":["y"],"attrs":{"then":{"graph":`, n) +
			`{"name":"last","nodes":[]}` + strings.Repeat(`}}}]}`, n) + `}`
	}
	if _, err := decodeGraph([]byte(deep(MaxDepth)), nil); err != nil {
		t.Fatalf("%d levels: %v", MaxDepth, err)
	}
	cases := []struct{ name, text, want string }{
		{"empty", ``, "EOF"},
		{"no graph", `{"opset":13}`, "no graph"},
		{"another opset", strings.Replace(good, "13", "14", 1), "opset"},
		{"unknown field", strings.Replace(good, `"op":`, `"colour":"red","op":`, 1), "unknown field"},
		{"more after it", good + `{}`, "more than one"},
		{"unknown type", strings.Replace(good, "float32", "float33", 1), "float33"},
		{"negative axis", strings.Replace(good, "[-1]", "[-2]", 1), "axis"},
		{"huge axis", strings.Replace(good, "[-1]", "[1099511627777]", 1), "axis"},
		{"many axes", strings.Replace(good, "[-1]", "[1"+strings.Repeat(",1", MaxRank)+"]", 1), "axes"},
		{"null value", strings.Replace(good, `{"const":{"ref":"w"}}`, `null`, 1), "null"},
		{"unknown tensor", strings.Replace(good, `"ref":"w"`, `"ref":"v"`, 1), "is not in"},
		{"tensor of nothing", strings.Replace(good, `{"ref":"w"}`, `{}`, 1), "without ref"},
		{"ref and data", strings.Replace(good, `"ref":"w"`, `"ref":"w","base64":""`, 1), "with data"},
		{"too little data", strings.Replace(good, `"ref":"w"`, `"type":"int8","shape":[2],"base64":"AA=="`, 1), "needs 2 bytes"},
		{"huge shape", strings.Replace(good, `"ref":"w"`, `"type":"int8","shape":[1073741824,1073741824],"base64":"AA=="`, 1), "elements"},
		{"bool of 2", strings.Replace(good, `"ref":"w"`, `"type":"bool","shape":[1],"base64":"Ag=="`, 1), "bool"},
		{"shape beside a constant", strings.Replace(good, `"const"`, `"shape":[4],"const"`, 1), "beside"},
		{"int as float", strings.Replace(good, `"int":1`, `"int":1.5`, 1), "int64"},
		{"two kinds", strings.Replace(good, `"int":1`, `"int":1,"string":"1"`, 1), "2 kinds"},
		{"no kind", strings.Replace(good, `{"int":1}`, `null`, 1), "0 kinds"},
		{"float out of range", strings.Replace(good, `"int":1`, `"float":1e39`, 1), "range"},
		{"nan that is none", strings.Replace(good, `"int":1`, `"float":"nan:3f800000"`, 1), "float32"},
		{"null float", strings.Replace(good, `"int":1`, `"floats":[null]`, 1), "float32"},
		{"open graph", strings.Replace(good, `"in":["x"]`, `"in":["z"]`, 1), "nothing before"},
		{"deep", deep(MaxDepth + 1), "inside each other"},
		{"nested text", `{"opset":` + strings.Repeat("[", 200), "levels"},
		{"many values", `{"opset":[` + strings.Repeat("0,", MaxItems) + `0]}`, "values"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := decodeGraph([]byte(c.text), refs)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func FuzzGraph(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"opset":13,"graph":{"name":"","nodes":[],"values":{"a":{"const":{"type":"int8","shape":[1],"base64":"AA=="}}},"outputs":["a"]}}`))
	for seed := range uint64(2) {
		g := randomGraph(f, rand.New(rand.NewPCG(seed, 9)), 2)
		text, _, err := encodeGraph(g)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	refs := map[string]*model.Tensor{"w": model.Of(model.F32, floats(40, 0), 40)}
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := decodeGraph(data, refs)
		if err != nil {
			return
		}
		// What was read can be written and read again.
		text, tensors, err := encodeGraph(g)
		if err != nil {
			t.Fatalf("read, but not written: %v", err)
		}
		again, err := decodeTensors(encodeAll(t, tensors))
		if err != nil {
			t.Fatal(err)
		}
		h, err := decodeGraph(text, again)
		if err != nil {
			t.Fatalf("written, but not read: %v\n%s", err, text)
		}
		if !sameGraph(g, h) {
			t.Fatalf("it came back different:\n%s\n%s", data, text)
		}
	})
}

// encodeGraph returns graph.json and the tensors to which it refers, in the
// order in which the nodes first read them. Equal tensors are one.
func encodeGraph(g *model.Graph) (text []byte, tensors []named, err error) {
	e := newGraphWriter()
	text, err = e.encode(g)
	return text, e.tensors, err
}

// decodeGraph reads graph.json of either version; refs are the tensors of
// weights.safetensors. The graph it returns passed model.Graph.Check. It
// shares the tensors.
func decodeGraph(data []byte, refs map[string]*model.Tensor) (*model.Graph, error) {
	d := &graphReader{refs: refs, packed: true}
	return d.decode(data)
}
