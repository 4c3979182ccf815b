package train

import (
	"math/rand/v2"
	"testing"

	"dunlin/model"
)

// benchNets are the networks of research/compress.md, and the batch of each.
var benchNets = []struct {
	graphCase
	batch int
}{
	{graphCase{name: "mlp-100-50-10", inputs: []model.Shape{{0, 100}}, nodes: dense2(), consts: dense2Weights(100, 50)}, 32},
	{graphCase{name: "mlp-784-128-10", inputs: []model.Shape{{0, 784}}, nodes: dense2(), consts: dense2Weights(784, 128)}, 64},
	{graphCase{name: "cnn-maxpool", inputs: []model.Shape{{0, 1, 28, 28}}, nodes: []*model.Node{
		nodeOf("Conv", "c1", names("x0", "w1", "b1"), names("a"), "pads", ints(1, 1, 1, 1)), nodeOf("Relu", "r1", names("a"), names("b")),
		nodeOf("MaxPool", "p1", names("b"), names("c"), "kernel_shape", ints(2, 2), "strides", ints(2, 2)),
		nodeOf("Conv", "c2", names("c", "w2", "b2"), names("d"), "pads", ints(1, 1, 1, 1)), nodeOf("Relu", "r2", names("d"), names("e")),
		nodeOf("MaxPool", "p2", names("e"), names("f"), "kernel_shape", ints(2, 2), "strides", ints(2, 2)),
		nodeOf("Flatten", "fl", names("f"), names("g")), nodeOf("Gemm", "d", names("g", "w3", "b3"), names("y"), "transB", int64(1)),
	}, consts: map[string]*model.Tensor{
		"w1": normal(0.3, 16, 1, 3, 3), "b1": normal(0.1, 16), "w2": normal(0.1, 32, 16, 3, 3), "b2": normal(0.1, 32), "w3": normal(0.02, 10, 1568), "b3": normal(0.1, 10),
	}}, 64},
	{graphCase{name: "cnn-strides", inputs: []model.Shape{{0, 1, 28, 28}}, nodes: []*model.Node{
		nodeOf("Conv", "c1", names("x0", "w1", "b1"), names("a"), "pads", ints(1, 1, 1, 1), "strides", ints(2, 2)), nodeOf("Relu", "r1", names("a"), names("c")),
		nodeOf("Conv", "c2", names("c", "w2", "b2"), names("d"), "pads", ints(1, 1, 1, 1), "strides", ints(2, 2)), nodeOf("Relu", "r2", names("d"), names("f")),
		nodeOf("Flatten", "fl", names("f"), names("g")), nodeOf("Gemm", "d", names("g", "w3", "b3"), names("y"), "transB", int64(1)),
	}, consts: map[string]*model.Tensor{
		"w1": normal(0.3, 16, 1, 3, 3), "b1": normal(0.1, 16), "w2": normal(0.1, 32, 16, 3, 3), "b2": normal(0.1, 32), "w3": normal(0.02, 10, 1568), "b3": normal(0.1, 10),
	}}, 64},
}

func dense2() []*model.Node {
	return []*model.Node{
		nodeOf("Gemm", "d1", names("x0", "w1", "b1"), names("a"), "transB", int64(1)), nodeOf("Relu", "r", names("a"), names("b")),
		nodeOf("Gemm", "d2", names("b", "w2", "b2"), names("y"), "transB", int64(1)),
	}
}

func dense2Weights(in, wide int) map[string]*model.Tensor {
	return map[string]*model.Tensor{"w1": normal(0.1, wide, in), "b1": normal(0.1, wide), "w2": normal(0.1, 10, wide), "b2": normal(0.1, 10)}
}

// BenchmarkStep times Forward and Backward, without loss and optimiser.
func BenchmarkStep(b *testing.B) {
	for i := range benchNets {
		c := &benchNets[i]
		b.Run(c.name, func(b *testing.B) {
			n := laidOut(b, c.graph(), Options{Batch: c.batch})
			r := rand.New(rand.NewPCG(1, 2))
			fillNormal(r, n.Input(0))
			fillNormal(r, n.OutputGradient(0))
			for b.Loop() {
				n.Forward(true)
				n.Backward()
			}
		})
	}
}
