package quant

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"dunlin/model"
)

// PruneOptions say how much PruneChannels cuts: one of Share, Bytes and MACs.
type PruneOptions struct {
	// Share is how much of all channels that may be cut goes, 0 to 1.
	Share float64

	// Bytes and MACs are how large the constants, and how many the
	// multiplications for one sample, may be at most.
	Bytes, MACs int64

	// Multiple is what the number of channels that a layer keeps is a
	// multiple of, where it had as many: kernels work on 8 or 16 at a time. 0
	// is 1.
	Multiple int
}

func (o PruneOptions) check() error {
	asked := 0
	for _, set := range []bool{o.Share != 0, o.Bytes != 0, o.MACs != 0} {
		if set {
			asked++
		}
	}
	switch {
	case asked != 1:
		return errors.New("want one of a share of the channels, a number of bytes and a number of multiplications")
	case !(o.Share >= 0 && o.Share < 1), o.Bytes < 0, o.MACs < 0, o.Multiple < 0:
		return fmt.Errorf("a share of %g, %d bytes, %d multiplications, multiples of %d: none may be negative, and the share is below 1",
			o.Share, o.Bytes, o.MACs, o.Multiple)
	}
	return nil
}

// PruneReport says what PruneChannels cut. Channels are those of sets; MACs
// are of the layers whose channels are followed, for one sample.
type PruneReport struct {
	Channels [2]int      `json:"channels"` // before and after
	Bytes    [2]int64    `json:"bytes"`    // of constants
	MACs     [2]int64    `json:"macs"`
	Sets     []PrunedSet `json:"sets"`
}

// PrunedSet is a set of channels of which some were cut: the layers that make
// them have lost the same ones.
type PrunedSet struct {
	Layers []string `json:"layers"`
	Before int      `json:"before"`
	After  int      `json:"after"`
}

// leastKept is the share of a set's channels that is always kept, with one
// of each layer: beyond it a layer is a bottleneck that training does not
// open again.
const leastKept = 1. / 8

// PruneChannels returns a smaller graph without the channels of g that matter
// least, and a report. What makes a channel and what reads it is cut alike,
// through depthwise convolutions, batch normalisation, activations, pools,
// Concat, Flatten and residual Adds; channels that a caller sees, and those
// behind operators that mix them, stay. g is not changed. r is what Calibrate
// or DataFree returned for g.
//
// A channel k matters as much as the layers j that read it lose of what
// they would compute,
//
//	sum over j of  Var[x_k] |W_j:k|^2 / sum over i of Var[x_i] |W_j:i|^2
//
// and its mean, which it leaves behind, goes to the biases of those layers:
// b_j += W_j:k E[x_k]. A channel that is always the same costs nothing (to
// the edge of a padded convolution). Channels go one after another, the least
// for the bytes or multiplications that it frees first. (Importance by the
// error of the next layer's output: Luo et al. 2017, arXiv:1707.06342; sets of
// layers that are cut alike: Liu et al. 2021, arXiv:2108.00708.)
//
// A graph that lost much must be trained again: batch normalisation is still
// in it. With g as the teacher a short training gives back most
// (distillation, package train).
func PruneChannels(g *model.Graph, r *Ranges, o PruneOptions) (*model.Graph, *PruneReport, error) {
	fail := func(err error) (*model.Graph, *PruneReport, error) {
		return nil, nil, fmt.Errorf("prune %s: %w", g.Name, err)
	}
	if err := o.check(); err != nil {
		return fail(err)
	}
	if r == nil || r.Samples == 0 {
		return fail(ErrSamples)
	}
	if _, err := prepare(g); err != nil {
		return fail(err)
	}
	h := foldBias(foldReshapes(g)) // batch normalisation stays apart, to be trained
	c, err := followChannels(h, false)
	if err != nil {
		return fail(err)
	}
	p := newPruner(c, r)
	rep := &PruneReport{Bytes: [2]int64{g.StoredBytes()}, MACs: [2]int64{p.macs()}}
	sets := p.sets()
	if err := p.choose(sets, o); err != nil {
		return fail(err)
	}
	rep.MACs[1] = p.macs()
	p.report(sets, rep)
	p.write()
	h.Prune()
	rep.Bytes[1] = h.StoredBytes()
	if err := h.Check(); err != nil {
		return fail(err)
	}
	if _, err := shapesOf(h, Options{}); err != nil { // the engine runs it
		return fail(err)
	}
	return h, rep, nil
}

