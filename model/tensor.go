package model

import (
	"fmt"
	"unsafe"
)

// Tensor is a dense array: little-endian elements in row-major order.
//
// Data holds exactly Shape.Elements() * Type.Size() bytes and begins at an
// address that is a multiple of the element's size, so that the typed views
// below are plain slices over the same memory. NewTensor and View keep both
// promises; a Tensor made by hand must too (Check tells).
type Tensor struct {
	Type  DType
	Shape Shape
	Data  []byte
}

// Alignment is where NewTensor begins Data: a cache line, and the widest
// vector register.
const Alignment = 64

// NewTensor returns a tensor of zeros. It fails on a shape that is unknown
// or too large.
func NewTensor(t DType, shape ...int) (*Tensor, error) {
	n, err := Shape(shape).Elements()
	if err != nil {
		return nil, err
	}
	if !t.Valid() {
		return nil, fmt.Errorf("tensor of %v", t)
	}
	return &Tensor{Type: t, Shape: append(Shape{}, shape...), Data: Aligned(n * t.Size())}, nil
}

// Aligned returns n zero bytes that begin at a multiple of Alignment.
func Aligned(n int) []byte {
	b := make([]byte, n+Alignment-1)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (Alignment - 1))
	return b[skip : skip+n : skip+n]
}

// View returns a tensor over data, without a copy where data is aligned for
// its elements, and with one where it is not. It fails where the length of
// data is not what type and shape ask for.
func View(t DType, shape Shape, data []byte) (*Tensor, error) {
	v := &Tensor{Type: t, Shape: shape, Data: data}
	if err := v.checkSize(); err != nil {
		return nil, err
	}
	if !v.aligned() {
		v.Data = Aligned(len(data))
		copy(v.Data, data)
	}
	return v, nil
}

// Of returns a tensor that copies values: Of(model.I64, []int64{1, -1}, 2).
// It panics where len(values) is not the product of shape, which only a
// programming error can bring about.
func Of[T Element](t DType, values []T, shape ...int) *Tensor {
	v, err := NewTensor(t, shape...)
	if err != nil || int(unsafe.Sizeof(*new(T))) != t.Size() || v.Elements() != len(values) {
		panic(fmt.Sprintf("model.Of: %d values for %v %v", len(values), t, shape))
	}
	copy(view[T](v), values)
	return v
}

// Element is a Go type that stands for a DType; F16 and BF16 are read as
// their bits, uint16, and Bool as uint8.
type Element interface {
	float32 | float64 | int8 | uint8 | int16 | uint16 | int32 | uint32 | int64 | uint64
}

// Check fails where the length or the alignment of Data does not fit.
func (t *Tensor) Check() error {
	if err := t.checkSize(); err != nil {
		return err
	}
	if !t.aligned() {
		return fmt.Errorf("%v tensor %v: data is not aligned to %d bytes", t.Type, t.Shape, t.Type.Size())
	}
	return nil
}

func (t *Tensor) checkSize() error {
	if !t.Type.Valid() {
		return fmt.Errorf("tensor of %v", t.Type)
	}
	n, err := t.Shape.Elements()
	if err != nil {
		return err
	}
	if len(t.Data) != n*t.Type.Size() {
		return fmt.Errorf("%v tensor %v needs %d bytes, has %d", t.Type, t.Shape, n*t.Type.Size(), len(t.Data))
	}
	return nil
}

func (t *Tensor) aligned() bool {
	return len(t.Data) == 0 || uintptr(unsafe.Pointer(unsafe.SliceData(t.Data)))%uintptr(t.Type.Size()) == 0
}

// Elements returns how many elements Data holds.
func (t *Tensor) Elements() int {
	if t.Type.Size() == 0 {
		return 0
	}
	return len(t.Data) / t.Type.Size()
}

// Clone returns a tensor with its own copy of the data.
func (t *Tensor) Clone() *Tensor {
	c := &Tensor{Type: t.Type, Shape: append(Shape{}, t.Shape...), Data: Aligned(len(t.Data))}
	copy(c.Data, t.Data)
	return c
}

// F32, and its like below, return the elements as a slice over the same
// memory. They panic where Type is another: asking is a caller's mistake.
func (t *Tensor) F32() []float32 { return typed[float32](t, F32) }

// F64 returns the elements of an F64 tensor.
func (t *Tensor) F64() []float64 { return typed[float64](t, F64) }

// F16 returns the bits of the elements of an F16 tensor.
func (t *Tensor) F16() []uint16 { return typed[uint16](t, F16) }

// I8 returns the elements of an I8 tensor.
func (t *Tensor) I8() []int8 { return typed[int8](t, I8) }

// U8 returns the elements of a U8 tensor.
func (t *Tensor) U8() []uint8 { return typed[uint8](t, U8) }

// I16 returns the elements of an I16 tensor.
func (t *Tensor) I16() []int16 { return typed[int16](t, I16) }

// I32 returns the elements of an I32 tensor.
func (t *Tensor) I32() []int32 { return typed[int32](t, I32) }

// I64 returns the elements of an I64 tensor.
func (t *Tensor) I64() []int64 { return typed[int64](t, I64) }

// BF16 returns the bits of the elements of a BF16 tensor.
func (t *Tensor) BF16() []uint16 { return typed[uint16](t, BF16) }

// U16 returns the elements of a U16 tensor.
func (t *Tensor) U16() []uint16 { return typed[uint16](t, U16) }

// U32 returns the elements of a U32 tensor.
func (t *Tensor) U32() []uint32 { return typed[uint32](t, U32) }

// U64 returns the elements of a U64 tensor.
func (t *Tensor) U64() []uint64 { return typed[uint64](t, U64) }

// Bools returns the elements of a Bool tensor, 0 or 1 each.
func (t *Tensor) Bools() []uint8 { return typed[uint8](t, Bool) }

func typed[T Element](t *Tensor, want DType) []T {
	if t.Type != want {
		panic(fmt.Sprintf("model: %v tensor read as %v", t.Type, want))
	}
	return view[T](t)
}

func view[T Element](t *Tensor) []T {
	if len(t.Data) == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(t.Data))), len(t.Data)/int(unsafe.Sizeof(*new(T))))
}
