package cli

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"dunlin/engine"
	"dunlin/model"
	"dunlin/quant"
	"dunlin/train"
)

// What training for int8 may take. Beyond the memory or the work it is passed
// over; neither bound is a time, since the same seed and samples must give the
// same weights.
const (
	// trainBytes bounds what it takes beside the network: values and gradients
	// of a batch, and six times the weights (those trained, their gradients,
	// the two moments of Adam, the best of all epochs, and the graph that comes
	// out).
	trainBytes = 48 << 20
	// trainWork bounds the multiplications of the forward passes over all
	// epochs, of which there are fewer in a larger network: about four minutes.
	trainWork = 5e11
	// trainSamples bounds the bytes of the samples, which are held in memory.
	trainSamples = 8 << 20
	// trainLeast is the fewest samples worth training with.
	trainLeast = 32

	// trainRate is the rate of Adam, which falls to nothing as a cosine does,
	// over the size of the weights: Adam moves each by about the rate.
	trainRate = 1e-3
	taught    = 0.7 // how much the float model's answers count against the labels, where there are any
)

// trainStream keeps the order of training samples apart from other uses of the
// seed.
const trainStream = 0x747261696e

// trainedReport says how a network was trained as its int8 form computes.
type trainedReport struct {
	Why      string  `json:"why,omitempty"` // it was passed over
	Samples  int     `json:"samples"`       // of those that calibrate
	Held     int     `json:"held_out"`      // others of them, that say which epoch was the best
	Labelled bool    `json:"labelled"`      // they have classes beside the float model's answers
	Soft     float64 `json:"temperature"`   // of the float model's answers
	Rate     float64 `json:"rate"`          // at the beginning
	Epochs   int     `json:"epochs"`
	Best     int     `json:"best"` // epoch, from 1, whose weights it has
	Batch    int     `json:"batch"`
	Before   float64 `json:"loss_before"` // on those held out
	After    float64 `json:"loss_after"`  // of the best epoch
	Seconds  float64 `json:"seconds"`
}

// String says it in a sentence.
func (r *trainedReport) String() string {
	if r.Why != "" {
		return "training for int8 was passed over: " + r.Why
	}
	by := "the float model's answers"
	if r.Labelled {
		by += " and the labels"
	}
	return fmt.Sprintf("training for int8 learned from %d calibration samples by %s: %d epochs in %.1f s, the loss on %d others went from %.4g to %.4g",
		r.Samples, by, r.Epochs, r.Seconds, r.Held, r.Before, r.After)
}

// errPassedOver wraps why a network is not trained.
type errPassedOver struct{ error }

func passedOver(format string, a ...any) error { return errPassedOver{fmt.Errorf(format, a...)} }

// trained returns, where nothing that was certified is nearly as small as int8
// throughout, that form of the network, trained. It is one candidate, whatever
// the tests before said, so that a walk of its own may test it. What it learns
// from are calibration samples, and none of those that certify.
func (s *search) trained() ([]candidate, error) {
	if s.o.Epochs == 0 {
		return nil, nil
	}
	o := quant.Options{PerTensor: s.rewrite.PerTensor, Levels: map[string]quant.Level{}}
	small, report, err := quant.Apply(s.graph, s.ranges, o)
	if err != nil {
		return nil, err
	}
	for _, p := range s.cert.Front {
		if p.Certified && len(p.Levels) > 0 && float64(p.Bytes) <= 1.1*float64(report.After) {
			return nil, nil
		}
	}
	r := &trainedReport{}
	s.cert.Trained = r
	start := time.Now()
	g, err := s.train(small, r)
	r.Seconds = time.Since(start).Seconds()
	switch {
	case s.ctx.Err() != nil:
		return nil, s.ctx.Err()
	case errors.As(err, new(errPassedOver)):
		r.Why = err.Error()
		s.cert.Refused = append(s.cert.Refused, refusal{"training for int8", r.Why})
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("training for int8: %w", err)
	}
	return []candidate{{name: "int8, trained", graph: g, report: report}}, nil
}