// pruner chooses channels and cuts them.
type pruner struct {
	*channels
	r     *Ranges
	into  map[*model.Node][]int // numbers of the inputs of a layer that reads all of them
	score []float64             // by root: how much it matters
	cut   []bool                // by root
	ends  [][]end               // by root: where it stands
	sizes []layerSize           // of makers, in order
}

// end is one place where a root stands: among the outputs or the inputs of
// the at-th maker.
type end struct {
	at    int
	input bool
}

// layerSize is how many channels a layer has, while some are cut: it has
// outs*ins*taps weights, and multiplies each with places elements.
type layerSize struct{ outs, ins, taps, places int }

func newPruner(c *channels, r *Ranges) *pruner {
	n := len(c.parent)
	p := &pruner{channels: c, r: r, into: map[*model.Node][]int{}, score: make([]float64, n), cut: make([]bool, n), ends: make([][]end, n)}
	for _, read := range c.reads {
		p.into[read.node] = read.ids
		p.weigh(read)
	}
	for at, m := range c.makers {
		s := layerSize{outs: m.channels, ins: 1, places: 1}
		for _, d := range c.shapes[m.node.Out[0]][2:] {
			s.places *= d
		}
		for _, id := range m.ids {
			p.ends[c.root(id)] = append(p.ends[c.root(id)], end{at, false})
		}
		if ids := p.into[m.node]; ids != nil {
			s.ins = len(ids)
			for _, id := range ids {
				p.ends[c.root(id)] = append(p.ends[c.root(id)], end{at, true})
			}
		}
		s.taps = m.weight.Elements() / (s.outs * s.ins)
		p.sizes = append(p.sizes, s)
	}
	return p
}

// weigh adds to the scores what a layer would lose of its output.
func (p *pruner) weigh(read port) {
	value := read.node.In[0]
	mean, square := p.r.mean(value), p.r.meanSquare(value)
	energy, total := make([]float64, len(read.ids)), 0.0
	input, _ := read.inputChannel()
	read.eachWeight(func(c, i int) {
		w := float64(read.weight.F32()[i])
		energy[input(c, i)] += float64(w * w)
	})
	for k := range energy {
		if len(mean) == len(energy) {
			energy[k] *= math.Max(0, square[k]-float64(mean[k]*mean[k]))
		}
		total += energy[k]
	}
	if total == 0 {
		return
	}
	for k, id := range read.ids {
		p.score[p.root(id)] += energy[k] / total
	}
}

// macs returns the multiplications of all layers for one sample.
func (p *pruner) macs() int64 {
	n := int64(0)
	for _, s := range p.sizes {
		n += s.weights() * int64(s.places)
	}
	return n
}

func (s layerSize) weights() int64 { return int64(s.outs) * int64(s.ins) * int64(s.taps) }

// mark cuts roots, or gives them back.
func (p *pruner) mark(roots []int, cut bool) {
	by := 1
	if cut {
		by = -1
	}
	for _, r := range roots {
		p.cut[r] = cut
		for _, e := range p.ends[r] {
			if e.input {
				p.sizes[e.at].ins += by
			} else {
				p.sizes[e.at].outs += by
			}
		}
	}
}

// empty reports whether a layer has no channel left.
func (p *pruner) empty() bool {
	return slices.ContainsFunc(p.sizes, func(s layerSize) bool { return s.outs < 1 || s.ins < 1 })
}

// queue is the channels of a set that are not cut yet, the least first.
type queue struct {
	roots []int
	least int // this many stay
}

