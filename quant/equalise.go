package quant

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"dunlin/model"
)

// EqualiseOptions say how Equalise treats a graph.
type EqualiseOptions struct {
	// Ranges are of the graph, or nil. With them a Clip from 0 to a bound
	// becomes a Relu, through which channels can be multiplied, where no more
	// than Clipped of the values seen before it lie above the bound. 0 changes
	// nothing on the samples; more changes what the graph computes for the
	// values that were clipped.
	Ranges  *Ranges
	Clipped float64
}

// EqualiseReport says what Equalise did.
type EqualiseReport struct {
	Channels int              `json:"channels"` // that were multiplied
	Rounds   int              `json:"rounds"`
	Layers   []EqualisedLayer `json:"layers"` // whose weights were changed
	Clips    []EqualisedClip  `json:"clips,omitempty"`
}

// EqualisedLayer is a layer before and after: Precision is the mean, over its
// output channels, of the channel's largest weight against the tensor's. One
// scale for the tensor leaves a channel log2 of it fewer bits (the precision
// of Nagel et al. 2019, eq. 8).
type EqualisedLayer struct {
	Name   string  `json:"name"`
	Before float64 `json:"precision_before"`
	After  float64 `json:"precision_after"`
}

// EqualisedClip is a Clip from 0 to Bound, and what share of the values seen
// before it, 0 to 1, lay above.
type EqualisedClip struct {
	Name    string  `json:"name"`
	Bound   float32 `json:"bound"`
	Clipped float64 `json:"clipped"`
	Relu    bool    `json:"relu"` // it has become one
}

// Equalise returns a graph that computes what g computes, with the ranges of
// the weights of consecutive layers made alike, channel by channel: one scale
// a tensor, as some int8 kernels want it (Options.PerTensor), then leaves
// each channel as many bits as it can. A scale for each channel of the weights
// does that by itself, but activations have one scale always, and their
// channels come closer too. g is not changed.
//
// Where a first layer makes channel i and a second reads it, with nothing
// between them but what f(s*x) = s*f(x) holds for,
//
//	W1_i / s_i    b1_i / s_i    W2_:i * s_i    s_i = sqrt(r1_i*r2_i) / r2_i
//
// with the ranges r of channel i's weights, the largest magnitudes; both then
// are sqrt(r1_i*r2_i). Layers follow on each other, a depthwise convolution is
// the second of one pair and the first of the next, so that this is repeated
// until no factor moves (Nagel et al. 2019, arXiv:1906.04721, section 4.1, eq.
// 7 to 10). Channels that an Add joins are left as they are. Ranges are of the weights with batch
// normalisation in them; it stays in the graph, and its own factors are what
// is multiplied, so that DataFree still finds them and training can go on.
//
// Ranges of g are not those of the graph returned: calibrate again.
func Equalise(g *model.Graph, o EqualiseOptions) (*model.Graph, *EqualiseReport, error) {
	rep := &EqualiseReport{}
	h, err := unclip(g, o, rep)
	if err != nil {
		return nil, nil, fmt.Errorf("equalise %s: %w", g.Name, err)
	}
	folded, err := prepare(h)
	if err != nil {
		return nil, nil, fmt.Errorf("equalise: %w", err)
	}
	c, err := followChannels(folded, true)
	if err != nil {
		return nil, nil, fmt.Errorf("equalise %s: %w", g.Name, err)
	}
	h = foldBias(foldReshapes(h)) // the same nodes, with batch normalisation apart
	e := newEqualiser(c, h)
	e.ranges = e.weightRanges()
	before := e.precisions()
	rep.Rounds = e.settle()
	after := e.precisions()
	for _, m := range c.makers {
		if name := m.node.Name; before[name] != after[name] {
			rep.Layers = append(rep.Layers, EqualisedLayer{name, before[name], after[name]})
		}
	}
	for _, f := range e.factor {
		if f != 1 {
			rep.Channels++
		}
	}
	e.write()
	h.Prune()
	if err := h.Check(); err != nil {
		return nil, nil, fmt.Errorf("equalise: %w", err)
	}
	return h, rep, nil
}

