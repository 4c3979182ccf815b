package recipe

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"dunlin/model"
)

// maxParameters bounds the weights of a network that is described in a recipe.
const maxParameters = 1 << 28

// Shape is what flows between two layers: channels, height and width of a
// picture, or, with one element, numbers.
type Shape []int

// newGraph builds the network of n.Layers for inputs of that shape, the batch
// being open, and draws its weights from seed. Loss "cross-entropy" ends it in
// a softmax. The input is called image, or values where the shape is of
// numbers; the output scores, or outputs.
//
// Weights that a relu, relu6 or hardswish follows are drawn uniformly with
// variance 2/fan-in (He et al. 2015, arXiv:1502.01852, eq. 10), others with
// variance 2/(fan-in + fan-out) (Glorot and Bengio 2010, "Understanding the
// difficulty of training deep feedforward neural networks", eq. 16). Biases
// begin at 0; norms at scale 1 and offset 0.
//
// limit bounds the weights.
func (n *Network) newGraph(input Shape, loss string, seed uint64, limit int) (*model.Graph, *fault) {
	b := &netBuilder{g: model.New(n.Name), at: inputName(input), shape: slices.Clone(input), seed: seed, limit: limit, names: map[string]bool{}, layers: map[string]bool{}}
	last := "scores"
	if loss != lossEntropy {
		last = "outputs"
	}
	b.names[b.at], b.names[last] = true, true
	b.g.Inputs = []string{b.at}
	b.g.Values[b.at] = batched(input)
	for i := range n.Layers {
		if err := b.layer(n.Layers, i); err != nil {
			return nil, &fault{layerField(i), err}
		}
	}
	if len(b.shape) != 1 {
		return nil, badf("network.layers", "the last layer gives %v: end in globalpool or flatten, and dense", b.shape)
	}
	if loss == lossEntropy {
		b.add("Softmax", "softmax", map[string]model.Attr{"axis": int64(-1)}, b.at)
	}
	b.rename(last)
	b.g.Outputs = []string{last}
	b.g.Values[last] = batched(b.shape)
	if err := b.g.Check(); err != nil {
		return nil, &fault{"network.layers", err}
	}
	return b.g, nil
}

// inputName names the input of a network of layers.
func inputName(s Shape) string {
	if len(s) == 1 {
		return "values"
	}
	return "image"
}

// batched is a value of that shape with an open batch before it.
func batched(s Shape) *model.Value {
	v := &model.Value{Type: model.F32, Shape: append(model.Shape{model.Unknown}, s...), Dims: make([]string, len(s)+1)}
	v.Dims[0] = "N"
	return v
}

// netBuilder adds node after node to a graph.
type netBuilder struct {
	g          *model.Graph
	at         string // the value that the last node made
	shape      Shape  // of it
	seed       uint64
	draws      uint64 // tensors drawn so far
	parameters int
	limit      int             // of them
	names      map[string]bool // of values and constants
	layers     map[string]bool // names of layers
}

// fresh returns a name that is not taken yet, and takes it.
func fresh(taken map[string]bool, name string) string {
	for base, i := name, 2; taken[name]; i++ {
		name = fmt.Sprintf("%s_%d", base, i)
	}
	taken[name] = true
	return name
}

// layerName returns the name of a layer: its own, or its type and number.
func (b *netBuilder) layerName(l Layer) string {
	if l.Name != "" {
		return fresh(b.layers, l.Name)
	}
	for i := 1; ; i++ {
		if name := fmt.Sprintf("%s%d", l.Type, i); !b.layers[name] {
			b.layers[name] = true
			return name
		}
	}
}

// add adds a node that makes the next value.
func (b *netBuilder) add(op, name string, attrs map[string]model.Attr, in ...string) {
	out := fresh(b.names, name)
	b.g.Nodes = append(b.g.Nodes, &model.Node{Op: op, Name: out, In: in, Out: []string{out}, Attrs: attrs})
	b.at = out
}

// rename gives the last value another name.
func (b *netBuilder) rename(name string) {
	if len(b.g.Nodes) == 0 {
		b.add("Identity", "identity", nil, b.at)
	}
	n := b.g.Nodes[len(b.g.Nodes)-1]
	n.Out[0], b.at = name, name
}

