package model

import (
	"math"
	"strings"
	"testing"
	"unsafe"
)

func TestDTypeNames(t *testing.T) {
	for d := F32; d <= Bool; d++ {
		got, err := ParseDType(d.String())
		if err != nil || got != d || d.Size() == 0 {
			t.Errorf("%v: read back as %v, size %d, %v", d, got, d.Size(), err)
		}
	}
	for _, d := range []DType{0, Bool + 1, 255} {
		if d.Valid() || d.Size() != 0 {
			t.Errorf("type %d passes for valid", d)
		}
		if _, err := ParseDType(d.String()); err == nil {
			t.Errorf("name %q is read", d)
		}
	}
}

func TestShapeElements(t *testing.T) {
	for _, c := range []struct {
		shape Shape
		want  int
		err   string
	}{
		{Shape{}, 1, ""},
		{nil, 1, ""},
		{Shape{0}, 0, ""},
		{Shape{2, 3, 4}, 24, ""},
		{Shape{1 << 20, 0, 1 << 30, 1 << 30}, 0, ""},
		{Shape{Unknown}, 0, "axis of length -1"},
		{Shape{0, Unknown}, 0, "axis of length -1"},
		{Shape{2, math.MinInt}, 0, "axis of length"},
		{Shape{MaxElements/1024 + 1, 1024}, 0, "more than"},
		{Shape{math.MaxInt, math.MaxInt}, 0, "more than"},
		{Shape{1 << 30, 1 << 30, 4}, 0, "more than"},
	} {
		n, err := c.shape.Elements()
		if n != c.want || (err == nil) != (c.err == "") || (err != nil && !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%v: %d, %v; want %d, %q", c.shape, n, err, c.want, c.err)
		}
	}
}

func TestShapeKnown(t *testing.T) {
	for _, c := range []struct {
		shape Shape
		want  bool
	}{{nil, false}, {Shape{}, true}, {Shape{1, 2}, true}, {Shape{1, Unknown}, false}} {
		if c.shape.Known() != c.want {
			t.Errorf("%#v: Known is %v", c.shape, !c.want)
		}
	}
	if !(Shape{1, 2}).Equal(Shape{1, 2}) || (Shape{1, 2}).Equal(Shape{2, 1}) || (Shape{1}).Equal(Shape{1, 1}) {
		t.Error("Equal does not compare the axes")
	}
}

func TestNewTensor(t *testing.T) {
	for n := range 70 {
		v, err := NewTensor(I8, n)
		if err != nil || v.Check() != nil || v.Elements() != n {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if n > 0 && uintptr(unsafe.Pointer(&v.Data[0]))%Alignment != 0 {
			t.Fatalf("%d bytes are not aligned", n)
		}
		if cap(v.Data) != n {
			t.Fatalf("append to %d bytes would write behind them", n)
		}
	}
	if _, err := NewTensor(F32, 2, Unknown); err == nil {
		t.Error("a tensor of unknown shape was made")
	}
	if _, err := NewTensor(DType(99), 2); err == nil {
		t.Error("a tensor of no type was made")
	}
}

func TestTensorCheck(t *testing.T) {
	for _, c := range []struct {
		name string
		t    Tensor
		want string
	}{
		{"good", Tensor{F32, Shape{2}, Aligned(8)}, ""},
		{"single value", Tensor{F32, Shape{}, Aligned(4)}, ""},
		{"empty", Tensor{F32, Shape{0, 5}, nil}, ""},
		{"short", Tensor{F32, Shape{2}, Aligned(7)}, "needs 8 bytes, has 7"},
		{"long", Tensor{I8, Shape{2}, Aligned(3)}, "needs 2 bytes, has 3"},
		{"no type", Tensor{0, Shape{2}, nil}, "type(0)"},
		{"unknown axis", Tensor{F32, Shape{Unknown}, nil}, "axis of length"},
		{"askew", Tensor{F32, Shape{1}, Aligned(8)[1:5]}, "not aligned"},
		{"bytes askew", Tensor{U8, Shape{1}, Aligned(8)[1:2]}, ""},
	} {
		err := c.t.Check()
		if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestView(t *testing.T) {
	data := Aligned(16)
	data[8] = 7
	same, err := View(F32, Shape{2}, data[8:])
	if err != nil || &same.Data[0] != &data[8] {
		t.Errorf("aligned data was copied: %v", err)
	}
	moved, err := View(F32, Shape{2}, data[5:13])
	if err != nil || moved.Check() != nil || moved.Data[3] != 7 {
		t.Errorf("data askew: %v, %v", moved, err)
	}
	if _, err := View(F32, Shape{2}, data[:7]); err == nil {
		t.Error("short data passes")
	}
}

func TestTypedViews(t *testing.T) {
	v := Of(F32, []float32{1, 2, 3}, 3)
	c := v.Clone()
	v.F32()[1] = 9
	if v.F32()[1] != 9 || c.F32()[1] != 2 || !c.Shape.Equal(v.Shape) {
		t.Errorf("%v, clone %v", v.F32(), c.F32())
	}
	if got := Of(I64, []int64{-1}).I64(); len(got) != 1 || got[0] != -1 {
		t.Errorf("single value reads %v", got)
	}
	for name, f := range map[string]func(){
		"other type":    func() { v.I32() },
		"wrong count":   func() { Of(F32, []float32{1}, 2) },
		"wrong size":    func() { Of(F32, []float64{1}, 1) },
		"unknown shape": func() { Of(F32, []float32{1}, Unknown) },
	} {
		if !panics(f) {
			t.Errorf("%s: no panic", name)
		}
	}
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}
