package recipe

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
)

// The losses.
const (
	lossEntropy = "cross-entropy"
	lossMSE     = "mse"
)

// Bounds of a recipe, which may come from anywhere: far above what a training
// on one machine can use.
const (
	maxSide    = 4096
	maxLayers  = 1024
	maxWidth   = 1 << 16
	maxBatch   = 1 << 16
	maxEpochs  = 1 << 20
	maxSamples = 1 << 24
)

// fault is what is wrong with one field.
type fault struct {
	field string
	err   error
}

func badf(field, format string, a ...any) *fault { return &fault{field, fmt.Errorf(format, a...)} }

// check fails where a value means nothing, and names its line.
func (r *Recipe) check() error {
	for _, f := range []func() *fault{r.Data.check, r.Network.check, r.checkLearning, r.checkTrain, r.checkDistil, r.checkPrune, r.checkQuantise} {
		if x := f(); x != nil {
			return r.at(x)
		}
	}
	return nil
}

// at makes an *Error of a fault.
func (r *Recipe) at(x *fault) *Error {
	e := &Error{File: r.file, Field: x.field, Err: x.err}
	if x.field != "" {
		e.Line = fieldLine(r.text, x.field)
	}
	return e
}

func oneOf(field, value string, allowed ...string) *fault {
	if slices.Contains(allowed, value) {
		return nil
	}
	return badf(field, "%q: want one of %s", value, strings.Join(allowed, ", "))
}

// belowOne is the greatest share that leaves something over.
const belowOne = 1 - 1e-9

func between(field string, value, low, high float64) *fault {
	if value >= low && value <= high { // not a NaN
		return nil
	}
	return badf(field, "%v: want %v to %v", value, low, high)
}

func first(faults ...*fault) *fault {
	for _, f := range faults {
		if f != nil {
			return f
		}
	}
	return nil
}

func (d *Data) check() *fault {
	if d.Synthetic != nil {
		s := d.Synthetic
		if d.Train != "" || d.Test != "" || d.Mirror || d.Shift != 0 {
			return badf("data.synthetic", "synthetic data stand alone: leave train, test, mirror and shift out")
		}
		return first(
			between("data.synthetic.samples", float64(s.Samples), 4, maxSamples),
			between("data.synthetic.inputs", float64(s.Inputs), 1, maxWidth),
			between("data.synthetic.outputs", float64(s.Outputs), 1, maxWidth),
			between("data.synthetic.noise", s.Noise, 0, math.MaxFloat32))
	}
	if d.Train == "" {
		return badf("data.train", "say where the training data are, or describe data.synthetic")
	}
	if (d.Mean == nil) != (d.Std == nil) || len(d.Mean) != len(d.Std) {
		return badf("data.mean", "%d means and %d deviations: give both, one for each channel, or none to have them measured", len(d.Mean), len(d.Std))
	}
	for i, s := range d.Std {
		if !(s > 0) || math.IsInf(s, 0) || math.IsNaN(d.Mean[i]) || math.IsInf(d.Mean[i], 0) {
			return badf("data.std", "mean %v, deviation %v: want numbers, and a deviation above 0", d.Mean[i], s)
		}
	}
	for _, name := range d.Labels {
		if name == "" || strings.ContainsAny(name, "\r\n") {
			return badf("data.labels", "the label %q: want one line of text for each class", name)
		}
	}
	return first(
		between("data.hold_out", d.HoldOut, 0, 0.9),
		between("data.limit", float64(d.Limit), 0, maxSamples),
		between("data.width", float64(d.Width), 0, maxSide),
		between("data.height", float64(d.Height), 0, maxSide),
		between("data.shift", float64(d.Shift), 0, maxSide),
		oneOf("data.color", d.Color, "", "gray", "rgb", "bgr"),
		oneOf("data.fit", d.Fit, "stretch", "crop", "letterbox"))
}

