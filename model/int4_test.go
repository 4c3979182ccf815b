package model

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// int4Tensor returns weights of four bits, made group by group along axis.
func int4Tensor(r *rand.Rand, axis int, shape ...int) *Tensor {
	t, err := NewTensor(I8, shape...)
	if err != nil {
		panic(err)
	}
	each := int4Groups(shape, axis)
	each(func(at []int) bool {
		factor := 1 + r.IntN(18)
		for _, i := range at {
			t.I8()[i] = int8(factor * (r.IntN(15) - 7))
		}
		return true
	})
	return t
}

// TestInt4 packs and unpacks channels of all lengths along every axis.
func TestInt4(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for depth := 1; depth <= 100; depth++ {
		for axis, shape := range [][]int{{3, depth}, {depth, 3}, {2, depth, 3}} {
			axis = []int{0, 1, 2}[axis]
			w := int4Tensor(r, axis, shape...)
			data := PackInt4(w, axis)
			if len(data) != Int4Size(shape, axis) {
				t.Fatalf("%v axis %d: %d bytes, want %d", shape, axis, len(data), Int4Size(shape, axis))
			}
			back, err := UnpackInt4(data, shape, axis)
			if err != nil || !bytes.Equal(back.Data, w.Data) || !back.Shape.Equal(w.Shape) {
				t.Fatalf("%v axis %d: %v", shape, axis, err)
			}
		}
	}
	if got := Int4Size(Shape{4, 64, 3, 3}, 0); got != 4*18*17 {
		t.Errorf("4 channels of 576 weights take %d bytes, want 4.25 bits each", got)
	}
}

// TestInt4Bytes pins the bytes.
func TestInt4Bytes(t *testing.T) {
	w := Of(I8, []int8{21, -21, 9, 0, 0, 0, -127, 127, 0}, 3, 3)
	want := []byte{
		3, 0x97, 0x03, // 3 times 7, -7, 3
		1, 0, 0,
		127, 0x1f, 0,
	}
	got := PackInt4(w, 0)
	if !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	if PackInt4(Of(I8, []int8{8, 1}, 1, 2), 0) != nil || PackInt4(Of(I8, []int8{-128, 0}, 1, 2), 0) != nil || PackInt4(Of(I8, []int8{16, 14, 3}, 1, 3), 0) != nil {
		t.Error("weights that are none of four bits were packed")
	}
	if PackInt4(Of(U8, []uint8{1}, 1, 1), 0) != nil || PackInt4(w, 2) != nil || PackInt4(w, -1) != nil {
		t.Error("what is no int8 weight was packed")
	}
}

func TestInt4Errors(t *testing.T) {
	for _, c := range []struct {
		data  []byte
		shape Shape
		axis  int
		want  string
	}{
		{[]byte{1, 0}, Shape{1, 3}, 0, "need 3 bytes, there are 2"},
		{[]byte{1, 0, 0, 0}, Shape{1, 3}, 0, "need 3 bytes, there are 4"},
		{[]byte{0, 0, 0}, Shape{1, 3}, 0, "a factor of 0"},
		{[]byte{128, 0, 0}, Shape{1, 3}, 0, "a factor of 128"},
		{[]byte{1, 0x08, 0}, Shape{1, 3}, 0, "1 times -8"},
		{[]byte{19, 0x07, 0}, Shape{1, 3}, 0, "19 times 7"},
		{[]byte{1, 0, 0x10}, Shape{1, 3}, 0, "1 behind the end"},
		{[]byte{1, 0, 0}, Shape{1, 3}, 2, "axis 2"},
		{nil, Shape{0, 3}, 0, "axis 0"},
		{nil, Shape{1 << 40, 1 << 40}, 0, ""},
		{nil, Shape{1 << 30, 4}, 0, "bytes, there are 0"},
	} {
		if _, err := UnpackInt4(c.data, c.shape, c.axis); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%x %v: %v, want %q", c.data, c.shape, err, c.want)
		}
	}
}

// FuzzUnpackInt4: whatever is read is packed to something that reads the
// same.
func FuzzUnpackInt4(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	f.Add(PackInt4(int4Tensor(r, 0, 2, 37), 0), 2, 37, 0)
	f.Add(PackInt4(int4Tensor(r, 1, 33, 3), 1), 33, 3, 1)
	f.Add([]byte{1, 0x88}, 1, 2, 0)
	f.Fuzz(func(t *testing.T, data []byte, a, b, axis int) {
		w, err := UnpackInt4(data, Shape{a, b}, axis)
		if err != nil {
			return
		}
		again := PackInt4(w, axis)
		back, err := UnpackInt4(again, w.Shape, axis)
		if err != nil || !bytes.Equal(back.Data, w.Data) {
			t.Fatalf("%x %v: %x, %v", data, w.Shape, again, err)
		}
	})
}
