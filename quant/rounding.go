package quant

import (
	"fmt"
	"math"
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// Rounding holds weights of four bits that were rounded so that the outputs
// of their layers change least, rather than the weights themselves: a weight
// is worth rounding the wrong way where that undoes the error of another.
type Rounding struct {
	weights map[string]int8Weights // by node of the prepared graph
	Layers  []RoundedLayer         `json:"layers"`
}

// RoundedLayer is what rounding brought to one layer.
type RoundedLayer struct {
	Name    string  `json:"name"`
	Nearest float64 `json:"nearest"`       // SQNR of the output in dB, each weight rounded to the nearest
	Learned float64 `json:"learned"`       // and rounded for the output
	Why     string  `json:"why,omitempty"` // it was not
}

// gramBytes bounds the memory of the matrices that are gathered at once:
// where those of all layers are larger, the samples run more than once.
const gramBytes = 8 << 20

// LearnRounding rounds the weights of every layer of g that can have four
// bits. It runs the int8 form of g on at most 64 of n samples, evenly spread,
// and gathers the Gram matrix of each layer's quantised inputs; next may be
// asked for a sample more than once. The result goes into Options.Rounding.
//
// The scales and factors are those that are best for the weights; each weight
// is then moved by whole steps, one at a time and the best first to come, as
// long as the squared error of the outputs falls. Where o.Optimise is set, the
// roundings are learned together before (AdaRound: Nagel et al. 2020,
// arXiv:2004.10568), and that is kept where it is better.
//
// It runs the int8 form in parts, one after the other, where that can be parted.
// It takes the memory of one sample's run, of a part's weights in float, of all
// weights in int8, and 12 MiB. Layers with more than 2048 weights a channel keep
// the nearest rounding.
func LearnRounding(g *model.Graph, r *Ranges, next func(i int) ([]*model.Tensor, error), n int, o Options) (*Rounding, error) {
	return learnRounding(g, r, next, n, o, partBytes)
}

// learnRounding is LearnRounding in parts of so many bytes.
func learnRounding(g *model.Graph, r *Ranges, next func(i int) ([]*model.Tensor, error), n int, o Options, part int64) (*Rounding, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if r == nil || r.Samples == 0 || n <= 0 {
		return nil, fmt.Errorf("round %s: %w", g.Name, ErrSamples)
	}
	p, err := prepare(g)
	if err != nil {
		return nil, err
	}
	o.To, o.Levels, o.memo = string(Int8), nil, newMemo()
	small, _, err := apply(p, r, o, 0)
	if err != nil {
		return nil, fmt.Errorf("round: %w", err)
	}
	clear(o.memo.weights) // small has them, until a part of it is compiled
	used := min(n, frontSamples)
	list, err := parts(small, used, part)
	if err != nil {
		return nil, fmt.Errorf("round %s: %w", g.Name, err)
	}
	t := &rounder{o: o, all: &Rounding{weights: map[string]int8Weights{}}, at: drawn(used, n)}
	t.feed = func(i int) ([]*model.Tensor, error) { return next(t.at[i]) }
	t.plan = newPlan(p, r, o)
	t.grids = t.plan.grids()
	stages := t.stages(list)
	for k := range stages {
		if err := t.stage(&stages[k], k+1 < len(stages)); err != nil {
			return nil, fmt.Errorf("round %s: %w", g.Name, err)
		}
	}
	return t.all, nil
}

// rounder rounds the layers of a graph.
type rounder struct {
	o     Options
	plan  *plan
	grids map[string]Grid
	all   *Rounding

	at          []int                                // the samples
	feed        func(i int) ([]*model.Tensor, error) // returns what the stage begins with, of the i-th of them
	readers     map[string][]*gram                   // of values of the int8 graph, those that are gathered now
	done, total int                                  // runs, for Progress
}

// stage is a part of the int8 graph, with the matrices of its layers, so many at
// once as fit. Where those are none, it runs for the next one's sake.
type stage struct {
	g       *model.Graph
	batches [][]*gram
}

// stages gives each matrix to the part where its layer's input is seen. Parts
// behind the last matrix are left out.
func (t *rounder) stages(list []*model.Graph) []stage {
	all, seen := make([]stage, len(list)), map[string]int{}
	for k, g := range list {
		all[k].g = g
		for value := range g.Producers() {
			seen[value] = k
		}
	}
	last, size := 0, gramBytes
	for i, n := range t.plan.g.Nodes {
		l := t.plan.nodes[n].layer
		if l == nil {
			continue
		}
		g := newGram(l, uint64(i), len(t.at))
		if g == nil {
			t.all.Layers = append(t.all.Layers, RoundedLayer{Name: n.Name, Why: fmt.Sprintf("%d weights a channel, or a form of convolution whose inputs are not looked at", l.weight.Elements()/l.channels)})
			continue
		}
		if k := seen[n.In[0]]; k > last {
			last, size = k, gramBytes
		}
		s := &all[last]
		if size+g.bytes() > gramBytes {
			s.batches, size = append(s.batches, nil), 0
		}
		size += g.bytes()
		s.batches[len(s.batches)-1] = append(s.batches[len(s.batches)-1], g)
	}
	all = all[:last+1]
	for k := range all {
		if k < last && all[k].batches == nil {
			all[k].batches = [][]*gram{nil}
		}
		t.total += len(all[k].batches) * len(t.at)
	}
	return all
}

// stage rounds the layers of s. Where more follow, they are fed with what s ends
// with.
func (t *rounder) stage(s *stage, more bool) error {
	run := newRunner(s.g, t.o, t.observe)
	s.g = nil // its constants may go once it is compiled
	var ends []*model.Tensor
	for b, batch := range s.batches {
		var keep func(out *model.Tensor)
		if more && b == 0 {
			keep = func(out *model.Tensor) { ends = append(ends, out.Clone()) }
		}
		if err := t.gather(run, batch, keep); err != nil {
			return err
		}
		for _, m := range batch {
			m.done()
			t.round(m)
			m.free()
			t.o.rest(t.plan.g, m.layer.node)
		}
	}
	t.feed = func(i int) ([]*model.Tensor, error) { return ends[i : i+1], nil }
	return nil
}

// gather runs a part of the int8 graph on the samples and fills a batch. keep,
// where it is not nil, is called with the output for each.
func (t *rounder) gather(run *runner, batch []*gram, keep func(out *model.Tensor)) error {
	t.readers = map[string][]*gram{}
	for _, g := range batch {
		in := g.layer.node.In[0]
		t.readers[in] = append(t.readers[in], g)
	}
	for i, at := range t.at {
		in, err := t.feed(i)
		if err == nil {
			err = run.run(in)
		}
		if err != nil {
			return fmt.Errorf("sample %d: %w", at, err)
		}
		if keep != nil {
			keep(run.session.Output(0))
		}
		if t.done++; t.o.Progress != nil {
			t.o.Progress(t.done, t.total)
		}
	}
	return nil
}

// observe adds a value of the int8 graph to the matrices of its readers.
func (t *rounder) observe(value string, v *model.Tensor) {
	if v.Type == model.F32 {
		for _, g := range t.readers[value] {
			g.add(v)
		}
	}
}

// round rounds the weights of one layer, channel by channel.
func (t *rounder) round(m *gram) {
	l := m.layer
	q := l.quantise4(t.grids[t.plan.root(l.node.In[0])].Scale)
	s := newSteps(l, q, m)
	together := s.learn(t.o.Optimise)
	var nearest, learned, signal float64
	for c := range l.channels {
		s.channel(c)
		signal += s.energy()
		nearest += s.err()
		s.descend()
		if together != nil {
			s.better(together[c])
		}
		learned += s.err()
		s.store()
	}
	q.sqnr = l.sqnr(q)
	t.all.weights[l.node.Name] = q
	t.all.Layers = append(t.all.Layers, RoundedLayer{Name: l.node.Name, Nearest: decibel(signal, nearest), Learned: decibel(signal, learned)})
}

// sqnr returns that of weights that were rounded, in dB.
func (l *layer) sqnr(q int8Weights) float64 {
	var signal, noise float64
	w, v := l.weight.F32(), q.values.I8()
	l.eachWeight(func(c, i int) {
		d := float64(w[i]) - float64(float64(v[i])*float64(q.scales[c]))
		noise += float64(d * d)
		signal += float64(float64(w[i]) * float64(w[i]))
	})
	return decibel(signal, noise)
}

// steps are the weights of one channel while they are rounded.
type steps struct {
	l      *layer
	q      int8Weights
	gram   *gram
	row    []int // where the weights are
	matrix []float32
	real   []float64 // the weights
	whole  []int     // in [-7, 7]
	step   []float64 // of each weight: the channel's scale times its group's factor
	factor []int
	error  []float64 // of each weight
	slope  []float64 // matrix times error: half the gradient of the squared error
}

func newSteps(l *layer, q int8Weights, m *gram) *steps {
	return &steps{
		l: l, q: q, gram: m, real: make([]float64, m.depth), whole: make([]int, m.depth), step: make([]float64, m.depth),
		factor: make([]int, m.depth), error: make([]float64, m.depth), slope: make([]float64, m.depth),
	}
}

// channel begins with channel c, rounded to the nearest.
func (s *steps) channel(c int) {
	s.matrix = s.gram.sums[c/(s.l.channels/len(s.gram.sums))]
	scale := float64(s.q.scales[c])
	s.row = s.l.row(c, s.row[:0])
	for k, i := range s.row {
		s.real[k] = float64(s.l.weight.F32()[i])
	}
	g := int4Groups(s.real, s.q.scales[c])
	for k := range s.real {
		s.factor[k] = g.factors[k/model.Int4Group]
		s.step[k] = float64(s.factor[k]) * scale
		s.whole[k] = toInt4(s.real[k], s.step[k])
	}
	s.refresh()
}

// refresh computes errors and slopes anew.
func (s *steps) refresh() {
	n := len(s.real)
	clear(s.slope)
	for k := range s.real {
		s.error[k] = float64(float64(s.whole[k])*s.step[k]) - s.real[k]
		if e := s.error[k]; e != 0 {
			for j, m := range s.matrix[k*n : (k+1)*n] {
				s.slope[j] += float64(e * float64(m))
			}
		}
	}
}

// err is the squared error of the outputs.
func (s *steps) err() float64 {
	sum := 0.0
	for k, e := range s.error {
		sum += float64(e * s.slope[k])
	}
	return math.Max(0, sum)
}

// energy is the squared output of the weights as they were.
func (s *steps) energy() float64 {
	n, sum := len(s.real), 0.0
	for k, w := range s.real {
		row := 0.0
		for j, m := range s.matrix[k*n : (k+1)*n] {
			row += float64(float64(m) * s.real[j])
		}
		sum += float64(w * row)
	}
	return sum
}

// sweeps bounds how often descend looks at every weight.
const sweeps = 20

// descend moves weights by one step up or down for as long as the error
// falls. A move by d changes it by 2 d slope + d² matrix[k][k].
func (s *steps) descend() {
	n := len(s.real)
	for range sweeps {
		moved := false
		for k := range s.real {
			up := 1
			if s.slope[k] > 0 {
				up = -1
			}
			d := float64(up) * s.step[k]
			gain := float64(2*d*s.slope[k]) + float64(d*d*float64(s.matrix[k*n+k]))
			if v := s.whole[k] + up; gain >= 0 || v < -int4Most || v > int4Most {
				continue
			}
			s.move(k, up)
			moved = true
		}
		if !moved {
			break
		}
	}
}

// better takes other whole numbers, moved on from there, where their error is
// less.
func (s *steps) better(other []int) {
	have, least := slices.Clone(s.whole), s.err()
	copy(s.whole, other)
	s.refresh()
	s.descend()
	if s.err() >= least {
		copy(s.whole, have)
		s.refresh()
	}
}

// move changes one weight by whole steps.
func (s *steps) move(k, by int) {
	n, d := len(s.real), float64(by)*s.step[k]
	s.whole[k] += by
	s.error[k] += d
	for j, m := range s.matrix[k*n : (k+1)*n] {
		s.slope[j] += float64(d * float64(m))
	}
}

// store writes the channel.
func (s *steps) store() {
	for k, i := range s.row {
		s.q.values.I8()[i] = int8(s.whole[k] * s.factor[k])
	}
}

// of returns the learned weights of a layer, ok false where there are none
// that its input's scale allows.
func (r *Rounding) of(l *layer, inScale float32) (q int8Weights, ok bool) {
	if r == nil {
		return q, false
	}
	if q, ok = r.weights[l.node.Name]; !ok || !slices.Equal(q.values.Shape, l.weight.Shape) {
		return q, false
	}
	for c, s := range q.scales {
		if s < kernels.LeastScale(l.biasOf(c), inScale) {
			return q, false
		}
	}
	return q, true
}