// train trains small, the int8 form of s.graph, and returns it with the
// weights that it found.
func (s *search) train(small *model.Graph, r *trainedReport) (*model.Graph, error) {
	if len(s.w.states) > 0 {
		return nil, passedOver("the network carries a state")
	}
	if o := s.w.spec.Outputs; len(o) > 0 && (o[0].Kind != "classes" && o[0].Kind != "values" || o[0].Name != "" && o[0].Name != s.graph.Outputs[0]) {
		return nil, passedOver("output %q (%s) is not the first of the network, or neither classes nor values", o[0].Name, o[0].Kind)
	}
	float, err := quant.Prepare(s.graph)
	if err != nil {
		return nil, err
	}
	q, err := train.NewQuantised(float, small)
	if err != nil {
		return nil, passedOver("%w", err)
	}
	data, held, err := s.lessons(r)
	if err != nil {
		return nil, err
	}
	net, err := s.student(q.Graph(), r)
	if err != nil {
		return nil, err
	}
	r.Rate = trainRate * sizeOf(net.Parameters())
	fit := train.FitOptions{
		Epochs: r.Epochs, Loss: s.loss(r), Optimiser: train.OptimiserOptions{Method: train.Adam},
		Schedule: train.Schedule{Shape: train.Cosine, Rate: r.Rate}, Seed: s.o.Seed,
		WholeBatches: true, Test: held, Patience: r.Epochs,
	}
	if !(r.Rate > 0) {
		return nil, passedOver("it has no weights to train, or they are all 0")
	}
	before, err := train.Evaluate(s.ctx, net, held, fit.Loss.Plain())
	if err != nil {
		return nil, passedOver("%w", err)
	}
	b := s.start("training for int8", r.Epochs)
	fit.Progress = func(p train.Progress) {
		b.say(fmt.Sprintf("training for int8, loss %.4g", p.Loss))
		b.set((p.Epoch-1)*p.Steps+p.Step, p.Epochs*p.Steps)
	}
	result, err := train.Fit(s.ctx, net, data, fit)
	b.done()
	if err != nil {
		return nil, passedOver("%w", err)
	}
	r.Before, r.Best = before.Loss, result.Best
	if r.After = *result.Record[result.Best-1].TestLoss; r.After >= r.Before {
		return nil, passedOver("it made nothing better: the loss on samples held out was %.4g, and %.4g after the best of %d epochs", r.Before, r.After, r.Epochs)
	}
	return q.Int8(net.Graph())
}

// student lays the network out for the largest batch that the memory allows.
func (s *search) student(g *model.Graph, r *trainedReport) (*train.Net, error) {
	left := int64(trainBytes) - 6*s.graph.StoredBytes()
	if left <= 0 {
		return nil, passedOver("its weights are too large: training takes %d MiB at most", trainBytes>>20)
	}
	for {
		net, err := train.NewNet(g, train.Options{Batch: r.Batch, Logits: classesOnly(s.w.spec), Seed: s.o.Seed, MaxBytes: left})
		switch {
		case errors.Is(err, train.ErrMemory) && r.Batch > 8:
			r.Batch /= 2
		case err != nil:
			return nil, passedOver("%w", err)
		default:
			return net, nil
		}
	}
}

// sizeOf returns the median of the root mean squares of the layers' weights.
func sizeOf(all []*train.Parameter) float64 {
	var sizes []float64
	for _, p := range all {
		sum := 0.0
		for _, v := range p.Value {
			sum += float64(float64(v) * float64(v))
		}
		if p.Decay {
			sizes = append(sizes, math.Sqrt(sum/float64(len(p.Value))))
		}
	}
	if len(sizes) == 0 {
		return 0
	}
	slices.Sort(sizes)
	return sizes[len(sizes)/2]
}

// loss is what the network is trained for: the float model's answers, and the
// labels where there are any.
func (s *search) loss(r *trainedReport) train.Loss {
	switch {
	case !classesOnly(s.w.spec):
		return train.MSE{}
	case r.Labelled:
		return byTeacher{&train.Distillation{Temperature: r.Soft, Weight: taught}}
	}
	return &train.Distillation{Temperature: r.Soft, Weight: 1}
}

// byTeacher is measured by the float model's answers alone: they say more of
// a few samples held out than their labels do.
type byTeacher struct{ *train.Distillation }

// Plain implements train.Loss.
func (t byTeacher) Plain() train.Loss {
	return &train.Distillation{Temperature: t.Temperature, Weight: 1}
}

