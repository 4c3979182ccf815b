package model

import (
	"math"
	"math/rand/v2"
	"testing"
)

// quantised is a Conv between DequantizeLinears, as package quant writes it,
// with weights of four bits, scales that are bfloat16 numbers, and a bias.
func quantised(r *rand.Rand, channels, depth int, in float32) *Graph {
	g := New("g")
	scales, units := make([]float32, channels), make([]float32, channels)
	for c := range scales {
		scales[c] = math.Float32frombits(math.Float32bits(float32(r.Float64())+.01) &^ 0xffff)
		units[c] = Product(scales[c], in)
	}
	g.AddConst("w", int4Tensor(r, 0, channels, depth))
	g.AddConst("ws", Of(F32, scales, channels))
	g.AddConst("b", Of(I32, make([]int32, channels), channels))
	g.AddConst("bs", Of(F32, units, channels))
	g.AddConst("xs", Of(F32, []float32{in}))
	g.Inputs, g.Outputs = []string{"xq"}, []string{"y"}
	g.Nodes = []*Node{
		{Op: "DequantizeLinear", Name: "x", In: []string{"xq", "xs"}, Out: []string{"x"}},
		{Op: "DequantizeLinear", Name: "w", In: []string{"w", "ws"}, Out: []string{"wd"}, Attrs: map[string]Attr{"axis": int64(-2)}},
		{Op: "DequantizeLinear", Name: "b", In: []string{"b", "bs"}, Out: []string{"bd"}, Attrs: map[string]Attr{"axis": int64(0)}},
		{Op: "Gemm", Name: "y", In: []string{"x", "wd", "bd"}, Out: []string{"y"}, Attrs: map[string]Attr{"transB": int64(1)}},
	}
	return g
}

// TestForms: each constant has the form that its values allow, and raw bytes
// where one bit is different.
func TestForms(t *testing.T) {
	g := quantised(rand.New(rand.NewPCG(5, 6)), 20, 64, .0123)
	const whole = 20*64 + 20*4 + 20*4 + 20*4 + 4
	for _, c := range []struct {
		name   string
		change func()
		want   map[string]FormKind
		bytes  int64
	}{
		{"as made", func() {}, map[string]FormKind{"w": FormInt4, "ws": FormBFloat16, "bs": FormProduct}, 20*34 + 40 + 80 + 4},
		{"another unit", func() { g.Const("bs").F32()[3] *= 1.0000002 }, map[string]FormKind{"w": FormInt4, "ws": FormBFloat16}, 20*34 + 40 + 80 + 80 + 4},
		{"another scale", func() { g.Const("ws").F32()[3] *= 1.0000002 }, map[string]FormKind{"w": FormInt4}, 20*34 + 3*80 + 4},
		{"another weight", func() { g.Const("w").I8()[9], g.Const("w").I8()[10] = 127, 1 }, nil, whole},
	} {
		c.change()
		forms := g.Forms()
		if len(forms) != len(c.want) {
			t.Errorf("%s: %d forms", c.name, len(forms))
		}
		for value, kind := range c.want {
			if forms[g.Const(value)].Kind != kind {
				t.Errorf("%s: %s is stored as %+v, want %s", c.name, value, forms[g.Const(value)], kind)
			}
		}
		if got := g.StoredBytes(); got != c.bytes {
			t.Errorf("%s: %d bytes, want %d", c.name, got, c.bytes)
		}
	}
}

// TestFormsOnce: of one tensor only one product is made, in subgraphs too,
// and equal constants count once.
func TestFormsOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	g := quantised(r, 20, 64, .5)
	one := g.StoredBytes()
	same := g.Clone()
	outer := New("outer")
	outer.Nodes = []*Node{{Op: "If", Name: "i", Attrs: map[string]Attr{"then_branch": g, "else_branch": same, "value": Of(F32, []float32{1})}}}
	if got := outer.StoredBytes(); got != one+4 {
		t.Errorf("%d bytes for two equal graphs, %d for one", got, one)
	}
	// The same scales with another input's.
	same.AddConst("xs", Of(F32, []float32{.25}))
	units := same.Const("bs").Clone()
	for i := range units.F32() {
		units.F32()[i] /= 2
	}
	same.AddConst("bs", units)
	same.AddConst("ws", same.Const("ws").Clone())
	if f := outer.Forms(); f[units].Kind == FormProduct && f[g.Const("bs")].Kind == FormProduct || f[units].Kind == f[g.Const("bs")].Kind {
		t.Errorf("%+v and %+v", f[units], f[g.Const("bs")])
	}
}
