package quant

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"dunlin/model"
)

// FrontOptions say how Front searches.
type FrontOptions struct {
	// Options are those of the Apply that makes the candidates, but for To
	// and Levels, which Front finds. Nodes in Float stay as they are.
	// Progress is called after each graph that was run on the samples.
	Options

	// Samples is how many samples, evenly spread, the divergences are
	// measured on. 0 is 64.
	Samples int

	// Steps is how many candidates are wanted at most; no fewer than 4, and 0
	// is 12.
	Steps int

	// Logits says that outputs which no Softmax makes are scores that would
	// go into one, as those of many classifiers are.
	Logits bool
}

const (
	frontSamples = 64
	frontSteps   = 12
)

// Candidate is a level for each layer.
type Candidate struct {
	Name   string           `json:"name"`   // how many layers have which level
	Levels map[string]Level `json:"levels"` // by node of the prepared graph: Options.Levels for Apply
	Bytes  int64            `json:"bytes"`  // of all constants, as a pack stores them
	KL     float64          `json:"kl"`     // of the outputs from the float model's, on the samples
}

// Sensitivity is what it costs to lower each layer alone.
type Sensitivity struct {
	Samples int         `json:"samples"`
	Outputs []string    `json:"outputs"` // how each output was compared
	Layers  []LayerCost `json:"layers"`  // in the order of the graph
}

// LayerCost is what one layer costs at the levels that it may have.
type LayerCost struct {
	Name  string     `json:"name"`
	Op    string     `json:"op"`
	Count int        `json:"weights"`
	Costs []StepCost `json:"costs"` // from its highest level down

	// Protected is set for a layer that costs more than all that cost less
	// than it together: the front keeps it out of int8 until the others have
	// been lowered.
	Protected bool `json:"protected,omitempty"`
}

// StepCost is what one level costs one layer.
type StepCost struct {
	Level Level   `json:"level"`
	Bytes int64   `json:"bytes"` // of its weights
	KL    float64 `json:"kl"`    // that this level makes: see Front
}

// at returns the cost of a level, nil where the layer cannot have it.
func (l *LayerCost) at(level Level) *StepCost {
	for i := range l.Costs {
		if l.Costs[i].Level == level {
			return &l.Costs[i]
		}
	}
	return nil
}

// Front returns candidates from the least compressed to the most, each of
// which lowers the layers that the one before lowers, and more of them or
// further: the order in which a fixed sequence of tests walks. r is what
// Calibrate returned for g; next returns the i-th of n samples, and is asked
// for one many times.
//
// The first candidate has float16 weights. A layer's cost is the KL
// divergence of the outputs from the float model's when that layer alone is
// int8, with what follows it; layers are lowered by cost for each byte saved,
// the cheapest first. Labels are not needed. What is left (int4, and the layers
// that cost out of proportion: LayerCost.Protected) is ranked again, by what
// it adds where all others are int8.
//
// It needs the memory of one sample's run with its weights in float and in
// the form that runs, all of them in int8 and in int4, and at most 8 MiB for
// samples and outputs.
func Front(g *model.Graph, r *Ranges, next func(i int) ([]*model.Tensor, error), n int, o FrontOptions) ([]Candidate, *Sensitivity, error) {
	if err := o.check(); err != nil {
		return nil, nil, err
	}
	if r == nil || r.Samples == 0 || n <= 0 {
		return nil, nil, fmt.Errorf("front of %s: %w", g.Name, ErrSamples)
	}
	p, err := prepare(g)
	if err != nil {
		return nil, nil, err
	}
	o.memo = newMemo()
	f := &front{g: p, ranges: r, o: o, before: g.StoredBytes()}
	if f.judge, err = newJudge(p, next, n, o); err != nil {
		return nil, nil, fmt.Errorf("front of %s: %w", g.Name, err)
	}
	all, err := f.search()
	if err != nil {
		return nil, nil, fmt.Errorf("front of %s: %w", g.Name, err)
	}
	return all, f.sensitivity(), nil
}

// front is the search.
type front struct {
	g      *model.Graph // prepared
	ranges *Ranges
	o      FrontOptions
	judge  *judge
	before int64 // bytes of the float model
	layers []*LayerCost
	total  int // graphs to be run, for Progress
}

