package head

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
)

// Sample is a feature with its class.
type Sample struct {
	Class   int
	Feature []byte // Feature.Bytes of them: the elements of Feature.Value
	// kept is set for a sample of a class that was not taught, which is to stay.
	kept bool
}

// Options say how to train.
type Options struct {
	Seed uint64
	// Anchors are features of inputs of the kind that the network was made for,
	// as a pack's exam has them: what the head does with classes that have no
	// samples is held in place by them. Without any, only the pull does that.
	Anchors [][]byte
	// Rest, where not nil, is called before each small step of the work, and
	// may wait. Its error ends the training.
	Rest func(context.Context) error
}

// folds is how many parts the samples are cut into for the check: each is
// answered by a head that was trained on the others.
const folds = 5

// Significant is the chance below which a tuned head counts as better: that
// of as many gains, or more, among the answers that changed, if gains and
// losses were as likely (McNemar's exact test, one-sided).
const Significant = 0.05

// Outcome is what became of a training. Figures are of samples that the head
// in question was not trained on.
type Outcome struct {
	Samples int `json:"samples"`
	Classes int `json:"classes"` // that have samples
	// Before and After are the fractions that the signed and the tuned head
	// answer right.
	Before float64 `json:"before"`
	After  float64 `json:"after"`
	// Gained and Lost are the answers that only the tuned head has right, and
	// only the signed one; a changed answer to an anchor whose class was not
	// taught is one lost.
	Gained int     `json:"gained"`
	Lost   int     `json:"lost"`
	Chance float64 `json:"chance"`
	// Delta is the head trained on all samples; nil: it is not better.
	Delta *Delta `json:"-"`
}

// Better reports whether the tuned head may replace the signed one.
func (o *Outcome) Better() bool { return o.Delta != nil }

func (o *Outcome) String() string {
	if o == nil {
		return "no outcome"
	}
	return fmt.Sprintf("%d samples of %d classes: %.1f %% right with the signed head, %.1f %% with the tuned one; %d answers gained, %d lost, chance %.2g",
		o.Samples, o.Classes, 100*o.Before, 100*o.After, o.Gained, o.Lost, o.Chance)
}

// ErrSamples is returned, wrapped, for samples that nothing can be learned of.
var ErrSamples = errors.New("the samples cannot be used")

// Train trains a head and checks it. Samples are distinct: one that is there
// twice would be held out of the training and be part of it. Each class wants
// some: one with fewer than five is absent from the check of some of them.
// Errors are those of Rest, of ctx, and ErrSamples.
func (h *Head) Train(ctx context.Context, samples []Sample, o Options) (*Outcome, error) {
	rest := func() error {
		if o.Rest == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		return o.Rest(ctx)
	}
	out := &Outcome{}
	taught, err := h.count(samples, out)
	if err != nil {
		return nil, err
	}
	samples, imagined, err := h.anchored(samples, o.Anchors, taught, rest)
	if err != nil {
		return nil, err
	}
	before, err := h.answers(h.signed(true), samples, rest)
	if err != nil {
		return nil, err
	}
	part := partition(samples, h.Classes, o.Seed)
	after := make([]int, len(samples))
	for fold := range folds {
		var train, held []Sample
		var at []int
		for i, s := range samples {
			if part[i] == fold {
				held, at = append(held, s), append(at, i)
			} else {
				train = append(train, s)
			}
		}
		if len(held) == 0 {
			continue
		}
		f, err := h.tune(train, imagined, o.Seed, rest)
		if err != nil {
			return nil, err
		}
		classes, err := h.answers(f.net, held, rest)
		if err != nil {
			return nil, err
		}
		for i, class := range classes {
			after[at[i]] = class
		}
	}
	out.compare(samples, before, after)
	if out.Chance > Significant {
		return out, nil
	}
	f, err := h.tune(samples, imagined, o.Seed, rest)
	if err != nil {
		return nil, err
	}
	out.Delta = f.delta
	return out, nil
}

func (h *Head) tune(samples, imagined []Sample, seed uint64, rest func() error) (*frozen, error) {
	n, err := h.fit(samples, imagined, seed, rest)
	if err != nil {
		return nil, err
	}
	return h.freeze(n, slices.Concat(samples, imagined), rest)
}

