package tflite

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"dunlin/engine"
	"dunlin/model"
)

// run imports and runs n on these inputs, and returns the outputs. It skips
// where engine lacks an operator.
func (n *net) run(t *testing.T, inputs ...[]float32) []*model.Tensor {
	t.Helper()
	g := n.imported(t)
	p, err := engine.Compile(g, engine.Options{})
	var lacks *engine.UnsupportedError
	if errors.As(err, &lacks) {
		t.Skipf("engine: %v", lacks)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := p.NewSession()
	for i, v := range inputs {
		switch in := s.Input(i); in.Type {
		case model.F32:
			copy(in.F32(), v)
		case model.I8:
			for k, x := range v {
				in.I8()[k] = int8(x)
			}
		default:
			for k, x := range v {
				in.U8()[k] = uint8(x)
			}
		}
	}
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	var out []*model.Tensor
	for i := range p.Outputs() {
		out = append(out, s.Output(i).Clone())
	}
	return out
}

// ramp returns n numbers without a pattern that an error could hide in.
func ramp(n int) []float32 {
	v := make([]float32, n)
	x := uint32(1)
	for i := range v {
		x = x*1664525 + 1013904223
		v[i] = float32(int32(x>>16)%201-100) / 64
	}
	return v
}

// wantFloats fails unless got is want, of that shape.
func wantFloats(t *testing.T, got *model.Tensor, shape model.Shape, want []float32) {
	t.Helper()
	if !got.Shape.Equal(shape) {
		t.Fatalf("shape %v, want %v", got.Shape, shape)
	}
	for i, v := range got.F32() {
		if !(math.Abs(float64(v-want[i])) <= 1e-4*max(1, math.Abs(float64(want[i])))) {
			t.Fatalf("element %d is %v, want %v", i, v, want[i])
		}
	}
}

// picture is an activation as TFLite has it: [1, H, W, C].
type picture struct {
	h, w, c int
	v       []float32
}

func (p picture) at(y, x, c int) float32 {
	if y < 0 || x < 0 || y >= p.h || x >= p.w {
		return 0
	}
	return p.v[(y*p.w+x)*p.c+c]
}

// convolved is the definition of CONV_2D: weights [OC, K, K, C], top and left
// zeros in front, oh by ow positions.
func convolved(p picture, w []float32, oc, k, stride, dilation, top, left, oh, ow int) picture {
	out := picture{h: oh, w: ow, c: oc, v: make([]float32, oh*ow*oc)}
	for y := range oh {
		for x := range ow {
			for o := range oc {
				var sum float32
				for i := range k {
					for j := range k {
						for c := range p.c {
							sum += p.at(y*stride+i*dilation-top, x*stride+j*dilation-left, c) * w[((o*k+i)*k+j)*p.c+c]
						}
					}
				}
				out.v[(y*ow+x)*oc+o] = sum
			}
		}
	}
	return out
}

// SAME padding has its smaller half in front, for odd and even lengths.
func TestConvSame(t *testing.T) {
	for _, c := range []struct{ h, w, k, stride, dilation, top, left int }{
		{5, 6, 3, 2, 1, 1, 0}, {6, 5, 3, 1, 1, 1, 1}, {7, 7, 2, 2, 1, 0, 0}, {7, 8, 3, 1, 2, 2, 2}, {5, 5, 1, 2, 1, 0, 0},
	} {
		p := picture{c.h, c.w, 3, ramp(c.h * c.w * 3)}
		w := ramp(4 * c.k * c.k * 3)
		n := newNet()
		x := n.input("x", 1, int32(c.h), int32(c.w), 3)
		n.op("CONV_2D", conv(0, int32(c.stride), int32(c.dilation)), []int32{x, n.floats("w", w, 4, c.k, c.k, 3)})
		oh, ow := (c.h+c.stride-1)/c.stride, (c.w+c.stride-1)/c.stride
		want := convolved(p, w, 4, c.k, c.stride, c.dilation, c.top, c.left, oh, ow)
		wantFloats(t, n.run(t, p.v)[0], model.Shape{1, oh, ow, 4}, want.v)
	}
}

// A PAD in front of a VALID convolution becomes the convolution's own, and no
// Pad is left.
func TestPadJoinsConv(t *testing.T) {
	p, w := picture{5, 6, 2, ramp(60)}, ramp(3*9*2)
	n := newNet()
	pads := n.constant("pads", model.Of(model.I32, []int32{0, 0, 1, 2, 3, 0, 0, 0}, 4, 2))
	x := n.op("PAD", nil, []int32{n.input("x", 1, 5, 6, 2), pads})
	n.op("CONV_2D", conv(1, 1, 1), []int32{x, n.floats("w", w, 3, 3, 3, 2)})
	if c := count(n.imported(t), "Pad"); c != 0 {
		t.Errorf("%d Pad nodes are left", c)
	}
	wantFloats(t, n.run(t, p.v)[0], model.Shape{1, 6, 7, 3}, convolved(p, w, 3, 3, 1, 1, 1, 3, 6, 7).v)
}

// Padding of channels, or in front of a SAME convolution, stays.
func TestPadStays(t *testing.T) {
	for padding, pads := range map[int8][]int32{1: {0, 0, 1, 1, 1, 1, 0, 1}, 0: {0, 0, 1, 1, 1, 1, 0, 0}} {
		n := newNet()
		c := 2 + int(pads[7])
		x := n.op("PAD", nil, []int32{n.input("x", 1, 5, 6, 2), n.constant("pads", model.Of(model.I32, pads, 4, 2))})
		n.op("CONV_2D", conv(padding, 1, 1), []int32{x, n.floats("w", ramp(3*9*c), 3, 3, 3, c)})
		if c := count(n.imported(t), "Pad"); c != 1 {
			t.Errorf("padding %d: %d Pad nodes", padding, c)
		}
	}
}

// Depthwise convolution with a multiplier: output channel c*m+k reads input
// channel c.
func TestDepthwise(t *testing.T) {
	p, w := picture{4, 5, 3, ramp(60)}, ramp(9*6)
	n := newNet()
	x := n.input("x", 1, 4, 5, 3)
	n.op("DEPTHWISE_CONV_2D", tab{0: int8(1), 1: int32(1), 2: int32(1), 3: int32(2), 4: int8(1)}, []int32{x, n.floats("w", w, 1, 3, 3, 6)})
	want := make([]float32, 2*3*6)
	for y := range 2 {
		for x := range 3 {
			for o := range 6 {
				var sum float32
				for i := range 3 {
					for j := range 3 {
						sum += p.at(y+i, x+j, o/2) * w[(i*3+j)*6+o]
					}
				}
				want[(y*3+x)*6+o] = max(0, sum)
			}
		}
	}
	wantFloats(t, n.run(t, p.v)[0], model.Shape{1, 2, 3, 6}, want)
}

// spaced is SPACE_TO_BATCH_ND, a VALID convolution, BATCH_TO_SPACE_ND.
func spaced(h, w int32, weights []float32, block int32, pads, crops []int32) *net {
	n := newNet()
	b := n.list("block", block, block)
	x := n.op("SPACE_TO_BATCH_ND", nil, []int32{n.input("x", 1, h, w, 2), b, n.constant("pads", model.Of(model.I32, pads, 2, 2))})
	x = n.op("CONV_2D", conv(1, 1, 1), []int32{x, n.floats("w", weights, 3, 3, 3, 2)})
	n.op("BATCH_TO_SPACE_ND", nil, []int32{x, b, n.constant("crops", model.Of(model.I32, crops, 2, 2))})
	return n
}

// The three are one dilated convolution, also where some of the padding only
// makes the length divide and is cropped again.
func TestDilation(t *testing.T) {
	p, w := picture{7, 6, 2, ramp(84)}, ramp(3*9*2)
	n := spaced(7, 6, w, 2, []int32{2, 3, 2, 2}, []int32{0, 1, 0, 0})
	g := n.imported(t)
	if len(g.Nodes) != 3 || count(g, "Conv") != 1 {
		t.Errorf("%d nodes, not two Transposes and a Conv", len(g.Nodes))
	}
	wantFloats(t, n.run(t, p.v)[0], model.Shape{1, 7, 6, 3}, convolved(p, w, 3, 3, 1, 2, 2, 2, 7, 6).v)
}

// Where the crops cut more than the padding, the long way gives the same.
func TestSpaceAndBatch(t *testing.T) {
	p, w := picture{8, 8, 2, ramp(128)}, ramp(3*9*2)
	n := spaced(8, 8, w, 2, []int32{0, 0, 0, 0}, []int32{1, 0, 0, 1})
	if c := count(n.imported(t), "Reshape"); c != 4 {
		t.Errorf("%d Reshape nodes", c)
	}
	whole := convolved(p, w, 3, 3, 1, 2, -1, 0, 3, 3)
	wantFloats(t, n.run(t, p.v)[0], model.Shape{1, 3, 3, 3}, whole.v)
}

// A pool does not count padding.
func TestAveragePool(t *testing.T) {
	p := picture{3, 3, 1, []float32{1, 2, 3, 4, 5, 6, 7, 8, 9}}
	n := newNet()
	n.op("AVERAGE_POOL_2D", tab{0: int8(0), 1: int32(2), 2: int32(2), 3: int32(2), 4: int32(2)}, []int32{n.input("x", 1, 3, 3, 1)})
	wantFloats(t, n.run(t, p.v)[0], model.Shape{1, 2, 2, 1}, []float32{3, 4.5, 7.5, 9})
}

// A RESHAPE reads elements in the file's order, whatever is before it.
func TestReshapeAfterConv(t *testing.T) {
	p := picture{2, 2, 2, ramp(8)}
	n := newNet()
	x := n.op("CONV_2D", conv(1, 1, 1), []int32{n.input("x", 1, 2, 2, 2), n.floats("w", []float32{2, 0, 0, 2}, 2, 1, 1, 2)})
	n.op("RESHAPE", tab{0: []int32{4, -1}}, []int32{x})
	want := slices.Clone(p.v)
	for i := range want {
		want[i] *= 2
	}
	wantFloats(t, n.run(t, p.v)[0], model.Shape{4, 2}, want)
}

// Operands of fewer axes line up with the file's last axes, in either order.
func TestBroadcastAfterConv(t *testing.T) {
	p := picture{2, 3, 2, ramp(12)}
	for name, shape := range map[string][]int{"channels": {2}, "columns": {3, 1}, "all": {1, 2, 3, 2}, "one": {}} {
		t.Run(name, func(t *testing.T) {
			count, _ := model.Shape(shape).Elements()
			add := ramp(count)
			n := newNet()
			x := n.op("CONV_2D", conv(1, 1, 1), []int32{n.input("x", 1, 2, 3, 2), n.floats("w", []float32{1, 0, 0, 1}, 2, 1, 1, 2)})
			n.op("ADD", tab{}, []int32{x, n.floats("c", add, shape...)})
			want := slices.Clone(p.v)
			for i := range want {
				c, w := i%2, i/2%3
				want[i] += map[string]float32{"channels": add[c%count], "columns": add[w%count], "all": add[i%count], "one": add[0]}[name]
			}
			wantFloats(t, n.run(t, p.v)[0], model.Shape{1, 2, 3, 2}, want)
		})
	}
}

// CONCATENATION and MEAN rename their axes where their inputs are NCHW.
func TestAxesAfterConv(t *testing.T) {
	p := picture{2, 3, 2, ramp(12)}
	identity := func(n *net) int32 {
		return n.op("CONV_2D", conv(1, 1, 1), []int32{n.input("x", 1, 2, 3, 2), n.floats("w", []float32{1, 0, 0, 1}, 2, 1, 1, 2)})
	}
	n := newNet()
	x := identity(n)
	n.op("CONCATENATION", tab{0: int32(2)}, []int32{x, x})
	want := slices.Concat(p.v[:6], p.v[:6], p.v[6:], p.v[6:])
	wantFloats(t, n.run(t, p.v)[0], model.Shape{1, 2, 6, 2}, want)

	n = newNet()
	n.op("MEAN", tab{0: int8(0)}, []int32{identity(n), n.list("axes", 1, 2)})
	mean := make([]float32, 2)
	for i, v := range p.v {
		mean[i%2] += v / 6
	}
	wantFloats(t, n.run(t, p.v)[0], model.Shape{1, 2}, mean)
}

// So does SPLIT.
func TestSplitAfterConv(t *testing.T) {
	p := picture{2, 3, 2, ramp(12)}
	n := newNet()
	x := n.op("CONV_2D", conv(1, 1, 1), []int32{n.input("x", 1, 2, 3, 2), n.floats("w", []float32{1, 0, 0, 1}, 2, 1, 1, 2)})
	parts := []int32{n.tensor("a", model.F32), n.tensor("b", model.F32)}
	n.op("SPLIT", tab{0: int32(2)}, []int32{n.list("axis", -1), x}, parts...)
	out := n.run(t, p.v)
	for i := range out {
		half := []float32{}
		for k := i; k < len(p.v); k += 2 {
			half = append(half, p.v[k])
		}
		wantFloats(t, out[i], model.Shape{1, 2, 3, 1}, half)
	}
}

// FULLY_CONNECTED cuts whatever comes into rows, and keeps the axes in front
// where it is told to.
func TestFullyConnected(t *testing.T) {
	x, w := ramp(12), ramp(6)
	for _, keep := range []int8{0, 1} {
		n := newNet()
		n.op("FULLY_CONNECTED", tab{0: int8(1), 2: keep}, []int32{n.input("x", 1, 2, 2, 3), n.floats("w", w, 2, 3), n.floats("b", []float32{0.5, -0.5}, 2)})
		var want []float32
		for r := range 4 {
			for o := range 2 {
				sum := float32(0.5 - float64(o))
				for k := range 3 {
					sum += x[r*3+k] * w[o*3+k]
				}
				want = append(want, max(0, sum))
			}
		}
		shape := model.Shape{4, 2}
		if keep == 1 {
			shape = model.Shape{1, 2, 2, 2}
		}
		wantFloats(t, n.run(t, x)[0], shape, want)
	}
}

// Masks of STRIDED_SLICE, against numpy's answers for arange(24) as [2, 3, 4].
func TestStridedSlice(t *testing.T) {
	x := make([]float32, 24)
	for i := range x {
		x[i] = float32(i)
	}
	for name, c := range map[string]struct {
		begin, end, step []int32
		masks            tab
		shape            model.Shape
		want             []float32
	}{
		"[1, ::-2, 1:3]":     {[]int32{1, 9, 1}, []int32{0, 9, 3}, []int32{1, -2, 1}, tab{0: int32(2), 1: int32(2), 4: int32(1)}, model.Shape{2, 2}, []float32{21, 22, 13, 14}},
		"[..., -1]":          {[]int32{0, -1}, []int32{0, 0}, []int32{1, 1}, tab{2: int32(1), 4: int32(2)}, model.Shape{2, 3}, []float32{3, 7, 11, 15, 19, 23}},
		"[newaxis, 0, 2:]":   {[]int32{0, 0, 2}, []int32{0, 1, 3}, []int32{1, 1, 1}, tab{3: int32(1), 4: int32(2)}, model.Shape{1, 1, 4}, []float32{8, 9, 10, 11}},
		"[:, 1:2, 0:4:3]":    {[]int32{0, 1, 0}, []int32{2, 2, 4}, []int32{1, 1, 3}, tab{}, model.Shape{2, 1, 2}, []float32{4, 7, 16, 19}},
		"offset [0:2, 1+:1]": {[]int32{0, 1, 0}, []int32{2, 1, 4}, []int32{1, 1, 1}, tab{4: int32(2), 5: int8(1)}, model.Shape{2, 4}, []float32{4, 5, 6, 7, 16, 17, 18, 19}},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNet()
			n.op("STRIDED_SLICE", c.masks, []int32{n.input("x", 2, 3, 4), n.list("b", c.begin...), n.list("e", c.end...), n.list("s", c.step...)})
			wantFloats(t, n.run(t, x)[0], c.shape, c.want)
		})
	}
}

