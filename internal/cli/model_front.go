package cli

import (
	"errors"
	"slices"

	"dunlin/quant"
	"dunlin/train"
)

// front calibrates and returns the candidates, from the float model to the
// smallest.
func (s *search) front() ([]candidate, error) {
	calib := s.w.calib
	b := s.start("calibrating", len(calib.at))
	var err error
	s.ranges, err = quant.Calibrate(s.graph, calib.next, len(calib.at), quant.Options{Progress: b.set, Rest: s.w.shelf.rest})
	b.done()
	if errors.Is(err, quant.ErrQuantised) {
		return nil, withHint(err, "leave --data out to pack it as it is; what it lost, dunlin model eval says of both models")
	}
	if err != nil {
		return nil, err
	}
	o := quant.FrontOptions{Logits: classesOnly(s.w.spec)}
	o.PerTensor, o.Rest = s.rewrite.PerTensor, s.w.shelf.rest
	b = s.start("looking for what each layer costs", 1)
	o.Progress = b.set
	found, costs, err := quant.Front(s.graph, s.ranges, calib.next, len(calib.at), o)
	b.done()
	if err != nil {
		return nil, err
	}
	s.cert.Layers = costs
	all := []candidate{{name: "float32", float: true}}
	for _, c := range found {
		all = append(all, candidate{name: c.Name, options: quant.Options{Levels: c.Levels, PerTensor: o.PerTensor}, kl: c.KL})
	}
	return all, nil
}

// adaptive is the size in bytes of a float network up to which roundings are
// learned together (AdaRound), which takes half a minute for 300 KiB: a larger
// one has each weight moved by itself.
const adaptive = 4 << 20

// adam is the optimiser of quant's roundings.
func adam(n int) func(values, gradients []float32) {
	const rate = 0.05
	p := &train.Parameter{Name: "roundings", Value: make([]float32, n)}
	o, err := train.NewOptimiser(train.OptimiserOptions{Method: train.Adam}, []*train.Parameter{p})
	return func(values, gradients []float32) {
		if err != nil {
			return // DUNLIN_KERNELS names no tier: the engine says so first
		}
		p.Value, p.Gradient = values, gradients
		o.Step(rate)
	}
}

// roundAgain returns, where the walk stopped at a candidate with four-bit
// weights, all that have such weights, in their order, with weights rounded for
// what their layers put out rather than each to the nearest. Which these are
// must not come from the tests before: a walk that began where the first one
// stopped would begin at a place that the samples chose. Where it stopped before
// four bits, it was something else that cost too much, and is in all of them.
func (s *search) roundAgain(front []candidate) ([]candidate, error) {
	var again []candidate
	for i, c := range front {
		if s.cert.Front[i].Levels[string(quant.Int4)] > 0 {
			again = append(again, c)
		}
	}
	stopped := slices.IndexFunc(s.cert.Front, func(p frontPoint) bool { return !p.Certified })
	if stopped < 0 || s.cert.Front[stopped].Levels[string(quant.Int4)] == 0 {
		return nil, nil
	}
	calib := s.w.calib
	b := s.start("rounding for the outputs", 1)
	o := again[0].options
	o.Progress, o.Rest = b.set, s.w.shelf.rest
	if s.graph.StoredBytes() <= adaptive {
		o.Optimise = adam
	}
	r, err := quant.LearnRounding(s.graph, s.ranges, calib.next, len(calib.at), o)
	b.done()
	if err != nil {
		return nil, err
	}
	s.cert.Rounded = r.Layers
	for i := range again {
		again[i].name += ", rounded"
		again[i].options.Rounding = r
	}
	return again, nil
}
