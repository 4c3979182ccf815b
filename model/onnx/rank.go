package onnx

import "dunlin/model"

// inferRank notes the ranks of n's outputs where they follow from its
// inputs: the old forms of Softmax and of broadcasting mean different things
// for different ranks. An unknown rank stays unknown; lengths are none of
// the importer's business.
func (c *canon) inferRank(n *model.Node) {
	s := c.scopes[len(c.scopes)-1]
	r := c.outRank(n)
	if r < 0 {
		return
	}
	for i, o := range n.Out {
		if _, known := s.rank[o]; o != "" && !known && (i == 0 || n.Op == "Split") {
			s.rank[o] = r
		}
	}
}

// outRank returns the rank of a canonical node's first output, -1 where it
// is not known.
func (c *canon) outRank(n *model.Node) int {
	in := c.rankOf(n.Input(0))
	switch n.Op {
	case "Flatten", "Gemm":
		return 2
	case "Shape", "NonZero":
		return 1 + btoi(n.Op == "NonZero")
	case "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Elu", "Selu", "Softmax", "LogSoftmax", "Hardmax", "Clip", "Cast", "Identity",
		"Dropout", "Neg", "Abs", "Exp", "Log", "Sqrt", "Floor", "Ceil", "Erf", "Reciprocal", "HardSigmoid", "HardSwish",
		"Softplus", "Softsign", "Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool",
		"BatchNormalization", "InstanceNormalization", "LayerNormalization", "LRN", "PRelu", "Concat", "Slice", "Split", "Pad",
		"Resize", "Tile", "Transpose", "QuantizeLinear", "DequantizeLinear", "CumSum", "DepthToSpace", "SpaceToDepth":
		return in
	case "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "And", "Or", "Xor", "Equal", "Greater", "Less", "Where":
		return c.widest(n.In)
	case "MatMul":
		if b := c.rankOf(n.Input(1)); in >= 2 && b >= 2 {
			return max(in, b)
		}
	case "Reshape":
		return c.length(n.Input(1))
	case "Unsqueeze":
		if k := c.length(n.Input(1)); in >= 0 && k >= 0 {
			return in + k
		}
	case "Squeeze":
		if k := c.length(n.Input(1)); in >= 0 && k >= 0 {
			return in - k
		}
	case "Gather":
		if i := c.rankOf(n.Input(1)); in >= 0 && i >= 0 {
			return in - 1 + i
		}
	case "LSTM", "GRU", "RNN":
		return 4
	}
	return -1
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// widest returns the highest rank, -1 where one is unknown.
func (c *canon) widest(names []string) int {
	w := -1
	for _, name := range names {
		r := c.rankOf(name)
		if r < 0 {
			return -1
		}
		w = max(w, r)
	}
	return w
}

// length returns how many elements a constant has, -1 where it is none.
func (c *canon) length(name string) int {
	if t := c.constOf(name); t != nil {
		return t.Elements()
	}
	return -1
}
