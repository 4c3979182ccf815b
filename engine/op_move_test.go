package engine

import (
	"math"
	"strings"
	"testing"

	"dunlin/model"
)

// Values of the ONNX specification, operator by operator.
func TestArranging(t *testing.T) {
	x := f32s([]float32{1, 2, 3, 4, 5, 6}, 2, 3)
	five := f32s([]float32{1, 2, 3, 4, 5}, 5)
	square := i64s([]int64{1, 2, 3, 4, 5, 6, 7, 8, 9}, 3, 3)
	depth := f32s([]float32{0, 1, 2, 3, 4, 5, 6, 7}, 1, 4, 1, 2)
	check(t, []opCase{
		{"Expand", nil, tensors{f32s([]float32{1, 2}, 2, 1), i64s([]int64{2, 1, 2}, 3)}, tensors{f32s([]float32{1, 1, 2, 2, 1, 1, 2, 2}, 2, 2, 2)}},
		{"Expand", nil, tensors{x, i64s([]int64{1, 3}, 2)}, tensors{x}},
		{"Tile", nil, tensors{f32s([]float32{1, 2, 3, 4}, 2, 2), i64s([]int64{1, 2}, 2)}, tensors{f32s([]float32{1, 2, 1, 2, 3, 4, 3, 4}, 2, 4)}},
		{"Pad", nil, tensors{f32s([]float32{1, 2}, 1, 2), i64s([]int64{1, 0, 0, 1}, 4), f32s([]float32{9})}, tensors{f32s([]float32{9, 9, 9, 1, 2, 9}, 2, 3)}},
		{"Pad", attrs{"mode": "reflect"}, tensors{f32s([]float32{1, 2, 3}, 3), i64s([]int64{2, 3}, 2)}, tensors{f32s([]float32{3, 2, 1, 2, 3, 2, 1, 2}, 8)}},
		{"Pad", attrs{"mode": "edge"}, tensors{u8s([]uint8{1, 2}, 2), i64s([]int64{1, 1}, 2)}, tensors{u8s([]uint8{1, 1, 2, 2}, 4)}},
		{"Pad", attrs{"mode": "wrap"}, tensors{f32s([]float32{1, 2, 3}, 3), i64s([]int64{1, 2}, 2)}, tensors{f32s([]float32{3, 1, 2, 3, 1, 2}, 6)}},
		{"Pad", nil, tensors{x, i64s([]int64{-1, 1}, 2), nil, i64s([]int64{-1}, 1)}, tensors{f32s([]float32{2, 3, 0, 5, 6, 0}, 2, 3)}},
		{"Split", nil, tensors{five, i64s([]int64{2, 0, 3}, 3)}, tensors{f32s([]float32{1, 2}, 2), f32s(nil, 0), f32s([]float32{3, 4, 5}, 3)}},
		{"Split", nil, tensors{five}, tensors{f32s([]float32{1, 2}, 2), f32s([]float32{3, 4}, 2), f32s([]float32{5}, 1)}},
		{"Split", attrs{"axis": int64(-1)}, tensors{x, i64s([]int64{1, 2}, 2)}, tensors{f32s([]float32{1, 4}, 2, 1), f32s([]float32{2, 3, 5, 6}, 2, 2)}},
		{"DepthToSpace", attrs{"blocksize": int64(2)}, tensors{depth}, tensors{f32s([]float32{0, 2, 1, 3, 4, 6, 5, 7}, 1, 1, 2, 4)}},
		{"SpaceToDepth", attrs{"blocksize": int64(2)}, tensors{f32s([]float32{0, 2, 1, 3, 4, 6, 5, 7}, 1, 1, 2, 4)}, tensors{depth}},
		{"DepthToSpace", attrs{"blocksize": int64(2), "mode": "CRD"}, tensors{f32s([]float32{0, 1, 2, 3, 4, 5, 6, 7}, 1, 8, 1, 1)}, tensors{f32s([]float32{0, 1, 2, 3, 4, 5, 6, 7}, 1, 2, 2, 2)}},
		{"Trilu", nil, tensors{square}, tensors{i64s([]int64{1, 2, 3, 0, 5, 6, 0, 0, 9}, 3, 3)}},
		{"Trilu", attrs{"upper": int64(0)}, tensors{square, i64s([]int64{-1})}, tensors{i64s([]int64{0, 0, 0, 4, 0, 0, 7, 8, 0}, 3, 3)}},
		{"Trilu", nil, tensors{square, i64s([]int64{9})}, tensors{i64s(make([]int64, 9), 3, 3)}},
		{"ReverseSequence", attrs{"batch_axis": int64(0), "time_axis": int64(1)}, tensors{x, i64s([]int64{2, 3}, 2)}, tensors{f32s([]float32{2, 1, 3, 6, 5, 4}, 2, 3)}},
		{"Size", nil, tensors{x}, tensors{i64s([]int64{6})}},
		{"ConstantOfShape", attrs{"value": i32s([]int32{7}, 1)}, tensors{i64s([]int64{2, 2}, 2)}, tensors{i32s([]int32{7, 7, 7, 7}, 2, 2)}},
		{"ConstantOfShape", nil, tensors{i64s([]int64{0}, 1)}, tensors{f32s(nil, 0)}},
		{"Range", nil, tensors{f32s([]float32{1}), f32s([]float32{5}), f32s([]float32{2})}, tensors{f32s([]float32{1, 3}, 2)}},
		{"Range", nil, tensors{i32s([]int32{10}), i32s([]int32{6}), i32s([]int32{-3})}, tensors{i32s([]int32{10, 7}, 2)}},
		{"EyeLike", attrs{"k": int64(1), "dtype": int64(7)}, tensors{x}, tensors{i64s([]int64{0, 1, 0, 0, 0, 1}, 2, 3)}},
		{"OneHot", attrs{"axis": int64(0)}, tensors{i64s([]int64{1, -1, 5}, 3), i64s([]int64{3}), f32s([]float32{0, 2}, 2)}, tensors{f32s([]float32{0, 0, 0, 2, 0, 0, 0, 2, 0}, 3, 3)}},
		{"CumSum", nil, tensors{x, i64s([]int64{1})}, tensors{f32s([]float32{1, 3, 6, 4, 9, 15}, 2, 3)}},
		{"CumSum", attrs{"exclusive": int64(1), "reverse": int64(1)}, tensors{five, i64s([]int64{0})}, tensors{f32s([]float32{14, 12, 9, 5, 0}, 5)}},
	})
}

