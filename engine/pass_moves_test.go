package engine

import (
	"slices"
	"testing"

	"dunlin/model"
)

// sameAnswers runs g with all passes and with none.
func sameAnswers(t *testing.T, g *model.Graph) {
	t.Helper()
	got, want := runOnce(t, compiled(t, g, Options{}), 1), runOnce(t, plain(t, g), 1)
	for i := range want {
		if d := farthest(t, got[i], want[i]); d > 1e-5 {
			t.Errorf("output %d is off by %g", i, d)
		}
	}
}

// shuffled is a channel shuffle as exporters write it, and its two halves.
func shuffled(b *build, x string, channels, height, width int64) (first, second string) {
	y := b.node("Reshape", nil, x, b.ints(channels/2, 2, height*width))
	y = b.node("Transpose", attrs{"perm": []int64{1, 0, 2}}, y)
	y = b.node("Reshape", nil, y, b.ints(2, -1, channels/2, height, width))
	pick := func(i int64) string {
		index := b.constant(model.Of(model.I64, []int64{i}))
		return b.node("Gather", attrs{"axis": int64(0)}, y, index)
	}
	return pick(0), pick(1)
}

func TestChooseChannels(t *testing.T) {
	b := newBuild(1)
	x := b.node("Conv", nil, b.input("x", 1, 3, 6, 5), b.normal(8, 3, 3, 3))
	first, second := shuffled(b, x, 8, 4, 3)
	y := b.node("Conv", nil, second, b.normal(4, 4, 1, 1))
	b.output(b.node("Concat", attrs{"axis": int64(1)}, first, y))
	g := apply(t, b.Graph, chooseChannels)
	wantOps(t, g, "Conv", "Gather", "Gather", "Conv", "Concat")
	for i, want := range [][]int64{{0, 2, 4, 6}, {1, 3, 5, 7}} {
		if got := g.Const(g.Nodes[1+i].In[1]).I64(); !slices.Equal(got, want) {
			t.Errorf("half %d is channels %v, want %v", i, got, want)
		}
	}
	wantOps(t, apply(t, b.Graph, chooseChannels, channelsLast), "Transpose", "Conv", "Gather", "Gather", "Conv", "Concat", "Transpose")
	sameAnswers(t, b.Graph)
}

// Moves within planes are none of channels.
func TestChooseChannelsLeavesOthers(t *testing.T) {
	b := newBuild(1)
	y := b.node("Reshape", nil, b.input("x", 1, 4, 6, 6), b.ints(4, 6, 6))
	y = b.node("Transpose", attrs{"perm": []int64{0, 2, 1}}, y)
	b.output(b.node("Reshape", nil, y, b.ints(1, 4, 6, 6)))
	wantOps(t, apply(t, b.Graph, chooseChannels), "Reshape", "Transpose", "Reshape")
}

func TestFoldPads(t *testing.T) {
	pad := func(b *build, pads ...int64) string {
		return b.node("Pad", nil, b.input("x", 1, 3, 6, 6), b.ints(pads...))
	}
	b := newBuild(1)
	y := b.node("Conv", attrs{"pads": []int64{0, 1, 0, 0}}, pad(b, 0, 0, 1, 0, 0, 0, 2, 1), b.normal(4, 3, 3, 3))
	b.output(y)
	g := apply(t, b.Graph, foldPads)
	wantOps(t, g, "Conv")
	if got := g.Nodes[0].Ints("pads"); !slices.Equal(got, []int64{1, 1, 2, 1}) {
		t.Errorf("pads %v", got)
	}
	sameAnswers(t, b.Graph)

	b = newBuild(1)
	b.output(b.node("AveragePool", attrs{"kernel_shape": []int64{3, 3}, "strides": []int64{2, 2}}, pad(b, 0, 0, 1, 1, 0, 0, 1, 1)))
	wantOps(t, apply(t, b.Graph, foldPads), "AveragePool")
	sameAnswers(t, b.Graph)

	for name, left := range map[string]func(b *build) string{
		"padding that does not count": func(b *build) string {
			return b.node("AveragePool", attrs{"kernel_shape": []int64{3, 3}, "pads": []int64{1, 1, 1, 1}}, pad(b, 0, 0, 1, 1, 0, 0, 1, 1))
		},
		"more than a window": func(b *build) string {
			return b.node("AveragePool", attrs{"kernel_shape": []int64{3, 3}}, pad(b, 0, 0, 3, 0, 0, 0, 0, 0))
		},
		"channels": func(b *build) string {
			return b.node("Conv", nil, pad(b, 0, 1, 0, 0, 0, 0, 0, 0), b.normal(4, 4, 3, 3))
		},
		"less": func(b *build) string {
			return b.node("Conv", nil, pad(b, 0, 0, -1, 0, 0, 0, 0, 0), b.normal(4, 3, 3, 3))
		},
	} {
		b := newBuild(1)
		b.output(left(b))
		if got := ops(apply(t, b.Graph, foldPads)); !slices.Contains(got, "Pad") {
			t.Errorf("%s: %v", name, got)
		}
		sameAnswers(t, b.Graph)
	}
}

