package onnx

import (
	"errors"
	"slices"
	"testing"

	"dunlin/model"
)

func TestParseTensor(t *testing.T) {
	name, x, err := ParseTensor(floatTensor("x", []int64{2, 1}, 1, -2))
	if err != nil || name != "x" || x.Type != model.F32 || !x.Shape.Equal(model.Shape{2, 1}) || !slices.Equal(x.F32(), []float32{1, -2}) {
		t.Errorf("%q %+v %v", name, x, err)
	}
	_, i, err := ParseTensor(head("", 7, 2).packed(7, 3, -1))
	if err != nil || !slices.Equal(i.I64(), []int64{3, -1}) {
		t.Errorf("%+v %v", i, err)
	}
	for data, want := range map[string]error{
		"":                                   ErrUnsupported, // of no type
		string(head("s", protoString, 1)):    ErrUnsupported,
		string(head("f", 1, 3)):              ErrMalformed, // no values
		string(head("f", 1, 1<<40)):          ErrMalformed,
		string(head("f", 1, 1).int(14, 1)):   ErrExternalData,
		string(head("b", 9, 1).packed(5, 2)): ErrMalformed,
		"\xff":                               ErrMalformed,
	} {
		if _, x, err := ParseTensor([]byte(data)); !errors.Is(err, want) || x != nil {
			t.Errorf("%q: %+v %v, want %v", data, x, err, want)
		}
	}
}

// FuzzParseTensor asks of any bytes for an *Error or a tensor that passes its
// check.
func FuzzParseTensor(f *testing.F) {
	f.Add([]byte(floatTensor("x", []int64{2}, 1, 2)))
	f.Add([]byte(head("q", protoInt4, 3).bytes(fieldRaw, []byte{1, 2})))
	f.Add([]byte(head("h", 10, 1).packed(5, 0x3c00)))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, x, err := ParseTensor(data)
		var typed *Error
		switch {
		case err == nil && x.Check() != nil:
			t.Error(x.Check())
		case err != nil && !errors.As(err, &typed):
			t.Errorf("%T: %v", err, err)
		}
	})
}