func TestIndices(t *testing.T) {
	x := f32s([]float32{1, 2, 3, 4}, 2, 2)
	check(t, []opCase{
		{"GatherElements", attrs{"axis": int64(1)}, tensors{x, i64s([]int64{0, 0, 1, 0}, 2, 2)}, tensors{f32s([]float32{1, 1, 4, 3}, 2, 2)}},
		{"GatherElements", nil, tensors{x, i32s([]int32{-1, 0}, 1, 2)}, tensors{f32s([]float32{3, 2}, 1, 2)}},
		{"GatherND", nil, tensors{x, i64s([]int64{0, 0, 1, 1}, 2, 2)}, tensors{f32s([]float32{1, 4}, 2)}},
		{"GatherND", attrs{"batch_dims": int64(1)}, tensors{x, i64s([]int64{1, 0}, 2, 1)}, tensors{f32s([]float32{2, 3}, 2)}},
		{
			"ScatterElements",
			attrs{"axis": int64(1)},
			tensors{f32s([]float32{1, 2, 3, 4, 5}, 1, 5), i64s([]int64{1, -2}, 1, 2), f32s([]float32{1.1, 2.1}, 1, 2)},
			tensors{f32s([]float32{1, 1.1, 3, 2.1, 5}, 1, 5)},
		},
		{"ScatterElements", attrs{"reduction": "add"}, tensors{f32s([]float32{1, 2}, 2), i64s([]int64{1, 1}, 2), f32s([]float32{3, 4}, 2)}, tensors{f32s([]float32{1, 9}, 2)}},
		{"ScatterND", attrs{"reduction": "mul"}, tensors{x, i64s([]int64{1}, 1, 1), f32s([]float32{2, 3}, 1, 2)}, tensors{f32s([]float32{1, 2, 6, 12}, 2, 2)}},
		{"ArgMax", attrs{"select_last_index": int64(1), "keepdims": int64(0)}, tensors{f32s([]float32{2, 2, 1}, 1, 3)}, tensors{i64s([]int64{0, 0, 0}, 3)}},
		{"ArgMax", attrs{"axis": int64(1), "select_last_index": int64(1)}, tensors{f32s([]float32{2, 2, 1}, 1, 3)}, tensors{i64s([]int64{1}, 1, 1)}},
		{"ArgMin", nil, tensors{i8s([]int8{3, -5, 1}, 3)}, tensors{i64s([]int64{1}, 1)}},
		{"TopK", nil, tensors{f32s([]float32{0, 3, 3, 9}, 1, 4), i64s([]int64{3}, 1)}, tensors{f32s([]float32{9, 3, 3}, 1, 3), i64s([]int64{3, 1, 2}, 1, 3)}},
		{"TopK", attrs{"largest": int64(0), "axis": int64(0)}, tensors{x, i64s([]int64{1}, 1)}, tensors{f32s([]float32{1, 2}, 1, 2), i64s([]int64{0, 0}, 1, 2)}},
		{"NonZero", nil, tensors{f32s([]float32{1, 0, float32(math.Copysign(0, -1)), 2}, 2, 2)}, tensors{i64s([]int64{0, 1, 0, 1}, 2, 2)}},
		{"Compress", attrs{"axis": int64(0)}, tensors{x, truths(0, 1)}, tensors{f32s([]float32{3, 4}, 1, 2)}},
		{"Compress", nil, tensors{x, truths(0, 1, 0, 1)}, tensors{f32s([]float32{2, 4}, 2)}},
		{"Unique", nil, tensors{f32s([]float32{2, 1, 1, 3}, 4)}, tensors{
			f32s([]float32{1, 2, 3}, 3), i64s([]int64{1, 0, 3}, 3), i64s([]int64{1, 0, 0, 2}, 4), i64s([]int64{2, 1, 1}, 3),
		}},
		{"Unique", attrs{"sorted": int64(0)}, tensors{i64s([]int64{2, 1, 1, 3}, 4)}, tensors{i64s([]int64{2, 1, 3}, 3), i64s([]int64{0, 1, 3}, 3)}},
		{"Unique", attrs{"axis": int64(0)}, tensors{f32s([]float32{1, 0, 1, 0, 0, 9}, 3, 2)}, tensors{f32s([]float32{0, 9, 1, 0}, 2, 2)}},
		{"NonMaxSuppression", nil, tensors{
			f32s([]float32{0, 0, 1, 1, 0, 0.1, 1, 1.1, 0, 10, 1, 11}, 1, 3, 4), f32s([]float32{0.9, 0.75, 0.6}, 1, 1, 3),
			i64s([]int64{3}), f32s([]float32{0.5}), f32s([]float32{0.1}),
		}, tensors{i64s([]int64{0, 0, 0, 0, 0, 2}, 2, 3)}},
	})
	ngrams := attrs{
		"mode": "TF", "min_gram_length": int64(2), "max_gram_length": int64(2), "max_skip_count": int64(1),
		"ngram_counts": []int64{0, 2}, "ngram_indexes": []int64{0, 1, 3, 2}, "pool_int64s": []int64{2, 3, 5, 6, 6, 7},
	}
	check(t, []opCase{{"TfIdfVectorizer", ngrams, tensors{i64s([]int64{5, 6, 6, 7}, 4)}, tensors{f32s([]float32{0, 0, 2, 2}, 4)}}})
}

