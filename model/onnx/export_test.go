package onnx

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"dunlin/internal/shared"
	"dunlin/model"
)

// sameGraph returns what differs between two graphs, "" where nothing does: a
// value of which nothing is known is as good as none.
func sameGraph(a, b *model.Graph) string {
	switch {
	case cmp.Or(a.Name, "graph") != cmp.Or(b.Name, "graph"):
		return fmt.Sprintf("name %q and %q", a.Name, b.Name)
	case !slices.Equal(a.Inputs, b.Inputs) || !slices.Equal(a.Outputs, b.Outputs):
		return fmt.Sprintf("inputs %v and %v, outputs %v and %v", a.Inputs, b.Inputs, a.Outputs, b.Outputs)
	case len(a.Nodes) != len(b.Nodes):
		return fmt.Sprintf("%d nodes and %d", len(a.Nodes), len(b.Nodes))
	}
	for _, name := range append(slices.Sorted(maps.Keys(a.Values)), slices.Sorted(maps.Keys(b.Values))...) {
		v, w := a.Value(name), b.Value(name)
		if v.Type != w.Type || (v.Shape == nil) != (w.Shape == nil) || !v.Shape.Equal(w.Shape) || !slices.Equal(v.Dims, w.Dims) ||
			!sameTensor(v.Const, w.Const) {
			return fmt.Sprintf("value %s: %+v and %+v", name, v, w)
		}
	}
	for i, n := range a.Nodes {
		m := b.Nodes[i]
		if n.Name != m.Name || n.Op != m.Op || !slices.Equal(n.In, m.In) || !slices.Equal(n.Out, m.Out) || len(n.Attrs) != len(m.Attrs) {
			return fmt.Sprintf("node %+v and %+v", n, m)
		}
		for key, x := range n.Attrs {
			if d := sameAttr(x, m.Attrs[key]); d != "" {
				return fmt.Sprintf("%s, attribute %s: %s", part(n), key, d)
			}
		}
	}
	return ""
}

func sameTensor(a, b *model.Tensor) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Type == b.Type && a.Shape.Equal(b.Shape) && bytes.Equal(a.Data, b.Data)
}

func sameAttr(x, y model.Attr) string {
	if a, ok := x.(*model.Tensor); ok {
		if b, ok := y.(*model.Tensor); ok && sameTensor(a, b) {
			return ""
		}
	}
	if a, ok := x.([]float32); ok {
		if b, ok := y.([]float32); ok && sameTensor(model.Of(model.F32, a, len(a)), model.Of(model.F32, b, len(b))) {
			return ""
		}
	}
	if f, ok := x.(float32); ok {
		if g, ok := y.(float32); ok && math.Float32bits(f) == math.Float32bits(g) {
			return ""
		}
	}
	if g, ok := x.(*model.Graph); ok {
		h, ok := y.(*model.Graph)
		if !ok {
			return fmt.Sprintf("a graph and %T", y)
		}
		return sameGraph(g, h)
	}
	if v := reflect.ValueOf(x); v.Kind() == reflect.Slice && v.Len() == 0 && reflect.TypeOf(y) == v.Type() && reflect.ValueOf(y).Len() == 0 {
		return ""
	}
	if !reflect.DeepEqual(x, y) {
		return fmt.Sprintf("%v and %v", x, y)
	}
	return ""
}

// again exports g and imports what came out.
func again(t *testing.T, g *model.Graph) (file []byte, back *model.Graph) {
	t.Helper()
	var b bytes.Buffer
	if err := Export(&b, g); err != nil {
		t.Error(err)
		return nil, nil
	}
	back, err := Import(b.Bytes())
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	return b.Bytes(), back
}

