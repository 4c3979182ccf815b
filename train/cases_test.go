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

// node returns a node; attributes are pairs of a name and a value.
func node(op, name string, in, out []string, attrs ...any) *model.Node {
	n := &model.Node{Op: op, Name: name, In: in, Out: out, Attrs: map[string]model.Attr{}}
	for i := 0; i < len(attrs); i += 2 {
		n.Attrs[attrs[i].(string)] = attrs[i+1]
	}
	return n
}

// one returns the nodes of a case with a single operator.
func one(op string, in []string, attrs ...any) []*model.Node {
	return []*model.Node{node(op, "n", in, []string{"y"}, attrs...)}
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
		node("MatMul", "m", names("x0", "w"), names("h")), node("Add", "a", names("h", "b"), names("y")),
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
	{name: "dropout at rest", inputs: []model.Shape{{0, 7}}, nodes: one("Dropout", names("x0"))},
	{name: "relu", inputs: []model.Shape{{0, 9}}, values: fillApart, nodes: one("Relu", names("x0"))},
	{
		name: "clip", inputs: []model.Shape{{0, 19}}, values: fillApart, nodes: one("Clip", names("x0", "low", "high")),
		consts: map[string]*model.Tensor{"low": single(-0.65), "high": single(0.65)},
	},
	{name: "add", inputs: []model.Shape{{0, 3, 2}, {0, 3, 2}}, nodes: one("Add", names("x0", "x1"))},
	{name: "add a row", inputs: []model.Shape{{0, 3, 4}}, nodes: []*model.Node{
		node("Identity", "i", names("x0"), names("h")), node("Add", "a", names("b", "h"), names("y")),
	}, consts: map[string]*model.Tensor{"b": normal(1, 4)}},
	{name: "mul", inputs: []model.Shape{{0, 3, 4}, {0, 3, 4}}, nodes: one("Mul", names("x0", "x1"))},
	{name: "mul with itself", inputs: []model.Shape{{0, 3, 4}}, nodes: one("Mul", names("x0", "x0"))},
	{name: "mul repeated", inputs: []model.Shape{{0, 3, 1}, {0, 1, 4}}, nodes: one("Mul", names("x0", "x1"))},
	{name: "squeeze and excite", inputs: []model.Shape{{0, 3, 4, 5}}, nodes: []*model.Node{
		node("Conv", "c", names("x0", "w"), names("h")), node("GlobalAveragePool", "g", names("h"), names("p")),
		node("Conv", "c2", names("p", "w2"), names("q")), node("Mul", "m", names("h", "q"), names("y")),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 4, 3, 1, 1), "w2": normal(0.5, 4, 4, 1, 1)}},
	{name: "channels scaled and shifted", inputs: []model.Shape{{0, 3, 2, 3}}, nodes: []*model.Node{
		node("Conv", "c", names("x0", "w"), names("h")), node("Mul", "m", names("s", "h"), names("i")), node("Add", "a", names("i", "b"), names("y")),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 4, 3, 1, 1), "s": positive(4, 1, 1), "b": normal(1, 1, 4, 1, 1)}},
	{name: "a plane added behind a convolution", inputs: []model.Shape{{0, 3, 2, 3}}, nodes: []*model.Node{
		node("Conv", "c", names("x0", "w"), names("h")), node("Add", "a", names("h", "b"), names("y")),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 4, 3, 1, 1), "b": normal(1, 2, 3)}},
	{name: "a row added behind a convolution", inputs: []model.Shape{{0, 3, 2, 3}}, nodes: []*model.Node{
		node("Conv", "c", names("x0", "w"), names("h")), node("Add", "a", names("h", "b"), names("y")),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 4, 3, 1, 1), "b": normal(1, 3)}},
	{name: "residual sum", inputs: []model.Shape{{0, 3, 4, 4}}, nodes: []*model.Node{
		node("Conv", "c", names("x0", "w"), names("h")), node("Conv", "d", names("h", "w"), names("i")), node("Add", "a", names("h", "i"), names("y")),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 3, 3, 1, 1)}},
	{name: "concat", inputs: []model.Shape{{0, 2, 3}, {0, 4, 3}}, nodes: one("Concat", names("x0", "x1"), "axis", int64(1))},
	{name: "concat of channels", inputs: []model.Shape{{0, 3, 2, 3}, {0, 2, 2, 3}}, nodes: []*model.Node{
		node("Conv", "c", names("x0", "w"), names("h")), node("Concat", "k", names("h", "x1", "h"), names("y"), "axis", int64(1)),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 4, 3, 1, 1)}},
	{name: "concat of rows of pixels", inputs: []model.Shape{{0, 3, 2, 3}, {0, 4, 1, 3}}, nodes: []*model.Node{
		node("Conv", "c", names("x0", "w"), names("h")), node("Concat", "k", names("h", "x1"), names("y"), "axis", int64(-2)),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 4, 3, 1, 1)}},
	{name: "flatten behind a convolution", inputs: []model.Shape{{0, 2, 3, 4}}, nodes: []*model.Node{
		node("Conv", "c", names("x0", "w"), names("h")), node("Flatten", "f", names("h"), names("i")), node("Gemm", "g", names("i", "v"), names("y")),
	}, consts: map[string]*model.Tensor{"w": normal(0.5, 3, 2, 1, 1), "v": normal(0.3, 36, 5)}},
	{
		name: "reshape", inputs: []model.Shape{{0, 2, 6}}, nodes: one("Reshape", names("x0", "s")),
		consts: map[string]*model.Tensor{"s": whole(0, 3, -1)},
	},
}
