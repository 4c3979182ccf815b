package engine

import (
	"fmt"
	"maps"

	"dunlin/model"
)

// The operators of this file are those that carry the scales of their inputs
// and output along. Each stands for the float operator between
// DequantizeLinear and QuantizeLinear, and becomes that: what makes integer
// kernels of the one form then makes them of the other.

// expansion builds the nodes that n stands for.
type expansion struct {
	*edit
	n    *model.Node
	list []*model.Node
}

// node adds a node that makes a value of its own, and returns the value.
func (x *expansion) node(op string, attrs map[string]model.Attr, in ...string) string {
	out := x.value(x.n.Name, op)
	x.list = append(x.list, &model.Node{Op: op, Name: out, In: in, Out: []string{out}, Attrs: attrs})
	return out
}

// real returns input i as floats; scale and zero point are the inputs behind
// it.
func (x *expansion) real(i int, axis int64) string {
	in := []string{x.n.In[i], x.n.Input(i + 1)}
	if z := x.n.Input(i + 2); z != "" {
		in = append(in, z)
	}
	return x.node("DequantizeLinear", map[string]model.Attr{"axis": axis}, in...)
}

// result makes the node's output of a float value; scale and zero point are
// inputs i and i+1.
func (x *expansion) result(value string, i int) []*model.Node {
	in := []string{value, x.n.Input(i)}
	if z := x.n.Input(i + 1); z != "" {
		in = append(in, z)
	}
	x.list = append(x.list, &model.Node{Op: "QuantizeLinear", Name: x.n.Name, In: in, Out: x.n.Out[:1]})
	return x.list
}

func expanding(e *edit, n *model.Node) *expansion { return &expansion{edit: e, n: n} }

// expandQLinearConv: x, its scale and zero point, w, its own, y's, bias.
func expandQLinearConv(e *edit, n *model.Node) ([]*model.Node, error) {
	x := expanding(e, n)
	in := []string{x.real(0, 1), x.real(3, 0)}
	if bias := n.Input(8); bias != "" {
		unit := x.node("Mul", nil, n.In[1], n.In[4])
		in = append(in, x.node("DequantizeLinear", map[string]model.Attr{"axis": int64(0)}, bias, unit))
	}
	return x.result(x.node("Conv", maps.Clone(n.Attrs), in...), 6), nil
}

// expandQLinearMatMul: a, b and y, each with scale and zero point. Scales of
// a run along its rows, those of b along its columns.
func expandQLinearMatMul(e *edit, n *model.Node) ([]*model.Node, error) {
	x := expanding(e, n)
	return x.result(x.node("MatMul", nil, x.real(0, -2), x.real(3, -1)), 6), nil
}

// expandQGemm: a and b with scales and zero points, c in units of both, and
// y's scale, without which the result is float.
func expandQGemm(e *edit, n *model.Node) ([]*model.Node, error) {
	x := expanding(e, n)
	axis := int64(1)
	if n.Int("transB", 0) != 0 {
		axis = 0
	}
	in := []string{x.real(0, 1), x.real(3, axis)}
	if bias := n.Input(6); bias != "" {
		unit := x.node("Mul", nil, n.In[1], n.In[4])
		in = append(in, x.node("DequantizeLinear", map[string]model.Attr{"axis": int64(-1)}, bias, unit))
	}
	y := x.node("Gemm", maps.Clone(n.Attrs), in...)
	if n.Input(7) != "" {
		return x.result(y, 7), nil
	}
	x.list[len(x.list)-1].Out = n.Out[:1]
	return x.list, nil
}

// expandQLinearBinary: a, b and y, each with scale and zero point.
func expandQLinearBinary(op string) func(*edit, *model.Node) ([]*model.Node, error) {
	return func(e *edit, n *model.Node) ([]*model.Node, error) {
		x := expanding(e, n)
		return x.result(x.node(op, nil, x.real(0, 1), x.real(3, 1)), 6), nil
	}
}