// TestExportModels: what Export writes of every real model, of ONNX's own
// suite and of the demo's network is read as the same graph.
func TestExportModels(t *testing.T) {
	list := []string{"../../examples/garments/garments.onnx"}
	for _, dir := range []string{shared.Dir(t, "models", "onnx"), shared.Dir(t, "models", "onnx-light"), shared.Dir(t, "conformance", "onnx-node")} {
		list = append(list, files(t, dir)...)
	}
	done := 0
	for _, path := range list {
		if info, err := os.Stat(path); err != nil || testing.Short() && info.Size() > 1<<20 {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		g, err := Import(data)
		if err != nil {
			continue // those that are refused are counted by the tests of Import
		}
		_, back := again(t, g)
		if back == nil {
			t.Errorf("%s", path)
			continue
		}
		if d := sameGraph(g, back); d != "" {
			t.Errorf("%s: %.500s", filepath.Base(filepath.Dir(path)), d)
		}
		done++
	}
	if done < 900 {
		t.Errorf("only %d of %d files came round", done, len(list))
	}
}

// every is a graph with each kind of attribute, of constant and of value.
func every() *model.Graph {
	g := model.New("every")
	g.Inputs, g.Outputs = []string{"x", "s"}, []string{"y", "n", "f32"}
	g.Values["x"] = &model.Value{Type: model.F32, Shape: model.Shape{model.Unknown, 0, 3, model.Unknown}, Dims: []string{"N", "", "", ""}}
	g.Values["s"] = &model.Value{Type: model.I64, Shape: model.Shape{}}
	g.Values["y"] = &model.Value{Type: model.F16}
	g.Values["h"] = &model.Value{Shape: model.Shape{model.Unknown}}
	for d := model.F32; d <= model.Bool; d++ {
		t, _ := model.NewTensor(d, 2, 3)
		t.Data[0] = 1
		g.AddConst(d.String(), t)
	}
	g.AddConst("f32", model.Of(model.F32, []float32{float32(math.NaN()), float32(math.Inf(-1)), math.MaxFloat32}, 3, 1))
	g.AddConst("none", model.Of(model.I64, []int64{}, 0))
	sub := model.New("branch")
	sub.Outputs = []string{"inner"}
	sub.AddConst("k", model.Of(model.F32, []float32{2}))
	sub.Nodes = []*model.Node{{Op: "Mul", Name: "m", In: []string{"x", "k"}, Out: []string{"inner"}}}
	g.Nodes = []*model.Node{
		{
			Op: "com.example.deep.Any", Name: "any", In: []string{"x", "", "none"}, Out: []string{"h", "", "n"},
			Attrs: map[string]model.Attr{
				"i": int64(math.MinInt64), "f": float32(-0.5), "s": "not UTF-8: \xff", "is": []int64{-1, 0, 1 << 40}, "fs": []float32{1, -2},
				"ss": []string{"", "a"}, "t": model.Of(model.I8, []int8{-128, 127}, 2), "g": sub, "nothing": []int64{}, "zero": int64(0),
			},
		},
		{Op: "Identity", Name: "last", In: []string{"h"}, Out: []string{"y"}},
	}
	return g
}

func TestExport(t *testing.T) {
	g := every()
	file, back := again(t, g)
	if back == nil {
		return
	}
	if d := sameGraph(g, back); d != "" {
		t.Error(d)
	}
	second, _ := again(t, g)
	if !bytes.Equal(file, second) {
		t.Error("two exports differ")
	}
	w := &stops{after: 10}
	if err := Export(w, g); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a writer that fails: %v", err)
	}
}

// stops takes so many bytes.
type stops struct{ after int }

func (s *stops) Write(b []byte) (int, error) {
	if s.after -= len(b); s.after < 0 {
		return 0, os.ErrClosed
	}
	return len(b), nil
}

// opsetOf reads which opset a file says it is for.
func opsetOf(t *testing.T, data []byte) int64 {
	t.Helper()
	r := &reader{budget: newBudget(len(data))}
	f, err := r.file(data)
	if err != nil {
		t.Fatal(err)
	}
	return f.opset
}

