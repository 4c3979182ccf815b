package quant

import (
	"fmt"
	"slices"

	"dunlin/model"
)

// Level is how the weights of one layer are stored, and in what it computes.
type Level string

// The levels, from the one that loses nothing to the smallest.
const (
	Float32 Level = "float32" // as it was
	FP16    Level = "fp16"    // float16 weights; it computes in float32
	Int8    Level = "int8"    // int8 weights; it computes with int8 activations
	Int4    Level = "int4"    // weights of four bits in groups, int8 where they are computed: see int4.go
)

// levels are all that there are, in order.
var levels = []Level{Float32, FP16, Int8, Int4}

// check fails on a level that does not exist.
func (l Level) check() error {
	if !slices.Contains(levels, l) {
		return fmt.Errorf("%q is no level: there are %v", string(l), levels)
	}
	return nil
}

// integer reports whether a layer of that level computes with integers.
func (l Level) integer() bool { return l != Float32 && l != FP16 }

// named returns the level that the options give a node by its name.
func (o Options) named(n *model.Node) (Level, bool) {
	if slices.Contains(o.Float, n.Name) {
		return Float32, true
	}
	l, ok := o.Levels[n.Name]
	return l, ok
}

// level returns the level of a node: its own, or that of all.
func (o Options) level(n *model.Node) Level {
	if l, ok := o.named(n); ok {
		return l
	}
	return o.to()
}

// to returns the level of nodes that are not named.
func (o Options) to() Level {
	if o.To == "" {
		return Int8
	}
	return Level(o.To)
}

// keptFloat reports whether the options name n to be computed in float.
func (o Options) keptFloat(n *model.Node) bool {
	l, ok := o.named(n)
	return ok && !l.integer()
}

// integer reports whether any node of g is asked to be computed with
// integers.
func (o Options) integer(g *model.Graph) bool {
	return slices.ContainsFunc(g.Nodes, func(n *model.Node) bool { return o.level(n).integer() })
}
