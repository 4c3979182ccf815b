package pack

import (
	"encoding/binary"
	"fmt"
	"slices"

	"dunlin/model"
)

// unpacked is a tensor that was made of a stored one, and how.
type unpacked struct {
	from   tensorJSON
	tensor *model.Tensor
}

// unpack returns what j means, made of the stored tensor t. Each stored
// tensor is unpacked in one way at most, and made into one product at most:
// so what a hostile graph takes is in proportion to the weights, however
// often it names them.
func (d *graphReader) unpack(j *tensorJSON, t *model.Tensor) (*model.Tensor, error) {
	kind := model.FormKind(j.Packing)
	key := "whole " + j.Ref
	if kind == model.FormProduct {
		key = "product " + j.Ref
	}
	if have, ok := d.unpacked[key]; ok {
		if !have.from.same(j) {
			return nil, fmt.Errorf("tensor %q is unpacked in two ways", clip(j.Ref))
		}
		return have.tensor, nil
	}
	var made *model.Tensor
	var err error
	switch {
	case j.Type != "" || j.Data != nil:
		err = fmt.Errorf("type or data beside a packing")
	case kind == model.FormInt4 && j.Times == nil:
		if t.Type != model.U8 || len(t.Shape) != 1 {
			err = fmt.Errorf("%v %v, want bytes", t.Type, t.Shape)
		} else if err = checkShape(j.Shape); err == nil {
			made, err = model.UnpackInt4(t.Data, j.Shape, j.Axis)
		}
	case kind == model.FormBFloat16 && j.Times == nil && j.Shape == nil && j.Axis == 0:
		made, err = widened(t)
	case kind == model.FormProduct && j.Times != nil && j.Shape == nil && j.Axis == 0:
		made, err = product(t, float32(*j.Times))
	default:
		err = fmt.Errorf("packing %q with fields that are not its own, or unknown", clip(j.Packing))
	}
	if err != nil {
		return nil, fmt.Errorf("tensor %q: %w", clip(j.Ref), err)
	}
	d.unpacked[key] = unpacked{*j, made}
	return made, nil
}

// same reports whether both describe the same tensor.
func (j *tensorJSON) same(o *tensorJSON) bool {
	times := func(f *floatJSON) float32 {
		if f == nil {
			return 0
		}
		return float32(*f)
	}
	return j.Packing == o.Packing && j.Axis == o.Axis && slices.Equal(j.Shape, o.Shape) && j.Type == o.Type && (j.Data == nil) == (o.Data == nil) &&
		(j.Times == nil) == (o.Times == nil) && times(j.Times) == times(o.Times)
}

// widened returns the float32 numbers that have the bits of bfloat16 ones.
func widened(t *model.Tensor) (*model.Tensor, error) {
	if t.Type != model.BF16 {
		return nil, fmt.Errorf("it is %v, want bfloat16", t.Type)
	}
	w, err := model.NewTensor(model.F32, t.Shape...)
	if err != nil {
		return nil, err
	}
	for i, bits := range t.BF16() {
		binary.LittleEndian.PutUint16(w.Data[4*i+2:], bits)
	}
	return w, nil
}

// product returns t, float32 or stored as bfloat16, times a number.
func product(t *model.Tensor, times float32) (*model.Tensor, error) {
	from := t
	if t.Type == model.BF16 {
		var err error
		if from, err = widened(t); err != nil {
			return nil, err
		}
	}
	if from.Type != model.F32 {
		return nil, fmt.Errorf("it is %v, want float32 or bfloat16", t.Type)
	}
	p, err := model.NewTensor(model.F32, t.Shape...)
	if err != nil {
		return nil, err
	}
	for i, v := range from.F32() {
		p.F32()[i] = model.Product(v, times)
	}
	return p, nil
}
