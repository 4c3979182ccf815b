package quant

import (
	"fmt"
	"slices"
	"strings"

	"dunlin/model"
)

// plan says which values of a prepared float graph become int8, and with
// which steps.
//
// Layers with constant weights ask for int8 at their inputs, and at their
// outputs where an integer operator may read what is made of them: the scores
// that a network ends in stay float. An activation behind a layer (Relu,
// Clip) belongs to it: the value between the two stays, and the activation's
// output is quantised. Sums, averages and
// Concat follow where a neighbour is int8 anyway. Moves of data (Reshape,
// MaxPool, ...) share the steps of their input, and so do the values that a
// Concat joins, where their ranges are alike. All else stays float.
type plan struct {
	g      *model.Graph
	ranges *Ranges
	o      Options

	made   map[string]*model.Node
	reads  map[string][]*model.Node
	nodes  map[*model.Node]*decision
	parent map[string]string // of values that share steps, union-find
	asked  map[string]bool   // by a class's first value: some int8 operator reads or makes it
}

// decision is what becomes of a node.
type decision struct {
	layer *layer // nil for nodes without weights
	int8  bool
	why   string // not empty where it stays float
	out   string // the value to quantise: the activation's where there is one
}

// moves are the operators that choose or move elements and compute nothing;
// the first input's steps serve the output.
var moves = []string{"MaxPool", "GlobalMaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Gather", "Identity"}

// followers are operators without weights that have an integer form.
var followers = []string{"Add", "AveragePool", "GlobalAveragePool", "Concat"}

// layers are the operators with weights that have an integer form.
var layers = []string{"Conv", "Gemm", "MatMul"}

// alike is how many times wider than another the range of a value may be for
// a Concat of both to share steps: two bits are lost at most.
const alike = 4

func newPlan(g *model.Graph, r *Ranges, o Options) *plan {
	p := &plan{
		g: g, ranges: r, o: o, made: g.Producers(), reads: g.Consumers(),
		nodes: map[*model.Node]*decision{}, parent: map[string]string{}, asked: map[string]bool{},
	}
	for _, n := range g.Nodes {
		if slices.Contains(moves, n.Op) && !o.keptFloat(n) && n.Input(0) != "" && g.Const(n.In[0]) == nil {
			p.join(n.In[0], n.Out[0])
		}
	}
	for _, n := range g.Nodes {
		p.nodes[n] = p.decide(n)
		o.rest(g, n)
	}
	for again := true; again; {
		again = false
		for _, n := range g.Nodes {
			again = p.follow(n) || again
		}
	}
	return p
}

// decide makes the decision for n as far as n alone tells.
func (p *plan) decide(n *model.Node) *decision {
	d := &decision{out: p.activated(n)}
	switch {
	case p.o.level(n) == FP16:
	case p.o.level(n) == Float32:
		d.why = "kept in float as asked"
	case slices.Contains(layers, n.Op):
		l, why := whyNot(p.g, n)
		if l == nil {
			d.why = why
		} else if !l.finite() {
			d.why = "a weight is not finite"
		} else if why := p.unseen(n.In[0], d.out); why != "" {
			d.why = why
		} else {
			l.perTensor = p.o.PerTensor && p.o.level(n) != Int4 // which has a scale for each group
			d.layer, d.int8 = l, true
			p.ask(n.In[0])
			if n.Int("group", 1) != 1 || p.feeds(d.out, map[string]bool{}) {
				p.ask(d.out)
			}
		}
	case slices.Contains(followers, n.Op):
		d.why = "nothing beside it is int8"
	case slices.Contains(moves, n.Op):
		d.why = "its input is float"
	default:
		d.why = n.Op + " is computed in float"
	}
	return d
}

// follow makes n int8 where it follows a value that is; it reports whether
// anything changed.
func (p *plan) follow(n *model.Node) bool {
	d := p.nodes[n]
	switch {
	case d.int8 || p.o.keptFloat(n):
	case slices.Contains(moves, n.Op):
		if !p.wanted(n.Out[0]) || p.g.Const(n.In[0]) != nil {
			return false
		}
		d.int8, d.why = true, ""
		return true
	case slices.Contains(followers, n.Op) && p.o.level(n).integer():
		return p.followInputs(n, d)
	}
	return false
}

func (p *plan) followInputs(n *model.Node, d *decision) bool {
	if !p.wanted(d.out) && !slices.ContainsFunc(n.In, p.wanted) {
		return false
	}
	for _, in := range n.In {
		if p.g.Const(in) != nil {
			d.why = "one of its inputs is a constant"
			return false
		}
	}
	if why := p.unseen(append([]string{d.out}, n.In...)...); why != "" {
		d.why = why
		return false
	}
	if n.Op == "Concat" {
		if !p.alike(n.In) {
			d.why = fmt.Sprintf("the ranges of its inputs differ by more than %d times", alike)
			return false
		}
		d.out = n.Out[0]
		for _, in := range n.In {
			p.join(in, d.out)
		}
	}
	d.int8, d.why = true, ""
	p.ask(append([]string{d.out}, n.In...)...)
	return true
}

