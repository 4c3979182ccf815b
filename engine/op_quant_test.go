package engine

import (
	"slices"
	"strings"
	"testing"

	"dunlin/model"
)

func u8s(v []uint8, shape ...int) *model.Tensor { return model.Of(model.U8, v, shape...) }
func i8s(v []int8, shape ...int) *model.Tensor  { return model.Of(model.I8, v, shape...) }
func i32s(v []int32, shape ...int) *model.Tensor {
	return model.Of(model.I32, v, shape...)
}

// Values of the ONNX specification.
func TestIntegerOperators(t *testing.T) {
	out := one(t, "DynamicQuantizeLinear", nil, 3, false, f32s([]float32{0, 2, -3, -2.5, 1.34, 0.5}, 6))
	wantTensor(t, out[0], u8s([]uint8{153, 255, 0, 26, 221, 179}, 6))
	wantTensor(t, out[1], f32s([]float32{float32(5) / 255}))
	wantTensor(t, out[2], u8s([]uint8{153}))

	a := u8s([]uint8{11, 7, 3, 10, 6, 2, 9, 5, 1, 8, 4, 0}, 4, 3)
	b := u8s([]uint8{1, 4, 2, 5, 3, 6}, 3, 2)
	sums := i32s([]int32{-38, -83, -44, -98, -50, -113, -56, -128}, 4, 2)
	both(t, "MatMulInteger", nil, sums, a, b, u8s([]uint8{12}), u8s([]uint8{0}))
	both(t, "MatMulInteger", nil, sums, a, b, u8s([]uint8{12}))
	both(t, "MatMulInteger", nil, i32s([]int32{-1, 2, 1, -2}, 2, 2), i8s([]int8{1, 2, 2, 1}, 2, 2), i8s([]int8{6, 5, 3, 7}, 2, 2), i8s([]int8{1, 2}, 2), i8s([]int8{4, 5}, 2))

	x := u8s([]uint8{2, 3, 4, 5, 6, 7, 8, 9, 10}, 1, 1, 3, 3)
	w := u8s([]uint8{1, 1, 1, 1}, 1, 1, 2, 2)
	both(t, "ConvInteger", nil, i32s([]int32{12, 16, 24, 28}, 1, 1, 2, 2), x, w, u8s([]uint8{1}))

	both(t, "QLinearMatMul", nil, u8s([]uint8{168, 115, 255, 1, 66, 151}, 2, 3),
		u8s([]uint8{208, 236, 0, 238, 3, 214, 255, 29}, 2, 4), f32s([]float32{0.0066}), u8s([]uint8{113}),
		u8s([]uint8{152, 51, 244, 60, 26, 255, 0, 127, 246, 127, 254, 247}, 4, 3), f32s([]float32{0.00705}), u8s([]uint8{114}),
		f32s([]float32{0.0107}), u8s([]uint8{118}))
	both(t, "QuantizeLinear", attrs{"axis": int64(1)}, u8s([]uint8{10, 127, 0, 255}, 1, 2, 2),
		f32s([]float32{0, 58.5, -600, 12}, 1, 2, 2), f32s([]float32{0.5, 0.04}, 2), u8s([]uint8{10, 5}, 2))
	both(t, "DequantizeLinear", attrs{"axis": int64(0)}, f32s([]float32{-2, 0, 500, 1000}, 2, 2),
		i32s([]int32{1, 3, 5, 10}, 2, 2), f32s([]float32{1, 100}, 2), i32s([]int32{3, 0}, 2))
}

