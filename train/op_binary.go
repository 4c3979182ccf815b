package train

import (
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// binary is an operation of two elements, broadcast.
//
//	Add  da = dy     db = dy
//	Sub  da = dy     db = -dy
//	Mul  da = dy*b   db = dy*a
//	Div  da = dy/b   db = -dy*y/b
//
// each summed over what is repeated.
type binary struct {
	op     string
	a, b   operand
	y      *value
	f      func(out, a, b []float32)
	square func(out, a, b []float32) // Div: a product of two tensors of y's shape
	full   []float32                 // a gradient before it is summed
}

// operand is one of two: by combines dy with the other.
type operand struct {
	*port
	spread *spread
	by     func(out, dy, other []float32) // nil: dy itself
}

// makeBinary lays both operands out alike: channels last where one of them
// is, and the other can be seen so.
func makeBinary(c *call) (step, error) {
	s := &binary{op: c.node.Op}
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
	if s.a.spread, err = newSpread(aLies, w.Shape); err != nil {
		return nil, err
	}
	if s.b.spread, err = newSpread(bLies, w.Shape); err != nil {
		return nil, err
	}
	s.full = floats(len(s.y.data))
	return s, s.lay(c, w, aLies, bLies)
}

var binaries = map[string]kernels.OpF32{"Add": kernels.OpAdd, "Sub": kernels.OpSub, "Mul": kernels.OpMul, "Div": kernels.OpDiv}

// lay chooses the loops.
func (s *binary) lay(c *call, w *kernels.Broadcast, aLies, bLies []int) error {
	op := binaries[c.node.Op]
	_, s.f = kernels.BinaryF32(c.target(), op, w)
	if op == kernels.OpAdd || op == kernels.OpSub {
		return nil
	}
	byA, err := kernels.NewBroadcast(w.Shape, aLies)
	if err != nil {
		return err
	}
	byB, err := kernels.NewBroadcast(w.Shape, bLies)
	if err != nil {
		return err
	}
	whole, err := kernels.NewBroadcast(w.Shape, w.Shape)
	if err != nil {
		return err
	}
	_, s.a.by = kernels.BinaryF32(c.target(), op, byB)
	if op == kernels.OpMul {
		_, s.b.by = kernels.BinaryF32(c.target(), op, byA)
	}
	_, s.square = kernels.BinaryF32(c.target(), kernels.OpMul, whole)
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
	s.a.port, s.b.port = c.readBeside(a, axes, last), c.readBeside(b, axes, last)
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
	dy := s.y.grad
	if s.a.dx != nil {
		s.a.give(dy, s.b.data, s.full)
	}
	if s.b.dx == nil {
		return
	}
	if s.op == "Div" {
		s.square(s.full, dy, s.y.data)
		s.a.by(s.full, s.full, s.b.data)
		dy = s.full
	}
	s.b.give(dy, s.a.data, s.full)
	if s.op == "Div" || s.op == "Sub" {
		scale(s.b.dx, -1)
	}
}

// give sets the gradient of an operand.
func (o *operand) give(dy, other, full []float32) {
	switch {
	case o.by == nil:
		o.spread.reduce(o.dx, dy)
	case o.spread.whole():
		o.by(o.dx, dy, other)
	default:
		o.by(full, dy, other)
		o.spread.reduce(o.dx, full)
	}
}