// layer adds layer i.
func (b *netBuilder) layer(layers []Layer, i int) error {
	l := layers[i]
	name := b.layerName(l)
	act, normed := follows(layers[i+1:])
	bias := !normed
	if l.Bias != nil {
		bias = *l.Bias
	}
	switch l.Type {
	case "dense":
		return b.dense(name, l.Out, bias, act)
	case "flatten":
		return b.flatten(name)
	case "dropout":
		b.add("Dropout", name, nil, b.at, b.scalar(name+".rate", float32(l.Rate)))
		return nil
	}
	if slices.Contains(activations, l.Type) {
		b.activate(name, l.Type)
		return nil
	}
	if len(b.shape) != 3 {
		return fmt.Errorf("a layer of type %s takes a picture, here are %v numbers", l.Type, b.shape)
	}
	switch l.Type {
	case "conv":
		return b.conv(name, l, l.Out, 1, bias, act)
	case "depthwise":
		return b.conv(name, l, b.shape[0], b.shape[0], bias, act)
	case "norm":
		return b.norm(name)
	case "maxpool":
		return b.pool(name, "MaxPool", l)
	case "averagepool":
		return b.pool(name, "AveragePool", l)
	case "globalpool":
		b.add("GlobalAveragePool", name, nil, b.at)
		b.shape = Shape{b.shape[0], 1, 1}
	case "inverted":
		return b.inverted(name, l)
	case "residual":
		return b.residual(name, l)
	}
	return nil
}

// follows returns the activation that the next layers begin with, behind a
// norm or not, and whether they begin with a norm.
func follows(rest []Layer) (activation string, norm bool) {
	if len(rest) > 0 && rest[0].Type == "norm" {
		norm, rest = true, rest[1:]
	}
	if len(rest) > 0 && slices.Contains(activations, rest[0].Type) {
		activation = rest[0].Type
	}
	return activation, norm
}

// scalar makes a constant of one number.
func (b *netBuilder) scalar(name string, v float32) string {
	name = fresh(b.names, name)
	b.g.AddConst(name, model.Of(model.F32, []float32{v}))
	return name
}

// constant makes one of zeros.
func (b *netBuilder) constant(name string, shape ...int) (string, *model.Tensor, error) {
	n, err := model.Shape(shape).Elements()
	if err != nil {
		return "", nil, err
	}
	if n > b.limit-b.parameters {
		return "", nil, fmt.Errorf("with it the network would have more than %d weights", b.limit)
	}
	b.parameters += n
	t, err := model.NewTensor(model.F32, shape...)
	if err != nil {
		return "", nil, err
	}
	name = fresh(b.names, name)
	b.g.AddConst(name, t)
	return name, t, nil
}

// filled makes a constant of n equal values.
func (b *netBuilder) filled(name string, n int, value float32) (string, error) {
	name, t, err := b.constant(name, n)
	if err != nil {
		return "", err
	}
	for i := range t.F32() {
		t.F32()[i] = value
	}
	return name, nil
}

// weights draws a constant. What is drawn depends on the seed and on how many
// were drawn before it, not on their sizes.
func (b *netBuilder) weights(name string, fanIn, fanOut int, activation string, shape ...int) (string, error) {
	name, t, err := b.constant(name, shape...)
	if err != nil {
		return "", err
	}
	b.draws++
	draw(t.F32(), fanIn, fanOut, activation, rand.New(rand.NewPCG(b.seed, b.draws)))
	return name, nil
}

// draw fills w with what newGraph says of weights.
func draw(w []float32, fanIn, fanOut int, activation string, random *rand.Rand) {
	variance := 2 / float64(fanIn+fanOut)
	switch activation {
	case "relu", "relu6", "hardswish":
		variance = 2 / float64(fanIn)
	}
	bound := math.Sqrt(3 * variance) // of a uniform distribution
	for i := range w {
		w[i] = float32(bound * float64(2*random.Float64()-1))
	}
}

func (b *netBuilder) conv(name string, l Layer, out, groups int, bias bool, activation string) error {
	in, k, pad := b.shape[0], l.Kernel, l.padding()
	h, w, err := b.slide(l)
	if err != nil {
		return err
	}
	area := k * k
	weight, err := b.weights(name+".weight", in/groups*area, out/groups*area, activation, out, in/groups, k, k)
	if err != nil {
		return err
	}
	inputs := []string{b.at, weight}
	if bias {
		offset, err := b.filled(name+".bias", out, 0)
		if err != nil {
			return err
		}
		inputs = append(inputs, offset)
	}
	b.add("Conv", name, map[string]model.Attr{
		"kernel_shape": pair(k), "strides": pair(l.Stride), "pads": append(pair(pad), pair(pad)...), "group": int64(groups),
	}, inputs...)
	b.shape = Shape{out, h, w}
	return nil
}

func pair(v int) []int64 { return []int64{int64(v), int64(v)} }

// slide returns the height and width that a kernel leaves.
func (b *netBuilder) slide(l Layer) (h, w int, err error) {
	h = (b.shape[1]+2*l.padding()-l.Kernel)/l.Stride + 1
	w = (b.shape[2]+2*l.padding()-l.Kernel)/l.Stride + 1
	if b.shape[1]+2*l.padding() < l.Kernel || b.shape[2]+2*l.padding() < l.Kernel {
		return 0, 0, fmt.Errorf("a kernel of %d does not fit into %v with %d pixels around it", l.Kernel, b.shape, l.padding())
	}
	return h, w, nil
}

