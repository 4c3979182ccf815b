package engine

import (
	"slices"
	"strconv"

	"dunlin/model"
)

// edit is a graph that a pass is rewriting: a copy of the one it was given,
// with the node list built anew.
type edit struct {
	*model.Graph
	made  map[string]*model.Node   // producers, of the graph as it was
	read  map[string][]*model.Node // consumers, likewise
	nodes []*model.Node

	moved map[string][]*model.Node // consumers that rename gave a value
	names map[string]bool          // of nodes, once a new one needs a name
	tried map[string]int           // numbers that were given to names made up so
}

func editing(g *model.Graph) *edit {
	c := g.Clone()
	return &edit{Graph: c, made: c.Producers(), read: c.Consumers(), moved: map[string][]*model.Node{}, tried: map[string]int{}}
}

// done returns the graph with the nodes that were kept or added.
func (e *edit) done() *model.Graph {
	e.Nodes = e.nodes
	return e.Graph
}

// keep appends a node to the new list.
func (e *edit) keep(n *model.Node) {
	e.nodes = append(e.nodes, n)
	if e.names != nil {
		e.names[n.Name] = true
	}
}

// add appends a new node, named after the one it comes from.
func (e *edit) add(op string, from *model.Node, in, out []string, attrs map[string]model.Attr) *model.Node {
	n := &model.Node{Op: op, Name: e.unused(from.Name), In: in, Out: out, Attrs: attrs}
	e.keep(n)
	return n
}

// unused returns a name that no node has: from, or from with a number.
func (e *edit) unused(from string) string {
	if e.names == nil {
		e.names = map[string]bool{}
		for _, n := range slices.Concat(e.Nodes, e.nodes) {
			e.names[n.Name] = true
		}
	}
	stem, name := from+" "+internalMark, from
	for e.names[name] {
		e.tried[stem]++
		name = stem + strconv.Itoa(e.tried[stem])
	}
	return name
}

// internalMark stands in the names of values and nodes that passes make.
const internalMark = "~"

// value returns an unused value name made from that of another value.
func (e *edit) value(from, what string) string {
	stem := from + internalMark + what
	name := stem
	for e.Values[name] != nil {
		e.tried[stem]++
		name = stem + strconv.Itoa(e.tried[stem])
	}
	e.Values[name] = &model.Value{}
	return name
}

// constant adds a constant under a name made from that of another value.
func (e *edit) constant(from, what string, t *model.Tensor) string {
	name := e.value(from, what)
	e.AddConst(name, t)
	return name
}

// rename makes every reader of value from in the graph as it was, and the
// graph's outputs, read to.
func (e *edit) rename(from, to string) {
	readers := slices.Concat(e.read[from], e.moved[from])
	for _, n := range readers {
		for i, name := range n.In {
			if name == from {
				n.In[i] = to
			}
		}
	}
	delete(e.moved, from)
	e.moved[to] = append(e.moved[to], readers...)
	for i, name := range e.Outputs {
		if name == from {
			e.Outputs[i] = to
		}
	}
}

// only returns the one node that reads value, nil where there are several,
// none, or where it is an output of the graph.
func (e *edit) only(value string) *model.Node {
	if list := e.read[value]; len(list) == 1 && !slices.Contains(e.Outputs, value) {
		return list[0]
	}
	return nil
}
