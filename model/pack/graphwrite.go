package pack

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"dunlin/model"
)

// smallTensor is up to how many bytes a tensor is written into graph.json:
// its line in the safetensors header would be longer.
const smallTensor = 64

// newGraphWriter returns a writer of graph.json and of the tensors to which it
// refers, in the order in which nodes first read them. Equal tensors are one.
func newGraphWriter() *graphWriter {
	return &graphWriter{
		names: map[*model.Tensor]string{}, byContent: map[string]string{}, taken: map[string]bool{},
		packings: map[string]*tensorJSON{},
	}
}

func (e *graphWriter) encode(g *model.Graph) ([]byte, error) {
	if err := g.Check(); err != nil {
		return nil, invalid("%w", err)
	}
	e.forms = g.Forms()
	e.collect(g)
	if e.err != nil {
		return nil, e.err
	}
	file := graphFile{Opset: opset, Graph: e.graph(g, 0)}
	if e.err != nil {
		return nil, e.err
	}
	return marshal(file)
}

// graphWriter keeps its first error, which makes the code below read as what
// it writes.
type graphWriter struct {
	tensors   []named
	names     map[*model.Tensor]string
	byContent map[string]string // type, shape and hash of the data -> name
	taken     map[string]bool   // names in tensors
	forms     map[*model.Tensor]model.Form
	packings  map[string]*tensorJSON // by name: how a tensor that is stored in fewer bytes is read
	packed    bool                   // some tensor is
	nodes     int
	graphs    int
	err       error
}

func (e *graphWriter) fail(format string, a ...any) {
	if e.err == nil {
		e.err = invalid(format, a...)
	}
}

// text returns s, which JSON must be able to hold.
func (e *graphWriter) text(s string) string {
	if !utf8.ValidString(s) {
		e.fail("%q is not UTF-8", clip(s))
	}
	return s
}

func (e *graphWriter) texts(all []string) []string {
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = e.text(s)
	}
	return out
}

