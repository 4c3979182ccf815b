package engine

import (
	"slices"

	"dunlin/model"
)

// fuseRows makes one dunlin.Rows of operators that follow each other and need
// no more than a row (the last axis) of what comes before:
//
//	DequantizeLinear -> Add -> Add -> LayerNormalization -> QuantizeLinear
//
// It runs them block by block of rows, so that what passes between them stays
// in the first cache, and computes what they compute, bit for bit. Values that
// others read are outputs of it; there may be several.
func fuseRows(_ *compiler, g *model.Graph) (*model.Graph, error) {
	f := &rowFusion{edit: editing(g), part: map[*model.Node]*rowGroup{}, at: map[*model.Node]int{}}
	for i, n := range f.Nodes {
		f.at[n] = i
		f.cuts = append(f.cuts, i)
		f.place(n)
	}
	written := map[*model.Node]bool{}
	for _, n := range f.Nodes {
		f.write(n, written)
	}
	return f.done(), nil
}

// rowGroup is operators that become one. Values that they pass on have the
// shape, or the shape with 1 as its last axis.
type rowGroup struct {
	shape model.Shape
	nodes []*model.Node
}

type rowFusion struct {
	*edit
	part map[*model.Node]*rowGroup
	at   map[*model.Node]int // the place of each node in the graph

	// cuts are the places, in order, that no group has nodes on both sides
	// of: whatever comes before one needs nothing that is behind it.
	cuts []int
}

// rowwise are the operators of one input that see one element at a time.
var rowwise = []string{
	"Relu", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Exp", "Log", "Sqrt", "Reciprocal", "Erf", "Gelu", "Neg", "Abs",
	"Elu", "Selu", "Softplus", "Mish", "Clip", "Cast",
}

// rowPairs are those of two inputs.
var rowPairs = []string{"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"}

// rowReductions are those that make one value of a row.
var rowReductions = []string{"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare"}

// rowShape returns the shape whose rows n works on, nil where it needs more
// than a row.
func (f *rowFusion) rowShape(n *model.Node) model.Shape {
	if len(n.Out) != 1 {
		return nil
	}
	in, out := f.Value(n.In[0]), f.Value(n.Out[0])
	if n.Op == "QuantizeLinear" || n.Op == "DequantizeLinear" {
		if _, ok := perTensor(f.Graph, n); !ok {
			return nil
		}
	} else if out.Type != model.F32 || (in.Type != model.F32 && (n.Op != "Cast" || in.Type != model.I32)) {
		return nil
	}
	last := len(in.Shape) - 1
	switch {
	case last < 0 || slices.Contains(out.Shape, 0) || f.scattered(n, out.Shape):
		return nil
	case n.Op == "Softmax" || n.Op == "LayerNormalization":
		if axis, err := axisOf(n.Int("axis", -1), last+1); err != nil || axis != last {
			return nil
		}
		return in.Shape
	case slices.Contains(rowReductions, n.Op):
		narrow := slices.Clone(in.Shape)
		if narrow[last] = 1; !narrow.Equal(out.Shape) || in.Shape[last] == 1 || !f.reducesLast(n, last) {
			return nil
		}
		return in.Shape
	case slices.Contains(rowwise, n.Op), slices.Contains(rowPairs, n.Op) && len(n.In) == 2, n.Op == "QuantizeLinear", n.Op == "DequantizeLinear":
		return out.Shape
	}
	return nil
}

// fewest is how many elements a block must hold to be worth its calls.
const fewest = 256

// scattered reports whether an operand of n repeats along so many axes that
// blocks would be small.
func (f *rowFusion) scattered(n *model.Node, shape model.Shape) bool {
	last := len(shape) - 1
	if last < 1 || shape[last-1]*shape[last] >= fewest {
		return false
	}
	for _, name := range n.In[:operands(n)] {
		if !(&rows{shape: shape}).plain(f.Value(name).Shape) {
			return true
		}
	}
	return false
}

// reducesLast reports whether a reduction is over the last axis alone.
func (f *rowFusion) reducesLast(n *model.Node, last int) bool {
	t := f.Const(n.Input(1))
	if t == nil {
		return false
	}
	axes, err := integers(t)
	return err == nil && len(axes) == 1 && (axes[0] == int64(last) || axes[0] == -1)
}

