package engine

import (
	"maps"
	"slices"

	"dunlin/model"
)

// movesOnly are operators that commute with DequantizeLinear, one scale for
// the tensor: they choose or move elements and compute nothing.
var movesOnly = []string{"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "MaxPool", "Slice", "Gather", "Identity"}

// sinkDequantize moves each DequantizeLinear behind the moves of data that
// read it: DequantizeLinear -> Reshape becomes Reshape -> DequantizeLinear,
// so that bytes are moved instead of floats, and an integer operator further
// down finds it at its input. A Concat of values that all have one scale is
// such a move too.
func sinkDequantize(_ *compiler, g *model.Graph) (*model.Graph, error) {
	e := editing(g)
	for _, n := range e.Nodes {
		var from *model.Node
		switch {
		case slices.Contains(movesOnly, n.Op):
			from = e.dequantizes(n.In[0])
		case n.Op == "Concat":
			from = e.sameScale(n)
		}
		if from == nil {
			e.keep(n)
			continue
		}
		out := n.Out[0]
		moved := &model.Node{Op: n.Op, Name: n.Name, In: slices.Clone(n.In), Out: []string{e.value(out, "int8")}, Attrs: n.Attrs}
		moved.In[0] = from.In[0]
		if n.Op == "Concat" {
			for i, name := range n.In {
				moved.In[i] = e.made[name].In[0]
			}
		}
		e.keep(moved)
		in := slices.Clone(from.In)
		in[0] = moved.Out[0]
		e.made[out] = e.add("DequantizeLinear", from, in, []string{out}, maps.Clone(from.Attrs))
	}
	return e.done(), nil
}

// dequantizes returns the node that makes value, where that is a
// DequantizeLinear of an int8 activation with one scale.
func (e *edit) dequantizes(value string) *model.Node {
	n := e.made[value]
	if n == nil || n.Op != "DequantizeLinear" || e.Const(n.In[0]) != nil {
		return nil
	}
	if _, ok := perTensor(e.Graph, n); !ok {
		return nil
	}
	return n
}

// sameScale returns the DequantizeLinear of n's first input, where all inputs
// have one, and all with the same scale and zero point.
func (e *edit) sameScale(n *model.Node) *model.Node {
	var first *model.Node
	var scale quantisation
	for i, name := range n.In {
		d := e.dequantizes(name)
		if d == nil {
			return nil
		}
		q, _ := perTensor(e.Graph, d)
		if i == 0 {
			first, scale = d, q
		} else if q != scale {
			return nil
		}
	}
	return first
}

// quantisation is a scale and a zero point.
type quantisation struct {
	scale float32
	zero  int32
}

// perTensor returns what a QuantizeLinear or DequantizeLinear node says,
// where it is one constant scale and one constant int8 or uint8 zero point.
func perTensor(g *model.Graph, n *model.Node) (quantisation, bool) {
	scale, zero := g.Const(n.Input(1)), g.Const(n.Input(2))
	if scale == nil || scale.Type != model.F32 || scale.Elements() != 1 || (n.Input(2) != "" && zero == nil) {
		return quantisation{}, false
	}
	q := quantisation{scale: scale.F32()[0]}
	if !(q.scale > 0) {
		return q, false
	}
	if zero != nil {
		if zero.Elements() != 1 {
			return q, false
		}
		values, err := integers(zero)
		if err != nil {
			return q, false
		}
		q.zero = int32(values[0])
	}
	return q, true
}
