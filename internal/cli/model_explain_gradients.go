package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	why "dunlin/explain"
	"dunlin/model"
	"dunlin/train"
)

// gradientBatch is how many steps of the integral are computed at once, and
// gradientMost how many there are at most: where so many do not sum up, the
// kinks of the network lie closer than is worth following.
const (
	gradientBatch = 16
	gradientMost  = 512
)

// gradients makes the map of integrated gradients, of the model itself or, where
// it is int8, of --float. The baseline is the picture's mean colour.
func (x *explainer) gradients(ctx context.Context, input []float32, class int, score float32) (*why.Map, error) {
	if x.net == nil {
		net, err := x.newNet()
		if err != nil {
			return nil, err
		}
		x.net = net
	}
	g, err := netGradient(x.net, class)
	if err != nil {
		return nil, err
	}
	a, err := why.IntegratedGradients(ctx, g, input, x.network.MeanPicture(input), why.IntegratedOptions{Batch: gradientBatch, MaxSteps: x.steps})
	if err != nil {
		return nil, err
	}
	return x.network.GradientMap(a, class, score)
}

// newNet lays out the network in float, for its gradients by the input alone.
func (x *explainer) newNet() (*train.Net, error) {
	m := x.loaded
	if x.float != nil {
		m = x.float
	}
	if computesIntegers(m.graph) {
		return nil, withHint(fmt.Errorf("%s has no gradients: it computes with integers", m.path), "say --float ORIGINAL, or --method occlusion")
	}
	net, err := train.NewNet(m.graph, train.Options{
		Batch: gradientBatch, Logits: true, InputGradients: true, Freeze: func(string) bool { return true },
	})
	if err != nil {
		return nil, fmt.Errorf("gradients of %s: %w", m.path, err)
	}
	return net, nil
}

func computesIntegers(g *model.Graph) bool {
	return slices.ContainsFunc(g.Nodes, func(n *model.Node) bool { return n.Op == "QuantizeLinear" })
}

// netGradient is the derivative of the logit of a class, by a net with one input
// and one output.
func netGradient(net *train.Net, class int) (why.Gradient, error) {
	classes := len(net.Output(0)) / net.Batch()
	if class >= classes {
		return nil, fmt.Errorf("class %d: the network in float has %d", class, classes)
	}
	return func(inputs, scores, gradient []float32) error {
		if len(inputs) != len(net.Input(0)) {
			return errors.New("the network in float has an input of another size")
		}
		copy(net.Input(0), inputs)
		net.Forward(false)
		to := net.OutputGradient(0)
		clear(to)
		for b := range scores {
			scores[b] = net.Output(0)[b*classes+class]
			to[b*classes+class] = 1
		}
		net.Backward()
		copy(gradient, net.InputGradient(0))
		return nil
	}, nil
}
