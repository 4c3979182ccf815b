package train

import (
	"fmt"
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// newTurn changes between the graph's order of axes and channels last. It
// cannot fail: the orders are permutations.
func newTurn(t kernels.Target, x *port, last bool) *transpose {
	c := x.shape[1]
	space := len(x.data) / (x.shape[0] * c)
	first := []int{x.shape[0], c, space}
	behind := []int{x.shape[0], space, c}
	if !last {
		first, behind = behind, first
	}
	s := &transpose{x: x}
	s.to, _ = kernels.NewTranspose(4, first, []int{0, 2, 1})
	s.back, _ = kernels.NewTranspose(4, behind, []int{0, 2, 1})
	s.to.Use(t)
	s.back.Use(t)
	return s
}

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
	"Squeeze": func(c *call, x model.Shape) (model.Shape, error) {
		axes, err := c.axes(1, len(x))
		if err != nil {
			return nil, err
		}
		shape := model.Shape{}
		for i, d := range x {
			if slices.Contains(axes, i) || (!c.has(1) && d == 1 && i > 0) {
				continue
			}
			shape = append(shape, d)
		}
		return shape, nil
	},
	"Unsqueeze": func(c *call, x model.Shape) (model.Shape, error) {
		list, err := c.integers(1)
		if err != nil {
			return nil, err
		}
		rank := len(x) + len(list)
		axes, err := c.axes(1, rank)
		if err != nil {
			return nil, err
		}
		shape := model.Shape{}
		for i := range rank {
			if slices.Contains(axes, i) {
				shape = append(shape, 1)
				continue
			}
			if len(x) == 0 {
				return nil, fmt.Errorf("axes %v", list)
			}
			shape, x = append(shape, x[0]), x[1:]
		}
		return shape, nil
	},
}

// axes returns a constant input that names some of rank axes; below 0 they
// count from the end.
func (c *call) axes(i, rank int) ([]int, error) {
	list, err := c.integers(i)
	for k, a := range list {
		if a < 0 {
			list[k] = a + rank
		}
		if list[k] < 0 || list[k] >= rank {
			return nil, fmt.Errorf("axis %d of %d", a, rank)
		}
	}
	return list, err
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
		case i == 0 && d > 0 && d == c.b.was && len(x) > 0 && x[0] == c.batch():
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

// transpose changes the order of axes.
type transpose struct {
	x        *port
	y        *value
	to, back *kernels.Transpose
}

func makeTranspose(c *call) (step, error) {
	x, err := c.read(0)
	if err != nil {
		return nil, err
	}
	rank := len(x.shape)
	perm := make([]int, rank)
	for i := range perm {
		perm[i] = rank - 1 - i
	}
	for i, p := range c.node.Ints("perm") {
		if i >= rank || p < 0 || p >= int64(rank) {
			return nil, fmt.Errorf("perm %v of %v", c.node.Ints("perm"), x.shape)
		}
		perm[i] = int(p)
	}
	shape := make(model.Shape, rank)
	for i, p := range perm {
		shape[i] = x.shape[p]
		if x.last { // where axis p lies
			perm[i] = lastAxis(p, rank)
		}
	}
	s := &transpose{x: x}
	if s.to, err = kernels.NewTranspose(4, lying(x.shape, rank, x.last), perm); err != nil {
		return nil, err
	}
	back := make([]int, rank)
	for i, p := range perm {
		back[p] = i
	}
	if s.back, err = kernels.NewTranspose(4, shape, back); err != nil {
		return nil, err
	}
	s.to.Use(c.target())
	s.back.Use(c.target())
	s.y, err = c.write(0, shape, false)
	return s, err
}

func (s *transpose) forward(bool) { s.to.Run(bytesOf(s.y.data), bytesOf(s.x.data)) }
func (s *transpose) backward()    { s.back.Run(bytesOf(s.x.dx), bytesOf(s.y.grad)) }
