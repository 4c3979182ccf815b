package train

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"dunlin/internal/durable"
)

// FitOptions say how Fit trains.
type FitOptions struct {
	Epochs    int // how often each sample is seen
	Loss      Loss
	Optimiser OptimiserOptions
	Schedule  Schedule
	Seed      uint64 // of the order of samples and of Augment; what Dropout drops has Options.Seed
	Augment   []Augment
	Teacher   Teacher // what Distillation learns from; nil: Data.Teacher

	// WholeBatches leaves out, in each epoch, the samples that do not fill a
	// batch, others each time. Otherwise they are a smaller batch, whose
	// few samples weigh as much as a whole one.
	WholeBatches bool

	Test *Data // held out: measured after each epoch; nil: nothing is
	// Patience ends the training when the loss on Test has not fallen for so
	// many epochs, and gives the net the weights of the best one; 0: never.
	// Test then decides what comes out, so that its own figures flatter.
	Patience int

	Progress func(Progress) // called after each batch and after each test; nil: nobody looks

	Checkpoint      string // file to go on from when the training is interrupted, in a folder that exists; "": none
	CheckpointEvery int    // steps between two checkpoints; 0: one at the end of each epoch
	Resume          bool   // go on from Checkpoint, where it is there
	Recipe          string // whatever else the training depends on; a checkpoint of another is refused
}

// Teacher writes what a larger net gives for n samples.
//
//	inputs  [n, ...] each, as they go into the net that learns
//	logits  [n, width], width that of the learning net's output
type Teacher func(n int, inputs [][]float32, logits []float32) error

// Progress is how far a training is. In a test Step counts the test's batches.
type Progress struct {
	Epoch, Epochs int // the epoch at work, counted from 1
	Step, Steps   int // done of this epoch
	Testing       bool
	Loss          float64 // mean over this epoch so far, or over the test
	Rate          float64
	Done          *Epoch  // the epoch is over, and this is its record; nil: it is not
	Record        []Epoch // with Done: of all epochs so far, those before an interruption too
}

// Epoch is the record of one epoch.
type Epoch struct {
	Epoch        int      `json:"epoch"`                   // counted from 1
	TrainLoss    float64  `json:"train_loss"`              // mean over the samples as they went by, each before its step
	TestLoss     *float64 `json:"test_loss,omitempty"`     // Loss.Plain on FitOptions.Test; nil: not measured
	TestAccuracy *float64 `json:"test_accuracy,omitempty"` // share of right classes, 0 to 1; nil: not measured, or there are no classes
	Rate         float64  `json:"rate"`                    // of the last step
	Seconds      float64  `json:"seconds"`                 // with the test, without pauses
}

// Result is what Fit did.
type Result struct {
	Record  []Epoch
	Steps   int  // of the optimiser
	Stopped bool // before its epochs were over, for want of progress on Test
	Best    int  // the epoch, counted from 1, whose weights the net has
}

