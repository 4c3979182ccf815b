package engine

import (
	"fmt"

	"dunlin/kernels"
	"dunlin/model"
)

// operator is all that engine knows of one operator. The table is in
// operators.go; names of other domains carry them, and those that begin with
// "dunlin." are made by the passes, never read from a file.
type operator struct {
	minIn int // inputs that must be there
	outs  int // outputs that the node may have; 0 stands for 1

	limits string // what is not supported, for docs/OPERATORS.md

	// check returns why the node cannot run, "" where it can, as far as its
	// attributes tell. It may be nil.
	check func(n *model.Node) string

	// infer sets the types and shapes of c.out from those of c.in. Shapes of
	// c.in are all known.
	infer func(c *call) error

	// lower returns the kernel for a node that infer has seen.
	lower func(c *call) (*kernel, error)

	// expand, where it is set, is for an operator that stands for others. It
	// takes the place of infer and lower: it returns the nodes that take n's.
	expand func(e *edit, n *model.Node) ([]*model.Node, error)

	// eager, where it is set, is for an operator whose output shapes depend on
	// values. It takes the place of infer and lower: it returns the function
	// that runs the node on its inputs, between two stages (stage.go).
	eager func(c *compiler, n *model.Node) (func(in []*model.Tensor) ([]*model.Tensor, error), error)

	anyOut bool // output 0 may be left out where another is wanted
}

// call is one node with what is known of its values.
type call struct {
	node   *model.Node
	in     []*model.Value // nil where an optional input is left out
	out    []*model.Value
	target kernels.Target
	halves bool // weights may be binary16 numbers: see half_weights.go
	wide   bool // half-precision inputs are computed with as float32: see half.go
}

// kernel is what a node becomes: immutable, shared by all sessions.
type kernel struct {
	name    string // as plans show it: "conv"
	tier    kernels.Tier
	macs    int64
	weights int  // bytes of packed weights
	scratch int  // bytes that bind's function needs while it runs
	alias   bool // the output is the first input's bytes: nothing runs

	// cutters are the ways to compute the kernel in parts, the best first. A
	// kernel without is cut by its operator's rule (along.go), if at all.
	cutters []cutter

	// bind returns the function that runs the kernel on these tensors, which
	// stay where they are, as does scratch. All that can be prepared is
	// prepared in bind: its function must not allocate.
	bind func(in, out []*model.Tensor, scratch []byte) func() error
}

// has reports whether optional input i is there.
func (c *call) has(i int) bool { return i < len(c.in) && c.in[i] != nil }

// shape returns the shape of input i.
func (c *call) shape(i int) model.Shape { return c.in[i].Shape }

// constant returns the constant tensor that is input i, nil where it is none.
func (c *call) constant(i int) *model.Tensor {
	if !c.has(i) {
		return nil
	}
	return c.in[i].Const
}

// set gives output 0 its type and shape.
func (c *call) set(t model.DType, shape ...int) error {
	s := append(model.Shape{}, shape...)
	if _, err := s.Elements(); err != nil {
		return err
	}
	c.out[0].Type, c.out[0].Shape = t, s
	return nil
}

// elements returns the number of elements of output 0.
func (c *call) elements() int {
	n, _ := c.out[0].Shape.Elements()
	return n
}

// want fails where input i is there and of none of the types.
func (c *call) want(i int, types ...model.DType) error {
	if !c.has(i) {
		return nil
	}
	for _, t := range types {
		if c.in[i].Type == t {
			return nil
		}
	}
	return notYet(fmt.Sprintf("input %d is %v, not %v", i, c.in[i].Type, types))
}

// axis returns the attribute as an axis of a tensor of that rank.
func (c *call) axis(name string, or int64, rank int) (int, error) {
	return axisOf(c.node.Int(name, or), rank)
}

func axisOf(a int64, rank int) (int, error) {
	if a < 0 {
		a += int64(rank)
	}
	if a < 0 || a >= int64(rank) {
		return 0, fmt.Errorf("axis %d of %d", a, rank)
	}
	return int(a), nil
}

// ints returns the constant input i as integers.
func (c *call) ints(i int) ([]int64, error) {
	t, err := c.known(i)
	if err != nil {
		return nil, err
	}
	v, err := integers(t)
	if err != nil {
		return nil, fmt.Errorf("input %d: %w", i, err)
	}
	return v, nil
}

// integers returns the elements of an integer tensor.
func integers(t *model.Tensor) ([]int64, error) {
	switch t.Type {
	case model.I64:
		return t.I64(), nil
	case model.I32:
		return widen(t.I32()), nil
	case model.I8:
		return widen(t.I8()), nil
	case model.U8:
		return widen(t.U8()), nil
	case model.I16:
		return widen(t.I16()), nil
	}
	return nil, fmt.Errorf("%v tensor where integers are wanted", t.Type)
}

func widen[T int32 | int16 | int8 | uint8](from []T) []int64 {
	to := make([]int64, len(from))
	for i, v := range from {
		to[i] = int64(v)
	}
	return to
}