func (n *Network) check() *fault {
	switch {
	case n.ONNX != "" && n.Layers != nil:
		return badf("network.onnx", "give layers or an onnx file, not both")
	case n.ONNX == "" && n.Layers == nil:
		return badf("network", "say what is trained: layers, or an onnx file to go on with")
	case len(n.Layers) > maxLayers:
		return badf("network.layers", "%d layers: want at most %d", len(n.Layers), maxLayers)
	case n.Classes != 0 && n.ONNX == "":
		return badf("network.classes", "it replaces the last layer of an onnx file: of layers, the last one says it")
	}
	for _, pattern := range n.Freeze {
		if _, err := path.Match(pattern, ""); err != nil {
			return badf("network.freeze", "%q: %v", pattern, err)
		}
	}
	for i, l := range n.Layers {
		if f := l.check(); f != nil {
			f.field = layerField(i) + "." + f.field
			return f
		}
	}
	return between("network.classes", float64(n.Classes), 0, maxWidth)
}

func (r *Recipe) checkLearning() *fault {
	o, s := &r.Optimiser, &r.Schedule
	f := first(
		oneOf("optimiser.kind", o.Kind, "sgd", "momentum", "adam", "adamw"),
		between("optimiser.rate", o.Rate, math.SmallestNonzeroFloat32, 1e6),
		between("optimiser.momentum", o.Momentum, 0, belowOne),
		between("optimiser.weight_decay", o.Decay, 0, 1e6),
		between("optimiser.beta1", o.Beta1, 0, belowOne),
		between("optimiser.beta2", o.Beta2, 0, belowOne),
		between("optimiser.epsilon", o.Epsilon, 0, 1),
		oneOf("schedule.kind", s.Kind, "constant", "step", "cosine", "linear"),
		between("schedule.warm_up", s.WarmUp, 0, float64(r.Train.Epochs)),
		between("schedule.last", s.Last, 0, o.Rate),
		between("schedule.every", s.Every, 0, maxEpochs),
		between("schedule.factor", s.Factor, 0, belowOne))
	adam := strings.HasPrefix(o.Kind, "adam")
	switch {
	case f != nil:
		return f
	case o.Kind != "momentum" && (o.Momentum != 0 || o.Nesterov):
		return badf("optimiser.kind", "momentum and nesterov belong to the kind momentum, this is %s", o.Kind)
	case !adam && (o.Beta1 != 0 || o.Beta2 != 0 || o.Epsilon != 0):
		return badf("optimiser.kind", "beta1, beta2 and epsilon belong to adam and adamw, this is %s", o.Kind)
	case s.Kind == "step" && s.Every == 0:
		return badf("schedule.every", "say after how many epochs each step comes")
	case s.Kind != "step" && (s.Every != 0 || s.Factor != 0):
		return badf("schedule.kind", "every and factor belong to the kind step, this is %s", s.Kind)
	case s.Last != 0 && s.Kind != "cosine" && s.Kind != "linear":
		return badf("schedule.last", "it belongs to the kinds cosine and linear, this is %s", s.Kind)
	}
	return nil
}

func (r *Recipe) checkTrain() *fault {
	t := &r.Train
	f := first(
		between("train.epochs", float64(t.Epochs), 1, maxEpochs),
		between("train.batch", float64(t.Batch), 1, maxBatch),
		between("train.early_stop", float64(t.EarlyStop), 0, maxEpochs),
		between("train.label_smoothing", t.Smoothing, 0, 0.99),
		oneOf("train.loss", t.Loss, lossEntropy, lossMSE))
	switch {
	case f != nil:
		return f
	case t.Smoothing != 0 && t.Loss != lossEntropy:
		return badf("train.label_smoothing", "it belongs to the loss cross-entropy, this is %s", t.Loss)
	case (r.Data.Synthetic != nil) != (t.Loss == lossMSE):
		return badf("train.loss", "%s: pictures with classes are learnt by cross-entropy, synthetic data by mse", t.Loss)
	}
	return nil
}

func (r *Recipe) checkDistil() *fault {
	d := r.Distil
	switch {
	case d == nil:
		return nil
	case d.Teacher == "":
		return badf("distil.teacher", "say which onnx file teaches")
	case r.Train.Loss != lossEntropy:
		return badf("distil", "a teacher of classes goes with the loss cross-entropy, this is %s", r.Train.Loss)
	}
	return first(
		between("distil.temperature", d.Temperature, 0.01, 1000),
		between("distil.weight", d.Weight, 0, 1))
}
