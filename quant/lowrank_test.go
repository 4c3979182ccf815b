package quant

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dunlin/internal/shared"
	"dunlin/model"
)

// perceptron has a wide layer, a tall one and a MatMul with a bias.
func perceptron() *net {
	n := newNet(4, 96)
	n.AddConst("w1", n.random(.1, 64, 96))
	n.AddConst("b1", n.random(.1, 64))
	n.op("Relu", "h", nil, n.op("Gemm", "a", map[string]model.Attr{"transB": int64(1)}, "x", "w1", "b1"))
	n.AddConst("w2", n.random(.1, 64, 80))
	n.op("Relu", "k", nil, n.op("Gemm", "b", nil, "h", "w2"))
	n.AddConst("w3", n.random(.1, 80, 72))
	n.AddConst("b3", n.random(.1, 72))
	n.op("Add", "y", nil, n.op("MatMul", "c", nil, "k", "w3"), "b3")
	n.Outputs = []string{"y"}
	return n
}

// TestSingular: the columns come out orthogonal, with the singular values as
// their lengths, and their energy is that of the matrix.
func TestSingular(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct{ rows, columns, rank int }{{1, 1, 1}, {7, 3, 3}, {20, 20, 20}, {40, 12, 5}, {9, 4, 0}} {
		left, right := make([][]float64, c.rank), make([][]float64, c.rank)
		a := make([][]float64, c.columns)
		total := 0.0
		for i := range c.rank {
			for range c.rows {
				left[i] = append(left[i], r.NormFloat64())
			}
			for range c.columns {
				right[i] = append(right[i], r.NormFloat64())
			}
		}
		for j := range a {
			a[j] = make([]float64, c.rows)
			for i := range a[j] {
				for k := range c.rank {
					a[j][i] += left[k][i] * right[k][j]
				}
				total += a[j][i] * a[j][i]
			}
		}
		values := singular(a)
		energy := 0.0
		for i, v := range values {
			energy += v * v
			if i > 0 && v > values[i-1] || i >= c.rank && v > 1e-6*values[0] {
				t.Errorf("%+v: values %v", c, values)
			}
			for j := range i {
				if d := math.Abs(dot(a[i], a[j])); d > 1e-9*total {
					t.Errorf("%+v: columns %d and %d have the product %g", c, i, j, d)
				}
			}
			if math.Abs(dot(a[i], a[i])-v*v) > 1e-9*total {
				t.Errorf("%+v: column %d is not %g long", c, i, v)
			}
		}
		if math.Abs(energy-total) > 1e-9*total {
			t.Errorf("%+v: energy %g of %g", c, energy, total)
		}
	}
}

// TestBestRank: what the product of the factors lacks of the weights is what
// the singular values left out say, the least there can be.
func TestBestRank(t *testing.T) {
	n := perceptron()
	for _, node := range n.Nodes {
		l := layerOf(n.Graph, node)
		if l == nil {
			continue
		}
		d := decompose(l, nil)
		for _, d.rank = range []int{1, 10, len(d.values)} {
			a, b := d.factors()
			lost, total, want := 0.0, 0.0, 0.0
			d.each(func(c, k int, w float64) {
				product := 0.0
				for i := range b {
					product += a[c][i] * b[i][k]
				}
				lost, total = lost+(w-product)*(w-product), total+w*w
			})
			for _, v := range d.values[d.rank:] {
				want += v * v
			}
			if math.Abs(lost-want) > 1e-8*total {
				t.Errorf("%s, rank %d: %g of %g lost, %g is the least", node.Name, d.rank, lost, total, want)
			}
		}
	}
}