// choose marks what is cut.
func (p *pruner) choose(sets [][]int, o PruneOptions) error {
	total := 0
	queues := make([]queue, len(sets))
	for i, s := range sets {
		total += len(s)
		roots := slices.Clone(s)
		slices.SortStableFunc(roots, func(a, b int) int {
			switch {
			case p.score[a] < p.score[b]:
				return -1
			case p.score[a] > p.score[b]:
				return 1
			}
			return 0
		})
		queues[i] = queue{roots, int(math.Ceil(float64(len(s)) * leastKept))}
	}
	if total == 0 {
		return errors.New("no channels can be cut: the caller, or an operator that mixes channels, sees all of them")
	}
	cut := 0
	start := p.g.StoredBytes()
	for _, read := range p.reads {
		if read.bias == nil {
			start += 4 * int64(read.channels) // that it may get for the means
		}
	}
	done := func() (bool, int64) {
		switch {
		case o.Share > 0:
			return float64(cut) >= o.Share*float64(total), int64(cut)
		case o.Bytes > 0:
			b := start - p.freed()
			return b <= o.Bytes, b
		}
		m := p.macs()
		return m <= o.MACs, m
	}
	for {
		enough, at := done()
		if enough {
			return nil
		}
		q, n := p.next(queues, o)
		if q == nil {
			switch {
			case o.Share > 0:
				return fmt.Errorf("only %d of %d channels can be cut: each layer keeps an eighth", at, total)
			case o.Bytes > 0:
				return fmt.Errorf("%d bytes are left when each layer keeps an eighth of its channels, %d are wanted", at, o.Bytes)
			}
			return fmt.Errorf("%d multiplications are left when each layer keeps an eighth of its channels, %d are wanted", at, o.MACs)
		}
		p.mark(q.roots[:n], true)
		q.roots = q.roots[n:]
		cut += n
	}
}

// next returns the set whose next channels, and how many, matter least for
// what they free; nil where no set has any to give.
func (p *pruner) next(queues []queue, o PruneOptions) (*queue, int) {
	multiple := max(1, o.Multiple)
	var best *queue
	bestN, bestRatio := 0, math.Inf(1)
	for i := range queues {
		q := &queues[i]
		n := len(q.roots) % multiple
		if n == 0 {
			n = multiple
		}
		if len(q.roots)-n < max(q.least, min(multiple, len(q.roots))) {
			continue
		}
		lost, freed := 0.0, float64(n)
		for _, r := range q.roots[:n] {
			lost += p.score[r]
		}
		before, beforeMACs := p.freed(), p.macs()
		p.mark(q.roots[:n], true)
		empty := p.empty()
		switch {
		case o.Bytes > 0:
			freed = float64(p.freed() - before)
		case o.MACs > 0:
			freed = float64(beforeMACs - p.macs())
		}
		p.mark(q.roots[:n], false)
		if ratio := lost / freed; !empty && freed > 0 && ratio < bestRatio {
			best, bestN, bestRatio = q, n, ratio
		}
	}
	return best, bestN
}

// freed returns the bytes of the weights that are cut.
func (p *pruner) freed() int64 {
	n := int64(0)
	for i, s := range p.sizes {
		n += 4 * (int64(p.makers[i].weight.Elements()) - s.weights())
	}
	return n
}

// report lists the sets.
func (p *pruner) report(sets [][]int, rep *PruneReport) {
	for _, set := range sets {
		s := PrunedSet{Before: len(set)}
		for _, r := range set {
			if !p.cut[r] {
				s.After++
			}
		}
		for _, m := range p.makers {
			if slices.ContainsFunc(m.ids, func(id int) bool { _, in := slices.BinarySearch(set, p.root(id)); return in }) {
				s.Layers = append(s.Layers, m.node.Name)
			}
		}
		rep.Channels[0] += s.Before
		rep.Channels[1] += s.After
		rep.Sets = append(rep.Sets, s)
	}
}
