package recipe

import (
	"context"
	"slices"

	"dunlin/model"
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
	next := func(i int) ([]*model.Tensor, error) { return []*model.Tensor{sampleOf(&data.Inputs[0], i)}, ctx.Err() }
	ranges, err := quant.Calibrate(g, next, min(pruneSamples, data.Len()), quant.Options{})
	if err == nil {
		g, _, err = quant.PruneChannels(g, ranges, quant.PruneOptions{Share: 1 - r.Prune.Keep, Multiple: r.Prune.Multiple})
	}
	if err != nil {
		return nil, r.at(&fault{"prune", err})
	}
	return g, nil
}

// sampleOf returns the i-th sample of a column as the input of a graph.
func sampleOf(c *train.Column, i int) *model.Tensor {
	size := 1
	for _, d := range c.Shape {
		size *= d
	}
	v := make([]float32, size)
	if c.Floats != nil {
		copy(v, c.Floats[i*size:])
	} else {
		of := func(list []float64, channel int, or float64) float64 {
			switch len(list) {
			case 0:
				return or
			case 1:
				return list[0]
			}
			return list[channel]
		}
		for j := range v {
			channel := j / (size / c.Shape[0])
			v[j] = float32((float64(float64(c.Bytes[i*size+j])*c.Scale) - of(c.Mean, channel, 0)) / of(c.Std, channel, 1))
		}
	}
	return model.Of(model.F32, v, slices.Insert(slices.Clone([]int(c.Shape)), 0, 1)...)
}
