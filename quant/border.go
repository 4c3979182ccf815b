package quant

import (
	"slices"

	"dunlin/model"
)

// borderBytes bounds what is kept of all samples at a border.
const borderBytes = 4 << 20

// piece is a part of a float graph with the same part of the lowered one. They
// have one input each, the same value, where they are the second of two.
type piece struct {
	float, small *model.Graph
	to           string // the value that the next one begins with, "" for the last
}

// pieces parts g, and q that was made of it, at one value that all later ones
// come from, so that the weights on either side are as few as can be: n samples
// may then run through the first pieces before the second ones are compiled. It
// returns both whole where there is no such value of which n fit into
// borderBytes, in both graphs.
func pieces(g, q *model.Graph, n int, o Options) ([]piece, error) {
	whole := []piece{{g, q, ""}}
	before, also := borders(g), borders(q)
	if before == nil || slices.ContainsFunc(g.Inputs, func(name string) bool { return !g.Value(name).Shape.Known() }) {
		return whole, nil
	}
	shapes, err := shapesOf(g, o)
	if err != nil {
		return nil, err
	}
	total := floatBytes(g, g.Nodes)
	best, value := total, ""
	for _, node := range g.Nodes {
		b, ok := before[node.Out[0]]
		if _, both := also[node.Out[0]]; !ok || !both {
			continue
		}
		elements, err := shapes[node.Out[0]].Elements()
		if most := max(b.bytes, total-b.bytes); err == nil && elements > 0 && 2*4*n*elements <= borderBytes && most < best {
			best, value = most, node.Out[0]
		}
	}
	if value == "" {
		return whole, nil
	}
	shape := shapes[value]
	return []piece{
		{firstPiece(g, before[value].at, value), firstPiece(q, also[value].at, value), value},
		{secondPiece(g, before[value].at, value, shape), secondPiece(q, also[value].at, value, shape), ""},
	}, nil
}

// border is where a graph can be parted.
type border struct {
	at    int   // how many nodes are before it
	bytes int64 // float constants that these read
}

// borders returns those of g, by the one value that the nodes behind need; nil
// where a node holds a graph, which may read any value.
func borders(g *model.Graph) map[string]border {
	last := map[string]int{} // reader
	for i, n := range g.Nodes {
		for _, a := range n.Attrs {
			if _, ok := a.(*model.Graph); ok {
				return nil
			}
		}
		for _, in := range n.In {
			last[in] = i
		}
	}
	for _, out := range g.Outputs {
		last[out] = len(g.Nodes)
	}
	live, all := map[string]bool{}, map[string]border{}
	for _, in := range g.Inputs {
		live[in] = true
	}
	bytes := int64(0)
	for i, n := range g.Nodes {
		bytes += floatBytes(g, g.Nodes[i:i+1])
		for _, out := range n.Out {
			if out != "" && last[out] > i {
				live[out] = true
			}
		}
		for _, in := range n.In {
			if last[in] == i {
				delete(live, in)
			}
		}
		if len(live) == 1 && i+1 < len(g.Nodes) && live[n.Out[0]] {
			all[n.Out[0]] = border{i + 1, bytes}
		}
	}
	return all
}

// floatBytes sums the float constants that nodes of g read.
func floatBytes(g *model.Graph, nodes []*model.Node) int64 {
	sum := int64(0)
	for _, n := range nodes {
		for _, in := range n.In {
			if t := g.Const(in); t != nil && t.Type == model.F32 {
				sum += int64(len(t.Data))
			}
		}
	}
	return sum
}

// firstPiece returns the first nodes of g, which make value.
func firstPiece(g *model.Graph, nodes int, value string) *model.Graph {
	c := g.Clone()
	c.Nodes, c.Outputs = c.Nodes[:nodes:nodes], []string{value}
	c.Prune()
	return c
}

// secondPiece returns the nodes of g behind the first ones, with value for an
// input.
func secondPiece(g *model.Graph, nodes int, value string, shape model.Shape) *model.Graph {
	c := g.Clone()
	c.Nodes, c.Inputs = slices.Clone(c.Nodes[nodes:]), []string{value}
	c.Values[value] = &model.Value{Type: model.F32, Shape: shape}
	c.Prune()
	return c
}