// Shape arithmetic is done at import, and leaves nothing in the graph.
func TestShapesFold(t *testing.T) {
	n := newNet()
	x := n.input("x", 2, 3, 4)
	s := n.op("SHAPE", nil, []int32{x}, n.tensor("s", model.I32))
	one := n.op("STRIDED_SLICE", tab{4: int32(1)}, []int32{s, n.list("a", 0), n.list("b", 1), n.list("c", 1)}, n.tensor("o", model.I32))
	p := n.op("PACK", nil, []int32{one, n.constant("m", model.Of(model.I32, []int32{-1}))}, n.tensor("p", model.I32))
	n.op("RESHAPE", nil, []int32{x, p})
	g := n.imported(t)
	if len(g.Nodes) != 1 || g.Nodes[0].Op != "Reshape" {
		t.Errorf("%d nodes are left", len(g.Nodes))
	}
	wantFloats(t, n.run(t, ramp(24))[0], model.Shape{2, 12}, ramp(24))
}

// A quantised net keeps its ports and the file's scales: an int8 convolution
// computed by hand.
func TestQuantised(t *testing.T) {
	for _, kind := range []model.DType{model.I8, model.U8} {
		t.Run(kind.String(), func(t *testing.T) {
			zero := int64(0)
			if kind == model.U8 {
				zero = 128
			}
			n := newNet()
			x := n.quantise(n.tensor("x", kind, 1, 2, 2, 2), zero+3, 0, 0.5)
			n.in = []int32{x}
			weights := integers(kind, []int64{zero + 1, zero - 2, zero + 3, zero + 4}, []int{2, 1, 1, 2})
			w := n.quantise(n.constant("w", weights), zero, 0, 0.25)
			b := n.constant("b", model.Of(model.I32, []int32{7, -9}, 2))
			y := n.quantise(n.tensor("y", kind, 1, 2, 2, 2), zero-5, 0, 1)
			n.op("CONV_2D", conv(0, 1, 1), []int32{x, w, b}, y)
			in := []float32{10, 20, -30, 40, 5, -6, 70, 80}
			for i := range in {
				in[i] += float32(zero)
			}
			out := n.run(t, in)[0]
			for i := range 8 {
				o, at := i%2, i/2*2
				sum := []int{7, -9}[o]
				for k, weight := range [][]int{{1, -2}, {3, 4}}[o] {
					sum += weight * (int(in[at+k]) - int(zero) - 3)
				}
				want := int64(math.RoundToEven(float64(sum)*0.125)) + zero - 5
				lo, hi := integerRange(kind)
				want = min(max(want, lo), hi)
				got := int64(0)
				if kind == model.I8 {
					got = int64(out.I8()[i])
				} else {
					got = int64(out.U8()[i])
				}
				if got != want {
					t.Errorf("element %d is %d, want %d", i, got, want)
				}
			}
		})
	}
}

