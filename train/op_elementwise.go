package train

import (
	"math"
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// unary is a function of one element: y = f(x).
type unary struct {
	x *port
	y *value
	f kernels.Unary
	// gradient writes dx = dy*f'(x).
	gradient func(dx, dy, x, y []float32)
}

func (s *unary) forward(bool) { s.f(s.y.data, s.x.data) }
func (s *unary) backward()    { s.gradient(s.x.dx, s.y.grad, s.x.data, s.y.data) }

// unaries are the functions, made of a node.
var unaries = map[string]func(c *call, s *unary) error{
	"Relu": func(c *call, s *unary) error {
		s.clamp(c, 0, float32(math.Inf(1)))
		return nil
	},
	"Clip": func(c *call, s *unary) error {
		low, err := c.number(1, float32(math.Inf(-1)))
		if err != nil {
			return err
		}
		high, err := c.number(2, float32(math.Inf(1)))
		s.clamp(c, low, high)
		return err
	},
}

func makeUnary(c *call) (step, error) {
	x, err := c.read(0)
	if err != nil {
		return nil, err
	}
	s := &unary{x: x}
	if s.y, err = c.write(0, x.shape, x.last); err != nil {
		return nil, err
	}
	return s, unaries[c.node.Op](c, s)
}

// clamp bounds x to [low, high]. The gradient passes where x is between the
// bounds, not where it is on one: at 0, that of Relu is 0.
func (s *unary) clamp(c *call, low, high float32) {
	_, s.f = kernels.UnaryF32(c.target(), kernels.OpClip, low, high)
	s.gradient = func(dx, dy, x, _ []float32) {
		dy, x = dy[:len(dx)], x[:len(dx)]
		for i, v := range x {
			d := dy[i]
			if v <= low || v >= high {
				d = 0
			}
			dx[i] = d
		}
	}
}

// binary is an operation of two elements, broadcast.
type binary struct {
	a, b           *port
	y              *value
	f              func(out, a, b []float32)
	aSpread        *spread
	bSpread        *spread
	aTimes, bTimes func(out, a, b []float32) // Mul: dy times the other operand
	full           []float32                 // a gradient before it is reduced
}

// makeBinary lays both operands out alike: channels last where one of them
// is, and the other can be seen so.
func makeBinary(c *call) (step, error) {
	s := &binary{}
	last, axes, err := s.readOperands(c)
	if err != nil {
		return nil, err
	}
	shape, err := kernels.NewBroadcast(s.a.shape, s.b.shape)
	if err != nil {
		return nil, err
	}
	aLies, bLies := lying(s.a.shape, axes, last), lying(s.b.shape, axes, last)
	w, err := kernels.NewBroadcast(aLies, bLies)
	if err != nil {
		return nil, err
	}
	if s.y, err = c.write(0, shape.Shape, last); err != nil {
		return nil, err
	}
	if s.aSpread, err = newSpread(aLies, w.Shape); err != nil {
		return nil, err
	}
	if s.bSpread, err = newSpread(bLies, w.Shape); err != nil {
		return nil, err
	}
	if !s.aSpread.whole() || !s.bSpread.whole() {
		s.full = floats(len(s.y.data))
	}
	return s, s.lay(c, w, aLies, bLies)
}

// lay chooses the loops.
func (s *binary) lay(c *call, w *kernels.Broadcast, aLies, bLies []int) error {
	op := map[string]kernels.OpF32{"Add": kernels.OpAdd, "Mul": kernels.OpMul}[c.node.Op]
	_, s.f = kernels.BinaryF32(c.target(), op, w)
	if op == kernels.OpMul {
		byA, err := kernels.NewBroadcast(w.Shape, aLies)
		if err != nil {
			return err
		}
		byB, err := kernels.NewBroadcast(w.Shape, bLies)
		if err != nil {
			return err
		}
		_, s.aTimes = kernels.BinaryF32(c.target(), kernels.OpMul, byB)
		_, s.bTimes = kernels.BinaryF32(c.target(), kernels.OpMul, byA)
	}
	return nil
}

// readOperands reads a and b in one order of axes, channels last or not, and
// returns how many axes the result has.
func (s *binary) readOperands(c *call) (last bool, axes int, err error) {
	a, err := c.look(0)
	if err != nil {
		return false, 0, err
	}
	b, err := c.look(1)
	if err != nil {
		return false, 0, err
	}
	axes = max(len(a.shape), len(b.shape))
	last = (!a.is(false) || !b.is(false)) && alignable(a.shape, axes) && alignable(b.shape, axes)
	s.a, s.b = c.readBeside(a, axes, last), c.readBeside(b, axes, last)
	return last, axes, nil
}

// readBeside reads v in an order of axes; a tensor of fewer axes than the
// result lies in both.
func (c *call) readBeside(v *value, axes int, last bool) *port {
	return c.port(c.b.order(v, last && len(v.shape) == axes))
}

// alignable reports whether a tensor can be seen with its channels last beside
// one of that many axes: it has as many, or it is a row along one of them.
func alignable(s model.Shape, axes int) bool {
	several := 0
	for _, d := range s {
		if d != 1 {
			several++
		}
	}
	return len(s) == axes || several < 2
}

// lying returns the lengths of axes as they lie in memory beside a tensor of
// that many axes.
func lying(s model.Shape, axes int, last bool) []int {
	if !last {
		return s
	}
	s = append(slices.Repeat(model.Shape{1}, axes-len(s)), s...)
	return append(append(model.Shape{s[0]}, s[2:]...), s[1])
}

func (s *binary) forward(bool) { s.f(s.y.data, s.a.data, s.b.data) }

func (s *binary) backward() {
	s.gradient(s.a.dx, s.aSpread, s.aTimes, s.b.data)
	s.gradient(s.b.dx, s.bSpread, s.bTimes, s.a.data)
}

func (s *binary) gradient(dx []float32, by *spread, times func(out, a, b []float32), other []float32) {
	if dx == nil {
		return
	}
	dy := s.y.grad
	if times != nil {
		full := s.full
		if by.whole() {
			full = dx
		}
		times(full, dy, other)
		if by.whole() {
			return
		}
		dy = full
	}
	by.reduce(dx, dy)
}