// unclip returns a copy of g in which Clips from 0 that hardly clip are Relus.
func unclip(g *model.Graph, o EqualiseOptions, rep *EqualiseReport) (*model.Graph, error) {
	if !(o.Clipped >= 0 && o.Clipped <= 1) {
		return nil, fmt.Errorf("a share of %g clipped values is not between 0 and 1", o.Clipped)
	}
	h := g.Clone()
	if o.Ranges == nil {
		return h, nil
	}
	for _, n := range h.Nodes {
		seen := o.Ranges.values[n.Input(0)]
		lo, hi := h.Const(n.Input(1)), h.Const(n.Input(2))
		if n.Op != "Clip" || seen == nil || lo == nil || hi == nil || lo.Type != model.F32 || hi.Type != model.F32 ||
			lo.Elements() != 1 || hi.Elements() != 1 || lo.F32()[0] != 0 {
			continue
		}
		c := EqualisedClip{Name: n.Name, Bound: hi.F32()[0]}
		c.Clipped = seen.above(c.Bound)
		if c.Relu = c.Clipped <= o.Clipped; c.Relu {
			n.Op, n.In, n.Attrs = "Relu", n.In[:1], nil
		}
		rep.Clips = append(rep.Clips, c)
	}
	return h, nil
}

// above returns the share of the values seen that are above bound, to the
// width of a bin: none where bound is no less than the greatest.
func (h *Histogram) above(bound float32) float64 {
	total := h.Total()
	if total == 0 || bound >= h.Max {
		return 0
	}
	n := uint64(0)
	for i, c := range h.Counts {
		if float64(h.base+int64(i)+1)*h.Width() > float64(bound) {
			n += c
		}
	}
	return float64(n) / float64(total)
}

// equaliser finds a factor for each channel. Channels and ranges are of the
// folded graph; g is what is written.
type equaliser struct {
	*channels
	g      *model.Graph
	names  namer
	norm   map[string]*model.Node // by a layer's name: the batch normalisation behind it in g
	ranges map[*model.Node]ranges
	into   map[*model.Node][]int // numbers of a layer's inputs
	factor []float64             // by root: s, what the value is divided by
}

// ranges are the largest magnitudes of a layer's folded weights, for each
// pair of an output and an input channel that some weight joins.
type ranges struct {
	out, in []int // channels
	most    []float64
}

func newEqualiser(c *channels, g *model.Graph) *equaliser {
	e := &equaliser{
		channels: c, g: g, names: newNamer(g), norm: map[string]*model.Node{}, into: map[*model.Node][]int{},
		factor: slices.Repeat([]float64{1}, len(c.parent)),
	}
	for _, r := range c.reads {
		e.into[r.node] = r.ids
	}
	e.match()
	return e
}

// match finds the batch normalisation of each layer, and fixes the channels
// of layers that are not what they are in the folded graph: something else
// was folded into them.
func (e *equaliser) match() {
	made := e.g.Producers()
	for _, m := range e.makers {
		n := made[m.node.Out[0]]
		if n != nil && n.Op == "BatchNormalization" {
			e.norm[m.node.Name] = n
			n = made[n.In[0]]
		}
		if n == nil || n.Name != m.node.Name {
			e.fix(m.node.Out[0])
			e.fix(m.node.In[0])
		}
	}
}

// weightRanges reads the weights of all layers.
func (e *equaliser) weightRanges() map[*model.Node]ranges {
	all := map[*model.Node]ranges{}
	for _, m := range e.makers {
		w, r := m.weight.F32(), ranges{}
		input, _ := m.inputChannel()
		last := map[int]int{} // by input channel: where it stands in r for this output
		of := -1
		m.eachWeight(func(c, i int) {
			if c != of {
				of = c
				clear(last)
			}
			k := input(c, i)
			at, ok := last[k]
			if !ok {
				at = len(r.most)
				last[k] = at
				r.out, r.in, r.most = append(r.out, c), append(r.in, k), append(r.most, 0)
			}
			r.most[at] = max(r.most[at], math.Abs(float64(w[i])))
		})
		all[m.node] = r
	}
	return all
}

// s returns the factor of a channel so far.
func (e *equaliser) s(id int) float64 { return e.factor[e.root(id)] }

// Factors stay within mostFactor of 1, and are settled where none moves by
// more than stillMoves in a round.
const (
	mostFactor = 1 << 20
	stillMoves = 1e-3
	mostRounds = 200
)

// settle moves the factors until they stay, and returns the rounds it took.
func (e *equaliser) settle() int {
	sets := e.sets()
	made, read := make([]float64, len(e.parent)), make([]float64, len(e.parent))
	for round := 1; round <= mostRounds; round++ {
		moved := 0.0
		for _, set := range sets {
			clear(made)
			clear(read)
			e.reach(set, made, read)
			moved = max(moved, e.equalise(set, made, read))
		}
		if moved < stillMoves {
			return round
		}
	}
	return mostRounds
}