// TestExportOpset: the file is of the lowest opset, from 13 on, that has the
// forms of the graph.
func TestExportOpset(t *testing.T) {
	for _, c := range []struct {
		name  string
		in    model.DType // type of input x
		n     model.Node
		opset int64
	}{
		{"an old operator", model.F32, model.Node{Op: "Relu", In: []string{"x"}}, 13},
		{"another domain", model.F32, model.Node{Op: "com.microsoft.QLinearAdd", In: []string{"x"}}, 13},
		{"ReduceSum with axes", model.F32, model.Node{Op: "ReduceSum", In: []string{"x", "axes"}}, 13},
		{"ReduceMean of all", model.F32, model.Node{Op: "ReduceMean", In: []string{"x"}}, 13},
		{"ReduceMean with axes", model.F32, model.Node{Op: "ReduceMean", In: []string{"x", "axes"}}, 18},
		{"integers", model.I32, model.Node{Op: "Relu", In: []string{"x"}}, 14},
		{"short integers", model.I8, model.Node{Op: "Add", In: []string{"x", "x"}}, 14},
		{"allowzero", model.F32, model.Node{Op: "Reshape", In: []string{"x", "axes"}, Attrs: map[string]model.Attr{"allowzero": int64(1)}}, 14},
		{"an operator of 17", model.F32, model.Node{Op: "LayerNormalization", In: []string{"x", "x"}}, 17},
		{"wrap", model.F32, model.Node{Op: "Pad", In: []string{"x", "axes"}, Attrs: map[string]model.Attr{"mode": "wrap"}}, 19},
		{"reflect", model.F32, model.Node{Op: "Pad", In: []string{"x", "axes"}, Attrs: map[string]model.Attr{"mode": "reflect"}}, 13},
		{"16 bits", model.U16, model.Node{Op: "DequantizeLinear", In: []string{"x", "scales"}}, 21},
		{"8 bits", model.U8, model.Node{Op: "DequantizeLinear", In: []string{"x", "scales"}}, 13},
		{"scales of groups", model.F32, model.Node{Op: "GroupNormalization", In: []string{"x", "scales", "scales"}, Attrs: map[string]model.Attr{"num_groups": int64(2)}}, 18},
		{"scales of channels", model.F32, model.Node{Op: "GroupNormalization", In: []string{"x", "scales", "scales"}, Attrs: map[string]model.Attr{"num_groups": int64(1)}}, 21},
	} {
		g := model.New("one")
		g.Inputs, g.Outputs = []string{"x"}, []string{"y"}
		g.Values["x"] = &model.Value{Type: c.in, Shape: model.Shape{1, 4}}
		g.AddConst("axes", model.Of(model.I64, []int64{1}, 1))
		g.AddConst("scales", model.Of(model.F32, []float32{1, 1}, 2))
		c.n.Name, c.n.Out = "n", []string{"y"}
		g.Nodes = []*model.Node{&c.n}
		file, back := again(t, g)
		if back == nil {
			t.Errorf("%s", c.name)
			continue
		}
		if got := opsetOf(t, file); got != c.opset {
			t.Errorf("%s: opset %d, want %d", c.name, got, c.opset)
		}
		if d := sameGraph(g, back); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func TestExportRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*model.Graph)
		want error
		text string
	}{
		{"a broken graph", func(g *model.Graph) { g.Outputs = append(g.Outputs, "nowhere") }, nil, "nowhere"},
		{"an attribute of no type of ONNX", func(g *model.Graph) { g.Nodes[1].Attrs = map[string]model.Attr{"a": 7} }, ErrUnsupported, "int"},
		{"a name that is no text", func(g *model.Graph) { g.Nodes[1].Name = "\xff" }, ErrUnsupported, "UTF-8"},
		{"a broken tensor", func(g *model.Graph) {
			g.Nodes[1].Attrs = map[string]model.Attr{"value": &model.Tensor{Type: model.F32, Shape: model.Shape{2}}}
		}, ErrUnsupported, "needs 8 bytes"},
		{"no operator", func(g *model.Graph) { g.Nodes[1].Op = "domain." }, ErrUnsupported, "without a name"},
		{"two forms of no one opset", func(g *model.Graph) {
			g.AddConst("scale", model.Of(model.F32, []float32{1, 1}, 2))
			g.AddConst("one", model.Of(model.F32, []float32{1}))
			g.Nodes = append(g.Nodes,
				&model.Node{Op: "GroupNormalization", Name: "g", In: []string{"h", "scale", "scale"}, Out: []string{"z"}, Attrs: map[string]model.Attr{"num_groups": int64(2)}},
				&model.Node{Op: "DequantizeLinear", Name: "d", In: []string{"int16", "one"}, Out: []string{"w"}})
		}, ErrUnsupported, "opset 20"},
	} {
		g := every()
		c.do(g)
		var b bytes.Buffer
		err := Export(&b, g)
		var typed *Error
		if !errors.As(err, &typed) || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || b.Len() > 0 {
			t.Errorf("%s: %v after %d bytes", c.name, err, b.Len())
		}
	}
}

// FuzzExport asks that any graph that Import makes is written, and read again
// as the same, unless no one opset has its operators.
func FuzzExport(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	shared.Corpus(f, ".onnx", 100<<10, "models")
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := Import(data)
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := Export(&b, g); err != nil {
			if !errors.Is(err, ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		back, err := Import(b.Bytes())
		if errors.Is(err, ErrTooLarge) {
			return // the budget is in proportion to the file, and the new one may be smaller
		}
		if err != nil {
			t.Fatal(err)
		}
		if d := sameGraph(g, back); d != "" {
			t.Errorf("%.500s", d)
		}
	})
}
