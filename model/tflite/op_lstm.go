package tflite

import (
	"slices"

	"dunlin/model"
)

// The inputs of UNIDIRECTIONAL_SEQUENCE_LSTM. Each group of four has the
// gates in TFLite's order: input, forget, cell, output.
const (
	lstmX         = 0
	lstmW         = 1 // [H, I] each
	lstmR         = 5 // [H, H] each
	lstmPeephole  = 9 // 3, optional
	lstmB         = 12
	lstmProject   = 16 // weights and bias, optional
	lstmH, lstmC  = 18, 19
	lstmNorm      = 20 // 4, optional
	lstmInputs    = 18
	activateTanh  = 4
	leastCellClip = 8
)

// onnxGates is where the gates of ONNX's order (input, output, forget, cell)
// stand in TFLite's.
var onnxGates = [4]int{0, 3, 1, 2}

// lowerLSTM makes an LSTM (https://onnx.ai/onnx/operators/onnx__LSTM.html) of
// UNIDIRECTIONAL_SEQUENCE_LSTM: the one without peepholes, projection and
// layer normalisation, which Keras writes. It begins at zero, or at the state
// tensors where they are no state of TFLite's. Its weights stay integers
// behind a DequantizeLinear; between input and output it computes on floats,
// where TFLite rounds the cell to 16 bits of 1/4096 and the hidden state to
// int8 at each step.
//
// TFLite bounds the cell state to ±cell_clip, which ONNX cannot say. From 8
// on, where Keras' 10 and the 16-bit cell are, the bound moves a result by at
// most 1-tanh(8), 2e-7; less is refused.
func lowerLSTM(l *lowering, o *op) error {
	t := &o.options
	if len(o.in) < lstmInputs {
		return o.bad("%d inputs", len(o.in))
	}
	if clip := t.float32(1, 0); clip != 0 && !(clip >= leastCellClip) {
		return refuse("a cell clip of %v", clip)
	}
	if a := t.int8(0, 0); a != activateTanh {
		return refuse("fused activation %d, not TANH", a)
	}
	for i, why := range map[int]string{
		lstmPeephole: "peephole weights", lstmPeephole + 1: "peephole weights", lstmPeephole + 2: "peephole weights",
		lstmProject: "a projection", lstmProject + 1: "a projection",
		lstmNorm: "layer normalisation", lstmNorm + 1: "layer normalisation", lstmNorm + 2: "layer normalisation", lstmNorm + 3: "layer normalisation",
	} {
		if o.input(i) >= 0 {
			return refuse("%s", why)
		}
	}
	if t.bool(5) {
		return refuse("diagonal recurrent weights")
	}
	for _, first := range []int{lstmW, lstmR, lstmB} {
		if slices.Contains(o.in[first:first+4], -1) {
			return refuse("a gate is left out")
		}
	}
	s := l.shape(o.in[lstmX])
	w := l.shape(o.in[lstmW])
	if l.err == nil && (len(s) != 3 || len(w) != 2) {
		return o.bad("input %v, weights %v", s, w)
	}
	hidden := 0
	if l.err == nil {
		hidden = w[0]
	}
	x := l.plain(o.in[lstmX], asFile)
	swap := attrs{"perm": []int64{1, 0, 2}}
	if !t.bool(3) { // batch first
		x = l.emit("Transpose", swap, x)
	}
	in := []string{x, l.gates(o, lstmW, hidden), l.gates(o, lstmR, hidden), l.gateBias(o, hidden)}
	for i := lstmH; i <= lstmC && o.input(i) >= 0; i++ {
		if l.f.tensors[o.in[i]].variable {
			continue
		}
		for len(in) < i-lstmH+5 {
			in = append(in, "")
		}
		in = append(in, l.emit("Unsqueeze", nil, l.plain(o.in[i], asFile), l.ints(0)))
	}
	y := l.emit("LSTM", attrs{"hidden_size": int64(hidden)}, in...)
	y = l.emit("Squeeze", nil, y, l.ints(1)) // [T, 1, B, H]: one direction
	if !t.bool(3) {
		y = l.emit("Transpose", swap, y)
	}
	if l.err == nil {
		l.define(o.out[0], y, asFile, model.Shape{s[0], s[1], hidden})
	}
	return l.err
}

// gates joins the weights of four gates to [1, 4H, N] in ONNX's order: one
// constant, with a scale a row where they are quantised.
func (l *lowering) gates(o *op, first, hidden int) string {
	var data []byte
	var q *quantisation
	var shape model.Shape
	var kind model.DType
	for k, gate := range onnxGates {
		i := o.in[first+gate]
		v := l.value(i)
		switch {
		case l.err != nil:
			return ""
		case v.raw == nil:
			l.err = refuse("weights that are not constant")
		case len(v.shape) != 2 || v.shape[0] != hidden || (k > 0 && (v.shape[1] != shape[2] || v.raw.Type != kind || (v.quant == nil) != (q == nil))):
			l.err = o.bad("weights %v of gate %d do not fit the others", v.shape, gate)
		case v.quant != nil && len(v.quant.scale) != 1:
			l.err = refuse("weights with a scale for each row")
		case !l.take(2*int64(len(v.raw.Data)) + 64*int64(hidden)):
		default:
			if k == 0 {
				shape, kind = model.Shape{1, 4 * hidden, v.shape[1]}, v.raw.Type
				data = make([]byte, 0, 4*len(v.raw.Data))
				if v.quant != nil {
					q = &quantisation{}
				}
			}
			data = append(data, v.raw.Data...)
			if q != nil {
				q.scale = append(q.scale, slices.Repeat(v.quant.scale, hidden)...)
				q.zero = append(q.zero, slices.Repeat(v.quant.zero, hidden)...)
			}
		}
		if l.err != nil {
			return ""
		}
	}
	if !l.take(int64(len(data)) + 256) {
		return ""
	}
	t, err := model.View(kind, shape, data)
	if err != nil {
		l.err = o.bad("%v", err)
		return ""
	}
	name := l.addConst(l.f.tensors[o.in[first]].name, t)
	switch {
	case q != nil:
		return l.dequantize(name, q, kind, 1)
	case kind == model.F16:
		return l.cast(name, model.F32)
	}
	return name
}

// gateBias joins the biases to the [1, 8H] that ONNX wants, whose second half
// is a bias of the recurrent products: zero. Integer ones are turned to
// floats here, since TFLite's scales for them, s_x*s_w, differ from gate to
// gate.
func (l *lowering) gateBias(o *op, hidden int) string {
	if !l.take(64 * int64(hidden)) {
		return ""
	}
	all := make([]float32, 8*hidden)
	for k, gate := range onnxGates {
		v := l.value(o.in[lstmB+gate])
		switch {
		case l.err != nil:
			return ""
		case v.raw == nil:
			l.err = refuse("biases that are not constant")
		case v.raw.Elements() != hidden:
			l.err = o.bad("bias %v of gate %d", v.shape, gate)
		case v.raw.Type == model.F32:
			copy(all[k*hidden:], v.raw.F32())
		case v.raw.Type == model.I32 && v.quant != nil && len(v.quant.scale) == 1:
			for n, b := range v.raw.I32() {
				all[k*hidden+n] = float32(float64(b) * float64(v.quant.scale[0]))
			}
		default:
			l.err = refuse("biases of type %v", v.raw.Type)
		}
		if l.err != nil {
			return ""
		}
	}
	return l.addConst(l.f.tensors[o.in[lstmB]].name, model.Of(model.F32, all, 1, 8*hidden))
}