// quantisedNet is a small network as a quantiser writes it; operators says
// whether with operators that carry scales, or between QuantizeLinear and
// DequantizeLinear.
func quantisedNet(operators bool) *model.Graph {
	b := newBuild(3)
	sx, zx := b.scalar(1.0/32), b.constant(u8s([]uint8{128}))
	sy, zy := b.scalar(1.0/8), b.constant(u8s([]uint8{100}))
	sw, zw := b.constant(f32s([]float32{1.0 / 64, 1.0 / 128, 1.0 / 96}, 3)), b.constant(i8s(make([]int8, 3), 3))
	w := make([]int8, 3*3*3*3)
	for i := range w {
		w[i] = int8(b.r.IntN(255) - 127)
	}
	kernel, bias := b.constant(i8s(w, 3, 3, 3, 3)), b.constant(i32s([]int32{100, -200, 3000}, 3))
	pads := attrs{"pads": []int64{1, 1, 1, 1}}
	pool := attrs{"kernel_shape": []int64{2, 2}}
	x := b.node("QuantizeLinear", nil, b.input("x", 1, 3, 6, 6), sx, zx)
	var y string
	if operators {
		y = b.node("QLinearConv", pads, x, sx, zx, kernel, sw, zw, sy, zy, bias)
		y = b.node("MaxPool", pool, y)
		z := b.node("com.microsoft.QLinearSigmoid", nil, y, sy, zy, sx, zx)
		y = b.node("com.microsoft.QLinearMul", nil, y, sy, zy, z, sx, zx, sy, zy)
		y = b.node("com.microsoft.QLinearAdd", nil, y, sy, zy, z, sx, zx, sy, zy)
		y = b.node("com.microsoft.QLinearConcat", attrs{"axis": int64(1)}, sy, zy, y, sy, zy, z, sx, zx)
		y = b.node("com.microsoft.QLinearGlobalAveragePool", nil, y, sy, zy, sx, zx)
		y = b.node("Flatten", nil, y)
	} else {
		d := func(v, s, z string) string { return b.node("DequantizeLinear", nil, v, s, z) }
		q := func(v, s, z string) string { return b.node("QuantizeLinear", nil, v, s, z) }
		unit := b.constant(f32s([]float32{1.0 / 64 / 32, 1.0 / 128 / 32, float32(1.0/96) / 32}, 3))
		y = b.node("Conv", pads, d(x, sx, zx), b.node("DequantizeLinear", attrs{"axis": int64(0)}, kernel, sw, zw),
			b.node("DequantizeLinear", attrs{"axis": int64(0)}, bias, unit))
		y = d(q(b.node("MaxPool", pool, d(q(y, sy, zy), sy, zy)), sy, zy), sy, zy)
		z := d(q(b.node("Sigmoid", nil, y), sx, zx), sx, zx)
		y = d(q(b.node("Mul", nil, y, z), sy, zy), sy, zy)
		y = d(q(b.node("Add", nil, y, z), sy, zy), sy, zy)
		y = d(q(b.node("Concat", attrs{"axis": int64(1)}, y, z), sy, zy), sy, zy)
		y = q(b.node("GlobalAveragePool", nil, y), sx, zx)
		y = q(b.node("Flatten", nil, d(y, sx, zx)), sx, zx)
	}
	b.output(b.node("DequantizeLinear", nil, y, sx, zx))
	return b.Graph
}

// Both forms of a quantised graph become the same integer kernels, and give
// the same bits.
func TestFormsOfQuantisation(t *testing.T) {
	var plans [2][]string
	var outs [2]*model.Tensor
	for i, operators := range []bool{false, true} {
		p := compiled(t, quantisedNet(operators), Options{})
		if !p.Exact() {
			t.Error("not exact")
		}
		for _, s := range p.Steps() {
			if s.Kernel != "alias" {
				plans[i] = append(plans[i], s.Kernel)
			}
			if s.Why != "" {
				t.Errorf("%s runs in %s: %s", s.Name, s.Precision, s.Why)
			}
		}
		outs[i] = runOnce(t, p, 5)[0]
	}
	if !slices.Equal(plans[0], plans[1]) {
		t.Errorf("plans differ:\n%v\n%v", plans[0], plans[1])
	}
	wantTensor(t, outs[1], outs[0])
	for _, want := range []string{"conv-int8", "maxpool-int8", "table-int8", "mul-int8", "add-int8", "averagepool-int8"} {
		if !strings.Contains(strings.Join(plans[0], " "), want) {
			t.Errorf("no %s in %v", want, plans[0])
		}
	}
}

