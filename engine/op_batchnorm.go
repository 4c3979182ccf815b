package engine

import (
	"fmt"
	"math"

	"dunlin/kernels"
	"dunlin/model"
)

// inferBatchNorm wants scale, bias, mean and variance, one a channel.
func inferBatchNorm(c *call) error {
	for i := range 5 {
		if err := c.want(i, model.F32); err != nil {
			return err
		}
	}
	s := c.shape(0)
	if len(s) < 2 {
		return fmt.Errorf("batch normalisation of %v", s)
	}
	channels := s[1]
	if isChannelsLast(c.node) {
		channels = s[len(s)-1]
	}
	for i := 1; i < 5; i++ {
		if !c.shape(i).Equal(model.Shape{channels}) {
			return fmt.Errorf("input %d is %v for %d channels", i, c.shape(i), channels)
		}
	}
	for _, v := range c.out[1:] { // the running mean and variance, in training mode
		v.Type, v.Shape = model.F32, model.Shape{channels}
	}
	return inferSame(c)
}

func lowerBatchNorm(c *call) (*kernel, error) {
	training := c.node.Int("training_mode", 0) != 0
	if len(c.out) > 1 && !training {
		return nil, notYet("the running mean and variance, without training_mode")
	}
	for i := 1; i < 5; i++ {
		if training || c.constant(i) == nil {
			return lowerBatchNormAny(c, training)
		}
	}
	scale, shift, err := batchNorm(c.node, c.constant)
	if err != nil {
		return nil, err
	}
	inner := 1
	if !isChannelsLast(c.node) {
		inner, _ = c.shape(0)[2:].Elements()
	}
	k := named("batchnorm-f32")
	k.weights = 8 * len(scale)
	k.bind = floats(func(out, in []float32, _ []byte) { kernels.ScaleShift(out, in, scale, shift, inner) })
	return k, nil
}

// batchNorm returns y = x*scale + shift for each channel of a
// BatchNormalization node: scale = gamma/sqrt(variance+epsilon), shift =
// beta - mean*scale, computed in float64 (Ioffe and Szegedy 2015,
// arXiv:1502.03167, algorithm 2). constant returns input i.
func batchNorm(n *model.Node, constant func(i int) *model.Tensor) (scale, shift []float32, err error) {
	var in [5][]float32
	for i := 1; i < 5; i++ {
		t := constant(i)
		if t == nil || t.Type != model.F32 {
			return nil, nil, notYet("the statistics must be float32 constants")
		}
		in[i] = t.F32()
	}
	if n.Int("training_mode", 0) != 0 {
		return nil, nil, notYet("training mode")
	}
	epsilon := float64(n.Float("epsilon", 1e-5))
	for i, gamma := range in[1] {
		s := float64(gamma) / math.Sqrt(float64(in[4][i])+epsilon)
		product := float64(in[3][i]) * s
		scale = append(scale, float32(s))
		shift = append(shift, float32(float64(in[2][i])-float64(product)))
	}
	return scale, shift, nil
}

// lowerBatchNormAny computes the factors in each run: from the statistics
// given or, in training mode, from those of the data.
func lowerBatchNormAny(c *call, training bool) (*kernel, error) {
	s, channels, inner := c.shape(0), c.shape(1)[0], 1
	if !isChannelsLast(c.node) {
		inner, _ = s[2:].Elements()
	}
	epsilon, momentum := float64(c.node.Float("epsilon", 1e-5)), float64(c.node.Float("momentum", 0.9))
	k := named("batchnorm-any-f32")
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		x, y := in[0].F32(), out[0].F32()
		gamma, beta, mean, variance := in[1].F32(), in[2].F32(), in[3].F32(), in[4].F32()
		scale, shift := make([]float32, channels), make([]float32, channels)
		return func() error {
			for i := range scale {
				m, v := float64(mean[i]), float64(variance[i])
				if training {
					m, v = kernels.Moments(x, channels, inner, i)
					for j, now := range [...]float64{m, v} {
						if 1+j < len(out) && out[1+j] != nil {
							out[1+j].F32()[i] = float32(float64(float64(in[3+j].F32()[i])*momentum) + float64(now*(1-momentum)))
						}
					}
				}
				f := float64(gamma[i]) / math.Sqrt(v+epsilon)
				scale[i], shift[i] = float32(f), float32(float64(beta[i])-float64(m*f))
			}
			kernels.ScaleShift(y, x, scale, shift, inner)
			return nil
		}
	}
	return k, nil
}
