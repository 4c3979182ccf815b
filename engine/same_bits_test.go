package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"dunlin/internal/oci"
	"dunlin/kernels"
	"dunlin/model"
	"dunlin/model/pack"
)

// exactNets are networks with integers in them, and the SHA-256 of their
// outputs on the inputs of seed 1, on every CPU. A sum changes only when a
// definition in kernels does, and then every exam of a packed model changes
// too. Kernels are parts of the names of those that the networks are here for.
var exactNets = []struct {
	name    string
	graphs  func() []*model.Graph
	kernels []string
	sum     string
}{
	{
		"integers", func() []*model.Graph { return []*model.Graph{integerNet(1, model.I8), integerNet(1, model.U8)} },
		[]string{"conv-int8", "depthwise-int8", "pointwise-int8", "gemm-int8", "add-int8", "Dequantize+Softmax"},
		"ad3e8ff98bccdca6307e827275f1b59649c1e7f16f93db23b8769f6fb7071313",
	},
	{
		"operators", func() []*model.Graph { return []*model.Graph{quantisedNet(true), quantisedNet(false)} },
		[]string{"conv-int8", "table-int8", "mul-int8"},
		"21c82cbd93e5b38f8c35b00be9626851abc6b5ad635d00d80765fdc0c67f110f",
	},
	{
		"transformer", func() []*model.Graph {
			return []*model.Graph{quantisedTransformer(1, model.I8), quantisedTransformer(1, model.U8)}
		},
		[]string{"gemm-int8", "matmul-int8", "Add+Softmax", "Gelu+Quantize", "Add+LayerNormalization"},
		"ed63a9847c6f434818e0ec193df04619e9f333d6d2b752a1d997ab63b2255b67",
	},
	{
		"dynamic", func() []*model.Graph {
			return []*model.Graph{dynamicNet(model.I8, false, 37, 1, 16, 70).Graph, dynamicNet(model.U8, true, 37, 1, 16, 70).Graph}
		},
		[]string{"dynamic-quantize", "gemm-int8-dynamic"},
		"eb6e187685639c5d2a4fa81c1c3c2353a31e5eb8b292505c7063c8a7fa67d27a",
	},
	{
		"floats", func() []*model.Graph {
			return []*model.Graph{quantisedAtLast(floatNet(1)), quantisedAtLast(transformerNet(1))}
		},
		[]string{"conv-f32", "depthwise-f32", "pointwise", "gemm"},
		"7fdeb95ac51194d2a961ab20f7069b95d9a7260b8c384e43cfe47fa634b2bec7",
	},
	{
		"recurrent", func() []*model.Graph { return []*model.Graph{quantisedAtLast(stagedNet())} },
		[]string{"LSTM-f32", "convtranspose-f32"},
		"19f155cece8a196a2ebd3c376779f699a06e76ccf75623d54e7b29e24aaaccaf",
	},
}

// quantisedAtLast adds an output to a network of floats, the first one
// quantised, and so makes it one that gives the same bits everywhere.
func quantisedAtLast(g *model.Graph) *model.Graph {
	b := &build{Graph: g}
	b.output(b.quantised(g.Outputs[0], model.I8, 1.0/64, 3))
	return g
}

