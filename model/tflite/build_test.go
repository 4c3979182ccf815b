package tflite

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"

	"dunlin/model"
)

// tab is a flatbuffer table by hand: field numbers and their values, each an
// int8, int32, uint64, float32, string, []byte, []int32, []int64, []float32,
// tab or []tab.
type tab map[int]any

// flat writes tables one behind the other, so that all distances lead
// forward.
type flat struct{ b []byte }

func (f *flat) u16(v int) { f.b = binary.LittleEndian.AppendUint16(f.b, uint16(v)) }
func (f *flat) u32(v int) { f.b = binary.LittleEndian.AppendUint32(f.b, uint32(v)) }

// align pads so that what comes next, skip bytes on, stands at a multiple of
// n.
func (f *flat) align(n, skip int) {
	for (len(f.b)+skip)%n != 0 {
		f.b = append(f.b, 0)
	}
}

// point writes where the value at the end of the file is to the distance at.
func (f *flat) point(at int) { binary.LittleEndian.PutUint32(f.b[at:], uint32(len(f.b)-at)) }

func (f *flat) table(t tab, at int) {
	keys := slices.Sorted(maps.Keys(t))
	fields := 0
	if len(keys) > 0 {
		fields = keys[len(keys)-1] + 1
	}
	f.align(2, 0)
	vt := len(f.b)
	f.u16(4 + 2*fields)
	f.b = append(f.b, make([]byte, 2+2*fields)...)
	f.align(8, 4)
	if at >= 0 {
		f.point(at)
	}
	pos := len(f.b)
	f.u32(pos - vt)
	refs := map[int]int{}
	for _, k := range keys {
		size := 4
		switch t[k].(type) {
		case int8:
			size = 1
		case uint64:
			size = 8
		}
		f.align(size, 0)
		binary.LittleEndian.PutUint16(f.b[vt+4+2*k:], uint16(len(f.b)-pos))
		switch v := t[k].(type) {
		case int8:
			f.b = append(f.b, byte(v))
		case int32:
			f.u32(int(v))
		case float32:
			f.u32(int(math.Float32bits(v)))
		case uint64:
			f.b = binary.LittleEndian.AppendUint64(f.b, v)
		default:
			refs[k] = len(f.b)
			f.u32(0)
		}
	}
	binary.LittleEndian.PutUint16(f.b[vt+2:], uint16(len(f.b)-pos))
	for _, k := range keys {
		if at, ok := refs[k]; ok {
			f.value(t[k], at)
		}
	}
}

// value writes what is no number, to which the distance at leads.
func (f *flat) value(v any, at int) {
	if t, ok := v.(tab); ok {
		f.table(t, at)
		return
	}
	align := 16 // as schema.fbs asks for buffers
	f.align(align, 4)
	f.point(at)
	switch v := v.(type) {
	case string:
		f.u32(len(v))
		f.b = append(append(f.b, v...), 0)
	case []byte:
		f.u32(len(v))
		f.b = append(f.b, v...)
	case []int32:
		f.u32(len(v))
		for _, x := range v {
			f.u32(int(x))
		}
	case []float32:
		f.u32(len(v))
		for _, x := range v {
			f.u32(int(math.Float32bits(x)))
		}
	case []int64:
		f.u32(len(v))
		for _, x := range v {
			f.b = binary.LittleEndian.AppendUint64(f.b, uint64(x))
		}
	case []tab:
		f.u32(len(v))
		first := len(f.b)
		f.b = append(f.b, make([]byte, 4*len(v))...)
		for i, t := range v {
			f.table(t, first+4*i)
		}
	}
}

// flatbuffer returns the file whose root is t.
func flatbuffer(t tab) []byte {
	f := &flat{}
	f.u32(0)
	f.b = append(f.b, "TFL3"...)
	f.table(t, 0)
	return f.b
}

// net is a small model by hand.
type net struct {
	tensors, buffers, codes, ops []tab
	in, out                      []int32
}

func newNet() *net { return &net{buffers: []tab{{}}} }

// tensor adds one and returns its number.
func (n *net) tensor(name string, t model.DType, shape ...int32) int32 {
	kind := int8(slices.Index(kinds[:], t))
	n.tensors = append(n.tensors, tab{0: shape, 1: kind, 2: int32(0), 3: name})
	return int32(len(n.tensors) - 1)
}

// input adds a float tensor that is an input.
func (n *net) input(name string, shape ...int32) int32 {
	i := n.tensor(name, model.F32, shape...)
	n.in = append(n.in, i)
	return i
}

// constant adds a tensor that stands in a buffer.
func (n *net) constant(name string, t *model.Tensor) int32 {
	shape := make([]int32, len(t.Shape))
	for i, d := range t.Shape {
		shape[i] = int32(d)
	}
	i := n.tensor(name, t.Type, shape...)
	n.buffers = append(n.buffers, tab{0: t.Data})
	n.tensors[i][2] = int32(len(n.buffers) - 1)
	return i
}

func (n *net) floats(name string, v []float32, shape ...int) int32 {
	return n.constant(name, model.Of(model.F32, v, shape...))
}

func (n *net) list(name string, v ...int32) int32 {
	return n.constant(name, model.Of(model.I32, v, len(v)))
}

// quantise gives tensor i scales, with one zero point for all.
func (n *net) quantise(i int32, zero int64, axis int32, scales ...float32) int32 {
	n.tensors[i][4] = tab{2: scales, 3: slices.Repeat([]int64{zero}, len(scales)), 6: axis}
	return i
}

// op adds an operator of that name, with that table of options, and returns
// its first output: a new tensor unless out names some.
func (n *net) op(name string, options tab, in []int32, out ...int32) int32 {
	if out == nil {
		out = []int32{n.tensor(name+"_out", model.F32)}
	}
	code, builtin := tab{1: name, 3: int32(builtinCustom)}, slices.Index(builtinNames[:], name)
	if builtin >= 0 {
		code = tab{0: int8(min(builtin, 127)), 3: int32(builtin)}
	}
	n.codes = append(n.codes, code)
	o := tab{0: int32(len(n.codes) - 1), 1: in, 2: out}
	if options != nil {
		o[3], o[4] = forms[name].union, options
	}
	n.ops = append(n.ops, o)
	return out[0]
}

// bytes returns the file. Without outputs, that of the last operator is one.
func (n *net) bytes() []byte {
	if n.out == nil {
		n.out = n.ops[len(n.ops)-1][2].([]int32)
	}
	return flatbuffer(tab{
		0: int32(schemaVersion), 1: n.codes, 4: n.buffers,
		2: []tab{{0: n.tensors, 1: n.in, 2: n.out, 3: n.ops, 4: "main"}},
	})
}
