package train

import (
	"fmt"
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// turn changes between the graph's order of axes and channels last.
type turn struct {
	x        *port
	y        *value
	to, back *kernels.Transpose
}

// newTurn cannot fail: the orders are permutations.
func newTurn(t kernels.Target, x *port, last bool) *turn {
	c := x.shape[1]
	space := len(x.data) / (x.shape[0] * c)
	first := []int{x.shape[0], c, space}
	behind := []int{x.shape[0], space, c}
	if !last {
		first, behind = behind, first
	}
	s := &turn{x: x}
	s.to, _ = kernels.NewTranspose(4, first, []int{0, 2, 1})
	s.back, _ = kernels.NewTranspose(4, behind, []int{0, 2, 1})
	s.to.Use(t)
	s.back.Use(t)
	return s
}

func (s *turn) forward(bool) { s.to.Run(bytesOf(s.y.data), bytesOf(s.x.data)) }
func (s *turn) backward()    { s.back.Run(bytesOf(s.x.dx), bytesOf(s.y.grad)) }

// alias is another shape of the same memory.
type alias struct {
	x *port
	y *value
}

func (s *alias) forward(bool) {}
func (s *alias) backward()    { copy(s.x.dx, s.y.grad) }

// makeAlias is for operators that change at most the shape.
func makeAlias(c *call) (step, error) {
	if c.node.Op == "Identity" {
		v, err := c.look(0)
		if err == nil {
			c.b.values[c.node.Out[0]] = v
		}
		return nil, err
	}
	x, err := c.readIn(0, false)
	if err != nil {
		return nil, err
	}
	shape, err := shapes[c.node.Op](c, x.shape)
	if err != nil {
		return nil, err
	}
	n, err := shape.Elements()
	if err != nil || n != len(x.data) {
		return nil, fmt.Errorf("%v cannot be %v", x.shape, shape)
	}
	s := &alias{x: x, y: c.view(x, shape)}
	c.b.values[c.node.Out[0]] = s.y
	return s, nil
}

// shapes returns what an alias makes of a shape.
var shapes = map[string]func(c *call, x model.Shape) (model.Shape, error){
	"Flatten": func(c *call, x model.Shape) (model.Shape, error) {
		at := c.node.Int("axis", 1)
		if at < 0 {
			at += int64(len(x))
		}
		if at < 0 || at > int64(len(x)) {
			return nil, fmt.Errorf("axis %d of %v", at, x)
		}
		outer, err := x[:at].Elements()
		if err != nil {
			return nil, err
		}
		inner, err := x[at:].Elements()
		return model.Shape{outer, inner}, err
	},
	"Reshape": reshaped,
}

// reshaped follows ONNX, but that an axis 0 which the graph gives the length
// of its own batch gets that of the net: exporters write it as a number.
func reshaped(c *call, x model.Shape) (model.Shape, error) {
	to, err := c.integers(1)
	if err != nil {
		return nil, err
	}
	shape, open, known := slices.Clone(model.Shape(to)), -1, 1
	total, err := x.Elements()
	if err != nil {
		return nil, err
	}
	for i, d := range shape {
		switch {
		case d == 0 && c.node.Int("allowzero", 0) == 0 && i < len(x):
			shape[i] = x[i]
		case i == 0 && d == c.b.was && len(x) > 0 && x[0] == c.batch():
			shape[i] = c.batch()
		case d == -1 && open < 0:
			open = i
			continue
		case d < 1:
			return nil, fmt.Errorf("shape %v", to)
		}
		known *= shape[i]
	}
	if open >= 0 {
		if known == 0 || total%known != 0 {
			return nil, fmt.Errorf("%v cannot be %v", x, to)
		}
		shape[open] = total / known
	}
	return shape, nil
}

// concat puts tensors side by side along an axis.
type concat struct {
	parts         []*port
	y             *value
	outer, stride int
	widths        []int // what each part has of a row of y
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
	for i := range c.node.In {
		v, err := c.look(i)
		if err != nil {
			return nil, err
		}
		last = last || !v.is(false)
	}
	shape := slices.Clone(first.shape)
	shape[axis] = 0
	for i := range c.node.In {
		p, err := c.readIn(i, last)
		if err != nil {
			return nil, err
		}
		if len(p.shape) != len(shape) || !equalBut(p.shape, first.shape, axis) {
			return nil, fmt.Errorf("%v beside %v along axis %d", p.shape, first.shape, axis)
		}
		shape[axis] += p.shape[axis]
		s.parts = append(s.parts, p)
	}
	if s.y, err = c.write(0, shape, last); err != nil {
		return nil, err
	}
	lies, at := lying(shape, len(shape), last), axis
	if last {
		at = lastAxis(axis, len(shape))
	}
	outer, inner := around(lies, at)
	s.outer, s.stride = outer, shape[axis]*inner
	for _, p := range s.parts {
		s.widths = append(s.widths, p.shape[axis]*inner)
	}
	return s, nil
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
	at := 0
	for i, p := range s.parts {
		w := s.widths[i]
		for o := range s.outer {
			copy(s.y.data[o*s.stride+at:][:w], p.data[o*w:])
		}
		at += w
	}
}

func (s *concat) backward() {
	at := 0
	for i, p := range s.parts {
		w := s.widths[i]
		if p.dx != nil {
			for o := range s.outer {
				copy(p.dx[o*w:][:w], s.y.grad[o*s.stride+at:])
			}
		}
		at += w
	}
}
