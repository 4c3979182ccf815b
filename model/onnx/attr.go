package onnx

import (
	"math"

	"dunlin/model"
)

// The numbers of AttributeProto.AttributeType.
const (
	attrFloat   = 1
	attrInt     = 2
	attrString  = 3
	attrTensor  = 4
	attrGraph   = 5
	attrFloats  = 6
	attrInts    = 7
	attrStrings = 8
)

// attribute reads an AttributeProto into n.Attrs.
func (r *reader) attribute(part string, n *model.Node, b []byte, depth int) error {
	a := attribute{}
	if err := r.budget.take(200); err != nil {
		return err
	}
	err := fields(part, b, func(x field) error { return a.field(r, part, x, depth) })
	if err != nil {
		return err
	}
	if a.name == "" {
		return fail(ErrMalformed, part, "an attribute has no name")
	}
	v := a.value()
	if v == nil {
		return fail(ErrUnsupported, part, "attribute %s of type number %d", quote(a.name), a.typ)
	}
	if n.Attrs == nil {
		if err := r.budget.take(512); err != nil {
			return err
		}
		n.Attrs = map[string]model.Attr{}
	}
	n.Attrs[a.name] = v
	return nil
}

// attribute is an AttributeProto. Files from before IR version 2 do not say
// which field is meant; then it is the one that is there.
type attribute struct {
	name    string
	typ     int64
	seen    int64 // the type that the last field seen stands for
	f       float32
	i       int64
	s       string
	t       *model.Tensor
	g       *model.Graph
	floats  []float32
	ints    []int64
	strings []string
}

func (a *attribute) field(r *reader, part string, x field, depth int) (err error) {
	switch x.num {
	case 1:
		a.name, err = r.text(part, x)
	case 2:
		if x.wire != wire32 {
			return fail(ErrMalformed, part, "a float attribute has wire type %d", x.wire)
		}
		a.f, a.seen = math.Float32frombits(uint32(x.v)), attrFloat
	case 3:
		a.seen = attrInt
		a.i, err = x.varint(part)
	case 4, 5, 6, 9:
		return a.bytes(r, part, x, depth)
	case 7:
		a.seen = attrFloats
		return repeated(part, x, wire32, func(v uint64) error {
			a.floats, err = grow(r, a.floats, math.Float32frombits(uint32(v)), 4)
			return err
		})
	case 8:
		a.seen = attrInts
		return repeated(part, x, wireVarint, func(v uint64) error {
			a.ints, err = grow(r, a.ints, int64(v), 8)
			return err
		})
	case 20:
		a.typ, err = x.varint(part)
	case 21:
		err = fail(ErrUnsupported, part, "an attribute that refers to one of a function")
	}
	return err
}

// bytes reads the attributes that are messages or strings.
func (a *attribute) bytes(r *reader, part string, x field, depth int) error {
	d, err := x.message(part)
	if err != nil {
		return err
	}
	switch x.num {
	case 4:
		a.s, a.seen = string(d), attrString
		err = r.budget.take(int64(len(d)) + 32)
	case 5:
		a.seen = attrTensor
		_, a.t, err = r.tensor(part, d)
	case 6:
		a.seen = attrGraph
		a.g, err = r.graph(d, depth+1)
	case 9:
		a.seen = attrStrings
		if err = r.budget.take(int64(len(d)) + 16); err == nil {
			a.strings, err = grow(r, a.strings, string(d), 16)
		}
	}
	return err
}

// value returns what a.typ names, nil where that is a type that dunlin does
// not hold or a tensor that is absent.
func (a *attribute) value() model.Attr {
	typ := a.typ
	if typ == 0 {
		typ = a.seen
	}
	switch typ {
	case attrFloat:
		return a.f
	case attrInt:
		return a.i
	case attrString:
		return a.s
	case attrTensor:
		if a.t != nil {
			return a.t
		}
	case attrGraph:
		if a.g != nil {
			return a.g
		}
	case attrFloats:
		return a.floats
	case attrInts:
		return a.ints
	case attrStrings:
		return a.strings
	}
	return nil
}
