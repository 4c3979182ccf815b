package quant

import (
	"bytes"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dunlin/internal/shared"
	"dunlin/model"
)

// TestDataFree: behind a batch normalisation each channel has the mean beta
// and the deviation gamma, whatever is fed, and behind a Relu the mean that
// the formula for a normal variable gives.
func TestDataFree(t *testing.T) {
	n := newNet(model.Unknown, 3, 16, 16)
	n.op("Relu", "a", nil, n.norm("bn", n.conv("c1", "x", 3, 8, 3), 8))
	n.norm("y", n.conv("c2", "a", 8, 4, 3), 4)
	n.Outputs = []string{"y"}
	r, rep, err := DataFree(n.Graph, []Bounds{{-2, 3}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if rep.Norms != 2 || rep.Layers != 2 || rep.Weak != nil || r.Samples == 0 {
		t.Errorf("%+v, %d samples", rep, r.Samples)
	}
	if h := r.Histogram("x"); h.Min < -2 || h.Max > 3 || h.Max-h.Min < 4.9 {
		t.Errorf("inputs from %g to %g", h.Min, h.Max)
	}
	mean, square, relu := r.mean("bn"), r.meanSquare("bn"), r.mean("a")
	for c := range 8 {
		gamma, beta := float64(n.Const("bn_scale").F32()[c]), float64(n.Const("bn_bias").F32()[c])
		sd := math.Sqrt(square[c] - mean[c]*mean[c])
		if math.Abs(mean[c]-beta) > .01 || math.Abs(sd/math.Abs(gamma)-1) > .1 { // epsilon is .01
			t.Errorf("channel %d has %g +- %g, want %g +- %g", c, mean[c], sd, beta, gamma)
		}
		z := beta / math.Abs(gamma)
		want := math.Abs(gamma)*math.Exp(-z*z/2)/math.Sqrt(2*math.Pi) + beta*(1+math.Erf(z/math.Sqrt2))/2
		if math.Abs(relu[c]-want) > .1*math.Abs(gamma) {
			t.Errorf("channel %d has %g behind the Relu, want about %g", c, relu[c], want)
		}
	}
	again, _, err := DataFree(n.Graph, []Bounds{{-2, 3}}, Options{})
	if err != nil || *again.Histogram("y") != *r.Histogram("y") {
		t.Errorf("twice is not the same: %v", err)
	}
	q, _, err := Apply(n.Graph, r, Options{})
	if err != nil {
		t.Fatal(err)
	}
	checkSteps(t, q)
}

// TestDataFreeWeak names the layers that no normalisation stands behind.
func TestDataFreeWeak(t *testing.T) {
	n := typical()
	n.Values["x"].Shape[0] = model.Unknown
	_, rep, err := DataFree(n.Graph, []Bounds{{-1, 1}}, Options{})
	if err != nil || !slices.Equal(rep.Weak, []string{"c2_Conv", "g_Gemm"}) || rep.Layers != 3 {
		t.Errorf("%+v, %v", rep, err)
	}
	for _, c := range []struct {
		bounds []Bounds
		text   string
	}{
		{nil, "0 bounds for 1 inputs"},
		{[]Bounds{{1, 1}}, "input x"},
		{[]Bounds{{0, float32(math.Inf(1))}}, "input x"},
		{[]Bounds{{float32(math.NaN()), 1}}, "input x"},
	} {
		if _, _, err := DataFree(n.Graph, c.bounds, Options{}); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v: %v", c.bounds, err)
		}
	}
	if _, _, err := DataFree(n.Graph, []Bounds{{0, 1}}, Options{Range: "odd"}); err == nil {
		t.Error("odd options are taken")
	}
}

// TestMadeUp: pictures are within bounds, use most of them, and are smooth.
func TestMadeUp(t *testing.T) {
	n := newNet(model.Unknown, 3, 32, 20)
	m := &maker{g: n.Graph, bounds: []Bounds{{-1, 1}}, batch: 16}
	in, err := m.next(0)
	if err != nil || !in[0].Shape.Equal(model.Shape{16, 3, 32, 20}) {
		t.Fatalf("%v, %v", in, err)
	}
	v := in[0].F32()
	if lo, hi := slices.Min(v), slices.Max(v); lo < -1 || hi > 1 || hi-lo < 1.9 {
		t.Errorf("from %g to %g", lo, hi)
	}
	var all, step float64
	for i := 1; i < len(v); i++ {
		all += float64(v[i]) * float64(v[i])
		if i%20 != 0 {
			step += float64(v[i]-v[i-1]) * float64(v[i]-v[i-1])
		}
	}
	if step > all/4 {
		t.Errorf("neighbours differ by %g of %g", step, all)
	}
	other, _ := m.next(1)
	if bytes.Equal(other[0].Data, in[0].Data) {
		t.Error("two batches are one")
	}
}

// TestGarmentsDataFree: the demo's model, without one picture.
func TestGarmentsDataFree(t *testing.T) {
	test := fashion(t, "t10k")
	if test == nil {
		t.Skip("skipped: Debian's dataset-fashion-mnist is not installed")
	}
	if !*long {
		test.n = 500
	}
	g := importFile(t, filepath.Join("..", "examples", "garments", "garments.onnx"))
	dataFreeLoss(t, g, *test, Bounds{-.286 / .353, .714 / .353}, .5)
}

// TestResNet8DataFree: a graph whose batch normalisation is folded.
func TestResNet8DataFree(t *testing.T) {
	g := importFile(t, shared.Dir(t, "models", "onnx", "mlperftiny-ic01-resnet8-cifar10.onnx"))
	test := cifar(t, shared.Dir(t, "data", "vision", "cifar10", "test-2000.bin"))
	if !*long {
		test.n = 500
	}
	dataFreeLoss(t, g, test, Bounds{0, 255}, 2)
}

func dataFreeLoss(t *testing.T, g *model.Graph, test labelled, b Bounds, points float64) {
	t.Helper()
	r, rep, err := DataFree(g, []Bounds{b}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", rep)
	q, _, err := Apply(g, r, Options{})
	if err != nil {
		t.Fatal(err)
	}
	checkSteps(t, q)
	lossAtMost(t, accuracy(t, g, test), accuracy(t, q, test), points)
}
