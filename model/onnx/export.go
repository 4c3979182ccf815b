package onnx

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"dunlin/model"
)

// Export writes g as an ONNX file that Import makes the same graph of: the
// same nodes, attributes, constants and declared values. The opset is 13, or
// the lowest later one that has every operator in the form in which g holds
// it (forms.go). An operator "com.example.Op" is written as Op of the domain
// com.example, version 1; integers of a quantised graph as they are, between
// QuantizeLinear and DequantizeLinear. The same graph gives the same bytes.
//
// A graph without a name is called "graph", because ONNX demands one. Errors
// are an *Error, but for those of w: ErrUnsupported for what no one opset
// holds and for what is no part of ONNX, ErrTooLarge above the 2 GiB of a
// protobuf message, and the *model.Error of Graph.Check for a broken graph.
func Export(w io.Writer, g *model.Graph) error {
	if err := g.Check(); err != nil {
		return &Error{Part: "the graph", Err: err}
	}
	e := &exporter{}
	if err := e.form(g); err != nil {
		return err
	}
	file, err := e.file(g)
	if err != nil {
		return err
	}
	if file.size > math.MaxInt32 {
		return fail(ErrTooLarge, "the model", "%d bytes, a file of ONNX holds at most %d", file.size, math.MaxInt32)
	}
	return file.writeTo(w)
}

// exporter writes the graphs of one file.
type exporter struct {
	opset   int
	domains []string // other than the default one, sorted
}

// irVersion returns the version of the file format that came with an opset
// (https://github.com/onnx/onnx/blob/main/docs/Versioning.md).
func irVersion(opset int) int64 {
	switch {
	case opset >= 21:
		return 10
	case opset >= 19:
		return 9
	}
	return 8
}

// domainOf splits the name of an operator. That of the default domain is "".
func domainOf(op string) (domain, name string) {
	if dot := strings.LastIndexByte(op, '.'); dot >= 0 {
		return op[:dot], op[dot+1:]
	}
	return "", op
}

// file writes a ModelProto.
func (e *exporter) file(g *model.Graph) (*message, error) {
	m := &message{}
	m.varint(1, irVersion(e.opset))
	m.text(2, "dunlin")
	graph, err := e.graph(g)
	if err != nil {
		return nil, err
	}
	m.message(7, graph)
	set := &message{}
	set.text(1, "")
	set.varint(2, int64(e.opset))
	m.message(8, set)
	for _, domain := range e.domains {
		set := &message{}
		set.text(1, domain)
		set.varint(2, 1)
		m.message(8, set)
	}
	return m, nil
}

// graph writes a GraphProto. Constants come before the values that may have
// their names, as Import wants it.
func (e *exporter) graph(g *model.Graph) (*message, error) {
	m := &message{}
	for _, n := range g.Nodes {
		x, err := e.node(n)
		if err != nil {
			return nil, err
		}
		m.message(1, x)
	}
	if err := checkText("the graph's name", g.Name); err != nil {
		return nil, err
	}
	m.text(2, cmp.Or(g.Name, "graph"))
	names := slices.Sorted(maps.Keys(g.Values))
	for _, name := range names {
		if t := g.Const(name); t != nil {
			x, err := tensorMessage(name, t)
			if err != nil {
				return nil, err
			}
			m.message(5, x)
		}
	}
	ports := map[string]bool{}
	for num, list := range [][]string{g.Inputs, g.Outputs} {
		for _, name := range list {
			ports[name] = true
			x, err := valueMessage(name, g.Value(name))
			if err != nil {
				return nil, err
			}
			m.message(11+num, x)
		}
	}
	for _, name := range names {
		if g.Const(name) != nil || ports[name] {
			continue
		}
		x, err := valueMessage(name, g.Value(name))
		if err != nil {
			return nil, err
		}
		m.message(13, x)
	}
	return m, nil
}

