package engine

import (
	"errors"
	"slices"

	"dunlin/model"
)

// lookUps makes a look-up of the product of a one-hot matrix and a constant
// table, as exporters from JAX write an embedding: (ids == 0, 1, 2, …) as
// float32, times the table. What is computed from such a row and constants
// alone, an element at a time, is computed for the table instead, where that
// has fewer rows, and where there is memory for it.
func lookUps(c *compiler, g *model.Graph) (*model.Graph, error) {
	l := &lookups{edit: editing(g), c: c, of: map[string]*lookup{}, rows: map[*model.Tensor]*model.Tensor{}, written: map[*model.Tensor]bool{}}
	used := c.budget.used
	for _, n := range l.Nodes {
		x := l.product(n)
		if x == nil {
			var err error
			if x, err = l.each(n); err != nil {
				return nil, err
			}
		}
		if x != nil {
			l.of[n.Out[0]] = x
			continue
		}
		for _, name := range n.In {
			l.write(name)
		}
		l.keep(n)
	}
	for _, name := range l.Outputs {
		l.write(name)
	}
	c.budget.used = used // only what is written stays
	for table := range l.written {
		c.budget.used += int64(len(table.Data))
	}
	return l.done(), nil
}

// lookup is a value made of rows of a table.
type lookup struct {
	node    *model.Node // that made it
	ids     string
	table   *model.Tensor // [N+1, K]; the last row is for ids out of range
	written bool
}

type lookups struct {
	*edit
	c       *compiler
	of      map[string]*lookup              // by value
	rows    map[*model.Tensor]*model.Tensor // of each table, what withZeros gives
	written map[*model.Tensor]bool          // tables that the graph has now
}

// write makes a value that is a look-up where a node reads it.
func (l *lookups) write(name string) {
	if x := l.of[name]; x != nil && !x.written {
		x.written, l.written[x.table] = true, true
		l.add("dunlin.LookUp", x.node, []string{x.ids, l.constant(name, "table", x.table)}, []string{name}, nil)
	}
}

// product returns the look-up that a MatMul comes to, nil where it is none.
func (l *lookups) product(n *model.Node) *lookup {
	if n.Op != "MatMul" {
		return nil
	}
	table, cast := l.Const(n.In[1]), l.made[n.In[0]]
	if table == nil || table.Type != model.F32 || len(table.Shape) != 2 || cast == nil || cast.Op != "Cast" || cast.Int("to", 0) != 1 {
		return nil
	}
	equal := l.made[cast.In[0]]
	if equal == nil || equal.Op != "Equal" {
		return nil
	}
	for i, name := range equal.In {
		ids := l.Value(equal.In[1-i])
		if ids.Const != nil || (ids.Type != model.I32 && ids.Type != model.I64) || !counts(l.Const(name), table.Shape[0]) {
			continue
		}
		if len(ids.Shape) != len(l.Value(n.In[0]).Shape) || ids.Shape[len(ids.Shape)-1] != 1 {
			continue
		}
		if rows := l.withZeros(table); rows != nil {
			return &lookup{node: n, ids: equal.In[1-i], table: rows}
		}
	}
	return nil
}

// counts reports whether t is the integers 0 to n-1 along its last axis.
func counts(t *model.Tensor, n int) bool {
	if t == nil || t.Elements() != n || n == 0 || t.Shape[len(t.Shape)-1] != n {
		return false
	}
	list, err := integers(t)
	if err != nil {
		return false
	}
	for i, v := range list {
		if v != int64(i) {
			return false
		}
	}
	return true
}

// withZeros returns the rows that products with one-hot rows give: those of
// the table, and one of zeros. A table with infinities or NaN, which zeros do
// not erase, gives nil, as does one that there is no memory for.
func (l *lookups) withZeros(table *model.Tensor) *model.Tensor {
	if made := l.rows[table]; made != nil {
		return made
	}
	rows, width := table.Shape[0], table.Shape[1]
	if !finite(table.F32()) || l.c.budget.take(4*int64(rows+1)*int64(width), "a table") != nil {
		return nil
	}
	list := make([]float32, (rows+1)*width)
	for i, v := range table.F32() {
		list[i] = v + 0 // a sum from 0 has no -0
	}
	l.rows[table] = model.Of(model.F32, list, rows+1, width)
	return l.rows[table]
}

// each returns the look-up of what n computes of look-ups by the same ids, nil
// where it computes something else.
func (l *lookups) each(n *model.Node) (*lookup, error) {
	of := slices.Contains(ofTwo, n.Op)
	if len(n.Out) != 1 || (!of && !slices.Contains(rowwise, n.Op)) || slices.Contains(l.Outputs, n.Out[0]) {
		return nil, nil
	}
	var first *lookup
	in := slices.Clone(n.In)
	for i, name := range n.In {
		x, t := l.of[name], l.Const(name)
		switch {
		case x != nil && (first == nil || first.ids == x.ids):
			first = x
			in[i] = l.constant(name, "rows", x.table)
		case t != nil && t.Elements() == 1 && (i > 0 || of):
		case t != nil && of && len(t.Shape) > 0 && t.Elements() == t.Shape[len(t.Shape)-1]:
			in[i] = l.constant(name, "row", model.Of(model.F32, t.F32(), t.Elements()))
		default:
			return nil, nil
		}
	}
	if first == nil || !l.fewer(first) || !l.Value(n.Out[0]).Shape.Equal(l.Value(first.node.Out[0]).Shape) {
		return nil, nil
	}
	copied := &model.Node{Op: n.Op, Name: n.Name, In: in, Out: n.Out, Attrs: n.Attrs}
	call, err := l.c.inferNode(l.Graph, copied)
	if err != nil || call.out[0].Type != model.F32 {
		return nil, nil
	}
	made, err := l.c.evaluate(call)
	if errors.Is(err, ErrMemory) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rows := made[0]
	return &lookup{node: n, ids: first.ids, table: model.Of(model.F32, rows.F32(), first.table.Shape...)}, nil
}

// fewer reports whether the table of x has fewer rows than it is asked for.
func (l *lookups) fewer(x *lookup) bool {
	asked, err := l.Value(x.ids).Shape.Elements()
	return err == nil && x.table.Shape[0] <= asked
}
