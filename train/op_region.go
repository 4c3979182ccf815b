package train

import (
	"fmt"
	"math"
	"slices"

	"dunlin/model"
)

// regions are axes of a tensor as they lie in memory: where each part begins,
// how long it is and how far apart its places are.
type regions struct{ start, length, step []int }

func wholeOf(s model.Shape) regions {
	return regions{make([]int, len(s)), slices.Clone(s), slices.Repeat([]int{1}, len(s))}
}

// of returns the region in a tensor of that shape, channels last or not.
func (r regions) of(s model.Shape, last bool) *region {
	if len(s) < 3 {
		last = false
	}
	k := len(s)
	return newRegion(lying(s, k, last), lying(r.start, k, last), lying(r.length, k, last), lying(r.step, k, last))
}

// concat puts tensors side by side along an axis.
type concat struct {
	parts   []*port
	regions []*region
	y       *value
}

func makeConcat(c *call) (step, error) {
	first, err := c.look(0)
	if err != nil {
		return nil, err
	}
	axis, err := axisOf(c.node, "axis", 0, len(first.shape))
	if err != nil {
		return nil, err
	}
	s, last := &concat{}, false
	shape := slices.Clone(first.shape)
	shape[axis] = 0
	for i := range c.node.In {
		v, err := c.look(i)
		if err != nil {
			return nil, err
		}
		if len(v.shape) != len(shape) || !equalBut(v.shape, first.shape, axis) {
			return nil, fmt.Errorf("%v beside %v along axis %d", v.shape, first.shape, axis)
		}
		last = last || !v.is(false)
		shape[axis] += v.shape[axis]
	}
	part, at := wholeOf(shape), 0
	for i := range c.node.In {
		p, err := c.readIn(i, last)
		if err != nil {
			return nil, err
		}
		part.start[axis], part.length[axis] = at, p.shape[axis]
		at += p.shape[axis]
		s.parts, s.regions = append(s.parts, p), append(s.regions, part.of(shape, last))
	}
	s.y, err = c.write(0, shape, last)
	return s, err
}

// equalBut reports whether two shapes of as many axes differ in none but one.
func equalBut(a, b model.Shape, axis int) bool {
	for i := range a {
		if a[i] != b[i] && i != axis {
			return false
		}
	}
	return true
}

// lastAxis returns where an axis lies when the channels are last.
func lastAxis(axis, rank int) int {
	switch axis {
	case 0:
		return 0
	case 1:
		return rank - 1
	}
	return axis - 1
}

func (s *concat) forward(bool) {
	for i, p := range s.parts {
		s.regions[i].put(s.y.data, p.data)
	}
}

func (s *concat) backward() {
	for i, p := range s.parts {
		if p.dx != nil {
			s.regions[i].take(p.dx, s.y.grad)
		}
	}
}

// parts copies parts out of a tensor: Split, Slice and Gather of constant
// places. What stands in several gets the sum of their gradients.
type parts struct {
	x       *port
	y       []*value
	regions []*region
	pieces  [][2]int // of each region: which y, and where in it
}

func (s *parts) forward(bool) {
	for i, r := range s.regions {
		p := s.pieces[i]
		r.take(s.y[p[0]].data[p[1]:], s.x.data)
	}
}

func (s *parts) backward() {
	clear(s.x.dx)
	for i, r := range s.regions {
		p := s.pieces[i]
		r.add(s.x.dx, s.y[p[0]].grad[p[1]:])
	}
}

// add adds a region of x that is all of a new output.
func (s *parts) add(c *call, r regions) error {
	y, err := c.write(len(s.y), r.length, s.x.last)
	if err != nil {
		return err
	}
	s.pieces = append(s.pieces, [2]int{len(s.y), 0})
	s.y, s.regions = append(s.y, y), append(s.regions, r.of(s.x.shape, s.x.last))
	return nil
}

