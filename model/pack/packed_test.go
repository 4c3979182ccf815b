package pack

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"dunlin/internal/oci"
	"dunlin/model"
)

// fourBits is a graph all of whose constants have a form: weights of four
// bits, scales in bfloat16, and the units of a bias.
func fourBits() *model.Graph {
	const channels, depth = 20, 70
	r := rand.New(rand.NewPCG(31, 32))
	w, scales, units := make([]int8, channels*depth), make([]float32, channels), make([]float32, channels)
	for c := range channels {
		for k := range depth {
			w[c*depth+k] = int8((1 + (c+k/32)%18) * (r.IntN(15) - 7))
		}
		scales[c] = math.Float32frombits(math.Float32bits(float32(r.Float64()+.01)) &^ 0xffff)
		units[c] = model.Product(scales[c], .0123)
	}
	g := model.New("fourbits")
	g.Inputs, g.Outputs = []string{"q"}, []string{"y"}
	g.Values["q"] = &model.Value{Type: model.I8, Shape: model.Shape{1, depth}}
	g.AddConst("xs", model.Of(model.F32, []float32{.0123}))
	g.AddConst("w", model.Of(model.I8, w, channels, depth))
	g.AddConst("ws", model.Of(model.F32, scales, channels))
	g.AddConst("b", model.Of(model.I32, make([]int32, channels), channels))
	g.AddConst("bs", model.Of(model.F32, units, channels))
	axis := map[string]model.Attr{"axis": int64(0)}
	g.Nodes = []*model.Node{
		{Op: "DequantizeLinear", Name: "dx", In: []string{"q", "xs"}, Out: []string{"x"}},
		{Op: "DequantizeLinear", Name: "dw", In: []string{"w", "ws"}, Out: []string{"wf"}, Attrs: axis},
		{Op: "DequantizeLinear", Name: "db", In: []string{"b", "bs"}, Out: []string{"bf"}, Attrs: axis},
		{Op: "Gemm", Name: "gemm", In: []string{"x", "wf", "bf"}, Out: []string{"y"}, Attrs: map[string]model.Attr{"transB": int64(1)}},
	}
	return g
}

// TestPacked: a graph whose constants have forms is written in fewer bytes as
// version 2, and comes back bit by bit; one without stays version 1.
func TestPacked(t *testing.T) {
	g := fourBits()
	l := newLayout(t)
	digest := write(t, l, &Pack{Name: "four", Version: 1, Graph: g})
	m, err := Open(l, digest)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if !sameGraph(m.Graph, g) {
		t.Error("the graph came back different")
	}
	if media, size := graphLayer(t, l, digest); media != MediaTypeGraphV2 || size > 1400 {
		t.Errorf("%s, weights of %d bytes", media, size)
	}
	if got, want := m.Graph.StoredBytes(), g.StoredBytes(); got != want || want != 20*(2*17+4)+20*2+20*4+4 {
		t.Errorf("%d bytes stored, %d before", got, want)
	}
	if again := write(t, l, &Pack{Name: "four", Version: 1, Graph: m.Graph}); again != digest {
		t.Errorf("written again it is %s, not %s", again, digest)
	}
	plain := fourBits()
	plain.Const("w").I8()[0], plain.Const("w").I8()[1] = 127, 1
	plain.Const("ws").F32()[0] *= 1.0000002
	if media, _ := graphLayer(t, l, write(t, l, &Pack{Name: "plain", Version: 1, Graph: plain})); media != MediaTypeGraph {
		t.Errorf("%s without a form", media)
	}
}

