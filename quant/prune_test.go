package quant

import (
	"bytes"
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dunlin/internal/shared"
	"dunlin/model"
)

// branchy has what channels are followed through: a residual Add, a depthwise
// convolution, a Concat, a product, constants for each channel, a Reshape
// with the number of columns in it.
func branchy() *net {
	n := newNet(2, 3, 8, 8)
	n.op("Relu", "a", nil, n.norm("an", n.conv("c1", "x", 3, 16, 3), 16))
	n.op("HardSwish", "b", nil, n.norm("bn", n.conv("c2", "a", 16, 24, 1), 24))
	n.op("Relu", "c", nil, n.norm("cn", n.depthwise("c3", "b", 24), 24))
	n.op("GlobalAveragePool", "gp", nil, "c")
	n.op("Sigmoid", "gate", nil, n.conv("c5", "gp", 24, 24, 1))
	n.op("Mul", "m", nil, "c", "gate")
	n.op("Add", "s", nil, "a", n.conv("c4", "m", 24, 16, 1))
	n.op("Concat", "j", map[string]model.Attr{"axis": int64(1)}, "s", n.conv("c6", "a", 16, 8, 3))
	n.AddConst("slope", n.random(.1, 24, 1, 1))
	n.op("PRelu", "l", nil, "j", "slope")
	n.AddConst("times", n.random(1, 1, 24, 1, 1))
	n.op("Mul", "k", nil, "l", "times")
	n.op("MaxPool", "p", map[string]model.Attr{"kernel_shape": []int64{2, 2}, "strides": []int64{2, 2}}, "k")
	n.AddConst("to", model.Of(model.I64, []int64{-1, 24 * 16}, 2))
	n.op("Reshape", "f", nil, "p", "to")
	n.AddConst("fc", n.random(.05, 24*16, 12))
	n.op("Relu", "h", nil, n.op("MatMul", "g", nil, "f", "fc"))
	n.AddConst("last", n.random(.3, 5, 12))
	n.AddConst("lastb", n.random(.3, 5))
	n.op("Gemm", "y", map[string]model.Attr{"transB": int64(1)}, "h", "last", "lastb")
	n.Outputs = []string{"y"}
	return n
}

// silence makes channels of a value zero: those of the batch normalisation
// or of the layer that makes it.
func (n *net) silence(of string, channels ...int) {
	for _, name := range []string{of + "_scale", of + "_bias", of + "_w", of + "_b"} {
		t := n.Const(name)
		if t == nil {
			continue
		}
		size := t.Elements() / t.Shape[0]
		for _, c := range channels {
			clear(t.F32()[c*size : (c+1)*size])
		}
	}
}

// TestPruneZeros: channels that are always zero go first, wherever they
// stand, and no output changes.
func TestPruneZeros(t *testing.T) {
	n := branchy()
	for _, name := range []string{"an_bias", "cn_bias"} { // no channel is dead behind its Relu
		for i, v := range n.Const(name).F32() {
			n.Const(name).F32()[i] = 1 + v*v
			n.Const(name[:2] + "_scale").F32()[i] *= .1
		}
	}
	n.silence("an", 2, 5) // a, with c4 one set by the Add
	n.silence("c4", 2, 5)
	n.silence("bn", 0, 7, 23) // through HardSwish and c3
	n.silence("cn", 0, 7, 23)
	n.silence("c6", 1) // one side of the Concat
	for o := range 24 * 16 {
		n.Const("fc").F32()[o*12+4] = 0 // a column of the MatMul
	}
	in, _ := n.samples(100)
	r, err := Calibrate(n.Graph, n.samples, 10, Options{})
	if err != nil {
		t.Fatal(err)
	}
	const zeros, all = 2 + 3 + 1 + 1, 16 + 24 + 8 + 12
	p, rep, err := PruneChannels(n.Graph, r, PruneOptions{Share: float64(zeros) / all})
	if err != nil {
		t.Fatal(err)
	}
	if rep.Channels != [2]int{all, all - zeros} || len(rep.Sets) != 4 {
		t.Errorf("%+v", rep)
	}
	for i, after := range []int{14, 21, 7, 11} {
		if i < len(rep.Sets) && rep.Sets[i].After != after {
			t.Errorf("%+v", rep.Sets[i])
		}
	}
	want, got := run(t, n.Graph, in), run(t, p, in)
	for i, v := range want[0] {
		if math.Abs(float64(got[0][i]-v)) > 1e-6*math.Max(1, math.Abs(float64(v))) {
			t.Errorf("output %d is %g, was %g", i, got[0][i], v)
		}
	}
	shapes := map[string]model.Shape{
		"c1_w/pruned": {14, 3, 3, 3}, "c2_w/pruned": {21, 14, 1, 1}, "c3_w/pruned": {21, 1, 3, 3}, "c4_w/pruned": {14, 21, 1, 1},
		"an_var/pruned": {14}, "slope/pruned": {21, 1, 1}, "times/pruned": {1, 21, 1, 1}, "fc/pruned": {21 * 16, 11}, "last/pruned": {5, 11},
	}
	for name, want := range shapes {
		if c := p.Const(name); c == nil || !c.Shape.Equal(want) {
			t.Errorf("%s is not %v", name, want)
		}
	}
	for _, m := range p.Nodes {
		if m.Name == "c3_Conv" && m.Int("group", 0) != 21 {
			t.Errorf("the depthwise convolution has %d groups", m.Int("group", 0))
		}
		if m.Op == "Reshape" && p.Const(m.In[1]).I64()[1] != 21*16 {
			t.Errorf("Reshape to %v", p.Const(m.In[1]).I64())
		}
	}
	if rep.Bytes[1] != p.StoredBytes() || rep.MACs[1] >= rep.MACs[0] || n.Const("c1_w").Shape[0] != 16 {
		t.Errorf("%+v", rep)
	}
}

