package prep

import (
	"fmt"
	"strconv"

	"dunlin/model"
)

// Value is one number of an output.
type Value struct {
	Index int
	Name  string // the index where there is no name for it
	Value float64
}

// Values appends to dst the first o.Top numbers of t, in their order, and
// returns it. t is of any shape, float32, float64 or an integer type; labels
// name the numbers, and may be nil.
func (o Output) Values(t *model.Tensor, labels []string, dst []Value) ([]Value, error) {
	if o.Kind != "values" {
		return dst, fmt.Errorf("prep: output %q: has %s, no values", o.Name, o.Kind)
	}
	if len(labels) == 0 {
		labels = o.Names
	}
	at, err := number(t)
	if err != nil {
		return dst, fmt.Errorf("prep: output %q: %w", o.Name, err)
	}
	for i := range min(o.Top, t.Elements()) {
		v := Value{Index: i, Name: strconv.Itoa(i), Value: at(i)}
		if i < len(labels) {
			v.Name = labels[i]
		}
		dst = append(dst, v)
	}
	return dst, nil
}

// number returns how an element of t is read.
func number(t *model.Tensor) (func(i int) float64, error) {
	switch t.Type {
	case model.F32:
		return of(t.F32()), nil
	case model.F64:
		return of(t.F64()), nil
	case model.I8:
		return of(t.I8()), nil
	case model.U8:
		return of(t.U8()), nil
	case model.I16:
		return of(t.I16()), nil
	case model.I32:
		return of(t.I32()), nil
	case model.I64:
		return of(t.I64()), nil
	}
	return nil, fmt.Errorf("tensor is %v: want float32, float64 or an integer type", t.Type)
}

func of[T float32 | float64 | int8 | uint8 | int16 | int32 | int64](v []T) func(int) float64 {
	return func(i int) float64 { return float64(v[i]) }
}