// quantisedTransformer is a layer of an encoder in QDQ form, with integers of
// type t: an attention with a mask, and what exporters write for Gelu.
func quantisedTransformer(seed uint64, t model.DType) *model.Graph {
	b := newBuild(seed)
	q := func(x string, scale float32, zero int) string {
		if t == model.U8 {
			zero += 128
		}
		return b.quantised(x, t, scale, zero)
	}
	dense := func(x string, in, out int, scale float32) string {
		return q(b.node("Add", nil, b.node("MatMul", nil, x, b.weights(1, in, out)), b.normal(out)), scale, 5)
	}
	input := b.input("x", 1, 19, 24)
	x := q(input, 1.0/64, -3)
	head := func(perm ...int64) string {
		y := b.node("Reshape", nil, dense(x, 24, 24, 1.0/32), b.ints(1, 19, 3, 8))
		return b.node("Transpose", attrs{"perm": perm}, y)
	}
	query, key, value := head(0, 2, 1, 3), head(0, 2, 3, 1), head(0, 2, 1, 3)
	s := b.node("Div", nil, q(b.node("MatMul", nil, query, key), 0.25, 0), b.scalar(2.83))
	s = b.node("Softmax", attrs{"axis": int64(-1)}, b.node("Add", nil, s, b.normal(1, 1, 1, 19)))
	y := q(b.node("MatMul", nil, q(s, 1.0/256, -128), value), 1.0/32, 0)
	y = b.node("Reshape", nil, b.node("Transpose", attrs{"perm": []int64{0, 2, 1, 3}}, y), b.ints(1, 19, 24))
	y = b.node("Add", nil, dense(y, 24, 24, 1.0/32), input)
	y = q(b.node("LayerNormalization", nil, y, b.normal(24), b.normal(24)), 1.0/32, 1)
	z := b.node("Add", nil, b.node("MatMul", nil, y, b.weights(1, 24, 70)), b.normal(70))
	z = q(geluOf(b, z), 1.0/16, -100)
	y = b.node("LayerNormalization", nil, b.node("Add", nil, dense(z, 70, 24, 1.0/16), y), b.normal(24), b.normal(24))
	b.output(y, b.node("MatMul", nil, q(y, 1.0/32, 0), b.weights(1, 24, 50)))
	return b.Graph
}

// A model gives one hash as it was made, as it comes out of its pack, and in
// parts, with every tier that the CPU has; make test runs this on amd64, on
// each arm64 core, on armv7 and without assembly.
func TestSameBitsFromAPack(t *testing.T) {
	threaded(t)
	for _, net := range exactNets {
		t.Run(net.name, func(t *testing.T) {
			made, packed := net.graphs(), packed(t, net.graphs())
			wantKernels(t, made, net.kernels)
			for _, tier := range []string{"generic", "avx2", "avxvnni", "avx512", "neon", "fp16", "dotprod", "i8mm"} {
				if host, err := kernels.Host(tier); err != nil || host.Tier.String() != tier {
					continue // it would be generic again
				}
				for _, c := range []struct {
					how    string
					graphs []*model.Graph
					o      Options
				}{{"as made", made, Options{Kernels: tier}}, {"packed", packed, Options{Kernels: tier}}, {"in parts", packed, Options{Kernels: tier, parts: 3}}} {
					h := sha256.New()
					for _, g := range c.graphs {
						p := compiled(t, g, c.o)
						if !p.Exact() {
							t.Error("it is not exact")
						}
						for _, out := range runOnce(t, p, 1) {
							h.Write(out.Data)
						}
					}
					if got := hex.EncodeToString(h.Sum(nil)); got != net.sum {
						t.Errorf("%s, tier %q: outputs hash to %s, want %s", c.how, tier, got, net.sum)
					}
				}
			}
		})
	}
}

// packed returns graphs as they come out of their packs.
func packed(t *testing.T, graphs []*model.Graph) (list []*model.Graph) {
	t.Helper()
	for _, g := range graphs {
		l, err := oci.Create(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		d, err := pack.Write(l, &pack.Pack{Name: "net", Version: 1, Graph: g})
		if err != nil {
			t.Fatal(err)
		}
		m, err := pack.Open(l, string(d.Digest))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		list = append(list, m.Graph)
	}
	return list
}

// wantKernels fails where no step of the graphs runs one of the kernels.
func wantKernels(t *testing.T, graphs []*model.Graph, names []string) {
	t.Helper()
	var all []string
	for _, g := range graphs {
		for _, s := range compiled(t, g, Options{}).Steps() {
			all = append(all, s.Kernel)
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(k string) bool { return strings.Contains(k, name) }) {
			t.Errorf("no step runs %s: %q", name, all)
		}
	}
}
