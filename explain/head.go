package explain

import (
	"errors"
	"fmt"
	"slices"

	"dunlin/engine"
	"dunlin/model"
)

// head is the end of a network that CAM can use: the mean over the picture of
// each channel of a feature map, and one linear layer.
//
//	features [1, K, H, W] -> mean over H, W -> [1, K] -> w [N, K], bias [N] -> logits [1, N]
//
// Quantise and dequantise nodes may stand between any two of them, and a
// softmax or a sigmoid behind: neither changes the order of the classes.
type head struct {
	features string
	output   int           // index of features among the outputs
	weight   *model.Tensor // as the graph holds it
	byColumn bool          // [K, N] in place of [N, K]
	factor   float32       // of Gemm
	scale    *model.Tensor // of a quantised weight; nil: it is real numbers
	zero     *model.Tensor // nil: 0
	perClass bool          // scale and zero have one value for each class
}

// softmaxInput returns the value that the softmax before the scores reads, ""
// where there is none.
func softmaxInput(g *model.Graph, scores string) string {
	w := walk{g, g.Producers()}
	if n := w.skip(scores, still); n != nil && n.Op == "Softmax" {
		return n.In[0]
	}
	return ""
}

// Operators that a walk back passes. What still passes keeps every value where
// it is among the elements; reshaping alone does, for a network of one picture.
var (
	still    = []string{"QuantizeLinear", "DequantizeLinear", "Identity", "Dropout", "Cast", "Flatten", "Reshape", "Squeeze", "Unsqueeze"}
	monotone = []string{"Softmax", "LogSoftmax", "Sigmoid"}
	linear   = []string{"Gemm", "MatMul", "Conv"}
)

// walk goes from values back to what makes them.
type walk struct {
	g    *model.Graph
	made map[string]*model.Node
}

// skip returns the node that makes value, passing those of ops.
func (w walk) skip(value string, ops []string) *model.Node {
	for {
		n := w.made[value]
		if n == nil || !slices.Contains(ops, n.Op) {
			return n
		}
		value = n.In[0]
	}
}

// findHead returns the head before the scores, or an error that wraps
// ErrMethod.
func findHead(g *model.Graph, scores string) (*head, error) {
	w := walk{g, g.Producers()}
	n := w.skip(scores, still)
	if n != nil && slices.Contains(monotone, n.Op) {
		n = w.skip(n.In[0], still)
	}
	if n != nil && n.Op == "Add" { // the bias of a MatMul
		a, b := w.constant(n.In[0]), w.constant(n.In[1])
		if (a == nil) == (b == nil) {
			return nil, noHead(n, "a sum of two branches comes before the scores")
		}
		value := n.In[0]
		if a != nil {
			value = n.In[1]
		}
		n = w.skip(value, still)
	}
	if n == nil || !slices.Contains(linear, n.Op) {
		return nil, noHead(n, "the scores do not come from one linear layer")
	}
	h, err := w.linear(n)
	if err != nil {
		return nil, err
	}
	pool := w.skip(n.In[0], still)
	if pool == nil || !w.wholePicture(pool) {
		return nil, noHead(pool, "the linear layer does not read an average over the whole picture")
	}
	h.features = pool.In[0]
	return h, nil
}

func noHead(n *model.Node, why string) error {
	if n == nil {
		return fmt.Errorf("class activation map: %w: %s", ErrMethod, why)
	}
	return fmt.Errorf("class activation map: %w: %s, but from node %s (%s)", ErrMethod, why, n.Name, n.Op)
}

// wholePicture reports whether n may be a mean over all of H and W; checkHead
// looks at the shapes, which only the compiler knows.
func (w walk) wholePicture(n *model.Node) bool {
	switch n.Op {
	case "GlobalAveragePool":
		return true
	case "AveragePool":
		return !slices.ContainsFunc(n.Ints("pads"), func(p int64) bool { return p != 0 })
	case "ReduceMean":
		axes := n.Ints("axes")
		if t := w.g.Const(n.Input(1)); axes == nil && t != nil && t.Type == model.I64 {
			axes = t.I64()
		}
		axes = slices.Clone(axes)
		for i, a := range axes {
			if a < 0 {
				axes[i] = a + 4
			}
		}
		slices.Sort(axes)
		return slices.Equal(axes, []int64{2, 3})
	}
	return false
}

