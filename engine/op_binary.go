package engine

import (
	"fmt"
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// pair gives output 0 the type t and the shape to which inputs 0 and 1
// broadcast.
func (c *call) pair(t model.DType) error {
	w, err := kernels.NewBroadcast(c.shape(0), c.shape(1))
	if err != nil {
		return err
	}
	return c.set(t, w.Shape...)
}

// inferBinary is for arithmetic of two tensors of one type.
func inferBinary(c *call) error {
	if len(c.in) != 2 {
		return fmt.Errorf("%d inputs, not 2", len(c.in))
	}
	if err := c.want(0, numbers...); err != nil {
		return err
	}
	if err := c.want(1, c.in[0].Type); err != nil {
		return err
	}
	return c.pair(c.in[0].Type)
}

// inferVariadic is for Max, Min, Sum and Mean of one tensor or more.
func inferVariadic(c *call) error {
	shape := c.shape(0)
	if err := c.want(0, numbers...); err != nil {
		return err
	}
	for i, v := range c.in {
		if v == nil {
			return fmt.Errorf("input %d is left out", i)
		}
		if err := c.want(i, c.in[0].Type); err != nil {
			return err
		}
		w, err := kernels.NewBroadcast(shape, v.Shape)
		if err != nil {
			return err
		}
		shape = w.Shape
	}
	return c.set(c.in[0].Type, shape...)
}

// inferCompare is for comparisons: Bool of two tensors of one type.
func inferCompare(c *call) error {
	types := numbers
	if c.node.Op == "Equal" {
		types = append([]model.DType{model.Bool}, numbers...)
	}
	if err := c.want(0, types...); err != nil {
		return err
	}
	if err := c.want(1, c.in[0].Type); err != nil {
		return err
	}
	return c.pair(model.Bool)
}

// inferLogic is for And, Or and Xor.
func inferLogic(c *call) error {
	for i := range 2 {
		if err := c.want(i, model.Bool); err != nil {
			return err
		}
	}
	return c.pair(model.Bool)
}

// inferBits is for BitShift and BitwiseAnd, -Or, -Xor.
func inferBits(c *call) error {
	if err := c.want(0, integerTypes...); err != nil {
		return err
	}
	if err := c.want(1, c.in[0].Type); err != nil {
		return err
	}
	return c.pair(c.in[0].Type)
}

func inferPow(c *call) error {
	for i := range 2 {
		if err := c.want(i, numbers...); err != nil {
			return err
		}
	}
	return c.pair(c.in[0].Type)
}

// inferPRelu wants a slope that broadcasts to the input.
func inferPRelu(c *call) error {
	if err := inferBinary(c); err != nil {
		return err
	}
	if !c.out[0].Shape.Equal(c.shape(0)) {
		return fmt.Errorf("slopes %v do not broadcast to %v", c.shape(1), c.shape(0))
	}
	return nil
}

func checkBitShift(n *model.Node) string {
	if d := n.Str("direction", ""); d != "LEFT" && d != "RIGHT" {
		return fmt.Sprintf("direction %q", d)
	}
	return ""
}

// lowerBinary is for every operator of two tensors of one type.
func lowerBinary(c *call) (*kernel, error) {
	switch c.in[0].Type {
	case model.F32:
		return arithmetic[float32](c)
	case model.F64:
		return arithmetic[float64](c)
	case model.I8:
		return arithmetic[int8](c)
	case model.U8, model.Bool:
		return arithmetic[uint8](c)
	case model.I16:
		return arithmetic[int16](c)
	case model.U16:
		return arithmetic[uint16](c)
	case model.I32:
		return arithmetic[int32](c)
	case model.U32:
		return arithmetic[uint32](c)
	case model.I64:
		return arithmetic[int64](c)
	case model.U64:
		return arithmetic[uint64](c)
	}
	return nil, notYet(fmt.Sprintf("%s of %v", c.node.Op, c.in[0].Type))
}

// rowOps are the operators that have loops over float32.
var rowOps = map[string]kernels.OpF32{
	"Add": kernels.OpAdd, "Sub": kernels.OpSub, "Mul": kernels.OpMul, "Div": kernels.OpDiv, "PRelu": kernels.OpPrelu,
	"Max": kernels.OpMax, "Min": kernels.OpMin, "Sum": kernels.OpAdd, "Mean": kernels.OpAdd,
}

// rowsAsGo returns f over a broadcast; rowsF32 an operation of float32 as c's
// target computes it.
func rowsAsGo[T real](f kernels.Binary[T]) func(w *kernels.Broadcast) func(out, a, b []T) {
	return func(w *kernels.Broadcast) func(out, a, b []T) {
		return func(out, a, b []T) { kernels.Elementwise(w, f, out, a, b) }
	}
}

func rowsF32(c *call, k *kernel, op kernels.OpF32) func(w *kernels.Broadcast) func(out, a, b []float32) {
	return func(w *kernels.Broadcast) (f func(out, a, b []float32)) {
		k.tier, f = kernels.BinaryF32(c.target, op, w)
		return f
	}
}

func arithmetic[T real](c *call) (*kernel, error) {
	k := named(c.node.Op + "-" + c.in[0].Type.String())
	if op, ok := rowOps[c.node.Op]; ok && c.in[0].Type == model.F32 {
		return foldRows(c, k, rowsF32(c, k, op))
	}
	rows := map[string]kernels.Binary[T]{
		"Add": kernels.Add[T], "Sub": kernels.Sub[T], "Mul": kernels.Mul[T], "Div": kernels.Div[T],
		"Max": kernels.Max[T], "Min": kernels.Min[T], "Sum": kernels.Add[T], "Mean": kernels.Add[T],
	}
	if f := rows[c.node.Op]; f != nil {
		return foldRows(c, k, rowsAsGo(f))
	}
	w, err := kernels.NewBroadcast(c.shape(0), c.shape(1))
	if err != nil {
		return nil, err
	}
	if f := question[T](c.node); f != nil {
		k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
			a, b, y := elementsOf[T](in[0]), elementsOf[T](in[1]), out[0].Bools()
			return func() error { kernels.Pairs(w, y, a, b, f); return nil }
		}
		return k, nil
	}
	f := scalarPair[T](c.node)
	if f == nil {
		return nil, notYet("no such function")
	}
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		a, b, y := elementsOf[T](in[0]), elementsOf[T](in[1]), elementsOf[T](out[0])
		return func() error { kernels.Pairs(w, y, a, b, f); return nil }
	}
	return k, nil
}

