package tflite

import (
	"fmt"

	"dunlin/model"
)

// attrs are the attributes of a node.
type attrs = map[string]model.Attr

// What a node, a value and a constant cost, with their share of the maps and
// of the lists that grow; names are counted beside it.
const (
	nodeBytes  = 1400
	valueBytes = 300
)

// take charges n bytes to the budget and reports whether they are there.
func (l *lowering) take(n int64) bool {
	if l.err == nil && !l.r.take(n) {
		l.err = l.r.err
	}
	return l.err == nil
}

// fresh returns base, or base with a number, so that no other value has the
// name.
func (l *lowering) fresh(base string) string { return l.unused(base, l.names) }

func (l *lowering) unused(base string, names map[string]bool) string {
	if !l.take(valueBytes + 4*int64(len(base))) {
		return ""
	}
	name := base
	for names[name] {
		if !l.take(2*int64(len(base)) + 64) {
			return ""
		}
		l.counts[base]++
		name = fmt.Sprintf("%s_%d", base, l.counts[base])
	}
	names[name] = true
	return name
}

// emit adds a node with one output and returns the output's name. The first
// node that computes is named after the operator, the others after their own
// one too.
func (l *lowering) emit(op string, a attrs, in ...string) string {
	if out := l.emitAll(op, a, 1, in...); out != nil {
		return out[0]
	}
	return ""
}

// emitAll adds a node with n outputs.
func (l *lowering) emitAll(op string, a attrs, n int, in ...string) []string {
	if !l.take(nodeBytes + 64*int64(n+len(in))) {
		return nil
	}
	base := fmt.Sprintf("%s_%d", l.now.name, l.now.index)
	name := l.unused(base+"/"+op, l.nodeNames)
	node := &model.Node{Op: op, Name: name, In: in, Attrs: a}
	for range n {
		node.Out = append(node.Out, l.fresh(name))
	}
	if l.err != nil {
		return nil
	}
	l.g.Nodes = append(l.g.Nodes, node)
	return node.Out
}

// addConst makes t a constant of the graph.
func (l *lowering) addConst(name string, t *model.Tensor) string {
	name = l.fresh(name)
	if l.err == nil {
		l.g.AddConst(name, t)
	}
	return name
}

// ints returns the name of a constant list of integers.
func (l *lowering) ints(v ...int) string {
	if !l.take(256 + 16*int64(len(v))) {
		return ""
	}
	list := make([]int64, len(v))
	for i, x := range v {
		list[i] = int64(x)
	}
	return l.addConst(l.now.name+"/axes", model.Of(model.I64, list, len(list)))
}

// int64s returns v as an attribute.
func int64s(v ...int) []int64 {
	list := make([]int64, len(v))
	for i, x := range v {
		list[i] = int64(x)
	}
	return list
}

// number returns the name of a single float constant.
func (l *lowering) number(v float32) string {
	if !l.take(256) {
		return ""
	}
	return l.addConst(l.now.name+"/number", model.Of(model.F32, []float32{v}))
}

// onnxType returns the number that TensorProto has for a type: attributes
// hold it.
func onnxType(t model.DType) int64 {
	switch t {
	case model.F32:
		return 1
	case model.U8:
		return 2
	case model.I8:
		return 3
	case model.U16:
		return 4
	case model.I16:
		return 5
	case model.I32:
		return 6
	case model.I64:
		return 7
	case model.Bool:
		return 9
	case model.F16:
		return 10
	case model.F64:
		return 11
	case model.U32:
		return 12
	case model.U64:
		return 13
	case model.BF16:
		return 16
	}
	return 0
}

// cast returns x in another type.
func (l *lowering) cast(x string, to model.DType) string {
	return l.emit("Cast", attrs{"to": onnxType(to)}, x)
}

// activate puts a fused activation behind x.
func (l *lowering) activate(x string, fused int8) string {
	switch fused {
	case 0:
		return x
	case 1:
		return l.emit("Relu", nil, x)
	case 2:
		return l.clip(x, -1, 1)
	case 3:
		return l.clip(x, 0, 6)
	case 4:
		return l.emit("Tanh", nil, x)
	}
	if l.err == nil {
		l.err = refuse("fused activation %d", fused)
	}
	return ""
}

func (l *lowering) clip(x string, lo, hi float32) string {
	return l.emit("Clip", nil, x, l.number(lo), l.number(hi))
}

// reshape returns x in another shape.
func (l *lowering) reshape(x string, shape ...int) string {
	return l.emit("Reshape", nil, x, l.ints(shape...))
}