// Fit trains n on data. It fails where the options, the data and the net do
// not fit each other, before the first step; where the loss is no longer a
// number; where a checkpoint cannot be read or written; and with ctx's error
// when ctx ends, after it wrote a checkpoint. n then has the weights of the
// last step.
//
// The order of samples is drawn anew for each epoch from Seed and the epoch's
// number, what Augment does from Seed and the step's number: that is all the
// randomness there is but Dropout's.
func Fit(ctx context.Context, n *Net, data *Data, o FitOptions) (*Result, error) {
	f, err := newFit(n, data, o)
	if err != nil {
		return nil, err
	}
	if o.Resume && o.Checkpoint != "" {
		if err := f.resume(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	err = f.run(ctx)
	return f.result(), err
}

// fit is a training at work.
type fit struct {
	o         FitOptions
	net       *Net
	sizes     map[int]*Net // by size of batch
	data      *Data
	optimiser *Optimiser
	train     *batcher
	test      *batcher // nil: no test
	order     []int
	perEpoch  int
	settings  []setting
	state     fitState
	best      [][]float32 // weights of the best epoch: parameters, then statistics
}

// fitState is where a training is: what a checkpoint says beside the weights
// and the optimiser's moments.
type fitState struct {
	Epoch     int     `json:"epoch"`    // whole ones done
	Step      int     `json:"step"`     // done of the next one
	LossSum   float64 `json:"loss_sum"` // over its samples
	Samples   int     `json:"samples"`
	Seconds   float64 `json:"seconds"`  // that it took
	Forwards  uint64  `json:"forwards"` // of Net.Forwards
	Record    []Epoch `json:"record"`
	Stopped   bool    `json:"stopped"`
	BestEpoch int     `json:"best_epoch"` // counted from 1, 0: none yet
	BestLoss  float64 `json:"best_loss"`
}

func newFit(n *Net, data *Data, o FitOptions) (*fit, error) {
	f := &fit{o: o, net: n, data: data, sizes: map[int]*Net{n.Batch(): n}}
	if err := f.check(); err != nil {
		return nil, err
	}
	var err error
	if f.optimiser, err = NewOptimiser(o.Optimiser, n.Parameters()); err != nil {
		return nil, err
	}
	f.perEpoch = data.Len() / n.Batch()
	if rest := data.Len() % n.Batch(); rest > 0 && !o.WholeBatches {
		f.perEpoch++
	}
	if f.perEpoch == 0 {
		return nil, fmt.Errorf("train: %d samples do not fill a batch of %d: use a smaller batch", data.Len(), n.Batch())
	}
	f.train = newBatcher(data, n.Batch(), f.width(), o.Augment, teacherOf(o, o.Loss))
	if o.Test != nil {
		f.test = newBatcher(o.Test, n.Batch(), f.width(), nil, teacherOf(o, o.Loss.Plain()))
	}
	f.order = make([]int, data.Len())
	if o.Checkpoint != "" {
		if err := durable.DropTemps(durable.OS, o.Checkpoint); err != nil {
			return nil, fmt.Errorf("checkpoint: %w", err)
		}
		f.settings = f.describe()
	}
	return f, nil
}

// teacherOf returns the teacher where the loss listens to it.
func teacherOf(o FitOptions, l Loss) Teacher {
	if l.Taught() {
		return o.Teacher
	}
	return nil
}

// width returns how many values output 0 has for one sample.
func (f *fit) width() int { return len(f.net.Output(0)) / f.net.Batch() }

// check fails where options, data and net do not fit each other.
func (f *fit) check() error {
	o, n := f.o, f.net
	switch {
	case o.Epochs < 1:
		return fmt.Errorf("train: %d epochs: want 1 or more", o.Epochs)
	case o.Loss == nil:
		return errors.New("train: no loss: give FitOptions.Loss")
	case o.Patience < 0 || o.CheckpointEvery < 0:
		return fmt.Errorf("train: patience %d, checkpoint every %d steps: want 0 or more", o.Patience, o.CheckpointEvery)
	case o.Patience > 0 && o.Test == nil:
		return errors.New("train: patience is measured on held-out data: give FitOptions.Test")
	case o.Loss.Logits() && n.givesProbabilities():
		return fmt.Errorf("train: loss %v wants logits, and output %s is a softmax: make the net with Options.Logits", o.Loss, n.graph.Outputs[0])
	}
	if err := o.Schedule.Check(o.Epochs); err != nil {
		return err
	}
	for _, d := range []struct {
		name string
		data *Data
		loss Loss
	}{{"training", f.data, o.Loss}, {"test", o.Test, o.Loss.Plain()}} {
		if d.data == nil {
			continue
		}
		if err := fits(n, d.data, d.loss, o.Teacher != nil); err != nil {
			return fmt.Errorf("%s data: %w", d.name, err)
		}
	}
	shape := f.data.Inputs[0].Shape
	if len(o.Augment) > 0 && len(shape) != 3 {
		return fmt.Errorf("train: augmentation is for pictures [C, H, W], a sample has shape %v", shape)
	}
	return nil
}

// givesProbabilities reports whether output 0 is what a Softmax makes.
func (n *Net) givesProbabilities() bool {
	made := n.graph.Producers()[n.graph.Outputs[0]]
	return made != nil && made.Op == "Softmax" && !n.options.Logits
}

// fits fails where data does not fit a net's inputs or lacks what the loss
// reads.
func fits(n *Net, d *Data, l Loss, taught bool) error {
	if err := d.Check(); err != nil {
		return err
	}
	if len(d.Inputs) != n.Inputs() {
		return fmt.Errorf("%d inputs, the net has %d", len(d.Inputs), n.Inputs())
	}
	for i := range d.Inputs {
		if want, have := len(n.Input(i))/n.Batch(), d.Inputs[i].size(); want != have {
			return fmt.Errorf("input %d: a sample has shape %v, the net takes %v", i, d.Inputs[i].Shape, n.InputShape(i)[1:])
		}
	}
	return l.Check(d, len(n.Output(0))/n.Batch(), taught)
}

// sized returns the net for batches of so many samples.
func (f *fit) sized(batch int) (*Net, error) {
	if n := f.sizes[batch]; n != nil {
		return n, nil
	}
	n, err := f.net.Resize(batch)
	if err != nil {
		return nil, fmt.Errorf("train: a batch of %d: %w", batch, err)
	}
	f.sizes[batch] = n
	return n, nil
}

func (f *fit) run(ctx context.Context) error {
	for f.state.Epoch < f.o.Epochs && !f.state.Stopped {
		if err := f.epoch(ctx); err != nil {
			return err
		}
	}
	if f.o.Patience > 0 {
		for i, w := range f.weights() {
			copy(w, f.best[i])
		}
	}
	return nil
}

// epoch goes on with the epoch at work, to its end.
func (f *fit) epoch(ctx context.Context) error {
	s, start := &f.state, time.Now()
	r := drawing(f.o.Seed, drawOrder, s.Epoch)
	for i := range f.order {
		f.order[i] = i
	}
	r.Shuffle(len(f.order), func(i, j int) { f.order[i], f.order[j] = f.order[j], f.order[i] })
	before := s.Seconds
	for s.Step < f.perEpoch {
		if ctx.Err() != nil {
			return f.interrupted(ctx)
		}
		rate, err := f.step()
		if err != nil {
			return err
		}
		s.Seconds = before + time.Since(start).Seconds()
		f.tell(Progress{Epoch: s.Epoch + 1, Step: s.Step, Steps: f.perEpoch, Loss: s.LossSum / float64(s.Samples), Rate: rate})
		if f.o.CheckpointEvery > 0 && f.steps()%f.o.CheckpointEvery == 0 && s.Step < f.perEpoch {
			if err := f.save(); err != nil {
				return err
			}
		}
	}
	record := Epoch{Epoch: s.Epoch + 1, TrainLoss: s.LossSum / float64(s.Samples), Rate: f.o.Schedule.At(f.steps()-1, f.perEpoch, f.o.Epochs)}
	if err := f.measure(ctx, &record); err != nil {
		if ctx.Err() != nil { // the test is done again
			return f.interrupted(ctx)
		}
		return err
	}
	record.Seconds = before + time.Since(start).Seconds()
	f.finish(record)
	f.tell(Progress{Epoch: record.Epoch, Step: f.perEpoch, Steps: f.perEpoch, Loss: record.TrainLoss, Rate: record.Rate, Done: &record, Record: f.state.Record})
	return f.save()
}

// steps returns how many steps were made.
func (f *fit) steps() int { return f.state.Epoch*f.perEpoch + f.state.Step }

// step makes one step, and returns its learning rate.
func (f *fit) step() (rate float64, err error) {
	s := &f.state
	from := s.Step * f.net.Batch()
	index := f.order[from:min(from+f.net.Batch(), len(f.order))]
	n, err := f.sized(len(index))
	if err != nil {
		return 0, err
	}
	at := f.steps()
	targets, err := f.train.fill(n, index, drawing(f.o.Seed, drawAugment, at))
	if err != nil {
		return 0, err
	}
	rate = f.o.Schedule.At(at, f.perEpoch, f.o.Epochs)
	n.Forward(true)
	for i := 1; i < n.Outputs(); i++ { // only the first has a loss
		clear(n.OutputGradient(i))
	}
	loss := f.o.Loss.Of(len(index), n.Output(0), targets, n.OutputGradient(0))
	if math.IsNaN(loss) || math.IsInf(loss, 0) {
		return 0, fmt.Errorf("train: epoch %d, step %d: the loss is %v at a rate of %v: use a lower rate or a warm-up, and check the scale of the inputs",
			s.Epoch+1, s.Step+1, loss, rate)
	}
	n.Backward()
	f.optimiser.Step(rate)
	s.Step++
	s.LossSum += float64(loss * float64(len(index)))
	s.Samples += len(index)
	return rate, nil
}

// measure puts into the record what held-out data says.
func (f *fit) measure(ctx context.Context, record *Epoch) error {
	if f.test == nil {
		return nil
	}
	m, err := f.evaluate(ctx, f.test, f.o.Loss.Plain(), func(step, steps int, loss float64) {
		f.tell(Progress{Epoch: record.Epoch, Step: step, Steps: steps, Testing: true, Loss: loss, Rate: record.Rate})
	})
	if err != nil {
		return err
	}
	if math.IsNaN(m.Loss) || math.IsInf(m.Loss, 0) {
		return fmt.Errorf("train: epoch %d: the loss on held-out data is %v at a rate of %v: use a lower rate or a warm-up", record.Epoch, m.Loss, record.Rate)
	}
	record.TestLoss = &m.Loss
	if f.o.Test.Classes != nil {
		record.TestAccuracy = &m.Accuracy
	}
	return nil
}

// finish begins the next epoch, and keeps the weights where they are the best
// yet.
func (f *fit) finish(record Epoch) {
	s := &f.state
	s.Record = append(s.Record, record)
	s.Epoch++
	s.Step, s.Samples, s.LossSum, s.Seconds = 0, 0, 0, 0
	if f.o.Patience == 0 {
		return
	}
	if s.BestEpoch == 0 || *record.TestLoss < s.BestLoss {
		s.BestEpoch, s.BestLoss = record.Epoch, *record.TestLoss
		f.best = f.best[:0]
		for _, w := range f.weights() {
			f.best = append(f.best, slices.Clone(w))
		}
	}
	s.Stopped = s.Epoch-s.BestEpoch >= f.o.Patience
}

// weights returns all that the net has learned: parameters, then statistics.
func (f *fit) weights() [][]float32 {
	var all [][]float32
	for _, list := range [][]*Parameter{f.net.Parameters(), f.net.Statistics()} {
		for _, p := range list {
			all = append(all, p.Value)
		}
	}
	return all
}

// interrupted writes a checkpoint and says where the training is.
func (f *fit) interrupted(ctx context.Context) error {
	err := fmt.Errorf("training interrupted in epoch %d of %d, after step %d of %d: %w", f.state.Epoch+1, f.o.Epochs, f.state.Step, f.perEpoch, ctx.Err())
	return errors.Join(err, f.save())
}

// tell reports progress.
func (f *fit) tell(p Progress) {
	if f.o.Progress != nil {
		p.Epochs = f.o.Epochs
		f.o.Progress(p)
	}
}

func (f *fit) result() *Result {
	r := &Result{Record: f.state.Record, Steps: f.steps(), Stopped: f.state.Stopped, Best: f.state.Epoch}
	if f.o.Patience > 0 {
		r.Best = f.state.BestEpoch
	}
	return r
}

// What drawing draws.
const (
	drawOrder = iota + 1
	drawAugment
)

// drawing returns the source of randomness of what a seed and a number stand
// for. PCG's two words are mixed, so that neighbours have nothing in common.
func drawing(seed uint64, what, number int) *rand.Rand {
	return rand.New(rand.NewPCG(mix(seed+mix(uint64(what))), mix(uint64(number))))
}

// mix is the finaliser of SplitMix64 (Steele, Lea & Flood 2014, "Fast
// splittable pseudorandom number generators").
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
