package engine

import (
	"fmt"
	"slices"

	"dunlin/kernels"
	"dunlin/model"
)

// indices binds an index tensor: the function widens it to int64 in each run.
func indices(t *model.Tensor, scratch []byte) (list []int64, widen func()) {
	if t.Type == model.I64 {
		return t.I64(), func() {}
	}
	wide := &model.Tensor{Type: model.I64, Shape: t.Shape, Data: scratch[:8*t.Elements()]}
	return wide.I64(), func() { castTensor(wide, t) }
}

// indexScratch is what indices needs for input 1.
func indexScratch(c *call) int {
	if c.in[1].Type == model.I64 {
		return 0
	}
	n, _ := c.shape(1).Elements()
	return 8 * n
}

// fitsBut fails unless index has the rank of data, and no axis but one longer
// than its.
func fitsBut(data, index model.Shape, axis int) error {
	if len(data) != len(index) {
		return fmt.Errorf("indices %v into %v", index, data)
	}
	for a, d := range index {
		if a != axis && d > data[a] {
			return fmt.Errorf("indices %v into %v along axis %d", index, data, axis)
		}
	}
	return nil
}

func inferGatherElements(c *call) error {
	if err := c.want(1, model.I64, model.I32); err != nil {
		return err
	}
	axis, err := c.axis("axis", 0, len(c.shape(0)))
	if err != nil {
		return err
	}
	if err := fitsBut(c.shape(0), c.shape(1), axis); err != nil {
		return err
	}
	return c.set(c.in[0].Type, c.shape(1)...)
}

func lowerGatherElements(c *call) (*kernel, error) {
	axis, err := c.axis("axis", 0, len(c.shape(0)))
	if err != nil {
		return nil, err
	}
	p := kernels.NewPlaces(c.shape(0), c.shape(1), axis)
	k := named("gather-elements")
	k.scratch = indexScratch(c)
	k.bind = bySize(c.in[0].Type, gatherElements[uint8](p), gatherElements[uint16](p), gatherElements[uint32](p), gatherElements[uint64](p))
	return k, nil
}

func gatherElements[T whole](p *kernels.Places) binder {
	return func(in, out []*model.Tensor, scratch []byte) func() error {
		index, widen := indices(in[1], scratch)
		x, y := elementsOf[T](in[0]), elementsOf[T](out[0])
		return func() error {
			widen()
			return outOfRange(index, kernels.GatherElements(p, y, x, index), 1)
		}
	}
}

// outOfRange is the error of tuple number bad, nil for -1.
func outOfRange(index []int64, bad, width int) error {
	if bad < 0 {
		return nil
	}
	return fmt.Errorf("index %v is out of range", index[bad*width:(bad+1)*width])
}

// tuples returns how GatherND and ScatterND see their inputs: the batch axes
// and the width of the tuples in input 1.
func tuples(c *call) (batch, width int, err error) {
	data, index := c.shape(0), c.shape(1)
	b := c.node.Int("batch_dims", 0)
	if len(index) < 1 || len(data) < 1 || b < 0 || b >= int64(min(len(data), len(index))) {
		return 0, 0, fmt.Errorf("indices %v into %v with %d batch axes", index, data, b)
	}
	batch, width = int(b), index[len(index)-1]
	if width < 1 || width > len(data)-batch || !data[:batch].Equal(index[:batch]) {
		return 0, 0, fmt.Errorf("indices %v into %v with %d batch axes", index, data, b)
	}
	return batch, width, c.want(1, model.I64)
}

func inferGatherND(c *call) error {
	batch, width, err := tuples(c)
	if err != nil {
		return err
	}
	index := c.shape(1)
	return c.set(c.in[0].Type, slices.Concat(index[:len(index)-1], c.shape(0)[batch+width:])...)
}

func lowerGatherND(c *call) (*kernel, error) {
	batch, width, err := tuples(c)
	if err != nil {
		return nil, err
	}
	data, index := c.shape(0), c.shape(1)
	batches, _ := data[:batch].Elements()
	count, _ := index[batch : len(index)-1].Elements()
	b := kernels.NewBlocks(data[batch:], width)
	k := named("gather-nd")
	k.bind = bySize(c.in[0].Type, gatherND[uint8](b, batches, count, width), gatherND[uint16](b, batches, count, width),
		gatherND[uint32](b, batches, count, width), gatherND[uint64](b, batches, count, width))
	return k, nil
}

