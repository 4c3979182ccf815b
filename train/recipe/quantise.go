package recipe

import (
	"context"
	"slices"

	"dunlin/engine"
	"dunlin/model"
	"dunlin/model/samples"
	"dunlin/quant"
	"dunlin/train"
)

// Quantise has the network trained as its int8 form computes
// (train.NewQuantised), and int8 is what comes out. The network is that of an
// ONNX file, trained in float before: what is learnt here is how to round.
type Quantise struct {
	Samples int `toml:"samples"` // of the training data, which say what values there are [256]
}

// Int8 is what the engine makes of the int8 network that was trained.
type Int8 struct {
	Samples  int     `json:"samples"`
	Agree    float64 `json:"agree"`    // share with the class that the network in training gives, 0 to 1
	Accuracy float64 `json:"accuracy"` // share that is right
}

func (r *Recipe) checkQuantise() *fault {
	q := r.Quantise
	switch {
	case q == nil:
		return nil
	case r.Network.ONNX == "":
		return badf("quantise", "fresh weights have no range to quantise: train in float first, and give its file as network.onnx")
	case r.Train.Loss != lossEntropy:
		return badf("quantise", "it is for networks of classes, with the loss cross-entropy; this is %s", r.Train.Loss)
	}
	return between("quantise.samples", float64(q.Samples), 1, maxSamples)
}

// quantised returns g as its int8 form, ready to train.
func (r *Recipe) quantised(ctx context.Context, g *model.Graph, d *dataset) (*train.Quantised, error) {
	list := samples.Spread(r.Quantise.Samples, d.train.Len())
	next := func(i int) ([]*model.Tensor, error) {
		x := d.train.Sample(list[i])[0]
		return []*model.Tensor{model.Of(model.F32, x, d.one()...)}, ctx.Err()
	}
	ranges, err := quant.Calibrate(g, next, len(list), quant.Options{})
	if err != nil {
		return nil, err
	}
	small, _, err := quant.Apply(g, ranges, quant.Options{})
	if err != nil {
		return nil, err
	}
	float, err := quant.Prepare(g)
	if err != nil {
		return nil, err
	}
	return train.NewQuantised(float, small)
}

// one returns the shape of a batch of one sample.
func (d *dataset) one() model.Shape { return append(model.Shape{1}, d.train.Inputs[0].Shape...) }

// trained returns the network with the weights of now, in int8 where it was
// trained so.
func (t *training) trained() (*model.Graph, error) {
	if t.int8 == nil {
		return t.net.Graph(), nil
	}
	return t.int8.Int8(t.net.Graph())
}

// compare runs the engine's int8 program of g over the test data, beside the
// network that was trained.
func (t *training) compare(ctx context.Context, g *model.Graph) (*Int8, error) {
	p, err := engine.Compile(g, engine.Options{Shapes: map[string]model.Shape{g.Inputs[0]: t.data.one()}})
	if err != nil {
		return nil, err
	}
	net, err := t.net.Resize(1)
	if err != nil {
		return nil, err
	}
	session, agree, right := p.NewSession(), 0, 0
	for i := range t.data.test.Len() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		x := t.data.test.Sample(i)[0]
		copy(net.Input(0), x)
		net.Forward(false)
		copy(session.Input(0).F32(), x)
		if err := session.Run(); err != nil {
			return nil, err
		}
		class := greatest(session.Output(0).F32())
		if class == greatest(net.Output(0)) {
			agree++
		}
		if class == int(t.data.test.Classes[i]) {
			right++
		}
	}
	n := float64(t.data.test.Len())
	return &Int8{Samples: t.data.test.Len(), Agree: float64(agree) / n, Accuracy: float64(right) / n}, nil
}

// greatest returns the index of the greatest of scores, the first of equals.
func greatest(scores []float32) int { return slices.Index(scores, slices.Max(scores)) }
