package onnx

import (
	"encoding/binary"
	"fmt"

	"dunlin/model"
)

// The numbers of TensorProto.DataType that dunlin holds. INT4 and UINT4
// (opset 21) are widened to a byte each.
const (
	protoString = 8
	protoUint4  = 21
	protoInt4   = 22
)

var protoTypes = [...]model.DType{
	1: model.F32, 2: model.U8, 3: model.I8, 4: model.U16, 5: model.I16, 6: model.I32, 7: model.I64,
	9: model.Bool, 10: model.F16, 11: model.F64, 12: model.U32, 13: model.U64, 16: model.BF16,
	protoUint4: model.U8, protoInt4: model.I8,
}

var protoNames = map[int64]string{
	0: "UNDEFINED", protoString: "STRING", 14: "COMPLEX64", 15: "COMPLEX128", 17: "FLOAT8E4M3FN",
	18: "FLOAT8E4M3FNUZ", 19: "FLOAT8E5M2", 20: "FLOAT8E5M2FNUZ", 23: "FLOAT4E2M1",
}

// DType returns the element type that has number n in ONNX, 0 for a type
// that dunlin does not have.
func DType(n int64) model.DType {
	if n < 0 || n >= int64(len(protoTypes)) {
		return 0
	}
	return protoTypes[n]
}

// TypeNumber is the inverse of DType: ONNX's number of an element type, as
// in the attribute "to" of Cast.
func TypeNumber(t model.DType) int64 {
	for n, d := range protoTypes {
		if d == t {
			return int64(n)
		}
	}
	return 0
}

// typeName names a type that DType does not know, for a message.
func typeName(n int64) string {
	if name := protoNames[n]; name != "" {
		return "elements of type " + name
	}
	return fmt.Sprintf("elements of type number %d", n)
}

// tensorProto is a TensorProto whose values are not yet decoded.
type tensorProto struct {
	name string
	dims []int
	typ  int64
	raw  []byte

	external bool // the values are in another file
}

// The fields of TensorProto that hold values.
const (
	fieldFloat  = 4
	fieldInt32  = 5
	fieldInt64  = 7
	fieldRaw    = 9
	fieldDouble = 10
	fieldUint64 = 11
)

// tensor reads a TensorProto. Values stored as raw bytes alias b where they
// are aligned.
func (r *reader) tensor(part string, b []byte) (string, *model.Tensor, error) {
	p, err := r.tensorHead(part, b)
	if err != nil {
		return "", nil, err
	}
	if p.name != "" {
		part = "tensor " + quote(p.name)
	}
	if p.external {
		err := fail(ErrExternalData, part, "its values are not in this one")
		err.Hint = "save the model as one file (onnx.save with save_as_external_data=False)"
		return "", nil, err
	}
	typ := DType(p.typ)
	if typ == 0 {
		return "", nil, fail(ErrUnsupported, part, "%s", typeName(p.typ))
	}
	n, err := model.Shape(p.dims).Elements()
	if err != nil {
		return "", nil, fail(ErrMalformed, part, "%v", err)
	}
	var data []byte
	switch {
	case p.typ == protoInt4 || p.typ == protoUint4:
		data, err = r.nibbles(part, p, b, n)
	case p.raw != nil:
		data, err = r.raw(part, p.raw, typ, n)
	default:
		data, err = r.values(part, b, typ, n, len(b))
	}
	if err != nil {
		return "", nil, err
	}
	if typ == model.Bool {
		if err := r.checkBools(part, data); err != nil {
			return "", nil, err
		}
	}
	if err := r.budget.take(256); err != nil {
		return "", nil, err
	}
	t := &model.Tensor{Type: typ, Shape: p.dims, Data: data}
	if p.typ == protoInt4 || p.typ == protoUint4 {
		if r.fourBits == nil {
			r.fourBits = map[*model.Tensor]bool{}
		}
		r.fourBits[t] = true
	}
	return p.name, t, nil
}

// axis checks the length of an axis.
func axis(part string, v int64) (int, error) {
	if v < 0 || v > model.MaxElements || int64(int(v)) != v {
		return 0, fail(ErrMalformed, part, "an axis of length %d", v)
	}
	return int(v), nil
}