// node writes a NodeProto.
func (e *exporter) node(n *model.Node) (*message, error) {
	m := &message{}
	for num, list := range [][]string{n.In, n.Out} {
		for _, name := range list {
			if err := checkText(part(n), name); err != nil {
				return nil, err
			}
			m.text(1+num, name)
		}
	}
	domain, op := domainOf(n.Op)
	if op == "" {
		return nil, fail(ErrUnsupported, part(n), "an operator without a name")
	}
	for _, s := range []string{n.Name, n.Op} {
		if err := checkText(part(n), s); err != nil {
			return nil, err
		}
	}
	m.text(3, n.Name)
	m.text(4, op)
	attrs := n.Attrs
	if op == "Split" && domain == "" && e.opset >= 18 && n.Input(1) == "" {
		attrs = maps.Clone(attrs)
		if attrs == nil {
			attrs = map[string]model.Attr{}
		}
		attrs["num_outputs"] = int64(len(n.Out))
	}
	for _, key := range slices.Sorted(maps.Keys(attrs)) {
		x, err := e.attribute(n, key, attrs[key])
		if err != nil {
			return nil, err
		}
		m.message(5, x)
	}
	if domain != "" {
		m.text(7, domain)
	}
	return m, nil
}

// attribute writes an AttributeProto.
func (e *exporter) attribute(n *model.Node, key string, a model.Attr) (*message, error) {
	if err := checkText(part(n), key); err != nil {
		return nil, err
	}
	m := &message{}
	m.text(1, key)
	typ := int64(0)
	switch v := a.(type) {
	case float32:
		m.float(2, v)
		typ = attrFloat
	case int64:
		m.varint(3, v)
		typ = attrInt
	case string:
		m.text(4, v)
		typ = attrString
	case *model.Tensor:
		if err := v.Check(); err != nil {
			return nil, &Error{Part: part(n) + ", attribute " + key, Err: fmt.Errorf("%w: %w", ErrUnsupported, err)}
		}
		x, err := tensorMessage("", v)
		if err != nil {
			return nil, err
		}
		m.message(5, x)
		typ = attrTensor
	case *model.Graph:
		x, err := e.graph(v)
		if err != nil {
			return nil, err
		}
		m.message(6, x)
		typ = attrGraph
	case []float32:
		for _, f := range v {
			m.float(7, f)
		}
		typ = attrFloats
	case []int64:
		for _, i := range v {
			m.varint(8, i)
		}
		typ = attrInts
	case []string:
		for _, s := range v {
			m.text(9, s)
		}
		typ = attrStrings
	default:
		return nil, fail(ErrUnsupported, part(n), "attribute %s of type %T", key, a)
	}
	m.varint(20, typ)
	return m, nil
}

// tensorMessage writes a TensorProto, its values as raw bytes.
func tensorMessage(name string, t *model.Tensor) (*message, error) {
	if err := checkText("a constant", name); err != nil {
		return nil, err
	}
	m := &message{}
	for _, d := range t.Shape {
		m.varint(1, int64(d))
	}
	m.varint(2, TypeNumber(t.Type))
	if name != "" {
		m.text(8, name)
	}
	m.bytes(fieldRaw, t.Data)
	return m, nil
}

// valueMessage writes a ValueInfoProto: as much as is known.
func valueMessage(name string, v *model.Value) (*message, error) {
	if err := checkText("a value", name); err != nil {
		return nil, err
	}
	m := &message{}
	m.text(1, name)
	if v.Type == 0 && v.Shape == nil {
		return m, nil
	}
	tensor := &message{}
	if v.Type != 0 {
		tensor.varint(1, TypeNumber(v.Type))
	}
	if v.Shape != nil {
		shape := &message{}
		for i, d := range v.Shape {
			dim := &message{}
			switch {
			case d != model.Unknown:
				dim.varint(1, int64(d))
			case i < len(v.Dims) && v.Dims[i] != "":
				if err := checkText("value "+quote(name), v.Dims[i]); err != nil {
					return nil, err
				}
				dim.text(2, v.Dims[i])
			}
			shape.message(1, dim)
		}
		tensor.message(2, shape)
	}
	typ := &message{}
	typ.message(1, tensor)
	m.message(2, typ)
	return m, nil
}

// checkText fails on a name that protobuf does not hold.
func checkText(part, s string) error {
	if !utf8.ValidString(s) {
		return fail(ErrUnsupported, part, "the name %s, which is not valid UTF-8", quote(s))
	}
	return nil
}
