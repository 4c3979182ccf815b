package quant

import (
	"flag"
	"path/filepath"
	"slices"
	"testing"

	"dunlin/engine"
	"dunlin/internal/shared"
	"dunlin/model"
)

// only is the one network that TestLadder looks at.
var only = flag.String("only", "", "the network whose ladder is measured")

// network is a model with samples to calibrate with, and others to measure
// on.
type network struct {
	name        string
	g           *model.Graph
	calib, test labelled
	logits      bool
}

// every returns the samples whose index passes.
func (l labelled) every(pass func(i int) bool) labelled {
	var at []int
	for i := range l.n {
		if pass(i) {
			at = append(at, i)
		}
	}
	return labelled{len(at), func(i int) *model.Tensor { return l.tensor(at[i]) }, func(i int) int { return l.class(at[i]) }}
}

// networks are those that int8 is held to.
func networks(t *testing.T) []network {
	t.Helper()
	fifth := func(i int) bool { return i%5 == 0 }
	rest := func(i int) bool { return i%5 != 0 }
	onnx := func(name string) *model.Graph { return importFile(t, shared.Dir(t, "models", "onnx", name)) }
	pictures := imagenet(t, shared.Dir(t, "data", "vision", "imagenet-sample-500"))
	words := keywords(t, shared.Dir(t, "data", "audio", "mlperftiny-kws01"), onnx("mlperftiny-kws01-dscnn-qdq-int8.onnx"))
	digits := mnist(t, shared.Dir(t, "data", "vision", "mnist"))
	all := []network{
		{"MobileNetV2", onnx("mobilenet-v2-1.0-224-dequant.onnx"), pictures.every(fifth), pictures.every(rest), false},
		{
			"ResNet-8", onnx("mlperftiny-ic01-resnet8-cifar10.onnx"), cifar(t, shared.Dir(t, "data", "vision", "cifar10", "calib-500.bin")),
			cifar(t, shared.Dir(t, "data", "vision", "cifar10", "test-2000.bin")), false,
		},
		{"DS-CNN", onnx("mlperftiny-kws01-dscnn.onnx"), words.every(fifth), words.every(rest), false},
		{"MNIST", onnx("mnist-cntk-8.onnx"), digits.every(func(i int) bool { return i%50 == 0 }), digits.every(func(i int) bool { return i%50 != 0 }), true},
	}
	test, calib := fashion(t, "t10k"), fashion(t, "train")
	if test != nil && calib != nil {
		calib.n = 256
		all = append(all, network{"garments", importFile(t, filepath.Join("..", "examples", "garments", "garments.onnx")), *calib, *test, true})
	}
	return all
}

// mnist reads MNIST's test set.
func mnist(t *testing.T, dir string) labelled {
	t.Helper()
	images := idx(t, filepath.Join(dir, "t10k-images-idx3-ubyte.gz"), 16)
	classes := idx(t, filepath.Join(dir, "t10k-labels-idx1-ubyte.gz"), 8)
	return labelled{
		n:      len(classes),
		tensor: func(i int) *model.Tensor { return pixels(images[i*784:(i+1)*784], 1, 1, 1, 28, 28) },
		class:  func(i int) int { return int(classes[i]) },
	}
}

// TestLadder prints the front of each network with the accuracy of each
// candidate on samples that calibration did not see, through the kernels that
// run it; without -long that of DS-CNN only. With all layers in int8 no network may lose more than 0.4 points,
// nor all of them more than 0.2 on average.
func TestLadder(t *testing.T) {
	sum, all := 0.0, networks(t)
	if *only != "" {
		all = slices.DeleteFunc(all, func(n network) bool { return n.name != *only })
	} else if !*long {
		all = slices.DeleteFunc(all, func(n network) bool { return n.name != "DS-CNN" })
	}
	for _, n := range all {
		r, err := Calibrate(n.g, n.calib.next, n.calib.n, Options{})
		if err != nil {
			t.Fatal(err)
		}
		learned, err := LearnRounding(n.g, r, n.calib.next, n.calib.n, Options{})
		if err != nil {
			t.Fatal(err)
		}
		front, s, err := Front(n.g, r, n.calib.next, n.calib.n, FrontOptions{Logits: n.logits, Options: Options{Rounding: learned}})
		if err != nil {
			t.Fatal(err)
		}
		want := verdicts(t, n.g, n.test)
		t.Logf("%s: float %.2f %% of %d, %d bytes", n.name, share(want), n.test.n, n.g.StoredBytes())
		for _, l := range s.Layers {
			t.Logf("    %-40s %-8s %8d weights, %v, protected: %v", l.Name, l.Op, l.Count, l.Costs, l.Protected)
		}
		for _, c := range front {
			q, _, err := Apply(n.g, r, Options{Levels: c.Levels, Rounding: learned})
			if err != nil {
				t.Fatal(err)
			}
			got := verdicts(t, q, n.test)
			t.Logf("  %-32s %8d bytes, %.2f times smaller, KL %.5f, %.2f points lost, %.2f %% agree", c.Name, c.Bytes, float64(n.g.StoredBytes())/float64(c.Bytes), c.KL, share(want)-share(got), agreeing(want, got))
		}
		q, _, err := Apply(n.g, r, Options{})
		if err != nil {
			t.Fatal(err)
		}
		lost := share(want) - share(verdicts(t, q, n.test))
		t.Logf("  int8: %.2f points lost", lost)
		if lost > .4 {
			t.Errorf("%s: int8 loses %.2f points", n.name, lost)
		}
		sum += lost
	}
	if mean := sum / float64(len(all)); mean > .2 {
		t.Errorf("int8 loses %.2f points on average", mean)
	}
}

// verdict is a class and whether it is right.
type verdict struct {
	class int
	right bool
}

// verdicts runs g on all of l.
func verdicts(t *testing.T, g *model.Graph, l labelled) []verdict {
	t.Helper()
	p, err := engine.Compile(g, engine.Options{Shapes: map[string]model.Shape{g.Inputs[0]: l.tensor(0).Shape}})
	if err != nil {
		t.Fatal(err)
	}
	s, all := p.NewSession(), []verdict{}
	for i := range l.n {
		copy(s.Input(0).Data, l.tensor(i).Data)
		if err := s.Run(); err != nil {
			t.Fatal(err)
		}
		best, scores := 0, s.Output(0).F32()
		for j, v := range scores {
			if v > scores[best] {
				best = j
			}
		}
		all = append(all, verdict{best, best == l.class(i)})
	}
	return all
}

// share returns how many percent are right.
func share(all []verdict) float64 {
	n := 0
	for _, v := range all {
		if v.right {
			n++
		}
	}
	return 100 * float64(n) / float64(len(all))
}

// agreeing returns how many percent have the same class.
func agreeing(a, b []verdict) float64 {
	n := 0
	for i := range a {
		if a[i].class == b[i].class {
			n++
		}
	}
	return 100 * float64(n) / float64(len(a))
}