// foldRows applies an operation to the first two inputs, then to the result and the
// third, and so on; Mean divides at the end.
func foldRows[T real](c *call, k *kernel, over func(w *kernels.Broadcast) func(out, a, b []T)) (*kernel, error) {
	var steps []func(out, a, b []T)
	out := c.out[0].Shape
	widen, err := kernels.NewWalk(out, c.shape(0))
	if err != nil {
		return nil, err
	}
	for i := 1; i < len(c.in); i++ {
		w, err := kernels.NewBroadcast(out, c.shape(i))
		if err != nil {
			return nil, err
		}
		steps = append(steps, over(w))
	}
	direct := false // the first two make the whole output
	if len(c.in) > 1 {
		w, err := kernels.NewBroadcast(c.shape(0), c.shape(1))
		if err != nil {
			return nil, err
		}
		if direct = out.Equal(w.Shape); direct {
			steps[0] = over(w)
		}
	}
	mean := c.node.Op == "Mean" && len(c.in) > 1
	n := T(len(c.in))
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		y, x := elementsOf[T](out[0]), make([][]T, len(in))
		for i, t := range in {
			x[i] = elementsOf[T](t)
		}
		return func() error {
			first := x[0]
			if !direct {
				kernels.Expand(widen, y, first)
				first = y
			}
			for i, step := range steps {
				step(y, first, x[i+1])
				first = y
			}
			if mean {
				for i := range y {
					y[i] /= n
				}
			}
			return nil
		}
	}
	return k, nil
}

// question returns the comparison or the logic of a node, nil for others.
func question[T real](n *model.Node) func(a, b T) uint8 {
	is := func(yes bool) uint8 {
		if yes {
			return 1
		}
		return 0
	}
	switch n.Op {
	case "Equal":
		return func(a, b T) uint8 { return is(a == b) }
	case "Greater":
		return func(a, b T) uint8 { return is(a > b) }
	case "GreaterOrEqual":
		return func(a, b T) uint8 { return is(a >= b) }
	case "Less":
		return func(a, b T) uint8 { return is(a < b) }
	case "LessOrEqual":
		return func(a, b T) uint8 { return is(a <= b) }
	case "And":
		return func(a, b T) uint8 { return is(a != 0 && b != 0) }
	case "Or":
		return func(a, b T) uint8 { return is(a != 0 || b != 0) }
	case "Xor":
		return func(a, b T) uint8 { return is((a != 0) != (b != 0)) }
	}
	return nil
}

// scalarPair returns the function of a node whose operands and result have
// one type.
func scalarPair[T real](n *model.Node) func(a, b T) T {
	float := T(1)/2 != 0
	switch op := n.Op; op {
	case "PRelu":
		return func(a, b T) T {
			if a < 0 {
				return T(a * b)
			}
			return a
		}
	case "Mod":
		fmod := n.Int("fmod", 0) != 0
		if float && fmod {
			return func(a, b T) T { return T(kernels.ModFloat(float64(a), float64(b))) }
		}
		if float {
			return func(a, b T) T { return T(kernels.ModFloor(float64(a), float64(b))) }
		}
		return func(a, b T) T { return kernels.Mod(a, b, fmod) }
	case "BitShift":
		if n.Str("direction", "") == "LEFT" {
			return func(a, b T) T { return T(uint64(a) << uint64(b)) }
		}
		return func(a, b T) T { return T(uint64(a) >> uint64(b)) }
	case "BitwiseAnd":
		return func(a, b T) T { return T(uint64(a) & uint64(b)) }
	case "BitwiseOr":
		return func(a, b T) T { return T(uint64(a) | uint64(b)) }
	case "BitwiseXor":
		return func(a, b T) T { return T(uint64(a) ^ uint64(b)) }
	}
	return nil
}