// TestPruneConstant: a channel that is always the same leaves its mean in the
// biases of what reads it, and no output changes.
func TestPruneConstant(t *testing.T) {
	n := newNet(1, 6)
	n.AddConst("w1", n.random(1, 8, 6))
	n.AddConst("b1", n.random(1, 8))
	n.op("Relu", "h", nil, n.op("Gemm", "a", map[string]model.Attr{"transB": int64(1)}, "x", "w1", "b1"))
	n.AddConst("w2", n.random(1, 8, 4))
	n.op("MatMul", "y", nil, "h", "w2") // no bias: it gets one
	n.Outputs = []string{"y"}
	clear(n.Const("w1").F32()[3*6 : 4*6])
	n.Const("b1").F32()[3] = 2
	r, err := Calibrate(n.Graph, n.samples, 10, Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := PruneChannels(n.Graph, r, PruneOptions{Share: 1. / 8})
	if err != nil {
		t.Fatal(err)
	}
	if got := ops(p); got != "Gemm Relu Gemm" {
		t.Errorf("%s", got)
	}
	in, _ := n.samples(50)
	if got := sqnr(run(t, n.Graph, in), run(t, p, in)); got < 120 {
		t.Errorf("%.1f dB", got)
	}
}

// TestPruneTargets: a share, bytes and multiplications are met, not by more
// than one step, and channels in multiples.
func TestPruneTargets(t *testing.T) {
	n := branchy()
	r, err := Calibrate(n.Graph, n.samples, 10, Options{})
	if err != nil {
		t.Fatal(err)
	}
	bytes0 := n.Graph.StoredBytes()
	for _, o := range []PruneOptions{{Share: .5}, {Bytes: bytes0 / 2}, {MACs: 50_000}, {Share: .4, Multiple: 8}, {Bytes: bytes0 / 2, Multiple: 4}} {
		p, rep, err := PruneChannels(n.Graph, r, o)
		if err != nil {
			t.Errorf("%+v: %v", o, err)
			continue
		}
		in, _ := n.samples(0)
		if out := run(t, p, in); slices.ContainsFunc(out[0], func(v float32) bool { return v-v != 0 }) {
			t.Errorf("%+v: %v", o, out)
		}
		kept := float64(rep.Channels[1]) / float64(rep.Channels[0])
		if o.Share > 0 && (kept > 1-o.Share || kept < .8-o.Share) {
			t.Errorf("%+v: %v channels", o, rep.Channels)
		}
		if o.Bytes > 0 && (rep.Bytes[1] > o.Bytes || rep.Bytes[1] < o.Bytes*8/10) {
			t.Errorf("%+v: %v bytes", o, rep.Bytes)
		}
		if o.MACs > 0 && (rep.MACs[1] > o.MACs || rep.MACs[1] < o.MACs*8/10) {
			t.Errorf("%+v: %v multiplications", o, rep.MACs)
		}
		for _, s := range rep.Sets {
			if o.Multiple > 0 && s.After != s.Before && s.After%o.Multiple != 0 || s.After == 0 {
				t.Errorf("%+v: %+v", o, s)
			}
		}
		again, _, err := PruneChannels(n.Graph, r, o)
		if err != nil || !bytes.Equal(again.Const("fc/pruned").Data, p.Const("fc/pruned").Data) {
			t.Errorf("%+v: twice is not the same: %v", o, err)
		}
	}
}

// TestPruneStays: channels that a caller sees or that an operator mixes are
// left.
func TestPruneStays(t *testing.T) {
	for name, make := range map[string]func(n *net){
		"outputs": func(n *net) { n.conv("y", "x", 4, 6, 3) },
		"softmax": func(n *net) { n.op("Softmax", "y", nil, n.conv("c", "x", 4, 6, 3)) },
		"transpose": func(n *net) {
			n.op("Transpose", "t", map[string]model.Attr{"perm": []int64{0, 2, 1, 3}}, n.conv("c", "x", 4, 4, 3))
			n.conv("y", "t", 4, 2, 1)
		},
		"groups":      func(n *net) { n.conv("y", n.grouped("d", n.conv("c", "x", 4, 6, 3), 6, 4, 2), 4, 2, 1) },
		"with inputs": func(n *net) { n.conv("y", n.op("Add", "s", nil, "x", n.conv("c", "x", 4, 4, 3)), 4, 2, 1) },
		"two outputs": func(n *net) { n.conv("y", n.conv("c", "x", 4, 6, 3), 6, 2, 1); n.Outputs = []string{"c"} },
	} {
		n := newNet(1, 4, 4, 4)
		make(n)
		n.Outputs = append(n.Outputs, "y")
		r, err := Calibrate(n.Graph, n.samples, 2, Options{})
		if err != nil {
			t.Fatal(name, err)
		}
		if _, _, err := PruneChannels(n.Graph, r, PruneOptions{Share: .5}); err == nil || !strings.Contains(err.Error(), "no channels can be cut") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func (n *net) grouped(out, in string, from, to, groups int) string {
	n.AddConst(out+"_w", n.random(.4, to, from/groups, 1, 1))
	return n.op("Conv", out, map[string]model.Attr{"group": int64(groups)}, in, out+"_w")
}

func TestPruneRefuses(t *testing.T) {
	n := branchy()
	r, err := Calibrate(n.Graph, n.samples, 2, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		o    PruneOptions
		text string
	}{
		{PruneOptions{}, "one of"},
		{PruneOptions{Share: .5, Bytes: 5}, "one of"},
		{PruneOptions{Share: 1}, "below 1"},
		{PruneOptions{Share: math.NaN()}, "below 1"},
		{PruneOptions{Share: .5, Multiple: -1}, "negative"},
		{PruneOptions{Share: .95}, "keeps an eighth"},
		{PruneOptions{Bytes: 10}, "10 are wanted"},
		{PruneOptions{MACs: 10}, "10 are wanted"},
	} {
		if _, _, err := PruneChannels(n.Graph, r, c.o); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
	if _, _, err := PruneChannels(n.Graph, nil, PruneOptions{Share: .5}); !errors.Is(err, ErrSamples) {
		t.Error(err)
	}
}

// TestGarmentsPruned: a twentieth of the channels of the demo's model costs
// little before any training.
func TestGarmentsPruned(t *testing.T) {
	test, calib := fashion(t, "t10k"), fashion(t, "train")
	if test == nil || calib == nil {
		t.Skip("skipped: Debian's dataset-fashion-mnist is not installed")
	}
	calib.n = 256
	if !*long {
		calib.n, test.n = 64, 500
	}
	g := importFile(t, filepath.Join("..", "examples", "garments", "garments.onnx"))
	pruned(t, g, *test, *calib, 1)
}

// TestResNet8Pruned: three sets of channels of it are one each by residual
// Adds.
func TestResNet8Pruned(t *testing.T) {
	g := importFile(t, shared.Dir(t, "models", "onnx", "mlperftiny-ic01-resnet8-cifar10.onnx"))
	test := cifar(t, shared.Dir(t, "data", "vision", "cifar10", "test-2000.bin"))
	calib := cifar(t, shared.Dir(t, "data", "vision", "cifar10", "calib-500.bin"))
	if !*long {
		calib.n, test.n = 100, 500
	}
	pruned(t, g, test, calib, 9)
}

func pruned(t *testing.T, g *model.Graph, test, calib labelled, points float64) {
	t.Helper()
	r, err := Calibrate(g, calib.next, calib.n, Options{})
	if err != nil {
		t.Fatal(err)
	}
	float := accuracy(t, g, test)
	shares := []float64{.05}
	if *long {
		shares = []float64{.05, .1, .2, .3, .5}
	}
	for _, share := range shares {
		p, rep, err := PruneChannels(g, r, PruneOptions{Share: share})
		if err != nil {
			t.Fatal(err)
		}
		lost := float - accuracy(t, p, test)
		t.Logf("%g of the channels: %d -> %d bytes, %d -> %d multiplications, %.2f %% -> %.2f %%", share,
			rep.Bytes[0], rep.Bytes[1], rep.MACs[0], rep.MACs[1], float, float-lost)
		if share <= .05 && lost > points {
			t.Errorf("%.2f points lost, %.2f allowed", lost, points)
		}
	}
}