func (b *netBuilder) norm(name string) error {
	in := []string{b.at}
	for _, c := range []struct {
		name  string
		value float32
	}{{".scale", 1}, {".offset", 0}, {".mean", 0}, {".variance", 1}} {
		made, err := b.filled(name+c.name, b.shape[0], c.value)
		if err != nil {
			return err
		}
		in = append(in, made)
	}
	b.add("BatchNormalization", name, map[string]model.Attr{"epsilon": float32(1e-5)}, in...)
	return nil
}

func (b *netBuilder) activate(name, kind string) {
	switch kind {
	case "relu":
		b.add("Relu", name, nil, b.at)
	case "relu6":
		b.add("Clip", name, nil, b.at, b.scalar(name+".min", 0), b.scalar(name+".max", 6))
	case "sigmoid":
		b.add("Sigmoid", name, nil, b.at)
	case "tanh":
		b.add("Tanh", name, nil, b.at)
	case "hardswish":
		b.add("HardSwish", name, nil, b.at)
	}
}

func (b *netBuilder) pool(name, op string, l Layer) error {
	h, w, err := b.slide(l)
	if err != nil {
		return err
	}
	attrs := map[string]model.Attr{"kernel_shape": pair(l.Kernel), "strides": pair(l.Stride), "pads": append(pair(l.padding()), pair(l.padding())...)}
	b.add(op, name, attrs, b.at)
	b.shape = Shape{b.shape[0], h, w}
	return nil
}

func (b *netBuilder) flatten(name string) error {
	n, err := model.Shape(b.shape).Elements()
	if err != nil {
		return err
	}
	b.add("Flatten", name, map[string]model.Attr{"axis": int64(1)}, b.at)
	b.shape = Shape{n}
	return nil
}

func (b *netBuilder) dense(name string, out int, bias bool, activation string) error {
	if len(b.shape) != 1 {
		return fmt.Errorf("a dense layer takes numbers, here is a picture of %v: put flatten or globalpool and flatten before it", b.shape)
	}
	weight, err := b.weights(name+".weight", b.shape[0], out, activation, out, b.shape[0])
	if err != nil {
		return err
	}
	in := []string{b.at, weight}
	if bias {
		offset, err := b.filled(name+".bias", out, 0)
		if err != nil {
			return err
		}
		in = append(in, offset)
	}
	b.add("Gemm", name, map[string]model.Attr{"transB": int64(1)}, in...)
	b.shape = Shape{out}
	return nil
}

// normed adds a convolution, its norm and an activation, "" for none.
func (b *netBuilder) normed(name string, l Layer, out, groups int, activation string) error {
	if err := b.conv(name, l, out, groups, false, activation); err != nil {
		return err
	}
	if err := b.norm(name + ".norm"); err != nil {
		return err
	}
	if activation != "" {
		b.activate(name+"."+activation, activation)
	}
	return nil
}

func (b *netBuilder) inverted(name string, l Layer) error {
	from, shape := b.at, b.shape
	point := Layer{Type: "conv", Kernel: 1, Stride: 1}
	if err := b.normed(name+".widen", point, l.Wide, 1, l.Activation); err != nil {
		return err
	}
	if err := b.normed(name+".filter", l, l.Wide, l.Wide, l.Activation); err != nil {
		return err
	}
	if err := b.normed(name+".narrow", point, l.Out, 1, ""); err != nil {
		return err
	}
	if slices.Equal(shape, b.shape) {
		b.add("Add", name+".sum", nil, from, b.at)
	}
	return nil
}

func (b *netBuilder) residual(name string, l Layer) error {
	from, shape := b.at, b.shape
	if err := b.normed(name+".first", l, l.Out, 1, l.Activation); err != nil {
		return err
	}
	second := l
	second.Stride = 1
	if err := b.normed(name+".second", second, l.Out, 1, ""); err != nil {
		return err
	}
	to, made := b.at, b.shape
	if !slices.Equal(shape, made) {
		b.at, b.shape = from, shape
		if err := b.normed(name+".fit", Layer{Type: "conv", Kernel: 1, Stride: l.Stride}, l.Out, 1, ""); err != nil {
			return err
		}
		if !slices.Equal(b.shape, made) {
			return fmt.Errorf("the block gives %v, its input %v by a stride of %d: want an odd kernel", made, b.shape, l.Stride)
		}
		from = b.at
	}
	b.add("Add", name+".sum", nil, from, to)
	b.activate(name+"."+l.Activation, l.Activation)
	return nil
}
