// Package train finds the weights of a model.Graph: reverse-mode automatic
// differentiation on the graph itself, with losses, optimisers and the loop
// around them. What comes out is a graph again, for model/onnx, quant and
// engine.
//
// Start with NewNet, which lays a float graph out for batches of one size;
// Forward, OutputGradient and Backward of what it returns fill the Gradient of
// each Parameter, and an optimiser changes its Value.
//
// The package promises the same bits for the same graph, data and seeds on
// every run of one machine, and with Options.Exact on every CPU. It computes
// with the kernels of the engine. It reads no data, and trains no graph whose
// shapes depend on more than the size of the batch.
package train

import (
	"errors"
	"fmt"
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// Options are what NewNet is asked for.
type Options struct {
	Batch          int                        // samples at once: axis 0 of every input
	Freeze         func(constant string) bool // constants that are not trained; nil: none
	Logits         bool                       // an output that a Softmax makes is given as what goes into it, for cross-entropy
	InputGradients bool                       // Backward also computes InputGradient
	Seed           uint64                     // of what Dropout drops
	Exact          bool                       // products too give the same bits on every CPU; they take up to twice as long
	MaxBytes       int64                      // of values and their gradients, beyond which NewNet fails with ErrMemory; 0: 32 GiB
}

// Parameter is a constant of the graph that training changes.
type Parameter struct {
	Name            string
	Shape           model.Shape
	Value, Gradient []float32 // in the order of the graph's constant
	Decay           bool      // a weight, which decay pulls to 0; biases and norms are not
}

// Net is a graph laid out for batches of one size. All its buffers are made by
// NewNet: Forward and Backward allocate nothing. It is for one goroutine, and
// so are all that Resize makes of it.
type Net struct {
	graph   *model.Graph // as it was given
	options Options
	target  kernels.Target
	loops   *loops
	shared  *sharedState

	steps           []*placed
	inputs, outputs []*value
	parameters      []*Parameter
	statistics      []*Parameter
	scratch         []byte // of the step that runs
}

// sharedState is what a net has in common with those that Resize makes of it.
type sharedState struct {
	constants map[string]*Parameter // those trained, and the statistics of norms
	forwards  uint64                // in training, so far
}

// NewNet lays a float graph out for batches of one size. It does not change g.
//
// The float32 constants of Conv, Gemm, MatMul, LSTM, GRU and of the scale and
// bias of BatchNormalization are trained, wherever they are not frozen. So are
// those that Add and Mul apply to a computed value, but for single numbers:
// they are part of a formula. A single number added to a MatMul is its bias.
//
// It fails with a *model.Error where a shape does not fit, and with one error
// that names all nodes whose operator has no gradient.
func NewNet(g *model.Graph, o Options) (*Net, error) {
	return newNet(g, o, &sharedState{constants: map[string]*Parameter{}})
}

func newNet(g *model.Graph, o Options, s *sharedState) (*Net, error) {
	if o.Batch < 1 {
		return nil, fmt.Errorf("train %s: a batch of %d samples", g.Name, o.Batch)
	}
	if err := g.Check(); err != nil {
		return nil, err
	}
	target, err := kernels.Host("")
	if err != nil {
		return nil, err
	}
	target.Exact = o.Exact
	n := &Net{graph: g, options: o, target: target, loops: newLoops(target), shared: s}
	b, err := newBuilder(n)
	if err != nil {
		return nil, err
	}
	return n, b.build()
}

// Input returns the batch of input i, [Batch, ...] in the graph's own order
// (NCHW), for the caller to fill before Forward.
func (n *Net) Input(i int) []float32 { return n.inputs[i].data }

// InputShape returns the shape of Input(i).
func (n *Net) InputShape(i int) model.Shape { return slices.Clone(n.inputs[i].shape) }

// Inputs returns how many inputs there are.
func (n *Net) Inputs() int { return len(n.inputs) }

// Output returns output i, [Batch, ...] in the graph's own order: what the
// last Forward made.
func (n *Net) Output(i int) []float32 { return n.outputs[i].data }

// OutputShape returns the shape of Output(i).
func (n *Net) OutputShape(i int) model.Shape { return slices.Clone(n.outputs[i].shape) }

// Outputs returns how many outputs there are.
func (n *Net) Outputs() int { return len(n.outputs) }

// OutputGradient returns the gradient of the loss by Output(i), for the caller
// to fill before Backward.
func (n *Net) OutputGradient(i int) []float32 { return n.outputs[i].grad }

// InputGradient returns the gradient by Input(i), which the last Backward
// made; nil without Options.InputGradients.
func (n *Net) InputGradient(i int) []float32 { return n.inputs[i].grad }

// Parameters returns what is trained, in the order of the graph. They are the
// same for all nets that Resize made of each other.
func (n *Net) Parameters() []*Parameter { return n.parameters }

// Statistics returns the running means and variances of norms, which
// Forward(true) changes, in the order of the graph. They have no gradient. A
// checkpoint holds them beside the parameters.
func (n *Net) Statistics() []*Parameter { return n.statistics }

// Forwards returns how often Forward(true) ran, on this net and on those that
// Resize made of it: together with Options.Seed it says what Dropout drops
// next.
func (n *Net) Forwards() uint64 { return n.shared.forwards }

// SetForwards continues from a checkpoint.
func (n *Net) SetForwards(count uint64) { n.shared.forwards = count }

// Batch returns the samples of a batch.
func (n *Net) Batch() int { return n.options.Batch }

// Forward computes the outputs. In training norms use, and update, the
// statistics of the batch, and Dropout drops.
func (n *Net) Forward(training bool) {
	if training {
		n.shared.forwards++
	}
	for _, s := range n.steps {
		s.forward(training)
	}
}

// Backward sets the gradient of every parameter, and of the inputs with
// Options.InputGradients, from OutputGradient and the last Forward. It adds
// nothing to what was there.
func (n *Net) Backward() {
	for i := len(n.steps) - 1; i >= 0; i-- {
		s := n.steps[i]
		if !s.gives {
			continue
		}
		s.backward()
		for _, p := range s.sums {
			n.loops.addTo(p.grad, p.dx)
		}
	}
}

// Graph returns a graph like the one given to NewNet, with the parameters and
// statistics of now.
func (n *Net) Graph() *model.Graph {
	g := n.graph.Clone()
	for _, list := range [][]*Parameter{n.parameters, n.statistics} {
		for _, p := range list {
			g.AddConst(p.Name, model.Of(model.F32, p.Value, p.Shape...))
		}
	}
	return g
}

// Resize returns a net of the same parameters, which both share, for another
// size of batch.
func (n *Net) Resize(batch int) (*Net, error) {
	o := n.options
	o.Batch = batch
	return newNet(n.graph, o, n.shared)
}

// ErrMemory is returned, wrapped, by NewNet for a batch that needs more than
// Options.MaxBytes.
var ErrMemory = errors.New("values and gradients take too much memory")

var errQuantised = errors.New("it is quantised, and integers have no gradient: train the float model it was made from")