// TestFullRank: at full rank the graph computes what it did, with the columns
// weighted or not.
func TestFullRank(t *testing.T) {
	n := perceptron()
	in, _ := n.samples(0)
	r, err := Calibrate(n.Graph, n.samples, 5, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, ranges := range []*Ranges{nil, r} {
		h := foldBias(n.Graph)
		names := newNamer(h)
		var nodes []*model.Node
		for _, node := range h.Nodes {
			if l := layerOf(h, node); l != nil {
				d := decompose(l, ranges)
				d.rank = len(d.values)
				nodes = append(nodes, d.write(h, names))
			}
			nodes = append(nodes, node)
		}
		h.Nodes = nodes
		if err := h.Check(); err != nil {
			t.Fatal(err)
		}
		if got := sqnr(run(t, n.Graph, in), run(t, h, in)); got < 110 {
			t.Errorf("%.1f dB", got)
		}
	}
}

// TestLowRank: layers of low rank and some noise become two, those that two
// would not make smaller stay; int8 runs what comes out.
func TestLowRank(t *testing.T) {
	n := perceptron()
	for _, name := range []string{"w1", "w3"} {
		w := n.Const(name)
		u, v := n.random(1, w.Shape[0]), n.random(1, w.Shape[1])
		for i := range w.F32() {
			w.F32()[i] = u.F32()[i/w.Shape[1]]*v.F32()[i%w.Shape[1]] + w.F32()[i]/20
		}
	}
	in, _ := n.samples(0)
	want := run(t, n.Graph, in)
	r, err := Calibrate(n.Graph, n.samples, 20, Options{})
	if err != nil {
		t.Fatal(err)
	}
	g, rep, err := LowRank(n.Graph, LowRankOptions{Energy: .999, Ranges: r})
	if err != nil {
		t.Fatal(err)
	}
	if got := ops(g); got != "Gemm Gemm Relu Gemm Relu MatMul MatMul Add" {
		t.Errorf("%s, %+v", got, rep)
	}
	for _, l := range rep.Layers {
		if l.Energy < .999 || (l.Rank == 0) != (l.Name == "b_Gemm") {
			t.Errorf("%+v", l)
		}
	}
	if got := sqnr(want, run(t, g, in)); got < 25 {
		t.Errorf("%.1f dB", got)
	}
	if rep.Bytes[1] != g.StoredBytes() || rep.Bytes[1] > rep.Bytes[0]*2/3 {
		t.Errorf("%v bytes", rep.Bytes)
	}
	again, err := Calibrate(g, n.samples, 20, Options{})
	if err != nil {
		t.Fatal(err)
	}
	q, _, err := Apply(g, again, Options{})
	if err != nil {
		t.Fatal(err)
	}
	checkSteps(t, q)

	for _, share := range []int64{2, 4} {
		limit := n.Graph.StoredBytes() / share
		g, rep, err := LowRank(n.Graph, LowRankOptions{Bytes: limit})
		if err != nil {
			t.Fatal(err)
		}
		if rep.Bytes[1] > limit || rep.Bytes[1] < limit*9/10 || g.StoredBytes() != rep.Bytes[1] {
			t.Errorf("%d bytes wanted, %v", limit, rep.Bytes)
		}
	}
}

func TestLowRankRefuses(t *testing.T) {
	n := perceptron()
	for _, c := range []struct {
		o    LowRankOptions
		text string
	}{
		{LowRankOptions{}, "one of them"},
		{LowRankOptions{Energy: .5, Bytes: 9}, "one of them"},
		{LowRankOptions{Energy: 1.5}, "at most 1"},
		{LowRankOptions{Energy: math.NaN()}, "at most 1"},
		{LowRankOptions{Bytes: 100}, "100 are wanted"},
	} {
		if _, _, err := LowRank(n.Graph, c.o); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
	if _, _, err := LowRank(typical().Graph, LowRankOptions{Bytes: 10}); err == nil || !strings.Contains(err.Error(), "no large dense layer") {
		t.Error(err)
	}
}

// TestAnomalyLowRank factors the autoencoder of MLPerf Tiny, on the one
// sample there is.
func TestAnomalyLowRank(t *testing.T) {
	g := importFile(t, shared.Dir(t, "models", "onnx", "mlperftiny-ad01.onnx"))
	frames := anomalies(t, shared.Dir(t, "data", "audio", "mlperftiny-ad01"))
	next := func(i int) ([]*model.Tensor, error) { return []*model.Tensor{frames[i]}, nil }
	r, err := Calibrate(g, next, len(frames)/2, Options{})
	if err != nil {
		t.Fatal(err)
	}
	outputs := func(g *model.Graph) (out [][]float32) {
		r := newRunner(g, Options{}, func(value string, v *model.Tensor) {
			if value == g.Outputs[0] {
				out = append(out, slices.Clone(v.F32()))
			}
		})
		for _, x := range frames[len(frames)/2:] {
			if err := r.run([]*model.Tensor{x}); err != nil {
				t.Fatal(err)
			}
		}
		return out
	}
	want := outputs(g)
	var plain, weighted float64
	var energies []float64
	if *long {
		energies = []float64{.999, .99, .95, .9}
	}
	for _, energy := range energies {
		for _, ranges := range []*Ranges{nil, r} {
			f, rep, err := LowRank(g, LowRankOptions{Energy: energy, Ranges: ranges})
			if err != nil {
				t.Fatal(err)
			}
			db := sqnr(want, outputs(f))
			t.Logf("energy %g, weighted %v: %d -> %d bytes, output %.1f dB", energy, ranges != nil, rep.Bytes[0], rep.Bytes[1], db)
		}
	}
	limit := g.StoredBytes() / 2
	for _, ranges := range []*Ranges{nil, r} {
		f, rep, err := LowRank(g, LowRankOptions{Bytes: limit, Ranges: ranges})
		if err != nil {
			t.Fatal(err)
		}
		plain, weighted = weighted, sqnr(want, outputs(f))
		t.Logf("half the bytes, weighted %v: output %.1f dB", ranges != nil, weighted)
		if rep.Bytes[1] > limit {
			t.Errorf("%v bytes", rep.Bytes)
		}
	}
	if weighted < plain {
		t.Errorf("weighted by the inputs %.1f dB, else %.1f", weighted, plain)
	}
}

// anomalies returns the windows of five frames of a spectrogram, 128 bands
// each, that the model sees one after another.
func anomalies(t *testing.T, dir string) []*model.Tensor {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "normal_id_01_00000000_hist_librosa-f32-200x128.bin"))
	if err != nil {
		t.Fatal(err)
	}
	const bands, frames = 128, 5
	var all []*model.Tensor
	for at := 0; at+4*bands*frames <= len(data); at += 4 * bands {
		v := make([]float32, bands*frames)
		for i := range v {
			v[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[at+4*i:]))
		}
		all = append(all, model.Of(model.F32, v, 1, bands*frames))
	}
	return all
}
