package train

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"dunlin/model"
)

// torchTensor is a tensor in testdata/fixtures.json, which
// testdata/fixtures.py writes and explains.
type torchTensor struct {
	Shape model.Shape
	Data  string
}

type torchNode struct {
	Op      string
	In, Out []string
	Attrs   map[string]any
}

type torchGraph struct {
	Name     string
	Training bool
	Nodes    []torchNode
	X        torchTensor
	Consts   map[string]torchTensor
}

type torchCase struct {
	torchGraph
	Y, Up, Dx             torchTensor
	Gradients, Statistics map[string]torchTensor
}

type torchSteps struct {
	torchGraph
	Labels []int32
	Rate   float64
	Losses []float64
	After  map[string]torchTensor
}

type torchLosses struct {
	Logits, Teacher torchTensor
	Labels          []int32
	Of              []struct {
		Name     string
		Loss     float64
		Gradient torchTensor
	}
}

type torchFixtures struct {
	Cases  []torchCase
	Losses torchLosses
	Steps  torchSteps
}

func readFixtures(t *testing.T) (f torchFixtures) {
	t.Helper()
	data, err := os.ReadFile("testdata/fixtures.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func (x torchTensor) tensor(t *testing.T) *model.Tensor {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(x.Data)
	if err != nil {
		t.Fatal(err)
	}
	v, err := model.View(model.F32, x.Shape, data)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// attr returns an attribute as a graph holds it; JSON has one kind of number.
func attr(name string, v any) model.Attr {
	switch v := v.(type) {
	case float64:
		if name == "epsilon" || name == "momentum" || name == "alpha" {
			return float32(v)
		}
		return int64(v)
	case []any:
		var list []int64
		for _, k := range v {
			list = append(list, int64(k.(float64)))
		}
		return list
	}
	return v
}

// net lays the graph out.
func (c *torchGraph) net(t *testing.T) *Net {
	t.Helper()
	g := model.New(c.Name)
	g.Inputs, g.Outputs = []string{"x"}, []string{"y"}
	g.Values["x"] = &model.Value{Type: model.F32, Shape: c.X.Shape}
	for name, x := range c.Consts {
		g.AddConst(name, x.tensor(t))
	}
	for _, n := range c.Nodes {
		node := &model.Node{Op: n.Op, Name: n.Out[0], In: n.In, Out: n.Out, Attrs: map[string]model.Attr{}}
		for key, v := range n.Attrs {
			node.Attrs[key] = attr(key, v)
		}
		g.Nodes = append(g.Nodes, node)
	}
	n := laidOut(t, g, Options{Batch: c.X.Shape[0], InputGradients: true})
	copy(n.Input(0), c.X.tensor(t).F32())
	return n
}

// TestTorch compares forward, backward and the statistics of norms with torch,
// within 1e-5 of the largest number of a tensor: both compute in float32, in
// another order.
func TestTorch(t *testing.T) {
	for _, c := range readFixtures(t).Cases {
		t.Run(c.Name, func(t *testing.T) {
			n := c.net(t)
			n.Forward(c.Training)
			close32(t, "y", n.Output(0), c.Y.tensor(t).F32(), 1e-5)
			copy(n.OutputGradient(0), c.Up.tensor(t).F32())
			n.Backward()
			close32(t, "dx", n.InputGradient(0), c.Dx.tensor(t).F32(), 1e-5)
			if len(n.Parameters()) != len(c.Gradients) || len(n.Statistics()) != len(c.Statistics) {
				t.Fatalf("%d parameters and %d statistics, torch has %d and %d", len(n.Parameters()), len(n.Statistics()), len(c.Gradients), len(c.Statistics))
			}
			for _, p := range n.Parameters() {
				close32(t, "gradient of "+p.Name, p.Gradient, c.Gradients[p.Name].tensor(t).F32(), 1e-5)
			}
			for _, p := range n.Statistics() {
				close32(t, p.Name, p.Value, c.Statistics[p.Name].tensor(t).F32(), 1e-5)
			}
		})
	}
}

// TestTorchSteps takes three steps of Adam on the mean cross-entropy, and
// compares losses, parameters and statistics with torch's. A step of Adam is
// about as long for a small gradient as for a large one, so that the parameters
// that come out may differ by more than the gradients.
func TestTorchSteps(t *testing.T) {
	c := readFixtures(t).Steps
	n := c.net(t)
	adam, err := NewOptimiser(OptimiserOptions{Method: Adam}, n.Parameters())
	if err != nil {
		t.Fatal(err)
	}
	loss, targets := &CrossEntropy{}, Targets{Classes: c.Labels}
	for step, want := range c.Losses {
		n.Forward(true)
		if got := loss.Of(n.Batch(), n.Output(0), targets, n.OutputGradient(0)); math.Abs(got-want) > 1e-5 {
			t.Errorf("step %d: loss %v, torch's %v", step, got, want)
		}
		n.Backward()
		adam.Step(c.Rate)
	}
	for _, p := range slices.Concat(n.Parameters(), n.Statistics()) {
		close32(t, p.Name, p.Value, c.After[p.Name].tensor(t).F32(), 1e-4)
	}
}

// TestTorchLosses compares losses by logits, and their gradients.
func TestTorchLosses(t *testing.T) {
	f := readFixtures(t).Losses
	losses := map[string]Loss{
		"cross entropy": &CrossEntropy{}, "cross entropy smoothed by 0.1": &CrossEntropy{Smoothing: 0.1},
		"kl at temperature 4": &Distillation{Temperature: 4, Weight: 1}, "mse": MSE{},
	}
	if len(f.Of) != len(losses) {
		t.Errorf("torch has %d losses, not %d", len(f.Of), len(losses))
	}
	logits, teacher := f.Logits.tensor(t).F32(), f.Teacher.tensor(t).F32()
	for _, c := range f.Of {
		gradient := make([]float32, len(logits))
		got := losses[c.Name].Of(len(f.Labels), logits, Targets{Classes: f.Labels, Values: teacher, Teacher: teacher}, gradient)
		if math.Abs(got-c.Loss) > 1e-5*math.Abs(c.Loss) {
			t.Errorf("%s: %v, torch has %v", c.Name, got, c.Loss)
		}
		close32(t, c.Name, gradient, c.Gradient.tensor(t).F32(), 1e-5)
	}
}