// search finds the candidates.
func (f *front) search() ([]Candidate, error) {
	if err := f.o.checkNames(f.g); err != nil {
		return nil, err
	}
	if err := f.list(); err != nil {
		return nil, err
	}
	f.count()
	if err := f.alone(); err != nil {
		return nil, err
	}
	f.protect()
	first := f.order()
	second, err := f.together(first)
	if err != nil {
		return nil, err
	}
	return f.candidates(first, second)
}

// list finds the nodes with large weights, and the levels that each may have.
func (f *front) list() error {
	for _, n := range f.g.Nodes {
		count := 0
		for _, in := range n.In {
			if t := f.g.Const(in); t != nil && t.Type == model.F32 && t.Elements() >= halfLeast {
				count += t.Elements()
			}
		}
		if f.o.keptFloat(n) || count == 0 {
			continue
		}
		l := &LayerCost{Name: n.Name, Op: n.Op, Count: count}
		if err := f.sizes(l); err != nil {
			return err
		}
		f.layers = append(f.layers, l)
	}
	if len(f.layers) == 0 {
		return fmt.Errorf("it has no weights that can be made smaller")
	}
	return nil
}

// sizes fills in the levels that l may have, as Apply reports them: a level
// that it refuses is none.
func (f *front) sizes(l *LayerCost) error {
	for _, level := range levels {
		o := f.o.Options
		o.To, o.Levels = string(Float32), map[string]Level{l.Name: level}
		_, rep, err := apply(f.g, f.ranges, o, f.before)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(rep.Layers, func(x Layer) bool { return x.Name == l.Name })
		if got := rep.Layers[i]; got.Precision == string(level) {
			l.Costs = append(l.Costs, StepCost{Level: level, Bytes: got.After})
		}
	}
	return nil
}

// options returns those in which every layer has the level that of gives it.
func (f *front) options(of func(l *LayerCost) Level) Options {
	o := f.o.Options
	o.To, o.Levels = string(Int8), map[string]Level{}
	for _, l := range f.layers {
		o.Levels[l.Name] = of(l)
	}
	return o
}

// top returns the highest level worth having: float16, where it holds the
// weights.
func (l *LayerCost) top() Level {
	if l.at(FP16) != nil {
		return FP16
	}
	return Float32
}

// measure returns the divergence of the graph at those levels.
func (f *front) measure(of func(l *LayerCost) Level) (float64, error) {
	q, _, err := apply(f.g, f.ranges, f.options(of), f.before)
	if err != nil {
		return 0, err
	}
	return f.judge.divergence(q)
}

// count sets how many graphs will be run.
func (f *front) count() {
	f.total = 1 + f.steps()
	for _, l := range f.layers {
		for _, level := range []Level{Int8, Int4} {
			if l.at(level) != nil {
				f.total++
			}
		}
	}
	f.judge.seen = func(done int) {
		if f.o.Progress != nil {
			f.o.Progress(min(done, f.total), f.total)
		}
	}
}

func (f *front) steps() int {
	if f.o.Steps == 0 {
		return frontSteps
	}
	return max(f.o.Steps, 4)
}

// alone measures each layer that can be int8 with all others in float.
func (f *front) alone() error {
	for _, l := range f.layers {
		c := l.at(Int8)
		if c == nil {
			continue
		}
		var err error
		c.KL, err = f.measure(func(m *LayerCost) Level {
			if m == l {
				return Int8
			}
			return Float32
		})
		if err != nil {
			return fmt.Errorf("layer %s in int8: %w", l.Name, err)
		}
	}
	return nil
}

// tolerable is the divergence, in nats, up to which no layer is protected: it
// is lost among what int8 costs anyway.
const tolerable = 1e-3

// protect finds the layers that cost out of proportion.
func (f *front) protect() {
	var by []*LayerCost
	for _, l := range f.layers {
		if l.at(Int8) != nil {
			by = append(by, l)
		}
	}
	slices.SortStableFunc(by, func(a, b *LayerCost) int { return cmp.Compare(a.at(Int8).KL, b.at(Int8).KL) })
	sum := 0.0
	for _, l := range by {
		kl := l.at(Int8).KL
		l.Protected = kl > tolerable && kl > sum
		sum += kl
	}
	// One that costs more than a protected one is protected too.
	for i := 1; i < len(by); i++ {
		by[i].Protected = by[i].Protected || by[i-1].Protected
	}
}

// step lowers one layer to one level.
type step struct {
	layer *LayerCost
	to    Level
	kl    float64 // that it adds
	saves int64   // bytes
}