// lstm adds an UNIDIRECTIONAL_SEQUENCE_LSTM to n; weights are ramps, or those
// of w, each of the four gates 1/8 of a ramp shifted by the gate.
func lstm(n *net, steps, inputs, hidden int, w []float32) int32 {
	if w == nil {
		w = ramp(4 * hidden * (inputs + hidden + 1))
	}
	in := []int32{n.input("x", 1, int32(steps), int32(inputs))}
	next := func(name string, shape ...int) int32 {
		count, _ := model.Shape(shape).Elements()
		part := w[:count]
		w = w[count:]
		return n.floats(name, part, shape...)
	}
	for i := range 4 {
		in = append(in, next(fmt.Sprint("w", i), hidden, inputs))
	}
	for i := range 4 {
		in = append(in, next(fmt.Sprint("r", i), hidden, hidden))
	}
	in = append(in, -1, -1, -1)
	for i := range 4 {
		in = append(in, next(fmt.Sprint("b", i), hidden))
	}
	in = append(in, -1, -1)
	for _, name := range []string{"h", "c"} {
		s := n.tensor(name, model.F32, 1, int32(hidden))
		n.tensors[s][5] = int8(1)
		in = append(in, s)
	}
	return n.op("UNIDIRECTIONAL_SEQUENCE_LSTM", tab{0: int8(4), 1: float32(10)}, in)
}

