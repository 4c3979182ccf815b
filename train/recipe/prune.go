package recipe

import (
	"context"

	"dunlin/model"
	"dunlin/model/samples"
	"dunlin/quant"
	"dunlin/train"
)

// Prune makes the network of an ONNX file smaller before it is trained: the
// channels go that matter least for what the next layers compute. With the
// file itself as the teacher of Distil, a short training gives back most of
// what they took.
//
//	[network]
//	onnx = "model.onnx"
//
//	[prune]
//	keep = 0.7
//
//	[distil]
//	teacher = "model.onnx"
type Prune struct {
	Keep     float64 `toml:"keep"`     // share of the channels that stays, above 0 and below 1
	Multiple int     `toml:"multiple"` // layers keep a multiple of so many channels, where they had as many [4]
}

// pruneSamples is how many training samples show what a channel is worth.
const pruneSamples = 256

func (r *Recipe) checkPrune() *fault {
	p := r.Prune
	switch {
	case p == nil:
		return nil
	case r.Network.ONNX == "":
		return badf("prune", "it makes the network of network.onnx smaller: give fewer channels to layers")
	case len(r.Network.Freeze) > 0:
		return badf("prune", "weights that lose channels do not stay as they are: leave network.freeze out")
	case !(p.Keep > 0 && p.Keep < 1):
		return badf("prune.keep", "%v: want more than 0 and less than 1", p.Keep)
	}
	return between("prune.multiple", float64(p.Multiple), 1, 1024)
}

// pruned cuts channels of g as the recipe says, by what data show.
func (r *Recipe) pruned(ctx context.Context, g *model.Graph, data *train.Data) (*model.Graph, error) {
	if r.Prune == nil {
		return g, nil
	}
	list := samples.Spread(pruneSamples, data.Len())
	next := func(i int) ([]*model.Tensor, error) {
		shape := append(model.Shape{1}, data.Inputs[0].Shape...)
		return []*model.Tensor{model.Of(model.F32, data.Sample(list[i])[0], shape...)}, ctx.Err()
	}
	ranges, err := quant.Calibrate(g, next, len(list), quant.Options{})
	if err == nil {
		g, _, err = quant.PruneChannels(g, ranges, quant.PruneOptions{Share: 1 - r.Prune.Keep, Multiple: r.Prune.Multiple})
	}
	if err != nil {
		return nil, r.at(&fault{"prune", err})
	}
	return g, nil
}