// linear reads the weights of Gemm, MatMul or a 1x1 Conv.
func (w walk) linear(n *model.Node) (*head, error) {
	h := &head{factor: 1}
	switch n.Op {
	case "MatMul":
		h.byColumn = true
	case "Gemm":
		h.byColumn = n.Int("transB", 0) == 0
		h.factor = n.Float("alpha", 1)
		if n.Int("transA", 0) != 0 {
			return nil, noHead(n, "the linear layer reads its input turned")
		}
	case "Conv":
		if n.Int("group", 1) != 1 {
			return nil, noHead(n, "the last layer has groups")
		}
	}
	if err := w.weights(h, n); err != nil {
		return nil, err
	}
	for _, d := range h.weight.Shape[min(2, len(h.weight.Shape)):] {
		if d != 1 {
			return nil, noHead(n, "the last convolution is not 1x1")
		}
	}
	if len(h.weight.Shape) < 2 || len(h.weight.Shape) > 2 && h.byColumn {
		return nil, noHead(n, "the weights of the linear layer are no matrix")
	}
	return h, nil
}

// weights finds the constant behind the second input of n, and its scale.
func (w walk) weights(h *head, n *model.Node) error {
	value := n.Input(1)
	for {
		if h.weight = w.g.Const(value); h.weight != nil {
			return nil
		}
		from := w.made[value]
		switch {
		case from == nil:
			return noHead(n, "the weights of the linear layer are not constant")
		case from.Op == "DequantizeLinear" && h.scale == nil:
			h.scale, h.zero = w.g.Const(from.Input(1)), w.g.Const(from.Input(2))
			if h.scale == nil || from.Input(2) != "" && h.zero == nil {
				return noHead(from, "the scale of the weights is not constant")
			}
			axis := 0
			if h.byColumn {
				axis = 1
			}
			h.perClass = h.scale.Elements() > 1
			if a := int(from.Int("axis", 1)); h.perClass && a != axis && a != axis-2 || from.Int("block_size", 0) != 0 {
				return noHead(from, "the weights do not have one scale for each class")
			}
		case from.Op == "Cast" || from.Op == "Identity":
		default:
			return noHead(from, "the weights of the linear layer are not constant")
		}
		value = from.In[0]
	}
}

// constant returns the constant behind value, nil where it is none.
func (w walk) constant(value string) *model.Tensor {
	for n := w.made[value]; n != nil && slices.Contains(still, n.Op); n = w.made[value] {
		value = n.In[0]
	}
	return w.g.Const(value)
}

// checkHead gives up the head where its shapes are not those of one.
func (n *Network) checkHead() error {
	if n.head == nil {
		return nil
	}
	s, w := n.one.program.Outputs()[n.head.output].Shape, n.head.weight.Shape
	classes, channels := w[0], w[1]
	if n.head.byColumn {
		classes, channels = channels, classes
	}
	if len(s) == 4 && s[0] == 1 && s[1] == channels && classes == n.classes && n.averages(s) {
		return nil
	}
	n.head, n.headless = nil, noHead(nil, fmt.Sprintf("features are %v, the weights of the linear layer %v: want [1, K, H, W] and [N, K]", s, w))
	return nil
}

// averages reports whether the pooling over features of shape s leaves one
// value of each channel.
func (n *Network) averages(s model.Shape) bool {
	for _, node := range n.graph.Consumers()[n.head.features] {
		if k := node.Ints("kernel_shape"); node.Op == "AveragePool" && (len(k) != 2 || int(k[0]) != s[2] || int(k[1]) != s[3]) {
			return false
		}
	}
	return true
}

// row returns the weights of a class as real numbers, [K].
func (h *head) row(class int) ([]float32, error) {
	shape, size := h.weight.Shape, h.weight.Type.Size()
	channels, start, step := shape[1], class*shape[1], 1
	if h.byColumn {
		channels, start, step = shape[0], class, shape[1]
	}
	part, err := model.NewTensor(h.weight.Type, channels)
	if err != nil {
		return nil, err
	}
	for k := range channels {
		from := (start + k*step) * size
		copy(part.Data[k*size:(k+1)*size], h.weight.Data[from:from+size])
	}
	scale, zero := h.factor, 0.0
	if h.scale != nil {
		at := 0
		if h.perClass {
			at = class
		}
		all := engine.Numbers(h.scale)
		if at >= len(all) {
			return nil, errors.New("class activation map: the weights have fewer scales than classes")
		}
		scale *= float32(all[at])
		if h.zero != nil {
			zeros := engine.Numbers(h.zero)
			zero = zeros[min(at, len(zeros)-1)]
		}
	}
	out := make([]float32, channels)
	for k, v := range engine.Numbers(part) {
		out[k] = scale * float32(v-zero)
	}
	return out, nil
}