// The gates of an LSTM, which TFLite and ONNX order differently, against the
// equations of Hochreiter and Schmidhuber 1997 as TFLite has them.
func TestLSTM(t *testing.T) {
	const steps, inputs, hidden = 3, 2, 4
	x, w := ramp(steps*inputs), ramp(4*hidden*(inputs+hidden+1))
	n := newNet()
	lstm(n, steps, inputs, hidden, w)
	if got := n.imported(t).Nodes[1].Op; got != "LSTM" {
		t.Fatalf("node 1 is %s", got)
	}
	r, b := w[4*hidden*inputs:], w[4*hidden*(inputs+hidden):]
	sigmoid := func(v float64) float64 { return 1 / (1 + math.Exp(-v)) }
	h, c := make([]float64, hidden), make([]float64, hidden)
	var want []float32
	for s := range steps {
		var gate [4][]float64
		for g := range gate {
			for u := range hidden {
				sum := float64(b[g*hidden+u])
				for k := range inputs {
					sum += float64(w[(g*hidden+u)*inputs+k]) * float64(x[s*inputs+k])
				}
				for k := range hidden {
					sum += float64(r[(g*hidden+u)*hidden+k]) * h[k]
				}
				gate[g] = append(gate[g], sum)
			}
		}
		for u := range hidden { // gates: input, forget, cell, output
			c[u] = sigmoid(gate[1][u])*c[u] + sigmoid(gate[0][u])*math.Tanh(gate[2][u])
			h[u] = sigmoid(gate[3][u]) * math.Tanh(c[u])
			want = append(want, float32(h[u]))
		}
	}
	wantFloats(t, n.run(t, x)[0], model.Shape{1, steps, hidden}, want)
}
