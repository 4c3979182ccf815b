package probe

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"dunlin/model"
)

// datatypes are the protocol's names. BF16 is Triton's; both halves exist as
// names only, since the protocol has no JSON form for them.
var datatypes = map[model.DType]string{
	model.Bool: "BOOL", model.U8: "UINT8", model.U16: "UINT16", model.U32: "UINT32", model.U64: "UINT64",
	model.I8: "INT8", model.I16: "INT16", model.I32: "INT32", model.I64: "INT64",
	model.F16: "FP16", model.BF16: "BF16", model.F32: "FP32", model.F64: "FP64",
}

func datatype(t model.DType) string { return datatypes[t] }

// maxNesting bounds the arrays within arrays of "data".
const maxNesting = 16

// parseData reads "data", flat or nested, in row-major order, into t. It must
// hold exactly as many elements as t.
func parseData(data json.RawMessage, t *model.Tensor) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	n, depth := 0, 0
	for {
		tok, err := d.Token()
		if err != nil {
			return fmt.Errorf("data: %w", err)
		}
		switch v := tok.(type) {
		case json.Delim:
			switch v {
			case '[':
				depth++
			case ']':
				depth--
			default:
				return errors.New("data: an object, want an array")
			}
			if depth > maxNesting {
				return fmt.Errorf("data: more than %d arrays within arrays", maxNesting)
			}
		default:
			if depth == 0 {
				return errors.New("data: want an array")
			}
			if n == t.Elements() {
				return fmt.Errorf("data: more than %d elements", n)
			}
			if err := put(t, n, v); err != nil {
				return fmt.Errorf("data: element %d: %w", n, err)
			}
			n++
		}
		if depth == 0 {
			break
		}
	}
	if n != t.Elements() {
		return fmt.Errorf("data: %d elements, the shape has %d", n, t.Elements())
	}
	return nil
}

// put writes a JSON value as element i.
func put(t *model.Tensor, i int, v json.Token) error {
	size := t.Type.Size()
	at := t.Data[i*size : (i+1)*size]
	if t.Type == model.Bool {
		b, ok := v.(bool)
		if !ok {
			return fmt.Errorf("%v is not true or false", v)
		}
		if b {
			at[0] = 1
		}
		return nil
	}
	num, ok := v.(json.Number)
	if !ok {
		return fmt.Errorf("%v is not a number", v)
	}
	text := num.String()
	switch t.Type {
	case model.F32:
		f, err := strconv.ParseFloat(text, 32)
		binary.NativeEndian.PutUint32(at, math.Float32bits(float32(f)))
		return err
	case model.F64:
		f, err := strconv.ParseFloat(text, 64)
		binary.NativeEndian.PutUint64(at, math.Float64bits(f))
		return err
	case model.I8, model.I16, model.I32, model.I64:
		n, err := strconv.ParseInt(text, 10, 8*size)
		putInt(at, uint64(n))
		return err
	case model.U8, model.U16, model.U32, model.U64:
		n, err := strconv.ParseUint(text, 10, 8*size)
		putInt(at, n)
		return err
	}
	return fmt.Errorf("%s has no JSON form", datatype(t.Type))
}

func putInt(at []byte, n uint64) {
	switch len(at) {
	case 1:
		at[0] = byte(n)
	case 2:
		binary.NativeEndian.PutUint16(at, uint16(n))
	case 4:
		binary.NativeEndian.PutUint32(at, uint32(n))
	default:
		binary.NativeEndian.PutUint64(at, n)
	}
}

// values returns the elements of t, flat, in a form that encoding/json writes
// as the protocol wants it. JSON has no NaN and no infinity: those are an
// error.
func values(t *model.Tensor) (any, error) {
	switch t.Type {
	case model.F32:
		for i, v := range t.F32() {
			if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
				return nil, fmt.Errorf("element %d is %v, which JSON cannot say", i, v)
			}
		}
		return list(t.F32()), nil
	case model.F64:
		for i, v := range t.F64() {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, fmt.Errorf("element %d is %v, which JSON cannot say", i, v)
			}
		}
		return list(t.F64()), nil
	case model.I8:
		return list(t.I8()), nil
	case model.I16:
		return list(t.I16()), nil
	case model.I32:
		return list(t.I32()), nil
	case model.I64:
		return list(t.I64()), nil
	case model.U8:
		wide := make([]uint16, t.Elements()) // encoding/json writes []uint8 as base64
		for i, v := range t.U8() {
			wide[i] = uint16(v)
		}
		return wide, nil
	case model.Bool:
		out := make([]bool, t.Elements())
		for i, v := range t.Bools() {
			out[i] = v != 0
		}
		return out, nil
	}
	return nil, fmt.Errorf("%s has no JSON form here", datatype(t.Type))
}

func list[T any](v []T) []T {
	if v == nil {
		return []T{}
	}
	return v
}