// reach fills in, by root, the ranges of the weights that make and that read
// each channel of set, and of others.
func (e *equaliser) reach(set []int, made, read []float64) {
	touches := func(ids []int) bool {
		return slices.ContainsFunc(ids, func(id int) bool {
			_, in := slices.BinarySearch(set, e.root(id))
			return in
		})
	}
	for _, m := range e.makers {
		ids := e.into[m.node]
		if !touches(m.ids) && !touches(ids) {
			continue
		}
		r := e.ranges[m.node]
		for at, most := range r.most {
			out, in := e.root(m.ids[r.out[at]]), e.root(ids[r.in[at]])
			v := most * e.factor[in] / e.factor[out]
			made[out], read[in] = max(made[out], v), max(read[in], v)
		}
	}
}

// equalise gives each channel of set the factor that makes its ranges alike,
// and returns the greatest move, as a logarithm. A channel of nothing, or one
// that nothing reads, has no range.
func (e *equaliser) equalise(set []int, made, read []float64) float64 {
	moved := 0.0
	for _, r := range set {
		if made[r] == 0 || read[r] == 0 {
			continue
		}
		s := min(mostFactor, max(1./mostFactor, e.factor[r]*math.Sqrt(made[r]/read[r])))
		moved = max(moved, math.Abs(math.Log(s/e.factor[r])))
		e.factor[r] = s
	}
	return moved
}

// precisions returns the mean precision of the output channels of each layer,
// by name.
func (e *equaliser) precisions() map[string]float64 {
	all := map[string]float64{}
	for _, m := range e.makers {
		most, largest := make([]float64, m.channels), 0.0
		r := e.ranges[m.node]
		for at, v := range r.most {
			v *= e.s(e.into[m.node][r.in[at]]) / e.s(m.ids[r.out[at]])
			most[r.out[at]] = max(most[r.out[at]], v)
			largest = max(largest, v)
		}
		sum := 0.0
		for _, v := range most {
			sum += v
		}
		if largest > 0 {
			all[m.node.Name] = sum / largest / float64(m.channels)
		}
	}
	return all
}

// write multiplies the weights of e.g by the factors.
func (e *equaliser) write() {
	byName := map[string]*model.Node{}
	for _, n := range e.g.Nodes {
		byName[n.Name] = n
	}
	for _, m := range e.makers {
		l := layerOf(e.g, byName[m.node.Name])
		if l == nil {
			continue // fixed by match
		}
		divide := func(c int) float64 { return e.s(m.ids[c]) }
		if bn := e.norm[m.node.Name]; bn != nil {
			for _, i := range []int{1, 2} {
				e.multiply(bn, i, func(c int) float64 { return 1 / divide(c) })
			}
			divide = func(int) float64 { return 1 }
		} else if l.bias != nil {
			e.biasOf(l, divide)
		}
		e.weights(l, divide, func(k int) float64 { return e.s(e.into[m.node][k]) })
	}
}

// weights writes l's weights, divided for each output channel and multiplied
// for each input channel.
func (e *equaliser) weights(l *layer, divide, times func(int) float64) {
	w, changed := l.weight.Clone(), false
	input, _ := l.inputChannel()
	l.eachWeight(func(c, i int) {
		if f := times(input(c, i)) / divide(c); f != 1 {
			w.F32()[i] = float32(float64(w.F32()[i]) * f)
			changed = true
		}
	})
	if changed {
		e.constant(l.node, 1, w)
	}
}

func (e *equaliser) biasOf(l *layer, divide func(int) float64) {
	b := slices.Clone(l.bias)
	for c := range b {
		b[c] = float32(float64(b[c]) / divide(c))
	}
	if !slices.Equal(b, l.bias) {
		e.constant(l.node, 2, model.Of(model.F32, b, len(b)))
	}
}

// multiply writes the constant that is input i of n, one element a channel.
func (e *equaliser) multiply(n *model.Node, i int, times func(int) float64) {
	t := e.g.Const(n.In[i]).Clone()
	for c, v := range t.F32() {
		t.F32()[c] = float32(float64(v) * times(c))
	}
	e.constant(n, i, t)
}

// constant makes t input i of n: others may read the constant that was there.
func (e *equaliser) constant(n *model.Node, i int, t *model.Tensor) {
	name := e.names.fresh(cmp.Or(n.In[i], n.Name) + "/equalised")
	e.g.AddConst(name, t)
	n.In[i] = name
}
