package lockstep

import (
	"fmt"
	"slices"

	"dunlin/engine"
	"dunlin/kernels"
	"dunlin/model"
)

// convert returns the second side's inputs: the first side's, of the same name
// or else the same index, as ports want them.
func convert(first *recording, names []string, ports []engine.Port, inputs []*model.Tensor) ([]*model.Tensor, error) {
	if len(ports) != len(inputs) {
		return nil, fmt.Errorf("one side has %d inputs, the other %d", len(inputs), len(ports))
	}
	var out []*model.Tensor
	for i, p := range ports {
		at := slices.Index(names, p.Name)
		if at < 0 {
			at = i
		}
		in := &value{Traced: engine.Traced{Tensor: inputs[at]}}
		if k := slices.IndexFunc(first.values, func(v *value) bool { return v.Step.Kernel == "input" && v.Value == names[at] }); k >= 0 {
			in = first.values[k]
		}
		t, err := as(in, p)
		if err != nil {
			return nil, fmt.Errorf("input %q for the second side's %q: %w", names[at], p.Name, err)
		}
		out = append(out, t)
	}
	return out, nil
}

// as returns v as port p wants it.
func as(v *value, p engine.Port) (*model.Tensor, error) {
	t := v.Tensor
	if t.Type == p.Type && (p.Quantised != v.Quantised || p.Quantised && (p.Scale != v.Scale || p.Zero != v.Zero)) || t.Type != p.Type {
		var err error
		if t, err = requantised(v, p); err != nil {
			return nil, err
		}
	}
	if t.Shape.Equal(p.Shape) {
		return t, nil
	}
	return turned(t, p.Shape)
}

// requantised returns v's real numbers in the type and on the scale of p.
func requantised(v *value, p engine.Port) (*model.Tensor, error) {
	numbers, err := v.numbers()
	if err != nil {
		return nil, err
	}
	real := model.Of(model.F32, make([]float32, len(numbers)), v.Tensor.Shape...)
	for i, x := range numbers {
		real.F32()[i] = float32(x)
	}
	switch {
	case p.Type == model.F32:
		return real, nil
	case !p.Quantised || p.Type != model.I8 && p.Type != model.U8:
		return nil, fmt.Errorf("%v does not become %v", v.Tensor.Type, p.Type)
	}
	zero := p.Zero
	if p.Type == model.U8 {
		zero -= 128
	}
	whole := model.Of(model.I8, make([]int8, len(numbers)), v.Tensor.Shape...)
	kernels.Quantize(whole.I8(), real.F32(), p.Scale, int8(zero))
	if p.Type == model.U8 {
		whole.Type = model.U8
		for i := range whole.Data {
			whole.Data[i] ^= 0x80
		}
	}
	return whole, nil
}

// turned returns t with its channels where shape has them.
func turned(t *model.Tensor, shape model.Shape) (*model.Tensor, error) {
	out := &model.Tensor{Type: t.Type, Shape: shape, Data: model.Aligned(len(t.Data))}
	size := t.Type.Size()
	var cells [][]byte
	for i := range t.Elements() {
		cells = append(cells, t.Data[i*size:(i+1)*size])
	}
	s, rank := t.Shape, len(t.Shape)
	switch {
	case rank < 3 || rank != len(shape):
		return nil, fmt.Errorf("%v is not %v", s, shape)
	case shape.Equal(append(model.Shape{s[0], s[rank-1]}, s[1:rank-1]...)):
		cells = channelsSecond(cells, s)
	case shape.Equal(append(append(model.Shape{s[0]}, s[2:]...), s[1])):
		// Channels to the end: the pixels are the last axis of a plane.
		pixels := t.Elements() / max(1, s[0]*s[1])
		cells = channelsSecond(cells, model.Shape{s[0], s[1], pixels})
	default:
		return nil, fmt.Errorf("%v is not %v", s, shape)
	}
	for i, c := range cells {
		copy(out.Data[i*size:], c)
	}
	return out, nil
}
