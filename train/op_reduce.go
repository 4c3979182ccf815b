package train

import (
	"slices"

	"dunlin/model"
)

// reduction is the sum, or the mean, over some axes. The gradient is the same
// for all that was summed.
type reduction struct {
	x      *port
	y      *value
	spread *spread // of y to x
	share  float32
}

func makeReduce(c *call) (step, error) {
	v, err := c.look(0)
	if err != nil {
		return nil, err
	}
	rank := len(v.shape)
	axes, err := c.axes(1, rank)
	if err != nil {
		return nil, err
	}
	if len(axes) == 0 && c.node.Int("noop_with_empty_axes", 0) == 0 {
		for i := range rank {
			axes = append(axes, i)
		}
	}
	keep := c.node.Int("keepdims", 1) != 0
	kept, shape, count := slices.Clone(v.shape), model.Shape{}, 1
	for i, d := range v.shape {
		if slices.Contains(axes, i) {
			kept[i] = 1
			count *= d
		}
		if keep || !slices.Contains(axes, i) {
			shape = append(shape, kept[i])
		}
	}
	// Where axes go and several are left, they are left in the graph's order.
	last := v.last && (keep || (&value{shape: kept, last: true}).is(false))
	x, err := c.readIn(0, last)
	if err != nil {
		return nil, err
	}
	s := &reduction{x: x, share: 1}
	if c.node.Op == "ReduceMean" {
		s.share = 1 / float32(count)
	}
	if s.spread, err = newSpread(lying(kept, rank, last), lying(v.shape, rank, last)); err != nil {
		return nil, err
	}
	s.y, err = c.write(0, shape, last && keep)
	return s, err
}

func (s *reduction) forward(bool) {
	s.spread.reduce(s.y.data, s.x.data)
	scale(s.y.data, s.share)
}

func (s *reduction) backward() {
	dx, dy, share := s.x.dx, s.y.grad, s.share
	s.spread.each(func(at, from int) { dx[at] = dy[from] * share })
}
