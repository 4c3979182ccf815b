package engine

import (
	"fmt"
	"maps"
	"slices"

	"dunlin/model"
)

// blockElements is how many elements of each value dunlin.Rows has at a time:
// a handful of such blocks of float32 fit the first cache.
const blockElements = 2048

// rows is a dunlin.Rows in the making. Its operators are ordinary kernels of
// tensors of two axes, a block of rows, which lie in scratch. What comes from
// outside is copied there and what goes outside is copied from there
// (op_rows_run.go): against what operators do with a block that costs little,
// and kernels are bound once, not for each block.
type rows struct {
	*call
	body    *model.Graph
	shape   model.Shape // of the values: all axes
	segment int         // rows that differ in their last number only: no block goes beyond
	block   int         // rows of a block, but for the last of a segment
}

func rowsOf(c *call) (*rows, error) {
	r := &rows{call: c}
	r.body, _ = c.node.Attrs[bodyAttr].(*model.Graph)
	if r.body == nil || len(r.body.Inputs) != len(c.in) || len(r.body.Outputs) != len(c.out) {
		return nil, fmt.Errorf("its operators do not fit its inputs and outputs")
	}
	r.body = r.body.Clone()
	for i, name := range r.body.Inputs {
		r.body.Values[name] = c.in[i]
	}
	return r, nil
}

// inferRows infers the operators one after the other.
func inferRows(c *call) error {
	r, err := rowsOf(c)
	if err != nil {
		return err
	}
	if err := (&compiler{target: c.target}).infer(r.body); err != nil {
		return err
	}
	for i, name := range r.body.Outputs {
		v := r.body.Value(name)
		c.out[i].Type, c.out[i].Shape = v.Type, v.Shape
	}
	return nil
}

// measure finds the shape that all values broadcast to, and the blocks.
func (r *rows) measure() error {
	if err := (&compiler{target: r.target}).infer(r.body); err != nil {
		return err
	}
	for _, n := range r.body.Nodes {
		s := r.body.Value(n.Out[0]).Shape
		if slices.Contains(rowReductions, n.Op) {
			s = r.body.Value(n.In[0]).Shape
		}
		if r.shape == nil || s[len(s)-1] > r.shape[len(s)-1] {
			r.shape = s
		}
	}
	last := len(r.shape) - 1
	all, err := r.shape[:last].Elements()
	if err != nil {
		return err
	}
	r.segment = all
	for _, n := range r.body.Nodes {
		for _, name := range n.In[:operands(n)] {
			if !r.plain(r.body.Value(name).Shape) {
				r.segment = r.shape[last-1]
			}
		}
	}
	r.block = min(r.segment, max(1, blockElements/r.shape[last]))
	return nil
}

// perSegment is how many blocks a segment has.
func (r *rows) perSegment() int { return (r.segment + r.block - 1) / r.block }

// operands is how many of a node's inputs have rows; what follows are scales,
// bounds and axes.
func operands(n *model.Node) int {
	if slices.Contains(rowPairs, n.Op) {
		return min(2, len(n.In)) // Max and Min may have one alone
	}
	return 1
}

// plain reports whether a value has a row for each of the shape's, or one for
// all of them.
func (r *rows) plain(s model.Shape) bool {
	last := len(r.shape) - 1
	if len(s) == last+1 && s[:last].Equal(r.shape[:last]) {
		return true
	}
	n, err := s[:max(0, len(s)-1)].Elements()
	return err == nil && n == 1
}

// window is what a block sees of a value: so many rows and columns, 1 where
// they repeat, from a place that the strides of all axes tell.
type window struct{ strides, shape model.Shape }

// windowOf returns that of a value of shape s for blocks of n rows.
func (r *rows) windowOf(s model.Shape, n int) window {
	last := len(r.shape) - 1
	w := window{strides: make(model.Shape, last+1), shape: model.Shape{1, 1}}
	step := 1
	for i := len(s) - 1; i >= 0; i-- {
		at := i + last + 1 - len(s)
		if s[i] > 1 {
			w.strides[at] = step
			switch {
			case at == last:
				w.shape[1] = s[i]
			case at == last-1, r.segment != r.shape[last-1]:
				w.shape[0] = n
			}
		}
		step *= s[i]
	}
	return w
}

// from returns the first element that the block from a row on sees.
func (w window) from(shape model.Shape, row int) int {
	at := 0
	for i := len(shape) - 2; i >= 0; i-- {
		at += row % shape[i] * w.strides[i]
		row /= shape[i]
	}
	return at
}

// moves reports whether blocks see different elements.
func (w window) moves() bool {
	return slices.ContainsFunc(w.strides[:len(w.strides)-1], func(s int) bool { return s > 0 })
}

func (w window) elements() int { return w.shape[0] * w.shape[1] }

// rowStep is an operator on blocks of one number of rows.
type rowStep struct {
	node    *model.Node
	kernel  *kernel
	in      []string
	out     string
	windows []window // of the operands, which come first among in
	result  window
}

// steps lowers the operators for blocks of n rows.
func (r *rows) steps(n int) ([]rowStep, error) {
	var list []rowStep
	for _, node := range r.body.Nodes {
		s := rowStep{node: node, in: node.In, out: node.Out[0], result: r.windowOf(r.body.Value(node.Out[0]).Shape, n)}
		a := &call{node: onRows(node), in: make([]*model.Value, len(node.In)), out: []*model.Value{{}}, target: r.target}
		for i, name := range node.In {
			switch {
			case name == "":
			case i < operands(node):
				w := r.windowOf(r.body.Value(name).Shape, n)
				s.windows = append(s.windows, w)
				a.in[i] = w.value(r.body.Value(name))
			case slices.Contains(rowReductions, node.Op):
				a.in[i] = &model.Value{Type: model.I64, Shape: model.Shape{1}, Const: model.Of(model.I64, []int64{-1}, 1)}
			default:
				a.in[i] = r.body.Value(name)
			}
		}
		op := operators[node.Op]
		if err := a.infer(op); err != nil {
			return nil, nodeError(r.body, node, err)
		}
		var err error
		if s.kernel, err = a.kernel(); err != nil {
			return nil, nodeError(r.body, node, err)
		}
		if s.kernel.alias {
			s.kernel = copyKernel(s.kernel)
		}
		list = append(list, s)
	}
	return list, nil
}

// value returns v as a block sees it. A constant that all blocks see alike
// stays one.
func (w window) value(v *model.Value) *model.Value {
	seen := &model.Value{Type: v.Type, Shape: w.shape}
	if v.Const != nil && v.Const.Elements() == w.shape[0]*w.shape[1] {
		t := *v.Const
		t.Shape = w.shape
		seen.Const = &t
	}
	return seen
}

// onRows returns a node whose operand has become rows of two axes: the axis is
// the last, by default, or that of a scale for the whole tensor.
func onRows(n *model.Node) *model.Node {
	c := *n
	c.Attrs = maps.Clone(n.Attrs)
	delete(c.Attrs, "axis")
	return &c
}
