package recipe

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"dunlin/internal/durable"
	"dunlin/model"
	"dunlin/model/onnx"
	"dunlin/train"
)

// The files that Run writes.
const (
	ModelFile      = "model.onnx"
	PrepFile       = "prep.toml"
	LabelsFile     = "labels.txt"
	CurvesFile     = "loss.svg"
	ReportFile     = "training.json"
	CheckpointFile = "checkpoint"
)

// RunOptions say where a training writes, and who looks on.
type RunOptions struct {
	Dir     string                 // made where it is not there
	Anew    bool                   // begin anew where a checkpoint is there
	Loading func(done, total int)  // called as samples are read; nil: nobody looks
	Started func(Start)            // called before the first step; nil: nobody looks
	Fitting func(p train.Progress) // called after each batch; nil: nobody looks
}

// Start is what is known before the first step.
type Start struct {
	Parameters int  // that are trained
	Train      int  // samples to learn from
	Test       int  // samples to measure with
	Resumed    bool // it goes on from a checkpoint
}

// Report is what a training did. It is written to ReportFile.
type Report struct {
	Name       string        `json:"name"`
	Model      string        `json:"model"`
	SHA256     string        `json:"sha256"` // of the model
	Parameters int           `json:"parameters"`
	Train      int           `json:"train_samples"`
	Test       int           `json:"test_samples"`
	Seed       uint64        `json:"seed"`
	Stopped    bool          `json:"stopped,omitempty"` // before its epochs were over
	Best       int           `json:"best"`              // the epoch whose weights the model has
	Epochs     []train.Epoch `json:"epochs"`
	Classes    []Class       `json:"classes,omitempty"`
	Int8       *Int8         `json:"int8,omitempty"` // of a quantised network with test samples
}

// Class is how well one class is told.
type Class struct {
	Name     string  `json:"name"`
	Samples  int     `json:"samples"`
	Accuracy float64 `json:"accuracy"` // share that is right, 0 to 1
}

// Last returns the record of the epoch whose weights the model has.
func (r *Report) Last() train.Epoch { return r.Epochs[r.Best-1] }

