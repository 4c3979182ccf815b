package tflite

import (
	"fmt"
	"math"

	"dunlin/model"
)

// The tables of schema.fbs that the importer reads, as far as it reads them.
// The numbers of fields are their places in the schema; a field that is a
// union takes two.

// file is a Model table and its first SubGraph.
type file struct {
	buffers   [][]byte
	codes     []code
	name      string
	tensors   []tensor
	operators []operator
	inputs    []int
	outputs   []int
}

// code is an OperatorCode.
type code struct {
	builtin int
	custom  string
}

const (
	builtinCustom    = 32
	schemaVersion    = 3
	firstBufferBytes = 1 // an offset of 0 or 1 says that the data is in the flatbuffer
)

// tensor is a Tensor table.
type tensor struct {
	name     string
	shape    model.Shape
	kind     int // of TensorType
	buffer   int
	quant    *quantisation
	variable bool // state that TFLite keeps between runs
	sparse   bool
}

// operator is an Operator table.
type operator struct {
	code    int
	in, out []int // tensors; -1 is an optional input left out
	options table
	union   int8 // which table of the union BuiltinOptions options is
}

// Sizes of the above in the budget: the structs, and their part of slices
// that grow by doubling.
const (
	tensorBytes   = 512
	operatorBytes = 640
	codeBytes     = 128
	bufferBytes   = 96
)

// file reads the Model table.
func (r *reader) file() *file {
	const part = "the model"
	if len(r.b) < 8 || string(r.b[4:8]) != "TFL3" {
		r.bad(part, "it does not begin with the identifier TFL3")
		return nil
	}
	m := r.table(0, part, -1)
	if v := m.int32(0, 0); r.err == nil && v != schemaVersion {
		r.err = fail(ErrUnsupported, part, "schema version %d, not %d", v, schemaVersion)
	}
	f := &file{}
	m.tables(1, "operator code", func(t table) {
		if r.take(codeBytes) {
			// Files older than the int32 field have the number in a byte alone.
			f.codes = append(f.codes, code{max(int(t.int8(0, 0)), int(t.int32(3, 0))), t.text(1)})
		}
	})
	m.tables(4, "buffer", func(t table) {
		if r.take(bufferBytes) {
			f.buffers = append(f.buffers, r.buffer(t))
		}
	})
	first := true
	m.tables(2, "subgraph", func(t table) {
		if first {
			r.subgraph(f, t)
		}
		first = false
	})
	if first {
		r.bad(part, "it has no subgraph")
	}
	return f
}

// buffer returns the bytes of a Buffer table: in it, or, in files above 2 GB,
// at an offset behind the flatbuffer.
func (r *reader) buffer(t table) []byte {
	v, _ := t.vector(0, 1)
	if len(v) > 0 {
		return v
	}
	offset, size := t.uint64(1), t.uint64(2)
	if offset <= firstBufferBytes || size == 0 {
		return nil
	}
	if offset > uint64(len(r.b)) || size > uint64(len(r.b))-offset {
		r.bad(t.part(), "%d bytes at %d are not in the file", size, offset)
		return nil
	}
	return r.b[offset : offset+size : offset+size]
}

func (r *reader) subgraph(f *file, t table) {
	t.tables(0, "tensor", func(t table) {
		if r.take(tensorBytes) {
			f.tensors = append(f.tensors, r.tensor(f, t))
		}
	})
	f.inputs, f.outputs = t.ints(1), t.ints(2)
	t.tables(3, "operator", func(t table) {
		if r.take(operatorBytes) {
			f.operators = append(f.operators, r.operator(f, t))
		}
	})
	f.name = t.text(4)
	for _, list := range [][]int{f.inputs, f.outputs} {
		for _, i := range list {
			if i < 0 || i >= len(f.tensors) {
				r.bad("the subgraph", "its inputs or outputs name tensor %d of %d", i, len(f.tensors))
			}
		}
	}
	if len(f.outputs) == 0 {
		r.bad("the subgraph", "it has no outputs")
	}
}

func (r *reader) tensor(f *file, t table) tensor {
	x := tensor{
		shape: model.Shape(t.ints(0)), kind: int(t.int8(1, 0)), buffer: int(t.int32(2, 0)), name: t.text(3),
		variable: t.bool(5), sparse: t.field(6, 4) >= 0,
	}
	if x.shape == nil {
		x.shape = model.Shape{}
	}
	if x.buffer < 0 || x.buffer >= len(f.buffers) {
		r.bad(t.part(), "it names buffer %d of %d", x.buffer, len(f.buffers))
	}
	for _, d := range x.shape {
		if d < model.Unknown {
			r.bad(t.part(), "its shape is %v", x.shape)
			return x
		}
	}
	if x.name == "" {
		x.name = fmt.Sprintf("tensor_%d", t.index)
	}
	if q := t.sub(4, "quantisation of tensor", t.index); q.r != nil {
		x.quant = r.quantisation(q, &x)
	}
	return x
}