// alike reports whether the widths of the values' ranges are within a factor
// of each other.
func (p *plan) alike(values []string) bool {
	least, most := 0.0, 0.0
	for i, v := range values {
		lo, hi := p.histogram(v).choose(p.o)
		if w := hi - lo; i == 0 {
			least, most = w, w
		} else {
			least, most = min(least, w), max(most, w)
		}
	}
	return most <= alike*least
}

// feeds reports whether an integer operator may read v, or what operators
// between make of it: then v is better int8 itself, for engine has integer
// forms of most of those. A convolution in groups has no other form, whoever
// reads it. seen holds the values that were asked about.
func (p *plan) feeds(v string, seen map[string]bool) bool {
	if seen[v] {
		return false
	}
	seen[v] = true
	if readInside(p.g, v) {
		return true
	}
	for _, n := range p.reads[v] {
		if slices.Contains(layers, n.Op) || slices.Contains(followers, n.Op) {
			if p.o.level(n).integer() {
				return true
			}
			continue
		}
		if p.o.keptFloat(n) {
			continue
		}
		for _, out := range n.Out {
			if out != "" && p.feeds(out, seen) {
				return true
			}
		}
	}
	return false
}

// unseen returns why one of the values cannot be quantised: nothing is known
// of its range.
func (p *plan) unseen(values ...string) string {
	for _, v := range values {
		if p.histogram(v) == nil {
			return fmt.Sprintf("calibration did not see %s", v)
		}
	}
	return ""
}

// activated returns the value that n makes, behind the Relu or Clip that is
// its only reader.
func (p *plan) activated(n *model.Node) string {
	if len(n.Out) == 0 {
		return ""
	}
	out := n.Out[0]
	if len(p.reads[out]) != 1 || slices.Contains(p.g.Outputs, out) || readInside(p.g, out) {
		return out
	}
	if a := p.reads[out][0]; p.activation(a) && !p.o.keptFloat(a) {
		return a.Out[0]
	}
	return out
}

// activation reports whether n is a Relu, or a Clip between constants.
func (p *plan) activation(n *model.Node) bool {
	switch n.Op {
	case "Relu":
		return true
	case "Clip":
		for i := 1; i < len(n.In); i++ {
			if n.In[i] != "" && p.g.Const(n.In[i]) == nil {
				return false
			}
		}
		return true
	}
	return false
}

// root returns the value that stands for all that share steps with v.
func (p *plan) root(v string) string {
	for p.parent[v] != "" {
		v = p.parent[v]
	}
	return v
}

// join makes a and b share steps. The one that comes first in the graph
// stands for both.
func (p *plan) join(a, b string) {
	a, b = p.root(a), p.root(b)
	if a == b {
		return
	}
	p.parent[b] = a
	p.asked[a] = p.asked[a] || p.asked[b]
}

func (p *plan) ask(values ...string) {
	for _, v := range values {
		p.asked[p.root(v)] = true
	}
}

// wanted reports whether v becomes int8.
func (p *plan) wanted(v string) bool { return p.asked[p.root(v)] }

// source reports whether v's elements come from outside its class: no move
// and no int8 Concat makes it.
func (p *plan) source(v string) bool {
	n := p.made[v]
	if n == nil {
		return true
	}
	d := p.nodes[n]
	if n.Op == "Concat" {
		return d == nil || !d.int8
	}
	return !slices.Contains(moves, n.Op) || p.root(n.In[0]) != p.root(v)
}

// histogram returns what calibration saw of v, or of the value that moves of
// data made it from; nil where it saw nothing.
func (p *plan) histogram(v string) *Histogram {
	for !p.source(v) {
		if p.made[v].Op == "Concat" {
			break
		}
		v = p.made[v].In[0]
	}
	return p.ranges.values[v]
}

// grids returns the steps of each class that becomes int8, by its root.
func (p *plan) grids() map[string]Grid {
	members := map[string][]string{}
	for _, v := range p.values() {
		if p.wanted(v) && p.source(v) && p.ranges.values[v] != nil {
			members[p.root(v)] = append(members[p.root(v)], v)
		}
	}
	grids := map[string]Grid{}
	for root, values := range members {
		grids[root] = p.grid(values)
	}
	return grids
}

// grid returns the steps that values share.
func (p *plan) grid(values []string) Grid {
	key := strings.Join(values, "\x00")
	g, known := p.o.memo.grids[key]
	if !known {
		h := &Histogram{}
		for _, v := range values {
			h.merge(p.ranges.values[v])
		}
		g = grid(h.choose(p.o))
		p.o.memo.grids[key] = g
	}
	return g
}

// values returns the inputs of the graph and what its nodes make, in order.
func (p *plan) values() []string {
	list := slices.Clone(p.g.Inputs)
	for _, n := range p.g.Nodes {
		for _, o := range n.Out {
			if o != "" {
				list = append(list, o)
			}
		}
	}
	return list
}
