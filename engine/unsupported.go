package engine

import (
	"fmt"
	"strings"

	"dunlin/model"
)

// Unsupported is a node that engine cannot run, and why.
type Unsupported struct{ Node, Op, Why string }

// UnsupportedError lists every node of a graph that cannot run.
type UnsupportedError struct {
	Graph string
	Nodes []Unsupported
}

func (e *UnsupportedError) Error() string {
	var b strings.Builder
	plural := "s"
	if len(e.Nodes) == 1 {
		plural = ""
	}
	fmt.Fprintf(&b, "graph %s: %d unsupported node%s", e.Graph, len(e.Nodes), plural)
	for i, n := range e.Nodes {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		fmt.Fprintf(&b, "%s%s (%s): %s", sep, n.Node, n.Op, n.Why)
	}
	return b.String()
}

// Check looks at every node before any work is done, and returns an
// *UnsupportedError with all those whose operator or attributes engine does
// not have. Compile can still refuse a node for what only shapes and
// constants tell; it lists all of those too.
func Check(g *model.Graph) error {
	e := &UnsupportedError{Graph: g.Name}
	e.add(g)
	if e.Nodes != nil {
		return e
	}
	return nil
}

// add looks at the nodes of g and of the graphs in them.
func (e *UnsupportedError) add(g *model.Graph) {
	for _, n := range g.Nodes {
		if why := unsupported(n); why != "" {
			e.Nodes = append(e.Nodes, Unsupported{Node: n.Name, Op: n.Op, Why: why})
		}
		for _, sub := range subgraphs(n) {
			e.add(sub)
		}
	}
}

// ownDomain begins the names of operators that passes make.
const ownDomain = "dunlin."

func unsupported(n *model.Node) string {
	op, ok := operators[n.Op]
	if !ok || strings.HasPrefix(n.Op, ownDomain) {
		return "no such operator"
	}
	if len(n.In) < op.minIn || len(n.Out) < 1 || (n.Out[0] == "" && !op.anyOut) {
		return fmt.Sprintf("%d inputs and %d outputs are too few", len(n.In), len(n.Out))
	}
	for i, name := range n.In {
		if i < op.minIn && name == "" {
			return fmt.Sprintf("input %d is left out", i)
		}
	}
	for i, o := range n.Out {
		if o != "" && i >= max(op.outs, 1) {
			return fmt.Sprintf("output %s is not supported", o)
		}
	}
	if op.check != nil {
		return op.check(n)
	}
	return ""
}

// notYet is an error that makes a node unsupported, found out only when its
// shapes and constants are known.
type notYet string

func (e notYet) Error() string { return string(e) }