// expandQLinearUnary: x and y, each with scale and zero point.
func expandQLinearUnary(op string) func(*edit, *model.Node) ([]*model.Node, error) {
	return func(e *edit, n *model.Node) ([]*model.Node, error) {
		x := expanding(e, n)
		attrs := maps.Clone(n.Attrs)
		last := n.Int("channels_last", 0) != 0
		delete(attrs, "channels_last")
		delete(attrs, "opset")
		value := x.real(0, 1)
		if op == "Softmax" && n.Int("opset", 13) < 13 {
			return nil, notYet("the form that Softmax had before opset 13")
		}
		if op == "ReduceMean" {
			return x.reduceMean(value, attrs), nil
		}
		if !last {
			return x.result(x.node(op, attrs, value), 3), nil
		}
		rank := len(e.Value(n.In[0]).Shape)
		if !spatialRank(e.Value(n.In[0]).Shape) {
			return nil, fmt.Errorf("channels last in %v", e.Value(n.In[0]).Shape)
		}
		value = x.node(op, attrs, x.node("Transpose", map[string]model.Attr{"perm": toSecond(rank)}, value))
		return x.result(x.node("Transpose", map[string]model.Attr{"perm": toLast(rank)}, value), 3), nil
	}
}

// reduceMean gives the axes, an attribute in that domain, as the input that
// the canonical form has.
func (x *expansion) reduceMean(value string, attrs map[string]model.Attr) []*model.Node {
	in := []string{value}
	if axes, ok := attrs["axes"].([]int64); ok {
		in = append(in, x.constant(x.n.Name, "axes", model.Of(model.I64, axes, len(axes))))
		delete(attrs, "axes")
	}
	return x.result(x.node("ReduceMean", attrs, in...), 3)
}

// expandQLinearConcat: y's scale and zero point, then each part with its own.
func expandQLinearConcat(e *edit, n *model.Node) ([]*model.Node, error) {
	if len(n.In) < 5 || (len(n.In)-2)%3 != 0 {
		return nil, fmt.Errorf("%d inputs", len(n.In))
	}
	x := expanding(e, n)
	var parts []string
	for i := 2; i < len(n.In); i += 3 {
		parts = append(parts, x.real(i, 1))
	}
	return x.result(x.node("Concat", maps.Clone(n.Attrs), parts...), 0), nil
}

// expandDynamicMatMul: a in float, b, its scale, its zero point, a bias.
func expandDynamicMatMul(e *edit, n *model.Node) ([]*model.Node, error) {
	x := expanding(e, n)
	values, scale, zero := x.value(n.Name, "a"), x.value(n.Name, "scale"), x.value(n.Name, "zero")
	x.list = append(x.list, &model.Node{Op: "DynamicQuantizeLinear", Name: values, In: n.In[:1], Out: []string{values, scale, zero}})
	return x.product(values, n.In[1], scale, n.In[2], zero, n.Input(3), n.Input(4)), nil
}

// expandMatMulIntegerToFloat: a, b, their scales, their zero points, a bias.
func expandMatMulIntegerToFloat(e *edit, n *model.Node) ([]*model.Node, error) {
	x := expanding(e, n)
	return x.product(n.In[0], n.In[1], n.In[2], n.In[3], n.Input(4), n.Input(5), n.Input(6)), nil
}

func (x *expansion) product(a, b, scaleA, scaleB, zeroA, zeroB, bias string) []*model.Node {
	in := []string{a, b, zeroA, zeroB}
	if zeroB == "" {
		in = in[:3]
	}
	sums := x.node("Cast", map[string]model.Attr{"to": int64(1)}, x.node("MatMulInteger", nil, in...))
	y := x.node("Mul", nil, sums, x.node("Mul", nil, scaleA, scaleB))
	if bias != "" {
		x.node("Add", nil, y, bias)
	}
	x.list[len(x.list)-1].Out = x.n.Out[:1]
	return x.list
}
