package engine

import (
	"maps"
	"slices"
	"testing"

	"dunlin/model"
)

// fuzzAttrs are attributes that operators have; values are drawn for them.
var fuzzAttrs = []string{
	"axis", "axes", "keepdims", "mode", "perm", "to", "blocksize", "pads", "kernel_shape", "strides", "group", "batch_dims", "k",
	"largest", "reduction", "ignore_index", "size", "equation", "num_groups", "batch_axis", "time_axis", "exclusive", "reverse",
	"coordinate_transformation_mode", "nearest_mode", "antialias", "exclude_outside", "keep_aspect_ratio_policy", "upper", "direction",
	"training_mode", "allowzero", "dtype", "onesided", "inverse", "output_height", "sampling_ratio", "select_last_index", "p", "sorted",
	"noop_with_empty_axes", "padding_mode", "new_axis", "value", "center_point_box", "start", "end", "ngram_counts", "pool_int64s",
	"ngram_indexes", "max_gram_length", "max_skip_count",
}

var fuzzWords = []string{
	"none", "add", "max", "reflect", "wrap", "edge", "linear", "cubic", "nearest", "tf_crop_and_resize", "align_corners", "asymmetric",
	"not_larger", "LEFT", "CRD", "sum", "TF", "ij,jk->ik", "...ij->...ji", "ii", "i,j->", "border", "reflection", "floor",
}

var fuzzShapes = []model.Shape{{}, {1}, {2}, {3}, {4}, {0}, {2, 3}, {3, 2}, {1, 2, 2}, {2, 0}, {1, 1, 3, 4}, {1, 4, 2, 2}, {3, 4}, {2, 1, 2, 2, 1}}

// tensor draws a small tensor of any type.
func (m *mutant) tensor() *model.Tensor {
	kind := []model.DType{model.F32, model.I64, model.F32, model.I64, model.Bool, model.F16, model.F64, model.I32, model.U8, model.I8, model.U16, model.U64, model.BF16}
	t, err := model.NewTensor(kind[m.pick(len(kind))], fuzzShapes[m.pick(len(fuzzShapes))]...)
	if err != nil {
		panic(err)
	}
	v := &model.Tensor{Type: model.I64, Shape: t.Shape, Data: model.Aligned(8 * t.Elements())}
	for i := range v.I64() {
		v.I64()[i] = int64(m.pick(9)) - 2
		if m.pick(40) == 39 {
			v.I64()[i] = m.number()
		}
	}
	castTensor(t, v)
	return t
}

// FuzzOperators runs one operator on small tensors of any type and shape,
// with attributes that may or may not be its own: what does not fit is an
// error, of Compile or of Run, never a panic.
func FuzzOperators(f *testing.F) {
	names := slices.Sorted(maps.Keys(operators))
	for i := range names {
		f.Add(byte(i), []byte{byte(i), 0, 3, 7, byte(i * 3), 1, 1, 2, 5, 4, 3, 2, 1, 0, 3, 9, 2, byte(i * 5), 4, 4, 6, 1, 0, 0, 2, 7, 3})
	}
	f.Fuzz(func(_ *testing.T, which byte, data []byte) {
		fuzzOperator(names[int(which)%len(names)], data[:min(len(data), 400)])
	})
}

// fuzzOperator reports whether the operator compiled.
func fuzzOperator(op string, data []byte) bool {
	m := &mutant{data: data}
	n := &model.Node{Op: op, Name: "node", Attrs: attrs{}}
	for range m.pick(4) {
		key := fuzzAttrs[m.pick(len(fuzzAttrs))]
		small := int64(m.pick(6)) - 2
		n.Attrs[key] = []model.Attr{
			small, m.number(),
			[]int64{small, int64(m.pick(4))},
			[]int64{m.number(), small, 1, 1},
			fuzzWords[m.pick(len(fuzzWords))],
			float32(small), m.tensor(),
		}[m.pick(7)]
	}
	b := newBuild(1)
	var inputs []*model.Tensor
	for i := range operators[op].minIn + m.pick(3) {
		x := m.tensor()
		switch m.pick(4) {
		case 0:
			n.In = append(n.In, "")
		case 1:
			name := string(rune('a' + i))
			b.typed(name, x.Type, append([]int{}, x.Shape...)...)
			n.In, inputs = append(n.In, name), append(inputs, x)
		default:
			n.In = append(n.In, b.constant(x))
		}
	}
	for i := range max(1, min(1+m.pick(3), operators[op].outs)) {
		n.Out = append(n.Out, string(rune('p'+i)))
	}
	b.Nodes = append(b.Nodes, n)
	b.output(n.Out...)
	p, err := Compile(b.Graph, Options{MaxMemory: 4 << 20})
	if err != nil {
		return false
	}
	s := p.NewSession()
	for i, x := range inputs {
		copy(s.Input(i).Data, x.Data)
	}
	_ = s.Run() // may fail on the data
	return true
}
