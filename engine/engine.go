// Package engine compiles a model.Graph into a Program for the CPU at hand,
// and runs it. Only a Program runs; there is no other interpreter.
//
//	graph -> passes (each: Graph in, Graph out, checked after) -> lowering
//	      (a kernel for each node, weights packed) -> plan (one arena) -> Program
//	Program -> Session (owns one arena) -> Run
//
// Start with Compile, Program.NewSession and Session.Run; with Runner where
// input shapes change from call to call. Shapes are inferred from those of the
// inputs, whatever the exporter wrote beside a value, and all arithmetic on
// shapes is done at compile time. Where a shape depends on what a value is, or
// an If on a computed condition, the rest of the graph is compiled when a run
// knows it (stage.go).
//
// The promise: a graph with integers in it (a QuantizeLinear node) gives the
// same bits on every CPU, integer and float operators alike. A second Run of
// a session allocates nothing, as long as it decides as an earlier one did.
// What is wrong with a graph is an error of Check or Compile, all unsupported
// nodes in one; Run fails only on what depends on the data, such as an index
// out of range.
//
// A Session runs on its caller's goroutine, which other threads help with the
// steps that take long enough (parts.go). All sessions share those threads: a
// second one that runs at the same time is on its own.
//
// The package reads no file but /proc/meminfo, knows no foreign format, and
// learns nothing about inputs beyond their shape.
package engine

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"dunlin/kernels"
	"dunlin/model"
)

// Options say how to compile. The zero value compiles for this CPU.
type Options struct {
	// Threads that a Run may use, no more than Go runs at once. 0: as many as
	// pay, which is one where a run takes less than half a millisecond. A run
	// takes less time on more threads, and more CPU time; outputs are the same
	// bits.
	Threads int

	// Shapes gives the lengths of inputs that have Unknown axes, by input
	// name. A given shape must agree with the axes that the graph knows.
	Shapes map[string]model.Shape

	// Values gives inputs whose content is known before the run, by input
	// name. The program is then for these values alone, and has no such
	// inputs: shapes may depend on them.
	Values map[string]*model.Tensor

	// Symbolic1 makes 1 of each Unknown axis that Shapes leaves over. Without
	// it such an axis is an error.
	Symbolic1 bool

	// MaxMemory bounds the bytes of the arena, the packed weights and folded
	// constants together; 0: half of the machine's memory.
	MaxMemory int64

	// RequireInt8 makes a float fallback an error, a *FloatError: a graph
	// without integers, and a step that multiplies, or stands between
	// integers, in float.
	RequireInt8 bool

	// Kernels limits the tiers, as DUNLIN_KERNELS does: "" is the best for
	// this CPU, "generic" the definition.
	Kernels string

	// Observe, where set, is called in each Run with every float value that
	// the graph names, inputs among them, in the order in which they are
	// made. The graph is then compiled without fusion, so that each value
	// exists, in the layout that the graph gives it. t is valid during the
	// call only.
	Observe func(value string, t *model.Tensor)

	// Trace, where set, is called in each Run with every value that a step
	// makes, and before with the inputs, in the order of the run. The program
	// is the one that runs without it. v is valid during the call only.
	Trace func(v *Traced)

	// Packed, where set, is called during Compile with each constant that a
	// kernel has packed into a form of its own, and that neither Compile nor the
	// program reads again. A caller whose constants lie in a mapped file can let
	// their pages go, so that the weights are not in memory twice. Those that a
	// pass made come too.
	Packed func(t *model.Tensor)

	// Dump, where set, receives the graph as text before the first pass and
	// after each one that changed it.
	Dump io.Writer

	inner bool // the graph is a part of one: inputs may be empty
	parts int  // cut every step that can be cut into so many parts, whatever it costs: for tests
}

// Compile returns a program for g, which it does not change. It fails with
// an *UnsupportedError that lists every node which it cannot run, with a
// *model.Error where g is not sound, and with ErrMemory where it would need
// more than o.MaxMemory.
func Compile(g *model.Graph, o Options) (*Program, error) {
	target, err := kernels.Host(o.Kernels)
	if err != nil {
		return nil, fmt.Errorf("compile %s: %w", g.Name, err)
	}
	if err := g.Check(); err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	if err := Check(g); err != nil {
		return nil, err
	}
	limit := o.MaxMemory
	if limit <= 0 {
		limit = machineMemory() / 2
	}
	target.Exact = quantised(g)
	if o.RequireInt8 && !target.Exact {
		return nil, &FloatError{Graph: g.Name}
	}
	c := &compiler{options: o, target: target, budget: &budget{limit: limit}}
	if o.Observe != nil || o.Trace != nil {
		c.observed = map[string]bool{}
		for _, name := range g.Inputs {
			c.observed[name] = true
		}
		for name := range g.Producers() {
			c.observed[name] = true
		}
	}
	p, err := c.program(g)
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	return p, nil
}

// program compiles g, or its first stage where shapes depend on values.
func (c *compiler) program(g *model.Graph) (*Program, error) {
	g, err := bindInputs(g, c.options)
	if err != nil {
		return nil, err
	}
	c.halves = c.halves || holdsHalves(g)
	capture(g)
	g.Prune()
	g, waiting, err := c.settle(g)
	if err != nil {
		return nil, err
	}
	if len(waiting) > 0 {
		return c.staged(g, waiting)
	}
	if g, err = c.passes(g); err != nil {
		return nil, err
	}
	return c.lower(g)
}

// compiler is what the passes and the lowering share.
type compiler struct {
	options Options
	target  kernels.Target
	budget  *budget
	halves  bool // the graph has constants in binary16: see half_weights.go

	observed map[string]bool // names of the graph, for Options.Observe and Trace
}

// quantised reports whether the graph computes with integers, and so must
// give the same bits on every CPU.
func quantised(g *model.Graph) bool {
	for _, n := range g.Nodes {
		switch n.Op {
		case "QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "MatMulInteger", "ConvInteger":
			return true
		case "DequantizeLinear":
			if g.Const(n.Input(0)) == nil { // integers come in: this is the end of a graph that was cut
				return true
			}
		}
		if strings.HasPrefix(n.Op, "com.microsoft.QLinear") || slices.ContainsFunc(subgraphs(n), quantised) {
			return true
		}
	}
	return false
}
