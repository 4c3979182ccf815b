package tflite

import (
	"slices"

	"dunlin/model"
)

// A quantised tensor is, in the graph, an integer value between a
// QuantizeLinear and a DequantizeLinear with the file's scale and zero point;
// operators stand between them and compute on floats. That holds for
// operators that only move elements too. A quantised constant is an integer
// constant behind a DequantizeLinear, with a scale for each output channel
// where the file has it so. engine makes integer operators of the whole.
//
// A convolution's int32 bias gets the scale in which TFLite adds it,
// s_x*s_w, whatever scale the file has beside it.

// equal reports whether both say the same of a tensor with one scale.
func (q *quantisation) equal(p *quantisation) bool {
	if q == nil || p == nil {
		return q == p
	}
	return slices.Equal(q.scale, p.scale) && slices.Equal(q.zero, p.zero)
}

// scales adds the constants for scale and zero point: single values for one
// scale, lists for more. Zero points are left out where bare is set, which
// is for int32.
func (l *lowering) scales(q *quantisation, t model.DType, bare bool) []string {
	n := len(q.scale)
	if !l.take(1024 + 32*int64(n)) {
		return nil
	}
	shape := []int{n}
	if n == 1 {
		shape = nil
	}
	list := []string{l.addConst(l.now.name+"/scale", model.Of(model.F32, q.scale, shape...))}
	if !bare {
		list = append(list, l.addConst(l.now.name+"/zero", integers(t, q.zero, shape)))
	}
	return list
}

// integers returns a tensor of I8, U8, I16 or I32.
func integers(t model.DType, v []int64, shape []int) *model.Tensor {
	switch t {
	case model.I8:
		return model.Of(t, narrow[int8](v), shape...)
	case model.U8:
		return model.Of(t, narrow[uint8](v), shape...)
	case model.I16:
		return model.Of(t, narrow[int16](v), shape...)
	case model.I32:
		return model.Of(t, narrow[int32](v), shape...)
	}
	return model.Of(model.I64, v, shape...)
}

func narrow[T int8 | uint8 | int16 | int32](v []int64) []T {
	out := make([]T, len(v))
	for i, x := range v {
		out[i] = T(x)
	}
	return out
}

func (l *lowering) quantize(x string, q *quantisation, t model.DType) string {
	s := l.scales(q, t, false)
	if l.err != nil {
		return ""
	}
	return l.emit("QuantizeLinear", nil, x, s[0], s[1])
}

// dequantize puts a DequantizeLinear behind x. axis is where the scales run,
// if there is more than one.
func (l *lowering) dequantize(x string, q *quantisation, t model.DType, axis int) string {
	s := l.scales(q, t, t == model.I32)
	if l.err != nil {
		return ""
	}
	var a attrs
	if len(q.scale) > 1 {
		a = attrs{"axis": int64(axis)}
	}
	return l.emit("DequantizeLinear", a, append([]string{x}, s...)...)
}

// bias returns the name of a bias as floats: input i of the operator in work,
// which adds it to products of x and w with channels along w's axis.
func (l *lowering) bias(i int, x, w *value) string {
	v := l.value(i)
	if l.err != nil {
		return ""
	}
	if v.raw == nil || v.raw.Type != model.I32 || x.quant == nil || w.quant == nil {
		return l.plain(i, asFile)
	}
	n := len(w.quant.scale)
	if !l.take(64 + 8*int64(n)) {
		return ""
	}
	q := &quantisation{scale: make([]float32, n)}
	for c, s := range w.quant.scale {
		q.scale[c] = float32(float64(x.quant.scale[0]) * float64(s))
	}
	if n > 1 && (len(v.shape) != 1 || v.shape[0] != n) {
		l.err = l.now.bad("its bias is %v for %d channels", v.shape, n)
		return ""
	}
	return l.dequantize(l.addConst(l.f.tensors[i].name, v.raw), q, model.I32, 0)
}
