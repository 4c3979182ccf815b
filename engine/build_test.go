package engine

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"dunlin/model"
)

// build makes small graphs for tests, with seeded constants.
type build struct {
	*model.Graph
	r *rand.Rand
}

func newBuild(seed uint64) *build {
	return &build{Graph: model.New("test"), r: rand.New(rand.NewPCG(seed, 7))}
}

type attrs = map[string]model.Attr

// input adds a float32 input.
func (b *build) input(name string, shape ...int) string {
	b.typed(name, model.F32, shape...)
	return name
}

func (b *build) typed(name string, t model.DType, shape ...int) {
	b.Inputs = append(b.Inputs, name)
	b.Values[name] = &model.Value{Type: t, Shape: shape}
}

func (b *build) output(names ...string) { b.Outputs = append(b.Outputs, names...) }

// constant adds t under a name of its own.
func (b *build) constant(t *model.Tensor) string {
	name := fmt.Sprintf("c%d", len(b.Values))
	b.AddConst(name, t)
	return name
}

func (b *build) scalar(v float32) string { return b.constant(model.Of(model.F32, []float32{v})) }

func (b *build) ints(v ...int64) string { return b.constant(model.Of(model.I64, v, len(v))) }

// normal adds a float32 constant of a normal distribution.
func (b *build) normal(shape ...int) string {
	t, err := model.NewTensor(model.F32, shape...)
	if err != nil {
		panic(err)
	}
	for i := range t.F32() {
		t.F32()[i] = float32(int32(b.r.NormFloat64()*1000)) / 1000
	}
	return b.constant(t)
}

// node adds a node and returns its output.
func (b *build) node(op string, a attrs, in ...string) string {
	out := fmt.Sprintf("%s_%d", op, len(b.Nodes))
	b.Nodes = append(b.Nodes, &model.Node{Op: op, Name: "n" + out, In: in, Out: []string{out}, Attrs: a})
	b.Values[out] = &model.Value{}
	return out
}

// quantised puts QuantizeLinear and DequantizeLinear behind x.
func (b *build) quantised(x string, t model.DType, scale float32, zero int) string {
	s, z := b.scalar(scale), b.zero(t, zero)
	return b.node("DequantizeLinear", nil, b.node("QuantizeLinear", nil, x, s, z), s, z)
}

func (b *build) zero(t model.DType, zero int) string {
	if t == model.U8 {
		return b.constant(model.Of(t, []uint8{uint8(zero)}))
	}
	return b.constant(model.Of(t, []int8{int8(zero)}))
}

// weights adds int8 weights behind a DequantizeLinear, with scales along
// axis. The scale of channel c is returned by scaleOf.
func (b *build) weights(axis int, shape ...int) string {
	t, err := model.NewTensor(model.I8, shape...)
	if err != nil {
		panic(err)
	}
	for i := range t.I8() {
		t.I8()[i] = int8(b.r.IntN(255) - 127)
	}
	scale := make([]float32, shape[axis])
	for i := range scale {
		scale[i] = float32(1+i%3) / 1024
	}
	return b.node("DequantizeLinear", attrs{"axis": int64(axis)}, b.constant(t),
		b.constant(model.Of(model.F32, scale, len(scale))), b.constant(model.Of(model.I8, make([]int8, len(scale)), len(scale))))
}

// bias adds an int32 bias for weights of n channels and an input of scale x.
func (b *build) bias(n int, x float32) string {
	values, scale := make([]int32, n), make([]float32, n)
	for i := range values {
		values[i], scale[i] = int32(b.r.IntN(2000)-1000), x*float32(1+i%3)/1024
	}
	return b.node("DequantizeLinear", attrs{"axis": int64(0)}, b.constant(model.Of(model.I32, values, n)),
		b.constant(model.Of(model.F32, scale, n)), b.constant(model.Of(model.I32, make([]int32, n), n)))
}

