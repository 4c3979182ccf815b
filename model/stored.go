package model

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"math"
	"slices"
)

// Form is how a pack stores a constant in fewer bytes than it has. Each form
// gives back every bit: a constant has it because its values allow it, not
// because anybody said so.
type Form struct {
	Kind  FormKind
	Axis  int     // of FormInt4: the output channels
	Of    *Tensor // of FormProduct: the other tensor
	Times float32 // of FormProduct
	Bytes int     // that are stored
}

// FormKind names a form.
type FormKind string

// The forms.
const (
	// FormInt4: int8 weights behind a DequantizeLinear with a scale for each
	// channel, of which PackInt4 makes four bits each.
	FormInt4 FormKind = "int4"

	// FormBFloat16: scales of a DequantizeLinear whose lower halves are zero.
	FormBFloat16 FormKind = "bfloat16"

	// FormProduct: the units of an int32 bias, which are the scales of the
	// layer's weights, each times the scale of its input, and rounded to
	// float32 once. Nothing but Times is stored.
	FormProduct FormKind = "product"
)

// formLeast is how many bytes a constant has at least that is looked at.
const formLeast = 64

// Forms returns the form of each constant of g that has one, constants of
// subgraphs and attributes among them.
func (g *Graph) Forms() map[*Tensor]Form {
	f := &former{forms: map[*Tensor]Form{}, times: map[string]float32{}}
	f.graph(g)
	return f.forms
}

type former struct {
	forms map[*Tensor]Form
	times map[string]float32 // by the content of a product's other tensor
}

func (f *former) graph(g *Graph) {
	made := g.Producers()
	for _, n := range g.Nodes {
		for _, key := range slices.Sorted(maps.Keys(n.Attrs)) {
			if sub, ok := n.Attrs[key].(*Graph); ok && sub != nil {
				f.graph(sub)
			}
		}
		f.weights(g, n)
		f.units(g, made, n)
	}
	for _, n := range g.Nodes {
		if n.Op == "DequantizeLinear" {
			f.half(g.Const(n.Input(1)))
		}
	}
}

func (f *former) large(t *Tensor, want DType) bool {
	if t == nil || t.Type != want || len(t.Data) <= formLeast || t.Check() != nil {
		return false
	}
	_, known := f.forms[t]
	return !known
}

// weights looks at what a DequantizeLinear reads.
func (f *former) weights(g *Graph, n *Node) {
	if n.Op != "DequantizeLinear" {
		return
	}
	t, scale, axis := g.Const(n.Input(0)), g.Const(n.Input(1)), int(n.Int("axis", 1))
	if !f.large(t, I8) || scale == nil || len(scale.Shape) != 1 {
		return
	}
	if axis < 0 {
		axis += len(t.Shape)
	}
	if axis < 0 || axis >= len(t.Shape) || Int4Size(t.Shape, axis) >= len(t.Data) {
		return
	}
	if data := PackInt4(t, axis); data != nil {
		f.forms[t] = Form{Kind: FormInt4, Axis: axis, Bytes: len(data)}
	}
}

// units looks at the scales of the bias of a layer n.
func (f *former) units(g *Graph, made map[string]*Node, n *Node) {
	var d [3]*Node // the DequantizeLinears of input, weights and bias
	for i := range d {
		if d[i] = made[n.Input(i)]; d[i] == nil || d[i].Op != "DequantizeLinear" {
			return
		}
	}
	in, scales, units := g.Const(d[0].Input(1)), g.Const(d[1].Input(1)), g.Const(d[2].Input(1))
	if !f.large(units, F32) || in == nil || in.Type != F32 || in.Elements() != 1 ||
		scales == nil || scales.Type != F32 || !scales.Shape.Equal(units.Shape) || scales == units {
		return
	}
	if f.forms[scales].Kind == FormProduct {
		return
	}
	times := in.F32()[0]
	if !isProduct(units.F32(), scales.F32(), times) {
		return
	}
	key := content(scales)
	if have, ok := f.times[key]; ok && have != times {
		return // a reader makes one tensor of another, and no more
	}
	f.times[key] = times
	f.forms[units] = Form{Kind: FormProduct, Of: scales, Times: times}
}

// isProduct reports whether units are scales times a number, bit by bit.
func isProduct(units, scales []float32, times float32) bool {
	for i, u := range units {
		if math.Float32bits(Product(scales[i], times)) != math.Float32bits(u) {
			return false
		}
	}
	return true
}

// Product is the rounding of FormProduct.
func Product(a, b float32) float32 { return float32(float64(a) * float64(b)) }

// half looks at scales.
func (f *former) half(t *Tensor) {
	if !f.large(t, F32) {
		return
	}
	for i := 0; i < len(t.Data); i += 4 {
		if t.Data[i]|t.Data[i+1] != 0 {
			return
		}
	}
	f.forms[t] = Form{Kind: FormBFloat16, Bytes: len(t.Data) / 2}
}

// content is the same for tensors that are equal, and for no others.
func content(t *Tensor) string {
	h := sha256.New()
	head := []uint64{uint64(t.Type)}
	for _, d := range t.Shape {
		head = append(head, uint64(d))
	}
	for _, v := range head {
		h.Write(binary.LittleEndian.AppendUint64(nil, v))
	}
	h.Write(t.Data)
	return string(h.Sum(nil))
}

// StoredBytes returns the size of all constants as a pack stores them: equal
// ones once, and each in its form.
func (g *Graph) StoredBytes() int64 {
	s := &sizer{forms: g.Forms(), seen: map[string]bool{}}
	s.graph(g)
	return s.bytes
}

// sizer sums the sizes of tensors.
type sizer struct {
	forms map[*Tensor]Form
	seen  map[string]bool // content
	bytes int64
}

func (s *sizer) graph(g *Graph) {
	for _, name := range slices.Sorted(maps.Keys(g.Values)) {
		s.add(g.Const(name))
	}
	for _, n := range g.Nodes {
		for _, key := range slices.Sorted(maps.Keys(n.Attrs)) {
			switch a := n.Attrs[key].(type) {
			case *Tensor:
				s.add(a)
			case *Graph:
				if a != nil {
					s.graph(a)
				}
			}
		}
	}
}

func (s *sizer) add(t *Tensor) {
	if t == nil {
		return
	}
	key := content(t)
	if s.seen[key] {
		return
	}
	s.seen[key] = true
	if form, ok := s.forms[t]; ok {
		s.bytes += int64(form.Bytes)
	} else {
		s.bytes += int64(len(t.Data))
	}
}
