package train

import (
	"fmt"
	"math"

	"dunlin/model"
)

// layerNorm normalises rows of what lies from an axis on, and scales and
// shifts each place (Ba et al. 2016, arXiv:1607.06450):
//
//	x̂  = (x - mean)/√(var+ε)            of the row
//	y  = scale*x̂ + bias
//	dx = (g - mean(g) - x̂*mean(g*x̂))/√(var+ε)    g = dy*scale
type layerNorm struct {
	x, scale, bias *port // bias may be nil
	y              *value
	n              int
	epsilon        float64
	hat            []float32 // x̂
	inverse        []float32 // 1/√(var+ε) of each row
}

func makeLayerNorm(c *call) (step, error) {
	x, err := c.readIn(0, false)
	if err != nil {
		return nil, err
	}
	axis, err := axisOf(c.node, "axis", -1, len(x.shape))
	if err != nil {
		return nil, err
	}
	n, err := model.Shape(x.shape[axis:]).Elements()
	if err != nil {
		return nil, err
	}
	s := &layerNorm{x: x, n: n, epsilon: float64(c.node.Float("epsilon", 1e-5)), hat: floats(len(x.data)), inverse: floats(len(x.data) / n)}
	if s.scale, err = c.readIn(1, false); err != nil {
		return nil, err
	}
	if s.bias, err = c.optional(2); err != nil {
		return nil, err
	}
	if len(s.scale.data) != n || (s.bias != nil && len(s.bias.data) != n) {
		return nil, fmt.Errorf("scale %v for rows of %d", s.scale.shape, n)
	}
	for _, name := range c.node.Out[1:] {
		if name != "" {
			return nil, fmt.Errorf("its output %s is wanted; train writes the first alone", name)
		}
	}
	s.y, err = c.write(0, x.shape, false)
	return s, err
}

func (s *layerNorm) forward(bool) {
	for r := range s.inverse {
		x, hat, y := s.x.data[r*s.n:][:s.n], s.hat[r*s.n:][:s.n], s.y.data[r*s.n:][:s.n]
		sum, square := 0.0, 0.0
		for _, v := range x {
			sum += float64(v)
		}
		mean := sum / float64(s.n)
		for _, v := range x {
			d := float64(v) - mean
			square += float64(d * d)
		}
		s.inverse[r] = float32(1 / math.Sqrt(square/float64(s.n)+s.epsilon))
		for i, v := range x {
			hat[i] = float32(float64(v)-mean) * s.inverse[r]
			y[i] = hat[i] * s.scale.data[i]
		}
		if s.bias != nil {
			addTo(y, s.bias.data)
		}
	}
}

func (s *layerNorm) backward() {
	for _, p := range []*port{s.scale, s.bias} {
		if p != nil {
			clear(p.dx)
		}
	}
	for r := range s.inverse {
		hat, dy := s.hat[r*s.n:][:s.n], s.y.grad[r*s.n:][:s.n]
		if s.bias != nil && s.bias.dx != nil {
			addTo(s.bias.dx, dy)
		}
		if s.scale.dx != nil {
			addProducts(s.scale.dx, dy, hat)
		}
		if s.x.dx != nil {
			s.backwardRow(s.x.dx[r*s.n:][:s.n], dy, hat, s.inverse[r])
		}
	}
}

func (s *layerNorm) backwardRow(dx, dy, hat []float32, inverse float32) {
	sum, product := 0.0, 0.0
	for i, k := range s.scale.data {
		dx[i] = dy[i] * k
		sum += float64(dx[i])
		product += float64(float64(dx[i]) * float64(hat[i]))
	}
	mean, slope := float32(sum/float64(s.n)), float32(product/float64(s.n))
	for i, g := range dx {
		dx[i] = (g - mean - float32(hat[i]*slope)) * inverse
	}
}
