package tflite

import (
	"slices"

	"dunlin/model"
)

// layout is an order of a tensor's axes. Tensors of other than 4 axes have
// one order only, asFile.
//
// Each operator takes its inputs in the order that it needs: convolutions,
// pools and resizes in nchw; operators that move or name axes asFile, unless
// they can rename them; operators that see one element at a time, or can
// rename their axes, in the order in which their inputs are there. A
// Transpose is put only where a value is there in one order and wanted in the
// other, once a value.
type layout int

const (
	asFile layout = iota
	nchw
)

var (
	toNCHW = []int64{0, 3, 1, 2}
	toFile = []int64{0, 2, 3, 1}
)

// axis returns where axis a of a value of that rank stands in order lay.
func (lay layout) axis(a, rank int) int {
	if lay == nchw && rank == 4 {
		return int(toFile[a])
	}
	return a
}

// value is what one tensor of the file has become so far. A tensor that is
// the same as another, but for its name, shares the value.
type value struct {
	shape model.Shape   // in the file's order; lengths can be Unknown
	quant *quantisation // nil where the tensor is not quantised
	kind  model.DType   // of whole
	raw   *model.Tensor // a constant's elements, in the file's order
	forms map[string]string

	// Names in the graph, "" where there is none: plain is the float value,
	// or whatever other type a tensor without scales has; whole is the
	// integer value of a quantised tensor, in the one order in which it was
	// made.
	plain, whole [2]string

	padded   *padding  // it is another tensor with zeros around it
	batched  *batching // it is another tensor cut into batches
	positive bool      // an integer that is never negative
}

// there reports whether v can be had in that order without a Transpose.
func (v *value) there(lay layout) bool {
	return v.raw != nil || v.plain[lay] != "" || v.whole[lay] != ""
}

// value returns what tensor i is. After an error its shape is what it was
// before: what has looked at it once may go on with that.
func (l *lowering) value(i int) *value {
	if i < 0 {
		if l.err == nil {
			l.err = l.now.bad("an input is left out")
		}
		return &value{shape: model.Shape{}}
	}
	if v := l.values[i]; v != nil {
		return v
	}
	x := &l.f.tensors[i]
	switch {
	case l.err != nil:
	case x.dtype() == 0:
		l.err = refuse("%s is of type %s", l.part(i), x.kindName())
	case x.sparse:
		l.err = refuse("%s is sparse", l.part(i))
	case x.variable && len(l.f.buffers[x.buffer]) == 0:
		l.err = refuse("%s is state that is kept between runs", l.part(i))
	default:
		v := &value{shape: x.shape, quant: x.quant}
		if v.raw, l.err = l.constant(i, x); l.err == nil {
			l.values[i] = v
			return v
		}
	}
	return &value{shape: x.shape}
}

// shape returns the shape of tensor i in the file's order.
func (l *lowering) shape(i int) model.Shape { return l.value(i).shape }

// plain returns the name of tensor i as floats, or in its own type where it
// is not quantised, in that order of axes.
func (l *lowering) plain(i int, lay layout) string {
	v := l.value(i)
	if l.err != nil {
		return ""
	}
	if len(v.shape) != 4 {
		lay = asFile
	}
	switch other := 1 - lay; {
	case v.plain[lay] != "":
	case v.raw != nil && lay == nchw:
		v.plain[lay] = l.constantForm(i, v, 0, toNCHW)
	case v.raw != nil:
		v.plain[lay] = l.constantForm(i, v, 0, nil)
	case v.whole[lay] != "":
		v.plain[lay] = l.dequantize(v.whole[lay], v.quant, v.kind, 0)
	case v.there(other):
		perm := toFile
		if lay == nchw {
			perm = toNCHW
		}
		v.plain[lay] = l.emit("Transpose", attrs{"perm": perm}, l.plain(i, other))
	}
	return v.plain[lay]
}

// follow returns the order in which an operator over these tensors, which
// can run in both, makes least work.
func (l *lowering) follow(tensors ...int) layout {
	lay := asFile
	for _, i := range tensors {
		if v := l.value(i); len(v.shape) == 4 && !v.there(asFile) && v.there(nchw) {
			lay = nchw
		}
	}
	return lay
}

// define says that tensor i, of that shape in the file's order, is the value
// of that name, in order lay. Where the tensor is quantised, a QuantizeLinear
// follows.
func (l *lowering) define(i int, name string, lay layout, shape model.Shape) *value {
	if len(shape) != 4 {
		lay = asFile
	}
	v := &value{shape: shape, quant: l.activation(i), kind: l.f.tensors[i].dtype()}
	l.values[i] = v
	if l.err != nil {
		return v
	}
	if v.quant != nil {
		if len(v.quant.scale) != 1 {
			l.err = refuse("%s has a scale for each place along an axis", l.part(i))
			return v
		}
		v.whole[lay] = l.rename(l.quantize(name, v.quant, v.kind), i, lay)
	} else {
		v.plain[lay] = l.rename(name, i, lay)
	}
	return v
}

// alias says that tensor i is the same value as tensor of.
func (l *lowering) alias(i, of int) { l.values[i] = l.value(of) }

// rename gives a value that the operator in work has just made the name of
// the tensor that it is.
func (l *lowering) rename(name string, i int, lay layout) string {
	made := l.g.Nodes[l.now.start:]
	if !slices.ContainsFunc(made, func(n *model.Node) bool { return slices.Contains(n.Out, name) }) {
		return name
	}
	to := ""
	if at := slices.Index(l.f.outputs, i); at >= 0 && lay == asFile {
		to = l.exits[at]
	} else if lay == asFile {
		to = l.fresh(l.f.tensors[i].name)
	} else {
		to = l.fresh(l.f.tensors[i].name + "/nchw")
	}
	for _, n := range made {
		for k, o := range n.Out {
			if o == name {
				n.Out[k] = to
			}
		}
		for k, o := range n.In {
			if o == name {
				n.In[k] = to
			}
		}
	}
	return to
}