func makeSplit(c *call) (step, error) {
	x, err := c.read(0)
	if err != nil {
		return nil, err
	}
	axis, err := axisOf(c.node, "axis", 0, len(x.shape))
	if err != nil {
		return nil, err
	}
	lengths, err := c.integers(1)
	if err != nil {
		return nil, err
	}
	n := len(c.node.Out)
	if lengths == nil {
		each := (x.shape[axis] + n - 1) / n
		for at := 0; len(lengths) < n; at += each {
			lengths = append(lengths, min(each, x.shape[axis]-at))
		}
	}
	s, at := &parts{x: x}, 0
	for _, k := range lengths {
		part := wholeOf(x.shape)
		part.start[axis], part.length[axis] = at, k
		if at += k; k < 1 || at > x.shape[axis] || len(lengths) != n {
			return nil, fmt.Errorf("parts of %v of %v along axis %d for %d outputs", lengths, x.shape, axis, n)
		}
		if err := s.add(c, part); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func makeSlice(c *call) (step, error) {
	x, err := c.read(0)
	if err != nil {
		return nil, err
	}
	var list [4][]int // starts, ends, axes, steps
	for i := range list {
		if list[i], err = c.integers(1 + i); err != nil {
			return nil, err
		}
	}
	starts, ends, axes, steps := list[0], list[1], list[2], list[3]
	if axes == nil {
		for i := range starts {
			axes = append(axes, i)
		}
	}
	if steps == nil {
		steps = slices.Repeat([]int{1}, len(starts))
	}
	part := wholeOf(x.shape)
	for i, a := range axes {
		if a < 0 {
			a += len(x.shape)
		}
		if a < 0 || a >= len(x.shape) || len(starts) != len(axes) || len(ends) != len(axes) || len(steps) != len(axes) || steps[i] == 0 {
			return nil, fmt.Errorf("slice %v to %v of axes %v by %v from %v", starts, ends, axes, steps, x.shape)
		}
		part.cut(a, starts[i], ends[i], steps[i], x.shape[a])
		if part.length[a] < 1 {
			return nil, fmt.Errorf("slice %v to %v of axes %v by %v from %v holds nothing", starts, ends, axes, steps, x.shape)
		}
	}
	s := &parts{x: x}
	return s, s.add(c, part)
}

// cut sets one axis: https://onnx.ai/onnx/operators/onnx__Slice.html.
func (r *regions) cut(axis, start, end, step, n int) {
	if start < 0 {
		start += n
	}
	if end < 0 && end > math.MinInt+n {
		end += n
	}
	if step > 0 {
		start, end = min(max(start, 0), n), min(max(end, 0), n)
		r.length[axis] = (end - start + step - 1) / step
	} else {
		start, end = min(max(start, 0), n-1), min(max(end, -1), n-1)
		r.length[axis] = (start - end - step - 1) / -step
	}
	r.start[axis], r.step[axis] = start, step
}

// makeGather is for constant places along an axis: the last step of a
// sequence, some channels.
func makeGather(c *call) (step, error) {
	x, err := c.readIn(0, false)
	if err != nil {
		return nil, err
	}
	axis, err := axisOf(c.node, "axis", 0, len(x.shape))
	if err != nil {
		return nil, err
	}
	index, err := c.integers(1)
	if err != nil {
		return nil, err
	}
	shape := slices.Clone(x.shape[:axis])
	shape = append(append(shape, c.b.g.Const(c.node.In[1]).Shape...), x.shape[axis+1:]...)
	s := &parts{x: x}
	y, err := c.write(0, shape, false)
	if err != nil {
		return nil, err
	}
	s.y = []*value{y}
	outer, inner := around(x.shape, axis)
	at := 0
	for o := range outer {
		for _, k := range index {
			if k < 0 {
				k += x.shape[axis]
			}
			if k < 0 || k >= x.shape[axis] {
				return nil, fmt.Errorf("place %d of %v along axis %d", k, x.shape, axis)
			}
			s.regions = append(s.regions, &region{first: (o*x.shape[axis] + k) * inner, inner: walk{inner, 1}, count: 1})
			s.pieces = append(s.pieces, [2]int{0, at})
			at += inner
		}
	}
	return s, nil
}

// padded is a tensor with a constant around it.
type padded struct {
	x      *port
	y      *value
	inside *region
	with   float32
}

func makePad(c *call) (step, error) {
	if mode := c.node.Str("mode", "constant"); mode != "constant" {
		return nil, fmt.Errorf("mode %q; train pads with a constant", mode)
	}
	x, err := c.read(0)
	if err != nil {
		return nil, err
	}
	pads, err := c.integers(1)
	if err != nil {
		return nil, err
	}
	axes, err := c.axes(3, len(x.shape))
	if err != nil {
		return nil, err
	}
	if axes == nil {
		for i := range x.shape {
			axes = append(axes, i)
		}
	}
	if len(pads) != 2*len(axes) {
		return nil, fmt.Errorf("%d pads for %d axes", len(pads), len(axes))
	}
	s := &padded{x: x}
	if s.with, err = c.number(2, 0); err != nil {
		return nil, err
	}
	part, shape := wholeOf(x.shape), slices.Clone(x.shape)
	for i, a := range axes {
		before, behind := pads[i], pads[len(axes)+i]
		if before < 0 || behind < 0 || before > math.MaxInt32 || behind > math.MaxInt32 {
			return nil, fmt.Errorf("pads %v; train takes none below 0", pads)
		}
		part.start[a] = before
		shape[a] += before + behind
	}
	if s.y, err = c.write(0, shape, x.last); err != nil {
		return nil, err
	}
	s.inside = part.of(shape, x.last)
	return s, nil
}

func (s *padded) forward(bool) {
	for i := range s.y.data {
		s.y.data[i] = s.with
	}
	s.inside.put(s.y.data, s.x.data)
}

func (s *padded) backward() { s.inside.take(s.x.dx, s.y.grad) }
