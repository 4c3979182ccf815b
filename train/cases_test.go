package train

import (
	"fmt"
	"math/rand/v2"

	"dunlin/model"
)

// graphCase is a small graph around one operator.
type graphCase struct {
	name     string
	inputs   []model.Shape // axis 0 is the batch, whatever it says
	nodes    []*model.Node // in order; inputs are x0, x1, ..., the result is y
	consts   map[string]*model.Tensor
	values   func(r *rand.Rand, x []float32) // what inputs hold; nil: normal numbers
	training bool                            // Forward(true): what the engine does not do
}

// graph returns the graph of the case.
func (c *graphCase) graph() *model.Graph {
	g := model.New(c.name)
	for i, s := range c.inputs {
		name := fmt.Sprintf("x%d", i)
		shape := append(model.Shape{model.Unknown}, s[1:]...)
		g.Inputs = append(g.Inputs, name)
		g.Values[name] = &model.Value{Type: model.F32, Shape: shape}
	}
	for name, t := range c.consts {
		g.AddConst(name, t)
	}
	g.Nodes = c.nodes
	g.Outputs = []string{"y"}
	return g
}

// nodeOf returns a node; attributes are pairs of a name and a value.
func nodeOf(op, name string, in, out []string, attrs ...any) *model.Node {
	n := &model.Node{Op: op, Name: name, In: in, Out: out, Attrs: map[string]model.Attr{}}
	for i := 0; i < len(attrs); i += 2 {
		n.Attrs[attrs[i].(string)] = attrs[i+1]
	}
	return n
}

// one returns the nodes of a case with a single operator.
func one(op string, in []string, attrs ...any) []*model.Node {
	return []*model.Node{nodeOf(op, "n", in, []string{"y"}, attrs...)}
}

func names(list ...string) []string { return list }
func ints(list ...int64) []int64    { return list }

// normal returns normal numbers times scale, from a seed that is the shape's.
func normal(scale float32, shape ...int) *model.Tensor {
	n, _ := model.Shape(shape).Elements()
	r := rand.New(rand.NewPCG(uint64(n), uint64(len(shape))))
	v := make([]float32, n)
	fillNormal(r, v)
	for i := range v {
		v[i] *= scale
	}
	return model.Of(model.F32, v, shape...)
}

// positive returns numbers from 0.5 to 1.5.
func positive(shape ...int) *model.Tensor {
	n, _ := model.Shape(shape).Elements()
	r := rand.New(rand.NewPCG(uint64(n), 7))
	v := make([]float32, n)
	for i := range v {
		v[i] = 0.5 + r.Float32()
	}
	return model.Of(model.F32, v, shape...)
}

func whole(list ...int64) *model.Tensor { return model.Of(model.I64, list, len(list)) }
func single(v float32) *model.Tensor    { return model.Of(model.F32, []float32{v}) }

func fillNormal(r *rand.Rand, x []float32) {
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
}

// fillApart gives numbers of which no two, and none and 0 or a whole number,
// are closer than a step of finite differences: for functions with kinks.
func fillApart(r *rand.Rand, x []float32) {
	for i, k := range r.Perm(len(x)) {
		x[i] = float32(k-len(x)/2)*0.13 + 0.065
	}
}

// fillWide gives numbers from far below -3 to far above 3, none near them.
func fillWide(r *rand.Rand, x []float32) {
	for i, k := range r.Perm(len(x)) {
		x[i] = (float32(k-len(x)/2) + 0.4) * 9 / float32(len(x))
	}
}

// fillPositive gives numbers from 1 to 2.
func fillPositive(r *rand.Rand, x []float32) {
	for i := range x {
		x[i] = 1 + r.Float32()
	}
}

