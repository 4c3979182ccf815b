package model

import (
	"fmt"
	"math"
	"slices"
)

// DType is the type of a tensor's elements.
type DType uint8

// The element types. Their numbers are not stored anywhere: files hold the
// names that String returns.
const (
	F32 DType = iota + 1
	F64
	F16  // IEEE 754 binary16
	BF16 // upper half of an F32
	I8
	U8
	I16
	U16
	I32
	U32
	I64
	U64
	Bool // one byte, 0 or 1
)

var dtypes = [...]struct {
	name string
	size int
}{
	F32: {"float32", 4}, F64: {"float64", 8}, F16: {"float16", 2}, BF16: {"bfloat16", 2},
	I8: {"int8", 1}, U8: {"uint8", 1}, I16: {"int16", 2}, U16: {"uint16", 2},
	I32: {"int32", 4}, U32: {"uint32", 4}, I64: {"int64", 8}, U64: {"uint64", 8}, Bool: {"bool", 1},
}

// Valid reports whether d is one of the types above.
func (d DType) Valid() bool { return d >= F32 && d <= Bool }

// Size returns the bytes of one element, 0 for an invalid type.
func (d DType) Size() int {
	if !d.Valid() {
		return 0
	}
	return dtypes[d].size
}

// String returns the name used in files and in messages: "float32", "int8".
func (d DType) String() string {
	if !d.Valid() {
		return fmt.Sprintf("type(%d)", uint8(d))
	}
	return dtypes[d].name
}

// ParseDType is the inverse of String.
func ParseDType(name string) (DType, error) {
	for d := F32; d <= Bool; d++ {
		if dtypes[d].name == name {
			return d, nil
		}
	}
	return 0, fmt.Errorf("element type %q is unknown", name)
}

// Shape is the length of each axis, the outermost first. An empty Shape is a
// single value; Unknown stands for a length that only the input tells.
type Shape []int

// Unknown is the length of an axis that is not known before the input is.
const Unknown = -1

// MaxElements bounds the elements of one tensor, so that no product of axis
// lengths, nor its size in bytes, overflows an int64. Where int has 32 bits,
// Elements refuses earlier, so that no size in bytes overflows an int.
const MaxElements = 1 << 40

// maxSize is the size of the widest element.
const maxSize = 8

// Elements returns the product of the axes. It fails where an axis is
// negative or Unknown, and where the product passes MaxElements.
func (s Shape) Elements() (int, error) {
	n := int64(1)
	zero := slices.Contains(s, 0)
	for _, d := range s {
		if d < 0 {
			return 0, fmt.Errorf("shape %v: axis of length %d", s, d)
		}
		if zero {
			continue
		}
		if int64(d) > MaxElements/n {
			return 0, fmt.Errorf("shape %v: more than %d elements", s, int64(MaxElements))
		}
		n *= int64(d)
	}
	if zero {
		return 0, nil
	}
	if n > math.MaxInt/maxSize {
		return 0, fmt.Errorf("shape %v: too large for this machine", s)
	}
	return int(n), nil
}

// Known reports whether no axis is Unknown. A nil Shape, which says that not
// even the rank is known, is not Known; an empty one is.
func (s Shape) Known() bool { return s != nil && !slices.Contains(s, Unknown) }

// Equal reports whether both shapes have the same axes.
func (s Shape) Equal(o Shape) bool { return slices.Equal(s, o) }
