package quant

import (
	"slices"

	"dunlin/engine"
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
	v := model.Value{Type: model.F32, Shape: shapes[value]}
	float, small := &cut{value, v, before[value].at}, &cut{value, v, also[value].at}
	return []piece{
		{between(g, nil, float), between(q, nil, small), value},
		{between(g, float, nil), between(q, small, nil), ""},
	}, nil
}

// border is where a graph can be parted.
type border struct {
	at    int   // how many nodes are before it
	bytes int64 // of constants that these read, as floats
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

// floatBytes sums the constants that nodes of g read, as floats, which those in
// int8 are where a graph is observed.
func floatBytes(g *model.Graph, nodes []*model.Node) int64 {
	sum := int64(0)
	for _, n := range nodes {
		for _, in := range n.In {
			if t := g.Const(in); t != nil && (t.Type == model.F32 || t.Type == model.I8) {
				sum += 4 * int64(t.Elements())
			}
		}
	}
	return sum
}

// cut is a value at which a graph is parted: what it is, and how many nodes
// are before it.
type cut struct {
	value string
	model.Value
	at int
}

// between returns the nodes of g from one cut to another, nil for its begin and
// its end.
func between(g *model.Graph, from, to *cut) *model.Graph {
	c := g.Clone()
	if to != nil {
		c.Nodes, c.Outputs = c.Nodes[:to.at:to.at], []string{to.value}
	}
	if from != nil {
		c.Nodes, c.Inputs = slices.Clone(c.Nodes[from.at:]), []string{from.value}
		c.Values[from.value] = &model.Value{Type: from.Type, Shape: from.Shape}
	}
	c.Prune()
	return c
}

// partBytes is how many weights, in bytes as floats, a part of an int8 graph has
// at most where there are cuts so close.
const partBytes = 4 << 20

// parts parts g, an int8 graph, at values in int8 that all later ones come from,
// into parts of most bytes of weights as floats, or of one layer. Each begins
// with the value that the one before ends with. What n samples are there at two
// cuts fits into borderBytes. g whole is the only part where there are no such
// values. The parts compute what g computes, to the last bit: integers cross the
// cuts, and each part has such, so that it is compiled for exact results as g is.
func parts(g *model.Graph, n int, most int64) ([]*model.Graph, error) {
	all, total := borders(g), floatBytes(g, g.Nodes)
	if all == nil || total <= most || slices.ContainsFunc(g.Inputs, func(name string) bool { return !g.Value(name).Shape.Known() }) {
		return []*model.Graph{g}, nil
	}
	known, err := engine.Specialise(g, engine.Options{}) // for its shapes
	if err != nil {
		return nil, err
	}
	var list []*model.Graph
	var from, to *cut
	var before, upTo int64 // bytes up to these
	end := func(bytes int64) {
		if bytes-before > most && to != nil {
			list = append(list, between(g, from, to))
			from, before, to = to, upTo, nil
		}
	}
	for _, node := range g.Nodes {
		value := node.Out[0]
		b, ok := all[value]
		v := known.Value(value)
		if !ok || v.Type != model.I8 || !v.Shape.Known() {
			continue
		}
		if elements, err := v.Shape.Elements(); err != nil || 2*n*elements > borderBytes {
			continue
		}
		end(b.bytes)
		to, upTo = &cut{value, *v, b.at}, b.bytes
	}
	end(total)
	return append(list, between(g, from, nil)), nil
}