// newStep is a step of l between two costs. What a layer has beside its
// weights may outweigh what they save, as in a convolution with 9 weights a
// channel; it is worth lowering all the same, for its neighbours' sake.
func newStep(l *LayerCost, from, to *StepCost, kl float64) step {
	return step{l, to.Level, kl, max(from.Bytes-to.Bytes, int64(l.Count/4))}
}

// sortSteps puts the cheapest for each byte first; of two that cost nothing,
// the one that saves more.
func sortSteps(all []step) {
	slices.SortStableFunc(all, func(a, b step) int {
		return cmp.Or(cmp.Compare(a.rate(), b.rate()), cmp.Compare(b.saves, a.saves))
	})
}

func (s step) rate() float64 { return math.Max(0, s.kl) / float64(max(1, s.saves)) }

// order returns the steps to int8 of the layers that need no protection.
func (f *front) order() []step {
	var all []step
	for _, l := range f.layers {
		if c := l.at(Int8); c != nil && !l.Protected {
			all = append(all, newStep(l, l.at(l.top()), c, c.KL))
		}
	}
	sortSteps(all)
	return all
}

// after returns the level of each layer once those steps were taken.
func (f *front) after(steps ...step) func(l *LayerCost) Level {
	at := map[*LayerCost]Level{}
	for _, s := range steps {
		at[s.layer] = s.to
	}
	return func(l *LayerCost) Level {
		if level, ok := at[l]; ok {
			return level
		}
		return l.top()
	}
}

// together ranks what is left once the first steps were taken, each measured
// in the graph that they lead to: int4 for the layers that are int8 there, and
// both levels for those that are not.
func (f *front) together(first []step) ([]step, error) {
	base, err := f.measure(f.after(first...))
	if err != nil {
		return nil, err
	}
	var rest []step
	for _, l := range f.layers {
		from, added := l.at(l.top()), 0.0
		for _, level := range []Level{Int8, Int4} {
			c := l.at(level)
			if c == nil {
				continue
			}
			if level == Int8 && !l.Protected {
				from = c
				continue
			}
			kl, err := f.measure(f.after(append(slices.Clone(first), step{layer: l, to: level})...))
			if err != nil {
				return nil, fmt.Errorf("layer %s in %s: %w", l.Name, level, err)
			}
			if level == Int4 {
				c.KL = kl - base
			}
			// Never cheaper than the step before it, which must come first.
			s := newStep(l, from, c, kl-base-added)
			if n := len(rest); n > 0 && rest[n-1].layer == l && s.rate() < rest[n-1].rate() {
				s.kl = rest[n-1].rate() * float64(s.saves)
			}
			if level == Int8 || c.Bytes < from.Bytes {
				rest, from, added = append(rest, s), c, kl-base
			}
		}
	}
	sortSteps(rest)
	return rest, nil
}

// candidates makes those of the steps that are worth testing.
func (f *front) candidates(first, second []step) ([]Candidate, error) {
	all := slices.Concat(first, second)
	f.o.memo = newMemo() // the first ones have float16 in the place of what it holds
	var out []Candidate
	for _, k := range f.choose(all, len(first)) {
		of := f.after(all[:k]...)
		o := f.options(of)
		q, rep, err := apply(f.g, f.ranges, o, f.before)
		if err != nil {
			return nil, err
		}
		kl, err := f.judge.divergence(q)
		if err != nil {
			return nil, err
		}
		out = append(out, Candidate{Name: f.name(of), Levels: o.Levels, Bytes: rep.After, KL: kl})
	}
	return out, nil
}

// name says how many layers have which level.
func (f *front) name(of func(l *LayerCost) Level) string {
	counts := map[Level]int{}
	for _, l := range f.layers {
		counts[of(l)]++
	}
	var parts []string
	for _, level := range levels {
		if counts[level] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[level], level))
		}
	}
	return strings.Join(parts, ", ")
}

// sensitivity is the report of what was measured.
func (f *front) sensitivity() *Sensitivity {
	s := &Sensitivity{Samples: len(f.judge.at)}
	for i, name := range f.judge.names {
		s.Outputs = append(s.Outputs, fmt.Sprintf("%s: %s", name, f.judge.kinds[i]))
	}
	for _, l := range f.layers {
		s.Layers = append(s.Layers, *l)
	}
	return s
}
