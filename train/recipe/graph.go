package recipe

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"

	"dunlin/model"
	"dunlin/model/onnx"
)

// Graph returns the network to train, for inputs of that shape, the batch left
// out: of the recipe's layers with weights drawn from its seed, or of its ONNX
// file. What is wrong with the recipe is an *Error.
func (r *Recipe) Graph(input Shape) (*model.Graph, error) {
	if r.Network.ONNX != "" {
		return r.importGraph(input)
	}
	g, f := r.Network.newGraph(input, r.Train.Loss, r.Train.Seed, maxParameters)
	if f != nil {
		return nil, r.at(f)
	}
	return g, nil
}

// Frozen reports whether a constant stays as it is.
func (r *Recipe) Frozen(constant string) bool {
	return slices.ContainsFunc(r.Network.Freeze, func(pattern string) bool {
		ok, _ := path.Match(pattern, constant)
		return ok
	})
}

func importFile(file string) (*model.Graph, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	g, err := onnx.Import(data)
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", file, err)
	}
	return g, nil
}

// fileInput returns the shape of the one input of an ONNX file, without the
// batch.
func fileInput(g *model.Graph) (Shape, error) {
	if len(g.Inputs) != 1 || len(g.Outputs) != 1 {
		return nil, fmt.Errorf("it has %d inputs and %d outputs: want one of each", len(g.Inputs), len(g.Outputs))
	}
	s := g.Value(g.Inputs[0]).Shape
	if len(s) < 2 || !s[1:].Known() {
		return nil, fmt.Errorf("its input %s has the shape %v: want axes of known length after the batch", g.Inputs[0], s)
	}
	return Shape(s[1:]), nil
}

// importGraph reads the network to go on with.
func (r *Recipe) importGraph(input Shape) (*model.Graph, error) {
	g, err := importFile(r.Network.ONNX)
	if err != nil {
		return nil, r.at(&fault{"network.onnx", err})
	}
	want, err := fileInput(g)
	if err == nil && !slices.Equal(want, input) {
		err = fmt.Errorf("its input is %v, the data are %v", want, input)
	}
	if err == nil && r.Network.Classes > 0 {
		g, err = replaceHead(g, r.Network.Classes, r.Train.Seed)
	}
	if err != nil {
		return nil, r.at(&fault{"network.onnx", fmt.Errorf("%s: %w", r.Network.ONNX, err)})
	}
	names := constants(g)
	for _, pattern := range r.Network.Freeze {
		if !slices.ContainsFunc(names, func(name string) bool { ok, _ := path.Match(pattern, name); return ok }) {
			return nil, r.at(badf("network.freeze", "%q matches no constant of %s; it has %s", pattern, r.Network.ONNX, strings.Join(names, ", ")))
		}
	}
	return g, nil
}

func constants(g *model.Graph) []string {
	var names []string
	for name, v := range g.Values {
		if v.Const != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// replaceHead gives the last dense layer of g fresh weights for another number
// of outputs, where it has another.
func replaceHead(g *model.Graph, classes int, seed uint64) (*model.Graph, error) {
	g = g.Clone()
	made := g.Producers()
	at := g.Outputs[0]
	n := made[at]
	for n != nil && (n.Op == "Softmax" || n.Op == "LogSoftmax" || n.Op == "Identity") {
		n = made[n.Input(0)]
	}
	bias := -1 // the input of n or of the node behind it
	var added *model.Node
	switch {
	case n != nil && n.Op == "Gemm":
		bias = 2
	case n != nil && n.Op == "Add" && len(n.In) == 2:
		added = n
		for i := range 2 {
			if m := made[n.In[i]]; m != nil && m.Op == "MatMul" && g.Const(n.In[1-i]) != nil {
				n, bias = m, 1-i
			}
		}
	}
	var w *model.Tensor
	if n != nil && (n.Op == "Gemm" || n.Op == "MatMul") {
		w = g.Const(n.Input(1))
	}
	if w == nil || len(w.Shape) != 2 || w.Type != model.F32 {
		return nil, fmt.Errorf("it does not end in a dense layer of float32 weights, so that its classes cannot be replaced")
	}
	axis := 1 // of the outputs
	if n.Int("transB", 0) == 1 {
		axis = 0
	}
	if w.Shape[axis] == classes {
		return g, nil
	}
	shape := slices.Clone(w.Shape)
	shape[axis] = classes
	fresh, err := model.NewTensor(model.F32, shape...)
	if err != nil {
		return nil, err
	}
	draw(fresh.F32(), shape[1-axis], classes, "", rand.New(rand.NewPCG(seed, 0)))
	n.In[1] = addFresh(g, n.In[1], fresh)
	zero, err := model.NewTensor(model.F32, classes)
	if err != nil {
		return nil, err
	}
	switch {
	case added != nil && bias >= 0:
		added.In[bias] = addFresh(g, added.In[bias], zero)
	case bias == 2 && n.Input(2) != "":
		n.In[2] = addFresh(g, n.In[2], zero)
	}
	// What the file says of shapes behind the layer is no longer so.
	for name, v := range g.Values {
		if made[name] != nil {
			v.Shape, v.Dims = nil, nil
		}
	}
	g.Values[g.Outputs[0]] = batched(Shape{classes})
	g.Prune()
	return g, nil
}

// addFresh adds a constant in place of another, under a name of its own where
// others read the old one.
func addFresh(g *model.Graph, name string, t *model.Tensor) string {
	taken := map[string]bool{}
	for v := range g.Values {
		taken[v] = true
	}
	for v := range g.Producers() {
		taken[v] = true
	}
	if len(g.Consumers()[name]) == 1 {
		g.AddConst(name, t)
		return name
	}
	name = fresh(taken, name)
	g.AddConst(name, t)
	return name
}
