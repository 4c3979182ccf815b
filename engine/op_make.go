package engine

import (
	"fmt"
	"math"

	"dunlin/kernels"
	"dunlin/model"
)

// The operators of this file make tensors out of little more than a shape.

func inferSize(c *call) error { return c.set(model.I64) }

func lowerSize(c *call) (*kernel, error) {
	n, err := c.shape(0).Elements()
	if err != nil {
		return nil, err
	}
	k := named("size")
	k.bind = func(_, out []*model.Tensor, _ []byte) func() error {
		y := out[0].I64()
		return func() error { y[0] = int64(n); return nil }
	}
	return k, nil
}

// fillValue is the value of a ConstantOfShape: float32 0 by default.
func fillValue(n *model.Node) (*model.Tensor, error) {
	t, ok := n.Attrs["value"].(*model.Tensor)
	if !ok {
		return model.NewTensor(model.F32, 1)
	}
	if err := t.Check(); err != nil {
		return nil, err
	}
	if t.Elements() != 1 {
		return nil, fmt.Errorf("the value %v is no single one", t.Shape)
	}
	return t, nil
}

func inferConstantOfShape(c *call) error {
	v, err := fillValue(c.node)
	if err != nil {
		return err
	}
	s, err := c.lengths(0)
	if err != nil {
		return err
	}
	return c.set(v.Type, s...)
}

func lowerConstantOfShape(c *call) (*kernel, error) {
	v, err := fillValue(c.node)
	if err != nil {
		return nil, err
	}
	k := named("fill")
	k.bind = func(_, out []*model.Tensor, _ []byte) func() error {
		y := out[0].Data
		return func() error {
			for at := copy(y, v.Data); at < len(y); at *= 2 {
				copy(y[at:], y[:at])
			}
			return nil
		}
	}
	return k, nil
}

// rangeOf reads start, limit and delta: numbers, and how many steps there are.
func rangeOf(c *call) (start, delta float64, first, step int64, count int, err error) {
	var f [3]float64
	var whole [3]int64
	for i := range f {
		t, err := c.known(i)
		if err != nil {
			return 0, 0, 0, 0, 0, err
		}
		if t.Elements() != 1 || t.Type != c.in[0].Type {
			return 0, 0, 0, 0, 0, fmt.Errorf("input %d is %v %v, not a single %v", i, t.Type, t.Shape, c.in[0].Type)
		}
		f[i] = Numbers(t)[0]
		if t.Type != model.F32 && t.Type != model.F64 {
			list, err := integers(t)
			if err != nil {
				return 0, 0, 0, 0, 0, err
			}
			whole[i] = list[0]
		}
	}
	n := math.Ceil((f[1] - f[0]) / f[2])
	if !(n < min(model.MaxElements, math.MaxInt)) || f[2] == 0 {
		return 0, 0, 0, 0, 0, fmt.Errorf("from %v to %v by %v", f[0], f[1], f[2])
	}
	return f[0], f[2], whole[0], whole[2], int(max(n, 0)), nil
}

func inferRange(c *call) error {
	if err := c.want(0, model.F32, model.F64, model.I16, model.I32, model.I64); err != nil {
		return err
	}
	_, _, _, _, n, err := rangeOf(c)
	if err != nil {
		return err
	}
	return c.set(c.in[0].Type, n)
}

func lowerRange(c *call) (*kernel, error) {
	start, delta, first, step, _, err := rangeOf(c)
	if err != nil {
		return nil, err
	}
	k := named("range")
	k.bind = func(_, out []*model.Tensor, _ []byte) func() error {
		y := out[0]
		return func() error {
			switch y.Type {
			case model.F32:
				ramp(y.F32(), start, delta)
			case model.F64:
				ramp(y.F64(), start, delta)
			case model.I16:
				countUp(y.I16(), first, step)
			case model.I32:
				countUp(y.I32(), first, step)
			default:
				countUp(y.I64(), first, step)
			}
			return nil
		}
	}
	return k, nil
}

func ramp[T float32 | float64](y []T, start, delta float64) {
	for i := range y {
		y[i] = T(start + float64(float64(i)*delta))
	}
}

func countUp[T int16 | int32 | int64](y []T, first, step int64) {
	for i := range y {
		y[i] = T(first + int64(i)*step)
	}
}

// typeAttr returns the type that an attribute names, or where there is none.
func typeAttr(n *model.Node, name string, or model.DType) (model.DType, error) {
	if n.Attrs[name] == nil {
		return or, nil
	}
	t, ok := onnxTypes[n.Int(name, 0)]
	if !ok {
		return 0, notYet(fmt.Sprintf("%s %d", name, n.Int(name, 0)))
	}
	return t, nil
}

func inferEyeLike(c *call) error {
	t, err := typeAttr(c.node, "dtype", c.in[0].Type)
	if err != nil {
		return err
	}
	if len(c.shape(0)) != 2 {
		return fmt.Errorf("identity of %v", c.shape(0))
	}
	return c.set(t, c.shape(0)...)
}

func lowerEyeLike(c *call) (*kernel, error) {
	s, off := c.shape(0), c.node.Int("k", 0)
	one := &model.Tensor{Type: c.out[0].Type, Shape: model.Shape{1}, Data: model.Aligned(c.out[0].Type.Size())}
	castTensor(one, model.Of(model.F32, []float32{1}, 1))
	k := named("eye")
	k.bind = func(_, out []*model.Tensor, _ []byte) func() error {
		y, size := out[0].Data, len(one.Data)
		return func() error {
			clear(y)
			for r := range s[0] {
				if col := int64(r) + off; off > -model.MaxElements && off < model.MaxElements && col >= 0 && col < int64(s[1]) {
					copy(y[(r*s[1]+int(col))*size:], one.Data)
				}
			}
			return nil
		}
	}
	return k, nil
}