// A table gives, for every int8 number, the bits of the chain of functions
// that it stands for.
func TestTables(t *testing.T) {
	functions := map[string]func(b *build, x string) string{
		"sigmoid":    func(b *build, x string) string { return b.node("Sigmoid", nil, x) },
		"tanh":       func(b *build, x string) string { return b.node("Tanh", nil, x) },
		"hard swish": func(b *build, x string) string { return b.node("HardSwish", nil, x) },
		"leaky relu": func(b *build, x string) string { return b.node("LeakyRelu", attrs{"alpha": float32(0.2)}, x) },
		"swish":      func(b *build, x string) string { return b.node("Mul", nil, x, b.node("Sigmoid", nil, x)) },
		"scaled": func(b *build, x string) string {
			y := b.node("Div", nil, b.node("Add", nil, x, b.scalar(3)), b.constant(f32s([]float32{6}, 1, 1)))
			return b.node("Mul", nil, x, b.node("Clip", nil, y, b.scalar(0), b.scalar(1)))
		},
	}
	for name, f := range functions {
		b := newBuild(1)
		b.typed("x", model.I8, 1, 4, 8, 8)
		s, z := b.scalar(0.04), b.zero(model.I8, 7)
		real := f(b, b.node("DequantizeLinear", nil, "x", s, z))
		so, zo := b.scalar(0.03), b.zero(model.I8, -20)
		b.output(b.node("QuantizeLinear", nil, real, so, zo))
		table := compiled(t, b.Graph, Options{})
		kernel := table.Steps()[0].Kernel
		if !strings.HasPrefix(kernel, "table-int8") || len(table.Steps()) != 1 {
			t.Errorf("%s: %d steps, the first is %s", name, len(table.Steps()), kernel)
		}
		b.output(real) // the floats are wanted too
		chain := compiled(t, b.Graph, Options{Observe: func(string, *model.Tensor) {}})
		var x [256]int8
		for i := range x {
			x[i] = int8(i)
		}
		in := i8s(x[:], 1, 4, 8, 8)
		wantTensor(t, feed(t, table.NewSession(), in)[0], feed(t, chain.NewSession(), in)[0])
	}
}

// Sums that nothing quantises become floats behind the integer kernel, with
// the bias in them; products of two computed matrices are integer too.
func TestIntegerSumsAsFloats(t *testing.T) {
	b := newBuild(2)
	x := b.quantised(b.input("x", 1, 4, 6, 6), model.U8, 1.0/64, 130)
	conv := b.node("Conv", attrs{"pads": []int64{1, 1, 0, 1}, "strides": []int64{2, 1}}, x, b.weights(0, 5, 4, 3, 3), b.bias(5, 1.0/64))
	point := b.node("Conv", nil, x, b.weights(0, 5, 4, 1, 1))
	rows := b.node("Reshape", nil, x, b.ints(24, 6))
	gemm := b.node("Add", nil, b.normal(7), b.node("MatMul", nil, rows, b.weights(1, 6, 7)))
	square := b.node("MatMul", nil, b.node("Reshape", nil, x, b.ints(4, 6, 6)), b.node("Reshape", nil, x, b.ints(1, 4, 6, 6)))
	last := b.quantised(b.node("MatMul", nil, rows, b.node("Transpose", nil, rows)), model.U8, 1.0/8, 120)
	b.output(conv, point, gemm, square, last)
	p := compiled(t, b.Graph, Options{})
	for _, s := range p.Steps() {
		if s.MACs > 0 && (s.Precision != "int8" || s.Why != "") {
			t.Errorf("%s is %s in %s: %s", s.Name, s.Kernel, s.Precision, s.Why)
		}
		if strings.HasPrefix(s.Kernel, "Add") {
			t.Errorf("%s is left beside the product", s.Name)
		}
	}
	got, want := runOnce(t, p, 7), runOnce(t, plain(t, b.Graph), 7)
	for i := range want {
		if d := farthest(t, got[i], want[i]); d > []float64{2e-3, 2e-3, 2e-3, 2e-3, 0.13}[i] {
			t.Errorf("output %d is %g off", i, d)
		}
	}
}

// Weights and activations of uint8 with zero points of their own, per tensor
// and per channel.
func TestUint8Weights(t *testing.T) {
	for _, channels := range []int{1, 4} {
		b := newBuild(5)
		x := b.quantised(b.input("x", 1, 3, 6, 6), model.U8, 1.0/64, 130)
		values, scales, zeros := make([]uint8, 4*27), make([]float32, channels), make([]uint8, channels)
		for i := range values {
			values[i] = uint8(b.r.IntN(256))
		}
		for i := range scales {
			scales[i], zeros[i] = float32(i+1)/512, uint8(100+20*i)
		}
		shape := []int{channels}
		if channels == 1 {
			shape = nil
		}
		w := b.node("DequantizeLinear", attrs{"axis": int64(0)}, b.constant(u8s(values, 4, 3, 3, 3)), b.constant(f32s(scales, shape...)), b.constant(u8s(zeros, shape...)))
		b.output(b.quantised(b.node("Conv", nil, x, w), model.U8, 1.0/4, 128))
		p := compiled(t, b.Graph, Options{})
		if !slices.ContainsFunc(p.Steps(), func(s Step) bool { return strings.HasPrefix(s.Kernel, "conv-int8") }) {
			t.Errorf("%d scales: no integer convolution", channels)
		}
		if d := farthest(t, runOnce(t, p, 3)[0], runOnce(t, plain(t, b.Graph), 3)[0]); d > 0.26 {
			t.Errorf("%d scales: %g off", channels, d)
		}
	}
}
