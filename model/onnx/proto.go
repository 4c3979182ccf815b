package onnx

import "dunlin/model"

// maxDepth bounds how deep subgraphs (of If, Loop, Scan) stand in each other.
const maxDepth = 16

// file is what a ModelProto says.
type file struct {
	graph   *model.Graph
	opset   int64
	ageless bool // no node's form depends on the opset
}

// reader makes a graph of protobuf messages: operators as the file has them,
// to be made canonical by canon.
type reader struct {
	budget *budget
	names  map[string]bool // all value names of the file
	aging  bool            // a node of the default domain is not in sinceOne

	fourBits map[*model.Tensor]bool // tensors that were widened to a byte each
}

// file reads a ModelProto.
func (r *reader) file(b []byte) (*file, error) {
	const part = "the model"
	f := &file{}
	r.names = map[string]bool{}
	err := fields(part, b, func(x field) error {
		switch x.num {
		case 7: // graph
			d, err := x.message(part)
			if err != nil {
				return err
			}
			if f.graph != nil {
				return fail(ErrMalformed, part, "it has two graphs")
			}
			f.graph, err = r.graph(d, 0)
			return err
		case 8: // opset_import
			d, err := x.message(part)
			if err != nil {
				return err
			}
			return r.opset(f, d)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if f.graph == nil {
		return nil, fail(ErrMalformed, part, "it has no graph")
	}
	if len(f.graph.Nodes) == 0 && len(f.graph.Outputs) == 0 {
		return nil, fail(ErrMalformed, part, "its graph is empty")
	}
	f.ageless = !r.aging
	return f, nil
}

// opset reads an OperatorSetIdProto; only the default domain's version
// matters, the other domains that we know have one form.
func (r *reader) opset(f *file, b []byte) error {
	const part = "the model's opset"
	domain, version := "", int64(0)
	err := fields(part, b, func(x field) (err error) {
		switch x.num {
		case 1:
			domain, err = r.text(part, x)
		case 2:
			version, err = x.varint(part)
		}
		return err
	})
	if err == nil && isDefault(domain) {
		f.opset = version
	}
	return err
}

func isDefault(domain string) bool { return domain == "" || domain == "ai.onnx" }

// graph reads a GraphProto. Its nodes keep their file order and operators;
// initializers become constants.
func (r *reader) graph(b []byte, depth int) (*model.Graph, error) {
	const part = "the graph"
	if depth > maxDepth {
		return nil, fail(ErrMalformed, part, "subgraphs stand more than %d deep in each other", maxDepth)
	}
	if err := r.budget.take(1024); err != nil {
		return nil, err
	}
	g := model.New("")
	err := fields(part, b, func(x field) error {
		switch x.num {
		case 1, 2, 5, 11, 12, 13, 15:
		default:
			return nil
		}
		d, err := x.message(part)
		if err != nil {
			return err
		}
		switch x.num {
		case 1:
			n, err := r.node(d, depth)
			if err != nil {
				return err
			}
			g.Nodes, err = grow(r, g.Nodes, n, 8)
			return err
		case 2:
			g.Name, err = r.text(part, x)
			return err
		case 5:
			return r.initializer(g, d)
		case 11, 12, 13: // input, output, value_info
			return r.valueInfo(g, x.num, d)
		default:
			return fail(ErrUnsupported, part, "sparse initializers")
		}
	})
	if err != nil {
		return nil, err
	}
	// Before IR version 4, every initializer had to stand among the inputs.
	kept := g.Inputs[:0]
	for _, name := range g.Inputs {
		if g.Const(name) == nil {
			kept = append(kept, name)
		}
	}
	g.Inputs = kept
	return g, nil
}

func (r *reader) initializer(g *model.Graph, b []byte) error {
	name, t, err := r.tensor("an initializer", b)
	if err != nil {
		return err
	}
	if name == "" {
		return fail(ErrMalformed, "an initializer", "it has no name")
	}
	if g.Const(name) != nil {
		return fail(ErrMalformed, "initializer "+quote(name), "it is there twice")
	}
	if err := r.value(name); err != nil {
		return err
	}
	g.AddConst(name, t)
	return nil
}

// value remembers a value's name and charges for the Value made for it.
func (r *reader) value(name string) error {
	r.names[name] = true
	return r.budget.take(400) // two map entries with growth, a Value
}

// valueInfo reads a ValueInfoProto: an input (field 11), an output (12) or
// another value (13) of graph g.
func (r *reader) valueInfo(g *model.Graph, num int, b []byte) error {
	part := map[int]string{11: "an input", 12: "an output", 13: "a value"}[num]
	v := &model.Value{}
	name, kind := "", ""
	err := fields(part, b, func(x field) (err error) {
		switch x.num {
		case 1:
			if name, err = r.text(part, x); err == nil && num != 13 {
				part += " " + quote(name)
			}
		case 2:
			var d []byte
			if d, err = x.message(part); err == nil {
				kind, err = r.typeProto(part, d, v)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	if name == "" {
		return fail(ErrMalformed, part, "it has no name")
	}
	if kind != "" && num != 13 {
		return fail(ErrUnsupported, part, "%s", kind)
	}
	if err := r.value(name); err != nil {
		return err
	}
	switch num {
	case 11:
		g.Inputs, err = grow(r, g.Inputs, name, 16)
	case 12:
		g.Outputs, err = grow(r, g.Outputs, name, 16)
	}
	// A constant knows its own type and shape better than its value_info.
	if old := g.Values[name]; old == nil || (old.Const == nil && old.Type == 0) {
		g.Values[name] = v
	}
	return err
}

// typeProto reads a TypeProto into v. kind is not empty for a type that is no
// tensor of numbers, and names it.
func (r *reader) typeProto(part string, b []byte, v *model.Value) (kind string, err error) {
	err = fields(part, b, func(x field) error {
		switch x.num {
		case 1: // tensor_type
		case 4:
			kind = "a sequence of tensors"
			return nil
		case 5:
			kind = "a map"
			return nil
		case 8:
			kind = "a sparse tensor"
			return nil
		case 9:
			kind = "an optional value"
			return nil
		default:
			return nil
		}
		d, err := x.message(part)
		if err != nil {
			return err
		}
		return fields(part, d, func(x field) error {
			switch x.num {
			case 1: // elem_type
				n, err := x.varint(part)
				if err != nil {
					return err
				}
				if v.Type = DType(n); v.Type == 0 && n != 0 {
					kind = typeName(n)
				}
				return nil
			case 2: // shape
				d, err := x.message(part)
				if err != nil {
					return err
				}
				return r.shape(part, d, v)
			}
			return nil
		})
	})
	return kind, err
}

// shape reads a TensorShapeProto.
func (r *reader) shape(part string, b []byte, v *model.Value) error {
	v.Shape, v.Dims = model.Shape{}, nil
	named := false
	err := fields(part, b, func(x field) error {
		if x.num != 1 { // dim
			return nil
		}
		d, err := x.message(part)
		if err != nil {
			return err
		}
		value, name := int64(model.Unknown), ""
		err = fields(part, d, func(x field) (err error) {
			switch x.num {
			case 1:
				value, err = x.varint(part)
			case 2:
				name, err = r.text(part, x)
			}
			return err
		})
		length := model.Unknown
		// Some exporters write -1 for a length that they do not know.
		if err == nil && value >= 0 && name == "" {
			length, err = axis(part, value)
		}
		if err != nil {
			return err
		}
		named = named || name != ""
		if v.Shape, err = grow(r, v.Shape, length, 8); err == nil {
			v.Dims, err = grow(r, v.Dims, name, 16)
		}
		return err
	})
	if !named {
		v.Dims = nil
	}
	return err
}

// node reads a NodeProto.
func (r *reader) node(b []byte, depth int) (*model.Node, error) {
	part := "a node"
	n := &model.Node{}
	domain := ""
	if err := r.budget.take(160); err != nil {
		return nil, err
	}
	err := fields(part, b, func(x field) error {
		var err error
		s := ""
		switch x.num {
		case 1, 2:
			if s, err = r.text(part, x); err != nil {
				return err
			}
			if x.num == 1 {
				n.In, err = grow(r, n.In, s, 16)
				return err
			}
			if s != "" {
				if err = r.value(s); err != nil {
					return err
				}
			}
			n.Out, err = grow(r, n.Out, s, 16)
		case 3:
			if n.Name, err = r.text(part, x); n.Name != "" {
				part = "node " + quote(n.Name)
			}
		case 4:
			n.Op, err = r.text(part, x)
		case 5:
			var d []byte
			if d, err = x.message(part); err == nil {
				err = r.attribute(part, n, d, depth)
			}
		case 7:
			domain, err = r.text(part, x)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if n.Op == "" {
		return nil, fail(ErrMalformed, part, "it has no operator")
	}
	if isDefault(domain) {
		r.aging = r.aging || !sinceOne[n.Op]
	} else {
		n.Op = domain + "." + n.Op
	}
	for len(n.In) > 0 && n.In[len(n.In)-1] == "" {
		n.In = n.In[:len(n.In)-1]
	}
	return n, nil
}