// cases are small graphs with every operator that has a gradient.
var cases = []graphCase{
	{
		name: "conv", inputs: []model.Shape{{0, 3, 5, 6}}, nodes: one("Conv", names("x0", "w", "b"), "pads", ints(1, 1, 1, 1)),
		consts: map[string]*model.Tensor{"w": normal(0.3, 4, 3, 3, 3), "b": normal(1, 4)},
	},
	{
		name: "conv strides and uneven pads", inputs: []model.Shape{{0, 2, 7, 6}}, nodes: one("Conv", names("x0", "w"), "pads", ints(0, 1, 2, 0), "strides", ints(2, 3)),
		consts: map[string]*model.Tensor{"w": normal(0.3, 5, 2, 3, 2)},
	},
	{
		name: "conv dilations", inputs: []model.Shape{{0, 1, 8, 9}}, nodes: one("Conv", names("x0", "w", "b"), "dilations", ints(2, 3), "pads", ints(2, 0, 1, 3)),
		consts: map[string]*model.Tensor{"w": normal(0.3, 3, 1, 3, 3), "b": normal(1, 3)},
	},
	{
		name: "conv same upper", inputs: []model.Shape{{0, 3, 6, 7}}, nodes: one("Conv", names("x0", "w"), "auto_pad", "SAME_UPPER", "strides", ints(2, 2)),
		consts: map[string]*model.Tensor{"w": normal(0.3, 2, 3, 3, 3)},
	},
	{
		name: "conv pointwise", inputs: []model.Shape{{0, 5, 3, 4}}, nodes: one("Conv", names("x0", "w", "b")),
		consts: map[string]*model.Tensor{"w": normal(0.3, 7, 5, 1, 1), "b": normal(1, 7)},
	},
	{
		name: "conv pointwise with stride", inputs: []model.Shape{{0, 5, 3, 4}}, nodes: one("Conv", names("x0", "w"), "strides", ints(2, 2)),
		consts: map[string]*model.Tensor{"w": normal(0.3, 7, 5, 1, 1)},
	},
	{
		name: "conv groups", inputs: []model.Shape{{0, 4, 5, 5}}, nodes: one("Conv", names("x0", "w", "b"), "group", int64(2), "pads", ints(1, 1, 1, 1)),
		consts: map[string]*model.Tensor{"w": normal(0.3, 6, 2, 3, 3), "b": normal(1, 6)},
	},
	{
		name: "conv one axis", inputs: []model.Shape{{0, 3, 9}}, nodes: one("Conv", names("x0", "w", "b"), "pads", ints(1, 2), "strides", ints(2)),
		consts: map[string]*model.Tensor{"w": normal(0.3, 4, 3, 3), "b": normal(1, 4)},
	},
	{
		name: "depthwise", inputs: []model.Shape{{0, 5, 6, 5}}, nodes: one("Conv", names("x0", "w", "b"), "group", int64(5), "pads", ints(1, 1, 1, 1)),
		consts: map[string]*model.Tensor{"w": normal(0.3, 5, 1, 3, 3), "b": normal(1, 5)},
	},
	{
		name: "depthwise stride", inputs: []model.Shape{{0, 3, 7, 6}}, nodes: one("Conv", names("x0", "w"), "group", int64(3), "strides", ints(2, 2), "pads", ints(1, 0, 1, 2)),
		consts: map[string]*model.Tensor{"w": normal(0.3, 3, 1, 3, 2)},
	},
	{
		name: "gemm", inputs: []model.Shape{{0, 7}}, nodes: one("Gemm", names("x0", "w", "b"), "transB", int64(1)),
		consts: map[string]*model.Tensor{"w": normal(0.3, 5, 7), "b": normal(1, 5)},
	},
	{
		name: "gemm alpha and beta", inputs: []model.Shape{{0, 7}}, nodes: one("Gemm", names("x0", "w", "b"), "alpha", float32(0.5), "beta", float32(2)),
		consts: map[string]*model.Tensor{"w": normal(0.3, 7, 5), "b": normal(1, 1, 5)},
	},
	{name: "matmul and add", inputs: []model.Shape{{0, 3, 4}}, nodes: []*model.Node{
		nodeOf("MatMul", "m", names("x0", "w"), names("h")), nodeOf("Add", "a", names("h", "b"), names("y")),
	}, consts: map[string]*model.Tensor{"w": normal(0.3, 4, 6), "b": normal(1, 6)}},
	{name: "matmul of computed values", inputs: []model.Shape{{0, 2, 3, 4}, {0, 2, 4, 5}}, nodes: one("MatMul", names("x0", "x1"))},
	{
		name: "matmul of a constant repeated", inputs: []model.Shape{{0, 2, 4, 3}}, nodes: one("MatMul", names("w", "x0")),
		consts: map[string]*model.Tensor{"w": normal(0.3, 2, 5, 4)},
	},
	{
		name: "matmul of matrices repeated", inputs: []model.Shape{{0, 1, 3, 4}}, nodes: one("MatMul", names("x0", "w")),
		consts: map[string]*model.Tensor{"w": normal(0.3, 1, 3, 4, 2)},
	},
	{
		name: "batch norm in training", inputs: []model.Shape{{0, 3, 4, 5}}, training: true, nodes: one("BatchNormalization", names("x0", "s", "b", "m", "v")),
		consts: map[string]*model.Tensor{"s": positive(3), "b": normal(1, 3), "m": normal(0.1, 3), "v": positive(3)},
	},
	{
		name: "batch norm", inputs: []model.Shape{{0, 3, 2, 5}}, nodes: one("BatchNormalization", names("x0", "s", "b", "m", "v"), "epsilon", float32(1e-3)),
		consts: map[string]*model.Tensor{"s": positive(3), "b": normal(1, 3), "m": normal(0.1, 3), "v": positive(3)},
	},
	{
		name: "batch norm of rows", inputs: []model.Shape{{0, 4}}, nodes: one("BatchNormalization", names("x0", "s", "b", "m", "v")),
		consts: map[string]*model.Tensor{"s": positive(4), "b": normal(1, 4), "m": normal(0.1, 4), "v": positive(4)},
	},
	{name: "max pool", inputs: []model.Shape{{0, 3, 6, 6}}, values: fillApart, nodes: one("MaxPool", names("x0"), "kernel_shape", ints(2, 2), "strides", ints(2, 2))},
	{
		name: "max pool overlapping", inputs: []model.Shape{{0, 2, 7, 6}}, values: fillApart,
		nodes: one("MaxPool", names("x0"), "kernel_shape", ints(3, 3), "strides", ints(2, 2), "pads", ints(1, 1, 1, 1)),
	},
	{
		name: "max pool rounded up", inputs: []model.Shape{{0, 2, 6, 8}}, values: fillApart,
		nodes: one("MaxPool", names("x0"), "kernel_shape", ints(3, 3), "strides", ints(2, 2), "ceil_mode", int64(1)),
	},
	{name: "global max pool", inputs: []model.Shape{{0, 3, 4, 3}}, values: fillApart, nodes: one("GlobalMaxPool", names("x0"))},
	{name: "average pool", inputs: []model.Shape{{0, 3, 6, 7}}, nodes: one("AveragePool", names("x0"), "kernel_shape", ints(3, 2), "strides", ints(2, 2), "pads", ints(1, 1, 1, 0))},
	{
		name: "average pool counting pads", inputs: []model.Shape{{0, 3, 6, 7}},
		nodes: one("AveragePool", names("x0"), "kernel_shape", ints(3, 3), "strides", ints(2, 2), "pads", ints(1, 1, 1, 1), "count_include_pad", int64(1)),
	},
	{name: "global average pool", inputs: []model.Shape{{0, 5, 3, 4}}, nodes: one("GlobalAveragePool", names("x0"))},
	{name: "softmax", inputs: []model.Shape{{0, 7}}, nodes: one("Softmax", names("x0"))},
	{name: "softmax of channels", inputs: []model.Shape{{0, 5, 2, 3}}, nodes: one("Softmax", names("x0"), "axis", int64(1))},
	{name: "log softmax", inputs: []model.Shape{{0, 7}}, nodes: one("LogSoftmax", names("x0"))},
	{name: "log softmax of channels", inputs: []model.Shape{{0, 5, 2}}, nodes: one("LogSoftmax", names("x0"), "axis", int64(1))},
	{
		name: "layer norm", inputs: []model.Shape{{0, 3, 6}}, nodes: one("LayerNormalization", names("x0", "s", "b")),
		consts: map[string]*model.Tensor{"s": positive(6), "b": normal(1, 6)},
	},
	{
		name: "layer norm of two axes", inputs: []model.Shape{{0, 3, 4}}, nodes: one("LayerNormalization", names("x0", "s"), "axis", int64(1), "epsilon", float32(1e-3)),
		consts: map[string]*model.Tensor{"s": positive(3, 4)},
	},
	{name: "dropout at rest", inputs: []model.Shape{{0, 7}}, nodes: one("Dropout", names("x0"))},
	{name: "relu", inputs: []model.Shape{{0, 9}}, values: fillApart, nodes: one("Relu", names("x0"))},
	{
		name: "clip", inputs: []model.Shape{{0, 19}}, values: fillApart, nodes: one("Clip", names("x0", "low", "high")),
		consts: map[string]*model.Tensor{"low": single(-0.65), "high": single(0.65)},
	},
	{name: "add", inputs: []model.Shape{{0, 3, 2}, {0, 3, 2}}, nodes: one("Add", names("x0", "x1"))},
	{name: "add a row", inputs: []model.Shape{{0, 3, 4}}, nodes: []*model.Node{
		nodeOf("Identity", "i", names("x0"), names("h")), nodeOf("Add", "a", names("b", "h"), names("y")),
	}, consts: map[string]*model.Tensor{"b": normal(1, 4)}},
	{name: "mul", inputs: []model.Shape{{0, 3, 4}, {0, 3, 4}}, nodes: one("Mul", names("x0", "x1"))},
	{name: "mul with itself", inputs: []model.Shape{{0, 3, 4}}, nodes: one("Mul", names("x0", "x0"))},
	{name: "mul repeated", inputs: []model.Shape{{0, 3, 1}, {0, 1, 4}}, nodes: one("Mul", names("x0", "x1"))},
	{name: "squeeze and excite", inputs: []model.Shape{{0, 3, 4, 5}}, nodes: []*model.Node{
		nodeOf("Conv", "c", names("x0", "w"), names("h")), nodeOf("GlobalAveragePool", "g", names("h"), names("p")),
		nodeOf("Conv", "c2", names("p", "w2"), names("q")), nodeOf("Mul", "m", names("h", "q"), names("y")),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 4, 3, 1, 1), "w2": normal(0.5, 4, 4, 1, 1)}},
	{name: "channels scaled and shifted", inputs: []model.Shape{{0, 3, 2, 3}}, nodes: []*model.Node{
		nodeOf("Conv", "c", names("x0", "w"), names("h")), nodeOf("Mul", "m", names("s", "h"), names("i")), nodeOf("Add", "a", names("i", "b"), names("y")),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 4, 3, 1, 1), "s": positive(4, 1, 1), "b": normal(1, 1, 4, 1, 1)}},
	{name: "a plane added behind a convolution", inputs: []model.Shape{{0, 3, 2, 3}}, nodes: []*model.Node{
		nodeOf("Conv", "c", names("x0", "w"), names("h")), nodeOf("Add", "a", names("h", "b"), names("y")),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 4, 3, 1, 1), "b": normal(1, 2, 3)}},
	{name: "a row added behind a convolution", inputs: []model.Shape{{0, 3, 2, 3}}, nodes: []*model.Node{
		nodeOf("Conv", "c", names("x0", "w"), names("h")), nodeOf("Add", "a", names("h", "b"), names("y")),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 4, 3, 1, 1), "b": normal(1, 3)}},
	{name: "residual sum", inputs: []model.Shape{{0, 3, 4, 4}}, nodes: []*model.Node{
		nodeOf("Conv", "c", names("x0", "w"), names("h")), nodeOf("Conv", "d", names("h", "w"), names("i")), nodeOf("Add", "a", names("h", "i"), names("y")),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 3, 3, 1, 1)}},
	{name: "concat", inputs: []model.Shape{{0, 2, 3}, {0, 4, 3}}, nodes: one("Concat", names("x0", "x1"), "axis", int64(1))},
	{name: "concat of channels", inputs: []model.Shape{{0, 3, 2, 3}, {0, 2, 2, 3}}, nodes: []*model.Node{
		nodeOf("Conv", "c", names("x0", "w"), names("h")), nodeOf("Concat", "k", names("h", "x1", "h"), names("y"), "axis", int64(1)),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 4, 3, 1, 1)}},
	{name: "concat of rows of pixels", inputs: []model.Shape{{0, 3, 2, 3}, {0, 4, 1, 3}}, nodes: []*model.Node{
		nodeOf("Conv", "c", names("x0", "w"), names("h")), nodeOf("Concat", "k", names("h", "x1"), names("y"), "axis", int64(-2)),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 4, 3, 1, 1)}},
	{name: "flatten behind a convolution", inputs: []model.Shape{{0, 2, 3, 4}}, nodes: []*model.Node{
		nodeOf("Conv", "c", names("x0", "w"), names("h")), nodeOf("Flatten", "f", names("h"), names("i")), nodeOf("Gemm", "g", names("i", "v"), names("y")),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 3, 2, 1, 1), "v": normal(0.3, 36, 5)}},
	{
		name: "reshape", inputs: []model.Shape{{0, 2, 6}}, nodes: one("Reshape", names("x0", "s")),
		consts: map[string]*model.Tensor{"s": whole(0, 3, -1)},
	},
	{name: "sigmoid", inputs: []model.Shape{{0, 9}}, nodes: one("Sigmoid", names("x0"))},
	{name: "tanh", inputs: []model.Shape{{0, 9}}, nodes: one("Tanh", names("x0"))},
	{name: "exp", inputs: []model.Shape{{0, 9}}, nodes: one("Exp", names("x0"))},
	{name: "neg", inputs: []model.Shape{{0, 9}}, nodes: one("Neg", names("x0"))},
	{name: "softplus", inputs: []model.Shape{{0, 9}}, nodes: one("Softplus", names("x0"))},
	{name: "erf", inputs: []model.Shape{{0, 9}}, nodes: one("Erf", names("x0"))},
	{name: "gelu", inputs: []model.Shape{{0, 9}}, nodes: one("Gelu", names("x0"))},
	{name: "gelu by tanh", inputs: []model.Shape{{0, 9}}, nodes: one("Gelu", names("x0"), "approximate", "tanh")},
	{name: "log", inputs: []model.Shape{{0, 9}}, values: fillPositive, nodes: one("Log", names("x0"))},
	{name: "sqrt", inputs: []model.Shape{{0, 9}}, values: fillPositive, nodes: one("Sqrt", names("x0"))},
	{name: "reciprocal", inputs: []model.Shape{{0, 9}}, values: fillPositive, nodes: one("Reciprocal", names("x0"))},
	{name: "leakyrelu", inputs: []model.Shape{{0, 9}}, values: fillApart, nodes: one("LeakyRelu", names("x0"))},
	{name: "abs", inputs: []model.Shape{{0, 9}}, values: fillApart, nodes: one("Abs", names("x0"))},
	{name: "elu", inputs: []model.Shape{{0, 9}}, values: fillApart, nodes: one("Elu", names("x0"))},
	{name: "hardsigmoid", inputs: []model.Shape{{0, 9}}, values: fillWide, nodes: one("HardSigmoid", names("x0"), "alpha", float32(1)/6)},
	{name: "hardswish", inputs: []model.Shape{{0, 9}}, values: fillWide, nodes: one("HardSwish", names("x0"))},
	{name: "square", inputs: []model.Shape{{0, 9}}, nodes: one("Pow", names("x0", "p")), consts: map[string]*model.Tensor{"p": single(2)}},
	{name: "power", inputs: []model.Shape{{0, 9}}, values: fillPositive, nodes: one("Pow", names("x0", "p")), consts: map[string]*model.Tensor{"p": single(-1.5)}},
	{name: "silu", inputs: []model.Shape{{0, 9}}, nodes: []*model.Node{
		nodeOf("Sigmoid", "s", names("x0"), names("h")), nodeOf("Mul", "m", names("x0", "h"), names("y")),
	}},
	{name: "sub", inputs: []model.Shape{{0, 3, 4}, {0, 1, 4}}, nodes: one("Sub", names("x0", "x1"))},
	{name: "sub from a row", inputs: []model.Shape{{0, 3, 4}, {0, 1, 1}}, nodes: one("Sub", names("x1", "x0"))},
	{name: "div", inputs: []model.Shape{{0, 3, 4}, {0, 3, 4}}, values: fillPositive, nodes: one("Div", names("x0", "x1"))},
	{name: "div repeated", inputs: []model.Shape{{0, 3, 4}, {0, 3, 1}}, values: fillPositive, nodes: one("Div", names("x0", "x1"))},
	{name: "div of a row", inputs: []model.Shape{{0, 1, 4}, {0, 3, 4}}, values: fillPositive, nodes: one("Div", names("x0", "x1"))},
	{name: "div channels", inputs: []model.Shape{{0, 3, 2, 3}, {0, 4, 1, 1}}, values: fillPositive, nodes: []*model.Node{
		nodeOf("Conv", "c", names("x0", "w"), names("h")), nodeOf("Div", "d", names("h", "x1"), names("y")),
	}, consts: map[string]*model.Tensor{"w": positive(4, 3, 1, 1)}},
	{name: "mean of pixels", inputs: []model.Shape{{0, 3, 2, 3}}, nodes: []*model.Node{
		nodeOf("Conv", "c", names("x0", "w"), names("h")), nodeOf("ReduceMean", "r", names("h", "axes"), names("y"), "keepdims", int64(0)),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 4, 3, 1, 1), "axes": whole(2, 3)}},
	{name: "mean of a column of pixels", inputs: []model.Shape{{0, 3, 2, 3}}, nodes: []*model.Node{
		nodeOf("Conv", "c", names("x0", "w"), names("h")), nodeOf("ReduceMean", "r", names("h", "axes"), names("y"), "keepdims", int64(0)),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 4, 3, 1, 1), "axes": whole(-1)}},
	{name: "sum of channels", inputs: []model.Shape{{0, 3, 2, 3}}, nodes: []*model.Node{
		nodeOf("Conv", "c", names("x0", "w"), names("h")), nodeOf("ReduceSum", "r", names("h", "axes"), names("y")),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 4, 3, 1, 1), "axes": whole(1)}},
	{name: "mean of all", inputs: []model.Shape{{0, 3, 5}}, nodes: one("ReduceMean", names("x0"))},
	{name: "layer norm in parts", inputs: []model.Shape{{0, 2, 6}}, nodes: []*model.Node{
		nodeOf("ReduceMean", "n1", names("x0", "axes"), names("m")), nodeOf("Sub", "n2", names("x0", "m"), names("d")),
		nodeOf("Pow", "n3", names("d", "two"), names("q")), nodeOf("ReduceMean", "n4", names("q", "axes"), names("v")),
		nodeOf("Add", "n5", names("v", "tiny"), names("w")), nodeOf("Sqrt", "n6", names("w"), names("z")),
		nodeOf("Div", "n7", names("d", "z"), names("u")), nodeOf("Mul", "n8", names("u", "s"), names("k")), nodeOf("Add", "n9", names("k", "b"), names("y")),
	}, consts: map[string]*model.Tensor{"axes": whole(-1), "two": single(2), "tiny": single(1e-5), "s": positive(6), "b": normal(1, 6)}},
	{name: "transpose", inputs: []model.Shape{{0, 2, 3, 4}}, nodes: one("Transpose", names("x0"), "perm", ints(0, 3, 1, 2))},
	{name: "transpose behind a convolution", inputs: []model.Shape{{0, 3, 2, 3}}, nodes: []*model.Node{
		nodeOf("Conv", "c", names("x0", "w"), names("h")), nodeOf("Transpose", "t", names("h"), names("y"), "perm", ints(0, 2, 3, 1)),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 4, 3, 1, 1)}},
	{name: "weights transposed", inputs: []model.Shape{{0, 4}}, nodes: []*model.Node{
		nodeOf("Transpose", "t", names("w"), names("h")), nodeOf("MatMul", "m", names("x0", "h"), names("y")),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 5, 4)}},
	{name: "squeeze", inputs: []model.Shape{{0, 3, 1, 1}}, nodes: one("Squeeze", names("x0", "axes")), consts: map[string]*model.Tensor{"axes": whole(2, -1)}},
	{name: "unsqueeze", inputs: []model.Shape{{0, 3}}, nodes: one("Unsqueeze", names("x0", "axes")), consts: map[string]*model.Tensor{"axes": whole(1, -1)}},
	{
		name: "slice", inputs: []model.Shape{{0, 7, 6}}, nodes: one("Slice", names("x0", "from", "to", "axes", "by")),
		consts: map[string]*model.Tensor{"from": whole(-2, 0), "to": whole(-100, 4), "axes": whole(1, 2), "by": whole(-2, 1)},
	},
	{name: "slice of channels", inputs: []model.Shape{{0, 3, 2, 3}}, nodes: []*model.Node{
		nodeOf("Conv", "c", names("x0", "w"), names("h")), nodeOf("Slice", "s", names("h", "from", "to", "axes", "by"), names("y")),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 6, 3, 1, 1), "from": whole(1), "to": whole(9), "axes": whole(1), "by": whole(2)}},
	{name: "split", inputs: []model.Shape{{0, 5, 3}}, nodes: []*model.Node{
		nodeOf("Split", "s", names("x0", "parts"), names("a", "b"), "axis", int64(1)), nodeOf("Concat", "k", names("b", "a", "a"), names("y"), "axis", int64(1)),
	}, consts: map[string]*model.Tensor{"parts": whole(2, 3)}},
	{name: "split of channels in halves", inputs: []model.Shape{{0, 3, 2, 3}}, nodes: []*model.Node{
		nodeOf("Conv", "c", names("x0", "w"), names("h")), nodeOf("Split", "s", names("h"), names("a", "b"), "axis", int64(1)),
		nodeOf("Mul", "m", names("a", "b"), names("y")),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 4, 3, 1, 1)}},
	{
		name: "last of a sequence", inputs: []model.Shape{{0, 4, 3}}, nodes: one("Gather", names("x0", "i"), "axis", int64(1)),
		consts: map[string]*model.Tensor{"i": model.Of(model.I64, []int64{-1})},
	},
	{name: "gather twice", inputs: []model.Shape{{0, 4, 3}}, nodes: one("Gather", names("x0", "i"), "axis", int64(2)), consts: map[string]*model.Tensor{"i": whole(2, 0, 2)}},
	{
		name: "pad", inputs: []model.Shape{{0, 3, 4}}, nodes: one("Pad", names("x0", "pads", "with")),
		consts: map[string]*model.Tensor{"pads": whole(0, 1, 2, 0, 0, 3), "with": single(2)},
	},
	{name: "pad behind a convolution", inputs: []model.Shape{{0, 3, 2, 3}}, nodes: []*model.Node{
		nodeOf("Conv", "c", names("x0", "w"), names("h")), nodeOf("Pad", "p", names("h", "pads"), names("y")),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 4, 3, 1, 1), "pads": whole(0, 0, 1, 2, 0, 1, 0, 1)}},
	{name: "lstm", inputs: []model.Shape{{0, 5, 3}}, nodes: []*model.Node{
		nodeOf("Transpose", "t", names("x0"), names("x0t"), "perm", ints(1, 0, 2)), nodeOf("LSTM", "r", names("x0t", "w", "r", "b"), names("y"), "hidden_size", int64(4)),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 1, 16, 3), "r": normal(0.5, 1, 16, 4), "b": normal(0.3, 1, 32)}},
	{name: "lstm both ways", inputs: []model.Shape{{0, 5, 3}}, nodes: []*model.Node{
		nodeOf("Transpose", "t", names("x0"), names("x0t"), "perm", ints(1, 0, 2)), nodeOf("LSTM", "r", names("x0t", "w", "r", "b"), names("y"), "hidden_size", int64(4), "direction", "bidirectional"),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 2, 16, 3), "r": normal(0.5, 2, 16, 4), "b": normal(0.3, 2, 32)}},
	{name: "lstm in reverse", inputs: []model.Shape{{0, 5, 3}}, nodes: []*model.Node{
		nodeOf("Transpose", "t", names("x0"), names("x0t"), "perm", ints(1, 0, 2)), nodeOf("LSTM", "r", names("x0t", "w", "r", "b"), names("y"), "hidden_size", int64(4), "direction", "reverse"),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 1, 16, 3), "r": normal(0.5, 1, 16, 4), "b": normal(0.3, 1, 32)}},
	{name: "gru", inputs: []model.Shape{{0, 5, 3}}, nodes: []*model.Node{
		nodeOf("Transpose", "t", names("x0"), names("x0t"), "perm", ints(1, 0, 2)), nodeOf("GRU", "r", names("x0t", "w", "r", "b"), names("y"), "hidden_size", int64(4)),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 1, 12, 3), "r": normal(0.5, 1, 12, 4), "b": normal(0.3, 1, 24)}},
	{name: "gru both ways", inputs: []model.Shape{{0, 5, 3}}, nodes: []*model.Node{
		nodeOf("Transpose", "t", names("x0"), names("x0t"), "perm", ints(1, 0, 2)), nodeOf("GRU", "r", names("x0t", "w", "r", "b"), names("y"), "hidden_size", int64(4), "direction", "bidirectional"),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 2, 12, 3), "r": normal(0.5, 2, 12, 4), "b": normal(0.3, 2, 24)}},
	{name: "gru in reverse", inputs: []model.Shape{{0, 5, 3}}, nodes: []*model.Node{
		nodeOf("Transpose", "t", names("x0"), names("x0t"), "perm", ints(1, 0, 2)), nodeOf("GRU", "r", names("x0t", "w", "r", "b"), names("y"), "hidden_size", int64(4), "direction", "reverse"),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 1, 12, 3), "r": normal(0.5, 1, 12, 4), "b": normal(0.3, 1, 24)}},
	{name: "gru that resets after the product", inputs: []model.Shape{{0, 5, 3}}, nodes: []*model.Node{
		nodeOf("Transpose", "t", names("x0"), names("x0t"), "perm", ints(1, 0, 2)), nodeOf("GRU", "r", names("x0t", "w", "r", "b"), names("y"), "hidden_size", int64(4), "linear_before_reset", int64(1)),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 1, 12, 3), "r": normal(0.5, 1, 12, 4), "b": normal(0.3, 1, 24)}},
	{name: "lstm from a state, its last states", inputs: []model.Shape{{0, 5, 3}, {0, 1, 4}, {0, 1, 4}}, nodes: []*model.Node{
		nodeOf("Transpose", "t", names("x0"), names("xt"), "perm", ints(1, 0, 2)), nodeOf("Transpose", "t1", names("x1"), names("h0"), "perm", ints(1, 0, 2)),
		nodeOf("Transpose", "t2", names("x2"), names("c0"), "perm", ints(1, 0, 2)),
		nodeOf("LSTM", "r", names("xt", "w", "r", "", "", "h0", "c0"), names("", "h", "c")), nodeOf("Concat", "k", names("h", "c"), names("y"), "axis", int64(0)),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 1, 16, 3), "r": normal(0.5, 1, 16, 4)}},
	{name: "gru from a state", inputs: []model.Shape{{0, 5, 3}, {0, 1, 4}}, nodes: []*model.Node{
		nodeOf("Transpose", "t", names("x0"), names("xt"), "perm", ints(1, 0, 2)), nodeOf("Transpose", "t1", names("x1"), names("h0"), "perm", ints(1, 0, 2)),
		nodeOf("GRU", "r", names("xt", "w", "r", "", "", "h0"), names("s", "h"), "linear_before_reset", int64(1)), nodeOf("Add", "k", names("h", "s"), names("y")),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 1, 12, 3), "r": normal(0.5, 1, 12, 4)}},
}