// inferOneHot wants indices, a depth and two values: off, on.
func inferOneHot(c *call) error {
	if err := c.want(0, append([]model.DType{model.F32, model.F64}, integerTypes...)...); err != nil {
		return err
	}
	if n, err := c.shape(2).Elements(); err != nil || n != 2 {
		return fmt.Errorf("values %v are not two", c.shape(2))
	}
	t, err := c.known(1)
	if err != nil {
		return err
	}
	if t.Elements() != 1 {
		return fmt.Errorf("depth %v is no single number", t.Shape)
	}
	depth := Numbers(t)[0]
	if !(depth >= 0 && depth < min(model.MaxElements, math.MaxInt)) {
		return fmt.Errorf("depth %v", depth)
	}
	s := c.shape(0)
	axis, err := c.axis("axis", -1, len(s)+1)
	if err != nil {
		return err
	}
	shape := append(append(append(model.Shape{}, s[:axis]...), int(depth)), s[axis:]...)
	return c.set(c.in[2].Type, shape...)
}

func lowerOneHot(c *call) (*kernel, error) {
	s := c.shape(0)
	axis, err := c.axis("axis", -1, len(s)+1)
	if err != nil {
		return nil, err
	}
	outer, _ := s[:axis].Elements()
	inner, _ := s[axis:].Elements()
	depth := c.out[0].Shape[axis]
	k := named("one-hot")
	n := outer * inner
	k.scratch = 8 * n
	size := c.in[2].Type.Size()
	k.bind = func(in, out []*model.Tensor, scratch []byte) func() error {
		index := &model.Tensor{Type: model.I64, Shape: model.Shape{n}, Data: scratch[:8*n]}
		values, y := in[2].Data, out[0].Data
		return func() error {
			castTensor(index, in[0])
			kernels.OneHot(y, elementsOf[int64](index), values[:size], values[size:], outer, depth, inner)
			return nil
		}
	}
	return k, nil
}

func inferCumSum(c *call) error {
	if err := c.want(1, model.I32, model.I64); err != nil {
		return err
	}
	t, err := c.ints(1)
	if err != nil {
		return err
	}
	if len(t) != 1 {
		return fmt.Errorf("axis %v", t)
	}
	if _, err := axisOf(t[0], len(c.shape(0))); err != nil {
		return err
	}
	return inferNumbers(c)
}

func lowerCumSum(c *call) (*kernel, error) {
	t, err := c.ints(1)
	if err != nil {
		return nil, err
	}
	axis, err := axisOf(t[0], len(c.shape(0)))
	if err != nil {
		return nil, err
	}
	x, err := columnsOf(c.in[0].Type, c.shape(0), []int{axis})
	if err != nil {
		return nil, err
	}
	exclusive, reverse := c.node.Int("exclusive", 0) != 0, c.node.Int("reverse", 0) != 0
	k := named("cumsum")
	switch c.in[0].Type {
	case model.F32:
		k.bind = cumSum[float32](x, exclusive, reverse)
	case model.F64:
		k.bind = cumSum[float64](x, exclusive, reverse)
	default: // sums of two's complement agree in their lower bits
		k.bind = bySize(c.in[0].Type, cumSum[uint8](x, exclusive, reverse), cumSum[uint16](x, exclusive, reverse),
			cumSum[uint32](x, exclusive, reverse), cumSum[uint64](x, exclusive, reverse))
	}
	return k, nil
}

func cumSum[T real](x columns, exclusive, reverse bool) binder {
	return func(in, out []*model.Tensor, _ []byte) func() error {
		a, y := elementsOf[T](in[0]), elementsOf[T](out[0])
		return func() error { kernels.CumSum(y, a, x.outer, x.n, x.inner, exclusive, reverse); return nil }
	}
}

// inferDropout makes the input again, and a mask of what it keeps: all. A
// Dropout that drops at random is refused.
func inferDropout(c *call) error {
	if c.has(2) {
		training, err := c.known(2)
		if err != nil {
			return err
		}
		ratio := 0.5
		if c.has(1) {
			t, err := c.known(1)
			if err != nil {
				return err
			}
			if t.Elements() != 1 {
				return fmt.Errorf("ratio %v is no single number", t.Shape)
			}
			ratio = Numbers(t)[0]
		}
		if training.Elements() != 1 || (Numbers(training)[0] != 0 && ratio != 0) {
			return notYet("training mode drops at random")
		}
	}
	if len(c.out) > 1 {
		c.out[1].Type, c.out[1].Shape = model.Bool, c.shape(0)
	}
	return inferSame(c)
}

func lowerDropout(c *call) (*kernel, error) {
	if len(c.out) == 1 {
		return lowerAlias(c)
	}
	k := named("keep-all")
	k.bind = func(in, out []*model.Tensor, _ []byte) func() error {
		return func() error {
			if out[0] != nil {
				copy(out[0].Data, in[0].Data)
			}
			if out[1] != nil {
				for i := range out[1].Data {
					out[1].Data[i] = 1
				}
			}
			return nil
		}
	}
	return k, nil
}
