package onnx

import (
	"encoding/binary"
	"io"
	"math"
)

// message is a protobuf message being written. Fields stand in pieces, so
// that the weights of a model are written from where they lie: a message that
// holds another needs only its size.
type message struct {
	pieces [][]byte
	tail   []byte // fields that no piece holds yet
	size   int    // of all of them
}

func (m *message) grow(b []byte) {
	m.size += len(b) - len(m.tail)
	m.tail = b
}

func (m *message) key(num, wire int) {
	m.grow(binary.AppendUvarint(m.tail, uint64(num<<3|wire)))
}

// varint writes an integer field, also where it is zero: proto2, which ONNX
// uses, tells a field of zero from one that is absent.
func (m *message) varint(num int, v int64) {
	m.key(num, wireVarint)
	m.grow(binary.AppendUvarint(m.tail, uint64(v)))
}

func (m *message) float(num int, v float32) {
	m.key(num, wire32)
	m.grow(binary.LittleEndian.AppendUint32(m.tail, math.Float32bits(v)))
}

func (m *message) text(num int, v string) {
	m.key(num, wireBytes)
	m.grow(binary.AppendUvarint(m.tail, uint64(len(v))))
	m.grow(append(m.tail, v...))
}

// bytes writes a field that aliases v until the message is written.
func (m *message) bytes(num int, v []byte) {
	m.key(num, wireBytes)
	m.grow(binary.AppendUvarint(m.tail, uint64(len(v))))
	m.flush()
	m.pieces = append(m.pieces, v)
	m.size += len(v)
}

// message writes x as a field of m. x must not change afterwards.
func (m *message) message(num int, x *message) {
	m.key(num, wireBytes)
	m.grow(binary.AppendUvarint(m.tail, uint64(x.size)))
	if len(x.pieces) == 0 {
		m.grow(append(m.tail, x.tail...))
		return
	}
	m.flush()
	m.pieces = append(m.pieces, x.pieces...)
	m.size += x.size - len(x.tail)
	m.grow(append(m.tail, x.tail...))
}

// flush makes a piece of the tail.
func (m *message) flush() {
	if len(m.tail) > 0 {
		m.pieces, m.tail = append(m.pieces, m.tail), nil
	}
}

func (m *message) writeTo(w io.Writer) error {
	m.flush()
	for _, p := range m.pieces {
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	return nil
}