// collect gives every large tensor its name, in the order of first use, so
// that a program that reads the weights front to back reads them as it runs.
func (e *graphWriter) collect(g *model.Graph) {
	for _, n := range g.Nodes {
		for _, in := range n.In {
			if t := g.Const(in); t != nil {
				e.ref(in, t)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(n.Attrs)) {
			switch a := n.Attrs[key].(type) {
			case *model.Tensor:
				if a != nil {
					e.ref(n.Name+"."+key, a)
				}
			case *model.Graph:
				if a != nil {
					e.collect(a)
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(g.Values)) {
		if t := g.Const(name); t != nil {
			e.ref(name, t)
		}
	}
}

// ref returns the name under which a tensor is stored, or for a product the
// one of which it is made; "" for a small one.
func (e *graphWriter) ref(want string, t *model.Tensor) string {
	name, ok := e.names[t]
	if !ok {
		from := t
		if f := e.forms[t]; f.Kind == model.FormProduct {
			from = f.Of
		}
		name = e.store(want, from)
		e.names[t] = name
	}
	return name
}

func (e *graphWriter) store(want string, t *model.Tensor) string {
	if err := t.Check(); err != nil {
		e.fail("tensor %q: %w", clip(want), err)
		return ""
	}
	if len(t.Data) <= smallTensor {
		return ""
	}
	content := fmt.Sprintf("%v%s%x", t.Type, jsonInts(t.Shape), sha256.Sum256(t.Data))
	if name, ok := e.byContent[content]; ok {
		return name
	}
	if e.text(want); checkTensorName(want) != nil {
		want = "tensor." + strings.TrimPrefix(want, padPrefix)
	}
	name := want
	for i := 2; e.taken[name]; i++ {
		name = want + "#" + strconv.Itoa(i)
	}
	e.byContent[content], e.taken[name] = name, true
	e.tensors = append(e.tensors, named{name, e.pack(name, t)})
	return name
}

// pack returns t in the form that it is stored in, and keeps how it is read.
func (e *graphWriter) pack(name string, t *model.Tensor) *model.Tensor {
	f := e.forms[t]
	var data []byte
	switch f.Kind {
	case model.FormInt4:
		data = model.PackInt4(t, f.Axis)
		e.packings[name] = &tensorJSON{Ref: name, Shape: t.Shape, Packing: string(f.Kind), Axis: f.Axis}
		t = &model.Tensor{Type: model.U8, Shape: model.Shape{len(data)}, Data: data}
	case model.FormBFloat16:
		for i := 0; i < len(t.Data); i += 4 {
			data = append(data, t.Data[i+2], t.Data[i+3])
		}
		e.packings[name] = &tensorJSON{Ref: name, Packing: string(f.Kind)}
		t = model.Of(model.BF16, make([]uint16, len(data)/2), t.Shape...)
		copy(t.Data, data)
	}
	return t
}

func (e *graphWriter) graph(g *model.Graph, depth int) *graphJSON {
	if e.graphs++; depth > MaxDepth || e.graphs > MaxGraphs {
		e.fail("graph %q: more than %d graphs, or %d inside each other", clip(g.Name), MaxGraphs, MaxDepth)
		return nil
	}
	j := &graphJSON{
		Name: e.text(g.Name), Inputs: e.texts(g.Inputs), Outputs: e.texts(g.Outputs),
		Values: make(map[string]*valueJSON, len(g.Values)), Nodes: make([]nodeJSON, 0, len(g.Nodes)),
	}
	for _, name := range slices.Sorted(maps.Keys(g.Values)) {
		j.Values[e.text(name)] = e.value(name, g.Values[name])
	}
	if e.nodes += len(g.Nodes); e.nodes > MaxNodes {
		e.fail("more than %d nodes", MaxNodes)
		return nil
	}
	for _, n := range g.Nodes {
		j.Nodes = append(j.Nodes, e.node(n, depth))
	}
	return j
}

func (e *graphWriter) value(name string, v *model.Value) *valueJSON {
	if len(v.Shape) > MaxRank || len(v.Dims) > MaxRank {
		e.fail("value %q: more than %d axes", clip(name), MaxRank)
	}
	if t := v.Const; t != nil {
		if v.Type != 0 && v.Type != t.Type || v.Shape != nil && !v.Shape.Equal(t.Shape) {
			e.fail("constant %q: known as %v %v, but it is %v %v", clip(name), v.Type, v.Shape, t.Type, t.Shape)
		}
		return &valueJSON{Const: e.tensor(name, t)}
	}
	j := &valueJSON{Shape: v.Shape, Dims: e.texts(v.Dims)}
	if v.Type != 0 {
		j.Type = v.Type.String()
		if !v.Type.Valid() {
			e.fail("value %q: %v", clip(name), v.Type)
		}
	}
	return j
}

func (e *graphWriter) tensor(name string, t *model.Tensor) *tensorJSON {
	if len(t.Shape) > MaxRank {
		e.fail("tensor %q: %d axes, at most %d", clip(name), len(t.Shape), MaxRank)
	}
	ref := e.ref(name, t)
	switch f := e.forms[t]; {
	case e.err != nil:
		return nil
	case f.Kind == model.FormProduct:
		times := floatJSON(f.Times)
		e.packed = true
		return &tensorJSON{Ref: ref, Packing: string(f.Kind), Times: &times}
	case ref != "" && e.packings[ref] != nil:
		e.packed = true
		return e.packings[ref]
	case ref != "":
		return &tensorJSON{Ref: ref}
	}
	return &tensorJSON{
		Type: t.Type.String(), Shape: append([]int{}, t.Shape...), Data: append([]byte{}, t.Data...),
	}
}

func (e *graphWriter) node(n *model.Node, depth int) nodeJSON {
	j := nodeJSON{Op: e.text(n.Op), Name: e.text(n.Name), In: e.texts(n.In), Out: e.texts(n.Out)}
	if len(n.Attrs) > 0 {
		j.Attrs = make(map[string]attrJSON, len(n.Attrs))
	}
	for _, key := range slices.Sorted(maps.Keys(n.Attrs)) {
		j.Attrs[e.text(key)] = e.attr(n, key, depth)
	}
	return j
}

func (e *graphWriter) attr(n *model.Node, key string, depth int) (j attrJSON) {
	switch a := n.Attrs[key].(type) {
	case int64:
		j.Int = &a
	case float32:
		f := floatJSON(a)
		j.Float = &f
	case string:
		e.text(a)
		j.String = &a
	case []int64:
		j.Ints = append([]int64{}, a...)
	case []float32:
		j.Floats = make([]floatJSON, len(a))
		for i, v := range a {
			j.Floats[i] = floatJSON(v)
		}
	case []string:
		j.Strings = e.texts(a)
	case *model.Tensor:
		if a != nil {
			j.Tensor = e.tensor(n.Name+"."+key, a)
		}
	case *model.Graph:
		if a != nil {
			j.Graph = e.graph(a, depth+1)
		}
	}
	if j.kinds() != 1 {
		e.fail("node %s (%s): attribute %q is a %T", clip(n.Name), clip(n.Op), clip(key), n.Attrs[key])
	}
	return j
}
