package quant

import (
	"errors"
	"fmt"
	"math"

	"dunlin/model"
)

// LowRankOptions say how far LowRank goes: one of Energy and Bytes.
type LowRankOptions struct {
	// Energy is the share of a layer's energy that is kept at least, 0 to 1.
	Energy float64

	// Bytes is how large the constants of the graph may be at most.
	Bytes int64

	// Ranges, where set, are those of the graph: a Gemm's inputs then count
	// as they occur, and Energy is that of its outputs.
	Ranges *Ranges
}

// LowRankReport says what LowRank did.
type LowRankReport struct {
	Bytes  [2]int64        `json:"bytes"` // of constants, before and after
	Layers []FactoredLayer `json:"layers"`
}

// FactoredLayer is a large dense layer: outputs by inputs weights. Rank 0
// says that it is as it was, for two factors would not be smaller.
type FactoredLayer struct {
	Name    string  `json:"name"`
	Outputs int     `json:"outputs"`
	Inputs  int     `json:"inputs"`
	Rank    int     `json:"rank"`
	Energy  float64 `json:"energy"` // kept, 0 to 1
}

// largeLayer is the fewest weights of a layer worth two steps in place of one.
const largeLayer = 4096

// LowRank returns a graph in which large dense layers, Gemm and MatMul with N
// outputs and K inputs, are two of rank r where that is smaller, r*(N+K) <
// N*K, and a report. g is not changed.
//
//	W ~ A B    A [N, r], B [r, K]    y = A (B x) + bias
//
// A B is the best matrix of that rank, the truncated singular value
// decomposition (Eckart and Young 1936): what is lost of sum |W|^2 is the sum of
// the squares of the singular values left out. With Ranges the columns of W
// are weighted by the root mean square of the input that each is multiplied
// with, which makes it the best for the outputs where inputs are not
// correlated. Each factor has the root of the singular values, so that int8
// takes both alike.
//
// A layer of 1280 by 1001 takes about 40 seconds, in the cube of its size.
func LowRank(g *model.Graph, o LowRankOptions) (*model.Graph, *LowRankReport, error) {
	fail := func(err error) (*model.Graph, *LowRankReport, error) {
		return nil, nil, fmt.Errorf("factor %s: %w", g.Name, err)
	}
	if (o.Energy != 0) == (o.Bytes != 0) || !(o.Energy >= 0 && o.Energy <= 1) || o.Bytes < 0 {
		return fail(fmt.Errorf("an energy of %g and %d bytes: want one of them, the energy at most 1", o.Energy, o.Bytes))
	}
	if _, err := prepare(g); err != nil {
		return fail(err)
	}
	h := foldBias(foldReshapes(g))
	rep := &LowRankReport{Bytes: [2]int64{g.StoredBytes()}}
	var all []*dense
	reads := h.Consumers()
	for _, n := range h.Nodes {
		l := layerOf(h, n)
		if l == nil || (n.Op != "Gemm" && n.Op != "MatMul") || l.weight.Elements() < largeLayer || !l.finite() || len(reads[n.In[1]]) > 1 {
			continue
		}
		all = append(all, decompose(l, o.Ranges))
	}
	if err := chooseRanks(all, h.StoredBytes(), o); err != nil {
		return fail(err)
	}
	names := newNamer(h)
	first := map[*model.Node]*model.Node{}
	for _, d := range all {
		rep.Layers = append(rep.Layers, FactoredLayer{d.node.Name, d.channels, d.inputs, d.rank, d.kept()})
		if d.rank > 0 {
			first[d.node] = d.write(h, names)
		}
	}
	var nodes []*model.Node
	for _, n := range h.Nodes {
		if f := first[n]; f != nil {
			nodes = append(nodes, f)
		}
		nodes = append(nodes, n)
	}
	h.Nodes = nodes
	h.Prune()
	rep.Bytes[1] = h.StoredBytes()
	if err := h.Check(); err != nil {
		return fail(err)
	}
	return h, rep, nil
}

// dense is a dense layer and its decomposition.
type dense struct {
	*layer
	inputs int
	scale  []float64   // of each input
	values []float64   // singular values, the greatest first
	left   [][]float64 // U*S of W*scale, or of its transpose where it is wide
	wide   bool        // more inputs than outputs
	rank   int         // 0: as it is
}

// decompose takes l apart.
func decompose(l *layer, r *Ranges) *dense {
	d := &dense{layer: l}
	_, d.inputs = l.inputChannel()
	d.wide = d.inputs > l.channels
	d.scale = inputScale(l, d.inputs, r)
	rows, columns := l.channels, d.inputs
	if d.wide {
		rows, columns = columns, rows
	}
	d.left = make([][]float64, columns)
	for j := range d.left {
		d.left[j] = make([]float64, rows)
	}
	d.each(func(c, k int, w float64) {
		if d.wide {
			d.left[c][k] = w
		} else {
			d.left[k][c] = w
		}
	})
	d.values = singular(d.left)
	return d
}

// each calls f with each output, each input and the weight between them times
// the input's scale.
func (d *dense) each(f func(c, k int, w float64)) {
	input, _ := d.inputChannel()
	d.eachWeight(func(c, i int) {
		k := input(c, i)
		f(c, k, float64(d.weight.F32()[i])*d.scale[k])
	})
}