// compiled compiles, or fails the test.
func compiled(t testing.TB, g *model.Graph, o Options) *Program {
	t.Helper()
	p, err := Compile(g, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// runOnce runs p on inputs drawn from seed, and returns copies of its outputs.
func runOnce(t testing.TB, p *Program, seed uint64) []*model.Tensor {
	t.Helper()
	s := p.NewSession()
	fillInputs(p, s, seed)
	if err := s.Run(); err != nil {
		t.Fatal(err)
	}
	var out []*model.Tensor
	for i := range p.Outputs() {
		out = append(out, s.Output(i).Clone())
	}
	return out
}

// fillInputs writes multiples of 1/64 between -2 and 2, or integers.
func fillInputs(p *Program, s *Session, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 9))
	for i := range p.Inputs() {
		switch x := s.Input(i); x.Type {
		case model.F32:
			for j := range x.F32() {
				x.F32()[j] = float32(r.IntN(257)-128) / 64
			}
		case model.I8, model.U8:
			for j := range x.Data {
				x.Data[j] = byte(r.IntN(256))
			}
		}
	}
}

// farthest returns the largest difference between two float tensors.
func farthest(t testing.TB, a, b *model.Tensor) float64 {
	t.Helper()
	if a.Type != model.F32 || b.Type != model.F32 || !a.Shape.Equal(b.Shape) {
		t.Fatalf("%v %v against %v %v", a.Type, a.Shape, b.Type, b.Shape)
	}
	worst := 0.0
	for i, v := range a.F32() {
		d := math.Abs(float64(v) - float64(b.F32()[i]))
		if !(d <= worst) {
			worst = d
		}
	}
	return worst
}

// ops returns the operators of a graph, in order.
func ops(g *model.Graph) []string {
	var list []string
	for _, n := range g.Nodes {
		list = append(list, n.Op)
	}
	return list
}

// floatNet is a small network with every float operator that the first
// models use.
func floatNet(seed uint64) *model.Graph {
	b := newBuild(seed)
	x := b.input("x", 1, 3, 9, 8)
	y := b.node("Conv", attrs{"pads": []int64{1, 1, 1, 1}, "strides": []int64{2, 2}}, x, b.normal(8, 3, 3, 3), b.normal(8))
	y = b.node("BatchNormalization", nil, y, b.normal(8), b.normal(8), b.normal(8), b.positive(8))
	y = b.node("Relu", nil, y)
	d := b.node("Conv", attrs{"pads": []int64{1, 1, 1, 1}, "group": int64(8)}, y, b.normal(8, 1, 3, 3), "")
	d = b.node("Clip", nil, d, b.scalar(0), b.scalar(6))
	d = b.node("Conv", nil, d, b.normal(8, 8, 1, 1), b.normal(8))
	y = b.node("Add", nil, y, d)
	y = b.node("Concat", attrs{"axis": int64(1)}, y, b.node("Sigmoid", nil, d))
	y = b.node("Mul", nil, y, b.normal(16, 1, 1))
	y = b.node("MaxPool", attrs{"kernel_shape": []int64{2, 2}, "strides": []int64{2, 2}}, y)
	p := b.node("AveragePool", attrs{"kernel_shape": []int64{2, 2}}, y)
	g := b.node("GlobalAveragePool", nil, p)
	f := b.node("Flatten", nil, g)
	f = b.node("Gemm", attrs{"transB": int64(1)}, f, b.normal(10, 16), b.normal(10))
	m := b.node("MatMul", nil, b.node("Reshape", nil, y, b.ints(0, -1)), b.normal(64, 10))
	f = b.node("Add", nil, f, b.node("Add", nil, m, b.normal(10)))
	b.output(b.node("Softmax", attrs{"axis": int64(-1)}, b.node("Dropout", nil, b.node("Identity", nil, f))))
	return b.Graph
}