func TestResize(t *testing.T) {
	x := f32s([]float32{1, 2, 3, 4}, 1, 1, 2, 2)
	up := f32s([]float32{1, 1, 2, 2}, 4)
	row := f32s([]float32{1, 2, 3, 4}, 1, 1, 1, 4)
	half := f32s([]float32{1, 1, 1, 0.5}, 4)
	check(t, []opCase{
		{"Resize", nil, tensors{x, nil, up}, tensors{f32s([]float32{1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4}, 1, 1, 4, 4)}},
		{"Resize", attrs{"mode": "linear"}, tensors{x, nil, up}, tensors{f32s([]float32{
			1, 1.25, 1.75, 2, 1.5, 1.75, 2.25, 2.5, 2.5, 2.75, 3.25, 3.5, 3, 3.25, 3.75, 4,
		}, 1, 1, 4, 4)}},
		{
			"Resize",
			attrs{"mode": "linear", "coordinate_transformation_mode": "align_corners"},
			tensors{x, nil, nil, i64s([]int64{1, 1, 3, 3}, 4)},
			tensors{f32s([]float32{1, 1.5, 2, 2, 2.5, 3, 3, 3.5, 4}, 1, 1, 3, 3)},
		},
		{"Resize", attrs{"mode": "cubic"}, tensors{row, nil, half}, tensors{f32s([]float32{1.40625, 3.59375}, 1, 1, 1, 2)}},
		{"Resize", attrs{"mode": "linear", "antialias": int64(1)}, tensors{row, nil, half}, tensors{f32s([]float32{1.625, 3.375}, 1, 1, 1, 2)}},
		{
			"Resize",
			attrs{"mode": "linear", "antialias": int64(1)},
			tensors{f32s([]float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, 1, 1, 4, 4), nil, f32s([]float32{1, 1, 0.6, 0.6}, 4)},
			tensors{f32s([]float32{2.875, 4.5, 9.375, 11}, 1, 1, 2, 2)},
		},
		{
			"Resize",
			attrs{"axes": []int64{3}, "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
			tensors{row, nil, nil, i64s([]int64{2}, 1)},
			tensors{f32s([]float32{1, 3}, 1, 1, 1, 2)},
		},
		{
			"Resize",
			attrs{"axes": []int64{2, 3}, "keep_aspect_ratio_policy": "not_larger"},
			tensors{x, nil, nil, i64s([]int64{8, 4}, 2)},
			tensors{f32s([]float32{1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4}, 1, 1, 4, 4)},
		},
		{
			"Resize",
			attrs{"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": float32(9)},
			tensors{row, f32s([]float32{0, 0, 0, 1.0 / 3, 1, 1, 1, 4.0 / 3}, 8), nil, i64s([]int64{1, 1, 1, 4}, 4)},
			tensors{f32s([]float32{2, 3, 4, 9}, 1, 1, 1, 4)},
		},
		{"Resize", nil, tensors{u8s([]uint8{1, 2}, 1, 1, 1, 2), nil, up}, tensors{u8s([]uint8{1, 1, 2, 2, 1, 1, 2, 2}, 1, 1, 2, 4)}},
	})
}

func TestSignals(t *testing.T) {
	wave := f32s([]float32{1, 0, -1, 0}, 1, 4, 1)
	check(t, []opCase{
		{"DFT", nil, tensors{wave}, tensors{f32s([]float32{0, 0, 2, 0, 0, 0, 2, 0}, 1, 4, 2)}},
		{"DFT", attrs{"onesided": int64(1)}, tensors{wave}, tensors{f32s([]float32{0, 0, 2, 0, 0, 0}, 1, 3, 2)}},
		{"DFT", attrs{"inverse": int64(1)}, tensors{f32s([]float32{0, 0, 2, 0, 0, 0, 2, 0}, 1, 4, 2)}, tensors{f32s([]float32{1, 0, 0, 0, -1, 0, 0, 0}, 1, 4, 2)}},
		{"STFT", nil, tensors{f32s([]float32{1, 1, 1, -1}, 1, 4, 1), i64s([]int64{2}), f32s([]float32{1, 1}, 2)}, tensors{f32s([]float32{2, 0, 0, 0, 0, 0, 2, 0}, 1, 2, 2, 2)}},
		{"HannWindow", nil, tensors{i64s([]int64{4})}, tensors{f32s([]float32{0, 0.5, 1, 0.5}, 4)}},
		{"HammingWindow", attrs{"periodic": int64(0)}, tensors{i64s([]int64{3})}, tensors{f32s([]float32{2*25.0/46 - 1, 1, 2*25.0/46 - 1}, 3)}},
		{"BlackmanWindow", nil, tensors{i64s([]int64{2})}, tensors{f32s([]float32{0, 1}, 2)}},
		{
			"MelWeightMatrix", nil,
			tensors{i64s([]int64{2}), i64s([]int64{4}), i64s([]int64{8}), f32s([]float32{0}), f32s([]float32{4})},
			tensors{f32s([]float32{1, 0, 0, 1, 0, 0}, 3, 2)},
		},
		{"GridSample", nil, tensors{f32s([]float32{1, 2, 3, 4}, 1, 1, 2, 2), f32s([]float32{0, 0, -0.5, -0.5, -1, -1}, 1, 1, 3, 2)}, tensors{f32s([]float32{2.5, 1, 0.25}, 1, 1, 1, 3)}},
		{"GridSample", attrs{"mode": "nearest", "padding_mode": "border"}, tensors{f32s([]float32{1, 2, 3, 4}, 1, 1, 2, 2), f32s([]float32{3, -3}, 1, 1, 1, 2)}, tensors{f32s([]float32{2}, 1, 1, 1, 1)}},
		{
			"RoiAlign",
			attrs{"sampling_ratio": int64(1), "coordinate_transformation_mode": "output_half_pixel"},
			tensors{f32s([]float32{1, 2, 3, 4}, 1, 1, 2, 2), f32s([]float32{0, 0, 1, 1}, 1, 4), i64s([]int64{0}, 1)},
			tensors{f32s([]float32{2.5}, 1, 1, 1, 1)},
		},
	})
}

// A sequence is gone once the graph is settled: only its tensors remain.
func TestSequences(t *testing.T) {
	b := newBuild(1)
	x, y := b.input("x", 2), b.input("y", 3)
	list := b.node("SequenceConstruct", nil, x, y)
	list = b.node("SequenceInsert", nil, list, x, b.ints(0))
	list = b.node("SequenceErase", nil, list, b.ints(1))
	parts := b.node("SplitToSequence", attrs{"keepdims": int64(0)}, x)
	b.output(b.node("ConcatFromSequence", attrs{"axis": int64(0)}, list), b.node("SequenceAt", nil, list, b.ints(-1)),
		b.node("SequenceLength", nil, list), b.node("SequenceAt", nil, parts, b.ints(1)),
		b.node("ConcatFromSequence", attrs{"axis": int64(0), "new_axis": int64(1)}, parts))
	got := feed(t, compiled(t, b.Graph, Options{}).NewSession(), f32s([]float32{1, 2}, 2), f32s([]float32{3, 4, 5}, 3))
	wants := tensors{f32s([]float32{1, 2, 3, 4, 5}, 5), f32s([]float32{3, 4, 5}, 3), i64s([]int64{2}), f32s([]float32{2}), f32s([]float32{1, 2}, 2)}
	for i, want := range wants {
		near(t, "sequence", got[i], want)
	}
}

// A position that only the run tells is waited for.
func TestSequenceOfUnknownPosition(t *testing.T) {
	b := newBuild(1)
	x, y := b.input("x", 2), b.input("y", 3)
	b.typed("i", model.I64, 1)
	list := b.node("SequenceErase", nil, b.node("SequenceConstruct", nil, x, y, x), "i")
	b.output(b.node("Relu", nil, b.node("SequenceAt", nil, list, b.ints(0))), b.node("ConcatFromSequence", attrs{"axis": int64(0)}, list))
	s := compiled(t, b.Graph, Options{}).NewSession()
	one, two := f32s([]float32{1, 2}, 2), f32s([]float32{3, 4, 5}, 3)
	for i, want := range []tensors{{two, f32s([]float32{3, 4, 5, 1, 2}, 5)}, {one, f32s([]float32{1, 2, 1, 2}, 4)}} {
		got := feed(t, s, one, two, i64s([]int64{int64(i)}, 1))
		near(t, "SequenceAt", got[0], want[0])
		near(t, "ConcatFromSequence", got[1], want[1])
	}
	for _, bad := range []int64{3, -4} {
		copy(s.Input(2).I64(), []int64{bad})
		if err := s.Run(); err == nil {
			t.Errorf("position %d of 3 was accepted", bad)
		}
	}
}

// Nodes that do not fit their inputs are errors with the node's name.
func TestMisfits(t *testing.T) {
	x := []int{2, 3}
	for _, c := range []struct {
		op string
		a  attrs
		in []*model.Tensor
	}{
		{"Expand", nil, tensors{i64s([]int64{4, 3}, 2)}},
		{"Tile", nil, tensors{i64s([]int64{1 << 40, 1 << 40}, 2)}},
		{"Pad", nil, tensors{i64s([]int64{-9, 0, 0, 0}, 4)}},
		{"Split", nil, tensors{i64s([]int64{5}, 1)}},
		{"Trilu", nil, tensors{i64s([]int64{5, 6}, 2)}},
		{"ReduceSum", nil, tensors{i64s([]int64{7}, 1)}},
		{"TopK", nil, tensors{i64s([]int64{99}, 1)}},
		{"GatherND", nil, tensors{i64s([]int64{0, 0, 0}, 1, 3)}},
		{"ScatterND", nil, tensors{i64s([]int64{0}, 1, 1), f32s([]float32{1}, 1)}},
		{"Resize", nil, tensors{nil, f32s([]float32{1e30, 1e30}, 2)}},
		{"Resize", nil, tensors{nil, nil, i64s([]int64{1, 0}, 2)}},
		{"MatMul", nil, tensors{f32s([]float32{1, 2}, 2)}},
		{"Einsum", attrs{"equation": "ij,kj->ijj"}, tensors{f32s([]float32{1, 2, 3}, 1, 3)}},
		{"OneHot", nil, tensors{f32s([]float32{-3}), f32s([]float32{0, 1}, 2)}},
		{"LayerNormalization", nil, tensors{f32s([]float32{1, 2}, 2)}},
		{"DFT", nil, nil},
	} {
		b := newBuild(1)
		in := []string{b.input("x", x...)}
		for _, v := range c.in {
			if v == nil {
				in = append(in, "")
			} else {
				in = append(in, b.constant(v))
			}
		}
		y := b.node(c.op, c.a, in...)
		b.output(y)
		if _, err := Compile(b.Graph, Options{}); err == nil || !strings.Contains(err.Error(), "n"+y) {
			t.Errorf("%s %v: %v", c.op, c.in, err)
		}
	}
}