// tensorHead reads all of a TensorProto but its values.
func (r *reader) tensorHead(part string, b []byte) (p tensorProto, err error) {
	p.dims = []int{}
	err = fields(part, b, func(x field) error {
		var err error
		switch x.num {
		case 1: // dims
			return repeated(part, x, wireVarint, func(v uint64) error {
				d, err := axis(part, int64(v))
				if err == nil {
					p.dims, err = grow(r, p.dims, d, 8)
				}
				return err
			})
		case 2:
			p.typ, err = x.varint(part)
		case 3: // segment
			return fail(ErrUnsupported, part, "the tensor is stored in segments")
		case 8:
			p.name, err = r.text(part, x)
		case fieldRaw:
			p.raw, err = x.message(part)
			if p.raw == nil && err == nil {
				p.raw = []byte{}
			}
		case 13, 14: // external_data, data_location
			p.external = p.external || x.num == 13 || x.v == 1
		}
		return err
	})
	return p, err
}

// raw takes values stored as little-endian bytes.
func (r *reader) raw(part string, raw []byte, typ model.DType, n int) ([]byte, error) {
	if len(raw) != n*typ.Size() {
		return nil, fail(ErrMalformed, part, "%d values of %v need %d bytes, the file has %d", n, typ, n*typ.Size(), len(raw))
	}
	t := model.Tensor{Type: typ, Shape: model.Shape{n}, Data: raw}
	if t.Check() == nil {
		return raw, nil
	}
	if err := r.budget.take(int64(len(raw)) + 2*model.Alignment); err != nil {
		return nil, err
	}
	data := model.Aligned(len(raw))
	copy(data, raw)
	return data, nil
}

// holder says for each type which field of TensorProto holds its values, and
// how one value stands on the wire.
func holder(typ model.DType) (num, wire int) {
	switch typ {
	case model.F32:
		return fieldFloat, wire32
	case model.F64:
		return fieldDouble, wire64
	case model.I64:
		return fieldInt64, wireVarint
	case model.U32, model.U64:
		return fieldUint64, wireVarint
	default:
		return fieldInt32, wireVarint
	}
}

// values takes the n values of the typed field that typ uses, in TensorProto
// b. limit is the most values that the field can hold, checked before
// anything is allocated.
func (r *reader) values(part string, b []byte, typ model.DType, n, limit int) ([]byte, error) {
	num, wire := holder(typ)
	if n > limit {
		return nil, fail(ErrMalformed, part, "%d values announced in %d bytes", n, limit)
	}
	size := typ.Size()
	if err := r.budget.take(int64(n*size) + 2*model.Alignment); err != nil {
		return nil, err
	}
	data := model.Aligned(n * size)
	at := 0
	err := fields(part, b, func(x field) error {
		if x.num != num {
			return nil
		}
		return repeated(part, x, wire, func(v uint64) error {
			if at == len(data) {
				return fail(ErrMalformed, part, "more than the %d values that its shape asks for", n)
			}
			put(data[at:], size, v)
			at += size
			return nil
		})
	})
	if err == nil && at != len(data) {
		err = fail(ErrMalformed, part, "%d values, its shape asks for %d", at/size, n)
	}
	return data, err
}

// put stores the low size bytes of v.
func put(b []byte, size int, v uint64) {
	switch size {
	case 1:
		b[0] = byte(v)
	case 2:
		binary.LittleEndian.PutUint16(b, uint16(v))
	case 4:
		binary.LittleEndian.PutUint32(b, uint32(v))
	case 8:
		binary.LittleEndian.PutUint64(b, v)
	}
}

// nibbles widens 4-bit values, two in a byte with the first in the low half,
// to one byte each.
func (r *reader) nibbles(part string, p tensorProto, b []byte, n int) ([]byte, error) {
	packed, err := p.raw, error(nil)
	if packed == nil {
		packed, err = r.values(part, b, model.U8, (n+1)/2, len(b))
	}
	if err == nil && len(packed) != (n+1)/2 {
		err = fail(ErrMalformed, part, "%d values of 4 bits need %d bytes, the file has %d", n, (n+1)/2, len(packed))
	}
	if err == nil {
		err = r.budget.take(int64(n) + 2*model.Alignment)
	}
	if err != nil {
		return nil, err
	}
	data := model.Aligned(n)
	for i := range data {
		v := packed[i/2] >> (4 * (i & 1)) & 15
		if p.typ == protoInt4 {
			v = byte(int8(v<<4) >> 4)
		}
		data[i] = v
	}
	return data, nil
}

// checkBools fails on a byte that is neither 0 nor 1: kernels compute with
// them.
func (r *reader) checkBools(part string, data []byte) error {
	for _, b := range data {
		if b > 1 {
			return fail(ErrMalformed, part, "a bool of value %d", b)
		}
	}
	return nil
}
