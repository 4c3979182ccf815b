package quant

import (
	"strings"
	"testing"

	"dunlin/model"
)

// TestLevels: each layer stands and computes at its own level, with steps
// between float and int8 only where an integer operator reads.
func TestLevels(t *testing.T) {
	n := typical()
	in, _ := n.samples(1000)
	want := run(t, n.Graph, in)
	for _, c := range []struct {
		to     string
		levels map[string]Level
		ops    string
		least  float64 // dB
	}{
		{"", map[string]Level{"c1_Conv": FP16}, "Cast Conv Relu Q DQ MaxPool Q DQ Conv Q DQ Add Clip Q DQ GlobalAveragePool Q DQ Flatten Q DQ Gemm Softmax", 25},
		{"", map[string]Level{"c1_Conv": Float32}, "Conv Relu Q DQ MaxPool Q DQ Conv Q DQ Add Clip Q DQ GlobalAveragePool Q DQ Flatten Q DQ Gemm Softmax", 25},
		{"", map[string]Level{"c2_Conv": FP16}, "Q DQ Conv Relu Q DQ MaxPool Q DQ Cast Conv Q DQ Add Clip Q DQ GlobalAveragePool Q DQ Flatten Q DQ Gemm Softmax", 25},
		{"", map[string]Level{"c1_Conv": FP16, "c2_Conv": FP16, "s_Add": Float32, "g_Gemm": Float32}, "Cast Conv Relu MaxPool Cast Conv Add Clip GlobalAveragePool Flatten Gemm Softmax", 60},
		{"fp16", map[string]Level{"g_Gemm": Int8}, "Cast Conv Relu MaxPool Cast Conv Add Clip GlobalAveragePool Q DQ Flatten Q DQ Gemm Softmax", 30},
		{"fp16", map[string]Level{"c1_Conv": Int8}, "Q DQ Conv Relu MaxPool Cast Conv Add Clip GlobalAveragePool Flatten Gemm Softmax", 30},
		{"float32", nil, "Conv Relu MaxPool Conv Add Clip GlobalAveragePool Flatten Gemm Softmax", 100},
	} {
		q, rep := n.quantise(t, Options{To: c.to, Levels: c.levels})
		if got := ops(q); got != c.ops {
			t.Errorf("%s %v:\ngot  %s\nwant %s", c.to, c.levels, got, c.ops)
		}
		if got := sqnr(want, run(t, q, in)); got < c.least {
			t.Errorf("%s %v: %.1f dB", c.to, c.levels, got)
		}
		for _, l := range rep.Layers {
			if level, ok := c.levels[l.Name]; ok && l.Op != "Add" && l.Precision != string(level) && l.Before > 4*halfLeast {
				t.Errorf("%s %v: %+v", c.to, c.levels, l)
			}
		}
	}
}

// TestDepthwiseFeedsFloat: a convolution in groups ends in int8 even where
// float reads it, because it has no other integer form.
func TestDepthwiseFeedsFloat(t *testing.T) {
	n := newNet(1, 8, 6, 6)
	n.conv("a", "x", 8, 8, 3)
	n.AddConst("d_w", n.random(.3, 8, 1, 3, 3))
	n.op("Conv", "d", map[string]model.Attr{"group": int64(8)}, "a", "d_w")
	n.conv("y", "d", 8, 8, 1)
	n.Outputs = []string{"y"}
	q, _ := n.quantise(t, Options{Levels: map[string]Level{"y_Conv": FP16}})
	if got := ops(q); got != "Q DQ Conv Q DQ Conv Q DQ Cast Conv" {
		t.Errorf("%s", got)
	}
}

func TestLevelErrors(t *testing.T) {
	n := typical()
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{To: "int3"}, `"int3" is no level`},
		{Options{Levels: map[string]Level{"c1_Conv": "half"}}, `node c1_Conv: "half" is no level`},
		{Options{Levels: map[string]Level{"nobody": FP16}}, "no node nobody"},
		{Options{To: "fp16", Levels: map[string]Level{"c1_Conv": Int8}}, ErrSamples.Error()},
	} {
		if _, _, err := Apply(n.Graph, nil, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.o, err, c.want)
		}
	}
}