func (r *reader) operator(f *file, t table) operator {
	o := operator{
		code: int(t.int32(0, 0)), in: t.ints(1), out: t.ints(2), union: t.int8(3, 0),
		options: t.sub(4, "options of operator", t.index),
	}
	if o.code < 0 || o.code >= len(f.codes) {
		r.bad(t.part(), "it names operator code %d of %d", o.code, len(f.codes))
	}
	for _, i := range o.in {
		if i < -1 || i >= len(f.tensors) {
			r.bad(t.part(), "it reads tensor %d of %d", i, len(f.tensors))
		}
	}
	for _, i := range o.out {
		if i < 0 || i >= len(f.tensors) {
			r.bad(t.part(), "it writes tensor %d of %d", i, len(f.tensors))
		}
	}
	return o
}

// TensorType, as far as model has such types.
const (
	kindF16   = 1
	kindInt4  = 17
	kindCount = 19
)

var kinds = [kindCount]model.DType{
	0: model.F32, kindF16: model.F16, 2: model.I32, 3: model.U8, 4: model.I64, 6: model.Bool, 7: model.I16, 9: model.I8,
	10: model.F64, 12: model.U64, 15: model.U32, 16: model.U16, kindInt4: model.I8, 18: model.BF16,
}

var kindNames = [kindCount]string{5: "string", 8: "complex64", 11: "complex128", 13: "resource", 14: "variant"}

// dtype returns the element type of x, 0 for one that model does not have.
func (x *tensor) dtype() model.DType {
	if x.kind < 0 || x.kind >= kindCount {
		return 0
	}
	return kinds[x.kind]
}

func (x *tensor) kindName() string {
	if x.kind >= 0 && x.kind < kindCount && kindNames[x.kind] != "" {
		return kindNames[x.kind]
	}
	return fmt.Sprintf("number %d", x.kind)
}

// quantisation says what the integers q of a tensor stand for:
// scale*(q - zero), with one scale or one for each place along axis.
type quantisation struct {
	scale []float32
	zero  []int64 // as many as scales
	axis  int
}

// quantisation reads a QuantizationParameters table, and checks it as TFLite
// does when it loads a model. It returns nil where the tensor is not
// quantised: such tables often hold a recorded range alone.
func (r *reader) quantisation(t table, x *tensor) *quantisation {
	q := &quantisation{scale: t.floats(2), zero: t.longs(3), axis: int(t.int32(6, 0))}
	invalid := func(format string, a ...any) *quantisation {
		if r.err == nil {
			r.err = fail(ErrQuantisation, fmt.Sprintf("tensor %d (%s)", t.index, quote(x.name)), format, a...)
		}
		return nil
	}
	if t.int8(4, 0) != 0 {
		return invalid("custom quantisation, which only its own runtime reads")
	}
	if len(q.scale) == 0 || !x.dtype().Valid() || x.dtype() == model.F32 || x.dtype() == model.F16 {
		return nil
	}
	if len(q.scale) > 1 {
		if q.axis < 0 || q.axis >= len(x.shape) {
			return invalid("%d scales along quantized_dimension %d, but its shape %v has %d axes", len(q.scale), q.axis, x.shape, len(x.shape))
		}
		if len(q.scale) != x.shape[q.axis] {
			return invalid("%d scales along quantized_dimension %d of shape %v", len(q.scale), q.axis, x.shape)
		}
	}
	if !r.take(8 * int64(len(q.scale))) {
		return nil
	}
	switch len(q.zero) {
	case len(q.scale):
	case 0, 1:
		one := int64(0)
		if len(q.zero) == 1 {
			one = q.zero[0]
		}
		q.zero = make([]int64, len(q.scale))
		for i := range q.zero {
			q.zero[i] = one
		}
	default:
		return invalid("%d zero points for %d scales", len(q.zero), len(q.scale))
	}
	for i, s := range q.scale {
		if !(s >= 0) || math.IsInf(float64(s), 0) {
			return invalid("scale %d is %v", i, s)
		}
		if lo, hi := integerRange(x.dtype()); q.zero[i] < lo || q.zero[i] > hi {
			return invalid("zero point %d is %d, which %v does not hold", i, q.zero[i], x.dtype())
		}
	}
	if len(q.scale) == 1 && q.scale[0] == 0 {
		return nil // toco wrote such tables for tensors that are not quantised
	}
	return q
}

// integerRange returns the least and the greatest value of an integer type
// that can be quantised.
func integerRange(t model.DType) (lo, hi int64) {
	switch t {
	case model.I8:
		return math.MinInt8, math.MaxInt8
	case model.U8:
		return 0, math.MaxUint8
	case model.I16:
		return math.MinInt16, math.MaxInt16
	case model.I32:
		return math.MinInt32, math.MaxInt32
	}
	return math.MinInt64, math.MaxInt64
}

// quote shortens a name from the file for a message.
func quote(s string) string {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return s
}
