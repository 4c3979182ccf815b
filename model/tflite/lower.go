package tflite

import (
	"errors"
	"fmt"
	"slices"

	"dunlin/model"
)

// lowering makes the graph of one file. As in reader, the first error is
// kept, and functions that return names return "" after it.
type lowering struct {
	f           *file
	r           *reader
	g           *model.Graph
	err         error
	values      []*value // one a tensor, nil before it is made
	maker       []int    // the operator that makes each tensor, -1 for none
	exits       []string // names of the graph's outputs
	names       map[string]bool
	nodeNames   map[string]bool
	counts      map[string]int
	unsupported []Operator
	now         *op // the operator in work
}

// op is an operator with what lowering it needs.
type op struct {
	operator
	index int
	name  string // "CONV_2D"
	start int    // the first node made for it
}

func (o *op) part() string { return fmt.Sprintf("operator %d (%s)", o.index, o.name) }

// bad is an error of the file in o.
func (o *op) bad(format string, a ...any) error {
	return fail(ErrMalformed, o.part(), format, a...)
}

// input returns the tensor that is input i, -1 where it is left out.
func (o *op) input(i int) int {
	if i < len(o.in) {
		return o.in[i]
	}
	return -1
}

// refusal is an error that makes an operator unsupported.
type refusal string

func (e refusal) Error() string { return string(e) }

func refuse(format string, a ...any) error { return refusal(fmt.Sprintf(format, a...)) }

func newLowering(f *file, r *reader) (*lowering, error) {
	if f.name == "" {
		f.name = "main"
	}
	l := &lowering{
		f: f, r: r, g: model.New(f.name), values: make([]*value, len(f.tensors)), maker: make([]int, len(f.tensors)),
		names: map[string]bool{}, nodeNames: map[string]bool{}, counts: map[string]int{},
	}
	for i := range l.maker {
		l.maker[i] = -1
	}
	for _, i := range f.inputs {
		x := &f.tensors[i]
		if l.values[i] != nil {
			return nil, fail(ErrMalformed, l.part(i), "it is an input twice")
		}
		if x.dtype() == 0 {
			return nil, fail(ErrUnsupported, l.part(i), "an input of type %s", x.kindName())
		}
		name := l.fresh(x.name)
		v := &value{shape: x.shape, quant: l.activation(i), kind: x.dtype()}
		if v.quant != nil {
			v.whole[asFile] = name
		} else {
			v.plain[asFile] = name
		}
		l.values[i] = v
		l.g.Inputs = append(l.g.Inputs, name)
		l.g.Values[name] = &model.Value{Type: x.dtype(), Shape: slices.Clone(x.shape)}
	}
	for _, i := range f.outputs {
		l.exits = append(l.exits, l.fresh(f.tensors[i].name))
	}
	l.g.Outputs = l.exits
	return l, l.err
}

// activation returns the quantisation of a tensor that is no constant: one
// scale and a type that QuantizeLinear makes.
func (l *lowering) activation(i int) *quantisation {
	x := &l.f.tensors[i]
	if x.quant == nil || (x.dtype() != model.I8 && x.dtype() != model.U8 && x.dtype() != model.I16) {
		return nil
	}
	return x.quant
}

// part names a tensor in a message.
func (l *lowering) part(i int) string {
	return fmt.Sprintf("tensor %d (%s)", i, quote(l.f.tensors[i].name))
}

// run lowers all operators, in the file's order, and makes the outputs.
func (l *lowering) run() error {
	for i := range l.f.operators {
		o := &op{operator: l.f.operators[i], index: i, start: len(l.g.Nodes)}
		c := l.f.codes[o.code]
		o.name = operatorName(c)
		l.now = o
		err := l.operator(o, c)
		if l.err != nil {
			err = l.err // what failed first
		}
		if why, ok := err.(refusal); ok {
			if !l.r.take(256 + int64(len(why))) {
				return l.r.err
			}
			l.unsupported = append(l.unsupported, Operator{i, o.name, string(why)})
			l.err = nil
			l.placeholders(o)
			continue
		}
		if l.unsupported != nil && errors.Is(err, ErrMalformed) {
			l.err = nil // perhaps only for want of what stands before it
			l.placeholders(o)
			continue
		}
		if err != nil {
			return err
		}
		if l.r.err != nil {
			return l.r.err
		}
	}
	if l.unsupported != nil {
		return &UnsupportedError{l.unsupported}
	}
	l.finish()
	l.describe()
	if why, ok := l.err.(refusal); ok { // of an output that no operator makes
		return fail(ErrUnsupported, "the outputs", "%s", string(why))
	}
	return l.err
}

// operator lowers one operator.
func (l *lowering) operator(o *op, c code) error {
	f, ok := forms[o.name]
	switch {
	case c.builtin == builtinCustom:
		return refuse("a custom operator, which only the program that made it runs")
	case !ok:
		return refuse("no such operator")
	case f.union != 0 && o.union != 0 && o.union != f.union:
		return o.bad("its options are those of another operator")
	case len(o.in) < f.minIn || len(o.out) < 1:
		return o.bad("%d inputs and %d outputs are too few", len(o.in), len(o.out))
	}
	for i := range f.minIn {
		if o.in[i] < 0 {
			return o.bad("input %d is left out", i)
		}
	}
	for _, i := range o.out {
		if l.values[i] != nil {
			return o.bad("tensor %d is made twice", i)
		}
		if l.f.tensors[i].dtype() == 0 {
			return refuse("a result of type %s", l.f.tensors[i].kindName())
		}
		l.maker[i] = o.index
	}
	if err := f.lower(l, o); err != nil {
		return err
	}
	for _, i := range o.out {
		if l.values[i] == nil && l.err == nil && l.r.err == nil {
			return o.bad("%d outputs are too many", len(o.out))
		}
	}
	return nil
}

// placeholders stands values in for those that an operator did not make, so
// that those behind it are looked at too.
func (l *lowering) placeholders(o *op) {
	for _, i := range o.out {
		if l.values[i] == nil {
			v := &value{shape: l.f.tensors[i].shape}
			v.plain = [2]string{"?", "?"}
			l.values[i] = v
		}
	}
}

// finish makes the outputs that the graph does not have yet under their own
// name, in the file's order, and as integers where the file has them so.
func (l *lowering) finish() {
	l.now = &op{index: len(l.f.operators), name: "output", start: len(l.g.Nodes)}
	for k, i := range l.f.outputs {
		x := &l.f.tensors[i]
		v, name := l.value(i), ""
		switch q := l.activation(i); {
		case l.err != nil:
			return
		case q == nil:
			name = l.plain(i, asFile)
		case v.whole[asFile] != "" && v.kind == x.dtype() && v.quant.equal(q):
			name = v.whole[asFile]
		default:
			name = l.quantize(l.plain(i, asFile), q, x.dtype())
		}
		if name == l.exits[k] {
			continue
		}
		last := len(l.g.Nodes) - 1
		if last < l.now.start || l.g.Nodes[last].Out[0] != name {
			l.emit("Identity", nil, name)
			last++
		} else if v.plain[asFile] == name {
			v.plain[asFile] = l.exits[k]
		}
		if l.err == nil {
			l.g.Nodes[last].Out[0] = l.exits[k]
		}
	}
}

// describe says of what type and shape the outputs are.
func (l *lowering) describe() {
	for k, i := range l.f.outputs {
		if l.take(256) {
			l.g.Values[l.exits[k]] = &model.Value{Type: l.f.tensors[i].dtype(), Shape: slices.Clone(l.value(i).shape)}
		}
	}
}
