package tflite

import (
	"fmt"
	"slices"

	"dunlin/model"
)

// constant returns the elements of tensor i, which stand in a buffer.
func (l *lowering) constant(i int, x *tensor) (*model.Tensor, error) {
	data := l.f.buffers[x.buffer]
	n, err := x.shape.Elements()
	if err != nil {
		return nil, fail(ErrMalformed, l.part(i), "%v", err)
	}
	if len(data) == 0 && n > 0 {
		return nil, fail(ErrMalformed, l.part(i), "%s reads it, but nothing makes it", l.now.part())
	}
	if x.kind == kindInt4 {
		if len(data) != (n+1)/2 {
			return nil, fail(ErrMalformed, l.part(i), "%v needs %d bytes as int4, has %d", x.shape, (n+1)/2, len(data))
		}
		if err := l.r.budget.take(int64(n) + 128); err != nil {
			return nil, err
		}
		data = nibbles(data, n)
	}
	size := x.dtype().Size()
	if len(data) != n*size {
		return nil, fail(ErrMalformed, l.part(i), "%v %v needs %d bytes, has %d", x.dtype(), x.shape, n*size, len(data))
	}
	if err := l.r.budget.take(int64(len(data)) + 256); err != nil { // View copies what is not aligned
		return nil, err
	}
	t, err := model.View(x.dtype(), x.shape, data)
	if err != nil {
		return nil, fail(ErrMalformed, l.part(i), "%v", err)
	}
	return t, nil
}

// nibbles widens n int4 values to a byte each, the lower half first.
func nibbles(data []byte, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(int8(data[i/2]>>(4*(i%2))<<4) >> 4)
	}
	return out
}

// constantForm returns the name of constant tensor i as floats, with lead
// axes of length 1 put in front and then in the order perm, nil for as it
// is. Quantised constants stay integers behind a DequantizeLinear, float16
// ones behind a Cast.
func (l *lowering) constantForm(i int, v *value, lead int, perm []int64) string {
	key := fmt.Sprint(lead, perm)
	if name := v.forms[key]; name != "" || !l.take(512) {
		return name
	}
	t, err := l.permuted(v.raw, lead, perm)
	if err != nil {
		l.err = err
		return ""
	}
	name := l.addConst(l.f.tensors[i].name, t)
	switch {
	case v.quant != nil:
		axis := v.quant.axis + lead
		if perm != nil {
			axis = slices.Index(perm, int64(axis))
		}
		name = l.dequantize(name, v.quant, t.Type, axis)
	case t.Type == model.F16:
		name = l.cast(name, model.F32)
	}
	if v.forms == nil {
		v.forms = map[string]string{}
	}
	v.forms[key] = name
	return name
}

// permuted returns t with lead axes of length 1 in front, and then its axes
// in the order perm. It shares t's data where no element moves.
func (l *lowering) permuted(t *model.Tensor, lead int, perm []int64) (*model.Tensor, error) {
	from := append(slices.Repeat(model.Shape{1}, lead), t.Shape...)
	if perm == nil {
		return &model.Tensor{Type: t.Type, Shape: from, Data: t.Data}, nil
	}
	shape := make(model.Shape, len(from))
	var moved []int64 // axes longer than 1, in their new order
	for k, p := range perm {
		shape[k] = from[p]
		if from[p] != 1 {
			moved = append(moved, p)
		}
	}
	if slices.IsSorted(moved) {
		return &model.Tensor{Type: t.Type, Shape: shape, Data: t.Data}, nil
	}
	if err := l.r.budget.take(int64(len(t.Data)) + 512); err != nil {
		return nil, err
	}
	out := &model.Tensor{Type: t.Type, Shape: shape, Data: model.Aligned(len(t.Data))}
	transpose(out.Data, t.Data, from, perm, t.Type.Size())
	return out, nil
}

// transpose writes the elements of in, of size bytes and shape s, to out in
// the order perm of axes.
func transpose(out, in []byte, s model.Shape, perm []int64, size int) {
	stride := make([]int, len(s)) // of in, for each axis of out
	n := size
	for a := len(s) - 1; a >= 0; a-- {
		stride[slices.Index(perm, int64(a))] = n
		n *= s[a]
	}
	index, at := make([]int, len(s)), 0
	for to := 0; to < len(out); to += size {
		copy(out[to:to+size], in[at:at+size])
		for k := len(s) - 1; k >= 0; k-- {
			index[k]++
			at += stride[k]
			if index[k] < s[perm[k]] {
				break
			}
			at -= index[k] * stride[k]
			index[k] = 0
		}
	}
}

// maxKnown bounds the integers that are looked at while lowering: shapes,
// axes, paddings.
const maxKnown = 1 << 12

// known returns the elements of tensor i, where it is a constant of integers.
func (l *lowering) known(i int) ([]int, bool) {
	if i < 0 {
		return nil, false
	}
	t := l.value(i).raw
	if l.err != nil || t == nil || t.Elements() > maxKnown || !l.take(64+8*int64(t.Elements())) {
		return nil, false
	}
	list := make([]int, t.Elements())
	switch t.Type {
	case model.I32:
		for k, v := range t.I32() {
			list[k] = int(v)
		}
	case model.I64:
		for k, v := range t.I64() {
			list[k] = int(v)
		}
	default:
		return nil, false
	}
	return list, true
}

// constants returns the elements of tensor i; it refuses an operator where
// that is no constant.
func (l *lowering) constants(i int, what string) []int {
	list, ok := l.known(i)
	if !ok && l.err == nil {
		l.err = refuse("its %s must be constant", what)
	}
	return list
}

// axes returns the elements of tensor i as axes of a tensor of that rank.
func (l *lowering) axes(i, rank int) []int {
	list := l.constants(i, "axes")
	for k, a := range list {
		list[k] = l.axis(a, rank)
	}
	return list
}

// axis returns a as an axis of a tensor of that rank, counting from the end
// where it is negative.
func (l *lowering) axis(a, rank int) int {
	if a < 0 {
		a += rank
	}
	if a < 0 || a >= rank {
		if l.err == nil {
			l.err = l.now.bad("axis %d of %d", a, rank)
		}
		return 0
	}
	return a
}

// fold makes tensor i a constant of the values.
func (l *lowering) fold(i int, v []int, shape model.Shape) {
	t := l.f.tensors[i].dtype()
	if (t != model.I32 && t != model.I64) || !l.take(512+16*int64(len(v))) {
		if l.err == nil {
			l.err = refuse("a shape as %v", t)
		}
		return
	}
	wide := make([]int64, len(v))
	for k, x := range v {
		wide[k] = int64(x)
	}
	l.values[i] = &value{shape: shape, raw: integers(t, wide, shape)}
}
