// Package quant makes a model smaller: int8 weights and activations, weights
// of four bits, or float16 weights, for all of it or layer by layer.
//
//	Calibrate(graph, samples)     -> Ranges     what values each edge takes, as histograms
//	Apply(graph, Ranges)          -> graph, Report
//	Report.Measure                -> the error of each layer's output
//	Front(graph, Ranges, samples) -> Candidates a level for each layer, from the largest model to the smallest
//	DataFree(graph, bounds)       -> Ranges     without samples, from what batch normalisation knows
//	Equalise(graph)               -> a graph that int8 loses less of
//	PruneChannels(graph, Ranges)  -> a graph with fewer channels, to be trained again
//	LowRank(graph)                -> a graph with two thin layers for a large dense one
//
// Start with Calibrate and Apply. The int8 graph has the one form that
// package model names: QuantizeLinear and DequantizeLinear nodes around
// float operators. Weights are symmetric with one scale for each output
// channel, in [-127, 127]; activations are asymmetric with one scale for
// each value, and 0.0 is always exactly one of the 256 steps; biases are
// int32 in units of both scales, corrected for the mean error that rounding
// the weights makes. Inputs and outputs of the graph stay float.
// (Jacob et al. 2018, arXiv:1712.05877; the choice of ranges by mean squared
// error: Banner et al. 2019, arXiv:1810.05723.)
//
// The promise: the same graph and the same samples in the same order give
// the same bits. Calibrate needs the memory of one sample's run, 16 KiB a
// value and 8 bytes a channel, however many samples there are.
//
// It does not train, and it does not change what a float operator computes.
// It reads no files and no pictures: the caller brings tensors.
package quant

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"dunlin/model"
)

// Options say what Apply makes, and how.
type Options struct {
	// To is the level of all nodes that Levels does not name. "" is "int8".
	To string

	// Levels are those of single nodes of the prepared graph, by name. An
	// operator without weights that no level names follows its neighbours.
	Levels map[string]Level

	// Range is how an activation's range is chosen from its histogram: "mse",
	// which is "", takes the one with the least mean squared error; "minmax"
	// takes all that was seen, which outliers make coarse; "percentile" cuts
	// as much as Percentile says.
	Range string

	// Percentile is how much of the values "percentile" keeps, in percent.
	// 0 is 99.99.
	Percentile float64

	// Float names nodes that stay in float.
	Float []string

	// PerTensor gives the weights of a layer one scale, as some other
	// runtimes' kernels need it, in place of one for each output channel. It
	// costs accuracy, most where the channels' ranges differ: Equalise first.
	// Weights of four bits keep theirs.
	PerTensor bool

	// Progress, where set, is called after each sample.
	Progress func(done, total int)

	// Rounding, where set, is what LearnRounding made of the same graph: layers
	// in int4 have these weights.
	Rounding *Rounding

	// Optimise, where set, lets LearnRounding learn the roundings of a layer
	// together. It is called for each layer with the number of its weights and
	// returns a step of an optimiser, such as Adam's with a rate of 0.05, that
	// changes values by their gradients. It makes LearnRounding take many times
	// as long.
	Optimise func(n int) func(values, gradients []float32)

	// Rest, where set, is called with weights of the graph that will not be read
	// for a while, so that a caller who has them in a mapped file can let their
	// pages go. They may be read again at any time.
	Rest func(t *model.Tensor)

	memo *memo // nil: nothing is kept
}

// Reasons for which a graph is refused, to be asked with errors.Is.
var (
	ErrQuantised = errors.New("the graph computes with integers already")
	ErrRange     = errors.New("the value is not a number, or not finite")
	ErrSamples   = errors.New("no samples to calibrate with")
)

// check fails on options that mean nothing.
func (o Options) check() error {
	if err := o.to().check(); err != nil {
		return fmt.Errorf("quantise: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Levels)) {
		if err := o.Levels[name].check(); err != nil {
			return fmt.Errorf("quantise: node %s: %w", name, err)
		}
	}
	switch o.Range {
	case "", "mse", "minmax", "percentile":
	default:
		return fmt.Errorf("range by %q: the ways are mse, minmax and percentile", o.Range)
	}
	if o.Percentile < 0 || o.Percentile > 100 {
		return fmt.Errorf("percentile %g is not between 0 and 100", o.Percentile)
	}
	return nil
}

// rest says of the constants that n reads that they are not read for a while.
func (o Options) rest(g *model.Graph, n *model.Node) {
	if o.Rest == nil {
		return
	}
	for _, in := range n.In {
		if t := g.Const(in); t != nil {
			o.Rest(t)
		}
	}
}

// checkNames fails where the options name nodes that g does not have.
func (o Options) checkNames(g *model.Graph) error {
	known := map[string]bool{}
	for _, n := range g.Nodes {
		known[n.Name] = true
	}
	for _, name := range append(slices.Sorted(maps.Keys(o.Levels)), o.Float...) {
		if !known[name] {
			return fmt.Errorf("no node %s to give a level to (batch normalisation and biases are part of the layers before them)", name)
		}
	}
	return nil
}

// Apply returns a smaller graph that computes what g computes, and a report
// of each layer; it does not change g. r is what Calibrate returned for g; it
// may be nil where no level is an integer one. Layers that cannot be made as
// small as asked stay in float, and the report says why.
func Apply(g *model.Graph, r *Ranges, o Options) (*model.Graph, *Report, error) {
	if err := o.check(); err != nil {
		return nil, nil, err
	}
	before := g.StoredBytes()
	p, err := prepare(g)
	if err != nil {
		return nil, nil, err
	}
	return apply(p, r, o, before)
}

// apply is Apply for a prepared graph; before is the size of what it was.
func apply(g *model.Graph, r *Ranges, o Options, before int64) (*model.Graph, *Report, error) {
	if err := o.checkNames(g); err != nil {
		return nil, nil, fmt.Errorf("quantise %s: %w", g.Name, err)
	}
	if r == nil {
		r = &Ranges{}
	}
	if r.Samples == 0 && o.integer(g) {
		return nil, nil, fmt.Errorf("quantise %s: %w", g.Name, ErrSamples)
	}
	q, rep, err := write(g, r, o)
	if err != nil {
		return nil, nil, fmt.Errorf("quantise %s: %w", g.Name, err)
	}
	q.Prune()
	if err := q.Check(); err != nil {
		return nil, nil, fmt.Errorf("quantise: %w", err)
	}
	rep.total(before, q.StoredBytes())
	return q, rep, nil
}

// Prepare returns the float graph that Apply quantises, node by node: batch
// normalisation and biases are in the weights. It fails with ErrQuantised.
func Prepare(g *model.Graph) (*model.Graph, error) { return prepare(g) }

// prepare returns the float graph whose values Calibrate observes and Apply
// quantises: batch normalisation and biases are in the weights.
func prepare(g *model.Graph) (*model.Graph, error) {
	for _, n := range g.Nodes {
		switch n.Op {
		case "QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger":
			return nil, fmt.Errorf("quantise %s: node %s (%s): %w", g.Name, n.Name, n.Op, ErrQuantised)
		}
	}
	g = foldBias(FoldBatchNorm(foldReshapes(g)))
	g.Prune()
	return g, nil
}
