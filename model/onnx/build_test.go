package onnx

import (
	"encoding/binary"
	"math"
)

// msg is a protobuf message being built, for files that no exporter here
// writes. The numbers are those of onnx.proto.
type msg []byte

func (m msg) key(num, wire int) msg { return binary.AppendUvarint(m, uint64(num<<3|wire)) }

func (m msg) int(num int, v int64) msg {
	return binary.AppendUvarint(m.key(num, wireVarint), uint64(v))
}

func (m msg) bytes(num int, v []byte) msg {
	return append(binary.AppendUvarint(m.key(num, wireBytes), uint64(len(v))), v...)
}

func (m msg) str(num int, v string) msg { return m.bytes(num, []byte(v)) }

func (m msg) float(num int, v float32) msg {
	return binary.LittleEndian.AppendUint32(m.key(num, wire32), math.Float32bits(v))
}

// packed appends repeated integers as one field.
func (m msg) packed(num int, v ...int64) msg {
	var b []byte
	for _, x := range v {
		b = binary.AppendUvarint(b, uint64(x))
	}
	return m.bytes(num, b)
}

// floats appends repeated floats as one field.
func (m msg) floats(num int, v ...float32) msg {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return m.bytes(num, b)
}

// op makes a NodeProto; attrs are AttributeProtos.
func op(name string, in, out []string, attrs ...msg) msg {
	var m msg
	for _, s := range in {
		m = m.str(1, s)
	}
	for _, s := range out {
		m = m.str(2, s)
	}
	m = m.str(4, name)
	for _, a := range attrs {
		m = m.bytes(5, a)
	}
	return m
}

func attrI(name string, v int64) msg   { return msg{}.str(1, name).int(3, v).int(20, attrInt) }
func attrF(name string, v float32) msg { return msg{}.str(1, name).float(2, v).int(20, attrFloat) }
func attrS(name, v string) msg         { return msg{}.str(1, name).str(4, v).int(20, attrString) }
func attrT(name string, t msg) msg     { return msg{}.str(1, name).bytes(5, t).int(20, attrTensor) }

func attrG(name string, g msg) msg { return msg{}.str(1, name).bytes(6, g).int(20, attrGraph) }

func attrIs(name string, v ...int64) msg { return msg{}.str(1, name).packed(8, v...).int(20, attrInts) }

func attrFs(name string, v ...float32) msg {
	return msg{}.str(1, name).floats(7, v...).int(20, attrFloats)
}

// value makes a ValueInfoProto of float elements; an axis of -1 is symbolic.
func value(name string, dims ...int64) msg {
	var shape msg
	for _, d := range dims {
		dim := msg{}.int(1, d)
		if d < 0 {
			dim = msg{}.str(2, "N")
		}
		shape = shape.bytes(1, dim)
	}
	return msg{}.str(1, name).bytes(2, msg{}.bytes(1, msg{}.int(1, 1).bytes(2, shape)))
}

// unshaped makes a ValueInfoProto without a shape.
func unshaped(name string) msg {
	return msg{}.str(1, name).bytes(2, msg{}.bytes(1, msg{}.int(1, 1)))
}

// head makes the start of a TensorProto.
func head(name string, typ int64, dims ...int64) msg {
	return msg{}.packed(1, dims...).int(2, typ).str(8, name)
}

// floatTensor makes a TensorProto with float_data.
func floatTensor(name string, dims []int64, v ...float32) msg {
	return head(name, 1, dims...).floats(fieldFloat, v...)
}

// parts are the messages of a GraphProto.
type parts struct {
	nodes, inits, inputs, outputs []msg
}

func (p parts) graph() msg {
	m := msg{}.str(2, "built")
	for _, x := range p.nodes {
		m = m.bytes(1, x)
	}
	for _, x := range p.inits {
		m = m.bytes(5, x)
	}
	for _, x := range p.inputs {
		m = m.bytes(11, x)
	}
	for _, x := range p.outputs {
		m = m.bytes(12, x)
	}
	return m
}

// file makes a ModelProto.
func (p parts) file(opset int64) []byte { return fileOf(p.graph(), opset) }

func fileOf(graph msg, opset int64) []byte {
	return msg{}.int(1, 8).bytes(7, graph).bytes(8, msg{}.str(1, "").int(2, opset))
}

// one makes the file of a single node with input x of the given shape and
// output y.
func one(opset int64, n msg, dims ...int64) []byte {
	return parts{nodes: []msg{n}, inputs: []msg{value("x", dims...)}, outputs: []msg{unshaped("y")}}.file(opset)
}