// Run trains, and writes to o.Dir the model, how a picture becomes its input,
// the labels, a picture of the losses and a report. A training that ctx ends
// leaves a checkpoint there, from which the next Run with the same recipe goes
// on, to the same bits; it is removed at the end.
//
// It fails with an *Error where recipe and data do not fit each other, and as
// train.Fit does.
func (r *Recipe) Run(ctx context.Context, o RunOptions) (*Report, error) {
	t, err := r.prepare(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o777); err != nil {
		return nil, err
	}
	checkpoint := filepath.Join(o.Dir, CheckpointFile)
	if o.Anew {
		if err := os.Remove(checkpoint); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	fit, err := r.fitOptions(t, checkpoint)
	if err != nil {
		return nil, err
	}
	var drawing error // of a picture that could not be written
	fit.Progress = func(p train.Progress) {
		if p.Done != nil {
			drawing = errors.Join(drawing, writeCurves(o.Dir, r.Network.Name, p.Record))
		}
		if o.Fitting != nil {
			o.Fitting(p)
		}
	}
	if o.Started != nil {
		_, err := os.Stat(checkpoint)
		o.Started(Start{parameters(t.net), t.data.train.Len(), t.testing(), err == nil})
	}
	result, err := train.Fit(ctx, t.net, t.data.train, fit)
	if err == nil {
		err = drawing
	}
	if err != nil {
		return nil, err
	}
	report, err := t.finish(ctx, o.Dir, result)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(checkpoint); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return report, nil
}

// training is a recipe with its data and its net.
type training struct {
	*Recipe
	data *dataset
	net  *train.Net
	int8 *train.Quantised // what net trains, nil where it is a float network
}

// testing returns how many samples there are to measure with.
func (t *training) testing() int {
	if t.data.test == nil {
		return 0
	}
	return t.data.test.Len()
}

// prepare loads the data and makes the net.
func (r *Recipe) prepare(ctx context.Context, o RunOptions) (*training, error) {
	var shape Shape // that an ONNX file wants
	if r.Network.ONNX != "" {
		g, err := importFile(r.Network.ONNX)
		if err == nil {
			shape, err = fileInput(g)
		}
		if err != nil {
			return nil, r.at(&fault{"network.onnx", err})
		}
	}
	loading := o.Loading
	if loading == nil {
		loading = func(int, int) {}
	}
	data, err := r.load(ctx, shape, loading)
	if err != nil {
		return nil, err
	}
	g, err := r.Graph(data.shape)
	if err != nil {
		return nil, err
	}
	if g, err = r.pruned(ctx, g, data.train); err != nil {
		return nil, err
	}
	data.input.Name = g.Inputs[0]
	t := &training{Recipe: r, data: data}
	if r.Quantise != nil {
		if t.int8, err = r.quantised(ctx, g, data); err != nil {
			return nil, r.at(&fault{"quantise", err})
		}
		g = t.int8.Graph()
	}
	net, err := r.newNet(g, min(r.Train.Batch, data.train.Len()), r.Frozen)
	if err != nil {
		return nil, r.at(&fault{"network", err})
	}
	if len(net.Parameters()) == 0 {
		return nil, r.at(badf("network.freeze", "nothing is left to train"))
	}
	if width := len(net.Output(0)) / net.Batch(); len(r.Data.Labels) > 0 && len(r.Data.Labels) != width {
		return nil, r.at(badf("data.labels", "%d labels, the network has %d outputs", len(r.Data.Labels), width))
	}
	t.net = net
	return t, nil
}

// newNet lays g out for batches of that size.
func (r *Recipe) newNet(g *model.Graph, batch int, freeze func(string) bool) (*train.Net, error) {
	return train.NewNet(g, train.Options{Batch: batch, Freeze: freeze, Logits: r.Train.Loss == lossEntropy, Seed: r.Train.Seed})
}

func parameters(n *train.Net) int {
	sum := 0
	for _, p := range n.Parameters() {
		sum += len(p.Value)
	}
	return sum
}

// fitOptions says to train what the recipe says.
func (r *Recipe) fitOptions(t *training, checkpoint string) (train.FitOptions, error) {
	text, err := json.Marshal(r.identity())
	if err != nil {
		return train.FitOptions{}, err
	}
	sum := sha256.Sum256(text)
	p, s := &r.Optimiser, &r.Schedule
	o := train.FitOptions{
		Epochs: r.Train.Epochs,
		Optimiser: train.OptimiserOptions{
			Method: train.Method(p.Kind), Decay: p.Decay, Momentum: p.Momentum, Nesterov: p.Nesterov, Beta1: p.Beta1, Beta2: p.Beta2, Epsilon: p.Epsilon,
		},
		Schedule: train.Schedule{
			Shape: train.ScheduleShape(s.Kind), Rate: p.Rate, Warmup: s.WarmUp, Last: s.Last, Every: s.Every, Factor: s.Factor,
		},
		Seed: r.Train.Seed, Patience: r.Train.EarlyStop, Test: t.data.test, WholeBatches: true,
		Checkpoint: checkpoint, Resume: true, Recipe: fmt.Sprintf("%x", sum[:8]),
	}
	if r.Data.Mirror || r.Data.Shift > 0 {
		o.Augment = []train.Augment{train.MirrorShift(r.Data.Mirror, r.Data.Shift)}
	}
	if o.Patience > 0 && o.Test == nil {
		return o, r.at(badf("train.early_stop", "there are no test data to stop by: give data.test or data.hold_out"))
	}
	switch {
	case r.Train.Loss == lossMSE:
		o.Loss = train.MSE{}
	case r.Distil != nil && r.Distil.Weight > 0:
		o.Loss = &train.Distillation{Temperature: r.Distil.Temperature, Weight: r.Distil.Weight, Smoothing: r.Train.Smoothing}
		o.Teacher, err = r.teacher(t)
	default:
		o.Loss = &train.CrossEntropy{Smoothing: r.Train.Smoothing}
	}
	return o, err
}

// identity is what a checkpoint must have been made of beside what Fit knows
// itself: the network, what is done to pictures, the teacher, and what is cut; of
// files, what is in them.
func (r *Recipe) identity() any {
	id := struct {
		Network  Network
		Data     Data
		Distil   Distil
		Prune    *Prune    `json:",omitempty"`
		Quantise *Quantise `json:",omitempty"`
	}{r.Network, Data{Mirror: r.Data.Mirror, Shift: r.Data.Shift}, Distil{}, r.Prune, r.Quantise}
	id.Network.ONNX = fileSum(r.Network.ONNX)
	if r.Distil != nil {
		id.Distil = *r.Distil
		id.Distil.Teacher = fileSum(r.Distil.Teacher)
	}
	return id
}

// fileSum returns the SHA-256 of a file, "" of one that cannot be read, which
// whoever needs it says.
func fileSum(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%x", sha256.Sum256(data))
}

// teacher reads the network that teaches.
func (r *Recipe) teacher(t *training) (train.Teacher, error) {
	wrong := func(err error) error { return r.at(&fault{"distil.teacher", err}) }
	g, err := importFile(r.Distil.Teacher)
	if err != nil {
		return nil, wrong(err)
	}
	n, err := r.newNet(g, t.net.Batch(), func(string) bool { return true })
	if err != nil {
		return nil, wrong(err)
	}
	if len(n.Output(0)) != len(t.net.Output(0)) || len(n.Input(0)) != len(t.net.Input(0)) {
		return nil, wrong(fmt.Errorf("%s takes %v and gives %v, the student takes %v and gives %v",
			r.Distil.Teacher, n.InputShape(0), n.OutputShape(0), t.net.InputShape(0), t.net.OutputShape(0)))
	}
	return train.TeacherOf(n), nil
}

// finish writes what came out.
func (t *training) finish(ctx context.Context, dir string, result *train.Result) (*Report, error) {
	r := &Report{
		Name: t.Network.Name, Model: filepath.Join(dir, ModelFile), Parameters: parameters(t.net), Train: t.data.train.Len(), Test: t.testing(),
		Seed: t.Train.Seed, Stopped: result.Stopped, Best: result.Best, Epochs: result.Record,
	}
	var file bytes.Buffer
	g, err := t.trained()
	if err != nil {
		return nil, err
	}
	if t.int8 != nil && t.data.test != nil {
		if r.Int8, err = t.compare(ctx, g); err != nil {
			return nil, err
		}
	}
	if err := onnx.Export(&file, g); err != nil {
		return nil, err
	}
	r.SHA256 = fmt.Sprintf("%x", sha256.Sum256(file.Bytes()))
	width := len(t.net.Output(0)) / t.net.Batch()
	if t.data.test != nil && t.data.test.Classes != nil {
		var err error
		if r.Classes, err = t.byClass(ctx, t.labels(width)); err != nil {
			return nil, err
		}
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{ModelFile: file.Bytes(), PrepFile: t.prepFile(g), ReportFile: append(text, '\n')}
	if t.Train.Loss == lossEntropy {
		files[LabelsFile] = labelsFile(t.labels(width))
	}
	for name, data := range files {
		if err := durable.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			return nil, err
		}
	}
	return r, writeCurves(dir, t.Network.Name, result.Record)
}

// byClass measures each class by itself.
func (t *training) byClass(ctx context.Context, names []string) ([]Class, error) {
	test, list := t.data.test, make([]Class, len(names))
	size := len(test.Inputs[0].Bytes) / test.Len()
	for class, name := range names {
		part := &train.Data{Inputs: []train.Column{test.Inputs[0]}}
		in := &part.Inputs[0]
		in.Bytes = nil
		for i, c := range test.Classes {
			if int(c) == class {
				in.Bytes = append(in.Bytes, test.Inputs[0].Bytes[i*size:][:size]...)
				part.Classes = append(part.Classes, c)
			}
		}
		list[class] = Class{Name: name, Samples: len(part.Classes)}
		if len(part.Classes) == 0 {
			continue
		}
		m, err := train.Evaluate(ctx, t.net, part, &train.CrossEntropy{})
		if err != nil {
			return nil, err
		}
		list[class].Accuracy = m.Accuracy
	}
	return list, nil
}