func gatherND[T whole](b *kernels.Blocks, batches, count, width int) binder {
	return func(in, out []*model.Tensor, _ []byte) func() error {
		index, x, y := in[1].I64(), elementsOf[T](in[0]), elementsOf[T](out[0])
		return func() error { return outOfRange(index, kernels.GatherND(b, y, x, index, batches, count), width) }
	}
}

func checkScatter(n *model.Node) string {
	switch r := n.Str("reduction", "none"); r {
	case "none", "add", "mul", "max", "min":
		return ""
	default:
		return fmt.Sprintf("reduction %q", r)
	}
}

func inferScatterElements(c *call) error {
	if err := c.want(1, model.I64, model.I32); err != nil {
		return err
	}
	if err := c.want(2, c.in[0].Type); err != nil {
		return err
	}
	axis, err := c.axis("axis", 0, len(c.shape(0)))
	if err != nil {
		return err
	}
	if err := fitsBut(c.shape(0), c.shape(1), axis); err != nil {
		return err
	}
	if !c.shape(1).Equal(c.shape(2)) {
		return fmt.Errorf("updates %v for indices %v", c.shape(2), c.shape(1))
	}
	return scatterType(c)
}

// scatterType refuses a reduction of what does not compute.
func scatterType(c *call) error {
	if c.node.Str("reduction", "none") != "none" {
		return inferNumbers(c)
	}
	return inferSame(c)
}

func inferScatterND(c *call) error {
	_, width, err := tuples(c)
	if err != nil {
		return err
	}
	if err := c.want(2, c.in[0].Type); err != nil {
		return err
	}
	index := c.shape(1)
	if want := slices.Concat(index[:len(index)-1], c.shape(0)[width:]); !want.Equal(c.shape(2)) {
		return fmt.Errorf("updates %v for indices %v into %v", c.shape(2), index, c.shape(0))
	}
	return scatterType(c)
}

// scatterRun puts the updates at their places in a copy of the data.
type scatterRun[T real] func(out, updates []T, index []int64, reduce func(old, new T) T) int

func lowerScatter(c *call) (*kernel, error) {
	k := named("scatter")
	k.scratch = indexScratch(c)
	var err error
	if c.node.Str("reduction", "none") == "none" { // bits are moved
		switch c.in[0].Type.Size() {
		case 1:
			k.bind, err = scatter[uint8](c)
		case 2:
			k.bind, err = scatter[uint16](c)
		case 4:
			k.bind, err = scatter[uint32](c)
		default:
			k.bind, err = scatter[uint64](c)
		}
		return k, err
	}
	switch c.in[0].Type {
	case model.F32:
		k.bind, err = scatter[float32](c)
	case model.F64:
		k.bind, err = scatter[float64](c)
	case model.I8:
		k.bind, err = scatter[int8](c)
	case model.U8:
		k.bind, err = scatter[uint8](c)
	case model.I16:
		k.bind, err = scatter[int16](c)
	case model.U16:
		k.bind, err = scatter[uint16](c)
	case model.I32:
		k.bind, err = scatter[int32](c)
	case model.U32:
		k.bind, err = scatter[uint32](c)
	case model.I64:
		k.bind, err = scatter[int64](c)
	default:
		k.bind, err = scatter[uint64](c)
	}
	return k, err
}

func scatter[T real](c *call) (binder, error) {
	width := 1
	var run scatterRun[T]
	if c.node.Op == "ScatterND" {
		var err error
		if _, width, err = tuples(c); err != nil {
			return nil, err
		}
		index := c.shape(1)
		count, _ := index[:len(index)-1].Elements()
		b := kernels.NewBlocks(c.shape(0), width)
		run = func(out, updates []T, index []int64, reduce func(old, new T) T) int {
			return kernels.ScatterND(b, out, updates, index, count, reduce)
		}
	} else {
		axis, err := c.axis("axis", 0, len(c.shape(0)))
		if err != nil {
			return nil, err
		}
		p := kernels.NewPlaces(c.shape(0), c.shape(1), axis)
		run = func(out, updates []T, index []int64, reduce func(old, new T) T) int {
			return kernels.ScatterElements(p, out, updates, index, reduce)
		}
	}
	reduce := map[string]func(old, new T) T{
		"add": func(old, new T) T { return old + new }, "mul": func(old, new T) T { return old * new },
		"max": func(old, new T) T { return max(old, new) }, "min": func(old, new T) T { return min(old, new) },
	}[c.node.Str("reduction", "none")]
	return func(in, out []*model.Tensor, scratch []byte) func() error {
		index, widen := indices(in[1], scratch)
		y, updates := elementsOf[T](out[0]), elementsOf[T](in[2])
		return func() error {
			copy(out[0].Data, in[0].Data)
			widen()
			return outOfRange(index, run(y, updates, index, reduce), width)
		}
	}, nil
}