// lowerPow computes float bases in float64, integer ones by multiplication
// where the exponent is an integer too. An exponent of another type is
// converted first: it lives in the scratch.
func lowerPow(c *call) (*kernel, error) {
	w, err := kernels.NewBroadcast(c.shape(0), c.shape(1))
	if err != nil {
		return nil, err
	}
	na, _ := c.shape(0).Elements()
	nb, _ := c.shape(1).Elements()
	k := named("Pow-" + c.in[0].Type.String())
	ints := slices.Contains(integerTypes, c.in[0].Type) && slices.Contains(integerTypes, c.in[1].Type)
	inner := model.F64
	if ints {
		inner = model.I64
	}
	if e := c.constant(1); e != nil && nb == 1 && c.in[0].Type == model.F32 && Numbers(e)[0] == 2 && c.out[0].Shape.Equal(c.shape(0)) {
		k.name = "square-float32"
		same, err := kernels.NewBroadcast(c.shape(0), c.shape(0))
		if err != nil {
			return nil, err
		}
		square := rowsF32(c, k, kernels.OpMul)(same)
		k.bind = floats(func(out, in []float32, _ []byte) { square(out, in, in) })
		return k, nil
	}
	if c.in[0].Type == model.F32 && c.in[1].Type == model.F32 {
		k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
			a, b, y := in[0].F32(), in[1].F32(), out[0].F32()
			f := func(x, e float32) float32 { return float32(kernels.PowFloat(float64(x), float64(e))) }
			return func() error { kernels.Pairs(w, y, a, b, f); return nil }
		}
		return k, nil
	}
	ny := c.elements()
	k.scratch = align(8*na) + align(8*nb) + 8*ny
	k.bind = func(in, out []*model.Tensor, scratch []byte) func() error {
		a := &model.Tensor{Type: inner, Shape: in[0].Shape, Data: scratch[:8*na]}
		b := &model.Tensor{Type: inner, Shape: in[1].Shape, Data: scratch[align(8*na):][:8*nb]}
		y := &model.Tensor{Type: inner, Shape: out[0].Shape, Data: scratch[align(8*na)+align(8*nb):][:8*ny]}
		return func() error {
			castTensor(a, in[0])
			castTensor(b, in[1])
			if ints {
				kernels.Pairs(w, elementsOf[int64](y), elementsOf[int64](a), elementsOf[int64](b), kernels.PowInt)
			} else {
				kernels.Pairs(w, elementsOf[float64](y), elementsOf[float64](a), elementsOf[float64](b), kernels.PowFloat)
			}
			castTensor(out[0], y)
			return nil
		}
	}
	return k, nil
}

func inferWhere(c *call) error {
	if err := c.want(0, model.Bool); err != nil {
		return err
	}
	if err := c.want(2, c.in[1].Type); err != nil {
		return err
	}
	w, err := kernels.NewBroadcast(c.shape(1), c.shape(2))
	if err == nil {
		w, err = kernels.NewBroadcast(c.shape(0), w.Shape)
	}
	if err != nil {
		return err
	}
	return c.set(c.in[1].Type, w.Shape...)
}

func lowerWhere(c *call) (*kernel, error) {
	w, err := kernels.NewWalk(c.out[0].Shape, c.shape(0), c.shape(1), c.shape(2))
	if err != nil {
		return nil, err
	}
	k := named("where")
	k.bind = bySize(c.in[1].Type, where[uint8](w), where[uint16](w), where[uint32](w), where[uint64](w))
	return k, nil
}

// binder is the function of a kernel that binds it to memory.
type binder = func(in, out []*model.Tensor, scratch []byte) func() error

// byNumber returns the binder for elements of a type that computes: all are
// in the order of numbers.
func byNumber(t model.DType, all ...binder) binder { return all[slices.Index(numbers, t)] }

// byWhole is byNumber for integers alone.
func byWhole(t model.DType, all ...binder) binder { return all[slices.Index(integerTypes, t)] }

// bySize returns the binder for elements of that type's size.
func bySize(t model.DType, one, two, four, eight binder) binder {
	switch t.Size() {
	case 1:
		return one
	case 2:
		return two
	case 4:
		return four
	}
	return eight
}

func where[T whole](w *kernels.Walk) binder {
	return func(in, out []*model.Tensor, _ []byte) func() error {
		cond, a, b, y := in[0].Bools(), elementsOf[T](in[1]), elementsOf[T](in[2]), elementsOf[T](out[0])
		return func() error { kernels.Where(w, y, cond, a, b); return nil }
	}
}
