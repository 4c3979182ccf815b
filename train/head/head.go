// Package head trains the last dense layers of a packed model on the device
// that runs it: the network before them, the backbone, stays as it was signed,
// and what is learned is a Delta of a few constants. Start with Find,
// Head.Train and Delta.Apply.
//
// A sample is what the backbone makes of an input, the feature, with its class.
// A head that was trained is kept only where samples that it did not see say
// that it is better than the signed one; else Train says so, with the figures.
// The pull towards the signed weights is part of the loss (L2-SP: Li,
// Grandvalet, Davoine 2018, arXiv:1802.01483), the stronger the fewer samples
// there are.
//
// Its promise: the same samples in the same order and the same seed give the
// same bits on every CPU, and the work is bounded by the size of the head and
// the number of samples. It learns no class that the model does not have. It
// keeps nothing, runs no network and knows no file; the agent does.
package head

import (
	"errors"
	"fmt"
	"slices"

	"dunlin/model"
)

// MaxParameters bounds the weights and biases of a head, all layers together:
// training keeps five copies of them, 20 bytes each.
const MaxParameters = 4 << 20

// ErrNoHead is returned, wrapped, for a network that does not end in a dense
// layer that can be trained.
var ErrNoHead = errors.New("the network has no head that can be trained")

// Head is the end of a graph: dense layers, from the feature to the scores.
type Head struct {
	Feature Feature
	Output  string // the graph's output with the scores
	Classes int

	layers []*dense // in the order of the run
	graph  *model.Graph
}

// Feature is what the first layer reads.
type Feature struct {
	Value string      // name of the value that is kept of a sample: integers where the graph has them
	Type  model.DType // I8, U8 or F32
	Size  int         // elements of one sample

	read  string // name of the value that the first layer reads, Value as float
	scale float32
	zero  int32
}

// Bytes returns the length of Sample.Feature.
func (f Feature) Bytes() int { return f.Size * f.Type.Size() }

// dense is a Gemm, a MatMul or a Conv, its bias, and what follows up to the next layer.
type dense struct {
	in, out   int
	rows      bool // the weights stand as [out, in], else as [in, out]
	pixel     bool // it is a convolution of one pixel
	constant       // of the weights
	perTensor bool // the weights have one scale, not one a channel
	units     int  // how many scales the bias has
	bias      constant
	relu      bool
	grids     []grid // behind the layer, in the order of the run

	w, b []float32 // as signed: [out, in] and [out]; b is nil where there is no bias
}

// constant names a constant and, where it is integers, the constant with its
// scales; both are "" where there is none.
type constant struct{ value, scale string }

// grid is a QuantizeLinear on the way, and its steps. own is set where no
// other part of the graph reads its constants, so that they can be changed.
type grid struct {
	scaleName, zeroName string
	scale               float32
	zero, least, most   int32
	own                 bool
}

// Find returns the head of g that ends in that output: the last dense layer,
// or the last two where layers is 2 and nothing but a Relu stands between. It
// does not change g. Errors wrap ErrNoHead.
func Find(g *model.Graph, output string, layers int) (*Head, error) {
	if !slices.Contains(g.Outputs, output) {
		return nil, fmt.Errorf("%w: %s has no output %q", ErrNoHead, g.Name, output)
	}
	f := &finder{
		g: g, made: g.Producers(), read: g.Consumers(), tail: map[*model.Node]bool{},
		head: &Head{Output: output, graph: g},
	}
	if err := f.walk(output, layers); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoHead, err)
	}
	f.owned()
	return f.head, f.feature()
}

// Constants returns the names of the constants that a Delta may replace.
func (h *Head) Constants() (names []string) {
	for _, l := range h.layers {
		for _, c := range []constant{l.constant, l.bias} {
			for _, name := range []string{c.value, c.scale} {
				if name != "" {
					names = append(names, name)
				}
			}
		}
		for _, g := range l.grids {
			if g.own {
				names = append(names, g.scaleName, g.zeroName)
			}
		}
	}
	return names
}

// Backbone returns the graph up to the feature, which is its only output.
func (h *Head) Backbone() *model.Graph {
	g := h.graph.Clone()
	g.Outputs = []string{h.Feature.Value}
	g.Prune()
	return g
}

// Tail returns the graph behind the feature, which is its only input, with
// the constants of d in it; nil: as it was signed. Its output is the head's.
func (h *Head) Tail(d *Delta) (*model.Graph, error) {
	g := h.graph.Clone()
	if d != nil {
		var err error
		if g, err = d.Apply(h.graph); err != nil {
			return nil, err
		}
	}
	g.Inputs, g.Outputs = []string{h.Feature.Value}, []string{h.Output}
	g.Nodes = slices.DeleteFunc(g.Nodes, func(n *model.Node) bool { return slices.Contains(n.Out, h.Feature.Value) })
	v := *g.Value(h.Feature.Value)
	v.Type, v.Dims = h.Feature.Type, nil
	if n, err := v.Shape.Elements(); err != nil || n != h.Feature.Size {
		v.Shape = model.Shape{1, h.Feature.Size}
		if h.layers[0].pixel {
			v.Shape = append(v.Shape, 1, 1)
		}
	}
	g.Values[h.Feature.Value] = &v
	g.Prune()
	return g, nil
}
