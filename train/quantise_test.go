package train_test

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"dunlin/engine"
	"dunlin/internal/shared"
	"dunlin/model"
	"dunlin/model/onnx"
	"dunlin/model/prep"
	"dunlin/model/samples"
	"dunlin/quant"
	"dunlin/train"
)

// garments returns the demo's network without its Softmax, and pictures as it
// takes them, with their classes.
func garments(t *testing.T, dir string, limit int) (g *model.Graph, pictures []*model.Tensor, classes []int) {
	t.Helper()
	const home = "../examples/garments/"
	data, err := os.ReadFile(home + "garments.onnx")
	if err != nil {
		t.Fatal(err)
	}
	if g, err = onnx.Import(data); err != nil {
		t.Fatal(err)
	}
	for _, n := range g.Nodes {
		if n.Op == "Softmax" {
			g.Outputs = []string{n.In[0]}
		}
	}
	text, err := os.ReadFile(home + "prep.toml")
	if err != nil {
		t.Fatal(err)
	}
	spec, err := prep.ParseTOML(text)
	if err != nil {
		t.Fatal(err)
	}
	set, err := samples.Open(home+dir, samples.Options{Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	for i := range set.Len() {
		s, err := set.At(i)
		if err != nil {
			t.Fatal(err)
		}
		x, err := model.NewTensor(model.F32, spec.Inputs[0].Shape()...)
		if err == nil {
			err = spec.Inputs[0].Picture(s.Picture, x)
		}
		if err != nil {
			t.Fatal(err)
		}
		pictures, classes = append(pictures, x), append(classes, s.Class)
	}
	return g, pictures, classes
}

// quantised returns g in int8 by its calibration pictures, and ready to train.
func quantised(t *testing.T, g *model.Graph, pictures []*model.Tensor, o quant.Options) (small *model.Graph, q *train.Quantised) {
	t.Helper()
	next := func(i int) ([]*model.Tensor, error) { return pictures[i : i+1], nil }
	r, err := quant.Calibrate(g, next, len(pictures), o)
	if err != nil {
		t.Fatal(err)
	}
	if small, _, err = quant.Apply(g, r, o); err != nil {
		t.Fatal(err)
	}
	float, err := quant.Prepare(g)
	if err != nil {
		t.Fatal(err)
	}
	if q, err = train.NewQuantised(float, small); err != nil {
		t.Fatal(err)
	}
	return small, q
}

// answers returns what the engine makes of each picture.
func answers(t *testing.T, g *model.Graph, pictures []*model.Tensor) [][]float32 {
	t.Helper()
	p, err := engine.Compile(g, engine.Options{Shapes: map[string]model.Shape{g.Inputs[0]: pictures[0].Shape}})
	if err != nil {
		t.Fatal(err)
	}
	if !p.Exact() {
		t.Fatal("the graph computes no integers")
	}
	s := p.NewSession()
	all := make([][]float32, len(pictures))
	for i, x := range pictures {
		copy(s.Input(0).Data, x.Data)
		if err := s.Run(); err != nil {
			t.Fatal(err)
		}
		all[i] = slices.Clone(s.Output(0).F32())
	}
	return all
}

// TestQuantisedIsTheEngine: what is trained computes, bit for bit, what the
// engine's int8 program does, before training and after.
func TestQuantisedIsTheEngine(t *testing.T) {
	limit := 0
	if testing.Short() {
		limit = 40
	}
	g, calibration, _ := garments(t, "calibration", 100)
	small, q := quantised(t, g, calibration, quant.Options{})
	_, pictures, classes := garments(t, "samples", limit)
	const batch = 20
	net, err := train.NewNet(q.Graph(), train.Options{Batch: batch})
	if err != nil {
		t.Fatal(err)
	}
	before := slices.Clone(net.Parameters()[0].Value)
	same(t, "as quant made it", net, answers(t, small, pictures), pictures)
	trainGarments(net, pictures, classes, 3)
	if slices.Equal(before, net.Parameters()[0].Value) {
		t.Error("training changed nothing")
	}
	trained, err := q.Int8(net.Graph())
	if err != nil {
		t.Fatal(err)
	}
	after := answers(t, trained, pictures)
	same(t, "trained", net, after, pictures)
	if slices.EqualFunc(after, answers(t, small, pictures), slices.Equal) {
		t.Error("the int8 network is the one from before")
	}
}

// same compares the net with what the engine answered.
func same(t *testing.T, what string, net *train.Net, want [][]float32, pictures []*model.Tensor) {
	t.Helper()
	differ := 0
	for at := 0; at+net.Batch() <= len(pictures); at += net.Batch() {
		fill(net, pictures[at:])
		net.Forward(false)
		n := len(want[0])
		for i := range net.Batch() {
			if !slices.Equal(net.Output(0)[i*n:(i+1)*n], want[at+i]) {
				if differ++; differ < 4 {
					t.Logf("%s: picture %d: %v, the engine says %v", what, at+i, net.Output(0)[i*n:(i+1)*n], want[at+i])
				}
			}
		}
	}
	if differ > 0 {
		t.Errorf("%s: other scores for %d of %d pictures", what, differ, len(pictures))
	}
}

func fill(net *train.Net, pictures []*model.Tensor) {
	for i := range net.Batch() {
		x := pictures[i].F32()
		copy(net.Input(0)[i*len(x):], x)
	}
}

// trainGarments takes steps of gradient descent on the cross-entropy of a
// softmax.
func trainGarments(net *train.Net, pictures []*model.Tensor, classes []int, steps int) {
	r := rand.New(rand.NewPCG(5, 6))
	for range steps {
		at := r.IntN(len(pictures) - net.Batch() + 1)
		fill(net, pictures[at:])
		net.Forward(true)
		y, dy := net.Output(0), net.OutputGradient(0)
		n := len(y) / net.Batch()
		for i := range net.Batch() {
			row := y[i*n : (i+1)*n]
			sum, most := 0.0, slices.Max(row)
			for _, v := range row {
				sum += math.Exp(float64(v - most))
			}
			for c, v := range row {
				dy[i*n+c] = float32(math.Exp(float64(v-most))/sum) / float32(net.Batch())
			}
			dy[i*n+classes[at+i]] -= 1 / float32(net.Batch())
		}
		net.Backward()
		for _, p := range net.Parameters() {
			for j, d := range p.Gradient {
				p.Value[j] -= 0.02 * d
			}
		}
	}
}

// TestQuantisedModels: the same of real networks that were made elsewhere.
func TestQuantisedModels(t *testing.T) {
	list := []string{"mlperftiny-ic01-resnet8-cifar10", "mlperftiny-kws01-dscnn", "mlperftiny-vww01-mbv1-0.25", "mnist-cntk-8", "mlperftiny-ad01"}
	if !testing.Short() {
		list = append(list, "mobilenet-v2-1.0-224-dequant")
	}
	for _, name := range list {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(shared.Dir(t, "models", "onnx", name+".onnx"))
			if err != nil {
				t.Fatal(err)
			}
			g, err := onnx.Import(data)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range g.Nodes {
				if n.Op == "Softmax" {
					g.Outputs = []string{n.In[0]}
				}
			}
			shape := slices.Clone(g.Value(g.Inputs[0]).Shape)
			shape[0] = 1
			r := rand.New(rand.NewPCG(1, 2))
			pictures := make([]*model.Tensor, 4)
			for i := range pictures {
				if pictures[i], err = model.NewTensor(model.F32, shape...); err != nil {
					t.Fatal(err)
				}
				for j := range pictures[i].F32() {
					pictures[i].F32()[j] = r.Float32()
				}
			}
			small, q := quantised(t, g, pictures, quant.Options{})
			net, err := train.NewNet(q.Graph(), train.Options{Batch: 2})
			if err != nil {
				t.Fatal(err)
			}
			same(t, name, net, answers(t, small, pictures), pictures)
			if again, err := q.Int8(net.Graph()); err != nil || !slices.EqualFunc(answers(t, again, pictures), answers(t, small, pictures), slices.Equal) {
				t.Errorf("untrained weights make another int8 network, %v", err)
			}
		})
	}
}