// inputScale returns the root mean square of each input of l, none less than
// a thousandth of the greatest; 1 where it is not known.
func inputScale(l *layer, inputs int, r *Ranges) []float64 {
	scale, most := make([]float64, inputs), 0.0
	var square []float64
	if r != nil && l.node.Op == "Gemm" {
		square = r.meanSquare(l.node.In[0])
	}
	for k := range scale {
		scale[k] = 1
		if len(square) == inputs {
			scale[k] = math.Sqrt(square[k])
		}
		most = max(most, scale[k])
	}
	for k, v := range scale {
		if scale[k] = max(v, most/1000); most == 0 {
			scale[k] = 1
		}
	}
	return scale
}

// highest returns the highest rank at which two factors are smaller than d.
func (d *dense) highest() int {
	return min(len(d.values), (d.channels*d.inputs-1)/(d.channels+d.inputs))
}

// energy returns what share of d's energy lies in the singular values from
// rank on.
func (d *dense) energy(from, to int) float64 {
	sum, total := 0.0, 0.0
	for i, v := range d.values {
		if total += float64(v * v); i >= from && i < to {
			sum += float64(v * v)
		}
	}
	if total == 0 {
		return 0
	}
	return sum / total
}

// kept returns the share of the energy that d keeps.
func (d *dense) kept() float64 {
	if d.rank == 0 {
		return 1
	}
	return 1 - d.energy(d.rank, len(d.values))
}

// chooseRanks gives each layer its rank.
func chooseRanks(all []*dense, size int64, o LowRankOptions) error {
	if o.Bytes == 0 {
		for _, d := range all {
			for r := d.highest(); r > 0 && 1-d.energy(r, len(d.values)) >= o.Energy; r-- {
				d.rank = r
			}
		}
		return nil
	}
	for size > o.Bytes {
		var best *dense
		bestRank, bestRatio, bestSaved := 0, math.Inf(1), int64(0)
		for _, d := range all {
			rank, from, saved := d.rank-1, d.rank, int64(4*(d.channels+d.inputs))
			if d.rank == 0 {
				rank, from = d.highest(), len(d.values)
				saved = 4 * int64(d.channels*d.inputs-rank*(d.channels+d.inputs))
			}
			if rank < 1 {
				continue
			}
			if ratio := d.energy(rank, from) / float64(saved); ratio < bestRatio {
				best, bestRank, bestRatio, bestSaved = d, rank, ratio, saved
			}
		}
		if best == nil {
			if len(all) == 0 {
				return errors.New("it has no large dense layer")
			}
			return fmt.Errorf("%d bytes are left when each large dense layer has rank 1, %d are wanted", size, o.Bytes)
		}
		best.rank = bestRank
		size -= bestSaved
	}
	return nil
}

// factors returns A [outputs][rank] and B [rank][inputs].
func (d *dense) factors() (a, b [][]float64) {
	// left holds U*S; the other side is (W*scale)^T U, of which the i-th column
	// is the i-th singular value times v_i.
	other := d.projected(len(d.left))
	a, b = make([][]float64, d.channels), make([][]float64, d.rank)
	for c := range a {
		a[c] = make([]float64, d.rank)
	}
	for i := range b {
		b[i] = make([]float64, d.inputs)
		root := math.Sqrt(d.values[i])
		if root == 0 {
			continue
		}
		outs, ins := d.left[i], other[i]
		if d.wide {
			outs, ins = ins, outs
		}
		for c := range a {
			a[c][i] = outs[c] / root
		}
		for k := range b[i] {
			b[i][k] = ins[k] / root / d.scale[k]
		}
	}
	return a, b
}

// projected returns, for each rank kept, the product of the matrix of n
// columns that was decomposed with the left singular vector: the right one
// times the singular value.
func (d *dense) projected(n int) [][]float64 {
	out := make([][]float64, d.rank)
	for i := range out {
		out[i] = make([]float64, n)
	}
	d.each(func(c, k int, w float64) {
		row, column := c, k
		if d.wide {
			row, column = k, c
		}
		for i := range out {
			if s := d.values[i]; s != 0 {
				out[i][column] += float64(w * (d.left[i][row] / s))
			}
		}
	})
	return out
}

// write makes d's node the second of two, and returns the first.
func (d *dense) write(g *model.Graph, names namer) *model.Node {
	n := d.node
	a, b := d.factors()
	first := &model.Node{
		Op: n.Op, Name: names.fresh(n.Name + "/factor"), Out: []string{names.fresh(n.In[0] + "/factor")},
		Attrs: map[string]model.Attr{},
	}
	for key, v := range n.Attrs {
		first.Attrs[key] = v
	}
	inner, outer := names.fresh(n.In[1]+"/inner"), names.fresh(n.In[1]+"/outer")
	g.AddConst(inner, matrix(b, d.axis == 1))
	g.AddConst(outer, matrix(a, d.axis == 1))
	first.In = []string{n.In[0], inner}
	n.In[0], n.In[1] = first.Out[0], outer
	return first
}

// matrix returns rows as a tensor, transposed where asked.
func matrix(rows [][]float64, transposed bool) *model.Tensor {
	m, n := len(rows), len(rows[0])
	v := make([]float32, m*n)
	for i, row := range rows {
		for j, x := range row {
			if transposed {
				v[j*m+i] = float32(x)
			} else {
				v[i*n+j] = float32(x)
			}
		}
	}
	if transposed {
		m, n = n, m
	}
	return model.Of(model.F32, v, m, n)
}