// anchored returns the samples with the anchors whose class was not taught,
// and what is imagined of such classes.
func (h *Head) anchored(samples []Sample, anchors [][]byte, taught []bool, rest func() error) (all, imagined []Sample, err error) {
	kept := make([]Sample, len(anchors))
	for i, a := range anchors {
		if err := h.Feature.Check(a); err != nil {
			return nil, nil, fmt.Errorf("%w: anchor %d: %w", ErrSamples, i, err)
		}
		kept[i].Feature = a
	}
	answers, err := h.answers(h.signed(true), kept, rest)
	if err != nil {
		return nil, nil, err
	}
	all = append(all, samples...)
	for i, s := range kept {
		if !taught[answers[i]] {
			s.Class, s.kept = answers[i], true
			all = append(all, s)
		}
	}
	imagined, err = h.imagine(anchors, taught, samples, rest)
	return all, imagined, err
}

// count checks the samples, counts what is in them, and returns which classes
// are.
func (h *Head) count(samples []Sample, out *Outcome) ([]bool, error) {
	seen := make([]bool, h.Classes)
	for i, s := range samples {
		if s.Class < 0 || s.Class >= h.Classes {
			return nil, fmt.Errorf("%w: sample %d is of class %d, want one of %d", ErrSamples, i, s.Class, h.Classes)
		}
		if err := h.Feature.Check(s.Feature); err != nil {
			return nil, fmt.Errorf("%w: sample %d: %w", ErrSamples, i, err)
		}
		out.Samples++
		if !seen[s.Class] {
			seen[s.Class] = true
			out.Classes++
		}
	}
	if out.Samples < 2*folds || out.Classes < 2 {
		return nil, fmt.Errorf("%w: %d of %d classes, want at least %d of 2", ErrSamples, out.Samples, out.Classes, 2*folds)
	}
	return seen, nil
}

// answers returns the class with the highest score for each sample, the lower
// one of equal scores.
func (h *Head) answers(n *net, samples []Sample, rest func() error) ([]int, error) {
	b := newBatch(n, 1, rest)
	last := len(n.layers) - 1
	all := make([]int, len(samples))
	for i, s := range samples {
		h.Feature.values(b.x, s.Feature)
		if err := n.forward(b, 1); err != nil {
			return nil, err
		}
		z := b.z[last]
		for c, v := range z {
			if v > z[all[i]] {
				all[i] = c
			}
		}
	}
	return all, nil
}

// partition says in which part each sample is, so that each class, and the
// kept ones, are spread evenly over the parts.
func partition(samples []Sample, classes int, seed uint64) []int {
	part := make([]int, len(samples))
	next := make([]int, 2*classes)
	random := rand.New(rand.NewPCG(seed, 1))
	first := random.Perm(2 * classes) // or small classes would all begin in part 0
	for _, i := range random.Perm(len(samples)) {
		group := 2 * samples[i].Class
		if samples[i].kept {
			group++
		}
		part[i] = (first[group] + next[group]) % folds
		next[group]++
	}
	return part
}

// compare fills in the figures.
func (o *Outcome) compare(samples []Sample, before, after []int) {
	for i, s := range samples {
		was, is := before[i] == s.Class, after[i] == s.Class
		if was && !is {
			o.Lost++
		}
		if s.kept {
			continue
		}
		if is && !was {
			o.Gained++
		}
		if was {
			o.Before += 1 / float64(o.Samples)
		}
		if is {
			o.After += 1 / float64(o.Samples)
		}
	}
	o.Chance = atLeast(o.Gained, o.Gained+o.Lost)
}

// atLeast returns the chance of k heads or more in n throws.
func atLeast(k, n int) float64 {
	if k <= 0 {
		return 1
	}
	// Each binomial by its ratio to the one before, all scaled as they grow.
	term, tail, all := 1.0, 0.0, 0.0
	for i := 0; i <= n; i++ {
		if i > 0 {
			term = float64(term * float64(n-i+1) / float64(i))
		}
		all += term
		if i >= k {
			tail += term
		}
		if all > 1e200 {
			term, tail, all = float64(term*1e-200), float64(tail*1e-200), float64(all*1e-200)
		}
	}
	return tail / all
}
