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
	fresh int
}

func editing(g *model.Graph) *edit {
	c := g.Clone()
	return &edit{Graph: c, made: c.Producers(), read: c.Consumers()}
}

// done returns the graph with the nodes that were kept or added.
func (e *edit) done() *model.Graph {
	e.Nodes = e.nodes
	return e.Graph
}

// keep appends a node to the new list.
func (e *edit) keep(n *model.Node) { e.nodes = append(e.nodes, n) }

// add appends a new node, named after the one it comes from.
func (e *edit) add(op string, from *model.Node, in, out []string, attrs map[string]model.Attr) *model.Node {
	e.fresh++
	name := from.Name
	if e.taken(name) {
		name = from.Name + " " + internalMark + strconv.Itoa(e.fresh)
	}
	n := &model.Node{Op: op, Name: name, In: in, Out: out, Attrs: attrs}
	e.keep(n)
	return n
}

func (e *edit) taken(name string) bool {
	has := func(n *model.Node) bool { return n.Name == name }
	return slices.ContainsFunc(e.nodes, has) || slices.ContainsFunc(e.Nodes, has)
}

// internalMark stands in the names of values and nodes that passes make.
const internalMark = "~"

// value returns an unused value name made from that of another value.
func (e *edit) value(from, what string) string {
	for i := 0; ; i++ {
		name := from + internalMark + what
		if i > 0 {
			name += strconv.Itoa(i)
		}
		if e.Values[name] == nil {
			e.Values[name] = &model.Value{}
			return name
		}
	}
}

// constant adds a constant under a name made from that of another value.
func (e *edit) constant(from, what string, t *model.Tensor) string {
	name := e.value(from, what)
	e.AddConst(name, t)
	return name
}

// rename makes every reader of value from, the graph's outputs among them,
// read to.
func (e *edit) rename(from, to string) {
	for _, n := range e.Nodes {
		for i, name := range n.In {
			if name == from {
				n.In[i] = to
			}
		}
	}
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