// inferArgBest is for ArgMax and ArgMin.
func inferArgBest(c *call) error {
	if err := c.want(0, numbers...); err != nil {
		return err
	}
	s := slices.Clone(c.shape(0))
	axis, err := c.axis("axis", 0, len(s))
	if err != nil {
		return err
	}
	if s[axis] == 0 {
		return fmt.Errorf("axis %d of %v is empty", axis, s)
	}
	s[axis] = 1
	if c.node.Int("keepdims", 1) == 0 {
		s = slices.Delete(s, axis, axis+1)
	}
	return c.set(model.I64, s...)
}

func lowerArgBest(c *call) (*kernel, error) {
	axis, err := c.axis("axis", 0, len(c.shape(0)))
	if err != nil {
		return nil, err
	}
	x, err := columnsOf(c.in[0].Type, c.shape(0), []int{axis})
	if err != nil {
		return nil, err
	}
	smallest, last := c.node.Op == "ArgMin", c.node.Int("select_last_index", 0) != 0
	k := named(c.node.Op)
	k.bind = byNumber(c.in[0].Type,
		argBest[float32](x, smallest, last), argBest[float64](x, smallest, last), argBest[int8](x, smallest, last),
		argBest[uint8](x, smallest, last), argBest[int16](x, smallest, last), argBest[uint16](x, smallest, last),
		argBest[int32](x, smallest, last), argBest[uint32](x, smallest, last), argBest[int64](x, smallest, last),
		argBest[uint64](x, smallest, last))
	return k, nil
}

func argBest[T real](x columns, smallest, last bool) binder {
	return func(in, out []*model.Tensor, _ []byte) func() error {
		a, y := elementsOf[T](in[0]), out[0].I64()
		return func() error { kernels.ArgBest(y, a, x.outer, x.n, x.inner, smallest, last); return nil }
	}
}

// inferTopK makes values and their numbers.
func inferTopK(c *call) error {
	if err := c.want(0, numbers...); err != nil {
		return err
	}
	list, err := c.ints(1)
	if err != nil {
		return err
	}
	s := slices.Clone(c.shape(0))
	axis, err := c.axis("axis", -1, len(s))
	if err != nil {
		return err
	}
	if len(list) != 1 || list[0] < 0 || list[0] > int64(s[axis]) {
		return fmt.Errorf("the best %v of axis %d of %v", list, axis, s)
	}
	s[axis] = int(list[0])
	if len(c.out) > 1 {
		c.out[1].Type, c.out[1].Shape = model.I64, s
	}
	return c.set(c.in[0].Type, s...)
}

func lowerTopK(c *call) (*kernel, error) {
	list, err := c.ints(1)
	if err != nil {
		return nil, err
	}
	axis, err := c.axis("axis", -1, len(c.shape(0)))
	if err != nil {
		return nil, err
	}
	x, err := columnsOf(c.in[0].Type, c.shape(0), []int{axis})
	if err != nil {
		return nil, err
	}
	n, smallest := int(list[0]), c.node.Int("largest", 1) == 0
	k := named("topk")
	k.scratch = 8 * x.n
	k.bind = byNumber(c.in[0].Type,
		topK[float32](x, n, smallest), topK[float64](x, n, smallest), topK[int8](x, n, smallest),
		topK[uint8](x, n, smallest), topK[int16](x, n, smallest), topK[uint16](x, n, smallest), topK[int32](x, n, smallest),
		topK[uint32](x, n, smallest), topK[int64](x, n, smallest), topK[uint64](x, n, smallest))
	return k, nil
}

func topK[T real](x columns, n int, smallest bool) binder {
	return func(in, out []*model.Tensor, scratch []byte) func() error {
		a, order := elementsOf[T](in[0]), elementsOf[int64](&model.Tensor{Type: model.I64, Data: scratch[:8*x.n]})
		var values []T
		var index []int64
		if out[0] != nil {
			values = elementsOf[T](out[0])
		}
		if len(out) > 1 && out[1] != nil {
			index = out[1].I64()
		}
		return func() error {
			kernels.TopK(values, index, a, order, x.outer, x.n, x.inner, n, smallest)
			return nil
		}
	}
}