// softness is a temperature at which the answers of a teacher say more than
// which class is the best: half of how far the scores of a sample lie about
// their mean (root mean square), and no less than 1. Scores of most networks
// want about 2, some, of inputs up to 255, hundreds.
func softness(scores []float32, width int) float64 {
	sum := 0.0
	for at := 0; at < len(scores); at += width {
		row, mean := scores[at:][:width], 0.0
		for _, v := range row {
			mean += float64(v) / float64(width)
		}
		for _, v := range row {
			d := float64(v) - mean
			sum += float64(d * d)
		}
	}
	return max(1, math.Sqrt(sum/float64(len(scores)))/2)
}

// lessons returns what is learned from, and what is held out: calibration
// samples in an order that the seed draws, with what the float model answers.
func (s *search) lessons(r *trainedReport) (data, held *train.Data, err error) {
	p, teacher, err := newTeacher(s.w.graph, classesOnly(s.w.spec))
	if err != nil {
		return nil, nil, passedOver("%w", err)
	}
	calib := s.w.calib
	n := min(len(calib.at), trainSamples/max(1, len(teacher.Input(0).Data)))
	if n < trainLeast {
		return nil, nil, passedOver("%d calibration samples of %d bytes: want %d at least, in %d MiB at most", len(calib.at), len(teacher.Input(0).Data), trainLeast, trainSamples>>20)
	}
	r.Batch = 32
	for r.Batch > 8 && n < 8*r.Batch {
		r.Batch /= 2
	}
	r.Held = max(1, n/8/r.Batch) * r.Batch
	work := int64(1) // a sample
	for _, step := range p.Steps() {
		work += step.MACs
	}
	if r.Samples, r.Epochs = n-r.Held, min(s.o.Epochs, int(trainWork/(float64(work)*float64(n)))); r.Epochs < 1 {
		return nil, nil, passedOver("an epoch of %d samples would take too long, at %d multiplications each", n, work)
	}
	all := &train.Data{Inputs: []train.Column{{Shape: teacher.Input(0).Shape[1:]}}}
	order := rand.New(rand.NewPCG(s.o.Seed, trainStream)).Perm(len(calib.at))[:n]
	b := s.start("asking the float model", n)
	defer b.done()
	for _, i := range order {
		if err := s.lesson(all, teacher, i); err != nil {
			return nil, nil, err
		}
		b.add(1)
	}
	if len(all.Teacher) > 0 {
		r.Soft = softness(all.Teacher, len(all.Teacher)/n)
	}
	r.Labelled = slices.ContainsFunc(all.Classes, func(c int32) bool { return c != train.Unlabelled })
	return all.Part(0, r.Samples), all.Part(r.Samples, n), nil
}

// lesson adds calibration sample i.
func (s *search) lesson(all *train.Data, teacher *engine.Session, i int) error {
	in, err := s.w.calib.next(i)
	if err != nil {
		return err
	}
	copy(teacher.Input(0).Data, in[0].Data)
	if err := teacher.Run(); err != nil {
		return err
	}
	answer := teacher.Output(0).F32()
	all.Inputs[0].Floats = append(all.Inputs[0].Floats, in[0].F32()...)
	if !classesOnly(s.w.spec) {
		all.Values = append(all.Values, answer...)
		return nil
	}
	class, err := s.w.calib.class(i)
	if err != nil {
		return err
	}
	if class != train.Unlabelled {
		class += s.offset
	}
	all.Teacher, all.Classes = append(all.Teacher, answer...), append(all.Classes, int32(class))
	return nil
}

// newTeacher compiles g so that its first output is, of a network of classes,
// what goes into the last Softmax.
func newTeacher(g *model.Graph, classes bool) (*engine.Program, *engine.Session, error) {
	if classes {
		g = g.Clone()
		made := g.Producers()
		for at := g.Outputs[0]; made[at] != nil && slices.Contains([]string{"Identity", "Softmax", "LogSoftmax"}, made[at].Op); {
			softmax := made[at].Op != "Identity"
			if at = made[at].In[0]; softmax {
				g.Outputs[0] = at
				break
			}
		}
	}
	p, run, err := session(g, nil, engine.Options{})
	if err == nil && (len(g.Inputs) != 1 || run.Output(0).Type != model.F32) {
		err = fmt.Errorf("%d inputs, and a first output of %v", len(g.Inputs), run.Output(0).Type)
	}
	return p, run, err
}
