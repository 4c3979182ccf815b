package cli

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"dunlin/engine"
	"dunlin/model"
	"dunlin/model/prep"
	"dunlin/model/samples"
	"dunlin/quant/certify"
)

// referee compares what a smaller model answers with what the float model
// does, on the same samples, through the kernels that run on a device. Of a
// sample it keeps the float model's answer, and nothing else.
type referee struct {
	ctx       context.Context
	set       *samples.Set
	at        []int // which samples of set
	spec      prep.Spec
	labelled  bool
	tolerance float64
	states    []carried // of the network: a sample is then a whole sound
	sentence  string    // what is compared
	shelf     *shelf    // where the weights of the float model are, or nil

	// What the float model says of each sample of at. Classes are apart: they
	// are many and small.
	classes []int32
	answers []answer
	right   int // where labelled
}

// labelOffset is what spec adds to a label.
func labelOffset(spec prep.Spec) int {
	if len(spec.Outputs) == 0 {
		return 0
	}
	return spec.Outputs[0].Offset
}

// classesOnly reports whether the network's answer is a class.
func classesOnly(spec prep.Spec) bool {
	return len(spec.Outputs) == 0 || spec.Outputs[0].Kind == "classes"
}

// float asks the float model; add is called after each sample.
func (f *referee) float(g *model.Graph, add func(int)) error {
	if classesOnly(f.spec) {
		f.classes = make([]int32, len(f.at))
	} else {
		f.answers = make([]answer, len(f.at))
	}
	var right atomic.Int64
	err := f.run(g, add, func(i int, s samples.Sample, a answer, _ *reader) {
		if f.classes != nil {
			f.classes[i] = int32(a.class)
		} else {
			f.answers[i] = a
		}
		right.Add(b2i(a.class == s.Class))
	})
	f.right = int(right.Load())
	return err
}

// compare asks a smaller model and counts.
func (f *referee) compare(g *model.Graph, add func(int)) (certify.Outcomes, error) {
	var worse, better atomic.Int64
	err := f.run(g, add, func(i int, s samples.Sample, a answer, r *reader) {
		before := answer{}
		if f.classes != nil {
			before.class = int(f.classes[i])
		} else {
			before = f.answers[i]
		}
		if !f.labelled {
			worse.Add(b2i(!r.same(before, a)))
			return
		}
		was, is := before.class == s.Class, a.class == s.Class
		worse.Add(b2i(was && !is))
		better.Add(b2i(is && !was))
	})
	return certify.Outcomes{N: len(f.at), Worse: int(worse.Load()), Better: int(better.Load()), Unlabelled: !f.labelled}, err
}

// run asks g about every sample, on as many at once as there are CPUs, and
// calls each for each, several at a time.
func (f *referee) run(g *model.Graph, add func(int), each func(i int, s samples.Sample, a answer, r *reader)) error {
	in := f.spec.Inputs[0]
	p, err := engine.Compile(g, engine.Options{Threads: 1, Shapes: map[string]model.Shape{g.Inputs[0]: in.Shape()}, Packed: f.shelf.rest})
	if err != nil {
		return explain(err)
	}
	r, err := newReader(g, p, f.spec, f.tolerance)
	if err != nil {
		return err
	}
	if f.sentence = r.what(); len(f.states) > 0 {
		if r.spec.Kind != "values" {
			return fmt.Errorf("output %q: %s of a network with a state are not compared: describe it as values", r.spec.Name, r.spec.Kind)
		}
		f.sentence += " in every window of a sound"
	}
	ctx, cancel := context.WithCancelCause(f.ctx)
	defer cancel(nil)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		s, r := p.NewSession(), *r
		workers.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(f.at) {
					return
				}
				x, a, err := f.ask(s, &r, f.at[i])
				if err != nil {
					cancel(err)
					return
				}
				each(i, x, a, &r)
				add(1)
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}

// ask runs one sample.
func (f *referee) ask(s *engine.Session, r *reader, at int) (samples.Sample, answer, error) {
	x, err := f.set.At(at)
	if err != nil {
		return x, answer{}, err
	}
	if len(f.states) > 0 {
		a, err := f.listen(s, r, x)
		x.Sound = nil
		return x, a, err
	}
	if err := x.Fill(f.spec.Inputs[0], s.Input(0)); err != nil {
		return x, answer{}, err
	}
	if err := s.Run(); err != nil {
		return x, answer{}, fmt.Errorf("%s: %w", x.Name, err)
	}
	a, err := r.read(s)
	if err == nil && f.labelled && x.Class >= s.Output(r.outputs[0]).Elements() {
		err = fmt.Errorf("class %d, the network has %d", x.Class, s.Output(r.outputs[0]).Elements())
	}
	if err != nil {
		return x, a, fmt.Errorf("%s: %w", x.Name, err)
	}
	f.shelf.seen(x, 0)
	x.Picture, x.Sound, x.Line = nil, nil, nil
	return x, a, nil
}

// listen runs all windows of a sound: the answer is the values of each.
func (f *referee) listen(s *engine.Session, r *reader, x samples.Sample) (all answer, err error) {
	err = stream{f.spec.Inputs[0], s, f.states}.over(x, func(int, int) {}, func() error {
		a, err := r.read(s)
		all.values = append(all.values, a.values...)
		return err
	})
	return all, err
}

// errNoClasses is for labels where the network does not answer with a class.
var errNoClasses = errors.New("labels are classes, and the network's first output is none")