// stagedNet is a small network whose shapes depend on values: an If, a Loop
// and a Reshape that wait for them, between operators with states and windows.
func stagedNet() *model.Graph {
	b := newBuild(9)
	x := b.input("x", 1, 4, 6)
	y := b.node("Conv", attrs{"pads": []int64{1, 1}}, x, b.normal(4, 4, 3), b.normal(4))
	y = b.node("ConvTranspose", attrs{"strides": []int64{2}}, y, b.normal(4, 3, 2))
	y = b.node("MaxPool", attrs{"kernel_shape": []int64{2}, "strides": []int64{2}}, y)
	y = b.node("Transpose", attrs{"perm": []int64{2, 0, 1}}, y)
	y = b.node("LSTM", attrs{"hidden_size": int64(2), "direction": "bidirectional"}, y, b.normal(2, 8, 3), b.normal(2, 8, 2), b.normal(2, 16))
	positive := b.node("Greater", nil, b.node("ReduceMax", attrs{"keepdims": int64(0)}, y), b.scalar(0.2))
	flat := b.node("Reshape", nil, y, b.node("Cast", attrs{"to": int64(7)}, b.constant(model.Of(model.F32, []float32{-1, 4}, 2))))
	then, other := model.New("then"), model.New("else")
	then.Outputs, other.Outputs = []string{"t"}, []string{"t"}
	then.Nodes = []*model.Node{{Op: "Neg", Name: "n", In: []string{flat}, Out: []string{"t"}}}
	other.Nodes = []*model.Node{{Op: "Transpose", Name: "n", In: []string{flat}, Out: []string{"t"}}}
	b.Nodes = append(b.Nodes, &model.Node{
		Op: "If", Name: "if", In: []string{positive}, Out: []string{"chosen"}, Attrs: attrs{"then_branch": then, "else_branch": other},
	})
	body := model.New("body")
	body.Inputs, body.Outputs = []string{"i", "c", "v"}, []string{"c", "w", "w"}
	body.Nodes = []*model.Node{{Op: "Add", Name: "a", In: []string{"v", "chosen"}, Out: []string{"w"}}}
	b.Nodes = append(b.Nodes, &model.Node{
		Op: "Loop", Name: "loop", In: []string{b.constant(model.Of(model.I64, []int64{3})), "", "chosen"}, Out: []string{"sum", "all"}, Attrs: attrs{"body": body},
	})
	b.output("sum", "all")
	return b.Graph
}

func (b *build) positive(n int) string {
	name := b.normal(n)
	for i, v := range b.Const(name).F32() {
		b.Const(name).F32()[i] = v*v + 0.1
	}
	return name
}

// integerNet is a small network in QDQ form, with every operator that has an
// integer kernel, and integers between floats of type t.
func integerNet(seed uint64, t model.DType) *model.Graph {
	b := newBuild(seed)
	zero := func(z int) int {
		if t == model.U8 {
			return z + 128
		}
		return z
	}
	q := func(x string, scale float32, z int) string { return b.quantised(x, t, scale, zero(z)) }
	x := q(b.input("x", 1, 3, 10, 9), 1.0/64, 3)
	y := b.node("Conv", attrs{"pads": []int64{1, 1, 1, 1}, "strides": []int64{2, 2}}, x, b.weights(0, 8, 3, 3, 3), b.bias(8, 1.0/64))
	y = q(b.node("Relu", nil, y), 1.0/16, -128)
	d := b.node("Conv", attrs{"pads": []int64{1, 1, 1, 1}, "group": int64(8)}, y, b.weights(0, 8, 1, 3, 3))
	d = q(b.node("Clip", nil, d, b.scalar(0), b.scalar(6)), 1.0/32, -120)
	d = q(b.node("Conv", nil, d, b.weights(0, 8, 8, 1, 1), b.bias(8, 1.0/32)), 1.0/20, 5)
	y = q(b.node("Add", nil, y, d), 1.0/16, -11)
	y = q(b.node("Concat", attrs{"axis": int64(1)}, y, d), 1.0/16, 0)
	y = q(b.node("MaxPool", attrs{"kernel_shape": []int64{2, 2}, "pads": []int64{0, 0, 1, 1}, "strides": []int64{2, 2}}, y), 1.0/16, 0)
	p := q(b.node("AveragePool", attrs{"kernel_shape": []int64{2, 2}, "pads": []int64{1, 0, 1, 0}}, y), 1.0/16, 1)
	g := q(b.node("GlobalAveragePool", nil, p), 1.0/32, -2)
	f := b.node("Gemm", attrs{"transB": int64(1)}, b.node("Flatten", nil, g), b.weights(0, 10, 16), b.bias(10, 1.0/32))
	f = q(f, 1.0/16, 7)
	m := b.node("MatMul", nil, b.node("Reshape", nil, y, b.ints(1, -1)), b.weights(1, 144, 10))
	m = q(b.node("Add", nil, m, b.bias(10, 1.0/16)), 1.0/8, -7)
	f = q(b.node("Add", nil, f, m), 1.0/4, 0)
	b.output(b.node("Softmax", attrs{"axis": int64(1)}, f), f)
	return b.Graph
}