// place puts n into the group of the last of its inputs that has one, or into
// one of its own.
func (f *rowFusion) place(n *model.Node) {
	shape := f.rowShape(n)
	if shape == nil {
		return
	}
	for _, name := range slices.Backward(n.In) {
		g := f.part[f.made[name]]
		if g != nil && f.fits(n, shape, g) {
			g.nodes = append(g.nodes, n)
			f.part[n] = g
			for first := f.at[g.nodes[0]]; f.cuts[len(f.cuts)-1] > first; {
				f.cuts = f.cuts[:len(f.cuts)-1]
			}
			return
		}
	}
	f.part[n] = &rowGroup{shape: shape, nodes: []*model.Node{n}}
}

// fits reports whether n, which works on rows of that shape, may join g: what
// it reads from outside must neither come from g nor have more rows. Scales,
// biases and bounds are read from outside, since each block needs all of them.
func (f *rowFusion) fits(n *model.Node, shape model.Shape, g *rowGroup) bool {
	narrow := slices.Clone(g.shape)
	narrow[len(narrow)-1] = 1
	if !shape.Equal(g.shape) && !shape.Equal(narrow) {
		return false
	}
	search := f.search(g)
	for i, name := range n.In {
		m := f.made[name]
		if m == nil || (f.part[m] == g && i < operands(n)) {
			continue
		}
		if f.part[m] == g || search.reaches(m) {
			return false
		}
	}
	return true
}

// rowSearch looks for nodes that come after a group.
type rowSearch struct {
	*rowFusion
	group *rowGroup
	cut   int // what stands before this place does not
	seen  map[*model.Node]bool
}

// maxSearch is how many nodes a search looks at. Real models need some tens.
const maxSearch = 1 << 10

func (f *rowFusion) search(g *rowGroup) *rowSearch {
	i, found := slices.BinarySearch(f.cuts, f.at[g.nodes[0]])
	if !found {
		i-- // 0 is always a cut
	}
	return &rowSearch{f, g, f.cuts[i], map[*model.Node]bool{}}
}

// reaches reports whether n, or the group that it is in, comes after the
// group of the search, or may: a search that takes too long ends so.
func (s *rowSearch) reaches(n *model.Node) bool {
	if s.at[n] < s.cut {
		return false
	}
	own, nodes := s.part[n], []*model.Node{n}
	if own != nil {
		nodes = own.nodes
	}
	for _, m := range nodes {
		if s.seen[m] {
			continue
		}
		if s.seen[m] = true; len(s.seen) > maxSearch {
			return true
		}
		for _, name := range m.In {
			from := s.made[name]
			if from == nil || (own != nil && s.part[from] == own) {
				continue
			}
			if s.part[from] == s.group || s.reaches(from) {
				return true
			}
		}
	}
	return false
}

// write keeps n, or its group, behind all that it reads.
func (f *rowFusion) write(n *model.Node, written map[*model.Node]bool) {
	if written[n] {
		return
	}
	nodes := []*model.Node{n}
	g := f.part[n]
	if g != nil {
		nodes = g.nodes
	}
	for _, m := range nodes {
		written[m] = true
	}
	for _, m := range nodes {
		for _, name := range m.In {
			if from := f.made[name]; from != nil {
				f.write(from, written)
			}
		}
	}
	if len(nodes) == 1 {
		f.keep(n)
		return
	}
	f.keep(f.fused(g))
}

// bodyAttr holds the operators of a dunlin.Rows: a graph that has its inputs
// and outputs, by their names.
const bodyAttr = "body"

// fused returns the node that takes the place of a group.
func (f *rowFusion) fused(g *rowGroup) *model.Node {
	last := g.nodes[len(g.nodes)-1]
	body := model.New(last.Name)
	n := &model.Node{Op: "dunlin.Rows", Name: last.Name, Attrs: map[string]model.Attr{bodyAttr: body}}
	for _, m := range g.nodes {
		if why := m.Str(whyFloat, ""); why != "" && n.Attrs[whyFloat] == nil {
			n.Attrs[whyFloat] = why
		}
		body.Nodes = append(body.Nodes, m)
		for _, name := range m.In {
			if name == "" || body.Values[name] != nil {
				continue
			}
			body.Values[name] = f.Value(name)
			if f.Const(name) == nil && f.part[f.made[name]] != g {
				n.In = append(n.In, name)
			}
		}
		out := m.Out[0]
		body.Values[out] = f.Value(out)
		read := func(r *model.Node) bool { return f.part[r] != g }
		if slices.Contains(f.Outputs, out) || slices.ContainsFunc(f.read[out], read) {
			n.Out = append(n.Out, out)
		}
	}
	body.Inputs, body.Outputs = slices.Clone(n.In), slices.Clone(n.Out)
	return n
}