// graphLayer returns the media type of a pack's graph and the size of its
// weights.
func graphLayer(t *testing.T, l *oci.Layout, digest string) (media string, weights int64) {
	t.Helper()
	d, err := oci.ParseDigest(digest)
	if err != nil {
		t.Fatal(err)
	}
	m, err := l.Manifest(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range m.Layers {
		switch d.Annotations[annotationFile] {
		case fileGraph:
			media = d.MediaType
		case fileWeights:
			weights = d.Size
		}
	}
	return media, weights
}

// TestPackedErrors: what names stored tensors wrongly is refused.
func TestPackedErrors(t *testing.T) {
	refs := map[string]*model.Tensor{
		"n": {Type: model.U8, Shape: model.Shape{3}, Data: []byte{1, 0, 0}},
		"b": model.Of(model.BF16, []uint16{0x3f80}, 1),
		"f": model.Of(model.F32, []float32{1}, 1),
		"i": model.Of(model.I8, []int8{1}, 1),
	}
	text := func(consts ...string) string {
		var b strings.Builder
		b.WriteString(`{"opset":13,"graph":{"name":"g","inputs":[],"outputs":[],"nodes":[],"values":{`)
		for i, c := range consts {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(`"` + string(rune('a'+i)) + `":{"const":` + c + `}`)
		}
		return b.String() + "}}}"
	}
	for _, c := range []struct {
		consts []string
		want   string
	}{
		{[]string{`{"ref":"n","packing":"int4","shape":[1,3]}`, `{"ref":"n","packing":"int4","shape":[1,3]}`, `{"ref":"b","packing":"bfloat16"}`, `{"ref":"b","packing":"product","times":2}`}, ""},
		{[]string{`{"ref":"f","packing":"product","times":2}`, `{"ref":"f","packing":"product","times":3}`}, "in two ways"},
		{[]string{`{"ref":"n","packing":"int4","shape":[1,3]}`, `{"ref":"n","packing":"int4","shape":[1,3],"axis":1}`}, "in two ways"},
		{[]string{`{"ref":"n","packing":"int4","shape":[1,4]}`}, ""},
		{[]string{`{"ref":"n","packing":"int4","shape":[1,5]}`}, "need 4 bytes"},
		{[]string{`{"ref":"n","packing":"int4","shape":[1,3],"axis":2}`}, "axis 2"},
		{[]string{`{"ref":"n","packing":"int4","shape":[-1,3]}`}, ""},
		{[]string{`{"ref":"f","packing":"int4","shape":[1,3]}`}, "want bytes"},
		{[]string{`{"ref":"f","packing":"bfloat16"}`}, "want bfloat16"},
		{[]string{`{"ref":"b","packing":"bfloat16","shape":[1]}`}, "not its own"},
		{[]string{`{"ref":"i","packing":"product","times":2}`}, "want float32"},
		{[]string{`{"ref":"f","packing":"product"}`}, "not its own"},
		{[]string{`{"ref":"f","packing":"zip"}`}, "unknown"},
		{[]string{`{"ref":"f","axis":1}`}, "with data"},
		{[]string{`{"type":"float32","shape":[1],"base64":"AAAAAA==","packing":"int4"}`}, "without ref"},
		{[]string{`{"ref":"nobody","packing":"int4","shape":[1,3]}`}, "is not in"},
		{[]string{`{"ref":"n","packing":"int4","type":"int8","shape":[1,3]}`}, "beside a packing"},
	} {
		_, err := decodeGraph([]byte(text(c.consts...)), refs)
		bad := c.want != "" || strings.Contains(c.consts[0], "-1")
		if (err != nil) != bad || bad && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.consts, err, c.want)
		}
	}
	d := &graphReader{refs: refs}
	if _, err := d.decode([]byte(text(`{"ref":"b","packing":"bfloat16"}`))); err == nil {
		t.Error("version 1 has a packing")
	}
}

// FuzzPacked: whatever is read of a graph with packings can be written, and
// reads the same.
func FuzzPacked(f *testing.F) {
	text, tensors, err := encodeGraph(fourBits())
	if err != nil {
		f.Fatal(err)
	}
	refs, err := decodeTensors(encodeAll(f, tensors))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(bytes.ReplaceAll(text, []byte(`"times":0.0123`), []byte(`"times":"inf"`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := decodeGraph(data, refs)
		if err != nil {
			return
		}
		text, tensors, err := encodeGraph(g)
		if err != nil {
			t.Fatalf("read, but not written: %v", err)
		}
		again, err := decodeTensors(encodeAll(t, tensors))
		if err != nil {
			t.Fatal(err)
		}
		h, err := decodeGraph(text, again)
		if err != nil || !sameGraph(g, h) {
			t.Fatalf("written and read it is another graph: %v\n%s", err, text)
		}
	})
}