func TestTurnBack(t *testing.T) {
	b := newBuild(1)
	y := b.node("Transpose", attrs{"perm": []int64{0, 3, 2, 1}}, b.input("x", 1, 5, 4, 3))
	y = b.node("Softmax", nil, y)
	b.output(b.node("Transpose", attrs{"perm": []int64{0, 3, 2, 1}}, y))
	g := apply(t, b.Graph, turnBack)
	wantOps(t, g, "Softmax")
	if axis := g.Nodes[0].Int("axis", -1); axis != 1 {
		t.Errorf("axis %d", axis)
	}
	sameAnswers(t, b.Graph)

	b = newBuild(1)
	y = b.node("Transpose", attrs{"perm": []int64{1, 2, 0}}, b.input("x", 2, 3, 4))
	b.output(b.node("Transpose", attrs{"perm": []int64{0, 2, 1}}, y))
	g = apply(t, b.Graph, turnBack)
	wantOps(t, g, "Transpose")
	if perm := g.Nodes[0].Ints("perm"); !slices.Equal(perm, []int64{1, 0, 2}) {
		t.Errorf("order %v", perm)
	}
	sameAnswers(t, b.Graph)
}

// Operators that work along axes follow into NHWC.
func TestChannelsLastAxes(t *testing.T) {
	b := newBuild(1)
	conv := func(x string, out, in int) string { return b.node("Conv", nil, x, b.normal(out, in, 1, 1)) }
	y := conv(b.input("x", 1, 3, 6, 5), 8, 3)
	y = b.node("Slice", nil, y, b.ints(1, 0), b.ints(7, 6), b.ints(1, -2), b.ints(1, 2))
	y = b.node("Pad", nil, y, b.ints(0, 1, 0, 0, 0, 0, 2, 0))
	y = b.node("Gather", attrs{"axis": int64(1)}, y, b.ints(6, 0, 2, 2))
	y = b.node("Softmax", attrs{"axis": int64(1)}, y)
	y = b.node("PRelu", nil, y, b.normal(4, 1, 1))
	y = b.node("Max", nil, y, b.normal(4, 1, 1))
	b.output(conv(y, 2, 4))
	wantOps(t, apply(t, b.Graph, channelsLast), "Transpose", "Conv", "Slice", "Pad", "Gather", "Softmax", "PRelu", "Max", "Conv", "Transpose")
	sameAnswers(t, b.Graph)
}

func TestFindHardSwish(t *testing.T) {
	for _, right := range []bool{true, false} {
		b := newBuild(1)
		x := b.input("x", 2, 3)
		most := float32(6)
		if !right {
			most = 5
		}
		y := b.node("Clip", nil, b.node("Add", nil, b.scalar(3), x), b.scalar(0), b.scalar(most))
		b.output(b.node("Div", nil, b.node("Mul", nil, x, y), b.scalar(6)))
		g := apply(t, b.Graph, findHardSwish)
		if right {
			wantOps(t, g, "HardSwish")
		} else {
			wantOps(t, g, "Add", "Clip", "Mul", "Div")
		}
		sameAnswers(t, b.Graph)
	}
}

// Arithmetic with constants folds into the convolution, also a transposed one;
// what differs from place to place does not.
func TestFoldAffine(t *testing.T) {
	b := newBuild(1)
	y := b.node("Conv", nil, b.input("x", 1, 3, 5, 5), b.normal(4, 3, 3, 3), b.normal(4))
	y = b.node("Mul", nil, b.scalar(0.5), y)
	y = b.node("Add", nil, y, b.normal(1, 4, 1, 1))
	y = b.node("Sub", nil, b.node("Div", nil, y, b.scalar(3)), b.normal(4, 1, 1))
	y = b.node("ConvTranspose", nil, b.node("Relu", nil, y), b.normal(4, 2, 2, 2))
	y = b.node("Add", nil, y, b.normal(1, 2, 1, 1))
	y = b.node("BatchNormalization", nil, y, b.positive(2), b.normal(2), b.normal(2), b.positive(2))
	b.output(b.node("Mul", nil, y, b.normal(4, 4)))
	wantOps(t, apply(t, b.Graph, foldBatchNorm), "Conv", "Relu", "ConvTranspose", "Mul")
	sameAnswers(t, b.Graph)

	b = newBuild(1)
	y = b.node("Conv", nil, b.input("x", 1, 3, 5, 5), b.normal(3, 3, 3, 3))
	y = b.node("Add", nil, y, b.normal(3))       // along the width
	b.output(b.node("Sub", nil, b.scalar(1), y)) // the other way round
	wantOps(t, apply(t, b.Graph, foldBatchNorm), "Conv", "Add", "Sub")
	sameAnswers(t, b.Graph)
}

// A one-hot product, a bias and a function of it are one look-up; ids out of
// range have a row of zeros before the bias.
func TestLookUps(t *testing.T) {
	b := newBuild(1)
	b.typed("ids", model.I32, 6, 1)
	iota := b.constant(model.Of(model.I32, []int32{0, 1, 2, 3}, 1, 4))
	hot := b.node("Cast", attrs{"to": int64(1)}, b.node("Equal", nil, "ids", iota))
	y := b.node("Add", nil, b.node("MatMul", nil, hot, b.normal(4, 3)), b.normal(1, 3))
	y = b.node("Mul", nil, y, b.node("Sigmoid", nil, y))
	b.output(b.node("Reshape", nil, y, b.ints(3, 6)))
	wantOps(t, apply(t, b.Graph, lookUps), "dunlin.LookUp", "Reshape")
	var answers [2][]float32
	for i, p := range []*Program{compiled(t, b.Graph, Options{}), plain(t, b.Graph)} {
		s := p.NewSession()
		copy(s.Input(0).I32(), []int32{3, 0, -1, 4, 2, 0})
		if err := s.Run(); err != nil {
			t.Fatal(err)
		}
		answers[i] = slices.Clone(s.Output(0).F32())
	}
	for i, want := range answers[1] {
		if d := answers[0][i] - want; d < -1e-6 || d > 1e-6 {
			t.Errorf("element %d is %v, want %v", i, answers[0][i], want)
		}
	}
}
